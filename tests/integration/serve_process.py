"""A real `chatproxy` process, as an operator runs it."""

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from chatproxy.cli import main
from integration.left_whole import assert_files_left_whole
from integration.proxy_fixtures import PATIENCE, make_keys

WORDS = {
    name: value for name, value in os.environ.items() if not name.startswith("CHATPROXY_")
}  # what the programs need to start


def environment(directory: Path, **settings: str) -> dict[str, str]:
    """The environment of a process whose data and keyset lie below *directory*, which is made."""
    if not (directory / "keys" / "keyset").exists():
        make_keys(directory)
    values = {
        "data_dir": str(directory / "data"),
        "keyset": f"file:{directory}/keys/keyset",
        "listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "trusted_proxies": "127.0.0.1",
    }
    return {f"CHATPROXY_{name.upper()}": value for name, value in (values | settings).items()}


@dataclass
class Finished:
    """What a command did."""

    status: int
    out: str
    err: str

    def rows(self) -> list[dict[str, Any]]:
        """Read its output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


async def run(env: Mapping[str, str], *words: str, stdin: str = "") -> Finished:
    """Run `chatproxy` with *words* until it ends."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "chatproxy", *words, stdin=PIPE, stdout=PIPE, stderr=PIPE, env={**WORDS, **env}
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        out, err = await process.communicate(stdin.encode())
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), err.decode())


async def call(env: Mapping[str, str], *words: str, stdin: str = "") -> Finished:
    """Do what `chatproxy` with *words* does, within this process, which is faster. Not for the embedded store."""
    return await asyncio.to_thread(_call, env, words, stdin)


def _call(env: Mapping[str, str], words: tuple[str, ...], stdin: str) -> Finished:
    root = logging.getLogger()
    before = (dict(os.environ), sys.argv, sys.stdin, list(root.handlers), root.level)
    root.handlers = []  # so that the command's own set-up does not close them
    out, err = StringIO(), StringIO()
    try:
        os.environ.clear()
        os.environ.update({**WORDS, **env})
        sys.argv, sys.stdin = ["chatproxy", *words], StringIO(stdin)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as leaving:
        return Finished(int(leaving.code or 0), out.getvalue(), err.getvalue())
    finally:
        os.environ.clear()
        os.environ.update(before[0])
        sys.argv, sys.stdin, root.handlers = before[1:4]
        root.setLevel(before[4])


@dataclass
class Serving:
    """A `chatproxy serve` that runs."""

    process: Process
    url: str
    admin_url: str
    log: list[str] = field(default_factory=list)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    async def logged(self, event: str) -> dict[str, Any]:
        """Read the log until *event*."""
        assert self.process.stderr is not None
        while line := (await self.process.stderr.readline()).decode():
            self.log.append(line)
            if f'"event": "{event}"' in line:
                found: dict[str, Any] = json.loads(line)
                return found
        raise AssertionError("\n".join(self.log))

    async def ended(self) -> int:
        """Wait until it has ended; return its exit status."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            self.log += (await self.process.stderr.read()).decode().splitlines()
            return await self.process.wait()


@asynccontextmanager
async def serving(env: Mapping[str, str]) -> AsyncIterator[Serving]:
    """Run `chatproxy serve` until the block ends; then see that nothing readable lies in its data directory."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "chatproxy", "serve", stdout=PIPE, stderr=PIPE, env={**WORDS, **env}
    )
    found = Serving(process, "", "")
    try:
        async with asyncio.timeout(PATIENCE):
            started = await found.logged("serving")
        found.url, found.admin_url = started["listen"], started["admin"]
        yield found
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGTERM)
            await found.ended()
    assert_files_left_whole(Path(env["CHATPROXY_DATA_DIR"]))
