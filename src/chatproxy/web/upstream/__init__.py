"""The HTTP/1.1 client of the byte path (ADR 1): small, strict, and made for one upstream.

::

    call = await upstream.start(b"POST", target, headers, answered, length=length, body=first, more_body=True)
    call.write(piece, more_body=False)
    await call.whole()

where *answered* is told head and pieces as they come; or, after the head of a 101 that was asked for::

    connection, rest = call.switch(user)
"""

from chatproxy.web.upstream.connection import Answered, Connection as UpstreamConnection, UpstreamCall
from chatproxy.web.upstream.errors import (
    UpstreamAbortedError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from chatproxy.web.upstream.pool import Upstream

__all__ = [
    "Answered",
    "Upstream",
    "UpstreamAbortedError",
    "UpstreamCall",
    "UpstreamConnection",
    "UpstreamError",
    "UpstreamProtocolError",
    "UpstreamTimeoutError",
    "UpstreamUnreachableError",
]
