"""What is done to a `chatproxy serve` of its own, so that whatever could leak has leaked? Success, failure, abort, crash.

Everything that it may write to lies below one directory: data, logs, temporary files, core files, and what was read of
its metrics, its process and its commands. The keyset and the secrets of the settings lie beside, and are not looked at.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from chatproxy.clock import wall_clock
from chatproxy.crypto.keyset import make_keyset
from chatproxy.errors import ChatproxyError
from chatproxy.kms.file import KeysetFile
from chatproxy.leaks.canaries import Canaries
from chatproxy.leaks.planting import IN_REQUESTS, PATHS, backend_with, headers, request_body
from chatproxy.leaks.scan import Scanner
from chatproxy.settings import other_variables
from chatproxy.web.client_call import asgi
from chatproxy.web.server import Listener

_PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.05
_PERSON = "/_chatproxy/api/v1"
_NOT_FORWARDED = frozenset({"frame of no HTTP"})


class NotDrivenError(ChatproxyError):
    """What was to be done to chatproxy could not be done, so that nothing was tested."""


@dataclass(slots=True)
class Place:
    """Where it all lies."""

    top: Path
    done: list[str] = field(default_factory=list)
    """What was done, in order."""

    @property
    def seen(self) -> Path:
        """Return what is looked at."""
        return self.top / "seen"

    @property
    def secrets(self) -> Path:
        """Return what is not, since the canaries are meant to be there."""
        return self.top / "secrets"

    def note(self, name: str, content: bytes) -> None:
        """Keep something that was read, to be looked at."""
        (self.seen / "read" / name).write_bytes(content)


@dataclass(slots=True)
class _Serving:
    process: Process
    url: str
    admin_url: str


async def drive(directory: Path, canaries: Canaries) -> Place:
    """Do it all, and return where what was written lies. Raises NotDrivenError."""
    place = Place(directory)
    for name in ("read", "tmp", "home", "cwd", "logs"):
        (place.seen / name).mkdir(parents=True)
    place.secrets.mkdir()
    for name in ("identity secret", "admin token"):
        (place.secrets / name).write_text(canaries[name], encoding="ascii")
    data = place.seen / "data"
    KeysetFile(place.secrets / "keyset", data_dir=data).create(make_keyset(created_at=wall_clock()))
    _let_children_dump()
    reached = bytearray()
    backend = Listener(
        asgi(backend_with(canaries, reached)),
        host="127.0.0.1",
        port=0,
        setting="the backend",
        drain_seconds=0,
    )
    await backend.start()
    try:
        environment = _environment(place, upstream=backend.url)
        await _first_run(place, environment, canaries)
        await _crash(place, environment, canaries, signal.SIGABRT)
        await _last_run(place, environment, canaries)
        for words in (("transcripts", "list"), ("transcripts", "verify"), ("config", "show"), ("doctor",)):
            await _command(place, environment, *words)
    finally:
        await backend.stop()
    _require_planted(canaries, bytes(reached))
    return place


def _require_planted(canaries: Canaries, reached: bytes) -> None:
    """See that what was sent arrived at the backend, so that it was there to leak. Raises NotDrivenError."""
    arrived = {hit.name for hit in Scanner(canaries).scan("the backend", reached)}
    if missing := sorted(set(IN_REQUESTS) - _NOT_FORWARDED - arrived):
        raise NotDrivenError(f"these never reached the backend: {', '.join(missing)}")


async def _first_run(place: Place, environment: dict[str, str], canaries: Canaries) -> None:
    """Have everything happen that a process survives, and kill it in the middle of an answer."""
    async with _serving(place, environment, "first") as serving:
        await _chats(place, serving, canaries)
        await _ask_what_nobody_should(place, serving, canaries)
        await _settled(place, serving, at_least=5)
        _look_at_process(place, serving.process)
        async with _in_the_middle(serving, canaries):
            serving.process.kill()
            await serving.process.wait()
        place.done.append("killed in the middle of an answer")


async def _crash(
    place: Place, environment: dict[str, str], canaries: Canaries, number: signal.Signals
) -> None:
    async with _serving(place, environment, "crash") as serving:
        async with _in_the_middle(serving, canaries):
            serving.process.send_signal(number)
            if await serving.process.wait() != -number:
                raise NotDrivenError(f"chatproxy did not end by {number.name}")
        place.done.append(f"ended by {number.name} in the middle of an answer")


async def _last_run(place: Place, environment: dict[str, str], canaries: Canaries) -> None:
    """Start again on what the crashes left, and stop in order with an answer that does not end."""
    async with _serving(place, environment, "last") as serving:
        await _chat(place, serving, canaries, "well")
        await _settled(place, serving, at_least=1)
        async with _in_the_middle(serving, canaries):
            serving.process.terminate()
            await serving.process.wait()
        place.done.append("stopped with an answer that did not end")


async def _chats(place: Place, serving: _Serving, canaries: Canaries) -> None:
    async with httpx.AsyncClient(base_url=serving.url, trust_env=False) as client:
        choice = {"choice": "yes", "screen": "page", "language": "en", "method": "button:yes"}
        await client.put(f"{_PERSON}/choice", json=choice, headers=_person(canaries))
    for path in PATHS:
        for streamed in (False, True):
            await _chat(place, serving, canaries, "demo", path=path, streamed=streamed)
    for case in ("well", "stream", "refused", "failed", "stream-cut", "stream-stalled", "silent"):
        await _chat(place, serving, canaries, case, streamed=case.startswith("stream"))
    await _chat(
        place, serving, canaries, "well", content=b'{"model": ' + canaries["unreadable body"].encode()
    )
    again = {"idempotency-key": canaries["idempotency key"]}
    for _ in range(2):
        await _chat(place, serving, canaries, "well", more=again)
    await _chat(place, serving, canaries, "well", path=f"/v1/other/{canaries['path']}")
    await _raw(serving, _head(canaries) + b"X-Chat-Subject: " + canaries["subject"].encode() + b"\r\n\r\n")
    await _raw(serving, b"POST /%b HTTP/9.9\r\n%b\r\n\r\n" % (2 * (canaries["frame of no HTTP"].encode(),)))
    await _raw(serving, _head(canaries) + b"\r\n" + request_body(canaries, "stream-stalled", streamed=True))
    place.done += ["ambiguous identity", "no HTTP", "left by the client in the middle of an answer"]


async def _chat(
    place: Place,
    serving: _Serving,
    canaries: Canaries,
    case: str,
    *,
    path: str = PATHS[0],
    streamed: bool = False,
    content: bytes | None = None,
    more: dict[str, str] | None = None,
) -> None:
    body = request_body(canaries, case, streamed=streamed, path=path) if content is None else content
    async with httpx.AsyncClient(base_url=serving.url, trust_env=False, timeout=_PATIENCE_SECONDS) as client:
        with contextlib.suppress(httpx.RemoteProtocolError, httpx.ReadError):  # that is how some of them end
            await client.post(
                f"{path}?q={canaries['query']}", content=body, headers=headers(canaries) | (more or {})
            )
    place.done.append(f"a chat: {case}{', streamed' if streamed else ''}")


async def _ask_what_nobody_should(place: Place, serving: _Serving, canaries: Canaries) -> None:
    """Use the pages and APIs, rightly and wrongly."""
    person, right = _person(canaries), {"authorization": f"Bearer {canaries['admin token']}"}
    wrong = {"authorization": f"Bearer {canaries['guessed token']}"}
    named = {"subject": canaries["subject"], "tenant": canaries["tenant"]}
    line = named | {"source_id": canaries["imported id"], "state": "given", "at": "2025-09-01T12:00:00Z"}
    lines = {"content-type": "application/x-ndjson"}
    forged = {
        "x-forwarded-for": canaries["forged header"],
        "origin": f"https://{canaries['forged header']}.example",
    }
    async with httpx.AsyncClient(base_url=serving.url, trust_env=False) as client:
        for path in (
            "/conversations",
            "/history",
            f"/history?cursor={canaries['guessed cursor']}",
            "/preview",
        ):
            await client.get(_PERSON + path, headers=person)
        await client.put(f"{_PERSON}/choice", json={"choice": canaries["prompt"]}, headers=person)
        await client.delete(f"{_PERSON}/conversations/{canaries['guessed page']}", headers=person | forged)
        for path in (f"?link={canaries['guessed link']}", canaries["guessed page"], "", "conversations"):
            await client.get(f"/_chatproxy/{path}", headers=person if path else forged)
    async with httpx.AsyncClient(base_url=serving.admin_url, trust_env=False) as company:
        for path in ("subjects", "links"):
            for who in (wrong, right):
                await company.post(f"/api/v1/{path}", json=named, headers=who)
        await company.post("/api/v1/import", content=json.dumps(line), headers=right | lines)
        await company.post("/api/v1/import", content=json.dumps(line | named)[:-9], headers=right | lines)
        await company.get(f"/api/v1/subjects/{canaries['subject']}/choice", headers=right)
        place.note("readyz", (await company.get("/readyz")).content)
        place.note("openapi", (await company.get("/api/openapi.json")).content)
    place.done += ["pages and API of a person, rightly and wrongly", "admin API, rightly and wrongly"]


async def _settled(place: Place, serving: _Serving, *, at_least: int) -> None:
    """Wait until what was captured is kept; keep the metrics. Raises NotDrivenError."""
    async with asyncio.timeout(_PATIENCE_SECONDS), httpx.AsyncClient(trust_env=False) as client:
        while True:
            text = (await client.get(f"{serving.admin_url}/metrics")).text
            values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
            if float(values["chatproxy_turns_pending"]) == 0:
                break
            await asyncio.sleep(_PAUSE_SECONDS)
    place.note(f"metrics-{len(place.done)}", text.encode())
    kept = sum(
        float(values[f'chatproxy_turns_total{{outcome="{outcome}"}}']) for outcome in ("stored", "unparsed")
    )
    if kept < at_least:
        raise NotDrivenError(f"only {kept:.0f} of the chats were kept, so little was tested")


@asynccontextmanager
async def _in_the_middle(serving: _Serving, canaries: Canaries) -> AsyncIterator[None]:
    """Have an answer begin that does not end, and wait for the rest of it as long as the block runs."""
    host, port = urlsplit(serving.url).hostname, urlsplit(serving.url).port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(_head(canaries) + b"\r\n" + request_body(canaries, "stream-stalled", streamed=True))
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await reader.readuntil(canaries["reasoning"].encode())
        yield
    except asyncio.IncompleteReadError:
        raise NotDrivenError("no answer began that could be broken off") from None
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _raw(serving: _Serving, request: bytes) -> None:
    """Send bytes, read what comes at once, and leave."""
    host, port = urlsplit(serving.url).hostname, urlsplit(serving.url).port
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    async with asyncio.timeout(_PATIENCE_SECONDS):
        await reader.read(1)
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def _head(canaries: Canaries) -> bytes:
    size = len(request_body(canaries, "stream-stalled", streamed=True))
    lines = [f"POST {PATHS[0]}?q={canaries['query']} HTTP/1.1", "host: chat", f"content-length: {size}"]
    lines += [f"{name}: {value}" for name, value in headers(canaries).items()]
    return "\r\n".join(lines).encode() + b"\r\n"


def _person(canaries: Canaries) -> dict[str, str]:
    return {name: value for name, value in headers(canaries).items() if name.startswith("x-chat")}


def _look_at_process(place: Place, process: Process) -> None:
    """Keep what the system tells about the process and its children, as far as it may be read."""
    found = [process.pid, *_children(process.pid)]
    for pid in found:
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):  # who is not the system's own may not read the environment
                place.note(f"{name}-{pid}", Path(f"/proc/{pid}/{name}").read_bytes())


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]
    except OSError:
        return []


def _let_children_dump() -> None:
    """Let what is started write core files of any size, so that it is seen that it does not."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not on every platform

    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (most, most))


def _environment(place: Place, *, upstream: str) -> dict[str, str]:
    settings = {
        "CONFIG": os.devnull,
        "UPSTREAM": upstream,
        "LISTEN": "127.0.0.1:0",
        "ADMIN_LISTEN": "127.0.0.1:0",
        "DATA_DIR": str(place.seen / "data"),
        "KEYSET": f"file:{place.secrets / 'keyset'}",
        "TRUSTED_PROXIES": "127.0.0.1",
        "IDENTITY_SECRET_FILE": str(place.secrets / "identity secret"),
        "ADMIN_TOKEN_FILE": str(place.secrets / "admin token"),
        "LOG_LEVEL": "debug",
        "UPSTREAM_HEAD_TIMEOUT": "1s",
        "UPSTREAM_IDLE_TIMEOUT": "2s",
        "DRAIN_TIME": "1s",
        "MEDIA": "sealed",
    }
    return {
        **other_variables(),
        **{f"CHATPROXY_{name}": value for name, value in settings.items()},
        "TMPDIR": str(place.seen / "tmp"),
        "HOME": str(place.seen / "home"),
        "PYTHONFAULTHANDLER": "1",
        "PYTHONDEVMODE": "1",
    }


@asynccontextmanager
async def _serving(place: Place, environment: dict[str, str], name: str) -> AsyncIterator[_Serving]:
    """Run `chatproxy serve`, whose output is kept. Raises NotDrivenError."""
    path = place.seen / "logs" / name
    with path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "chatproxy", "serve",
            stdout=log, stderr=log, env=environment, cwd=place.seen / "cwd",
        )  # fmt: skip
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while (started := _started(path)) is None:
                if process.returncode is not None:
                    raise NotDrivenError(
                        "chatproxy serve did not start; run `chatproxy demo` and see what it says"
                    )
                await asyncio.sleep(_PAUSE_SECONDS)
        yield _Serving(process, started["listen"], started["admin"])
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _started(log: Path) -> dict[str, str] | None:
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if entry.get("event") == "serving":
                found: dict[str, str] = entry
                return found
    return None


async def _command(place: Place, environment: dict[str, str], *words: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "chatproxy", *words,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment, cwd=place.seen / "cwd",
    )  # fmt: skip
    out, _ = await process.communicate()
    place.note("-".join(words), out)
    place.done.append(f"the command {' '.join(words)}")
