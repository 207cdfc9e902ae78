"""A real OpenBao server as a process: it can be sealed, stopped, and started again with what it has kept."""

import asyncio
import contextlib
import json
import socket
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

_PATIENCE = 30.0


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@dataclass
class Bao:
    """One server on the loopback, with its data below *directory*."""

    program: Path
    directory: Path
    certificate: tuple[Path, Path] | None = None
    """Files of certificate and key, for https."""
    port: int = field(default_factory=_free_port)
    key: str = ""
    token: str = ""
    """The root token."""
    _process: Process | None = None

    @property
    def origin(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}"

    def url(self, name: str) -> str:
        """The form of CHATPROXY_KEYSET."""
        return f"transit:{self.origin}/transit/{name}"

    async def start(self) -> None:
        """Start the process, and wait until it answers, sealed."""
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        listener: dict[str, object] = {"address": f"127.0.0.1:{self.port}"}
        if self.certificate:
            listener |= {
                "tls_cert_file": str(self.certificate[0]),
                "tls_key_file": str(self.certificate[1]),
            }
        else:
            listener |= {"tls_disable": True}
        config = {
            "storage": {"raft": {"path": str(data), "node_id": "one"}},
            "listener": {"tcp": listener},
            "api_addr": self.origin,
            "cluster_addr": f"http://127.0.0.1:{_free_port()}",
        }
        path = self.directory / "config.json"
        path.write_text(json.dumps(config))
        self._process = await asyncio.create_subprocess_exec(
            str(self.program), "server", "-config", str(path), stdin=DEVNULL, stdout=DEVNULL, stderr=STDOUT
        )
        async with asyncio.timeout(_PATIENCE):
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    await self.ask("GET", "sys/seal-status")
                    return
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    async def initialise(self) -> None:
        """Make it ready for the first time, with a transit engine."""
        made = await self.ask("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self.key, self.token = made["keys"][0], made["root_token"]
        await self.unseal()
        await self.ask("POST", "sys/mounts/transit", {"type": "transit"})

    async def seal(self) -> None:
        await self.ask("PUT", "sys/seal", {})

    async def unseal(self) -> None:
        await self.ask("PUT", "sys/unseal", {"key": self.key})
        async with asyncio.timeout(_PATIENCE):
            while (await self._send("GET", "sys/health")).status_code != 200:
                await asyncio.sleep(0.05)

    async def token_for(self, name: str, *verbs: str) -> str:
        """Make a token that may do *verbs* (``update encrypt``) with the key *name*, and nothing else."""
        rules = ""
        for verb in verbs:
            capability, path = verb.split(" ", 1)
            rules += f'path "transit/{path.format(name)}" {{ capabilities = ["{capability}"] }}\n'
        await self.ask("PUT", f"sys/policies/acl/{name}", {"policy": rules})
        made = await self.ask("POST", "auth/token/create", {"policies": [name], "no_default_policy": True})
        token: str = made["auth"]["client_token"]
        return token

    async def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Ask with the root token."""
        response = await self._send(method, path, body)
        assert response.is_success, response.text
        answer: dict[str, Any] = response.json() if response.content else {}
        return answer

    async def _send(self, method: str, path: str, body: object = None) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=_PATIENCE) as client:  # noqa: S501 - the test's own server
            return await client.request(
                method,
                f"{self.origin}/v1/{path}",
                json=body,
                headers={"x-vault-token": self.token, "x-vault-request": "true"},
            )


@asynccontextmanager
async def running_bao(
    program: Path, directory: Path, *, certificate: tuple[Path, Path] | None = None
) -> AsyncIterator[Bao]:
    """Run a server that is ready to be used."""
    bao = Bao(program, directory, certificate)
    try:
        await bao.start()
        await bao.initialise()
        yield bao
    finally:
        await bao.stop()
