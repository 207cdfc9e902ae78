"""The store answers with an error, nonsense, too late or by another clock: chats go on, and every turn is kept once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chatproxy.errors import ConfigurationError, StoreUnavailableError
from chatproxy.store.address import StoreAddress
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.invariants import assert_invariants
from integration.proxy_fixtures import (
    DAY,
    PATIENCE,
    AheadClock,
    World,
    a_proxy,
    a_world,
    chatting,
    http_client,
)
from simulators.store_front import StoreFront, store_front

ERRORS = {
    "OOM": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    "READONLY": b"-READONLY You can't write against a read only replica.\r\n",
    "LOADING": b"-LOADING Redis is loading the dataset in memory\r\n",
    "MISCONF": b"-MISCONF Errors writing to the AOF file: No space left on device\r\n",
    "CLUSTERDOWN": b"-CLUSTERDOWN The cluster is down\r\n",
    "TRYAGAIN": b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
    "MOVED": b"-MOVED 3999 127.0.0.1:1\r\n",
    "ASK": b"-ASK 3999 127.0.0.1:1\r\n",
    "NOREPLICAS": b"-NOREPLICAS Not enough good replicas to write.\r\n",
    "NOAUTH": b"-NOAUTH Authentication required.\r\n",
    "NOPERM": b"-NOPERM User app has no permissions to run the 'evalsha' command\r\n",
    "BUSY": b"-BUSY Redis is busy running a script.\r\n",
    "MASTERDOWN": b"-MASTERDOWN Link with MASTER is down\r\n",
    "ERR": b"-ERR something new\r\n",
}


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def reasons(world: World) -> list[str]:
    async with http_client() as client:
        answer = await client.get(world.running.admin_url + "/readyz")
    return list(answer.json().get("reasons", []))


async def until_reason(world: World, said: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not any(said in reason for reason in await reasons(world)):
            await asyncio.sleep(0.05)


async def until_ready(world: World) -> None:
    async with asyncio.timeout(PATIENCE):
        while await reasons(world):
            await asyncio.sleep(0.05)


@asynccontextmanager
async def a_fronted_world(
    tmp_path: Path, store: str, *, store_timeout: str = "2s"
) -> AsyncIterator[tuple[StoreFront, World]]:
    async with (
        store_front(store) as front,
        a_world(chatting(), tmp_path, front.url, store_timeout=store_timeout) as world,
    ):
        await world.chat("before")
        await world.kept()
        yield front, world


@pytest.mark.parametrize("code", ERRORS)
async def test_a_put_that_is_answered_with_an_error_is_tried_again_and_drops_nothing(
    tmp_path: Path, store: str, code: str
) -> None:
    async with a_fronted_world(tmp_path, store) as (front, world):
        front.answers[b"EVALSHA"] = ERRORS[code]
        for number in range(3):
            assert (await world.chat(f"meanwhile {number}")).status_code == 200
        await front.until_seen(b"EVALSHA", 2)
        assert world.outcomes() == {"stored": 1}
        assert world.counted("chatproxy_turns_pending") == 3
        front.answers.clear()
        await assert_invariants(world, tmp_path, answered=4)
        assert world.outcomes() == {"stored": 4}


async def test_a_server_that_has_forgotten_all_scripts_is_given_them(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_fronted_world(tmp_path, store) as (front, world):
        await connections.ask([["SCRIPT", "FLUSH"]])
        await world.chat("meanwhile")
        assert len(await world.kept()) == 2
        assert front.seen[b"SCRIPT"] >= 1


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another protocol"),
        pytest.param(b"\x00\xff\x17\x03\x01\r\n", id="bytes without sense"),
        pytest.param(b"$1000000000\r\nabc", id="an answer that never ends"),
        pytest.param(b"*3\r\n:1\r\n", id="part of an answer"),
        pytest.param(b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n", id="more than was asked"),
    ],
)
async def test_nonsense_costs_the_connection_and_nothing_else(
    tmp_path: Path, store: str, said: bytes
) -> None:
    async with a_fronted_world(tmp_path, store, store_timeout="1s") as (front, world):
        front.says = said
        for number in range(3):
            assert (await world.chat(f"meanwhile {number}")).status_code == 200
        front.says = None
        rows = await assert_invariants(world, tmp_path, answered=4)
        texts = {text for row in rows for text in await world.said(row["conversation"])}
        assert {f"user: meanwhile {number}" for number in range(3)} <= texts
        assert "lost" not in world.outcomes()


async def test_replies_that_come_byte_by_byte_are_nobody_elses(tmp_path: Path, store: str) -> None:
    async with a_fronted_world(tmp_path, store, store_timeout="10s") as (front, world):
        front.piece = 1
        async with asyncio.TaskGroup() as group:
            for number in range(12):
                who = {"x-chat-subject": f"person {number}", "x-chat-plan": "pro"}
                group.create_task(world.chat(f"I am {number}", who=who))
        front.piece = None
        rows = await world.kept()
        assert len(rows) == 13
        for row in rows:
            assert len(await world.said(row["conversation"])) == 2


async def test_a_slow_store_keeps_up_and_no_chat_waits_for_it(tmp_path: Path, store: str) -> None:
    async with a_fronted_world(tmp_path, store) as (front, world):
        front.delay = 0.2
        loop = asyncio.get_running_loop()
        before = loop.time()
        for number in range(10):
            who = {"x-chat-subject": "one who is known", "x-chat-plan": "pro"}
            assert (await world.chat(f"hello {number}", who=who)).status_code == 200
        # One after the other they would have waited for some forty answers of 0.2 s.
        assert loop.time() - before < 4
        assert await world.running.all_kept(within=PATIENCE)
        front.delay = 0.0
        await assert_invariants(world, tmp_path, answered=11)


async def test_an_answer_that_is_lost_again_and_again_stores_nothing_twice(
    tmp_path: Path, store: str
) -> None:
    async with a_fronted_world(tmp_path, store) as (front, world):
        front.loses_replies = True
        for number in range(5):
            await world.chat(f"meanwhile {number}")
        front.loses_replies = False
        await assert_invariants(world, tmp_path, answered=6)


async def test_a_server_that_hangs_is_left_alone_and_nothing_piles_up(store: str) -> None:
    async with store_front(store) as front:
        connections = Connections(StoreAddress.parse(front.url), deadline=0.3)
        await connections.ask([["PING"]])
        front.hangs = True

        async def ask() -> None:
            with pytest.raises(StoreUnavailableError, match="did not answer within"):
                await connections.ask([["PING"]])

        await asyncio.gather(*(ask() for _ in range(40)))
        asked, tasks = front.seen.total(), len(asyncio.all_tasks())
        for _ in range(2000):
            await ask()
        # At most one a second tries whether it is back, however many want to know.
        assert front.seen.total() - asked <= 2
        assert len(asyncio.all_tasks()) <= tasks
        front.hangs = False
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    assert await connections.ask([["PING"]]) == [b"PONG"]
                    break
                except StoreUnavailableError:
                    await asyncio.sleep(0.05)
        assert await asyncio.gather(*(connections.ask([["PING"]]) for _ in range(20))) == [[b"PONG"]] * 20
        await connections.aclose()


# --- What a store must not do while it is used ---


async def test_a_store_that_begins_to_evict_gets_nothing_more_until_it_does_not(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("before")
        await world.kept()
        await connections.ask([["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]])
        try:
            with pytest.raises(ConfigurationError, match="allkeys-lru"):
                await world.running.vault.health.check()  # as is done every minute
            await world.chat("meanwhile")
            await until_reason(world, "does not take turns")
            [turns] = await connections.ask([["KEYS", "cp:*:a:*"]])
            assert len(turns) == 1
            assert world.outcomes() == {"stored": 1}
        finally:
            await connections.ask([["CONFIG", "SET", "maxmemory-policy", "noeviction"]])
        await world.running.vault.health.check()
        await assert_invariants(world, tmp_path, answered=2)


@pytest.mark.parametrize("days", [31, -365], ids=["forward", "back"])
async def test_nothing_is_put_by_a_clock_that_has_jumped(
    tmp_path: Path, store: str, connections: Connections, days: int
) -> None:
    clock = AheadClock()
    async with a_world(chatting(), tmp_path, store, clock=clock) as world:
        await world.chat("before")
        await world.kept()
        clock.ahead = days * DAY
        await world.chat("meanwhile")
        await until_reason(world, "apart, and expiry")
        [turns] = await connections.ask([["KEYS", "cp:*:a:*"]])
        assert len(turns) == 1
        assert world.outcomes() == {"stored": 1}
        clock.ahead = 0
        if days < 0:
            # It was noted as received a year ago, and what that allows is over.
            assert await world.running.all_kept(within=PATIENCE)
            assert world.outcomes() == {"stored": 1, "expired": 1}
            await assert_invariants(world, tmp_path, answered=2)
            return
        first, second = await assert_invariants(world, tmp_path, answered=2)
        assert first["expires_at"][:10] == second["expires_at"][:10]


async def test_what_waited_when_the_clock_jumped_is_not_taken_for_expired(tmp_path: Path, store: str) -> None:
    clock = AheadClock()
    async with store_front(store) as front, a_world(chatting(), tmp_path, front.url, clock=clock) as world:
        await world.chat("before")
        await world.kept()
        await front.shut()
        await world.chat("waits")
        clock.ahead = 31 * DAY
        await front.open()
        await until_reason(world, "apart, and expiry")
        assert world.outcomes() == {"stored": 1}
        clock.ahead = 0
        await assert_invariants(world, tmp_path, answered=2)


async def test_a_store_that_was_emptied_gets_no_new_keys_and_goes_on_when_it_is_restored(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("before")
        await world.kept()
        [names] = await connections.ask([["KEYS", "*"]])
        dumps = await connections.ask([["DUMP", name] for name in names])
        times = await connections.ask([["PEXPIRETIME", name] for name in names])
        await connections.ask([["FLUSHALL"]])
        await until_reason(world, "has lost its key ring")
        await world.chat("meanwhile")
        await until_reason(world, "key ring")
        [left] = await connections.ask([["KEYS", "cp:*"]])
        assert [name for name in left if b"{ctl}" not in name] == []
        assert not [name for name in left if name.endswith((b":ring", b":keyset"))]
        assert world.outcomes() == {"stored": 1}
        await connections.ask([["FLUSHALL"]])
        await connections.ask(
            [
                ["RESTORE", name, max(at, 0), dump, "ABSTTL"]
                for name, dump, at in zip(names, dumps, times, strict=True)
            ]
        )
        await assert_invariants(world, tmp_path, answered=2)
        await until_ready(world)


async def test_a_store_that_was_emptied_between_two_starts_is_not_taken_for_a_new_one(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("before")
        await world.kept()
    await connections.ask([["FLUSHALL"]])

    with pytest.raises(ConfigurationError, match=r"remove \S+/known-store"):
        async with a_world(chatting(), tmp_path, store):
            pass

    assert await connections.ask([["KEYS", "cp:*"]]) == [[]]
    (tmp_path / "data" / "known-store").unlink()
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("anew")
        assert len(await world.kept()) == 1


async def test_what_is_known_of_one_store_says_nothing_about_another(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store):
        pass
    await connections.ask([["FLUSHALL"]])
    async with store_front(store) as front, a_world(chatting(), tmp_path, front.url) as world:
        await world.chat("elsewhere")
        assert len(await world.kept()) == 1
    assert a_proxy(tmp_path, upstream="http://127.0.0.1:1", store=store).store == store
