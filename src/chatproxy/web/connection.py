"""One connection of a client: uvicorn's protocol, told only what is one request, and never waiting without end.

Rules of this file:

1. A head is looked at whole, before the parser or anybody else sees it (``framing``). What follows a request is told
   the parser when that request has been answered.
2. Every wait for the client ends: for a head, for a body, for him to take his answer, for his next request. While it is
   the backend that is waited for, nothing of that runs.
3. What follows a request with a body before its answer is not another request: it is dropped, and the connection ends
   with the answer.
4. A connection that ends with words of ours stays open for a moment behind them, so that a client who still sends
   gets to read them.
"""

import asyncio
import socket
import struct
import sys
from collections.abc import Callable, Collection
from enum import Enum, auto
from functools import partial
from typing import Any, NamedTuple

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from chatproxy.forwarding import Header, RefusedRequestError
from chatproxy.web.crowd import Crowd
from chatproxy.web.framing import (
    ChunkedBody,
    Framing,
    HeadLimits,
    body_too_large,
    check_beginning,
    not_http,
    read_framing,
)
from chatproxy.web.handshake import asks_for_websocket

TARGET = "chatproxy.target"
"""Scope key of the request target, byte for byte as received (ASGI loses an empty query)."""

CLIENT_CERTIFICATE = "chatproxy.client_certificate"
"""Scope key of the client's certificate as ``ssl`` gives it, verified; absent if none came, and without TLS."""

SWITCH = "chatproxy.switch"
"""Scope key, present if the request asks for a WebSocket: a function that gives the connection to the protocol that it
gets, and returns it, whose reading may be paused, as ``Switched``, or None if it has gone. The answer must then be written there, not sent."""

GONE = "chatproxy.gone"
"""Scope key: a function that takes what is to be called if the client leaves before he has his whole answer. Without a task
that waits for it, which each request would need."""

_MOST_EARLY_BYTES = 65_536
"""What may wait of a client that speaks before it is answered, until it is made to wait itself."""
_LAST_WORDS_SECONDS = 2.0
_MOST_IGNORED_BYTES = 4 << 20
"""What is read of a client whose words do not count any more."""
_NEVER = float("inf")


class ClientLimits(NamedTuple):
    """What a client may take of us. Times are seconds, and are met to within a second."""

    head: HeadLimits = HeadLimits()
    head_timeout: float = 10.0
    """For a whole head, from its first byte, or from the beginning of the connection."""
    body_timeout: float = 30.0
    """For a body, and a second more for each ``body_rate`` bytes that have come, while we take them."""
    body_rate: int = 4_096
    take_timeout: float = 60.0
    """For taking anything of an answer that waits."""
    idle_timeout: float = 75.0
    """For the next request."""
    connections: int = 4_096
    connections_of_one: int = 1_024
    """From one address."""


class Refusal(NamedTuple):
    """An answer that the server gives without asking anybody."""

    status: int
    code: str
    message: str
    method: str = ""
    path: str = ""


Words = Callable[[Refusal], tuple[bytes, list[Header]]]
"""Makes body and headers of the answer."""


class House(NamedTuple):
    """What the connections of one listener share."""

    limits: ClientLimits
    crowd: Crowd
    words: Words
    cut: Callable[[str], None]
    """Is told why a connection was ended before its client had what he wanted."""
    not_in_trailers: Collection[bytes]


class Switched(NamedTuple):
    """A client's connection that is no longer HTTP."""

    transport: asyncio.Transport
    early: bytes
    """What came behind the request."""
    is_write_paused: bool
    forget: Callable[[Exception | None], None]
    """To be called when the connection is lost, as the server counts it until then."""


class _Stage(Enum):
    """Whose turn it is."""

    HEAD = auto()
    """The client's: a request, or the rest of its head."""
    BODY = auto()
    """The client's: the rest of a body. An answer may already be under way, or over."""
    ANSWER = auto()
    """Ours."""
    SWITCHING = auto()
    """Ours, and what comes is no longer HTTP."""
    ENDED = auto()
    """Nobody's: what comes is dropped."""


_REASONS = {
    400: b"Bad Request", 405: b"Method Not Allowed", 408: b"Request Timeout", 413: b"Content Too Large",
    414: b"URI Too Long", 417: b"Expectation Failed", 421: b"Misdirected Request", 429: b"Too Many Requests",
    431: b"Request Header Fields Too Large", 501: b"Not Implemented", 503: b"Service Unavailable",
    505: b"HTTP Version Not Supported",
}  # fmt: skip
_MORE_HEADERS: dict[int, list[Header]] = {
    405: [(b"allow", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")],
    429: [(b"retry-after", b"10")],
    503: [(b"retry-after", b"10")],
}


class ClientConnection(HttpToolsProtocol):
    """See the module."""

    def __init__(self, *args: Any, house: House, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._house = house
        self._limits = house.limits
        self._stage: _Stage
        self._framing = Framing(0, expects_continue=False, asks_to_upgrade=False)
        self._pending = bytearray()
        """What has come and is not told the parser."""
        self._chunks: ChunkedBody | None = None
        self._is_in_trailers = False
        self._has_surplus = False
        self._keeps_alive = False
        self._ignored = 0
        self._swept_at = 0.0
        self._when_gone: Callable[[], None] | None = None
        self._outlet: _Outlet

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._outlet = _Outlet(self, transport)
        self._begin_head(self.loop.time() + self._limits.head_timeout)
        address = self.client[0] if self.client else ""
        no_room = self._house.crowd.enter(self, address)
        if no_room is None:
            return
        self._house.cut("no_room")
        if not no_room.may_be_told:
            self.transport.abort()
        elif no_room.is_own_fault:
            self._refuse(
                RefusedRequestError(
                    "too_many_connections",
                    "there are too many connections from this address; use fewer, or wait and try again",
                    status=429,
                )
            )
        else:
            self._refuse(
                RefusedRequestError(
                    "too_many_connections", "there are too many connections; wait and try again", status=503
                )
            )

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._house.crowd.leave(self)
        super().connection_lost(exc)
        when_gone, self._when_gone = self._when_gone, None
        if when_gone is not None:
            when_gone()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._stage is _Stage.ENDED:
            self._ignored += len(data)
            if self._ignored > _MOST_IGNORED_BYTES:
                self.flow.pause_reading()
            return
        self._pending += data
        if self._stage in {_Stage.ANSWER, _Stage.SWITCHING}:
            self._hold()
        else:
            self._advance()

    def give_way(self) -> None:
        """See Guest."""
        self._house.cut("no_room")
        self.transport.close()

    def sweep(self, now: float) -> None:
        """End what has waited for the client for too long. To be called once a second or so."""
        if self._stage is _Stage.SWITCHING:
            return
        if self._outlet.is_stuck(now, self._limits.take_timeout):
            self._house.cut("slow_reader")
            self._stage = _Stage.ENDED
            self.transport.abort()
        elif self._stage is _Stage.BODY and self.flow.read_paused:
            # The backend takes its time.
            self._deadline += now - self._swept_at
        elif now >= self._deadline:
            self._time_out()
        self._swept_at = now

    # Called by the parser.

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; a trailer ends here."""
        if not self._is_in_trailers:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._is_in_trailers = True
        self.scope[TARGET] = self.url  # type: ignore[literal-required]
        self.scope[GONE] = self._tell_when_gone  # type: ignore[literal-required]
        if self.config.ssl is not None and (certificate := self.transport.get_extra_info("peercert")):
            self.scope[CLIENT_CERTIFICATE] = certificate  # type: ignore[literal-required]
        # HTTP/1.0 has no upgrades (RFC 9110 7.8).
        if (
            self.parser.should_upgrade()
            and self.parser.get_http_version() == "1.1"
            and asks_for_websocket(self.headers)
        ):
            self.scope[SWITCH] = self._switch  # type: ignore[literal-required]
        super().on_headers_complete()
        self._has_cycle = True
        self.cycle.transport = self._outlet  # type: ignore[assignment]
        self._outlet.cycle = self.cycle
        self._keeps_alive = self.cycle.keep_alive
        if self._framing.length != 0:
            # An answer to what is not whole yet is the last one: who knows what the client makes of that.
            self.cycle.keep_alive = False

    def on_message_begin(self) -> None:
        """A head begins."""
        self._is_in_trailers = False
        super().on_message_begin()

    # Called by uvicorn.

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if not self._framing.expects_continue or self._framing.length == 0:
            cycle.waiting_for_100_continue = False
        if cycle.scope["http_version"] == "1.0":
            app = partial(_until_closed, app, cycle, self._outlet)
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """The answer is on its way."""
        self._when_gone = None
        super().on_response_complete()
        self._unset_keepalive_if_required()
        if self.transport.is_closing() or self._stage is not _Stage.ANSWER:
            return
        self._begin_head(self.loop.time() + self._limits.idle_timeout)
        self._house.crowd.waits(self)
        if self._pending:
            self._advance()

    # What comes.

    def _begin_head(self, deadline: float) -> None:
        self._stage = _Stage.HEAD
        self._deadline = deadline
        self._has_begun = False
        self._scanned = 0
        self._has_cycle = False

    def _advance(self) -> None:
        """Go as far as what has come allows."""
        try:
            while self._pending and self._stage in {_Stage.HEAD, _Stage.BODY}:
                if not (self._take_head() if self._stage is _Stage.HEAD else self._take_body()):
                    break
            if self._pending and self._stage in {_Stage.ANSWER, _Stage.SWITCHING}:
                self._hold()
        except RefusedRequestError as refused:
            self._refuse(refused)

    def _take_head(self) -> bool:
        pending = self._pending
        if not self._has_begun:
            self._has_begun = True
            self._deadline = min(self._deadline, self.loop.time() + self._limits.head_timeout)
            self._may_be_empty = True
        if self._may_be_empty and pending[:1] == b"\r":
            if pending == b"\r":
                return False
            if pending[:2] != b"\r\n":
                raise not_http()
            # One empty line before a request is passed over (RFC 9112 2.2).
            del pending[:2]
            self._may_be_empty = False
            return True
        self._may_be_empty = False
        end = pending.find(b"\r\n\r\n", self._scanned)
        limits = self._limits.head
        if end < 0 or end + 4 > limits.head:
            check_beginning(pending[: limits.head + 1], limits)
            self._scanned = max(0, len(pending) - 3)
            return False
        head = bytes(pending[: end + 4])
        self._framing = framing = read_framing(head, limits)
        self._house.crowd.works(self)
        self._received = 0
        self._left = framing.length or 0
        self._chunks = ChunkedBody(forbidden=self._house.not_in_trailers) if framing.length is None else None
        self._stage = _Stage.ANSWER if framing.length == 0 else _Stage.BODY
        self._deadline = _NEVER if framing.length == 0 else self.loop.time() + self._limits.body_timeout
        self._swept_at = self.loop.time()
        self._feed(head)
        del pending[: end + 4]
        if framing.asks_to_upgrade and SWITCH in self.scope:
            self._stage = _Stage.SWITCHING
            self.cycle.keep_alive = False
        return True

    def _take_body(self) -> bool:
        pending = self._pending
        if self._chunks is None:
            size = min(self._left, len(pending))
            self._left -= size
            is_whole = not self._left
        else:
            whole = bytes(pending)
            end = self._chunks.end_in(whole)
            size = len(whole) if end is None else end
            is_whole = end is not None
            limit = self._limits.head.body
            if limit is not None and self._chunks.size > limit:
                raise body_too_large(limit)
        self._received += size
        piece = bytes(pending[:size])
        del pending[:size]
        if is_whole:
            self._stage = _Stage.ANSWER
            self._deadline = _NEVER
            if not self.cycle.response_started:
                self.cycle.keep_alive = self._keeps_alive
        self._feed(piece)
        return True

    def _feed(self, data: bytes) -> None:
        """Tell the parser, which must agree about where the request ends."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError:
            raise not_http() from None
        if self._stage is _Stage.ANSWER and self.cycle.more_body:
            raise not_http()

    def _hold(self) -> None:
        """Keep what comes before its turn."""
        framing = self._framing
        if self._stage is _Stage.ANSWER and (framing.length != 0 or framing.asks_to_upgrade):
            # A second request, or the rest of a first one that was told wrongly how long it is.
            self._has_surplus = True
            self.cycle.keep_alive = False
            self._pending.clear()
        elif len(self._pending) > _MOST_EARLY_BYTES:
            self.flow.pause_reading()

    # How it ends.

    def _time_out(self) -> None:
        if self._stage is _Stage.HEAD and self._pending:
            self._house.cut("slow_head")
            self._refuse(
                RefusedRequestError(
                    "request_timeout",
                    "the request's headers did not arrive in time; send them again",
                    status=408,
                )
            )
        elif self._stage is _Stage.BODY:
            limits = self._limits
            due = self._deadline + self._received / limits.body_rate
            if self.loop.time() >= due:
                self._house.cut("slow_body")
                self._refuse(
                    RefusedRequestError(
                        "request_timeout", "the request's body arrives too slowly; send it again", status=408
                    )
                )
        elif self._stage is _Stage.ENDED:
            self.transport.abort()
        else:
            self.transport.close()

    def _refuse(self, refused: RefusedRequestError) -> None:
        """Answer what is not one request and end; where an answer is under way, end it visibly unfinished."""
        method, path = self._asked()
        if self._has_cycle:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            method, path = self.scope["method"], self.scope["raw_path"].decode()
            if self.cycle.response_started:
                self._stage = _Stage.ENDED
                self.transport.abort()
                return
        body, headers = self._house.words(Refusal(refused.status, refused.code, str(refused), method, path))
        headers = headers + _MORE_HEADERS.get(refused.status, [])
        lines = [
            b"HTTP/1.1 %d %b" % (refused.status, _REASONS[refused.status]),
            *(name + b": " + value for name, value in headers),
            b"content-length: %d" % len(body),
            b"connection: close",
            b"",
            b"" if method == "HEAD" else body,
        ]
        self._outlet.write(b"\r\n".join(lines))
        self.end()

    def _asked(self) -> tuple[str, str]:
        """Return method and path of a head that was refused, as far as it has them, to answer in its dialect."""
        words = bytes(self._pending[: self._limits.head.target]).partition(b"\r\n")[0].split(b" ")
        if len(words) != 3 or not words[0].isalpha() or not words[1].isascii():  # noqa: PLR2004 - of a request line
            return "", ""
        return words[0].decode(), words[1].partition(b"?")[0].decode()

    def end(self) -> None:
        """Close behind what was written, so that it arrives although the client may still be sending."""
        self._house.crowd.waits(self)
        self._outlet.is_over = True
        if self._stage is _Stage.ANSWER and not self._has_surplus and not self._pending:
            self._stage = _Stage.ENDED
            self.transport.close()
            return
        self._stage = _Stage.ENDED
        self._pending.clear()
        self._deadline = self.loop.time() + _LAST_WORDS_SECONDS
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self.flow.resume_reading()

    def shutdown(self) -> None:
        """See HttpToolsProtocol."""
        self._keeps_alive = False
        super().shutdown()

    def _tell_when_gone(self, call: Callable[[], None]) -> None:
        if self.cycle.disconnected:
            call()
            return
        self._when_gone = call
        # It may have been paused for a long body, and who does not read does not hear that he leaves.
        self.flow.resume_reading()

    def _switch(self, protocol: asyncio.Protocol) -> Switched | None:
        if self.cycle.disconnected:
            return None
        # For uvicorn there is nobody left to answer; it keeps counting the connection until it is lost.
        self.cycle.disconnected = True
        self._deadline = _NEVER
        self.transport.set_protocol(protocol)
        return Switched(self.transport, bytes(self._pending), self.flow.write_paused, self.connection_lost)


class _Outlet:
    """The transport as whoever answers sees it: it counts what the client takes, and ends with care."""

    __slots__ = (
        "_connection",
        "_moved_at",
        "_taken",
        "_transport",
        "_written",
        "cycle",
        "is_over",
        "is_until_closed",
    )

    def __init__(self, connection: ClientConnection, transport: asyncio.Transport) -> None:
        self._connection = connection
        self._transport = transport
        self._written = 0
        self._taken = 0
        self._moved_at = 0.0
        self.cycle: RequestResponseCycle | None = None
        self.is_over = False
        self.is_until_closed = False
        """Whether the end of the connection is the end of the answer."""

    def write(self, data: bytes) -> None:
        """See asyncio.Transport; nothing, once the last words have been said."""
        if not self.is_over:
            self._written += len(data)
            self._transport.write(data)

    def is_closing(self) -> bool:
        """See asyncio.Transport."""
        return self.is_over or self._transport.is_closing()

    def close(self) -> None:
        """End with the answer; one that is not whole, so that this can be seen."""
        cycle = self.cycle
        if self.is_until_closed and cycle is not None and not cycle.response_complete:
            reset = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            self._transport.abort()
        elif cycle is not None and not cycle.response_complete:
            self._transport.close()
        else:
            self._connection.end()

    def is_stuck(self, now: float, timeout: float) -> bool:
        """Whether the client has taken nothing of what waits here for *timeout* seconds."""
        waiting = self._transport.get_write_buffer_size()
        taken = self._written - waiting
        if waiting:
            taken -= _unread(self._transport)
        if not waiting or taken != self._taken:
            self._taken = taken
            self._moved_at = now
        return now - self._moved_at >= timeout


def _unread(transport: asyncio.Transport) -> int:
    """Return how much the system still has to deliver; what it takes from us, it takes in large steps."""
    if sys.platform == "win32":
        return 0
    import fcntl  # noqa: PLC0415 - not on every platform
    import termios  # noqa: PLC0415 - not on every platform

    try:
        answer = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, b"\0" * 4)
    except OSError:
        return 0
    return int.from_bytes(answer, sys.byteorder)


async def _until_closed(
    app: Any, cycle: RequestResponseCycle, outlet: _Outlet, scope: Any, receive: Any, send: Any
) -> None:
    """Answer in HTTP/1.0, which has no chunks: without a length, the end of the connection is the end."""

    async def send_in_old_way(message: Any) -> None:
        if message["type"] == "http.response.start":
            if not any(name.lower() == b"content-length" for name, _ in message["headers"]):
                cycle.chunked_encoding = False
                outlet.is_until_closed = True
        elif outlet.is_until_closed:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    await app(scope, receive, send_in_old_way)
