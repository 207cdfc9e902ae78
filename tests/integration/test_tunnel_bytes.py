"""WebSocket connections pass byte for byte, with both event loops; what is not one handshake opens no tunnel."""

import asyncio
import os
import ssl
from contextlib import suppress

import pytest
import trustme

from chatproxy.web.upstream import Upstream
from chatproxy.wire.json_chat import JSONChat
from chatproxy.wire.json_chat_description import JSONChatDescription
from chatproxy.wire.json_path import JSONPath
from integration.proxy_fixtures import RawClient, raw_client
from integration.websocket_fixtures import KEY, PATIENCE, SWITCHED, ToyChat, a_gate, said, upgrade
from simulators.backend import Peer, Script, backend
from simulators.reader import start
from unit.wire.test_frames import MASK, frame


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


def switching(*, behind: bytes = b"", head: bytes = SWITCHED) -> Script:
    """A backend that agrees, with *behind* in the same write."""

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(head + behind)

    return script


async def rest_of(client: RawClient) -> bytes:
    """Read to the end, whether it comes in order or not."""
    try:
        return await client.reader.read()
    except ConnectionError:
        return b""


ANY = bytes(range(256)) * 40


async def test_bytes_pass_both_ways_unaltered_from_the_first_on() -> None:
    """Also what either side sends too early: with its request, or with its answer."""

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(SWITCHED + b"first" + ANY)
        await peer.send(await peer.read(len(ANY) + 5))

    async with backend(script) as behind, a_gate(behind.url) as gate, raw_client(gate.url) as client:
        await client.send(upgrade() + b"early" + ANY)
        head = await client.head()
        assert head.status == 101
        assert await client.reader.readexactly(5 + len(ANY)) == b"first" + ANY
        assert await client.reader.readexactly(5 + len(ANY)) == b"early" + ANY
        assert gate.turns.counted("chatproxy_relayed_bytes_total", direction="request") == 5 + len(ANY)
        assert gate.turns.counted("chatproxy_relayed_bytes_total", direction="reply") == 2 * (5 + len(ANY))
        assert gate.turns.counted("chatproxy_websockets_total", capture="passed") == 1


async def test_what_comes_before_the_answer_arrives_behind_it_in_order() -> None:
    sent = os.urandom(1 << 23)
    may_answer = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await may_answer.wait()
        await peer.send(SWITCHED)
        assert await peer.read(len(sent)) == sent
        await peer.send(b"all")

    async with backend(script) as behind, a_gate(behind.url) as gate, raw_client(gate.url) as client:
        await client.send(upgrade() + sent[:100_000])
        sending = asyncio.ensure_future(client.send(sent[100_000:]))
        await behind.connection(0)
        may_answer.set()
        await sending
        await client.head()
        assert await client.reader.readexactly(3) == b"all"


async def blast(client: RawClient) -> int:
    """Send for as long as it is taken; return how much it was."""
    sent = 0
    with suppress(ConnectionError):
        for _ in range(256):
            await client.send(bytes(1 << 20))
            sent += 1 << 20
    return sent


async def test_a_client_that_speaks_too_early_is_made_to_wait() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()

    async with (
        backend(script) as behind,
        a_gate(behind.url, head_timeout=0.5) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(upgrade())
        assert await blast(client) < 64 << 20


async def test_the_handshake_reaches_the_upstream_without_what_is_chatproxys_own() -> None:
    lines = (
        b"X-Chat-Subject: CANARY", b"X_Chat_Subject: CANARY", b"X-Chat-Auth: CANARY", b"Keep-Alive: CANARY",
        b"Sec-WebSocket-Protocol: chat, v2", b"Sec-WebSocket-Extensions: permessage-deflate; x=1", b"Origin: https://a",
        b"Cookie: a=b", b"X-Other:  kept ",
    )  # fmt: skip
    async with (
        backend(switching()) as behind,
        a_gate(behind.url, base_path="/base") as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(upgrade(b"/a%2Fb//c?x=&y", *lines))
        assert (await client.head()).status == 101
        received = bytes(behind.connections[0].received)
        assert received.split(b"\r\n") == [
            b"GET /base/a%2Fb//c?x=&y HTTP/1.1",
            b"host: " + behind.address.authority,
            b"sec-websocket-version: 13",
            b"sec-websocket-key: " + KEY,
            b"sec-websocket-protocol: chat, v2",
            b"sec-websocket-extensions: permessage-deflate; x=1",
            b"origin: https://a",
            b"cookie: a=b",
            b"x-other: kept ",
            b"connection: Upgrade",
            b"upgrade: websocket",
            b"",
            b"",
        ]


async def test_the_answer_reaches_the_client_without_what_is_chatproxys_own() -> None:
    head = SWITCHED[:-2] + (
        b"Sec-WebSocket-Protocol: v2\r\nX-Chat-Turn: forged\r\nKeep-Alive: 5\r\nSet-Cookie: a=b\r\n"
        b"Set-Cookie: c=d\r\n\r\n"
    )
    async with (
        backend(switching(head=head)) as behind,
        a_gate(behind.url) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(upgrade())
        found = await client.head()
        assert found.headers[1:] == [
            (b"sec-websocket-protocol", b"v2"),
            (b"set-cookie", b"a=b"),
            (b"set-cookie", b"c=d"),
            (b"connection", b"Upgrade"),
            (b"upgrade", b"websocket"),
        ]


# --- how it ends ---


async def test_a_half_closed_connection_goes_on_in_the_other_direction() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(SWITCHED)
        question = await peer.reader.read()
        await peer.send(question + ANY)
        peer.close()

    async with backend(script) as behind, a_gate(behind.url) as gate, raw_client(gate.url) as client:
        await client.send(upgrade())
        await client.head()
        await client.send(b"question")
        client.writer.write_eof()
        assert await client.reader.read() == b"question" + ANY


async def test_a_half_closed_upstream_still_gets_what_the_client_sends() -> None:
    got = asyncio.get_running_loop().create_future()

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(SWITCHED + b"bye")
        peer.writer.write_eof()
        got.set_result(await peer.reader.read())

    async with backend(script) as behind, a_gate(behind.url) as gate, raw_client(gate.url) as client:
        await client.send(upgrade())
        await client.head()
        assert await client.reader.read() == b"bye"
        await client.send(ANY)
        client.writer.write_eof()
        async with asyncio.timeout(PATIENCE):
            assert await got == ANY


async def test_a_killed_client_ends_the_upstreams_connection_and_the_turn() -> None:
    async with backend(switching()) as behind, a_gate(behind.url, ToyChat()) as gate:
        async with raw_client(gate.url) as client:
            await client.send(upgrade())
            await client.head()
            await client.send(frame(b'{"say": "a"}', mask=MASK) + b"\x81")
            client.close()
        async with asyncio.timeout(PATIENCE):
            await behind.connections[0].is_gone.wait()
        [turn] = await gate.turns.ended(1)
        assert (said(turn)[0], turn.end) == (b'{"say": "a"}', "client_aborted")


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_killed_upstream_ends_the_clients_connection_and_the_turn(how: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(SWITCHED)
        await peer.read(6)
        await peer.send(frame(b'{"answer": "b"}'))
        await peer.read(1)
        getattr(peer, how)()

    async with (
        backend(script) as behind,
        a_gate(behind.url, ToyChat()) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(upgrade())
        await client.head()
        await client.send(frame(b"", mask=MASK))
        await client.reader.readexactly(17)
        await client.send(b"x")
        assert await client.reader.read() == b""
        [turn] = await gate.turns.ended(1)
        assert (turn.end, gate.turns.counted("chatproxy_websocket_faults_total")) == ("upstream_aborted", 0)


async def test_a_connection_that_is_silent_is_cut() -> None:
    async with (
        backend(switching()) as behind,
        a_gate(behind.url, idle_timeout=0.2) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(upgrade())
        await client.head()
        assert await rest_of(client) == b""
        async with asyncio.timeout(PATIENCE):
            await behind.connections[0].is_gone.wait()


async def test_an_upstream_that_takes_nothing_makes_the_client_wait_and_is_cut() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(SWITCHED)
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    async with (
        backend(script) as behind,
        a_gate(behind.url, idle_timeout=0.5) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(upgrade())
        await client.head()
        await blast(client)
        assert gate.turns.counted("chatproxy_relayed_bytes_total", direction="request") < 64 << 20


async def test_a_client_that_takes_nothing_makes_the_upstream_wait_and_is_cut() -> None:
    sent: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(SWITCHED)
        sent.set_result(await blast(RawClient(peer.reader, peer.writer)))

    async with (
        backend(script) as behind,
        a_gate(behind.url, idle_timeout=0.5) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(upgrade())
        await client.head()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(PATIENCE):
            assert await sent < 64 << 20
        assert gate.turns.counted("chatproxy_relayed_bytes_total", direction="reply") < 64 << 20


async def test_much_passes_both_ways_at_once_while_each_side_reads_as_it_likes() -> None:
    data = os.urandom(1 << 20)

    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def send() -> None:
            for _ in range(32):
                writer.write(data)
                await writer.drain()

        sending = asyncio.ensure_future(send())
        for _ in range(32):
            assert await reader.readexactly(len(data)) == data
        await sending

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(SWITCHED)
        await half(peer.reader, peer.writer)

    async with backend(script) as behind, a_gate(behind.url) as gate, raw_client(gate.url) as client:
        await client.send(upgrade())
        await client.head()
        await half(client.reader, client.writer)


async def test_stopping_waits_for_tunnels_and_then_cuts_them() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(SWITCHED + frame(b'{"answer": "a"}'))
        await peer.send(await peer.read(4))

    async with (
        backend(script) as behind,
        a_gate(behind.url, ToyChat(), drain_seconds=PATIENCE) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(upgrade())
        await client.head()
        stopping = asyncio.ensure_future(gate.listener.stop())
        await client.reader.readexactly(17)
        await client.send(b"\x8a\x02hi")
        assert await client.reader.readexactly(4) == b"\x8a\x02hi"
        assert not stopping.done()
        gate.listener.cut()
        await stopping
        [turn] = await gate.turns.ended(1)
        assert turn.end == "interrupted"
        assert await rest_of(client) == b""
        async with asyncio.timeout(PATIENCE):
            await behind.connections[0].is_gone.wait()


async def test_stopping_ends_with_the_last_tunnel() -> None:
    async with backend(switching()) as behind, a_gate(behind.url, drain_seconds=10 * PATIENCE) as gate:
        async with raw_client(gate.url) as client:
            await client.send(upgrade())
            await client.head()
            stopping = asyncio.ensure_future(gate.listener.stop())
        async with asyncio.timeout(PATIENCE):
            await stopping


# --- what opens no tunnel ---


@pytest.mark.parametrize(
    "request_bytes, status, code",
    [
        (upgrade(b"/ws", without=[b"Sec-WebSocket-Key"]), 400, b"bad_websocket"),
        (upgrade(b"/ws", b"Sec-WebSocket-Version: 8", without=[b"Sec-WebSocket-Version"]), 426, b"websocket_version"),
        (upgrade(b"/ws", b"Upgrade: h2c"), 400, b"bad_websocket"),
        (upgrade(method=b"POST"), 400, b"bad_websocket"),
        (upgrade(b"/ws", b"Content-Length: 3") + b"abc", 400, b"unexpected_body"),
        (upgrade(b"/../ws"), 400, b"bad_target"),
        (upgrade(b"/ws", b"Connection: X-Chat-Subject"), 400, b"protected_header"),
        (upgrade(b"/ws", b"X-Chat-Subject: a", b"X-Chat-Subject: b"), 400, b"ambiguous_identity"),
    ],
    ids=["no key", "version 8", "h2c beside", "post", "a body", "a bad target", "a protected header", "two identities"],
)  # fmt: skip
async def test_what_is_not_one_handshake_is_answered_and_not_forwarded(
    request_bytes: bytes, status: int, code: bytes
) -> None:
    async with (
        backend(switching()) as behind,
        a_gate(behind.url) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(request_bytes + upgrade())
        found = await client.answer()
        assert (found.status, found.header(b"connection")) == (status, b"close")
        assert code in found.body
        assert (found.header(b"sec-websocket-version") == b"13") is (status == 426)
        assert await client.reader.read() == b""
        assert behind.connections == []


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        SWITCHED.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
        SWITCHED.replace(b"Connection: Upgrade\r\n", b""),
        SWITCHED.replace(b"Upgrade: websocket\r\n", b""),
        SWITCHED.replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\nabc"),
        SWITCHED.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        SWITCHED.replace(b"\r\n", b"\n"),
        b"garbage",
    ],
    ids=["no accept", "h2c", "no connection", "no upgrade", "length", "chunks", "bare line feeds", "garbage"],
)
async def test_an_upstream_that_agrees_to_something_else_is_a_bad_gateway(answer: bytes) -> None:
    async with (
        backend(switching(head=answer)) as behind,
        a_gate(behind.url) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(upgrade() + b"early")
        found = await client.answer()
        assert (found.status, found.header(b"connection")) == (502, b"close")
        assert b"upstream_error" in found.body
        assert await client.reader.read() == b""
        async with asyncio.timeout(PATIENCE):
            await behind.connections[0].is_gone.wait()
        assert gate.turns.counted("chatproxy_websockets_total", capture="passed") == 0


@pytest.mark.parametrize("status", [b"401 Unauthorized", b"426 Upgrade Required", b"200 OK", b"302 Found"])
async def test_an_upstream_that_refuses_is_relayed_and_nothing_behind_it_is_a_request(status: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 "
            + status
            + b"\r\nContent-Length: 2\r\nWWW-Authenticate: x\r\n\r\nno"
        )

    async with backend(script) as behind, a_gate(behind.url) as gate, raw_client(gate.url) as client:
        await client.send(upgrade() + b"GET /smuggled HTTP/1.1\r\nHost: chat\r\n\r\n")
        found = await client.answer()
        assert (found.status, found.body) == (int(status[:3]), b"no")
        assert found.header(b"www-authenticate") == b"x"
        assert found.header(b"connection") == b"close"
        assert await client.reader.read() == b""
        assert len(behind.connections) == 1
        async with asyncio.timeout(PATIENCE):
            await behind.connections[0].is_gone.wait()
        assert b"smuggled" not in behind.connections[0].received


async def test_a_101_that_was_not_asked_for_is_a_bad_gateway() -> None:
    async with (
        backend(switching()) as behind,
        a_gate(behind.url) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(b"GET /ws HTTP/1.1\r\nHost: chat\r\nSec-WebSocket-Key: " + KEY + b"\r\n\r\n")
        assert (await client.answer()).status == 502


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /x HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
        upgrade().replace(b" HTTP/1.1", b" HTTP/1.0"),
        upgrade(without=[b"Connection"]),
    ],
    ids=["h2c", "HTTP/1.0", "without Connection"],
)
async def test_any_other_upgrade_is_an_ordinary_request(request_bytes: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with backend(script) as behind, a_gate(behind.url) as gate, raw_client(gate.url) as client:
        await client.send(request_bytes)
        assert (await client.answer()).body == b"ok"
        received = bytes(behind.connections[0].received).lower()
        assert b"upgrade" not in received
        assert b"http2-settings" not in received


async def test_what_follows_an_upgrade_that_is_not_taken_up_ends_the_connection() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    h2c = b"GET /x HTTP/1.1\r\nHost: chat\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    async with backend(script) as behind, a_gate(behind.url) as gate, raw_client(gate.url) as client:
        await client.send(h2c + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert (await client.answer()).header(b"connection") == b"close"
        assert await client.reader.read() == b""


async def test_an_upstream_that_is_down_is_a_bad_gateway() -> None:
    async with a_gate("http://127.0.0.1:9") as gate, raw_client(gate.url) as client:
        await client.send(upgrade())
        found = await client.answer()
        assert found.status == 502
        assert found.header(b"content-type") == b"application/json"
        assert b"upstream_unreachable" in found.body


async def test_a_path_of_chatproxys_own_is_no_websocket() -> None:
    async with (
        backend(switching()) as behind,
        a_gate(behind.url) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(upgrade(b"/_chatproxy/x") + b"early")
        assert (await client.answer()).status == 404
        assert await client.reader.read() == b""
        assert behind.connections == []


async def test_a_client_that_leaves_before_the_answer_takes_the_upstream_along() -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()

    async with backend(script) as behind, a_gate(behind.url) as gate:
        async with raw_client(gate.url) as client:
            await client.send(upgrade())
            await behind.connection(0)
        async with asyncio.timeout(PATIENCE):
            await behind.connections[0].is_gone.wait()


async def test_identity_of_an_untrusted_peer_is_nobodys_and_tightening_counts() -> None:
    async with (
        backend(switching()) as behind,
        a_gate(behind.url, ToyChat(), trusted=None) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(upgrade(b"/ws", b"X-Chat-Subject: ana", b"X-Chat-Incognito: ?1"))
        await client.head()
        await client.send(frame(b'{"say": "a"}', mask=MASK) + frame(b'{"say": "b"}', mask=MASK))
        [turn] = await gate.turns.ended(1)
        assert (turn.caller.subject, turn.caller.incognito) == (None, True)
        assert gate.turns.counted("chatproxy_identity_rejected_total", reason="untrusted_peer") == 1


@pytest.mark.parametrize("refuse", [True, False])
async def test_where_what_cannot_be_kept_is_refused_the_tunnel_is_cut(refuse: bool) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(SWITCHED)
        await peer.read(1)
        await peer.send(b"answer")
        peer.close()

    async with (
        backend(script) as behind,
        a_gate(behind.url, ToyChat(), refuse=refuse, queue=100) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(upgrade())
        await client.head()
        await client.send(frame(b'{"say": "a"}', mask=MASK))
        assert await rest_of(client) == (b"" if refuse else b"answer")
        assert gate.turns.counted("chatproxy_turns_total", outcome="lost") == 1


async def test_a_tunnel_to_an_upstream_with_tls_passes_bytes_and_its_end() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trust = ssl.create_default_context()
    authority.configure_trust(trust)

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(SWITCHED + b"first")
        await peer.send(await peer.read(len(ANY)))

    async with (
        backend(script, tls=context) as behind,
        a_gate(behind.url, tls=trust) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(upgrade())
        await client.head()
        await client.send(ANY)
        assert await client.reader.readexactly(5 + len(ANY)) == b"first" + ANY
        client.writer.write_eof()
        assert await client.reader.read() == b""
        async with asyncio.timeout(PATIENCE):
            await behind.connections[0].is_gone.wait()


async def test_a_websocket_has_a_connection_of_its_own_that_is_not_used_again() -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.read_head()
            await peer.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")

    ordinary = b"GET /x HTTP/1.1\r\nHost: chat\r\n\r\n"
    async with backend(script) as behind, a_gate(behind.url) as gate:
        for request_bytes in (ordinary, upgrade(), upgrade(), ordinary):
            async with raw_client(gate.url) as client:
                await client.send(request_bytes)
                assert (await client.answer()).body == b"no"
        asked = [bytes(peer.received).lower().count(b"upgrade: websocket") for peer in behind.connections]
        assert asked == [0, 1, 1]


async def test_a_dialect_over_http_at_the_same_path_does_not_take_the_handshake_for_a_chat() -> None:
    described = JSONChatDescription(
        name="x", path="/ws", method="GET", reply_text=JSONPath.parse("a"), request_text=JSONPath.parse("b")
    )
    async with (
        backend(switching()) as behind,
        a_gate(behind.url, over_http=[JSONChat(described)]) as gate,
        raw_client(gate.url) as client,
    ):
        await client.send(upgrade())
        assert (await client.head()).status == 101
        assert gate.turns.counted("chatproxy_turns_seen_total") == 0


class Listening:
    """A user of a connection that is no longer HTTP."""

    def __init__(self) -> None:
        self.data = b""
        self.is_lost = asyncio.Event()

    def received(self, data: bytes) -> None:
        self.data += data

    def ended(self) -> bool:
        return False

    def lost(self, cause: Exception | None) -> None:
        self.is_lost.set()

    def rearm(self) -> None: ...

    def wake(self) -> None: ...

    def sweep(self, now: float) -> None: ...

    def abort(self) -> None: ...


async def test_what_follows_a_101_waits_until_somebody_takes_the_connection() -> None:
    sent: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def script(peer: Peer) -> None:
        if peer.number == 0:
            await peer.read_head()
            await peer.send(SWITCHED)
            await sent
            await peer.send(b"later")
            peer.close()
        else:
            for _ in range(10):
                await peer.read_head()
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    async with backend(script) as behind:
        upstream = Upstream(behind.address, connect_timeout=5, head_timeout=5, idle_timeout=5)
        headers = [(b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
        call = await start(upstream, b"GET", b"/ws", headers, length=0, may_switch=True)
        assert (await call.head()).status == 101
        sent.set_result(None)
        for _ in range(10):
            other = await start(upstream, b"GET", b"/", [(b"host", b"h")], length=0)
            await other.head()
            await other.read()
        user = Listening()
        connection, rest = call.switch(user)
        connection.transport.resume_reading()
        async with asyncio.timeout(PATIENCE):
            await user.is_lost.wait()
        assert rest + user.data == b"later"
        await upstream.aclose()
