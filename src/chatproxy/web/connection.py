"""One connection of a client: what may be heard of it, when, and never waiting without end.

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
from typing import Any, NamedTuple

import httptools

from chatproxy.forwarding import Header, RefusedRequestError
from chatproxy.telemetry import Log
from chatproxy.web.client_call import ClientCall, Serve, Switched
from chatproxy.web.crowd import Crowd
from chatproxy.web.framing import (
    ChunkedBody,
    Head,
    HeadLimits,
    body_too_large,
    check_beginning,
    not_http,
    read_head,
)
from chatproxy.web.handshake import asks_for_websocket

_log = Log("server")
_MOST_EARLY_BYTES = 65_536
"""What may wait of a client that speaks before it is answered, until it is made to wait itself."""
_LAST_WORDS_SECONDS = 2.0
_FIRST_WORDS_SECONDS = 1.0
"""How long who has connected just before the server takes no more may be on the way with his request."""
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
    grace: float = 0.2
    """For beginning to speak, before he may have to give way to others."""


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

    serve: Serve
    is_tls: bool
    limits: ClientLimits
    crowd: Crowd
    words: Words
    cut: Callable[[str], None]
    """Is told why a connection was ended before its client had what he wanted."""
    not_in_trailers: Collection[bytes]
    connections: "set[ClientConnection]"
    """Those that are open."""
    tasks: dict[ClientCall, asyncio.Task[None]]
    """Those that answer, by what."""


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


_TOO_MANY = {
    False: RefusedRequestError(
        "too_many_connections", "there are too many connections; wait and try again", status=503
    ),
    True: RefusedRequestError(
        "too_many_connections",
        "there are too many connections from this address; use fewer, or wait and try again",
        status=429,
    ),
}
"""What who is turned away is told, by whether it is the connections of his own address that leave no room."""


def no_room(house: House, address: str, coming: int) -> bytes | None:
    """Return what who comes from *address* is told, *coming* others being on their way in; None: he may come in."""
    found = house.crowd.no_room(address, coming)
    if found is None:
        return None
    house.cut("no_room")
    return last_words(house, _TOO_MANY[found.is_own_fault], "", "")


def last_words(house: House, refused: RefusedRequestError, method: str, path: str) -> bytes:
    """Return an answer with which a connection ends, in the dialect of the request as far as that is known."""
    body, headers = house.words(Refusal(refused.status, refused.code, str(refused), method, path))
    headers = headers + _MORE_HEADERS.get(refused.status, [])
    return b"\r\n".join(
        [
            b"HTTP/1.1 %d %b" % (refused.status, _REASONS[refused.status]),
            *(name + b": " + value for name, value in headers),
            b"content-length: %d" % len(body),
            b"connection: close",
            b"",
            b"" if method == "HEAD" else body,
        ]
    )


class ClientConnection(asyncio.Protocol):
    """See the module."""

    def __init__(self, house: House) -> None:
        self.loop = asyncio.get_running_loop()
        self.transport: asyncio.Transport
        self.client: tuple[str, int] | None = None
        self.server: tuple[str, int] | None = None
        self.certificate: dict[str, Any] | None = None
        self.is_write_paused = False
        self._house = house
        self._limits = house.limits
        self._call: ClientCall | None = None
        """The request that is under way."""
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._stage: _Stage
        self._deadline: float
        self._waits_since: float
        self._head: Head
        self._pending = b""
        """What has come and is not told the parser."""
        self._chunks: ChunkedBody | None = None
        self._has_surplus = False
        self._keeps_alive = False
        self._is_read_paused = False
        self._is_over = False
        """Whether the last words have been written."""
        self._is_leaving = False
        """Whether no further request is taken."""
        self._ignored = 0
        self._swept_at = 0.0
        self._written = 0
        self._taken = 0
        self._moved_at = 0.0

    @property
    def scheme(self) -> str:
        """See Line."""
        return "https" if self._house.is_tls else "http"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = transport  # type: ignore[assignment]
        self.client = _address(transport.get_extra_info("peername"))
        self.server = _address(transport.get_extra_info("sockname"))
        self.certificate = transport.get_extra_info("peercert")
        self._house.connections.add(self)
        self._begin_head(self._limits.head_timeout)
        no_room = self._house.crowd.enter(self, self.client[0] if self.client else "")
        if no_room is None:
            return
        self._house.cut("no_room")
        if no_room.may_be_told:
            self._refuse(_TOO_MANY[no_room.is_own_fault])
        else:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio.Protocol's
        """See asyncio.Protocol."""
        self._house.connections.discard(self)
        self._house.crowd.leave(self)
        call, self._call = self._call, None
        # Both hold this object or its methods: without this, each connection would wait for the collector.
        self._parser = None
        if call is not None and not call.is_complete:
            call.leave()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._stage is _Stage.ENDED:
            self._ignored += len(data)
            if self._ignored > _MOST_IGNORED_BYTES:
                self.pause_reading()
            return
        self._pending += data
        if self._stage is _Stage.HEAD or self._stage is _Stage.BODY:
            self._advance()
        else:
            self._hold()

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self.is_write_paused = True
        if self._call is not None:
            self._call.write_paused()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self.is_write_paused = False
        if self._call is not None:
            self._call.write_resumed()

    def may_give_way(self) -> bool:
        """See Guest. Half a head has been heard: nobody keeps his place by sending the rest in pieces."""
        if self.loop.time() - self._waits_since < self._limits.grace:
            return False
        # What is closed with something unsent stays until that is taken, and nobody would count it.
        is_busy = self.transport.get_write_buffer_size() or (
            self._stage is _Stage.HEAD and not self._pending and _waiting_bytes(self.transport, "FIONREAD")
        )
        return not is_busy

    def give_way(self) -> None:
        """See Guest."""
        self._house.cut("no_room")
        self.transport.close()

    def sweep(self, now: float) -> None:
        """End what has waited for the client for too long. To be called once a second or so."""
        if self._stage is _Stage.SWITCHING and self._call is not None and self._call.is_gone:
            # It is the tunnel's.
            return
        if self._is_stuck(now):
            self._house.cut("slow_reader")
            self.abort()
        elif self._stage is _Stage.BODY and self._is_read_paused:
            # The backend takes its time.
            self._deadline += now - self._swept_at
        elif now >= self._deadline:
            self._time_out()
        self._swept_at = now

    def shutdown(self) -> None:
        """Take no further request, but a first one."""
        self._is_leaving = True
        if self._call is not None and not self._call.is_complete:
            self._call.keeps_alive = self._keeps_alive = False
        elif self._written:
            self.transport.close()
        else:
            self._deadline = min(self._deadline, self.loop.time() + _FIRST_WORDS_SECONDS)

    def abort(self) -> None:
        """End at once; with a reset, where an orderly end would be taken for that of an answer."""
        self._stage = _Stage.ENDED
        if self._call is not None and self._call.is_until_closed:
            reset = struct.pack("ii", 1, 0)
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        self.transport.abort()

    # Called by the parser.

    def on_headers_complete(self) -> None:
        """The head is whole."""
        if self._call is not None or self._parser is None:
            raise not_http()
        call = self._call = ClientCall(self, self._head)
        # HTTP/1.0 has no upgrades (RFC 9110 7.8), and here no second request.
        self._keeps_alive = not (self._head.is_old or self._is_leaving) and self._parser.should_keep_alive()
        # An answer to what is not whole yet is the last one: who knows what the client makes of that.
        call.keeps_alive = self._keeps_alive and self._head.length == 0
        if (
            self._head.asks_to_upgrade
            and not self._head.is_old
            and self._parser.should_upgrade()
            and asks_for_websocket(self._head.headers)
        ):
            call.keeps_alive = False
            call.switch = self._switch
        self._house.tasks[call] = self.loop.create_task(self._serve(call))

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        if self._call is not None:
            self._call.hear(piece)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._is_heard = True
        if self._call is not None:
            self._call.hear_end()

    # Called by the call.

    def write(self, data: bytes) -> None:
        """See Line; nothing, once the last words have been written."""
        if not self._is_over:
            self._written += len(data)
            self.transport.write(data)

    def pause_reading(self) -> None:
        """See Line."""
        if not self._is_read_paused:
            self._is_read_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """See Line."""
        if self._is_read_paused:
            self._is_read_paused = False
            self.transport.resume_reading()

    def answered(self) -> None:
        """See Line."""
        if self._call is not None and not self._call.keeps_alive:
            self._end()
        if self.transport.is_closing() or self._stage is not _Stage.ANSWER:
            return
        self.resume_reading()
        self._begin_head(self._limits.idle_timeout)
        self._house.crowd.waits(self)
        if self._pending:
            self._advance()

    def cut(self) -> None:
        """See Line."""
        if self._call is not None and self._call.is_until_closed:
            self.abort()
        else:
            self.transport.close()

    async def _serve(self, call: ClientCall) -> None:
        """Have a call answered, whatever happens."""
        try:
            await self._house.serve(call)
        except Exception as error:  # noqa: BLE001 - the outer edge: one request's failure is no other's
            _log.error("a request failed", failure=error)
        finally:
            del self._house.tasks[call]
            call.fail()

    # What comes.

    def _begin_head(self, timeout: float) -> None:
        self._stage = _Stage.HEAD
        self._waits_since = self.loop.time()
        self._deadline = self._waits_since + timeout
        self._has_begun = False
        self._scanned = 0
        self._call = None
        self._is_heard = False

    def _advance(self) -> None:
        """Go as far as what has come allows."""
        try:
            while self._pending:
                if self._stage is _Stage.HEAD:
                    if not self._take_head():
                        return
                elif self._stage is _Stage.BODY:
                    self._take_body()
                else:
                    if self._stage is not _Stage.ENDED:
                        self._hold()
                    return
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
            self._pending = pending[2:]
            self._may_be_empty = False
            return True
        self._may_be_empty = False
        end = pending.find(b"\r\n\r\n", self._scanned)
        limits = self._limits.head
        if end < 0 or end + 4 > limits.head:
            check_beginning(pending[: limits.head + 1], limits, known=self._scanned)
            self._scanned = max(0, len(pending) - 3)
            return False
        head = pending[: end + 4]
        self._head = found = read_head(head, limits)
        self._house.crowd.works(self)
        self._received = 0
        self._left = found.length or 0
        self._chunks = ChunkedBody(forbidden=self._house.not_in_trailers) if found.length is None else None
        self._stage = _Stage.ANSWER if found.length == 0 else _Stage.BODY
        self._swept_at = self.loop.time()
        self._deadline = _NEVER if found.length == 0 else self._swept_at + self._limits.body_timeout
        self._pending = pending[end + 4 :]
        call = self._tell(head)
        if call.switch is not None:
            self._stage = _Stage.SWITCHING
        return True

    def _take_body(self) -> None:
        pending = self._pending
        if self._chunks is None:
            size = min(self._left, len(pending))
            self._left -= size
            is_whole = not self._left
        else:
            end = self._chunks.end_in(pending)
            size = len(pending) if end is None else end
            is_whole = end is not None
            limit = self._limits.head.body
            if limit is not None and self._chunks.size > limit:
                raise body_too_large(limit)
        self._received += size
        piece, self._pending = pending[:size], pending[size:]
        if is_whole:
            self._stage = _Stage.ANSWER
            self._deadline = _NEVER
        call = self._tell(piece)
        if is_whole and not call.has_begun:
            call.keeps_alive = self._keeps_alive

    def _tell(self, data: bytes) -> ClientCall:
        """Tell the parser, which must agree about where the request ends; return the call that it has made."""
        try:
            if self._parser is not None:
                self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError:
            raise not_http() from None
        if self._call is None or self._is_heard is not (self._stage is _Stage.ANSWER):
            raise not_http()
        return self._call

    def _hold(self) -> None:
        """Keep what comes before its turn."""
        if self._stage is _Stage.ANSWER and (self._head.length != 0 or self._head.asks_to_upgrade):
            # A second request, or the rest of a first one that was told wrongly how long it is.
            self._has_surplus = True
            if self._call is not None:
                self._call.keeps_alive = False
            self._pending = b""
        elif len(self._pending) > _MOST_EARLY_BYTES:
            self.pause_reading()

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
        elif self._stage is not _Stage.ENDED:
            self.transport.close()
        elif not (self.transport.get_write_buffer_size() or _waiting_bytes(self.transport, "TIOCOUTQ")):
            # Who still takes what was written is not cut; who does not is stuck.
            self.transport.abort()

    def _refuse(self, refused: RefusedRequestError) -> None:
        """Answer what is not one request and end; where an answer is under way, end it visibly unfinished."""
        method, path = self._asked()
        call = self._call
        if call is not None:
            method, path = call.method, call.raw_path
            if call.has_begun:
                self.abort()
                return
            call.leave()
        self.write(last_words(self._house, refused, method, path))
        self._end()

    def _asked(self) -> tuple[str, str]:
        """Return method and path of a head that was refused, as far as it has them, to answer in its dialect."""
        words = self._pending[: self._limits.head.target].partition(b"\r\n")[0].split(b" ")
        if len(words) != 3 or not words[0].isalpha() or not words[1].isascii():  # noqa: PLR2004 - of a request line
            return "", ""
        return words[0].decode(), words[1].partition(b"?")[0].decode()

    def _end(self) -> None:
        """Close behind what was written, so that it arrives although the client may still be sending."""
        self._house.crowd.waits(self)
        self._is_over = True
        if self._stage is _Stage.ANSWER and not self._has_surplus and not self._pending:
            self._stage = _Stage.ENDED
            self.transport.close()
            return
        self._stage = _Stage.ENDED
        self._pending = b""
        self._waits_since = self.loop.time()
        self._deadline = self._waits_since + _LAST_WORDS_SECONDS
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self.resume_reading()

    def _is_stuck(self, now: float) -> bool:
        """Whether the client has taken nothing of what waits for him for too long."""
        waiting = self.transport.get_write_buffer_size()
        taken = self._written - waiting
        if waiting:
            # What the system takes from us, it takes in large steps.
            taken -= _waiting_bytes(self.transport, "TIOCOUTQ")
        if not waiting or taken != self._taken:
            self._taken = taken
            self._moved_at = now
        return now - self._moved_at >= self._limits.take_timeout

    def _switch(self, protocol: asyncio.Protocol) -> Switched | None:
        """See Switch."""
        if self._call is None or self._call.is_gone:
            return None
        # There is nobody left to answer; the connection is counted until it is lost.
        self._call.is_gone = True
        self._deadline = _NEVER
        self.transport.set_protocol(protocol)
        return Switched(self.transport, self._pending, self.is_write_paused, self.connection_lost)


def _address(name: Any) -> tuple[str, int] | None:
    """Return host and port of a socket's name; None for one that has none, such as of a Unix socket."""
    return (str(name[0]), int(name[1])) if isinstance(name, (tuple, list)) else None


def _waiting_bytes(transport: asyncio.BaseTransport, which: str) -> int:
    """Return how much waits in the system: to be read by us (FIONREAD), or to be delivered (TIOCOUTQ)."""
    if sys.platform == "win32":
        return 0
    import fcntl  # noqa: PLC0415 - not on every platform
    import termios  # noqa: PLC0415 - not on every platform

    try:
        answer = fcntl.ioctl(transport.get_extra_info("socket").fileno(), getattr(termios, which), b"\0" * 4)
    except OSError:
        return 0
    return int.from_bytes(answer, sys.byteorder)
