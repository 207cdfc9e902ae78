"""One run of the embedded server, from its command line to its last words."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from pathlib import Path

from chatproxy.errors import StoreRefusedError
from chatproxy.store.engine import Engine
from chatproxy.store.probe import Presence, probe
from chatproxy.tasks import Background

_log = logging.getLogger(__name__)
_LAUNCHER = Path(__file__).with_name("launch.py")
_LAST_WORDS = 8
_POLL_SECONDS = 0.02
_SILENCE_SECONDS = 30.0
_STOP_SECONDS = 20.0


async def ask_engine(binary: Path) -> Engine:
    """Ask a server program what it is.

    Raises:
        StoreRefusedError: it does not run here, or is no server.
    """
    try:
        process = await asyncio.create_subprocess_exec(binary, "--version", stdout=PIPE, stderr=PIPE)
    except OSError as error:
        raise StoreRefusedError(f"the server program {binary} does not run: {error.strerror}") from error
    output, _ = await process.communicate()
    return Engine.parse(output.decode(errors="replace"))


def arguments(directory: Path, socket: Path) -> list[str]:
    """Return the server's whole configuration (security B7): private, durable, evicting nothing."""
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(directory),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
        "aof-load-truncated": "yes",
        "auto-aof-rewrite-percentage": "50",
        "active-expire-effort": "10",
        "hash-max-listpack-value": "4096",
        "crash-log-enabled": "no",
        "enable-debug-command": "no",
        "enable-module-command": "no",
        "protected-mode": "yes",
        "hide-user-data-from-log": "yes",
        "logfile": "",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


class ServerProcess:
    """A running server. It ends with this process (on Linux), or by :meth:`stop`."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._ended = asyncio.Event()
        self._background = Background(_log)
        self._background.spawn(self._follow(), name="embedded store")

    @classmethod
    async def start(cls, binary: Path, directory: Path, socket: Path, *, inherit: int) -> "ServerProcess":
        """Start a server, which inherits the descriptor *inherit*. It may not answer yet."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            _LAUNCHER,
            str(os.getpid()),
            binary,
            *arguments(directory, socket),
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            pass_fds=(inherit,),
            start_new_session=True,  # an interrupt at the terminal is for chatproxy, which stops it in its turn
        )
        return cls(process)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def wait(self) -> int:
        """Wait until the server has ended, and return its exit status."""
        await self._ended.wait()
        return await self._process.wait()

    def last_words(self) -> str:
        """Return the last lines of the server's log, which hold no user data."""
        return "\n".join(f"  {line}" for line in self._words)

    async def answers(self, socket: Path) -> bool:
        """Wait until the server serves: True. False if it ends before, or says nothing for 30 s."""
        give_up = time.monotonic() + _SILENCE_SECONDS
        while not self._ended.is_set() and time.monotonic() < give_up:
            match await probe(socket):
                case Presence.READY:
                    return True
                case Presence.LOADING:
                    give_up = time.monotonic() + _SILENCE_SECONDS
                case Presence.SILENT:
                    pass
            await self._ended_within(_POLL_SECONDS)
        return False

    async def stop(self) -> None:
        """Let the server write what it has and end; it is killed if that takes over 20 s."""
        self._signal(signal.SIGTERM)
        try:
            await self._ended_within(_STOP_SECONDS)
        finally:
            self._signal(signal.SIGKILL)
        await self.wait()

    async def _follow(self) -> None:
        """Collect what the server says; a pipe that nobody reads would block it."""
        try:
            if self._process.stdout is not None:
                while line := await self._process.stdout.readline():
                    self._words.append(line.decode(errors="replace").strip())
            await self._process.wait()
        finally:
            self._ended.set()

    async def _ended_within(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._ended.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)
