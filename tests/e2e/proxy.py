"""``chatproxy serve`` as an operator runs it: a process of its own, and its commands beside it."""

import asyncio
import json
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

_START_SECONDS = 30
_SETTLE_SECONDS = 20


@dataclass(frozen=True, slots=True)
class ProxyProcess:
    """A running proxy."""

    url: str
    admin_url: str
    environment: dict[str, str]
    directory: Path

    async def turns(self, subject: str) -> list[dict[str, Any]]:
        """Return what ``transcripts list`` says of a person, once nothing waits to be kept any more."""
        await self._settled()
        return await self._rows("transcripts", "list", "--subject", subject, "--json")

    async def conversation(self, handle: str) -> list[dict[str, Any]]:
        """Return what ``transcripts show`` reads back, a turn a row."""
        return await self._rows("transcripts", "show", handle, "--purpose", "service", "--json")

    async def metric(self, name: str) -> float:
        """Return the value of a metric without labels."""
        async with httpx.AsyncClient(trust_env=False) as client:
            exposed = (await client.get(f"{self.admin_url}/metrics")).text
        found = re.search(rf"^{name} (\S+)$", exposed, re.MULTILINE)
        assert found, f"no metric {name}"
        return float(found[1])

    async def _settled(self) -> None:
        async with asyncio.timeout(_SETTLE_SECONDS):
            while await self.metric("chatproxy_turns_pending"):
                await asyncio.sleep(0.05)

    async def _rows(self, *arguments: str) -> list[dict[str, Any]]:
        output = await _chatproxy(self.environment, self.directory, *arguments)
        return [json.loads(line) for line in output.splitlines()]


async def _chatproxy(environment: dict[str, str], directory: Path, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "chatproxy",
        *arguments,
        stdout=PIPE,
        stderr=PIPE,
        env=environment,
        cwd=directory,
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, f"chatproxy {arguments}: {errors.decode()}"
    return output.decode()


@asynccontextmanager
async def running_proxy(upstream: str, directory: Path) -> AsyncIterator[ProxyProcess]:
    """Run the proxy in front of *upstream*, believing what a front on this machine says of who someone is."""
    environment = {
        "CHATPROXY_UPSTREAM": upstream,
        "CHATPROXY_LISTEN": "127.0.0.1:0",
        "CHATPROXY_ADMIN_LISTEN": "127.0.0.1:0",
        "CHATPROXY_DATA_DIR": str(directory / "data"),
        "CHATPROXY_KEYSET": f"file:{directory / 'keys' / 'keyset'}",
        "CHATPROXY_TRUSTED_PROXIES": "127.0.0.1",
        "PYTHONUNBUFFERED": "1",
    }
    await _chatproxy(environment, directory, "keys", "init")
    log = directory / "proxy.log"
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "chatproxy", "serve", stderr=sink, env=environment, cwd=directory
        )
    try:
        serving = await _serving(process, log)
        yield ProxyProcess(serving["listen"], serving["admin"], environment, directory)
    finally:
        if process.returncode is None:
            process.terminate()
        code = await process.wait()
    assert code == 0, f"chatproxy serve ended with {code}: {log.read_text()}"


async def _serving(process: Process, log: Path) -> dict[str, Any]:
    """Wait for the line that says where it listens."""
    async with asyncio.timeout(_START_SECONDS):
        while process.returncode is None:
            for line in log.read_text().splitlines():
                if '"serving"' in line:
                    said: dict[str, Any] = json.loads(line)
                    return said
            await asyncio.sleep(0.05)
    raise AssertionError(f"chatproxy serve did not start: {log.read_text()}")
