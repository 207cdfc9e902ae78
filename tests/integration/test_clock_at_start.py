"""F-42: the embedded store is not started by a clock that may be wrong; chats go on, and turns wait until it is sure."""

import asyncio
import os
from pathlib import Path

import pytest

from chatproxy.clock import wall_clock
from chatproxy.errors import StoreRefusedError, StoreUnavailableError
from chatproxy.ports import PutStatus
from chatproxy.store.clock_seen import ClockSeen
from chatproxy.store.embedded import EmbeddedServer
from integration.invariants import assert_invariants
from integration.left_whole import CANARY
from integration.proxy_fixtures import (
    ANA_LINES,
    DAY,
    OPENAI,
    PATIENCE,
    AheadClock,
    a_world,
    chat_bytes,
    chatting,
    exchange,
    http_client,
    post,
)
from integration.serve_process import environment, run, serving
from integration.store_builders import a_turn
from integration.test_store_embedded import client_of
from simulators.backend import backend

WEEK_SECONDS = 7 * 86_400


class AskedClock(AheadClock):
    """One that counts how often it is asked."""

    asked = 0

    def __call__(self) -> int:
        self.asked += 1
        return super().__call__()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "store"


def a_server(directory: Path, clock: AheadClock, *, may_wait: bool = False) -> EmbeddedServer:
    return EmbeddedServer(
        directory, ballast_bytes=0, clock=clock, longest_pause=WEEK_SECONDS, may_wait=may_wait, patience=1.0
    )


async def put(server: EmbeddedServer) -> None:
    async with client_of(server) as store:
        assert await store.put([a_turn()]) == [PutStatus.STORED]


async def count(server: EmbeddedServer) -> int:
    async with client_of(server) as store:
        return len([turn async for turn in store.annotations()])


async def until_started(server: EmbeddedServer) -> None:
    async with asyncio.timeout(PATIENCE):
        while server.pid is None:
            await asyncio.sleep(0.01)


async def reasons(admin_url: str) -> list[str]:
    async with http_client() as client:
        found: list[str] = (await client.get(f"{admin_url}/readyz")).json()["reasons"]
    return found


async def until_reason(admin_url: str, said: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not any(reason.startswith(said) for reason in await reasons(admin_url)):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("days", [31, -31, 8, -8])
async def test_a_clock_that_is_far_from_the_last_use_starts_nothing(directory: Path, days: int) -> None:
    clock = AheadClock()
    async with a_server(directory, clock) as server:
        await put(server)
    clock.ahead = days * DAY

    with pytest.raises(StoreRefusedError, match="chatproxy store accept-clock"):
        await a_server(directory, clock).start()

    clock.ahead = 0
    async with a_server(directory, clock) as server:
        assert await count(server) == 1


@pytest.mark.parametrize("days", [0, 6, -6])
async def test_a_store_that_has_rested_for_no_longer_than_it_may_starts(directory: Path, days: int) -> None:
    clock = AheadClock()
    async with a_server(directory, clock):
        pass
    clock.ahead = days * DAY
    async with a_server(directory, clock) as server:
        assert server.held is None
        assert server.pid is not None


async def test_a_new_store_and_one_that_has_noted_no_time_start(directory: Path) -> None:
    clock = AheadClock()
    clock.ahead = 400 * DAY
    async with a_server(directory, clock):
        pass
    (directory / "CLOCK").write_text("not a time\n")
    clock.ahead = 0
    async with a_server(directory, clock) as server:
        assert server.pid is not None
    seen = ClockSeen(directory).last()
    assert seen is not None
    assert abs(seen - wall_clock()) < DAY


async def test_a_note_of_the_time_that_cannot_be_read_keeps_no_store_from_starting(directory: Path) -> None:
    (directory / "CLOCK").mkdir(mode=0o700, parents=True)
    directory.chmod(0o700)
    async with a_server(directory, AheadClock(), may_wait=True) as server:
        assert (server.held, server.pid is None) == (None, False)


async def test_the_time_is_noted_when_the_server_starts_and_when_it_stops(directory: Path) -> None:
    clock, seen = AheadClock(), ClockSeen(directory)
    async with a_server(directory, clock):
        started = seen.last()
        clock.ahead = 40 * DAY
    stopped = seen.last()

    assert started is not None
    assert stopped is not None
    assert 40 * DAY <= stopped - started < 41 * DAY


async def test_who_can_wait_goes_on_once_the_clock_is_set(directory: Path) -> None:
    clock = AskedClock()
    async with a_server(directory, clock) as server:
        await put(server)
    clock.ahead = 31 * DAY
    async with a_server(directory, clock, may_wait=True) as server:
        assert (server.pid, "clock" in str(server.held)) == (None, True)
        enough = clock.asked + 5
        async with asyncio.timeout(PATIENCE):
            while clock.asked < enough:
                assert server.pid is None
                await asyncio.sleep(0.01)
        clock.ahead = 0
        await until_started(server)
        assert await count(server) == 1


async def test_who_comes_while_another_waits_is_told_why_or_waits_too(directory: Path) -> None:
    clock = AheadClock()
    async with a_server(directory, clock):
        pass
    clock.ahead = 31 * DAY
    async with a_server(directory, clock, may_wait=True) as first:
        with pytest.raises(StoreRefusedError, match="clock"):
            await a_server(directory, clock).start()
        async with a_server(directory, clock, may_wait=True) as second:
            assert not second.owned
            ClockSeen(directory).note(clock())
            await until_started(first)
            await put(second)


async def test_a_server_that_dies_is_not_started_again_by_a_clock_that_has_jumped(directory: Path) -> None:
    clock = AheadClock()
    async with a_server(directory, clock) as server:
        await put(server)
        process = server._process
        assert process is not None
        clock.ahead = 31 * DAY
        await process.stop()
        async with asyncio.timeout(PATIENCE):
            while server.held is None:
                await asyncio.sleep(0.01)
        with pytest.raises(StoreUnavailableError):
            await count(server)
        clock.ahead = 0
        await until_started(server)
        assert await count(server) == 1


@pytest.mark.parametrize("days", [31, -31], ids=["ahead", "behind"])
async def test_chats_go_on_and_turns_wait_until_the_clock_is_set(tmp_path: Path, days: int) -> None:
    clock = AheadClock()
    async with a_world(chatting(), tmp_path, "embedded", clock=clock) as world:
        await world.chat(f"{CANARY} before")
        await world.kept()
    clock.ahead = days * DAY
    async with a_world(chatting(), tmp_path, "embedded", clock=clock) as world:
        assert (await world.chat(f"{CANARY} meanwhile")).status_code == 200
        await until_reason(world.running.admin_url, "the embedded store is not started")
        assert world.outcomes() == {}
        clock.ahead = 0
        if days < 0:
            # It was noted as received a month ago, and what that allows is over.
            assert await world.running.all_kept(within=PATIENCE)
            assert world.outcomes() == {"expired": 1}
            return
        assert len(await world.kept()) == 2
        await assert_invariants(world, tmp_path, answered=2)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_an_operator_says_that_the_clock_is_right_and_all_goes_on(tmp_path: Path, workers: str) -> None:
    seen = ClockSeen(tmp_path / "data" / "store")
    async with backend(chatting()) as behind:
        env = environment(tmp_path, upstream=behind.url, workers=workers)
        assert (await run(env, "transcripts", "list", "--json")).status == 0
        before = await run(env, "store", "accept-clock", "--yes")
        assert before.out == "Nothing is held up by the clock.\n"
        seen.note(wall_clock() - 60 * DAY)

        examined = await run(env, "doctor")
        assert examined.status == 3
        assert "store: the embedded store is not started: it is 20" in examined.out
        listed = await run(env, "transcripts", "list", "--json")
        assert listed.status == 1
        assert "chatproxy store accept-clock" in listed.err

        async with serving(env) as proxy:
            answer = await exchange(proxy.url, post(OPENAI, chat_bytes("hello"), *ANA_LINES))
            assert answer.status == 200
            await until_reason(proxy.admin_url, "the embedded store is not started")
            asked = await run(env, "store", "accept-clock")
            assert asked.status == 2
            assert "say --yes" in asked.err
            said = await run(env, "store", "accept-clock", "--yes")
            assert said.status == 0, said.err
            async with asyncio.timeout(PATIENCE):
                while await reasons(proxy.admin_url):
                    await asyncio.sleep(0.05)
                while len((await run(env, "transcripts", "list", "--json")).rows()) < 1:
                    await asyncio.sleep(0.05)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
async def test_only_who_serves_may_say_that_the_clock_is_right(tmp_path: Path) -> None:
    directory = tmp_path / "data" / "store"
    directory.mkdir(mode=0o700, parents=True)
    seen, then = ClockSeen(directory), wall_clock() - 60 * DAY
    seen.note(then)
    os.chown(directory, 12345, -1)
    said = await run(environment(tmp_path, upstream="http://127.0.0.1:9"), "store", "accept-clock", "--yes")
    assert said.status == 1
    assert "belongs to another user" in said.err
    assert seen.last() == then
