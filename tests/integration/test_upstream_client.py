"""The client of the byte path against an upstream made of sockets: what goes out, what comes back, when it ends."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from chatproxy.forwarding import Framing, Header, RefusedRequestError, ResponseHead, UpstreamAddress
from chatproxy.web.upstream import (
    Upstream,
    UpstreamAbortedError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from simulators.backend import Peer, answering, backend, ok
from simulators.reader import Reader, start

HOST: Header = (b"host", b"chat.internal")
CHUNKED_OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PATIENCE = 20.0
LARGE = 8 * 1024 * 1024
"""More than the buffers of two sockets and of the client hold."""


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@asynccontextmanager
async def upstream(
    address: UpstreamAddress,
    *,
    connect_timeout: float = 5.0,
    head_timeout: float = 30.0,
    idle_timeout: float = 30.0,
    idle_expiry: float = 30.0,
) -> AsyncIterator[Upstream]:
    client = Upstream(
        address,
        connect_timeout=connect_timeout,
        head_timeout=head_timeout,
        idle_timeout=idle_timeout,
        idle_expiry=idle_expiry,
    )
    try:
        yield client
    finally:
        await client.aclose()


async def get(client: Upstream, method: bytes = b"GET") -> Reader:
    return await start(client, method, b"/", [HOST], length=0)


async def post(client: Upstream, body: bytes, *, length: int | None, more_body: bool = False) -> Reader:
    framing = (b"transfer-encoding", b"chunked") if length is None else (b"content-length", b"%d" % length)
    return await start(
        client,
        b"POST",
        b"/v1/chat/completions",
        [HOST, framing],
        length=length,
        body=body,
        more_body=more_body,
    )


async def body_of(call: Reader) -> bytes:
    await call.head()
    pieces = []
    more = True
    while more:
        piece, more = await call.read()
        pieces.append(piece)
    return b"".join(pieces)


async def answers(client: Upstream, method: bytes = b"GET") -> bytes:
    return await body_of(await get(client, method))


async def time_passes(client: Upstream) -> None:
    """Wait until a timeout of *client* has passed, by meeting one."""
    async with (
        backend(answering()) as silent,
        upstream(silent.address, head_timeout=4 * client.head_timeout) as other,
    ):
        with pytest.raises(UpstreamTimeoutError):
            await answers(other)


class Failing:
    """Cannot take what it is told."""

    def begun(self, head: ResponseHead) -> None:
        raise ArithmeticError(head.status)

    def body(self, pieces: Sequence[bytes], *, more_body: bool) -> None:
        raise ArithmeticError(len(pieces), more_body)


@pytest.mark.parametrize("answer", [ok(b"yes"), CHUNKED_OK, CHUNKED_OK + b"0\r\n\r\n"], ids=repr)
async def test_nobody_waits_for_ever_for_an_answer_that_who_is_told_of_it_cannot_take(answer: bytes) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _, context: None)
    async with backend(answering(answer)) as server, upstream(server.address) as client:
        call = await client.start(b"GET", b"/", [HOST], Failing(), length=0)

        async with asyncio.timeout(PATIENCE):
            with suppress(UpstreamAbortedError):
                await call.whole()


class TestWhatGoesOut:
    async def test_head_and_body_go_out_as_given(self) -> None:
        headers = [HOST, (b"x-a", b" \xff "), (b"x-a", b""), (b"content-length", b"4")]
        async with backend(answering(ok(b"yes"))) as server, upstream(server.address) as client:
            call = await start(client, b"PATCH", b"/a//b?c=%20&d", headers, length=4, body=b"\0\r\n\xff")

            assert await body_of(call) == b"yes"
        assert bytes(server.connections[0].received) == (
            b"PATCH /a//b?c=%20&d HTTP/1.1\r\nhost: chat.internal\r\nx-a:  \xff \r\nx-a: \r\ncontent-length: 4\r\n\r\n"
            b"\0\r\n\xff"
        )

    async def test_a_body_of_unknown_length_goes_out_in_its_own_chunks(self) -> None:
        async with backend(answering(ok(b""))) as server, upstream(server.address) as client:
            call = await post(client, b"one", length=None, more_body=True)
            call.write(b"", more_body=True)
            call.write(b"x" * 16, more_body=True)
            call.write(b"last", more_body=False)

            await body_of(call)
        _, _, body = bytes(server.connections[0].received).partition(b"\r\n\r\n")
        assert body == b"3\r\none\r\n10\r\n" + b"x" * 16 + b"\r\n4\r\nlast\r\n0\r\n\r\n"

    async def test_an_end_without_bytes_ends_the_chunks(self) -> None:
        async with backend(answering(ok(b""))) as server, upstream(server.address) as client:
            call = await post(client, b"", length=None, more_body=True)
            call.write(b"a", more_body=True)
            call.write(b"", more_body=False)

            await body_of(call)
        assert bytes(server.connections[0].received).endswith(b"\r\n\r\n1\r\na\r\n0\r\n\r\n")

    async def test_a_piece_of_the_body_arrives_before_the_next_is_there(self) -> None:
        first_arrived = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.read_head()
            await peer.read(3)
            first_arrived.set()
            await peer.read(3)
            await peer.send(ok(b"done"))

        async with backend(script) as server, upstream(server.address) as client:
            call = await post(client, b"abc", length=6, more_body=True)
            await first_arrived.wait()
            call.write(b"def", more_body=False)

            assert await body_of(call) == b"done"

    async def test_a_body_that_reached_its_length_is_sent_even_if_its_end_is_told_later(self) -> None:
        async with backend(answering(ok(b"a"), ok(b"b"))) as server, upstream(server.address) as client:
            call = await post(client, b"abc", length=3, more_body=True)

            assert await body_of(call) == b"a"
            call.write(b"", more_body=False)
            assert await answers(client) == b"b"
            assert len(server.connections) == 1

    @pytest.mark.parametrize("body, length", [(b"abcd", 3), (b"ab", 3), (b"a", 0)])
    async def test_a_body_of_another_length_than_announced_sends_nothing(
        self, body: bytes, length: int
    ) -> None:
        async with backend(answering()) as server, upstream(server.address) as client:
            with pytest.raises(RefusedRequestError) as refused:
                await post(client, body, length=length)

            assert refused.value.code == "body_length"

    @pytest.mark.parametrize("piece", [b"b", b"bcd"])
    async def test_a_body_that_turns_out_to_have_another_length_ends_the_connection(
        self, piece: bytes
    ) -> None:
        async with backend(Peer.until_gone) as server, upstream(server.address) as client:
            call = await post(client, b"a", length=3, more_body=True)

            with pytest.raises(RefusedRequestError):
                call.write(piece, more_body=False)
            peer = await server.connection(0)
            await peer.is_gone.wait()
            assert peer.received.endswith(b"\r\n\r\na")

    @pytest.mark.parametrize("value", [b"a\r\nX-B: b", b"a\nX-B: b", b"a\rX-B: b"])
    async def test_a_line_break_in_a_header_sends_nothing(self, value: bytes) -> None:
        async with backend(answering()) as server, upstream(server.address) as client:
            with pytest.raises(RefusedRequestError):
                await start(client, b"GET", b"/", [HOST, (b"x-a", value)], length=0)

            assert server.connections == []

    @pytest.mark.parametrize(
        "method, target", [(b"GET / HTTP/1.1\r\nX: y\r\n\r\nGET", b"/"), (b"GET", b"/\r\nX: y")]
    )
    async def test_a_line_break_in_the_request_line_sends_nothing(self, method: bytes, target: bytes) -> None:
        async with backend(answering()) as server, upstream(server.address) as client:
            with pytest.raises(RefusedRequestError):
                await start(client, method, target, [HOST], length=0)

            assert server.connections == []

    async def test_a_full_upstream_makes_the_sender_wait(self) -> None:
        may_read = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.read_head()
            await may_read.wait()
            await peer.read(LARGE)
            await peer.send(ok(b"done"))

        async with backend(script) as server, upstream(server.address) as client:
            call = await post(client, b"x" * (LARGE - 1), length=LARGE, more_body=True)
            draining = asyncio.ensure_future(call.drain())
            await asyncio.sleep(0)
            assert not draining.done()

            may_read.set()
            assert await draining
            call.write(b"x", more_body=False)
            assert not await call.drain()
            assert await body_of(call) == b"done"


class TestWhatComesBack:
    async def test_each_piece_is_handed_on_before_the_next_is_sent(self) -> None:
        pieces = [b"data: %d\n\n" % number for number in range(20)]
        handed_on = asyncio.Semaphore(0)

        async def script(peer: Peer) -> None:
            await peer.read_request()
            await peer.send(CHUNKED_OK)
            for piece in pieces:
                await handed_on.acquire()
                await peer.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            await handed_on.acquire()
            await peer.send(b"0\r\n\r\n")

        async with backend(script) as server, upstream(server.address) as client:
            call = await get(client)
            await call.head()

            for piece in pieces:
                handed_on.release()
                assert await call.read() == (piece, True)
            handed_on.release()
            assert await call.read() == (b"", False)

    async def test_the_last_piece_says_that_it_is_the_last(self) -> None:
        async with backend(answering(ok(b"all"))) as server, upstream(server.address) as client:
            call = await get(client)
            await call.head()

            assert await call.read() == (b"all", False)

    async def test_pieces_that_arrive_together_stay_apart(self) -> None:
        script = answering(CHUNKED_OK + b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n")
        async with backend(script) as server, upstream(server.address) as client:
            call = await get(client)
            await call.head()

            assert [await call.read(), await call.read()] == [(b"a", True), (b"bc", False)]

    async def test_headers_that_only_chatproxy_may_set_do_not_come_back(self) -> None:
        async with backend(answering(ok(b"", b"X-Chat-Turn: forged", b"X-A: a"))) as server:
            drop = frozenset((b"x-chat-turn",))
            client = Upstream(server.address, connect_timeout=5, head_timeout=5, idle_timeout=5, drop=drop)
            call = await get(client)

            assert (await call.head()).headers == [(b"Content-Length", b"0"), (b"X-A", b"a")]
            await client.aclose()

    async def test_the_end_may_be_asked_for_again(self) -> None:
        async with backend(answering(ok(b""))) as server, upstream(server.address) as client:
            call = await get(client)

            assert [await body_of(call), await call.read(), (await call.head()).status] == [
                b"",
                (b"", False),
                200,
            ]

    async def test_informational_answers_are_passed_over(self) -> None:
        script = answering(b"HTTP/1.1 100 Continue\r\n\r\n" + ok(b"final"))
        async with backend(script) as server, upstream(server.address) as client:
            assert await answers(client) == b"final"

    async def test_a_redirect_is_an_answer(self) -> None:
        moved = b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
        async with backend(answering(moved)) as server, upstream(server.address) as client:
            call = await get(client)

            assert (await call.head()).status == 302
            assert len(server.connections) == 1

    async def test_a_body_without_length_ends_with_the_connection(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.read_request()
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\nto the end")
            peer.close()

        async with backend(script) as server, upstream(server.address) as client:
            call = await get(client)

            assert await body_of(call) == b"to the end"
            assert (await call.head()).framing is Framing.CLOSE

    async def test_a_reset_is_not_the_end_of_a_body_without_length(self) -> None:
        may_reset = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.read_request()
            await peer.send(b"HTTP/1.1 200 OK\r\n\r\nsome")
            await may_reset.wait()
            peer.reset()

        async with backend(script) as server, upstream(server.address) as client:
            call = await get(client)
            await call.head()
            assert await call.read() == (b"some", True)
            may_reset.set()

            with pytest.raises(UpstreamAbortedError):
                await call.read()

    async def test_closing_the_client_is_not_the_end_of_a_body_without_length(self) -> None:
        async with (
            backend(answering(b"HTTP/1.1 200 OK\r\n\r\nsome")) as server,
            upstream(server.address) as client,
        ):
            call = await get(client)
            await call.head()
            await call.read()
            await client.aclose()

            with pytest.raises(UpstreamAbortedError):
                await call.read()

    @pytest.mark.parametrize("ending", [Peer.close, Peer.reset])
    @pytest.mark.parametrize(
        "answer",
        [CHUNKED_OK + b"4\r\nsome\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome"],
        ids=["chunked", "length"],
    )
    async def test_what_arrived_of_a_cut_answer_comes_before_the_error(
        self, answer: bytes, ending: Callable[[Peer], None]
    ) -> None:
        arrived = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.read_request()
            await peer.send(answer)
            await arrived.wait()
            ending(peer)

        async with backend(script) as server, upstream(server.address) as client:
            call = await get(client)
            await call.head()
            arrived.set()
            await server.connections[0].is_gone.wait()

            assert await call.read() == (b"some", True)
            for _ in range(2):
                with pytest.raises(UpstreamAbortedError):
                    await call.read()

    async def test_what_was_good_of_a_broken_answer_comes_before_the_error(self) -> None:
        script = answering(CHUNKED_OK + b"4\r\ngood\r\nzz\r\n")
        async with backend(script) as server, upstream(server.address) as client:
            call = await get(client)

            assert (await call.head()).status == 200
            assert await call.read() == (b"good", True)
            with pytest.raises(UpstreamProtocolError):
                await call.read()
            await server.connections[0].is_gone.wait()

    async def test_a_head_that_is_refused_closes_the_connection(self) -> None:
        script = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na")
        async with backend(script) as server, upstream(server.address) as client:
            call = await get(client)

            with pytest.raises(UpstreamProtocolError):
                await call.head()
            with pytest.raises(UpstreamProtocolError):
                await call.read()
            await server.connections[0].is_gone.wait()

    async def test_a_slow_reader_makes_the_upstream_wait_and_that_is_no_timeout(self) -> None:
        is_blocked = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.read_request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (4 * LARGE))
            for _ in range(4):
                sending = asyncio.ensure_future(peer.send(b"x" * LARGE))
                done, _ = await asyncio.wait((sending,), timeout=0.3)
                if not done:
                    is_blocked.set()
                await sending

        async with backend(script) as server, upstream(server.address, idle_timeout=0.05) as client:
            call = await get(client)
            await call.head()
            await is_blocked.wait()

            assert len(await body_of(call)) == 4 * LARGE

    async def test_an_early_error_stops_the_sender_and_ends_the_connection(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.read_head()
            await peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")

        async with backend(script) as server, upstream(server.address) as client:
            call = await post(client, b"x", length=LARGE, more_body=True)

            wanted_before = call.wants_body
            assert (await call.head()).status == 413
            assert (wanted_before, call.wants_body) == (True, False)
            call.write(b"y" * 1000, more_body=True)
            assert not await call.drain()
            assert await call.read() == (b"big", False)
            await server.connections[0].is_gone.wait()
        assert server.connections[0].received.endswith(b"\r\n\r\nx")

    async def test_an_upstream_that_was_made_to_wait_has_its_time_once_it_may_go_on(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.read_request()
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome")
            await peer.until_gone()

        async with backend(script) as server, upstream(server.address, idle_timeout=0.2) as client:
            call = await get(client)
            await call.head()
            call.pause_reading()
            call.resume_reading()
            assert await call.read() == (b"some", True)

            with pytest.raises(UpstreamTimeoutError):
                await call.read()

    async def test_an_early_error_wakes_a_sender_that_waits(self) -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            address = UpstreamAddress.parse(f"http://127.0.0.1:{listening.getsockname()[1]}")
            async with asyncio.timeout(10), upstream(address) as client:
                call = await post(client, b"x" * 4 * LARGE, length=8 * LARGE, more_body=True)
                taken, _ = await loop.sock_accept(listening)
                with taken:
                    draining = asyncio.ensure_future(call.drain())
                    await asyncio.sleep(0)
                    await loop.sock_sendall(taken, b"HTTP/1.1 503 Busy\r\nContent-Length: 100\r\n\r\n")

                    assert not await draining
                    call.abort()

    async def test_an_answer_may_begin_while_the_request_is_sent(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.read_head()
            await peer.send(CHUNKED_OK)
            for _ in range(3):
                echo = await peer.read(6)
                await peer.send(echo)
            await peer.read(5)
            await peer.send(b"0\r\n\r\n")

        async with backend(script) as server, upstream(server.address) as client:
            call = await post(client, b"", length=None, more_body=True)
            await call.head()

            for piece in (b"a", b"b", b"c"):
                assert await call.drain()
                call.write(piece, more_body=True)
                assert await call.read() == (piece, True)
            call.write(b"", more_body=False)
            assert await call.read() == (b"", False)

    async def test_a_whole_answer_before_the_whole_request_ends_the_connection(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.read_head()
            await peer.send(ok(b"enough"))

        async with backend(script) as server, upstream(server.address) as client:
            call = await post(client, b"x", length=10, more_body=True)

            assert await body_of(call) == b"enough"
            assert not call.wants_body
            assert not await call.drain()
            await server.connections[0].is_gone.wait()


class TestThePool:
    async def test_a_connection_is_used_again(self) -> None:
        script = answering(ok(b"1"), CHUNKED_OK + b"1\r\n2\r\n0\r\n\r\n", ok(b"3"))
        async with backend(script) as server, upstream(server.address) as client:
            assert [await answers(client) for _ in range(3)] == [b"1", b"2", b"3"]
            assert len(server.connections) == 1

    async def test_calls_at_once_have_a_connection_each(self) -> None:
        async with backend(answering(ok(b"a"))) as server, upstream(server.address) as client:
            await asyncio.gather(*(answers(client) for _ in range(5)))

            assert len(server.connections) == 5

    async def test_the_connection_is_free_before_its_answer_is_read(self) -> None:
        async with backend(answering(ok(b"a"), ok(b"b"))) as server, upstream(server.address) as client:
            first = await get(client)
            await first.head()
            second = await get(client)

            assert [await body_of(second), await body_of(first)] == [b"b", b"a"]
            assert len(server.connections) == 1

    @pytest.mark.parametrize(
        "answer",
        [
            ok(b"alice") + ok(b"POISON"),
            ok(b"alice") + b"P",
            CHUNKED_OK + b"5\r\nalice\r\n0\r\n\r\n" + ok(b"POISON"),
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nalice" + ok(b"POISON"),
        ],
    )
    async def test_bytes_behind_an_answer_never_reach_the_next_user(self, answer: bytes) -> None:
        async def script(peer: Peer) -> None:
            await answering(ok(b"bob") if peer.number else answer)(peer)

        async with backend(script) as server, upstream(server.address) as client:
            assert await answers(client) == b"alice"
            assert await answers(client) == b"bob"
            await server.connections[0].is_gone.wait()

    async def test_bytes_that_come_later_end_the_idle_connection(self) -> None:
        may_poison = asyncio.Event()

        async def script(peer: Peer) -> None:
            if peer.number:
                await answering(ok(b"bob"))(peer)
            else:
                await answering(ok(b"alice"))(peer)
                await may_poison.wait()
                await peer.send(b"\r\n" + ok(b"POISON"))

        async with backend(script) as server, upstream(server.address) as client:
            assert await answers(client) == b"alice"
            may_poison.set()
            await server.connections[0].is_gone.wait()
            assert await answers(client) == b"bob"

    async def test_bytes_that_the_event_loop_has_not_seen_yet_end_the_idle_connection(self) -> None:
        """The upstream writes from this same loop, and nothing is awaited between its write and the next request."""
        async with (
            backend(lambda peer: answering(ok(b"bob") if peer.number else ok(b"alice"))(peer)) as server,
            upstream(server.address) as client,
        ):
            assert await answers(client) == b"alice"
            server.connections[0].writer.write(ok(b"POISON"))
            assert await answers(client) == b"bob"

    async def test_bytes_after_an_answer_to_head_never_reach_the_next_user(self) -> None:
        async with (
            backend(lambda peer: answering(ok(b"POISON") if not peer.number else ok(b"bob"))(peer)) as server,
            upstream(server.address) as client,
        ):
            call = await get(client, b"HEAD")

            assert (await call.head()).headers == [(b"Content-Length", b"6")]
            assert await call.read() == (b"", False)
            assert await answers(client) == b"bob"

    async def test_a_connection_that_the_upstream_closes_is_not_used_again(self) -> None:
        async def script(peer: Peer) -> None:
            await answering(ok(b"%d" % peer.number))(peer)
            peer.close()

        async with backend(script) as server, upstream(server.address) as client:
            assert [await answers(client, b"POST") for _ in range(3)] == [b"0", b"1", b"2"]

    async def test_an_idle_connection_is_closed_in_time(self) -> None:
        async with (
            backend(answering(ok(b"a"))) as server,
            upstream(server.address, idle_expiry=0.05) as client,
        ):
            await answers(client)

            async with asyncio.timeout(10):
                await server.connections[0].is_gone.wait()
            client._sweep()
            assert (client._idle, client._connections, client._sweeping) == ({}, set(), None)

    async def test_an_expired_connection_is_not_used_though_not_swept_yet(self) -> None:
        async with backend(answering(ok(b"a"))) as server, upstream(server.address, idle_expiry=30) as client:
            await answers(client)
            (connection,) = client._idle

            assert connection.is_usable(connection.idle_since + 29)
            assert not connection.is_usable(connection.idle_since + 30)

    @pytest.mark.parametrize("ending", [Peer.close, Peer.reset])
    @pytest.mark.parametrize("method", [b"GET", b"OPTIONS"])
    async def test_a_safe_request_that_meets_a_dying_connection_is_sent_again_once(
        self, method: bytes, ending: Callable[[Peer], None]
    ) -> None:
        async def script(peer: Peer) -> None:
            await answering(ok(b"%d" % peer.number))(peer)
            await peer.read_request()
            ending(peer)

        async with backend(script) as server, upstream(server.address) as client:
            assert await answers(client, method) == b"0"
            assert await answers(client, method) == b"1"
            assert (
                server.connections[1].received
                == server.connections[0].received[: len(server.connections[1].received)]
            )

    async def test_a_request_is_not_sent_a_third_time(self) -> None:
        async def script(peer: Peer) -> None:
            if not peer.number:
                await answering(ok(b"a"))(peer)
            await peer.read_request()
            peer.close()

        async with backend(script) as server, upstream(server.address) as client:
            await answers(client)

            with pytest.raises(UpstreamAbortedError):
                await answers(client)
            assert len(server.connections) == 2

    @pytest.mark.parametrize("body", [b"x", b""])
    async def test_a_chat_that_meets_a_dying_connection_is_not_sent_again(self, body: bytes) -> None:
        async def script(peer: Peer) -> None:
            await answering(ok(b"a"))(peer)
            await peer.read_request()
            peer.close()

        async with backend(script) as server, upstream(server.address) as client:
            await body_of(await post(client, body, length=len(body)))
            call = await post(client, body, length=len(body))

            with pytest.raises(UpstreamAbortedError):
                await call.head()
            assert len(server.connections) == 1

    async def test_a_safe_request_that_a_new_connection_fails_is_not_sent_again(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.read_request()
            peer.close()

        async with backend(script) as server, upstream(server.address) as client:
            with pytest.raises(UpstreamAbortedError):
                await answers(client)
            assert len(server.connections) == 1

    async def test_a_safe_request_that_has_an_answer_begun_is_not_sent_again(self) -> None:
        async def script(peer: Peer) -> None:
            await answering(ok(b"a"), b"HTTP/1.1 200")(peer)
            peer.close()

        async with backend(script) as server, upstream(server.address) as client:
            await answers(client)

            with pytest.raises(UpstreamAbortedError):
                await answers(client)
            assert len(server.connections) == 1


class TestGivingUp:
    @pytest.mark.parametrize(
        "answer", [b"", CHUNKED_OK, CHUNKED_OK + b"1\r\na\r\n"], ids=["none", "head", "piece"]
    )
    async def test_an_abort_ends_the_connection_at_once(self, answer: bytes) -> None:
        async with backend(answering(answer)) as server, upstream(server.address) as client:
            call = await get(client)
            if answer:
                await call.head()
            peer = await server.connection(0)
            call.abort()
            call.abort()

            async with asyncio.timeout(1):
                await peer.is_gone.wait()
            call.write(b"x", more_body=True)
            assert not call.wants_body

    async def test_an_abort_after_the_answer_leaves_the_connection(self) -> None:
        async with backend(answering(ok(b"a"), ok(b"b"))) as server, upstream(server.address) as client:
            call = await get(client)
            await call.head()
            call.abort()

            assert await call.read() == (b"a", False)
            assert await answers(client) == b"b"
            assert len(server.connections) == 1

    async def test_an_abort_fails_who_waits(self) -> None:
        async with backend(answering(CHUNKED_OK)) as server, upstream(server.address) as client:
            call = await get(client)
            await call.head()
            reading = asyncio.ensure_future(call.read())
            await asyncio.sleep(0)
            call.abort()

            with pytest.raises(UpstreamAbortedError):
                await reading

    @pytest.mark.parametrize("what", ["head", "read", "drain"])
    async def test_a_cancelled_wait_ends_the_connection(self, what: str) -> None:
        async with (
            backend(lambda peer: _head_then_nothing(peer, with_head=what == "read")) as server,
            upstream(server.address) as client,
        ):
            call = await post(client, b"x" * LARGE, length=LARGE + 1, more_body=True)
            if what == "read":
                await call.head()
            waiting = asyncio.ensure_future(getattr(call, what)())
            await asyncio.sleep(0)
            peer = await server.connection(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

            async with asyncio.timeout(1):
                await peer.is_gone.wait()

    async def test_aborts_in_every_state_leave_the_pool_whole(self) -> None:
        """P2: four times as many aborts as connections, then as many answers as ever."""
        states = (b"", b"HTTP/1.1 200", CHUNKED_OK, CHUNKED_OK + b"1\r\na\r\n", CHUNKED_OK + b"5\r\nab")

        async def script(peer: Peer) -> None:
            while b"x-whole" in await peer.read_request():
                await peer.send(ok(b"whole"))
            await peer.send(states[peer.number % len(states)])

        async with backend(script) as server, upstream(server.address) as client:
            for batch in range(4):
                calls = await asyncio.gather(*(get(client) for _ in range(10)))
                await server.connection(10 * batch + 9)
                for call in calls:
                    call.abort()
            assert len(server.connections) == 40
            await asyncio.gather(*(peer.is_gone.wait() for peer in server.connections))
            whole = [(b"x-whole", b"1"), HOST]
            calls = [await start(client, b"GET", b"/", whole, length=0) for _ in range(10)]

            assert [await body_of(call) for call in calls] == [b"whole"] * 10

    async def test_closing_fails_running_calls_and_ends_all_connections(self) -> None:
        async with backend(answering(ok(b"a"), CHUNKED_OK)) as server, upstream(server.address) as client:
            await answers(client)
            call = await get(client)
            await call.head()
            await client.aclose()

            with pytest.raises(UpstreamAbortedError):
                await call.read()
            await server.connections[0].is_gone.wait()

    async def test_who_was_made_to_wait_waits_for_a_request_that_is_sent_again(self) -> None:
        """Else all of the answer would be held for a client who takes none of it."""
        size = 16 << 20

        async def script(peer: Peer) -> None:
            if not peer.number:
                await answering(ok(b"a"))(peer)
                await peer.read_request()
                peer.close()
            else:
                await answering(ok(b"y" * size))(peer)

        async with asyncio.timeout(20), backend(script) as server, upstream(server.address) as client:
            await answers(client)
            call = await get(client)
            while call._error is None:
                await asyncio.sleep(0)
            call.pause_reading()
            peer = await server.connection(1)
            for _ in range(200):
                await asyncio.sleep(0)
            assert (call._connection is not None, call._reader.head) == (True, None)
            call.resume_reading()
            assert len(await body_of(call)) == size
            assert peer.received

    async def test_an_abort_while_a_request_is_sent_again_holds(self) -> None:
        async def script(peer: Peer) -> None:
            await answering(ok(b"a"))(peer)
            await peer.read_request()
            peer.close()

        async with backend(script) as server, upstream(server.address) as client:
            await answers(client)
            call = await get(client)
            heading = asyncio.ensure_future(call.head())
            for _ in range(1000):
                await asyncio.sleep(0)
                if call._error is not None:
                    break
            await asyncio.sleep(0)
            call.abort()

            with pytest.raises(UpstreamAbortedError):
                await heading
            for peer in server.connections:
                await peer.is_gone.wait()
            assert not any(peer.received for peer in server.connections[1:])


class TestTime:
    async def test_no_answer_is_a_timeout(self) -> None:
        async with (
            backend(answering(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2")) as server,
            upstream(server.address, head_timeout=0.05) as client,
        ):
            with pytest.raises(UpstreamTimeoutError, match=r"did not begin to answer within 0.05 s"):
                await answers(client)
            await server.connections[0].is_gone.wait()

    async def test_a_head_that_trickles_is_a_timeout(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.read_request()
            await peer.send(b"HTTP/1.1 200 OK\r\nX-A: ")
            while True:
                await peer.send(b"a")
                await peer.pause(0.005)

        async with backend(script) as server, upstream(server.address, head_timeout=0.1) as client:
            with pytest.raises(UpstreamTimeoutError):
                await answers(client)

    async def test_silence_inside_an_answer_is_a_timeout_after_what_arrived(self) -> None:
        script = answering(CHUNKED_OK + b"1\r\na\r\n")
        async with backend(script) as server, upstream(server.address, idle_timeout=0.05) as client:
            call = await get(client)
            await call.head()

            assert await call.read() == (b"a", True)
            with pytest.raises(UpstreamTimeoutError, match=r"neither sent nor took anything for 0.05 s"):
                await call.read()
            await server.connections[0].is_gone.wait()

    async def test_an_answer_may_take_longer_than_any_timeout(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.read_request()
            await peer.send(CHUNKED_OK)
            for _ in range(20):
                await peer.pause(0.03)
                await peer.send(b"1\r\na\r\n")
            await peer.send(b"0\r\n\r\n")

        async with (
            backend(script) as server,
            upstream(server.address, head_timeout=0.25, idle_timeout=0.25) as client,
        ):
            assert await answers(client) == b"a" * 20

    async def test_a_slow_client_is_not_the_upstreams_fault(self) -> None:
        async with (
            backend(answering(ok(b"done"))) as server,
            upstream(server.address, head_timeout=0.05, idle_timeout=0.05) as client,
        ):
            call = await post(client, b"a", length=2, more_body=True)
            await time_passes(client)
            call.write(b"b", more_body=False)

            assert await body_of(call) == b"done"

    async def test_an_upstream_that_takes_no_more_of_a_request_is_a_timeout(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.read_head()
            await asyncio.Event().wait()

        async with backend(script) as server, upstream(server.address, idle_timeout=0.05) as client:
            call = await post(client, b"x" * LARGE, length=LARGE)

            with pytest.raises(UpstreamTimeoutError):
                await call.head()

    async def test_a_connection_that_is_never_accepted_is_a_timeout(self) -> None:
        """TLS to a plain port that says nothing: the handshake never ends."""

        async with backend(Peer.until_gone) as server:
            address = UpstreamAddress.parse(server.url.replace("http:", "https:"))
            async with upstream(address, connect_timeout=0.05) as client:
                with pytest.raises(UpstreamTimeoutError, match=r"did not accept a connection within 0.05 s"):
                    await get(client)
            await server.connections[0].is_gone.wait()


class TestConnecting:
    async def test_a_refused_connection_is_unreachable(self, free_port: int) -> None:
        async with upstream(UpstreamAddress.parse(f"http://127.0.0.1:{free_port}/secret")) as client:
            with pytest.raises(UpstreamUnreachableError) as error:
                await get(client)

        assert str(error.value).startswith(f"the upstream http://127.0.0.1:{free_port} cannot be reached: ")

    async def test_an_unknown_name_is_unreachable(self) -> None:
        async with upstream(UpstreamAddress.parse("http://chat.invalid")) as client:
            with pytest.raises(UpstreamUnreachableError, match=r"http://chat.invalid cannot be reached"):
                await get(client)

    async def test_an_upstream_on_ipv6_is_reached(self) -> None:
        async with backend(answering(ok(b"six")), host="::1") as server, upstream(server.address) as client:
            assert await answers(client) == b"six"

    async def test_proxies_of_the_environment_are_not_used(
        self, monkeypatch: pytest.MonkeyPatch, free_port: int
    ) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{free_port}")
        async with backend(answering(ok(b"direct"))) as server, upstream(server.address) as client:
            assert await answers(client) == b"direct"

    async def test_an_upstream_that_comes_back_is_reached(self, free_port: int) -> None:
        async with upstream(UpstreamAddress.parse(f"http://127.0.0.1:{free_port}")) as client:
            with pytest.raises(UpstreamUnreachableError):
                await get(client)
            async with backend(answering(ok(b"back")), port=free_port):
                assert await answers(client) == b"back"


_NEAR = st.lists(
    st.sampled_from(
        [
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"Content-Length: 3\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"\r\n",
            b"abc",
            b"3\r\nabc\r\n",
            b"0\r\n\r\n",
        ]
    )
    | st.binary(max_size=4),
    max_size=8,
).map(b"".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=_NEAR, ending=st.sampled_from(["stay", "close", "reset"]))
def test_no_answer_hangs_or_raises_what_has_no_name(raw: bytes, ending: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(raw)
        if ending == "close":
            peer.close()
        elif ending == "reset":
            peer.reset()

    async def run() -> None:
        async with (
            backend(script) as server,
            upstream(server.address, head_timeout=0.02, idle_timeout=0.02) as client,
            asyncio.timeout(5),
        ):
            with suppress(UpstreamError):
                await body_of(await post(client, b"x", length=1))

    asyncio.run(run())


@pytest.fixture
async def free_port() -> int:
    """A port of which nobody listens on."""
    async with backend(answering()) as server:
        return server.address.port


async def _head_then_nothing(peer: Peer, *, with_head: bool) -> None:
    await peer.read_head()
    if with_head:
        await peer.send(CHUNKED_OK)
    await peer.until_gone()
