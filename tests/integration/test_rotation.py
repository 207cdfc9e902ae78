"""Keys rotate while chats go on: nothing becomes unreadable, no expiry moves, and what is destroyed opens nothing."""

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice
from chatproxy.crypto.keyring import RING_NAME, RING_PURPOSE, parse_manifest
from chatproxy.crypto.keys import KeyStatus
from chatproxy.errors import KeysetError, UndecryptableError
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.vault import Vault, open_vault
from chatproxy.workflows.horizon import erasure_horizon
from chatproxy.workflows.rotate import NotYetError, Step
from chatproxy.workflows.rotate_on_schedule import ScheduledRotation
from chatproxy.workflows.watch_ring import LIVE_MS
from integration.kept_state import FOREVER
from integration.proxy_fixtures import (
    ANA_LINES,
    LAST_CHUNK,
    OPENAI,
    STREAM_HEAD,
    World,
    a_proxy,
    a_world,
    all_keys,
    chat_bytes,
    chatting,
    chunk,
    openai_events,
    post,
    raw_client,
)
from integration.rotation_fixtures import Killed, Writes, a_rotation, advance, versions_in_use
from simulators.backend import Peer


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


T = TypeVar("T")


def a_rotating_world(directory: Path, store: str) -> AbstractAsyncContextManager[World]:
    return a_world(chatting(), directory, store, key_soak="0s", key_grace="0s")


async def statuses(vault: Vault) -> tuple[list[str], list[str]]:
    """Return the statuses of the KEK versions and of the root versions."""
    ring = (await a_rotation(vault).ring()).manifest
    roots = await vault.root.versions()
    return [key.status.value for key in ring.keys], [root.status.value for root in roots]


def a_node(**more: object) -> bytes:
    """What a node says of itself."""
    return json.dumps({"at": wall_clock(), "ring": 1, "roots": {}, "policy": "", **more}).encode()


async def spoil(world: World, connections: Connections, subject: str, wrap: bytes) -> None:
    """Put something else in the place of a person's wrapped key."""
    name = b"cp:{%b}:s" % world.tag(subject).hex().encode()
    await connections.ask([["HSET", name, "w1", wrap]])


async def until_ready(work: Callable[[], Awaitable[T]]) -> T:
    """Do *work* as soon as it does not have to wait any more."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await work()
            except NotYetError:
                await asyncio.sleep(0.01)


# --- a whole rotation ---


async def test_a_whole_rotation_leaves_everything_readable(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        await world.choose(Choice.GIVEN)
        await world.chat("before")
        [before] = await world.kept()
        await world.decided_again()
        expiries = await all_keys(connections)
        rotation = a_rotation(vault)
        await advance(rotation, Step.REWRAPPED)
        assert await versions_in_use(vault) == {2}
        after = await all_keys(connections)
        assert {key: after[key] for key in expiries} == expiries

        await world.chat("meanwhile")
        await world.kept()
        await advance(rotation, Step.DESTROYED)
        await world.chat("after")
        rows = await world.kept()

        assert [row["key_version"] for row in rows] == [2, 2, 2]
        assert await world.said(before["conversation"]) == ["user: before", "assistant: reply 0"]
        assert await statuses(vault) == (["DESTROYED", "PRIMARY"], ["DESTROYED", "PRIMARY"])
        assert await rotation.verify() == (2, 0)
        assert world.outcomes() == {"stored": 3}


async def test_no_write_takes_the_end_from_a_key_or_puts_off_that_of_what_was_said(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    """P27, over keeping, deciding again and wrapping again."""

    async def ends() -> dict[bytes, int]:
        found = await all_keys(connections)
        assert [name for name, at in found.items() if at < 0 and not name.startswith(FOREVER)] == []
        return {name: at for name, at in found.items() if b"}:r:" in name or b"}:a:" in name}

    async with a_rotating_world(tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat("one")
        await world.kept()
        first = await ends()
        await world.chat("two")
        await world.kept()
        kept = await ends()
        assert len(kept) == 2 * len(first) > 0
        assert {name: kept[name] for name in first} == first

        await world.choose(Choice.WITHDRAWN)
        await world.decided_again()
        withdrawn = await ends()
        assert withdrawn.keys() == kept.keys()
        assert all(at < kept[name] for name, at in withdrawn.items())
        await world.choose(Choice.GIVEN)
        await world.decided_again()
        assert await ends() == withdrawn

        await advance(a_rotation(world.running.vault), Step.DESTROYED)
        assert await versions_in_use(world.running.vault) == {2}
        assert await ends() == withdrawn


async def test_a_rotation_that_breaks_off_at_any_write_is_gone_on_with(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        await world.choose(Choice.GIVEN)
        await world.chat("before")
        [before] = await world.kept()
        records = {
            key: at for key, at in (await all_keys(connections)).items() if b":r:" in key or b":s" in key
        }
        counted = Writes()
        await advance(a_rotation(vault, counted), Step.DESTROYED)
        assert len(counted.seen) >= 14
        rotations = 1
        for number in range(1, len(counted.seen) + 1):
            for is_done_first in (False, True):
                writes = Writes(number, is_done_first=is_done_first)
                with pytest.raises(Killed):
                    await advance(a_rotation(vault, writes, by="who is killed"), Step.DESTROYED)
                state = await a_rotation(vault).state()
                if state is None or not state.is_over or number < len(counted.seen):
                    await advance(a_rotation(vault, by="who goes on"), Step.DESTROYED)
                rotations += 1
                keks, roots = await statuses(vault)
                assert set(keks[:-1]) == set(roots[:-1]) == {"DESTROYED"}, writes
                assert keks[-1] == roots[-1] == "PRIMARY"
                assert await versions_in_use(vault) == {len(keks)}
        await world.chat("after")
        rows = await world.kept()
        assert await world.said(before["conversation"]) == ["user: before", "assistant: reply 0"]
        assert world.outcomes() == {"stored": 2}
        assert {row["key_version"] for row in rows} == {rotations + 1}
        after = await all_keys(connections)
        assert {key: after[key] for key in records if b":r:" in key} == {
            key: at for key, at in records.items() if b":r:" in key
        }
        assert await a_rotation(vault).verify() == (2, 0)


async def test_two_operators_at_once_do_no_harm_and_the_second_is_told(tmp_path: Path, store: str) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        await world.chat("before")
        await world.kept()
        told = []

        async def operate(name: str) -> None:
            rotation = a_rotation(vault, by=name)
            while True:
                state = await rotation.state()
                if state is not None and state.is_over:
                    return
                try:
                    await rotation.advance()
                except KeysetError as error:
                    told.append(str(error))
                    await asyncio.sleep(0.01)

        async with asyncio.timeout(20):
            await asyncio.gather(operate("ana"), operate("ben"))

        assert any("is under way" in each or "PENDING already" in each for each in told)
        keks, roots = await statuses(vault)
        assert set(keks[:-1]) == set(roots[:-1]) == {"DESTROYED"}
        assert keks[-1] == roots[-1] == "PRIMARY"
        assert (await a_rotation(vault).verify())[1] == 0


async def test_a_backup_of_the_ring_from_any_moment_opens_with_no_later_root(
    tmp_path: Path, store: str
) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        await world.chat("before")
        await world.kept()
        rings = []
        rotation = a_rotation(vault)
        for step in (Step.KEK_ADDED, Step.PROMOTED, Step.REWRAPPED, Step.RETIRED, Step.DESTROYED):
            rings.append(await vault.store.read_control(RING_NAME))
            await advance(rotation, step)

        old_keks = [parse_manifest(data or b"").key(1).wrapped for data in rings]
        assert old_keks[0] is not None
        for wrapped in filter(None, old_keks):
            with pytest.raises(UndecryptableError, match="destroyed_root_version"):
                await vault.root.unwrap(RING_PURPOSE, [(b"kek/1", wrapped)])


# --- who waits for whom ---


@pytest.mark.parametrize(
    "node, why",
    [
        ({"roots": {"1": "00"}}, "laggard"),
        ({"roots": {"2": "of another copy"}}, "laggard"),
        ({"is_contested": True}, "two processes are called laggard"),
    ],
    ids=["without the new root", "with another root of that number", "with a name that another has"],
)
async def test_a_new_kek_waits_for_every_live_node(
    tmp_path: Path, store: str, node: dict[str, object], why: str
) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        await vault.store.beat("laggard", a_node(**node))
        rotation = a_rotation(vault)
        assert (await rotation.advance()).step is Step.ROOT_ADDED

        with pytest.raises(NotYetError, match=why):
            await rotation.advance()

        await vault.store.forget_node("laggard")
        await advance(rotation, Step.PROMOTED)


async def test_a_node_that_has_vanished_holds_up_the_retirement_alone(tmp_path: Path, store: str) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        await vault.store.beat("vanished", a_node(at=wall_clock() - LIVE_MS - 1))
        rotation = a_rotation(vault)
        await advance(rotation, Step.REWRAPPED)
        async with asyncio.timeout(20):
            while len(await rotation.blockers()) != 1:
                await asyncio.sleep(0.01)

        with pytest.raises(NotYetError, match="vanished"):
            await rotation.advance()

        await vault.store.forget_node("vanished")
        await advance(rotation, Step.RETIRED)


@pytest.mark.parametrize("step", [Step.REWRAPPED, Step.RETIRED])
async def test_no_root_goes_that_the_journal_of_a_node_needs_though_it_has_vanished(
    tmp_path: Path, store: str, step: Step
) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        rotation = a_rotation(vault)
        await advance(rotation, step)
        ring = (await rotation.ring()).manifest.counter
        for at in (wall_clock(), wall_clock() - LIVE_MS - 1):
            behind = a_node(at=at, ring=ring, is_journal_behind=True)
            await vault.store.beat("laggard", behind)
            if step is Step.REWRAPPED:
                assert "journal under the old root is kept: laggard" in " ".join(await rotation.blockers())
            with pytest.raises(NotYetError, match="laggard"):
                await until_ready_but_for("laggard", rotation.advance)
        assert "DESTROYED" not in (await statuses(vault))[1]

        await vault.store.forget_node("laggard")
        await advance(rotation, Step.DESTROYED)


async def until_ready_but_for(name: str, work: Callable[[], Awaitable[T]]) -> T:
    """Do *work* again until all that it waits for is the node of that name."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await work()
            except NotYetError as error:
                if str(error).count(name) and "node-1" not in str(error):
                    raise
            await asyncio.sleep(0.01)


async def test_what_a_journal_has_at_a_crash_opens_after_a_rotation_that_waited_for_nothing_else(
    tmp_path: Path, store: str
) -> None:
    may_end = asyncio.Event()
    events = openai_events("one", " two")

    async def stream(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(STREAM_HEAD + chunk(events[0]))
        await may_end.wait()
        await peer.send(b"".join(map(chunk, events[1:])) + LAST_CHUNK)

    journal, crash = tmp_path / "data" / "journal", tmp_path / "crash"
    async with (
        a_world(stream, tmp_path, store, key_soak="0s", key_grace="0s") as world,
        raw_client(world.running.url) as client,
    ):
        await client.send(post(OPENAI, chat_bytes("said before", stream=True), *ANA_LINES))
        await client.head()
        await client.chunk()
        async with asyncio.timeout(20):
            while not any(path.stat().st_size > 100 for path in journal.glob("*/*.seg")):
                await asyncio.sleep(0.01)
        await advance(a_rotation(world.running.vault), Step.DESTROYED)
        assert (await statuses(world.running.vault))[1] == ["DESTROYED", "PRIMARY"]
        shutil.copytree(journal, crash)
        may_end.set()
        while await client.chunk():
            pass
        assert len(await world.kept()) == 1
    shutil.rmtree(journal)
    crash.rename(journal)

    async with a_rotating_world(tmp_path, store) as world:
        [row] = await world.kept()
        assert row["end"] == "complete"
        assert world.counted("chatproxy_turns_recovered_total") == 1
        assert world.outcomes() == {"replayed": 1}


async def test_a_node_does_not_move_on_while_a_wrap_of_the_old_version_is_under_way(
    tmp_path: Path, store: str
) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        keys = vault.record_keys
        rotation = a_rotation(vault)
        await advance(rotation, Step.KEK_ADDED)
        async with asyncio.timeout(20):
            while keys.ring is None or keys.ring.counter < 2:
                await asyncio.sleep(0.01)
        with keys.wrapping():
            await advance(rotation, Step.REWRAPPED)
            async with asyncio.timeout(20):
                while keys.ring.primary_version != 2:
                    await asyncio.sleep(0.01)
            assert keys.oldest_in_use == 2
            with pytest.raises(NotYetError, match="works with the key ring as it is now: node-1"):
                await rotation.advance()

        assert keys.oldest_in_use == 3
        await advance(rotation, Step.RETIRED)


async def test_the_soak_counts_from_the_promotion_whatever_the_state_says(tmp_path: Path, store: str) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        rotation = a_rotation(vault, soak_ms=3_600_000)
        await advance(rotation, Step.REWRAPPED)
        data = await vault.store.read_control("rotation")
        assert data is not None
        forged = json.dumps(json.loads(data) | {"step_at": 0}).encode()
        assert await vault.store.swap_control("rotation", data, forged)

        with pytest.raises(NotYetError, match="still opens for a while"):
            await rotation.advance()


@pytest.mark.parametrize("step", [Step.ROOT_ADDED, Step.KEK_ADDED, Step.PROMOTED, Step.REWRAPPED])
@pytest.mark.parametrize("forged", [Step.REWRAPPED, Step.RETIRED])
async def test_a_forged_state_costs_no_key(tmp_path: Path, store: str, step: Step, forged: Step) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        await world.chat("before")
        [before] = await world.kept()
        await advance(a_rotation(vault), step)
        data = await vault.store.read_control("rotation")
        assert data is not None
        state = json.loads(data) | {"step": forged, "step_at": 0, "root_to": 60_000, "kek_to": 60_000}
        assert await vault.store.swap_control("rotation", data, json.dumps(state).encode())

        await advance(a_rotation(vault), Step.DESTROYED)

        assert (await a_rotation(vault).verify())[1] == 0
        assert await world.said(before["conversation"]) == ["user: before", "assistant: reply 0"]
        await advance(a_rotation(vault), Step.DESTROYED)
        assert await world.said(before["conversation"]) == ["user: before", "assistant: reply 0"]


# --- taking back ---


async def test_a_rotation_that_is_not_promoted_can_be_given_up(tmp_path: Path, store: str) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        for step in (Step.ROOT_ADDED, Step.KEK_ADDED):
            await advance(a_rotation(vault), step)
            await a_rotation(vault).abort()
            state = await a_rotation(vault).state()
            assert state is not None
            assert state.step is Step.ABORTED
        assert (await a_rotation(vault).ring()).primary_version == 1
        await world.chat("after")
        assert len(await world.kept()) == 1

        await advance(a_rotation(vault), Step.DESTROYED)

        keks, roots = await statuses(vault)
        assert keks == ["DESTROYED", "DESTROYED", "PRIMARY"]
        assert roots == ["DESTROYED", "DESTROYED", "DESTROYED", "PRIMARY"]
        assert (await a_rotation(vault).verify())[1] == 0


@pytest.mark.parametrize("step", [Step.ROOT_ADDED, Step.KEK_ADDED])
@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("is_done_first", [False, True])
async def test_giving_up_that_breaks_off_ends_given_up_or_goes_on(
    tmp_path: Path, store: str, step: Step, number: int, is_done_first: bool
) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        await advance(a_rotation(vault), step)
        with pytest.raises(Killed):
            await a_rotation(vault, Writes(number, is_done_first=is_done_first)).abort()

        rotation = a_rotation(vault)
        async with asyncio.timeout(20):
            while True:
                state = await rotation.state()
                assert state is not None
                if state.is_over:
                    break
                try:
                    await rotation.advance()
                except NotYetError:
                    await asyncio.sleep(0.01)

        await advance(a_rotation(vault), Step.DESTROYED)
        keks, roots = await statuses(vault)
        assert set(keks[:-1]) == set(roots[:-1]) == {"DESTROYED"}


async def test_after_the_promotion_a_rotation_cannot_be_given_up(tmp_path: Path, store: str) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        rotation = a_rotation(world.running.vault)
        await advance(rotation, Step.PROMOTED)

        with pytest.raises(KeysetError, match="in use"):
            await rotation.abort()


async def test_what_is_retired_comes_back_root_and_kek_together(tmp_path: Path, store: str) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        await world.chat("before")
        await world.kept()
        rotation = a_rotation(vault)
        await advance(rotation, Step.RETIRED)
        assert await statuses(vault) == (["RETIRED", "PRIMARY"], ["RETIRED", "PRIMARY"])

        assert await until_ready(rotation.unretire) == [1]

        assert await statuses(vault) == (["DECRYPT", "PRIMARY"], ["DECRYPT", "PRIMARY"])
        assert (await rotation.ring()).primary_version == 2
        state = await rotation.state()
        assert state is not None
        assert state.step is Step.PROMOTED
        await advance(rotation, Step.DESTROYED)
        assert (await rotation.verify())[1] == 0


async def test_bringing_back_that_breaks_off_destroys_nothing(tmp_path: Path, store: str) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        await advance(a_rotation(vault), Step.RETIRED)
        rotation = a_rotation(vault, Writes(kill_on="swap_control ring", is_done_first=True))
        with pytest.raises(Killed):
            await until_ready(rotation.unretire)

        assert (await a_rotation(vault).advance()).step is Step.PROMOTED

        assert (await statuses(vault))[0] == ["DECRYPT", "PRIMARY"]


# --- damage ---


@pytest.mark.parametrize(
    "wrap", [b"", b"short", b"\1\1" + (65_535).to_bytes(2, "big") + bytes(60), bytes(64), b"\1\1\0\1" + bytes(60)],
    ids=["empty", "short", "of a version that never was", "zeros", "that does not open"],
)  # fmt: skip
async def test_a_wrap_that_was_altered_stops_neither_others_nor_a_rotation(
    tmp_path: Path, store: str, connections: Connections, wrap: bytes
) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        await world.chat("before")
        await world.chat("another", who={"x-chat-subject": "ben", "x-chat-plan": "pro"})
        await world.kept()
        await spoil(world, connections, "ben", wrap)
        rotation = a_rotation(vault)
        await advance(rotation, Step.REWRAPPED)
        assert sum((await rotation.rewrap()).damaged.values()) == 1
        await advance(rotation, Step.RETIRED)
        if wrap[:4] == b"\1\1\0\1":
            with pytest.raises(KeysetError, match="--abandon-damaged 1"):
                await rotation.advance()
            await rotation.advance(abandon_damaged=1)
        else:
            await advance(rotation, Step.DESTROYED)

        assert (await rotation.verify())[1] == 1
        await world.chat("after")
        assert await world.running.all_kept(within=20)
        assert world.outcomes()["stored"] == 3


async def test_a_turn_whose_key_names_a_version_that_never_was_does_not_hold_up_others(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        ben = {"x-chat-subject": "ben", "x-chat-plan": "pro"}
        await world.chat("first", who=ben)
        await world.kept()
        await spoil(world, connections, "ben", b"\1\1\xff\xff" + bytes(60))
        await world.choose(Choice.GIVEN, subject="ben")
        async with asyncio.timeout(20):
            await world.chat("held up", who=ben)
            await world.chat("goes on")
            while world.outcomes().get("stored", 0) < 2:
                await asyncio.sleep(0.01)
            while world.outcomes().get("set_aside", 0) < 1:
                await asyncio.sleep(0.05)


async def test_rewraps_cost_no_turn_however_many_there_are(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        await world.chat("first")
        await world.kept()
        subject = world.tag()

        async def rewrap() -> None:
            [wraps] = await vault.store.subject_wraps([subject])
            ring = vault.record_keys.ring
            assert wraps
            assert ring is not None
            key = ring.unwrap_subject_key(wraps[1], subject=subject, generation=1)
            new = ring.wrap_subject_key(key, subject=subject, generation=1)
            await vault.store.swap_subject_wraps([(subject, 1, wraps[1], new)])

        for number in range(30):
            await world.chat(f"chat {number}")
            for _ in range(20):  # far more than the tries that a turn has
                await rewrap()
        assert await world.running.all_kept(within=20)

        assert world.outcomes() == {"stored": 31}


async def test_an_older_ring_in_the_store_is_not_taken(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        old = await vault.store.read_control(RING_NAME)
        assert old is not None
        await advance(a_rotation(vault), Step.PROMOTED)
        async with asyncio.timeout(20):
            while (ring := vault.record_keys.ring) is None or ring.primary_version != 2:
                await asyncio.sleep(0.01)
        now = await vault.store.read_control(RING_NAME)
        assert await vault.store.swap_control(RING_NAME, now, old)
        await world.chat("meanwhile")
        await world.kept()

        await asyncio.sleep(0.1)

        assert ring.primary_version == 2
        assert vault.record_keys.ring is ring


# --- the horizon, and rotation by itself ---


async def test_the_erasure_horizon_moves_to_the_promotion_once_what_was_before_is_destroyed(
    tmp_path: Path, store: str
) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        rotation = a_rotation(vault)

        async def horizon() -> int | None:
            ring = (await rotation.ring()).manifest
            found = erasure_horizon(ring, await vault.root.versions(), version_of=vault.root.version_of)
            return found.at

        for step in (Step.ROOT_ADDED, Step.KEK_ADDED, Step.PROMOTED, Step.REWRAPPED, Step.RETIRED):
            await advance(rotation, step)
            assert await horizon() is None
        await advance(rotation, Step.DESTROYED)
        promoted = (await rotation.ring()).manifest.primary.promoted_at
        assert promoted is not None
        assert await horizon() == promoted

        await advance(rotation, Step.KEK_ADDED)
        assert await horizon() == promoted
        assert world.counted("chatproxy_key_rotation_overdue") == 0


async def test_a_root_that_is_left_holds_the_horizon_back(tmp_path: Path, store: str) -> None:
    async with a_rotating_world(tmp_path, store) as world:
        vault = world.running.vault
        rotation = a_rotation(vault)
        await advance(rotation, Step.RETIRED)
        counted = Writes(kill_at=2, is_done_first=False)
        with pytest.raises(Killed):
            await a_rotation(vault, counted).advance()
        assert await statuses(vault) == (["DESTROYED", "PRIMARY"], ["RETIRED", "PRIMARY"])

        ring = (await rotation.ring()).manifest
        found = erasure_horizon(ring, await vault.root.versions(), version_of=vault.root.version_of)

        assert found.at is None


async def test_of_two_nodes_with_a_schedule_one_rotates_when_it_is_time(tmp_path: Path, store: str) -> None:
    now = wall_clock()
    settings = a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=store)

    def clock() -> int:
        return now

    async with open_vault(settings, clock=clock) as vault:
        nodes = [
            ScheduledRotation(vault.store, a_rotation(vault, by=name), node=name, period_ms=1000, clock=clock)
            for name in ("one", "two")
        ]
        assert not await nodes[0].take_step()
        now += 2000
        assert await nodes[0].take_step()
        assert not await nodes[1].take_step()
        now += 61_000
        assert await nodes[1].take_step()
        while await nodes[1].take_step():
            pass
        assert (await statuses(vault)) == (["DESTROYED", "PRIMARY"], ["DESTROYED", "PRIMARY"])
        assert not await nodes[1].take_step()
        assert [root.status for root in await vault.root.versions()][-1] is KeyStatus.PRIMARY
