"""The HTTP/1.1 client of the byte path (ADR 1): small, strict, and made for one upstream.

::

    call = await upstream.start(b"POST", target, headers, length=length, body=first, more_body=True)
    call.write(piece, more_body=False)
    head = await call.head()
    piece, more = await call.read()

or, after the head of a 101 that was asked for::

    connection, rest = call.switch(user)
"""

from chatproxy.web.upstream.connection import Connection as UpstreamConnection, UpstreamCall
from chatproxy.web.upstream.errors import (
    UpstreamAbortedError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from chatproxy.web.upstream.pool import Upstream

__all__ = [
    "Upstream",
    "UpstreamAbortedError",
    "UpstreamCall",
    "UpstreamConnection",
    "UpstreamError",
    "UpstreamProtocolError",
    "UpstreamTimeoutError",
    "UpstreamUnreachableError",
]
