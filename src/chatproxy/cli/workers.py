"""The parent of several workers: it binds what they listen on, runs the embedded store, and keeps them running.

1. Workers are processes of their own, started anew each time: nothing is forked that threads, keys or sockets hang on.
   They inherit the listening sockets, so a connection that nobody has accepted yet survives the death of any of them.
2. A worker that dies is started again, with growing pauses; the others go on, and adopt its journal.
3. SIGTERM is passed on: each drains. A second one cuts. SIGHUP replaces them one after the other, each only when the
   new one serves: so a new version takes over without a chat being refused.
4. A worker hears of the death of its parent, and then stops as if it had been told to.
"""

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from chatproxy.disk.directory import private_directory
from chatproxy.errors import ChatproxyError
from chatproxy.settings import Settings
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.opening import EMBEDDED
from chatproxy.telemetry import Log
from chatproxy.web import tally
from chatproxy.web.server import bind, url_of

_log = Log("workers")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a worker that died is started again."""
_PR_SET_PDEATHSIG = 1
_STEADY_SECONDS = 60.0
"""Who has served for so long may die once without a longer pause."""


class WorkerFailedError(ChatproxyError):
    """A worker could not start; what it said stands on standard error. ``status``: with which it ended."""

    def __init__(self, status: int) -> None:
        super().__init__("a worker could not start; what is wrong stands above")
        self.status = status


class _Worker:
    """One process. ``number``: its slot, or that and the count of workers for one that takes over."""

    def __init__(self, process: asyncio.subprocess.Process, number: int) -> None:
        self.number = number
        self._process = process

    async def ended(self) -> int:
        """Wait for its end; return its status."""
        return await self._process.wait()

    def terminate(self) -> None:
        """Tell it to stop; once more: to stop at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()


class Supervisor:
    """Keeps CHATPROXY_WORKERS processes running."""

    def __init__(self, settings: Settings, words: Sequence[str]) -> None:
        """*words*: the command that a worker is started with, but for its place."""
        self._count = settings.workers
        self._settings = settings
        self._words = words
        self._sockets: list[socket.socket] = []
        self._tally = -1
        self._directory = Path()
        self._running: dict[int, _Worker] = {}
        """Who serves, by slot."""
        self._alive: set[_Worker] = set()
        self._starting = asyncio.Lock()
        self._stopping = asyncio.Event()
        self._replace = asyncio.Event()

    async def run(self) -> None:
        """Serve until told to stop. Raises ConfigurationError, StoreUnavailableError, WorkerFailedError."""
        listen, admin = self._settings.listen, self._settings.admin_listen
        async with contextlib.AsyncExitStack() as closing:
            for address, setting in ((listen, "CHATPROXY_LISTEN"), (admin, "CHATPROXY_ADMIN_LISTEN")):
                listening = await bind(address.host, address.port, setting=setting)
                self._sockets.append(closing.enter_context(listening))
            self._tally = closing.enter_context(_zeros(tally.size(self._count)))
            self._directory = Path(
                closing.enter_context(tempfile.TemporaryDirectory(prefix="chatproxy-workers-"))
            )
            if self._settings.store == EMBEDDED:
                data = private_directory(Path(self._settings.data_dir))
                pause = self._settings.store_longest_pause
                server = EmbeddedServer(data / "store", longest_pause=pause, may_wait=True)
                await closing.enter_async_context(server)
            self._obey()
            urls = [url_of(listening) for listening in self._sockets]
            await self._start_all()
            _log.info(
                "serving",
                listen=urls[0],
                admin=urls[1]
                if self._settings.admin_tls_certificate is None
                else f"https{urls[1].removeprefix('http')}",
                upstream=self._settings.upstream or "",
                workers=self._count,
            )
            async with asyncio.TaskGroup() as tasks:
                for slot in range(self._count):
                    tasks.create_task(self._keep(slot))
                replacing = tasks.create_task(self._replace_when_told())
                await self._stopping.wait()
                replacing.cancel()
        _log.info("stopped")

    def _obey(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        loop.add_signal_handler(signal.SIGHUP, self._replace.set)

    def _stop(self) -> None:
        """Stop; when told once more: cut."""
        if not self._stopping.is_set():
            _log.info("stopping", drain_seconds=self._settings.drain_time)
            for listening in self._sockets:
                listening.close()
        self._stopping.set()
        for worker in self._alive:
            worker.terminate()

    async def _start_all(self) -> None:
        """Start every worker; if one cannot, stop them all. Raises WorkerFailedError."""
        started = await asyncio.gather(*map(self._start, range(self._count)), return_exceptions=True)
        for error in started:
            if isinstance(error, BaseException):
                for worker in self._alive:
                    worker.terminate()
                await asyncio.gather(*(worker.ended() for worker in list(self._alive)))
                raise error

    async def _start(self, number: int) -> None:
        """Start a worker and wait until it serves. Raises WorkerFailedError."""
        ready, tell_ready = os.pipe()
        public, admin = (listening.fileno() for listening in self._sockets)
        place = Place(number, public, admin, tell_ready, os.getpid(), self._tally, self._directory)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *self._words,
                "--worker",
                place.written(),
                pass_fds=(public, admin, tell_ready, self._tally),
                start_new_session=True,  # what is typed at a terminal comes from the parent, once
            )
        finally:
            os.close(tell_ready)
        worker = _Worker(process, number)
        self._alive.add(worker)
        try:
            is_ready = bool(await asyncio.to_thread(os.read, ready, 1))
        finally:
            os.close(ready)
        if not is_ready:
            status = await worker.ended()
            self._alive.discard(worker)
            raise WorkerFailedError(status)
        self._running[number % self._count] = worker
        if self._stopping.is_set():
            worker.terminate()

    async def _keep(self, slot: int) -> None:
        """Start the worker of a slot again whenever it has died, until told to stop."""
        pause = _FIRST_PAUSE
        loop = asyncio.get_running_loop()
        while True:
            worker = self._running[slot]
            since = loop.time()
            status = await worker.ended()
            tally.Tally(self._tally, worker.number).leave()
            self._alive.discard(worker)
            if self._running[slot] is not worker:
                continue
            if self._stopping.is_set():
                return
            _log.error("a worker has ended and is started again", worker=worker.number, status=status)
            if loop.time() - since > _STEADY_SECONDS:
                pause = _FIRST_PAUSE
            while self._running[slot] is worker and not self._stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                await self._start_instead_of(worker, worker.number)
            if self._running[slot] is worker:
                return

    async def _start_instead_of(self, worker: _Worker, number: int) -> bool:
        """Start a worker in the slot of another, if that is still its own; return whether one serves there."""
        async with self._starting:
            if self._running[number % self._count] is worker and not self._stopping.is_set():
                with contextlib.suppress(WorkerFailedError):
                    await self._start(number)
        return self._running[number % self._count] is not worker

    async def _replace_when_told(self) -> None:
        """With SIGHUP, put a new process in the place of each worker."""
        while True:
            await self._replace.wait()
            self._replace.clear()
            _log.info("workers are replaced", workers=self._count)
            for slot in range(self._count):
                old = self._running[slot]
                if not await self._start_instead_of(old, (old.number + self._count) % (2 * self._count)):
                    _log.error("a new worker could not start; the others go on as they are")
                    break
                old.terminate()
            else:
                _log.info("workers were replaced", workers=self._count)


@contextlib.contextmanager
def _zeros(size: int) -> Iterator[int]:
    """Yield a descriptor of a file that holds so many zeros and has no name."""
    with tempfile.TemporaryFile() as file:
        file.write(bytes(size))
        file.flush()
        yield file.fileno()


def end_with(parent: int) -> None:
    """Have this process told to stop when its *parent* ends, however that ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it ended before it could be asked for
            os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Place:
    """What a worker is told: who it is, the descriptors that it inherits, and where it meets the others."""

    number: int
    public: int
    admin: int
    ready: int
    parent: int
    tally: int
    directory: Path

    def written(self) -> str:
        """Return it as one word of a command."""
        numbers = (self.number, self.public, self.admin, self.ready, self.parent, self.tally)
        return ",".join(map(str, (*numbers, self.directory)))

    @classmethod
    def read(cls, word: str) -> "Place":
        """Undo ``written``."""
        *numbers, directory = word.split(",", 6)
        number, public, admin, ready, parent, counts = map(int, numbers)
        return cls(number, public, admin, ready, parent, counts, Path(directory))

    def say_ready(self) -> None:
        """Tell the parent that this worker serves."""
        os.write(self.ready, b"1")
        os.close(self.ready)
