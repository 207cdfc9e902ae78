"""The pool of connections to the one upstream, and the way requests get onto them.

Connections are kept after use for at most ``idle_expiry``, 4 s unless told otherwise: shorter than the 5 s after
which the servers that chat backends are usually made of (uvicorn, Node.js) close an idle connection themselves, so
that seldom a request meets a connection that is just being closed. One that does is sent again only if its method is
safe and it has no body (RFC 9110 9.2.2); a chat is never sent twice.

Nothing is read from the environment: no proxies, no ``netrc``. Redirects are answers like others.
"""

import asyncio
import ssl

from chatproxy.forwarding import Header, RefusedRequestError, UpstreamAddress
from chatproxy.web.upstream.connection import Answered, Connection, UpstreamCall
from chatproxy.web.upstream.errors import UpstreamTimeoutError, UpstreamUnreachableError

_SAFE_METHODS = frozenset((b"GET", b"HEAD", b"OPTIONS"))
_SWEEPS_A_TIMEOUT = 4


class Upstream:
    """The chat backend, as a client sees it. All timeouts are seconds, and are met to within a quarter.

    *connect_timeout* is for name, connection and TLS; *head_timeout* for the head of the answer, from the end of the
    request; *idle_timeout* for silence inside an answer, and for taking no more of a request. *drop* are lower-case
    names of response headers that only chatproxy may set.
    """

    def __init__(
        self,
        address: UpstreamAddress,
        *,
        connect_timeout: float,
        head_timeout: float,
        idle_timeout: float,
        idle_expiry: float = 4.0,
        ssl_context: ssl.SSLContext | None = None,
        drop: frozenset[bytes] = frozenset(),
    ) -> None:
        self.loop: asyncio.AbstractEventLoop
        self.head_timeout = head_timeout
        self.idle_timeout = idle_timeout
        self.idle_expiry = idle_expiry
        self._address = address
        self._connect_timeout = connect_timeout
        self._ssl_context = (ssl_context or ssl.create_default_context()) if address.is_tls else None
        self._drop = drop
        self._connections: set[Connection] = set()
        self._idle: dict[Connection, None] = {}
        self._sweeping: asyncio.TimerHandle | None = None
        self._sweep_every = min(head_timeout, idle_timeout, idle_expiry) / _SWEEPS_A_TIMEOUT
        self._all_closed: asyncio.Future[None] | None = None

    async def start(
        self,
        method: bytes,
        target: bytes,
        headers: list[Header],
        answered: Answered,
        *,
        length: int | None,
        body: bytes = b"",
        more_body: bool = False,
        may_switch: bool = False,
    ) -> UpstreamCall:
        """Send a request's head together with *body*, which is the whole or the first piece of the body.

        *answered* is told the response, from now on.

        *target*, *headers* and *length* are as ``chatproxy.forwarding`` makes them. *may_switch*: they ask for a
        WebSocket, which gets a connection of its own. Raises UpstreamUnreachableError or UpstreamTimeoutError, and RefusedRequestError for what would not be one request.
        """
        head = b"%b %b HTTP/1.1\r\n%b\r\n\r\n" % (method, target, b"\r\n".join(map(b": ".join, headers)))
        # One line for each header and two more: no value has smuggled one in.
        lines = len(headers) + 2
        if head.count(b"\n") != lines or head.count(b"\r") != lines:
            raise RefusedRequestError("bad_header", "the request has a line break in its head")
        connection = (None if may_switch else self._take_idle()) or await self.connect()
        call = UpstreamCall(
            self,
            connection,
            answered,
            is_head_request=method == b"HEAD",
            length=length,
            drop=self._drop,
            may_switch=may_switch,
            replay=head if length == 0 and method in _SAFE_METHODS else None,
        )
        call.send(head, body, more_body=more_body)
        return call

    async def connect(self) -> Connection:
        """Open a new connection. Raises UpstreamUnreachableError or UpstreamTimeoutError."""
        self.loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await self.loop.create_connection(
                    lambda: Connection(self),
                    self._address.host,
                    self._address.port,
                    ssl=self._ssl_context,
                    server_hostname=self._address.host if self._ssl_context else None,
                )
        except TimeoutError:
            raise UpstreamTimeoutError(
                f"the upstream {self._address} did not accept a connection within {self._connect_timeout:g} s"
            ) from None
        except ssl.SSLCertVerificationError as error:
            raise UpstreamUnreachableError(
                f"the upstream {self._address} shows a certificate that is not trusted: {error.verify_message}"
            ) from None
        except OSError as error:
            raise UpstreamUnreachableError(
                f"the upstream {self._address} cannot be reached: {error.strerror or type(error).__name__}"
            ) from None
        self._connections.add(connection)
        if self._sweeping is None:
            self._sweeping = self.loop.call_later(self._sweep_every, self._sweep)
        return connection

    async def aclose(self) -> None:
        """Close all connections; calls that still run fail."""
        for connection in tuple(self._connections):
            if connection.call is not None:
                connection.call.abort()
            connection.transport.abort()
        if self._connections:
            self._all_closed = self.loop.create_future()
            await self._all_closed
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None

    def forget(self, connection: Connection) -> None:
        """See Pool."""
        self._connections.discard(connection)
        self._idle.pop(connection, None)
        if self._all_closed is not None and not self._connections and not self._all_closed.done():
            self._all_closed.set_result(None)

    def give_back(self, connection: Connection) -> None:
        """See Pool."""
        connection.is_reused = True
        connection.idle_since = self.loop.time()
        self._idle[connection] = None

    def _take_idle(self) -> Connection | None:
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.is_usable(self.loop.time()):
                return connection
            connection.transport.abort()
        return None

    def _sweep(self) -> None:
        now = self.loop.time()
        for connection in tuple(self._connections):
            connection.sweep(now)
        self._sweeping = self.loop.call_later(self._sweep_every, self._sweep) if self._connections else None
