"""However a client's connection ends, and whenever: the backend is let go, the room is free, and nothing waits.

With both event loops, over real sockets.
"""

import asyncio
import socket
import ssl
import struct
from contextlib import AsyncExitStack, suppress

import pytest
import trustme

from chatproxy.forwarding import Header
from chatproxy.journal.memory import MemoryJournal
from chatproxy.model import Exchange, StreamEnd
from chatproxy.web.client_call import ClientCall
from chatproxy.web.connection import ClientConnection, ClientLimits
from chatproxy.web.server import Listener
from integration.proxy_fixtures import (
    JSON_TYPE,
    LAST_CHUNK,
    OPENAI,
    PATIENCE,
    STREAM_HEAD,
    RawClient,
    chat_bytes,
    chunk,
    endless,
    openai_events,
    openai_reply,
    post,
    raw_client,
    response,
    takes_nothing,
)
from integration.websocket_fixtures import Gate, a_gate, upgrade
from simulators.backend import Peer, Script, answering, backend, ok

GET = b"GET /x HTTP/1.1\r\nHost: chat\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: chat\r\n"
SHORT = ClientLimits(take_timeout=0.3)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


async def nothing(peer: Peer) -> None:
    await peer.read_head()
    await peer.until_gone()


async def beginning(peer: Peer) -> None:
    """Begin to answer, whether the request is whole or not."""
    await peer.read_head()
    await peer.send(STREAM_HEAD + chunk(b"one"))


def a_socket(client: RawClient) -> socket.socket:
    found: socket.socket = client.writer.get_extra_info("socket")
    return found


def reset(client: RawClient) -> None:
    a_socket(client).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def slow_socket(url: str) -> socket.socket:
    """A client of whom the system takes little that he has not read."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
    client.connect((host, int(port)))
    client.setblocking(False)
    return client


async def taken_until_relayed(gate: Gate, client: socket.socket, size: int) -> int:
    """Read as much of an answer as it takes until the backend has given all of it; return how many bytes of ``y``."""
    taken = 0
    while gate.turns.counted("chatproxy_relayed_bytes_total", direction="reply") < size:
        await asyncio.sleep(0)
        with suppress(BlockingIOError):
            taken += client.recv(8_192).count(b"y")
    return taken


async def until_nothing_is_left(gate: Gate) -> None:
    house = gate.listener._house
    while house.connections or house.tasks or gate.listener.connections:
        await asyncio.sleep(0.01)


SAID: dict[str, tuple[bytes, Script]] = {
    "nothing": (b"", nothing),
    "half a head": (b"GET /x HTTP/1.1\r\nHo", nothing),
    "a head and no body": (POST + b"Content-Length: 5\r\n\r\n", nothing),
    "a head, and waits to go on": (POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n", nothing),
    "half a body": (POST + b"Content-Length: 5\r\n\r\nab", nothing),
    "half a chunk": (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", nothing),
    "half a trailer": (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-A", nothing),
    "a request": (GET, nothing),
    "two requests": (GET + GET, nothing),
    "a request that is being answered": (GET, beginning),
    "half a body that is being answered": (POST + b"Content-Length: 5\r\n\r\nab", beginning),
    "a request that was answered": (GET, answering(ok(b"x"))),
    "half a body that was answered": (POST + b"Content-Length: 5\r\n\r\nab", answering(ok(b"x"))),
    "an old request that is being answered": (b"GET /x HTTP/1.0\r\n\r\n", beginning),
    "what is refused": (b"\x00", nothing),
    "a request to switch": (upgrade(), nothing),
    "a request to switch that is answered": (upgrade(), beginning),
}


@pytest.mark.parametrize("said, script", SAID.values(), ids=SAID)
@pytest.mark.parametrize(
    "leave", [reset, lambda client: client.writer.write_eof()], ids=["reset", "half-closed"]
)
async def test_whoever_leaves_leaves_nothing(
    said: bytes, script: Script, leave: object, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(script) as behind,
        a_gate(behind.url) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(said)
        while not gate.listener._house.connections and said != b"\x00":
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        leave(client)  # type: ignore[operator]
        await until_nothing_is_left(gate)
        for peer in behind.connections:
            if not peer.received.startswith(b"GET") or script is not SAID["a request that was answered"][1]:
                await peer.is_gone.wait()
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_who_asks_to_switch_and_takes_nothing_of_another_answer_is_cut() -> None:
    async with (
        asyncio.timeout(PATIENCE),
        backend(endless) as behind,
        a_gate(behind.url, limits=SHORT) as gate,
        raw_client(gate.url) as client,
    ):
        takes_nothing(client)
        await client.send(upgrade())
        peer = await behind.connection(0)
        await peer.is_gone.wait()
        await until_nothing_is_left(gate)


@pytest.mark.parametrize(
    "request_bytes",
    [post("/x", b"{}") + b"\r\n", POST + b"Content-Length: 5\r\n\r\nab"],
    ids=["something behind a body", "an answer before the end of the body"],
)
async def test_an_answer_with_which_a_connection_ends_is_taken_as_slowly_as_others(
    request_bytes: bytes,
) -> None:
    """Longer than last words are waited for."""
    body = b"y" * 1_500_000

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(ok(body))
        await peer.until_gone()

    loop = asyncio.get_running_loop()
    async with asyncio.timeout(PATIENCE), backend(script) as behind, a_gate(behind.url) as gate:
        with slow_socket(gate.url) as client:
            await loop.sock_sendall(client, request_bytes)
            taken = await taken_until_relayed(gate, client, len(body))
            for _ in range(40):
                await asyncio.sleep(0.1)
                taken += (await loop.sock_recv(client, 1_000)).count(b"y")
            while piece := await loop.sock_recv(client, 65_536):
                taken += piece.count(b"y")
        assert taken == len(body)


@pytest.mark.parametrize("way", ["stuck", "stopped"])
async def test_an_old_client_whose_answer_is_cut_sees_that(way: str) -> None:
    """For whom an orderly end would be the end of the answer."""
    limits = SHORT if way == "stuck" else ClientLimits()
    async with (
        asyncio.timeout(PATIENCE),
        backend(endless) as behind,
        a_gate(behind.url, limits=limits) as gate,
        raw_client(gate.url) as client,
    ):
        takes_nothing(client)
        await client.send(b"GET /x HTTP/1.0\r\n\r\n")
        await behind.connection(0)
        if way == "stopped":
            while not any(each.is_write_paused for each in gate.listener._house.connections):
                await asyncio.sleep(0.01)
            gate.listener.cut()
            await gate.listener.stop()
        await until_nothing_is_left(gate)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        with pytest.raises(ConnectionResetError):
            await client.reader.read()


async def test_an_old_client_who_has_not_taken_all_when_the_drain_ends_sees_that() -> None:
    size = 8_000_000

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(STREAM_HEAD + chunk(b"y" * size) + LAST_CHUNK)

    async with asyncio.timeout(PATIENCE), backend(script) as behind, a_gate(behind.url) as gate:
        with slow_socket(gate.url) as client:
            client.send(b"GET /x HTTP/1.0\r\n\r\n")
            [connection] = await one_connection(gate)
            # Otherwise the system may have taken all of it.
            sent_over = connection.transport.get_extra_info("socket")
            sent_over.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
            await taken_until_relayed(gate, client, size)
            assert gate.listener._house.connections
            gate.listener.cut()
            await gate.listener.stop()
            with pytest.raises(ConnectionResetError):
                await read_to_the_end(client)


async def read_to_the_end(client: socket.socket) -> None:
    while await asyncio.get_running_loop().sock_recv(client, 65_536):
        pass


async def test_who_has_not_taken_his_answer_keeps_his_place_and_is_counted() -> None:
    """Closed with something unsent he would stay for as long, and nobody would count him."""
    limits = ClientLimits(connections=1, grace=0)
    body = b"y" * 2_000_000
    async with (
        asyncio.timeout(PATIENCE),
        backend(answering(ok(body), ok(body))) as behind,
        a_gate(behind.url, limits=limits) as gate,
    ):
        first = slow_socket(gate.url)
        first.send(GET)
        [connection] = await one_connection(gate)
        await taken_until_relayed(gate, first, len(body))
        while connection.transport.get_write_buffer_size() < 10_000:
            connection.write(b"z" * 10_000)  # the system may have taken all of it
        async with raw_client(gate.url) as second:
            await second.send(GET)
            assert (await second.answer()).status == 503
        first.close()


async def one_connection(gate: Gate) -> list[ClientConnection]:
    while len(gate.listener._house.connections) != 1:
        await asyncio.sleep(0.01)
    return list(gate.listener._house.connections)


async def test_who_was_let_in_a_moment_ago_is_not_closed_for_another() -> None:
    limits = ClientLimits(connections=1, grace=PATIENCE)
    async with (
        asyncio.timeout(PATIENCE),
        backend(answering(ok(b"1"), ok(b"2"))) as behind,
        a_gate(behind.url, limits=limits) as gate,
        raw_client(gate.url) as first,
    ):
        await one_connection(gate)
        for expected in (b"1", b"2"):
            async with raw_client(gate.url) as second:
                await second.send(GET)
                assert (await second.answer()).status == 503
            await first.send(GET)
            assert (await first.answer()).body == expected


async def test_a_fault_in_one_connection_s_look_leaves_the_others_their_end() -> None:
    class Broken:
        def sweep(self, _: float) -> None:
            raise RuntimeError("a fault of ours")

    async with (
        asyncio.timeout(PATIENCE),
        backend(nothing) as behind,
        a_gate(behind.url, limits=ClientLimits(head_timeout=0.2)) as gate,
        AsyncExitStack() as clients,
    ):
        house = gate.listener._house
        broken = [Broken() for _ in range(3)]
        house.connections.update(broken)  # type: ignore[arg-type]
        # Some of them are looked at before it, and some after.
        for client in [await clients.enter_async_context(raw_client(gate.url)) for _ in range(3)]:
            assert await client.reader.read() == b""
        house.connections.difference_update(broken)


async def test_a_streamed_answer_that_waits_is_whole_for_who_comes_back_to_it() -> None:
    """Pausing goes through to the backend, and back."""
    count = 200

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(STREAM_HEAD)
        for number in range(count):
            await peer.send(chunk(b"%05d" % number + b"z" * 30_000))
        await peer.send(LAST_CHUNK)

    async with (
        asyncio.timeout(PATIENCE),
        backend(script) as behind,
        a_gate(behind.url) as gate,
        raw_client(gate.url) as client,
    ):
        takes_nothing(client, room=16_384)
        await client.send(GET)
        [connection] = await one_connection(gate)
        while not connection.is_write_paused:
            await asyncio.sleep(0.01)
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        answer = await client.answer()
        assert answer.is_whole
        assert len(answer.body) == count * 30_005


async def test_who_does_not_finish_his_handshake_is_closed_like_who_does_not_finish_his_head() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def serve(_: ClientCall) -> None:
        raise AssertionError

    listener = Listener(
        serve,
        host="127.0.0.1",
        port=0,
        setting="X",
        drain_seconds=0,
        limits=ClientLimits(head_timeout=0.2),
        tls=context,
    )
    await listener.start()
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(listener.url.rpartition(":")[2]))
        assert await reader.read() == b""
        writer.close()
    await listener.stop()


# --- faults of ours ---


class Faulty:
    """An announcer that fails at the beginning of a chat, or with the head of its answer, or says what is no header."""

    def __init__(self, when: str) -> None:
        self._when = when

    def begin(self, *_: object, **__: object) -> "Faulty":
        if self._when == "begin":
            raise RuntimeError("a fault of ours")
        return self

    def headers(self) -> list[Header]:
        if self._when == "said":
            return [(b"x-training-eligible", b"?0\r\nx: y")]
        raise RuntimeError("a fault of ours")


class SafeJournal(MemoryJournal):
    """One of which everything survives."""

    async def is_safe(self, _: Exchange) -> bool:
        return True


ANSWERS = {
    "whole": response(openai_reply("yes"), JSON_TYPE),
    "streamed": STREAM_HEAD + b"".join(map(chunk, openai_events("y", "es"))) + LAST_CHUNK,
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("hold_until_safe", [False, True], ids=["", "held"])
@pytest.mark.parametrize("when", ["begin", "head"])
async def test_an_announcement_that_fails_costs_no_chat(
    answer: bytes, when: str, *, hold_until_safe: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.read_request()
            half = len(answer) // 2 if answer.startswith(STREAM_HEAD) else len(answer)
            await peer.send(answer[:half])
            await asyncio.sleep(0)
            await peer.send(answer[half:])

    async with (
        asyncio.timeout(PATIENCE),
        backend(script) as behind,
        a_gate(
            behind.url,
            announcer=Faulty(when),
            hold_until_safe=hold_until_safe,
            journal=SafeJournal(1 << 20),
        ) as gate,
        raw_client(gate.url) as client,
    ):
        for _ in range(2):
            await client.send(post(OPENAI, chat_bytes()))
            found = await client.answer()
            assert (found.status, found.is_whole) == (200, True)
            [turn] = await gate.turns.ended(1)
            assert turn.end is StreamEnd.COMPLETE
            gate.turns.journal.release(turn)
        assert gate.turns.journal.held_bytes == 0
        assert [record.message for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("hold_until_safe", [False, True], ids=["", "held"])
async def test_what_is_no_header_is_not_said_and_lets_nobody_wait(
    answer: bytes, *, hold_until_safe: bool
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    async with (
        asyncio.timeout(PATIENCE),
        backend(answering(answer)) as behind,
        a_gate(
            behind.url,
            announcer=Faulty("said"),
            hold_until_safe=hold_until_safe,
            journal=SafeJournal(1 << 20),
        ) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(post(OPENAI, chat_bytes()))
        found = await client.answer()
        assert (found.status, found.is_whole, found.header(b"x")) in {(500, True, None), (502, True, None)}
        await until_nothing_is_left(gate)
        [turn] = await gate.turns.ended(1)
        assert turn.end is not StreamEnd.COMPLETE


class FaultyJournal(SafeJournal):
    """One that fails in the middle of a copy."""

    def __init__(self, size: int, *, good: int) -> None:
        super().__init__(size)
        self._good = good

    def grow(self, exchange: Exchange, size: int, *, pieces: int) -> bool:
        self._good -= pieces
        if self._good < 0:
            raise RuntimeError("a fault of ours")
        return super().grow(exchange, size, pieces=pieces)


@pytest.mark.parametrize("good", [0, 1, 2, 3])
@pytest.mark.parametrize("hold_until_safe", [False, True], ids=["", "held"])
async def test_a_copy_that_fails_lets_nobody_wait_and_is_closed_once(
    good: int, *, hold_until_safe: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a request in two pieces, and an answer in two."""

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.read(len(chunk(b"{") + chunk(b"}") + LAST_CHUNK))
        await peer.send(STREAM_HEAD + chunk(b"one"))
        await peer.send(chunk(b"two") + LAST_CHUNK)

    head = f"POST {OPENAI} HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    journal = FaultyJournal(1 << 20, good=good)
    async with (
        asyncio.timeout(PATIENCE),
        backend(script) as behind,
        a_gate(
            behind.url, announcer=Faulty("head"), hold_until_safe=hold_until_safe, journal=journal
        ) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(head + chunk(b"{"))
        if good:
            await behind.connection(0)
        await client.send(chunk(b"}") + LAST_CHUNK)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            # With an error, or as far as it went.
            assert (await client.answer()).status == (200 if good > 1 else 500)
        client.close()
        await until_nothing_is_left(gate)
        [turn] = await gate.turns.ended(1)
        assert turn.end is not StreamEnd.COMPLETE
        gate.turns.journal.release(turn)
        assert gate.turns.journal.is_idle
        for peer in behind.connections:
            await peer.is_gone.wait()
        assert [record.message for record in caplog.records if record.levelname == "ERROR"]
