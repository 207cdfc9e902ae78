"""What can go wrong between chatproxy and the upstream. No message repeats what the upstream or a client sent."""

from chatproxy.errors import ChatproxyError


class UpstreamError(ChatproxyError):
    """There is no whole answer of the upstream; whatever arrived before has been handed on."""


class UpstreamUnreachableError(UpstreamError):
    """No connection: refused, no such name, no route, or a certificate that cannot be trusted."""


class UpstreamTimeoutError(UpstreamError):
    """The upstream took too long to connect, to begin its answer, to take the request or to go on."""


class UpstreamProtocolError(UpstreamError):
    """The answer is not HTTP/1.1 that can be read in one way only (security D5)."""


class UpstreamAbortedError(UpstreamError):
    """The connection ended before the answer did."""
