"""The HTTP server of both listeners: uvicorn with httptools, driven from our own start and stop (ADR 1).

Uvicorn's own signal handling and clocked main loop are not used: one process has two listeners, and the order in
which things stop matters more than which of them noticed the signal.
"""

import asyncio
import socket
import sys
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chatproxy.errors import ConfigurationError

TARGET = "chatproxy.target"
"""Scope key of the request target, byte for byte as received (ASGI loses an empty query)."""

_KEEP_ALIVE_SECONDS = 75
_BACKLOG = 2048
_DRAIN_POLL_SECONDS = 0.02


class _Protocol(HttpToolsProtocol):
    """Uvicorn's protocol that also hands on the request target as it was received."""

    def on_headers_complete(self) -> None:
        self.scope[TARGET] = self.url  # type: ignore[literal-required]
        super().on_headers_complete()


class Listener:
    """One listening address with its ASGI application."""

    def __init__(self, app: Any, *, host: str, port: int, setting: str, drain_seconds: float) -> None:
        self._address = (host, port)
        self._setting = setting
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=_Protocol,
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
        self._socket: socket.socket | None = None

    @property
    def url(self) -> str:
        """Where it listens, with the port the system chose if it was 0."""
        if self._socket is None:
            raise RuntimeError("not started")
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def start(self) -> None:
        """Bind and accept. Raises ConfigurationError when the address cannot be bound."""
        host, port = self._address
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, kind, protocol, _, address = found[0]
            listening = socket.socket(family, kind, protocol)
            try:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind(address)
            except OSError:
                listening.close()
                raise
        except OSError as error:
            raise ConfigurationError(
                f"{self._setting} = {host}:{port} cannot be listened on: {error.strerror}; "
                "stop what uses it or choose another port"
            ) from None
        listening.settimeout(0)
        self._socket = listening
        self._server.config.load()
        self._server.lifespan = self._server.config.lifespan_class(self._server.config)
        await self._server.startup(sockets=[listening])

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


def run_event_loop(main: Any) -> Any:
    """Run a coroutine on the fastest event loop there is (uvloop; Windows has none)."""
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop  # noqa: PLC0415 - not on every platform

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
