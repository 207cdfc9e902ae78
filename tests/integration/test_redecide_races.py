"""Deciding again while others do, and on what cannot be read: the end is the policy's, and nothing is guessed."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from chatproxy.clock import Clock, wall_clock
from chatproxy.consent.events import Choice, FactKind
from chatproxy.crypto.annotation import Annotation, authenticate
from chatproxy.model import SubjectTag
from chatproxy.policy.versions import PolicyVersion
from chatproxy.ports import Due, RedecidedTurn, RedecideStatus, SubjectState
from chatproxy.store import keys
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.tasks import Background
from chatproxy.telemetry import Metrics, Redecided
from chatproxy.vault import Vault, open_vault
from chatproxy.workflows.annotation_log import AnnotationLog
from chatproxy.workflows.redecide import Redecider
from chatproxy.workflows.verdict import Kept
from integration.keeping import Keeper
from integration.kept_state import sound
from integration.proxy_fixtures import ANA, DAY, PATIENCE, World, a_proxy, a_world, all_keys, chatting

BEA = {"x-chat-subject": "bea", "x-chat-plan": "pro"}


class Hooked:
    """The real store, but something happens before some of its calls."""

    def __init__(self, store: Any, **before: Callable[[Any], Awaitable[None]]) -> None:
        self._store = store
        self._before = before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def redecide(self, turns: Sequence[RedecidedTurn]) -> list[RedecideStatus | None]:
        if turns and "redecide" in self._before:
            await self._before["redecide"](turns)
        found: list[RedecideStatus | None] = await self._store.redecide(turns)
        return found

    async def subject_state(self, subject: SubjectTag) -> SubjectState:
        if "subject_state" in self._before:
            await self._before["subject_state"](subject)
        state: SubjectState = await self._store.subject_state(subject)
        return state


def a_redecider(
    vault: Vault,
    store: Any = None,
    *,
    metrics: Metrics | None = None,
    clock: Clock = wall_clock,
    versions: Sequence[PolicyVersion] = (),
) -> Redecider:
    return Redecider(
        store or vault.store, vault.record_keys, vault.annotation_keys, vault.policies,
        clock=clock, mark_roll=vault.roller.mark, note_changes=AnnotationLog(vault.audit).note,
        metrics=metrics or Metrics(), versions=versions,
    )  # fmt: skip


@asynccontextmanager
async def at_work(redecider: Redecider) -> AsyncIterator[None]:
    background = Background(logging.getLogger("test"))
    background.spawn(redecider.run(chats_run=lambda: False), name="redecide")
    try:
        yield
    finally:
        await background.aclose()


async def nobody_due(vault: Vault) -> None:
    async with asyncio.timeout(PATIENCE):
        while await vault.store.people_due(wall_clock() + 60_000):
            await asyncio.sleep(0.01)


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


@pytest.fixture
async def vault(tmp_path: Path, store: str) -> AsyncIterator[Vault]:
    """What two people have said, with nobody at work on it."""
    async with a_world(chatting(), tmp_path, store) as world:
        for who in (ANA, BEA):
            await world.choose(Choice.GIVEN, subject=who["x-chat-subject"])
            for number in range(7):
                await world.chat("hello", who=who | {"x-chat-conversation": f"c{number % 3}"})
        await world.decided_again()
        assert len(await world.kept()) == 14
    async with open_vault(a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=store)) as vault:
        yield vault


def tag(vault: Vault, who: str = "ana") -> SubjectTag:
    return vault.pseudonyms.subject_tag(tenant="default", subject=who)


async def choose(vault: Vault, choice: Choice, who: str = "ana") -> None:
    await vault.ledger.record(tag(vault, who), choice, at=wall_clock(), by="test", method="test")


def reasons(turns: Sequence[Kept]) -> set[str]:
    return {group.reason for kept in turns for group in kept.note.groups}


async def noted(vault: Vault, who: str = "ana") -> list[Kept]:
    """What the annotations say, while others are at work on them."""
    return [Kept.of(turn, vault.annotation_keys) async for turn in vault.store.annotations(tag(vault, who))]


async def test_a_late_decision_does_not_undo_one_that_has_seen_more(
    vault: Vault, connections: Connections
) -> None:
    await choose(vault, Choice.WITHDRAWN)
    is_first = True

    async def overtaken(_: Any) -> None:
        nonlocal is_first
        if is_first:
            is_first = False
            await vault.ledger.note(
                tag(vault), FactKind.ACCOUNT_DELETED, at=wall_clock(), by="test", method="test"
            )
            assert (await a_redecider(vault).person(tag(vault))).turns[Redecided.CHANGED] == 7

    late = await a_redecider(vault, Hooked(vault.store, redecide=overtaken)).person(tag(vault))
    assert (late.is_settled, late.turns[Redecided.CHANGED]) == (True, 0)
    turns = await sound(vault, connections, tag(vault))
    assert reasons(turns) == {"ACCOUNT_DELETED"}
    assert {kept.annotation.seq for kept in turns} == {2}


async def test_a_turn_that_somebody_else_has_decided_alike_is_left(
    vault: Vault, connections: Connections
) -> None:
    await choose(vault, Choice.WITHDRAWN)

    async def overtaken(_: Any) -> None:
        await a_redecider(vault).person(tag(vault))

    late = await a_redecider(vault, Hooked(vault.store, redecide=overtaken)).person(tag(vault))
    assert late.turns == {
        Redecided.CHANGED: 0, Redecided.UNCHANGED: 7, Redecided.ERASED: 0, Redecided.FAULTY: 0
    }  # fmt: skip
    assert {kept.annotation.seq for kept in await sound(vault, connections, tag(vault))} == {2}


async def test_what_was_done_before_an_event_came_is_done_again(
    vault: Vault, connections: Connections
) -> None:
    writes = 0

    async def event(_: Any) -> None:
        nonlocal writes
        writes += 1
        if writes == 2:
            await choose(vault, Choice.REFUSED)

    # More than one write takes, so that there is one before the event and one after it.
    await Keeper(vault, tag(vault)).fill(120, conversations=2)
    await choose(vault, Choice.WITHDRAWN)
    tally = await a_redecider(vault, Hooked(vault.store, redecide=event)).person(tag(vault))
    assert (tally.is_settled, writes > 2) == (True, True)
    assert reasons(await sound(vault, connections, tag(vault))) == {"CONSENT_REFUSED"}


async def test_who_keeps_changing_their_mind_is_looked_at_again_later(vault: Vault) -> None:
    await choose(vault, Choice.WITHDRAWN)
    number = 0

    async def again(_: Any) -> None:
        nonlocal number
        number += 1
        await choose(vault, Choice.GIVEN if number % 2 else Choice.WITHDRAWN)

    tally = await a_redecider(vault, Hooked(vault.store, redecide=again)).person(tag(vault))
    assert not tally.is_settled


async def test_two_nodes_on_one_person_come_to_one_end(vault: Vault, connections: Connections) -> None:
    async with at_work(a_redecider(vault)), at_work(a_redecider(vault)):
        for choice in (Choice.WITHDRAWN, Choice.GIVEN, Choice.REFUSED, Choice.GIVEN, Choice.WITHDRAWN):
            await asyncio.gather(choose(vault, choice), choose(vault, choice, "bea"))
        await nobody_due(vault)
    for who in ("ana", "bea"):
        turns = await sound(vault, connections, tag(vault, who))
        assert (len(turns), reasons(turns)) == (7, {"CONSENT_WITHDRAWN"})


async def test_what_a_node_leaves_behind_another_takes_up(vault: Vault, connections: Connections) -> None:
    await choose(vault, Choice.WITHDRAWN)
    now = wall_clock()
    claimed: list[Due] = []
    while not claimed:  # which list is looked at first is chance
        claimed = await vault.store.claim_due(now=now + 1, until=now + 20_000, most=16)
    assert await vault.store.people_due(now + 1) == 0
    async with at_work(a_redecider(vault, clock=lambda: wall_clock() + 20_001)):
        await nobody_due(vault)
    assert reasons(await sound(vault, connections, tag(vault))) == {"CONSENT_WITHDRAWN"}


async def test_who_is_marked_before_an_event_that_never_came_is_settled(vault: Vault) -> None:
    await vault.store.mark_due(tag(vault), wall_clock())
    metrics = Metrics()
    async with at_work(a_redecider(vault, metrics=metrics)):
        await nobody_due(vault)
    sample = "chatproxy_redecided_turns_total"
    assert metrics.registry.get_sample_value(sample, {"outcome": "unchanged"}) == 7


async def test_one_person_who_takes_long_or_fails_keeps_nobody_waiting(
    vault: Vault, connections: Connections
) -> None:
    long, waits = tag(vault), asyncio.Event()

    async def before(subject: SubjectTag) -> None:
        if subject == long:
            await waits.wait()

    def boom(_: Any) -> Awaitable[None]:
        raise RuntimeError("canary")

    await choose(vault, Choice.WITHDRAWN)
    async with at_work(a_redecider(vault, Hooked(vault.store, subject_state=before))):
        await asyncio.sleep(0)
        await choose(vault, Choice.WITHDRAWN, "bea")
        async with asyncio.timeout(PATIENCE):
            while reasons(await noted(vault, "bea")) != {"CONSENT_WITHDRAWN"}:
                await asyncio.sleep(0.01)
        waits.set()
        await nobody_due(vault)
    await choose(vault, Choice.GIVEN)
    async with at_work(a_redecider(vault, Hooked(vault.store, subject_state=boom))):
        async with asyncio.timeout(PATIENCE):
            while await vault.store.people_due(wall_clock() + 30_000):
                await asyncio.sleep(0.01)
    assert await vault.store.people_due(wall_clock() + 61_000) == 1


async def test_a_ledger_that_is_not_authentic_erases_and_grants_nothing(
    vault: Vault, connections: Connections
) -> None:
    before = await all_keys(connections)
    forged = bytearray((await vault.store.subject_state(tag(vault))).ledger[0])
    forged[-1] ^= 1
    await connections.ask([["RPUSH", keys.ledger(tag(vault)), bytes(forged)]])
    tally = await a_redecider(vault).person(tag(vault))
    assert not tally.is_settled
    assert await all_keys(connections) == before


async def annotation_of(vault: Vault) -> tuple[bytes, Kept]:
    [kept, *_] = await noted(vault)
    return keys.annotation(tag(vault), kept.stored.turn), kept


async def forge(vault: Vault, name: bytes, kept: Kept) -> dict[bytes, bytes]:
    body = kept.stored.annotation[b"body"].replace(b'"pro"', b'"max"')
    return {b"body": body}


async def newer(vault: Vault, name: bytes, kept: Kept) -> dict[bytes, bytes]:
    body = json.dumps(json.loads(kept.annotation.body) | {"v": 2}, sort_keys=True).encode()
    return authenticate(
        Annotation(
            seq=2, expires_at=kept.annotation.expires_at, metadata=kept.annotation.metadata, body=body,
            previous_mac=kept.stored.annotation[b"mac"],
        ),
        keys=vault.annotation_keys, subject=kept.stored.subject, turn=kept.stored.turn,
    )  # fmt: skip


async def unknown_policy(vault: Vault, name: bytes, kept: Kept) -> dict[bytes, bytes]:
    return authenticate(
        Annotation(
            seq=2, expires_at=kept.annotation.expires_at, metadata=kept.annotation.metadata,
            body=replace(kept.note, policy="0" * 24).body(), previous_mac=kept.stored.annotation[b"mac"],
        ),
        keys=vault.annotation_keys, subject=kept.stored.subject, turn=kept.stored.turn,
    )  # fmt: skip


@pytest.mark.parametrize("alter", [forge, newer, unknown_policy])
async def test_a_turn_that_cannot_be_understood_is_left_told_and_looked_at_again(
    vault: Vault,
    connections: Connections,
    caplog: pytest.LogCaptureFixture,
    alter: Callable[[Vault, bytes, Kept], Awaitable[dict[bytes, bytes]]],
) -> None:
    name, kept = await annotation_of(vault)
    altered = await alter(vault, name, kept)
    await connections.ask([["HSET", name, *(item for pair in altered.items() for item in pair)]])
    await choose(vault, Choice.WITHDRAWN)
    tally = await a_redecider(vault).person(tag(vault))
    assert (tally.turns[Redecided.CHANGED], tally.turns[Redecided.FAULTY], tally.is_settled) == (6, 1, True)
    assert tally.next_at is not None
    assert 0 < tally.next_at - wall_clock() <= 3_600_000
    left = await vault.store.turn(tag(vault), kept.stored.turn)
    assert left is not None
    assert left.annotation == {**kept.stored.annotation, **altered}
    assert left.ttl_expires_at == kept.note.expires_at
    assert [record.message for record in caplog.records] == ["turns are not as they were kept"]


@pytest.mark.parametrize("damage", ["flipped", "missing"])
async def test_a_record_that_cannot_be_opened_is_not_kept_longer_than_was_decided(
    vault: Vault, connections: Connections, damage: str
) -> None:
    _, kept = await annotation_of(vault)
    name = keys.record(tag(vault), kept.stored.turn, 0)
    if damage == "missing":
        await connections.ask([["DEL", name]])
    else:
        [blob] = await connections.ask([["GET", name]])
        await connections.ask([["SETRANGE", name, len(blob) - 1, bytes([blob[-1] ^ 1])]])
    await choose(vault, Choice.WITHDRAWN)
    tally = await a_redecider(vault).person(tag(vault))
    assert tally.turns[Redecided.CHANGED] == 7
    assert tally.next_at is not None
    after = await vault.store.turn(tag(vault), kept.stored.turn)
    assert after is not None
    found = Kept.of(after, vault.annotation_keys)
    assert found.note.expires_at < wall_clock() + 31 * DAY
    assert not found.note.groups[0].eligible.capability
    ttl = await all_keys(connections)
    assert ttl.get(name) == (None if damage == "missing" else found.note.expires_at)


def a_version(name: str, *, effective_at: int, material: bool = True) -> PolicyVersion:
    return PolicyVersion(
        version=name, published_at=0, effective_at=effective_at, sha256=name * 64, material=material
    )


async def announced(vault: Vault, *versions: PolicyVersion) -> bytes | None:
    """Have a node with these versions at work until what it has to do is done; return what it announced."""
    before = await vault.store.read_control("versions-announced")
    metrics = Metrics()
    async with at_work(a_redecider(vault, metrics=metrics, versions=versions)):
        await vault.store.mark_due(tag(vault), wall_clock())
        async with asyncio.timeout(PATIENCE):
            while not any(metrics.redecided.labels(outcome)._value.get() for outcome in Redecided):
                await asyncio.sleep(0.01)
        await nobody_due(vault)
    after = await vault.store.read_control("versions-announced")
    return after if after != before else None


async def told(vault: Vault, connections: Connections, *versions: PolicyVersion) -> list[set[str]]:
    people = [await sound(vault, connections, tag(vault, who), versions=versions) for who in ("ana", "bea")]
    return [reasons(turns) for turns in people]


async def test_a_material_version_that_takes_effect_is_told_in_every_turn(
    vault: Vault, connections: Connections
) -> None:
    version = a_version("2", effective_at=wall_clock() + 1_000)
    async with at_work(a_redecider(vault, versions=[version])):
        async with asyncio.timeout(PATIENCE):
            while await vault.store.read_control("versions-announced") is None:
                await asyncio.sleep(0.01)
        await nobody_due(vault)
    assert await told(vault, connections, version) == [{"ELIGIBLE_PRIOR_VERSION"}] * 2
    assert await announced(vault, version) is None  # another node finds that it is done


async def test_a_material_version_that_is_added_late_is_told_in_every_turn(
    vault: Vault, connections: Connections
) -> None:
    first, late = a_version("1", effective_at=0), a_version("2", effective_at=wall_clock() - 1)
    assert await announced(vault, first)
    assert await announced(vault, first, late)
    assert await told(vault, connections, first, late) == [{"ELIGIBLE_PRIOR_VERSION"}] * 2
    for kept in await sound(vault, connections, tag(vault, "bea"), versions=(first, late)):
        assert kept.annotation.seq == 2
    moved = a_version("2", effective_at=wall_clock() - 2)
    assert await announced(vault, first, moved)
    assert await announced(vault) == b""


async def test_a_version_that_is_to_come_changes_nothing_yet(vault: Vault) -> None:
    coming = a_version("2", effective_at=wall_clock() + DAY)
    small = a_version("1", effective_at=0, material=False)
    await vault.store.mark_due(tag(vault), wall_clock())
    metrics = Metrics()
    async with at_work(a_redecider(vault, metrics=metrics, versions=[coming, small])):
        await nobody_due(vault)
    assert await vault.store.read_control("versions-announced") is None
    assert metrics.registry.get_sample_value("chatproxy_redecided_turns_total", {"outcome": "unchanged"}) == 7


async def test_an_event_of_a_clock_that_is_ahead_counts_when_its_time_comes(vault: Vault) -> None:
    ahead = 5_000
    await vault.ledger.record(tag(vault), Choice.WITHDRAWN, at=wall_clock() + ahead, by="test", method="test")
    tally = await a_redecider(vault).person(tag(vault))
    assert tally.turns[Redecided.UNCHANGED] == 7
    assert tally.next_at is not None
    assert tally.next_at - wall_clock() <= ahead
    async with at_work(a_redecider(vault, clock=lambda: wall_clock() + ahead)):
        async with asyncio.timeout(PATIENCE):
            while reasons(await noted(vault)) != {"CONSENT_WITHDRAWN"}:
                await asyncio.sleep(0.01)


async def test_a_world_that_ends_in_the_middle_goes_on_in_the_next(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        for number in range(5):
            await world.chat(f"{number}")
        await world.kept()
        await world.choose(Choice.WITHDRAWN)
    world_after: World
    async with a_world(chatting(), tmp_path, store) as world_after:
        await world_after.decided_again()
        turns = await sound(world_after.running.vault, connections, world_after.tag())
    assert reasons(turns) == {"CONSENT_WITHDRAWN"}
