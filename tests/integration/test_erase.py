"""A person is erased: at once unreadable everywhere, then gone, with nothing of anybody else touched."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice, FactKind, Scope
from chatproxy.crypto.record import parse_header
from chatproxy.crypto.tlog import read_checkpoint
from chatproxy.errors import AuditUnavailableError, NotFoundError, StoreUnavailableError
from chatproxy.model import ConversationTag, SubjectTag, TurnId
from chatproxy.policy.instants import format_instant
from chatproxy.ports import Chore, Erased, RedecidedTurn, RedecideStatus
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.vault import Vault
from chatproxy.workflows.erase import Eraser, Erasure
from chatproxy.workflows.erasure_certificate import certificate_of, sign_certificate, verify_certificate
from chatproxy.workflows.transcripts import KeptTurn
from integration.proxy_fixtures import (
    ANA,
    DAY,
    OPENAI,
    PATIENCE,
    STREAM_HEAD,
    World,
    a_world,
    all_keys,
    chat_bytes,
    chatting,
    chunk,
    openai_events,
)
from simulators.backend import Peer

BEA = {"x-chat-subject": "bea", "x-chat-plan": "pro"}


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def erased(world: World, subject: str = "ana") -> Erasure:
    erasure = await world.running.vault.eraser.erase(world.tag(subject), by="test")
    assert erasure is not None
    return erasure


async def pass_a_minute(world: World) -> None:
    """Put Ana's fence to now, where it is once what clocks may be apart has passed."""
    key = b"cp:{%s}:s" % world.tag().hex().encode()
    await world.running.vault.store.connections.ask([["HSET", key, "erased_at", wall_clock() - 1]])


async def hold(world: World, name: str) -> ConversationTag:
    """A hold comes over Ana's conversation of that name."""
    vault = world.running.vault
    tag = vault.pseudonyms.conversation_tag(tenant="default", subject="ana", conversation=name)
    await vault.ledger.note(
        world.tag(),
        FactKind.HOLD_PLACED,
        at=wall_clock(),
        by="test",
        method="test",
        scope=Scope(tag),
        details={"case": "c1", "authority": "court", "review_at": format_instant(wall_clock() + 90 * DAY)},
    )
    await world.decided_again()
    return tag


async def keys_of(connections: Connections, tag: SubjectTag) -> list[str]:
    found = await all_keys(connections)
    prefix = b"cp:{%s}:" % tag.hex().encode()
    return sorted(key.removeprefix(prefix).decode() for key in found if key.startswith(prefix))


async def test_an_erased_person_leaves_nothing_but_the_fence(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat("hello", who=ANA | {"x-chat-conversation": "one"})
        await world.chat("hello", who=ANA | {"x-chat-conversation": "two"})
        await world.chat("hello", who=BEA)
        rows = await world.kept()
        await world.decided_again()
        others = await keys_of(connections, world.tag("bea"))
        erasure = await erased(world)
        assert await keys_of(connections, world.tag()) == ["s"]
        assert await keys_of(connections, world.tag("bea")) == others
        assert (erasure.removed.annotations, erasure.removed.records, erasure.erased.events) == (2, 2, 1)
        assert (erasure.erased.generations, erasure.kek_versions) == ((1,), (1,))
        assert (erasure.proof.tried, erasure.proof.opened, erasure.proof.codes) == (
            2,
            0,
            {"no_subject_key": 2},
        )
        [bea] = await world.kept()
        assert await world.said(bea["conversation"]) == ["user: hello", "assistant: reply 2"]
        for row in rows:
            if row["subject"] == world.tag().hex():
                with pytest.raises(NotFoundError):
                    await world.said(row["conversation"])
        assert await connections.ask([["ZCARD", "cp:{chore:erase}"]]) == [0]


async def test_of_an_unknown_person_nothing_is_found_and_nothing_is_written(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello")
        await world.kept()
        before = await all_keys(connections)
        vault = world.running.vault
        assert await vault.eraser.erase(world.tag("nobody"), by="test") is None
        assert await all_keys(connections) == before
        assert vault.audit.latest_checkpoint() is None


async def test_erasing_again_finds_nothing_and_moves_the_fence(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello")
        await world.kept()
        first = await erased(world)
        vault = world.running.vault
        assert await vault.eraser.erase(world.tag(), by="test") is None
        state = await vault.store.subject_state(world.tag())
        assert state.erased_at is not None
        assert state.erased_at >= first.erased.at
        assert (state.generation, state.generation_floor, state.wraps) == (None, 1, {})


async def test_what_was_under_way_is_not_kept_and_who_comes_back_begins_anew(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat("hello")
        await world.kept()
        await erased(world)
        await world.chat("under way")  # within what clocks may be apart
        assert await world.kept() == []
        assert world.outcomes() == {"stored": 1, "erased": 1}
        await pass_a_minute(world)
        await world.chat("anew")
        [row] = await world.kept()
        assert await world.said(row["conversation"]) == ["user: anew", "assistant: reply 2"]
        assert (row["reason"], set(row["grounds"])) == ("CONSENT_UNKNOWN", {"SERVICE"})
        assert (await world.running.vault.store.subject_state(world.tag())).generation == 2


async def test_a_stream_that_runs_through_an_erasure_brings_nothing_back(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    """P32."""
    may_end = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        events = openai_events("a", "b")
        await peer.send(STREAM_HEAD + chunk(events[0]))
        await may_end.wait()
        await peer.send(b"".join(map(chunk, events[1:])) + b"0\r\n\r\n")

    async with a_world(script, tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.decided_again()
        async with world.client.stream(
            "POST", OPENAI, content=chat_bytes("late", stream=True), headers=ANA
        ) as answer:
            assert (await world.running.vault.eraser.erase(world.tag(), by="test")) is not None
            assert await keys_of(connections, world.tag()) == ["s"]
            may_end.set()
            assert await answer.aread()
        assert await world.kept() == []
        assert world.outcomes() == {"erased": 1}
        assert await keys_of(connections, world.tag()) == ["s"]


async def test_what_is_written_anew_survives_the_sweep_of_what_was_before(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault, tag = world.running.vault, world.tag()
        await world.chat("before", who=ANA | {"x-chat-conversation": "same"})
        await world.kept()
        state = await vault.store.subject_state(tag)
        found = await vault.erasure.erase(
            tag, at=wall_clock(), ledger_length=len(state.ledger), stays=None, events=(), ledger_keep_until=0
        )
        assert not isinstance(found, int)
        await pass_a_minute(world)
        await world.chat("after", who=ANA | {"x-chat-conversation": "same"})
        assert len(await world.turns()) == 1  # what is behind the fence is not even listed
        await vault.erasure.mark_chore(Chore.ERASE, tag, 0)
        await finished(world)
        [row] = await world.kept()
        assert await world.said(row["conversation"]) == ["user: after", "assistant: reply 1"]
        [members] = await connections.ask([["ZCARD", b"cp:{%s}:ix" % tag.hex().encode()]])
        assert members == 1
        assert sum(name.startswith("r:") for name in await keys_of(connections, tag)) == 1


async def finished(world: World) -> None:
    """Have what was begun finished, by us or by the node that runs."""
    vault = world.running.vault
    async with asyncio.timeout(PATIENCE):
        while await vault.store.connections.ask([["ZCARD", "cp:{chore:erase}"]]) != [0]:
            if not await vault.eraser.take_up():
                await asyncio.sleep(0.01)


async def fence_only(world: World) -> int:
    """Erase Ana, and leave her rows for a sweep; return the fence."""
    vault, tag = world.running.vault, world.tag()
    state = await vault.store.subject_state(tag)
    found = await vault.erasure.erase(
        tag, at=wall_clock(), ledger_length=len(state.ledger), stays=None, events=(), ledger_keep_until=0
    )
    assert isinstance(found, Erased)
    await vault.erasure.mark_chore(Chore.ERASE, tag, 0)
    return found.at


@pytest.mark.parametrize("is_swept_between", [True, False], ids=["swept", "not swept"])
async def test_a_retry_that_comes_between_an_erasure_and_its_sweep_is_a_turn_of_its_own(
    tmp_path: Path, store: str, *, is_swept_between: bool
) -> None:
    named = ANA | {"idempotency-key": "k-1"}
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello", who=named)
        await world.kept()
        await fence_only(world)
        if is_swept_between:
            await finished(world)
        await pass_a_minute(world)
        await world.chat("hello", who=named)
        [row] = await world.kept()
        assert world.outcomes() == {"stored": 2}
        await finished(world)
        assert await world.said(row["conversation"]) == ["user: hello", "assistant: reply 1"]


async def test_a_history_from_before_an_erasure_leads_nowhere_on_any_node(tmp_path: Path, store: str) -> None:
    async with (
        a_world(chatting(), tmp_path, store) as here,
        a_world(chatting(), tmp_path, store) as there,
    ):
        asked = [{"role": "user", "content": "hello"}]
        known = [*asked, {"role": "assistant", "content": "reply 0"}, {"role": "user", "content": "more"}]
        await here.chat(asked)
        await here.kept()
        await there.chat(known)  # so that both remember where she was
        [first, second] = await there.kept()
        assert first["conversation"] == second["conversation"]
        await fence_only(here)
        await pass_a_minute(here)
        for world in (here, there):
            await world.chat(known)
            assert await world.running.all_kept(within=PATIENCE)
        rows = await here.kept()
        assert len({row["conversation"] for row in (first, *rows)}) == 3
        for row in rows:
            assert (await here.said(row["conversation"]))[0] == "user: more"


async def test_an_erasure_that_broke_off_is_finished_by_any_node(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault, tag = world.running.vault, world.tag()
        await world.chat("hello")
        await world.kept()
        await vault.erasure.erase(
            tag, at=wall_clock(), ledger_length=0, stays=None, events=(), ledger_keep_until=0
        )
        assert len(await keys_of(connections, tag)) > 1
        await vault.erasure.mark_chore(Chore.ERASE, tag, 0)
        await finished(world)
        assert await keys_of(connections, tag) == ["s"]


class Breaking:
    """A store that goes away before or after one of its calls, and stays away."""

    def __init__(self, real: Any, at: int, *, is_done: bool) -> None:
        self._real, self._left, self._is_done = real, at, is_done

    def __getattr__(self, name: str) -> Any:
        async def call(*words: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left >= 0:
                return await getattr(self._real, name)(*words, **named)
            if self._left == -1 and self._is_done:
                await getattr(self._real, name)(*words, **named)
            raise StoreUnavailableError("gone")

        return call


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
async def test_wherever_an_erasure_breaks_off_its_certificate_says_the_whole(
    tmp_path: Path, store: str, connections: Connections, *, is_done: bool
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault = world.running.vault
        ended = set()
        for at in range(30):
            name = f"p{at}"
            await world.choose(Choice.GIVEN, subject=name)
            for conversation in ("one", "two"):
                await world.chat(
                    "hello", who=BEA | {"x-chat-subject": name, "x-chat-conversation": conversation}
                )
            await world.kept()
            await world.decided_again()
            tag = world.tag(name)
            try:
                await an_eraser(vault, Breaking(vault.erasure, at, is_done=is_done)).erase(tag, by="test")
            except StoreUnavailableError:
                is_whole = False
            else:
                is_whole = True
            is_fenced = (await vault.store.subject_state(tag)).erased_at is not None
            await connections.ask([["ZADD", "cp:{chore:erase}", "XX", 0, tag]])
            await finished(world)
            certificate = await vault.eraser.certificate(tag)
            assert (certificate is not None) == is_fenced
            if certificate is not None:
                said = verify_certificate(certificate, publics=vault.keyset.signing_publics())
                assert (said["removed"]["turns"], said["removed"]["records"]) == (2, 2)
                assert said["removed"]["ledger_events"] == 1
                assert said["keys"] == {"subject_generations": [1], "kek_versions": [1]}
                assert said["proof"]["opened"] == 0
                assert await keys_of(connections, tag) == ["s"]
            ended.add((is_fenced, is_whole))
            if is_whole:
                break
        assert ended == {(False, False), (True, False), (True, True)}


def an_eraser(vault: Vault, erasure: Any) -> Eraser:
    async def certify(done: Erasure) -> bytes:
        note = vault.audit.latest_checkpoint()
        return sign_certificate(
            certificate_of(
                done,
                certificate_id="1",
                checkpoint=read_checkpoint(note or "", keys=vault.audit_keys),
                horizon_ms=DAY,
            ),
            seed=vault.keyset.signing_key(),
        )

    return Eraser(
        vault.store, erasure, vault.record_keys, vault.annotation_keys,
        audit=vault.audit, clock=wall_clock, training=vault.policy.periods.training,
        rewrites_log=False, certify=certify, recall=vault.recalls().erased,
    )  # fmt: skip


async def test_an_erasure_of_who_came_back_meanwhile_certifies_what_was_before(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault = world.running.vault
        await world.chat("before")
        await world.kept()
        await fence_only(world)
        await pass_a_minute(world)
        await world.chat("after")
        await finished(world)
        certificate = await vault.eraser.certificate(world.tag())
        assert certificate is not None
        said = verify_certificate(certificate, publics=vault.keyset.signing_publics())
        assert (said["removed"]["turns"], said["proof"]["tried"], said["proof"]["opened"]) == (1, 1, 0)
        assert len(await world.kept()) == 1


async def test_an_erasure_that_comes_on_top_of_an_unfinished_one_certifies_both(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat("before")
        await world.kept()
        await world.decided_again()
        await fence_only(world)
        await pass_a_minute(world)
        await world.chat("after")
        await world.turns()
        erasure = await erased(world)
        assert (erasure.erased.generations, erasure.kek_versions, erasure.erased.events) == ((1, 2), (1,), 1)
        assert (erasure.removed.annotations, erasure.removed.records) == (2, 2)


async def test_a_legal_hold_is_not_erased_and_opens_for_nobody(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault, tag = world.running.vault, world.tag()
        await world.choose(Choice.GIVEN)
        await world.chat("held", who=ANA | {"x-chat-conversation": "held"})
        await world.chat("not held", who=ANA | {"x-chat-conversation": "other"})
        await world.kept()
        held = await hold(world, "held")
        erasure = await erased(world)
        assert (erasure.held_turns, erasure.proof.tried, erasure.proof.opened) == (1, 1, 0)
        assert erasure.held_until is not None
        assert await world.turns() == []
        await world.decided_again()
        rows = [row async for row in vault.store.annotations(tag)]
        assert len(rows) == 1
        state = await vault.store.subject_state(tag)
        assert (state.generation, set(state.wraps), state.generation_floor) == (2, {2}, 1)
        [blob] = await vault.store.records(tag, rows[0].turn, [0])
        assert blob is not None
        assert parse_header(blob).generation == 2
        # When the hold ends, what it kept goes.
        await vault.ledger.note(
            tag,
            FactKind.HOLD_RELEASED,
            at=wall_clock(),
            by="test",
            method="test",
            scope=Scope(conversation=held),
            details={"case": "c1"},
        )
        await world.decided_again()
        assert [row async for row in vault.store.annotations(tag)] == []


async def test_a_decision_that_is_late_does_not_bring_anything_back(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault, tag = world.running.vault, world.tag()
        await world.chat("hello")
        [turn] = await world.turns()
        assert isinstance(turn, KeptTurn)
        [row] = [row async for row in vault.store.annotations(tag)]
        await vault.erasure.erase(
            tag, at=wall_clock(), ledger_length=0, stays=None, events=(), ledger_keep_until=0
        )
        late = RedecidedTurn(
            subject=tag,
            turn=row.turn,
            conversation=turn.facts.conversation_tag,
            expected_mac=row.annotation[b"mac"],
            ledger_length=0,
            generation=1,
            expires_at=turn.note.expires_at + DAY,
            annotation=row.annotation,
        )
        assert await vault.store.redecide([late]) == [RedecideStatus.KEY_CHANGED]


@pytest.mark.parametrize("is_refused", [False, True], ids=["once", "for_good"])
async def test_erasing_waits_for_the_audit_log(
    tmp_path: Path, store: str, connections: Connections, *, is_refused: bool
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault = world.running.vault
        await world.chat("hello")
        await world.kept()
        before = await all_keys(connections)
        (tmp_path / "data" / "audit").mkdir(mode=0o700, parents=True, exist_ok=True)
        if is_refused:
            (tmp_path / "data" / "audit" / "audit.jsonl").mkdir()
            with pytest.raises(AuditUnavailableError):
                await vault.eraser.erase(world.tag(), by="test")
            assert await all_keys(connections) == before
        else:
            await erased(world)
            log = (tmp_path / "data" / "audit" / "audit.jsonl").read_text().splitlines()
            assert [json.loads(line)["action"] for line in log] == ["subject.erase", "subject.erased"]
            assert not {"ana", "hello"} & set(str(log).split('"'))


async def test_every_node_forgets_an_erased_person_at_once(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with (
        a_world(chatting(), tmp_path, store) as here,
        a_world(chatting(), tmp_path, store) as there,
    ):
        await there.choose(Choice.GIVEN)
        await there.chat("hello", who=ANA | {"x-chat-conversation": "one"})
        [row] = await there.kept()
        assert await there.said(row["conversation"])
        await erased(here)
        with pytest.raises(NotFoundError):
            await there.said(row["conversation"])
        await there.chat("again", who=ANA | {"x-chat-conversation": "one"})
        await there.chat("elsewhere", who=BEA)
        assert len(await there.kept()) == 1
        assert there.outcomes() == {"stored": 2, "erased": 1}
        assert await keys_of(connections, here.tag()) == ["s"]


async def test_an_erasure_under_a_hold_that_broke_off_is_finished(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault, tag = world.running.vault, world.tag()
        await world.chat("hello", who=ANA | {"x-chat-conversation": "held"})
        await world.chat("hello", who=ANA | {"x-chat-conversation": "other"})
        await world.kept()
        await hold(world, "held")
        # The fence stands, and nothing is sealed anew or destroyed yet.
        assert await vault.roller.renew(tag, await vault.store.subject_state(tag), erasing=True) == 2
        assert await world.turns() == []
        assert set((await vault.store.subject_state(tag)).wraps) == {1, 2}
        await vault.erasure.mark_chore(Chore.ERASE, tag, 0)
        async with asyncio.timeout(PATIENCE):
            while await vault.erasure.is_erasing(tag) or len(await rows_of(world)) > 1:
                await vault.eraser.take_up()
                await asyncio.sleep(0.01)
        assert set((await vault.store.subject_state(tag)).wraps) == {2}
        [left] = await rows_of(world)
        [blob] = await vault.store.records(tag, left, [0])
        assert blob is not None
        assert parse_header(blob).generation == 2


async def rows_of(world: World) -> list[TurnId]:
    return [row.turn async for row in world.running.vault.store.annotations(world.tag())]


async def test_turns_whose_key_was_lost_go_too_and_no_generation_comes_again(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello")
        await world.kept()
        await connections.ask([["DEL", b"cp:{%s}:s" % world.tag().hex().encode()]])
        erasure = await erased(world)
        assert erasure.removed.annotations == 1
        assert await keys_of(connections, world.tag()) == ["s"]
        await pass_a_minute(world)
        await world.chat("anew")
        [row] = await world.kept()
        assert await world.said(row["conversation"]) == ["user: anew", "assistant: reply 1"]


async def test_the_fence_stands_for_longer_than_a_backup_can_be_read(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault = world.running.vault
        await world.chat("hello")
        await world.kept()
        erasure = await erased(world)
        ends = (await all_keys(connections))[b"cp:{%s}:s" % world.tag().hex().encode()]
        assert ends == erasure.erased.at + vault.settings.erasure_horizon.length + 30 * DAY
        # A decision on who came back meanwhile must not shorten it.
        await vault.store.trim(world.tag(), [ConversationTag(b"C" * 16)])
        assert (await all_keys(connections))[b"cp:{%s}:s" % world.tag().hex().encode()] == ends


async def test_what_no_authentic_annotation_names_goes_too(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        tag = world.tag()
        await world.chat("one", who=ANA | {"x-chat-conversation": "c"})
        await world.chat("two", who=ANA | {"x-chat-conversation": "c"})
        await world.kept()
        names = [name for name in await all_keys(connections) if tag.hex().encode() in name]
        forged, alone = sorted(name for name in names if b"}:a:" in name)
        await connections.ask([["HDEL", forged, "body"], ["DEL", alone]])
        assert await keys_of(connections, tag) != ["s"]
        await erased(world)
        assert await keys_of(connections, tag) == ["s"]
