"""The store is away, hangs or dies: chats go on, readiness says so in words, and all is kept once when it is back."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest

from chatproxy.clock import wall_clock
from chatproxy.crypto.keyring import RING_NAME
from chatproxy.store import keys
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.health import StoreHealth
from chatproxy.store.preflight import Demands
from chatproxy.store.redis import RedisStore
from integration.invariants import assert_invariants
from integration.proxy_fixtures import (
    ANA_LINES,
    ANTHROPIC,
    OPENAI,
    PATIENCE,
    STREAM_HEAD,
    World,
    a_world,
    chat_bytes,
    chatting,
    chunk,
    http_client,
    openai_events,
    post,
    raw_client,
)
from simulators.backend import Peer


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


class Gate:
    """A TCP port before the store that can be shut, opened, and made to swallow everything."""

    def __init__(self, store_url: str, port: int = 0) -> None:
        self._path = unquote(store_url.removeprefix("unix://"))
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = port
        self.swallows = False
        self.swallows_answers = False
        self._was_asked = asyncio.Event()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def was_asked(self) -> None:
        """Wait until something is swallowed."""
        self._was_asked.clear()
        await self._was_asked.wait()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:
            # Taken just before it was shut.
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            behind_reader, behind_writer = await asyncio.open_unix_connection(self._path)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._pass(reader, behind_writer))
                    group.create_task(self._pass(behind_reader, writer, answers=True))
            finally:
                behind_writer.transport.abort()
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False
    ) -> None:
        while data := await reader.read(65_536):
            if self.swallows or (answers and self.swallows_answers):
                self._was_asked.set()
                continue
            writer.write(data)
            await writer.drain()
        raise ConnectionError


@asynccontextmanager
async def gate(store_url: str) -> AsyncIterator[Gate]:
    found = Gate(store_url)
    await found.open()
    try:
        yield found
    finally:
        await found.shut()


async def readiness(world: World) -> httpx.Response:
    async with http_client() as client:
        return await client.get(world.running.admin_url + "/readyz")


async def until_ready(world: World, status: int) -> httpx.Response:
    async with asyncio.timeout(PATIENCE):
        while (answer := await readiness(world)).status_code != status:
            await asyncio.sleep(0.05)
    return answer


async def test_a_store_that_was_not_there_at_the_start_keeps_what_waited(tmp_path: Path, store: str) -> None:
    async with gate(store) as door:
        await door.shut()
        async with a_world(chatting(), tmp_path, door.url) as world:
            unready = await readiness(world)
            assert unready.status_code == 503
            assert "store" in unready.json()["reasons"][0]
            for number in range(3):
                answer = await world.chat(f"hello {number}")
                assert answer.status_code == 200
                assert answer.headers["x-decision-reason"] == "PENDING"
            assert world.counted("chatproxy_turns_pending") == 3
            assert world.counted("chatproxy_queue_bytes") > 0
            await door.open()
            await until_ready(world, 200)
            await assert_invariants(world, tmp_path, answered=3)
            assert world.outcomes() == {"stored": 3}
            assert world.counted("chatproxy_queue_bytes") == 0
            world.assert_outcomes_add_up()


async def test_a_store_that_goes_and_comes_back_has_everything_once(tmp_path: Path, store: str) -> None:
    async with gate(store) as door, a_world(chatting(), tmp_path, door.url) as world:
        await world.chat("before")
        await world.kept()
        await door.shut()
        for number in range(100):
            path = ANTHROPIC if number % 2 else "/v1/chat/completions"
            assert (await world.chat(f"meanwhile {number}", path=path)).status_code == 200
        unready = await until_ready(world, 503)
        assert unready.json()["reasons"]
        await door.open()
        rows = await world.kept()
        assert len(rows) == 101
        said = {await_said for row in rows for await_said in await world.said(row["conversation"])}
        assert {f"user: meanwhile {number}" for number in range(100)} <= said
        world.assert_outcomes_add_up()
        await until_ready(world, 200)


async def test_a_store_that_hangs_does_not_delay_a_chat(tmp_path: Path, store: str) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        gate(store) as door,
        a_world(chatting(), tmp_path, door.url, store_timeout="2s") as world,
    ):
        door.swallows = True
        for number in range(20):
            # An answer that waited for the store would wait for its deadline: the store has not answered anyone.
            answer = await world.chat(
                f"hello {number}", who={"x-chat-subject": f"s{number}", "x-chat-plan": "pro"}
            )
            assert answer.status_code == 200
        assert world.outcomes() == {}
        assert world.counted("chatproxy_turns_pending") == 20
        door.swallows = False
        await assert_invariants(world, tmp_path, answered=20)


async def test_what_clients_left_while_the_store_hung_is_kept_once_it_answers(
    tmp_path: Path, store: str
) -> None:
    [first, *_] = openai_events("one", " two")

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(STREAM_HEAD + chunk(first))
        await peer.until_gone()

    async with (
        asyncio.timeout(PATIENCE),
        gate(store) as door,
        a_world(script, tmp_path, door.url, store_timeout="2s") as world,
    ):
        door.swallows = True
        for number in range(4):
            async with raw_client(world.running.url) as client:
                await client.send(post(OPENAI, chat_bytes(f"hello {number}", stream=True), *ANA_LINES))
                await client.head()
                assert await client.chunk() == first
            await (await world.backend.connection(number)).is_gone.wait()
        assert world.outcomes() == {}
        door.swallows = False
        rows = await world.kept()
        assert [row["end"] for row in rows] == ["client_aborted"] * 4
        assert await world.said(rows[0]["conversation"]) == ["user: hello 0", "assistant: one"]
        world.assert_outcomes_add_up()


async def test_an_answer_of_the_store_that_got_lost_stores_nothing_twice(tmp_path: Path, store: str) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        gate(store) as door,
        a_world(chatting(), tmp_path, door.url, store_timeout="1s") as world,
    ):
        await world.chat("hello")
        await world.kept()
        door.swallows_answers = True
        await world.chat("again")
        await door.was_asked()
        door.swallows_answers = False
        assert len(await world.kept()) == 2
        assert world.outcomes() == {"stored": 1, "replayed": 1}
        world.assert_outcomes_add_up()


async def test_a_killed_embedded_store_loses_nothing(tmp_path: Path) -> None:
    async with asyncio.timeout(3 * PATIENCE), a_world(chatting(), tmp_path, "embedded") as world:
        await world.chat("before")
        await world.kept()
        connections = world.running.vault.store.connections
        for round_ in range(2):
            [info] = await connections.ask([["INFO", "server"]])
            pid = int(info.decode().partition("process_id:")[2].split()[0])
            async with asyncio.TaskGroup() as group:
                for number in range(20):
                    group.create_task(world.chat(f"hello {round_} {number}"))
                    if number == 10:
                        os.kill(pid, signal.SIGKILL)
            await assert_invariants(world, tmp_path, answered=1 + 20 * (round_ + 1))
        await until_ready(world, 200)
        assert "lost" not in world.outcomes()
        world.assert_outcomes_add_up()


async def test_without_room_for_what_waits_the_newest_are_lost_and_counted(
    tmp_path: Path, store: str
) -> None:
    async with gate(store) as door, a_world(chatting(), tmp_path, door.url, capture_queue="30KiB") as world:
        await door.shut()
        for number in range(30):
            assert (await world.chat(f"hello {number}")).status_code == 200
        lost = world.outcomes()["lost"]
        assert 0 < lost < 30
        assert "memory" in " ".join((await readiness(world)).json()["reasons"])
        await door.open()
        rows = await world.kept()
        assert len(rows) == 30 - lost
        said = [text for row in rows for text in await world.said(row["conversation"])]
        assert "user: hello 0" in said
        world.assert_outcomes_add_up()


async def test_a_store_with_the_keyset_of_another_is_not_written_to(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with gate(store) as door:
        async with a_world(chatting(), tmp_path / "one", store) as world:
            await world.chat("mine")
            await world.kept()
        await door.shut()
        async with a_world(chatting(), tmp_path / "two", door.url) as world:
            await world.chat("not mine")
            await door.open()
            async with asyncio.timeout(PATIENCE):
                while "keyset" not in (await readiness(world)).json()["reasons"][0]:
                    await asyncio.sleep(0.05)
            [keys] = await connections.ask([["KEYS", "cp:*:r:*"]])
            assert len(keys) == 1
            assert world.outcomes() == {}
            await door.shut()


async def test_a_new_person_met_on_two_nodes_at_once_has_one_key(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as one, a_world(chatting(), tmp_path, store) as two:
        async with asyncio.TaskGroup() as group:
            for number in range(20):
                who = {"x-chat-subject": f"new {number % 4}", "x-chat-plan": "pro"}
                group.create_task(one.chat("hello", who=who))
                group.create_task(two.chat("hello too", who=who))
        await one.kept()
        rows = await two.kept()
        assert len(rows) == 40
        for row in rows:
            await one.said(row["conversation"])
        for world in (one, two):
            assert world.outcomes() == {"stored": 20}


async def test_what_turns_are_stored_in_batches_after_an_outage_keeps_their_order(
    tmp_path: Path, store: str
) -> None:
    async with gate(store) as door, a_world(chatting(), tmp_path, door.url) as world:
        await door.shut()
        messages: list[dict[str, str]] = []
        for number in range(5):
            messages.append({"role": "user", "content": f"question {number}"})
            answer = await world.chat(messages)
            messages.append(answer.json()["choices"][0]["message"])
        await door.open()
        rows = await world.kept()
        assert len({row["conversation"] for row in rows}) == 1
        said = await world.said(rows[0]["conversation"])
        assert said == [f"{message['role']}: {message['content']}" for message in messages]


async def test_the_damaged_keys_of_one_person_stop_nobody_else_and_are_tried_again_by_the_next_start(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await connections.ask([["SET", keys.subject(world.tag("ana")), "not a hash"]])

        await world.chat("damaged")
        await world.chat("whole", who={"x-chat-subject": "bea", "x-chat-plan": "pro"})

        assert await world.running.all_kept(within=PATIENCE)
        assert world.outcomes() == {"set_aside": 1, "stored": 1}
        await connections.ask([["DEL", keys.subject(world.tag("ana"))]])
    async with a_world(chatting(), tmp_path, store) as world:
        assert len(await world.kept()) == 2
        assert world.outcomes() == {"stored": 1}


async def test_a_disk_that_takes_no_note_of_the_store_keeps_nobody_from_being_kept(
    tmp_path: Path, store: str
) -> None:
    note = tmp_path / "data" / "known-store"
    in_the_way = note.with_suffix(f".{os.getpid()}")
    in_the_way.mkdir(parents=True, mode=0o700)
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello")
        assert len(await world.kept()) == 1
        assert not note.exists()
        in_the_way.rmdir()
        await world.running.vault.health.check()  # as is done every minute
        assert note.exists()


async def test_who_watches_the_store_does_not_end_by_what_nobody_has_foreseen(
    tmp_path: Path, connections: Connections
) -> None:
    broken = True

    async def when_safe() -> None:
        if broken:
            raise ZeroDivisionError

    health = StoreHealth(
        RedisStore(connections),
        clock=wall_clock,
        demands=Demands(allow_volatile=False, in_cluster=False, replicas=0),
        when_safe=when_safe,
    )
    await connections.ask([["SET", keys.control(RING_NAME), "ring"]])
    watching = asyncio.create_task(health.watch())
    async with asyncio.timeout(PATIENCE):
        while "could not be looked at" not in str(health.problem):
            await asyncio.sleep(0.01)
        broken = False
        while health.problem is not None:
            await asyncio.sleep(0.01)
    watching.cancel()
