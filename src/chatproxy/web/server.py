"""The HTTP server of both listeners: uvicorn with httptools, driven from our own start and stop (ADR 1).

Uvicorn's own signal handling and clocked main loop are not used: one process has two listeners, and the order in
which things stop matters more than which of them noticed the signal.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chatproxy.errors import ConfigurationError
from chatproxy.forwarding import Header
from chatproxy.web.handshake import asks_for_websocket

TARGET = "chatproxy.target"
"""Scope key of the request target, byte for byte as received (ASGI loses an empty query)."""

SWITCH = "chatproxy.switch"
"""Scope key, present if the request asks for a WebSocket: a function that gives the connection to the protocol that it
gets, and returns it, whose reading may be paused, as ``Switched``, or None if it has gone. The answer must then be written there, not sent."""

_MOST_EARLY_BYTES = 65_536
"""What may wait of a client that speaks before its handshake is answered, until it is made to wait itself."""
_KEEP_ALIVE_SECONDS = 75
_BACKLOG = 2048
_DRAIN_POLL_SECONDS = 0.02


class Switched(NamedTuple):
    """A client's connection that is no longer HTTP."""

    transport: asyncio.Transport
    early: bytes
    """What came behind the request."""
    is_write_paused: bool
    forget: Callable[[Exception | None], None]
    """To be called when the connection is lost, as the server counts it until then."""


class _Protocol(HttpToolsProtocol):
    """Uvicorn's protocol that also hands on the request target as received, and the connection for a WebSocket."""

    _is_switching = False
    """Whether a request for a WebSocket has arrived, behind which nothing is HTTP."""

    def __init__(self, *args: Any, refusal: Callable[[], tuple[bytes, list[Header]]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refusal = refusal

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP as it must be, or has a method that HTTP does not know, and close (security D1)."""
        del msg
        body, headers = self._refusal()
        lines = [b"HTTP/1.1 400 Bad Request", *(name + b": " + value for name, value in headers)]
        lines += [b"content-length: %d" % len(body), b"connection: close", b"", body]
        self.transport.write(b"\r\n".join(lines))
        self.transport.close()

    def on_headers_complete(self) -> None:
        self.scope[TARGET] = self.url  # type: ignore[literal-required]
        # HTTP/1.0 has no upgrades (RFC 9110 7.8).
        if (
            self.parser.should_upgrade()
            and self.parser.get_http_version() == "1.1"
            and asks_for_websocket(self.headers)
        ):
            self.scope[SWITCH] = self._switch  # type: ignore[literal-required]
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol; as uvicorn's, which leaves the timer of a connection that was reset, and so all of it."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol; as uvicorn's, but that what follows an upgrade is kept."""
        if self._is_switching:
            self._hold(data)
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("")
        except httptools.HttpParserUpgrade as upgrade:
            rest = data[upgrade.args[0] :]
            self._is_switching = SWITCH in self.scope
            if self._is_switching:
                self._early = bytearray()
                self._hold(rest)
            if self._is_switching or rest:
                # Where the upgrade is not taken up, what follows it cannot be told to be a request.
                self.cycle.keep_alive = False

    def _hold(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > _MOST_EARLY_BYTES:
            self.flow.pause_reading()

    def _switch(self, protocol: asyncio.Protocol) -> Switched | None:
        if self.cycle.disconnected:
            return None
        # For uvicorn there is nobody left to answer; it keeps counting the connection until it is lost.
        self.cycle.disconnected = True
        self.transport.set_protocol(protocol)
        return Switched(self.transport, bytes(self._early), self.flow.write_paused, self.connection_lost)


class Listener:
    """One listening address with its ASGI application."""

    def __init__(
        self,
        app: Any,
        *,
        host: str,
        port: int,
        setting: str,
        drain_seconds: float,
        listening: socket.socket | None = None,
        refusal: Callable[[], tuple[bytes, list[Header]]] = lambda: (b"this is not a request\n", []),
    ) -> None:
        """``listening``: a socket that is bound already, shared with other processes.

        ``refusal`` gives body and headers of the answer to what cannot be read as a request.
        """
        self._address = (host, port)
        self._setting = setting
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=partial(_Protocol, refusal=refusal),  # type: ignore[arg-type]
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                backlog=_BACKLOG,
            )
        )
        self._drain_seconds = drain_seconds
        self._is_cut = False
        self._socket = listening

    @property
    def url(self) -> str:
        """Where it listens, with the port the system chose if it was 0."""
        if self._socket is None:
            raise RuntimeError("not started")
        return url_of(self._socket)

    async def start(self) -> None:
        """Bind and accept. Raises ConfigurationError when the address cannot be bound."""
        if self._socket is None:
            host, port = self._address
            self._socket = await bind(host, port, setting=self._setting)
        self._server.config.load()
        self._server.lifespan = self._server.config.lifespan_class(self._server.config)
        await self._server.startup(sockets=[self._socket])

    async def stop(self) -> None:
        """Stop accepting, let running answers end within the drain time, then cancel those that are left."""
        if self._socket is None:
            return
        state = self._server.server_state
        for server in self._server.servers:
            server.close()
        self._socket.close()
        for connection in list(state.connections):
            connection.shutdown()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_seconds
        # A connection goes when its answer is written out and read; there is no event for "the last one has gone".
        while (state.connections or state.tasks) and loop.time() < deadline and not self._is_cut:  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        for task in state.tasks:
            task.cancel()
        if state.tasks:
            await asyncio.wait(set(state.tasks))
        for connection in list(state.connections):
            connection.transport.abort()

    def cut(self) -> None:
        """Do not drain, now or when it comes to that: what still runs is cut, visibly unfinished."""
        self._is_cut = True


async def bind(host: str, port: int, *, setting: str) -> socket.socket:
    """Return a socket that listens there. Raises ConfigurationError, which names the *setting*."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise ConfigurationError(
            f"{setting} = {host}:{port} cannot be listened on: {error.strerror}; "
            "stop what uses it or choose another port"
        ) from None
    listening.settimeout(0)
    return listening


def url_of(listening: socket.socket) -> str:
    """Return where a socket listens, with the port that the system chose if it was 0."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_event_loop(main: Any) -> Any:
    """Run a coroutine on the fastest event loop there is (uvloop; Windows has none)."""
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop  # noqa: PLC0415 - not on every platform

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
