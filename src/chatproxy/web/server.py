"""The HTTP server of both listeners: what they listen on, and the order in which they stop (ADR 1)."""

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any

from chatproxy.errors import ConfigurationError
from chatproxy.forwarding import Header
from chatproxy.telemetry import Log
from chatproxy.web.accepting import Acceptor
from chatproxy.web.client_address import Network
from chatproxy.web.client_call import Serve
from chatproxy.web.connection import ClientConnection, ClientLimits, House, Refusal, Words, no_room
from chatproxy.web.crowd import Crowd
from chatproxy.web.tally import Tally

_log = Log("server")
_BACKLOG = 2048
_DRAIN_POLL_SECONDS = 0.02
_LONGEST_BETWEEN_SWEEPS = 1.0
_SWEEPS_A_TIMEOUT = 4
_MOST_UNSENT_BYTES = 131_072
"""What the system takes of an answer that the client does not take, so that memory stays bounded there, too."""
_SPARE_DESCRIPTORS = 256
"""For the store, logs, files and connections that are turned away."""

_DEFAULT_LIMITS = ClientLimits()


def _plain_words(refusal: Refusal) -> tuple[bytes, list[Header]]:
    return f"{refusal.message}\n".encode(), [(b"content-type", b"text/plain; charset=utf-8")]


class Listener:
    """One listening address, and who serves what is asked there."""

    def __init__(
        self,
        serve: Serve,
        *,
        host: str,
        port: int,
        setting: str,
        drain_seconds: float,
        listening: socket.socket | None = None,
        tally: Tally | None = None,
        limits: ClientLimits = _DEFAULT_LIMITS,
        words: Words = _plain_words,
        cut: Callable[[str], None] = lambda _: None,
        fronts: Sequence[Network] = (),
        not_in_trailers: Collection[bytes] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """``listening``: a socket that is bound already, shared with other processes, whose clients ``tally`` has.

        ``words`` makes the answer to what is refused before anybody is asked, ``cut`` counts what is ended.

        ``fronts`` are networks of which one address may be many clients. ``not_in_trailers`` are lower-case names.
        """
        self._address = (host, port)
        self._setting = setting
        self._tls = tls
        self._limits = limits
        self._crowd = Crowd(limits.connections, limits.connections_of_one, exempt=fronts)
        self._house = House(
            serve,
            is_tls=tls is not None,
            limits=limits,
            crowd=self._crowd,
            words=words,
            cut=cut,
            not_in_trailers=frozenset(not_in_trailers),
            connections=set(),
            tasks={},
        )
        self._drain_seconds = drain_seconds
        self._is_cut = False
        self._socket = listening
        self._tally = tally
        self._acceptor: Acceptor | None = None
        self._sweeping: asyncio.TimerHandle | None = None

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return self._crowd.count

    @property
    def url(self) -> str:
        """Where it listens, with the port the system chose if it was 0."""
        if self._socket is None:
            raise RuntimeError("not started")
        url = url_of(self._socket)
        return url if self._tls is None else "https" + url.removeprefix("http")

    async def start(self) -> None:
        """Bind and accept. Raises ConfigurationError when the address cannot be bound."""
        if self._socket is None:
            host, port = self._address
            self._socket = await bind(host, port, setting=self._setting)
        self._socket.settimeout(0)
        self._acceptor = Acceptor(
            self._socket,
            partial(ClientConnection, self._house),
            no_room=partial(no_room, self._house),
            clients=lambda: self._crowd.count,
            tally=self._tally,
            tls=self._tls,
            handshake_timeout=self._limits.head_timeout,
        )
        self._acceptor.start()
        limits = self._limits
        shortest = min(limits.head_timeout, limits.body_timeout, limits.take_timeout, limits.idle_timeout)
        self._sweep(min(shortest / _SWEEPS_A_TIMEOUT, _LONGEST_BETWEEN_SWEEPS))

    async def stop(self) -> None:
        """Stop accepting, let running answers end within the drain time, then cancel those that are left."""
        if self._socket is None or self._acceptor is None:
            return
        connections, tasks = self._house.connections, self._house.tasks
        await self._acceptor.stop()
        self._socket.close()
        for connection in tuple(connections):
            connection.shutdown()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_seconds
        # A connection goes when its answer is written out and read; there is no event for "the last one has gone".
        while (connections or tasks) and loop.time() < deadline and not self._is_cut:  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_POLL_SECONDS)
        for task in tasks.values():
            task.cancel()
        if tasks:
            await asyncio.wait(set(tasks.values()))
        for connection in tuple(connections):
            connection.abort()
        if self._sweeping is not None:
            self._sweeping.cancel()

    def cut(self) -> None:
        """Do not drain, now or when it comes to that: what still runs is cut, visibly unfinished."""
        self._is_cut = True

    def _sweep(self, every: float) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in tuple(self._house.connections):
            try:
                connection.sweep(now)
            except Exception as error:  # noqa: BLE001 - one fault must not leave everybody else without an end
                _log.error("what a connection waits for cannot be looked at", failure=error)
        self._sweeping = loop.call_later(every, self._sweep, every)


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
            if hasattr(socket, "TCP_NOTSENT_LOWAT"):
                # What accepts inherits it.
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MOST_UNSENT_BYTES)
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


def allow_connections(most: int) -> int:
    """Let this process have *most* clients, with a connection to the upstream each; return how many it can have."""
    if sys.platform == "win32":
        return most
    import resource  # noqa: PLC0415 - not on every platform

    wanted = 2 * most + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return most
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    return min(most, max(1, (max(soft, wanted) - _SPARE_DESCRIPTORS) // 2))


def run_event_loop(main: Any) -> Any:
    """Run a coroutine on the fastest event loop there is (uvloop; Windows has none)."""
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop  # noqa: PLC0415 - not on every platform

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
