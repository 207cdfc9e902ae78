"""What a client may take of time, room and connections, and that who is merely slow, or waits for a backend, is let be."""

import asyncio
import gc
import ipaddress
import json
import socket
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from chatproxy.web.connection import ClientConnection, ClientLimits
from chatproxy.web.framing import HeadLimits
from chatproxy.web.server import run_event_loop
from chatproxy.web.upstream import UpstreamCall
from integration.desync import SMUGGLED
from integration.proxy_fixtures import (
    LAST_CHUNK,
    PATIENCE,
    STREAM_HEAD,
    chunk,
    endless,
    exchange,
    post,
    raw_client,
    response,
    takes_nothing,
)
from integration.websocket_fixtures import Gate, a_gate
from simulators.backend import Peer, answering, backend, ok

GET = b"GET /x HTTP/1.1\r\nHost: chat\r\n\r\n"
HURRIED = ClientLimits(
    head_timeout=0.3, body_timeout=0.3, body_rate=1 << 20, take_timeout=0.3, idle_timeout=0.3
)
SOON = HURRIED._replace(head_timeout=PATIENCE)


async def nothing(peer: Peer) -> None:
    await peer.until_gone()


def cuts(gate: Gate, reason: str) -> float:
    return gate.turns.counted("chatproxy_client_connections_cut_total", reason=reason)


async def until(condition: object, is_so: object) -> None:
    """Let the loop run until *condition* returns what it should."""
    while condition() != is_so:  # type: ignore[operator]
        await asyncio.sleep(0.01)


# --- time ---


@pytest.mark.parametrize(
    "beginning",
    [b"G", b"GET /x HTTP/1.1\r\n", b"GET /x HTTP/1.1\r\nHost: chat\r\nX-A: ", GET[:-1], b"\r\nGET"],
)
async def test_a_head_that_does_not_become_whole_is_answered_with_408(beginning: bytes) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(nothing) as behind,
        a_gate(behind.url, limits=HURRIED) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(beginning)
        answer = await client.answer()
        assert (answer.status, answer.header(b"connection")) == (408, b"close")
        assert json.loads(answer.body)["error"]["code"] == "request_timeout"
        assert await client.reader.read() == b""
        assert behind.connections == []
        assert cuts(gate, "slow_head") == 1


async def test_bytes_that_keep_coming_do_not_keep_a_head_alive() -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(nothing) as behind,
        a_gate(behind.url, limits=HURRIED) as gate,
        raw_client(gate.url) as client,
    ):

        async def drip() -> None:
            await client.send(b"GET /x HTTP/1.1\r\nHost: chat\r\nX-A: ")
            while True:
                await client.send(b"a")
                await asyncio.sleep(0.02)

        dripping = asyncio.get_running_loop().create_task(drip())
        assert (await client.answer()).status == 408
        dripping.cancel()


async def test_who_says_nothing_is_left_without_a_word() -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(nothing) as behind,
        a_gate(behind.url, limits=HURRIED) as gate,
        raw_client(gate.url) as client,
    ):
        assert await client.reader.read() == b""
        assert cuts(gate, "slow_head") == 0


async def test_a_connection_that_is_not_used_again_is_closed_and_another_request_before_that_is_answered() -> (
    None
):
    async with (
        asyncio.timeout(PATIENCE),
        backend(answering(ok(b"1"), ok(b"2"))) as behind,
        a_gate(behind.url, limits=HURRIED) as gate,
        raw_client(gate.url) as client,
    ):
        for expected in (b"1", b"2"):
            await client.send(GET)
            assert (await client.answer()).body == expected
        assert await client.reader.read() == b""


@pytest.mark.parametrize("framing", [b"Content-Length: 50", b"Transfer-Encoding: chunked"])
async def test_a_body_that_does_not_become_whole_is_answered_with_408_and_never_ended(framing: bytes) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(nothing) as behind,
        a_gate(behind.url, limits=SOON) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(b"POST /x HTTP/1.1\r\nHost: chat\r\n" + framing + b"\r\n\r\n5\r\nhel")
        answer = await client.answer()
        assert (answer.status, answer.header(b"connection")) == (408, b"close")
        peer = await behind.connection(0)
        await peer.is_gone.wait()
        assert not peer.received.endswith(b"0\r\n\r\n")
        assert cuts(gate, "slow_body") == 1


async def test_a_body_gets_time_by_what_has_come_of_it() -> None:
    body = b"x" * 40_000
    limits = SOON._replace(body_rate=4_000)

    async with (
        asyncio.timeout(PATIENCE),
        backend(answering(ok(b"done"))) as behind,
        a_gate(behind.url, limits=limits) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(post("/x", body)[:-1])
        await asyncio.sleep(1)
        await client.send(b"x")
        assert (await client.answer()).body == b"done"
        assert cuts(gate, "slow_body") == 0


async def test_a_body_that_the_backend_takes_slowly_is_not_the_clients_fault() -> None:
    body = b"x" * (16 << 20)
    may_go_on = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await may_go_on.wait()
        await peer.read(len(body))
        await peer.send(ok(b"done"))

    async with (
        asyncio.timeout(PATIENCE),
        backend(script) as behind,
        a_gate(behind.url, limits=SOON._replace(body_rate=1 << 24)) as gate,
        raw_client(gate.url) as client,
    ):
        sending = asyncio.get_running_loop().create_task(client.send(post("/x", body)))
        await behind.connection(0)
        await asyncio.sleep(1)
        may_go_on.set()
        await sending
        assert (await client.answer()).body == b"done"


async def test_a_backend_that_thinks_for_longer_than_any_client_may_is_waited_for() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.pause(0.8)
        await peer.send(STREAM_HEAD + chunk(b"one"))
        await peer.pause(0.8)
        await peer.send(chunk(b"two") + LAST_CHUNK)

    async with (
        asyncio.timeout(PATIENCE),
        backend(script) as behind,
        a_gate(behind.url, limits=HURRIED) as gate,
    ):
        answer = await exchange(gate.url, post("/x", b"{}"))
        assert (answer.pieces, answer.is_whole) == ([b"one", b"two"], True)


async def test_a_client_that_takes_nothing_is_cut_and_little_was_held_for_him() -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(endless) as behind,
        a_gate(behind.url, limits=HURRIED) as gate,
        raw_client(gate.url) as client,
    ):
        takes_nothing(client)
        await client.send(GET)
        peer = await behind.connection(0)
        await peer.is_gone.wait()
        assert cuts(gate, "slow_reader") == 1
        # What the backend could send before it was made to wait: the buffers of two connections.
        assert gate.turns.counted("chatproxy_relayed_bytes_total", direction="reply") < 8 << 20


@asynccontextmanager
async def giving(answer: bytes) -> AsyncIterator[str]:
    """A backend that gives each client *answer* and holds no copy of it, so that what is held is the proxy's."""
    loop = asyncio.get_running_loop()

    async def give(connection: socket.socket) -> None:
        with connection, suppress(ConnectionError):
            await loop.sock_recv(connection, 65_536)
            await loop.sock_sendall(connection, answer)

    async def accept(tasks: asyncio.TaskGroup) -> None:
        while True:
            tasks.create_task(give((await loop.sock_accept(listening))[0]))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        async with asyncio.TaskGroup() as tasks:
            accepting = tasks.create_task(accept(tasks))
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            accepting.cancel()


@pytest.mark.parametrize(
    "head", [ok(b"y" * (4 << 20)), STREAM_HEAD + chunk(b"y" * (4 << 20))], ids=["length", "chunk"]
)
async def test_of_answers_that_nobody_takes_one_reading_each_is_held(head: bytes) -> None:
    many, reading = 8, 256 << 10

    def stuck() -> int:
        """Of how many answers nothing is read, as their clients take nothing."""
        found = gc.get_objects()
        paused = sum(isinstance(each, UpstreamCall) and each._is_read_paused for each in found)
        return min(paused, sum(isinstance(each, ClientConnection) and each.is_write_paused for each in found))

    async with (
        asyncio.timeout(PATIENCE),
        giving(head) as url,
        a_gate(url) as gate,
        AsyncExitStack() as stack,
    ):
        clients = [await stack.enter_async_context(raw_client(gate.url)) for _ in range(many)]
        gc.collect()
        of_others = stuck()
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        for client in clients:
            takes_nothing(client)
            await client.send(GET)
        await until(lambda: stuck() - of_others, many)
        for _ in range(100):
            await asyncio.sleep(0)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < many * reading * 1.5


async def test_a_client_that_reads_slowly_but_does_is_let_be() -> None:
    body = b"y" * 6_000_000
    loop = asyncio.get_running_loop()
    async with (
        asyncio.timeout(PATIENCE),
        backend(answering(ok(body))) as behind,
        a_gate(behind.url, limits=HURRIED._replace(take_timeout=1.0)) as gate,
    ):
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            client.setblocking(False)
            host, _, port = gate.url.removeprefix("http://").rpartition(":")
            await loop.sock_connect(client, (host, int(port)))
            await loop.sock_sendall(client, GET)
            left = len(body)
            for number in range(10_000):
                # Ten small pieces a second, for longer than he may take nothing, and then the rest.
                left -= (await loop.sock_recv(client, 2_000 if number < 25 else 200_000)).count(b"y")
                if number < 25:
                    await asyncio.sleep(0.1)
                if not left:
                    break
        assert left == 0
        assert cuts(gate, "slow_reader") == 0


async def test_a_client_that_does_not_take_the_rest_of_a_whole_answer_is_cut() -> None:
    body = b"y" * (8 << 20)
    async with (
        asyncio.timeout(PATIENCE),
        backend(answering(ok(body))) as behind,
        a_gate(behind.url, limits=HURRIED) as gate,
        raw_client(gate.url) as client,
    ):
        takes_nothing(client)
        await client.send(GET)
        await until(lambda: gate.listener.connections, 1)
        await until(lambda: gate.listener.connections, 0)
        assert cuts(gate, "slow_reader") == 1


# --- size ---

SMALL = ClientLimits(HeadLimits(head=2_000, field=1_000, fields=10, target=200, body=1_000))
TOO_MUCH = {
    "a target": (b"GET /" + b"t" * 200 + b" HTTP/1.1\r\nHost: chat\r\n\r\n", 414, "target_too_long"),
    "a target without end": (b"GET /" + b"t" * 400, 414, "target_too_long"),
    "a header": (b"GET /x HTTP/1.1\r\nHost: chat\r\nX: " + b"y" * 1_000 + b"\r\n\r\n", 431, "headers_too_large"),
    "all headers": (
        b"GET /x HTTP/1.1\r\nHost: chat\r\n" + (b"X: " + b"y" * 400 + b"\r\n") * 6 + b"\r\n", 431, "headers_too_large"
    ),
    "headers without end": (b"GET /x HTTP/1.1\r\nHost: chat\r\nX: " + b"y" * 3_000, 431, "headers_too_large"),
    "many headers": (b"GET /x HTTP/1.1\r\nHost: chat\r\n" + b"X: y\r\n" * 10 + b"\r\n", 431, "too_many_headers"),
    "a body": (post("/x", b"z" * 1_001), 413, "body_too_large"),
    "a body that is only announced": (
        b"POST /x HTTP/1.1\r\nHost: chat\r\nContent-Length: 1001\r\n\r\n", 413, "body_too_large"
    ),
    "a body that is expected": (
        b"POST /x HTTP/1.1\r\nHost: chat\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n", 413, "body_too_large"
    ),
    "chunks": (
        b"POST /x HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"z" * 500) * 3, 413, "body_too_large"
    ),
    "an extension": (
        b"POST /x HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n5;" + b"a" * 256 + b"\r\nhello\r\n0\r\n\r\n",
        400,
        "bad_chunk",
    ),
}  # fmt: skip


@pytest.mark.parametrize("request_bytes, status, code", TOO_MUCH.values(), ids=TOO_MUCH)
async def test_what_is_too_much_is_told_so(request_bytes: bytes, status: int, code: str) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(nothing) as behind,
        a_gate(behind.url, limits=SMALL) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(request_bytes)
        answer = await client.answer()
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (status, code)
        assert answer.header(b"connection") == b"close"
        assert await client.reader.read() == b""
        assert gate.turns.counted("chatproxy_failures_total", code=code) == 1
        for peer in behind.connections:
            await peer.is_gone.wait()
            assert not peer.received.endswith(b"0\r\n\r\n")


JUST_ENOUGH = {
    "a target": b"GET /" + b"t" * 199 + b" HTTP/1.1\r\nHost: chat\r\n\r\n",
    "a header": b"GET /x HTTP/1.1\r\nHost: chat\r\nX: " + b"y" * 997 + b"\r\n\r\n",
    "many headers": b"GET /x HTTP/1.1\r\nHost: chat\r\n" + b"X: y\r\n" * 9 + b"\r\n",
    "a body": post("/x", b"z" * 1_000),
    "chunks": b"POST /x HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n"
    + chunk(b"z" * 500) * 2
    + LAST_CHUNK,
    "an extension": b"POST /x HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n5;"
    + b"a" * 255
    + b"\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", JUST_ENOUGH.values(), ids=JUST_ENOUGH)
async def test_what_is_just_not_too_much_passes(request_bytes: bytes) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(answering(ok(b"done"))) as behind,
        a_gate(behind.url, limits=SMALL) as gate,
    ):
        assert (await exchange(gate.url, request_bytes)).body == b"done"


@pytest.mark.parametrize("fields", [100, 1_000, 20_000])
async def test_headers_without_number_are_refused_by_the_limits_that_are_built_in(fields: int) -> None:
    async with backend(nothing) as behind, a_gate(behind.url) as gate:
        request = b"GET /x HTTP/1.1\r\nHost: chat\r\n" + b"X: y\r\n" * fields + b"\r\n"
        assert (await exchange(gate.url, request)).status == 431
        assert behind.connections == []


async def test_small_chunks_without_number_are_refused() -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(nothing) as behind,
        a_gate(behind.url) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(b"POST /x HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n")
        sending = asyncio.get_running_loop().create_task(client.send(b"1\r\na\r\n" * 100_000))
        answer = await client.answer()
        assert json.loads(answer.body)["error"]["code"] == "too_many_chunks"
        sending.cancel()


# --- connections ---


async def test_where_there_is_no_room_the_one_who_waits_longest_goes() -> None:
    limits = ClientLimits(connections=3, grace=0)
    async with (
        asyncio.timeout(PATIENCE),
        backend(answering(ok(b"1"))) as behind,
        a_gate(behind.url, limits=limits) as gate,
        raw_client(gate.url) as first,
        raw_client(gate.url) as second,
        raw_client(gate.url) as third,
    ):
        await until(lambda: gate.listener.connections, 3)
        await second.send(b"GET /half")
        async with raw_client(gate.url) as fourth:
            assert await first.reader.read() == b""
            await fourth.send(GET)
            assert (await fourth.answer()).body == b"1"
        assert cuts(gate, "no_room") == 1
        assert not second.reader.at_eof()
        assert not third.reader.at_eof()


@pytest.mark.parametrize(
    "limits, status",
    [
        (ClientLimits(connections=2, connections_of_one=2_000), 503),
        (ClientLimits(connections=2_000, connections_of_one=2), 429),
    ],
    ids=["in all", "of one"],
)
async def test_where_all_are_at_work_who_comes_is_told_to_wait(limits: ClientLimits, status: int) -> None:
    may_answer = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await may_answer.wait()
        await peer.send(ok(b"done"))

    async with (
        asyncio.timeout(PATIENCE),
        backend(script) as behind,
        a_gate(behind.url, limits=limits) as gate,
        raw_client(gate.url) as one,
        raw_client(gate.url) as two,
    ):
        for number, client in enumerate((one, two)):
            await client.send(GET)
            await behind.connection(number)
        for _ in range(3):
            answer = await exchange(gate.url, post("/v1/messages", b"{}"))
            assert (answer.status, answer.header(b"retry-after")) == (status, b"10")
            assert json.loads(answer.body)["error"]["code"] == "too_many_connections"
        may_answer.set()
        for client in (one, two):
            assert (await client.answer()).body == b"done"
        assert gate.listener.connections == 2


def at_the_door(gate: Gate, count: int, request: bytes = b"") -> list[socket.socket]:
    """Clients whom the system has connected, and who have sent *request*, before the gate could see any of them."""
    host, port = gate.url.removeprefix("http://").split(":")
    clients = [socket.create_connection((host, int(port))) for _ in range(count)]
    for client in clients:
        client.sendall(request)
        client.settimeout(0)
    return clients


def test_many_who_come_at_once_are_let_in_within_a_few_rounds_of_the_loop() -> None:
    """Of the loop that serves, whose own way is one a round."""

    async def rounds() -> int:
        async with asyncio.timeout(PATIENCE), backend(nothing) as behind, a_gate(behind.url) as gate:
            clients = at_the_door(gate, 200)
            count = 0
            while gate.listener.connections < len(clients):
                await asyncio.sleep(0)
                count += 1
            for client in clients:
                client.close()
            return count

    assert run_event_loop(rounds()) <= 20


async def test_who_has_sent_a_request_is_answered_or_told_that_there_is_no_room() -> None:
    """Also where all came at once, so that nobody had been heard when there was no room any more."""
    loop = asyncio.get_running_loop()
    async with (
        asyncio.timeout(PATIENCE),
        backend(answering(ok(b"1"))) as behind,
        a_gate(behind.url, limits=ClientLimits(connections=3)) as gate,
    ):
        clients = at_the_door(gate, 7, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        statuses = []
        for client in clients:
            answer = b""
            while piece := await loop.sock_recv(client, 65_536):
                answer += piece
            statuses.append(answer[9:12])
            client.close()
        assert sorted(statuses) == [b"200"] * 3 + [b"503"] * 4
        assert cuts(gate, "no_room") == 4


@pytest.mark.parametrize(
    "before, then, said",
    [(b"", GET, {b"200", b"503"}), (b"GET /half", b" HTTP", {b"200"})],
    ids=["a request that came meanwhile", "a piece of a head"],
)
async def test_who_comes_does_not_displace_whose_request_is_not_read_yet(
    before: bytes, then: bytes, said: set[bytes]
) -> None:
    """But one who sends a head in pieces."""
    loop = asyncio.get_running_loop()
    async with (
        asyncio.timeout(PATIENCE),
        backend(answering(ok(b"1"), ok(b"1"))) as behind,
        a_gate(behind.url, limits=ClientLimits(connections=1, grace=0)) as gate,
    ):
        [first] = at_the_door(gate, 1, before)
        await until(lambda: gate.listener.connections, 1)
        for _ in range(20):
            await asyncio.sleep(0)
        [second] = at_the_door(gate, 1, GET)
        first.sendall(then)
        answers = [await loop.sock_recv(client, 65_536) for client in (first, second)]
        assert {answer[9:12] for answer in answers if answer} == said
        for client in (first, second):
            client.close()


async def test_nobody_gives_way_from_when_his_request_has_come_until_it_is_read() -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(nothing) as behind,
        a_gate(behind.url, limits=ClientLimits(grace=0)) as gate,
    ):
        [client] = at_the_door(gate, 1)
        await until(lambda: gate.listener.connections, 1)
        [connection] = [
            each
            for each in gc.get_objects()
            if isinstance(each, ClientConnection) and each.client == client.getsockname()
        ]
        assert connection.may_give_way()
        client.sendall(GET)
        assert not connection.may_give_way()
        await behind.connection(0)
        assert connection.may_give_way()
        client.close()


async def test_who_has_gone_leaves_room() -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(answering(*[ok(b"x")] * 20)) as behind,
        a_gate(behind.url, limits=ClientLimits(connections=1)) as gate,
    ):
        for _ in range(20):
            assert (await exchange(gate.url, GET)).body == b"x"
            await until(lambda: gate.listener.connections, 0)


async def test_a_front_may_have_as_many_as_there_are() -> None:
    async with AsyncExitStack() as closing:
        behind = await closing.enter_async_context(backend(nothing))
        gate = await closing.enter_async_context(
            a_gate(
                behind.url,
                limits=ClientLimits(connections_of_one=2),
                fronts=[ipaddress.ip_network("127.0.0.0/8")],
            )
        )
        for number in range(5):
            client = await closing.enter_async_context(raw_client(gate.url))
            await client.send(GET)
            await behind.connection(number)
        assert gate.listener.connections == 5


# --- how it ends ---


async def test_a_refusal_is_read_by_a_client_that_still_sends() -> None:
    loop = asyncio.get_running_loop()
    async with (
        asyncio.timeout(PATIENCE),
        backend(nothing) as behind,
        a_gate(behind.url, limits=SMALL) as gate,
    ):
        with socket.socket() as client:
            client.setblocking(False)
            host, _, port = gate.url.removeprefix("http://").rpartition(":")
            await loop.sock_connect(client, (host, int(port)))
            await loop.sock_sendall(
                client, b"POST /x HTTP/1.1\r\nHost: chat\r\nContent-Length: 3000000\r\n\r\n"
            )
            for _ in range(30):
                await loop.sock_sendall(client, b"z" * 100_000)
                await asyncio.sleep(0)
            assert (await loop.sock_recv(client, 100)).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("expects", [b"", b"Expect: 100-continue\r\n"], ids=["plain", "expecting"])
async def test_an_answer_before_the_request_is_whole_is_the_last_one(expects: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(response(b"no", status=b"401 Unauthorized"))

    async with (
        asyncio.timeout(PATIENCE),
        backend(script) as behind,
        a_gate(behind.url) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(b"POST /x HTTP/1.1\r\nHost: chat\r\nContent-Length: 38\r\n" + expects + b"\r\n")
        if expects:
            assert (await client.head()).status == 100
        await client.send(b"z")
        answer = await client.answer()
        assert (answer.status, answer.header(b"connection")) == (401, b"close")
        await client.send(SMUGGLED)
        assert await client.reader.read() == b""
        assert len(behind.connections) == 1


async def test_an_answer_that_began_before_the_request_was_whole_is_the_last_one_though_it_is_whole_now() -> (
    None
):
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(STREAM_HEAD + chunk(b"one"))
        await peer.read(2)
        await peer.send(LAST_CHUNK)

    async with (
        asyncio.timeout(PATIENCE),
        backend(script) as behind,
        a_gate(behind.url) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(b"POST /x HTTP/1.1\r\nHost: chat\r\nContent-Length: 2\r\n\r\na")
        assert (await client.head()).header(b"connection") == b"close"
        await client.send(b"b")
        assert [await client.chunk(), await client.chunk()] == [b"one", b""]
        assert await client.reader.read() == b""


async def test_http_1_0_gets_an_answer_that_ends_with_the_connection_and_no_chunks() -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(answering(STREAM_HEAD + chunk(b"one") + chunk(b"two") + LAST_CHUNK)) as behind,
        a_gate(behind.url) as gate,
    ):
        answer = await exchange(gate.url, b"GET /x HTTP/1.0\r\n\r\n")
        assert (answer.header(b"transfer-encoding"), answer.header(b"connection")) == (None, b"close")
        assert answer.body == b"onetwo"


async def test_an_answer_in_http_1_0_that_is_cut_is_seen_to_be_cut() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(STREAM_HEAD + chunk(b"one"))
        peer.close()

    async with (
        asyncio.timeout(PATIENCE),
        backend(script) as behind,
        a_gate(behind.url) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(b"GET /x HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await client.reader.read()


async def test_a_host_that_is_not_served_is_told_so_where_hosts_are_named() -> None:
    limits = ClientLimits(HeadLimits(hosts=frozenset({b"chat.example.com"})))
    async with (
        asyncio.timeout(PATIENCE),
        backend(answering(ok(b"done"), ok(b"done"))) as behind,
        a_gate(behind.url, limits=limits) as gate,
    ):
        for host, status in (
            (b"CHAT.example.com:8080", 200),
            (b"evil", 421),
            (b"chat.example.com.evil", 421),
        ):
            answer = await exchange(gate.url, b"GET /x HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
            assert answer.status == status


async def test_a_delete_with_a_body_is_refused_where_chats_are_taken() -> None:
    async with asyncio.timeout(PATIENCE), backend(nothing) as behind, a_gate(behind.url) as gate:
        request = post("/v1/chat/completions", b"{}").replace(b"POST", b"DELETE", 1)
        answer = await exchange(gate.url, request)
        assert (answer.status, json.loads(answer.body)["error"]["code"]) == (400, "unexpected_body")
        assert behind.connections == []


async def test_forwarded_headers_pass_as_they_came_and_mean_nothing() -> None:
    lines = (
        b"X-Forwarded-For: 203.0.113.9, 127.0.0.1",
        b"X-Forwarded-Host: evil",
        b"X-Forwarded-Proto: https",
        b"Forwarded: for=203.0.113.9;host=evil",
        b"X-Real-IP: 203.0.113.9",
    )
    async with (
        asyncio.timeout(PATIENCE),
        backend(answering(ok(b"done"))) as behind,
        a_gate(behind.url, trusted="203.0.113.9") as gate,
    ):
        request = post("/x", b"{}", *lines, b"X-Chat-Subject: ana")
        assert (await exchange(gate.url, request)).body == b"done"
        received = bytes(behind.connections[0].received)
        host, *rest = received.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        assert host == b"host: " + behind.address.authority
        assert [line.lower() for line in rest if b"orward" in line or b"real-ip" in line] == [
            line.lower() for line in lines
        ]
        assert gate.turns.counted("chatproxy_identity_rejected_total", reason="untrusted_peer") == 1


async def test_nothing_is_left_of_connections_that_ended_badly() -> None:
    requests = [request for request, *_ in TOO_MUCH.values()]
    async with (
        asyncio.timeout(PATIENCE),
        backend(endless) as behind,
        a_gate(behind.url, limits=SMALL._replace(take_timeout=0.3)) as gate,
    ):
        for request in (b"get / HTTP/1.1\r\n\r\n", b"\x16\x03", *requests):
            await exchange(gate.url, request)
        for _ in range(3):
            async with raw_client(gate.url) as client:
                takes_nothing(client)
                await client.send(GET + b"surplus")
                await until(lambda: gate.listener.connections, 1)
                await until(lambda: gate.listener.connections, 0)
        while any(isinstance(each, ClientConnection) for each in gc.get_objects()):
            await asyncio.sleep(0.01)
            gc.collect()


async def test_who_expects_to_go_on_and_goes_on_wrongly_gets_one_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with asyncio.timeout(PATIENCE), backend(nothing) as behind, a_gate(behind.url) as gate:
        request = (
            b"POST /x HTTP/1.1\r\nHost: chat\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\nx"
        )
        async with raw_client(gate.url) as client:
            await client.send(request + b"\r\n")
            assert (await client.answer()).status == 400
            assert await client.reader.read() == b""
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


# --- the end of the server ---


async def test_who_has_connected_and_is_not_heard_yet_when_the_drain_begins_is_answered() -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(answering(ok(b"yes"))) as behind,
        a_gate(behind.url, drain_seconds=PATIENCE) as gate,
        raw_client(gate.url) as client,
    ):
        await until(lambda: gate.listener.connections, 1)
        stopping = asyncio.ensure_future(gate.listener.stop())
        await asyncio.sleep(0)
        await client.send(GET)

        answer = await client.answer()
        assert (answer.status, answer.header(b"connection")) == (200, b"close")
        await stopping


async def test_a_request_that_is_not_whole_when_the_drain_begins_is_the_last_one() -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(answering(ok(b"yes"))) as behind,
        a_gate(behind.url, drain_seconds=PATIENCE) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(b"POST /x HTTP/1.1\r\nHost: chat\r\nContent-Length: 2\r\n\r\na")
        await behind.connection(0)
        stopping = asyncio.ensure_future(gate.listener.stop())
        await asyncio.sleep(0)
        await client.send(b"b")

        answer = await client.answer()
        assert (answer.status, answer.header(b"connection")) == (200, b"close")
        await stopping


async def test_who_has_connected_and_says_nothing_does_not_hold_up_the_drain() -> None:
    patient = ClientLimits(head_timeout=10 * PATIENCE)
    async with (
        asyncio.timeout(PATIENCE),
        backend(nothing) as behind,
        a_gate(behind.url, drain_seconds=10 * PATIENCE, limits=patient) as gate,
        raw_client(gate.url),
    ):
        await until(lambda: gate.listener.connections, 1)
        await gate.listener.stop()
