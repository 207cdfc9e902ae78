"""What does the upstream's answer say? Bytes in, head and pieces of the body out; no I/O.

The parser is llhttp. It is strict about syntax, lengths and line ends, but it would also take several transfer
codings, chunks in HTTP/1.0, statuses outside 200 to 599, RTSP, heads of any size and a second response behind the
first one. Those are refused here (security D5).
"""

from typing import NoReturn

import httptools

from chatproxy.forwarding import (
    SWITCHING_PROTOCOLS,
    Framing,
    RefusedResponseError,
    ResponseHead,
    response_head,
)
from chatproxy.web.upstream.errors import UpstreamAbortedError, UpstreamProtocolError

_MOST_HEADERS = 200
_MOST_INFORMATIONAL = 10
_LONGEST_WITHOUT_BODY = 65_536
"""Bytes of head, chunk extensions or trailers that may arrive with no byte of body between them."""
_CONTINUE = 100
_FIRST_FINAL_STATUS = 200
_FIRST_BYTE = ord("H")


class ResponseReader:
    """Reads one final response, after at most ten informational ones, which end here.

    ``head`` is None until it has arrived. ``pieces`` are what was read of the body and not taken out yet, cut as it was cut
    by the network and by the upstream's chunks. ``is_reusable`` says that the connection is in a
    known state after the response: nothing follows it, and the upstream keeps it open. ``has_switched`` says that the
    connection is no longer HTTP, and ``rest`` is what came behind the head by then.
    """

    __slots__ = (
        "_drop",
        "_fault",
        "_headers",
        "_informational",
        "_keep_alive",
        "_may_switch",
        "_parser",
        "_reason",
        "_since_body",
        "_to_head_request",
        "has_started",
        "has_switched",
        "head",
        "is_complete",
        "is_reusable",
        "pieces",
        "rest",
    )

    def __init__(self, *, to_head_request: bool, drop: frozenset[bytes], may_switch: bool = False) -> None:
        """``may_switch``: the request asked to switch to WebSocket."""
        self.head: ResponseHead | None = None
        self.pieces: list[bytes] = []
        self.has_started = False
        self.is_complete = False
        self.is_reusable = False
        self.has_switched = False
        self.rest = b""
        self._may_switch = may_switch
        self._to_head_request = to_head_request
        self._drop = drop
        self._headers: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._informational = 0
        self._keep_alive = False
        self._since_body = 0
        self._fault: UpstreamProtocolError | None = None
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take what has arrived. Raises UpstreamProtocolError, and then ``pieces`` has what was good before."""
        if not self.has_started:
            self.has_started = True
            if data[0] != _FIRST_BYTE:
                raise UpstreamProtocolError("the upstream does not answer in HTTP/1.1")
        self._since_body += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self.has_switched and isinstance(error, httptools.HttpParserUpgrade):
                self.rest = data[error.args[0] :]
                return
            self.is_reusable = False
            if not self.is_complete:
                raise self._fault or UpstreamProtocolError(
                    f"the upstream's answer is not valid HTTP: {error}"
                ) from None
        finally:
            if self.is_complete:
                # The parser holds this object's methods: without this, each response would wait for the collector.
                del self._parser
        if self._since_body > _LONGEST_WITHOUT_BODY and not self.is_complete:
            raise UpstreamProtocolError(
                "the upstream's answer has too long a head, or too much between its chunks"
            )

    def finish(self) -> None:
        """Take the orderly end of the connection. Raises UpstreamAbortedError where it comes too early."""
        if self.head is None or self.head.framing is not Framing.CLOSE:
            raise UpstreamAbortedError("the upstream closed the connection before its answer was whole")
        self.is_complete = True
        del self._parser

    # Called by the parser. What is raised here stops it.

    def on_message_begin(self) -> None:
        """A response begins."""
        if self.is_complete:
            self._refuse("the upstream sends more than its answer")

    def on_status(self, reason: bytes) -> None:
        """A part of the reason phrase."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which ends here."""
        self._headers.append((name, value))
        if len(self._headers) > _MOST_HEADERS:
            self._refuse(f"the upstream's answer has more than {_MOST_HEADERS} headers")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        parser = self._parser
        status = parser.get_status_code()
        switches = self._may_switch and status == SWITCHING_PROTOCOLS
        if _CONTINUE <= status < _FIRST_FINAL_STATUS and not switches:
            self._pass_over()
            return
        http_version = parser.get_http_version()
        if http_version not in {"1.1", "1.0"}:
            self._refuse("the upstream does not answer in HTTP/1.1")
        # Only a large feed needs the exact sum.
        if self._since_body > _LONGEST_WITHOUT_BODY and self._head_size() > _LONGEST_WITHOUT_BODY:
            self._refuse("the upstream's answer has too long a head")
        try:
            self.head = response_head(
                status,
                self._reason,
                self._headers,
                http_version=http_version,
                to_head_request=self._to_head_request,
                drop=self._drop,
                may_switch=switches,
            )
        except RefusedResponseError as error:
            self._refuse(f"the upstream's answer is refused: {error}")
        self.has_switched = switches
        # One who was asked to switch and did not may yet take what follows for the other protocol.
        self._keep_alive = parser.should_keep_alive() and not self._may_switch
        # Whether a body comes where there must be none cannot be seen in time: such a connection is not used again.
        self.is_complete = self.head.framing is Framing.NO_BODY

    def on_body(self, piece: bytes) -> None:
        """A piece of the body."""
        if self.is_complete:
            self._refuse("the upstream sends a body where there is none")
        self._since_body = 0
        self.pieces.append(piece)

    def on_message_complete(self) -> None:
        """The response is whole."""
        if self.head is not None and not self.is_complete:
            self.is_complete = True
            self.is_reusable = self._keep_alive

    def _pass_over(self) -> None:
        """End an informational response here. After 101 the parser stops by itself."""
        self._informational += 1
        if self._informational > _MOST_INFORMATIONAL:
            self._refuse("the upstream sends informational answers without end")
        self._headers = []
        self._reason = b""

    def _head_size(self) -> int:
        return sum(len(name) + len(value) for name, value in self._headers)

    def _refuse(self, message: str) -> NoReturn:
        self._fault = UpstreamProtocolError(message)
        raise self._fault
