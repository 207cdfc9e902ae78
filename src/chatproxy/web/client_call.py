"""One request of a client and the answer to it: what is heard of the one, and what is sent of the other.

Rules of this file:

1. The head of an answer goes out together with what is written first, and a last piece with the end, in one write.
2. Here alone is said how an answer ends. One that is not whole is never ended as if it were.
3. Who writes is told when to cease (``Source``); at most what is written at a time waits beyond the transport's own limit.
4. ``scope``, ``receive`` and ``send`` are ASGI for those who speak it, around ``read``, ``begin`` and ``write``.
"""

import asyncio
import re
from collections.abc import Callable, Coroutine, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote

from chatproxy.forwarding import Header
from chatproxy.web.framing import Head

CALL = "chatproxy.call"
"""Scope key of the ``ClientCall``."""

CLIENT_CERTIFICATE = "chatproxy.client_certificate"
"""Scope key of the client's certificate as ``ssl`` gives it, verified; absent if none came, and without TLS."""

_MOST_UNHEARD_BYTES = 65_536
"""What may wait of a request's body until somebody asks for it, before the client is made to wait."""
_HEADERS = re.compile(rb"(?:\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]++: [^\x00-\x08\x0a-\x1f\x7f]*+)*+")
_STATUS_LINES: dict[int, bytes] = {
    **{status: b"HTTP/1.1 %d " % status for status in range(200, 600)},
    **{status: b"HTTP/1.1 %d %b" % (status, status.phrase.encode()) for status in HTTPStatus},
}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BODILESS = frozenset((204, 304))
_FRAMING = frozenset((b"connection", b"transfer-encoding"))
"""What an application may say of it is said here."""


class Switched(NamedTuple):
    """A client's connection that is no longer HTTP."""

    transport: asyncio.Transport
    early: bytes
    """What came behind the request."""
    is_write_paused: bool
    forget: Callable[[Exception | None], None]
    """To be called when the connection is lost, as the server counts it until then."""


Switch = Callable[[asyncio.Protocol], Switched | None]
"""Gives the connection to the protocol that it gets, and returns it, whose reading may be paused; None if it has gone. The
answer must then be written there."""


class Source(Protocol):
    """Where the pieces of an answer come from."""

    def pause_reading(self) -> None:
        """The client does not take what it is sent."""

    def resume_reading(self) -> None:
        """The client takes more."""


class Line(Protocol):
    """What a call needs of the connection that it came on."""

    loop: asyncio.AbstractEventLoop
    client: tuple[str, int] | None
    server: tuple[str, int] | None
    is_write_paused: bool
    certificate: dict[str, Any] | None
    """The client's, if there is TLS and one came."""

    @property
    def scheme(self) -> str:
        """Return ``http`` or ``https``."""

    def write(self, data: bytes) -> None:
        """Send."""

    def pause_reading(self) -> None:
        """Have the client wait."""

    def resume_reading(self) -> None:
        """Let the client send."""

    def answered(self) -> None:
        """The answer is whole."""

    def cut(self) -> None:
        """The answer will not be whole: end, so that the client sees that."""


class ClientCall:
    """One request, and its answer.

    One task reads, the same or another one answers, or the callbacks of a connection do.
    """

    __slots__ = (
        "_changed",
        "_drained",
        "_has_news",
        "_is_chunked",
        "_left",
        "_line",
        "_pieces",
        "_source",
        "_unheard",
        "_unsent",
        "_when_gone",
        "has_begun",
        "head",
        "is_complete",
        "is_gone",
        "is_until_closed",
        "keeps_alive",
        "method",
        "more_body",
        "raw_path",
        "switch",
        "waits_to_continue",
    )

    def __init__(self, line: Line, head: Head) -> None:
        self.head = head
        self.method = head.method.decode()
        self.raw_path = head.target.partition(b"?")[0].partition(b"#")[0].decode()
        """The path as received."""
        self.switch: Switch | None = None
        """There if the request asks for a WebSocket."""
        self.keeps_alive = False
        """Whether the connection serves another request after this one."""
        self.waits_to_continue = head.expects_continue and head.length != 0
        self.more_body = True
        self.has_begun = False
        self.is_complete = False
        """Whether the whole answer has been written."""
        self.is_gone = False
        """Whether there is nobody to be answered any more."""
        self.is_until_closed = False
        """Whether the end of the connection is the end of the answer, as in HTTP/1.0."""
        self._line = line
        self._pieces: list[bytes] = []
        self._unheard = 0
        self._has_news = False
        self._changed: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._source: Source | None = None
        self._when_gone: Callable[[], None] | None = None
        self._unsent = b""
        self._is_chunked = False
        self._left: int | None = None

    @property
    def address(self) -> str | None:
        """Return the address of the client, if it is known."""
        return self._line.client[0] if self._line.client else None

    @property
    def path(self) -> str:
        """Return the path, decoded."""
        return unquote(self.raw_path) if "%" in self.raw_path else self.raw_path

    async def read(self) -> tuple[bytes, bool] | None:
        """Return the next piece of the body, and whether more may follow; None: the client has gone, or is answered.

        The body's end is told once; whoever asks again waits for the client to leave.
        """
        if not (self.is_gone or self.is_complete):
            if self.waits_to_continue:
                self.waits_to_continue = False
                self._line.write(_CONTINUE)
            self._line.resume_reading()
            while not self._has_news:
                self._changed = self._line.loop.create_future()
                await self._changed
            self._has_news = False
        if self.is_gone or self.is_complete:
            return None
        piece = b"".join(self._pieces)
        self._pieces.clear()
        self._unheard = 0
        return piece, self.more_body

    def tell_when_gone(self, call: Callable[[], None]) -> None:
        """Have *call* called if the client leaves before he has the whole answer, without a task that waits for it."""
        if self.is_gone:
            call()
            return
        self._when_gone = call
        # It may have been paused for a long body, and who does not read does not hear that he leaves.
        self._line.resume_reading()

    def draw_from(self, source: Source) -> None:
        """Have *source* wait while the client does not take what is written."""
        self._source = source
        if self._line.is_write_paused:
            source.pause_reading()

    def begin(self, status: int, headers: Sequence[Header], *, length: int | None) -> None:
        """Begin the answer; a ``write`` must follow at once, with or without a piece.

        ``length``: bytes of the body, as *headers* say it; None: its end is told in another way, which is added, as is
        whether the connection stays. Raises ValueError where *headers* are not headers.
        """
        lines = b"\r\n".join((b"", *map(b": ".join, headers)))
        if self.has_begun or lines.count(b"\n") != len(headers) or not _HEADERS.fullmatch(lines):
            raise ValueError("not the headers of an answer")
        self.has_begun = True
        self.waits_to_continue = False
        more = b"" if self.keeps_alive else b"\r\nconnection: close"
        if self.method == "HEAD" or status in _BODILESS:
            self._left = 0
        elif length is not None:
            self._left = length
        elif self.head.is_old:
            self.is_until_closed = True
        else:
            self._is_chunked = True
            more += b"\r\ntransfer-encoding: chunked"
        self._unsent = b"%b%b%b\r\n\r\n" % (_STATUS_LINES[status], lines, more)

    def write(self, pieces: Sequence[bytes], *, more_body: bool) -> None:
        """Send pieces of the answer. Raises ValueError where they are not as many bytes as announced."""
        if self.is_gone:
            return
        if self.is_complete:
            raise ValueError("an answer goes on behind its end")
        if self._is_chunked:
            data = b"".join([b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece])
            if not more_body:
                data += b"0\r\n\r\n"
        elif self.method == "HEAD":
            data = b""
        else:
            data = b"".join(pieces)
            if self._left is not None:
                self._left -= len(data)
                if self._left < 0 or (self._left and not more_body):
                    raise ValueError("an answer is not as long as announced")
        if self._unsent:
            data, self._unsent = self._unsent + data, b""
        if data:
            self._line.write(data)
        if not more_body:
            self.is_complete = True
            self._when_gone = self._source = None
            self._tell_reader()
            self._line.answered()

    def fail(self) -> None:
        """Answer that there was a fault of ours, or cut the answer short that has begun."""
        if self.is_gone or self.is_complete:
            return
        if self.has_begun:
            self._line.cut()
            return
        self.keeps_alive = False
        body = b"Internal Server Error"
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
        self.begin(500, headers, length=len(body))
        self.write((body,), more_body=False)

    # Called by the connection.

    def hear(self, piece: bytes) -> None:
        """A piece of the body has come."""
        if self.is_complete:
            return
        self._pieces.append(piece)
        self._unheard += len(piece)
        if self._unheard > _MOST_UNHEARD_BYTES:
            self._line.pause_reading()
        self._tell_reader()

    def hear_end(self) -> None:
        """The body is whole."""
        self.more_body = False
        self._tell_reader()

    def leave(self) -> None:
        """There is nobody to be answered any more."""
        self.is_gone = True
        when_gone, self._when_gone, self._source = self._when_gone, None, None
        self._tell_reader()
        self.write_resumed()
        if when_gone is not None:
            when_gone()

    def write_paused(self) -> None:
        """The client does not take what it is sent."""
        if self._source is not None:
            self._source.pause_reading()

    def write_resumed(self) -> None:
        """The client takes more, or has gone."""
        if self._source is not None:
            self._source.resume_reading()
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)

    def _tell_reader(self) -> None:
        self._has_news = True
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    # ASGI.

    @property
    def scope(self) -> dict[str, Any]:
        """Return a scope of ASGI."""
        line = self._line
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.0" if self.head.is_old else "1.1",
            "server": line.server,
            "client": line.client,
            "scheme": line.scheme,
            "root_path": "",
            "headers": self.head.headers,
            "method": self.method,
            "path": self.path,
            "raw_path": self.raw_path.encode(),
            "query_string": self.head.target.partition(b"#")[0].partition(b"?")[2],
            CALL: self,
        }
        if line.certificate:
            scope[CLIENT_CERTIFICATE] = line.certificate
        return scope

    async def receive(self) -> dict[str, Any]:
        """See ASGI."""
        heard = await self.read()
        if heard is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": heard[0], "more_body": heard[1]}

    async def send(self, message: Any) -> None:
        """See ASGI. Waits until the client has taken what was sent before."""
        while self._line.is_write_paused and not self.is_gone:
            self._drained = self._line.loop.create_future()
            await self._drained
        if self.is_gone:
            return
        if message["type"] == "http.response.start":
            headers: list[Header] = [(name.lower(), value) for name, value in message["headers"]]
            said = dict(headers)
            if b"close" in said.get(b"connection", b"").lower():
                self.keeps_alive = False
            length = said.get(b"content-length")
            kept = [header for header in headers if header[0] not in _FRAMING]
            self.begin(message["status"], kept, length=None if length is None else int(length))
            self.write((), more_body=True)
        else:
            more_body = message.get("more_body", False)
            self.write((message.get("body", b""),), more_body=more_body)


Serve = Callable[[ClientCall], Coroutine[Any, Any, None]]
"""Answers one call. An answer that is not whole when it returns is cut short."""


def asgi(app: Any) -> Serve:
    """Serve an ASGI application."""

    def serve(call: ClientCall) -> Coroutine[Any, Any, None]:
        answering: Coroutine[Any, Any, None] = app(call.scope, call.receive, call.send)
        return answering

    return serve
