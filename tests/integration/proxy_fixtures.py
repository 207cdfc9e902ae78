"""A proxy between a raw client and a scripted backend, over the session's real Valkey. Builders, not fixtures."""

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from chatproxy.clock import Clock, wall_clock
from chatproxy.consent.events import Choice
from chatproxy.crypto.keyset import make_keyset
from chatproxy.kms.file import KeysetFile
from chatproxy.model import SubjectTag
from chatproxy.settings import Settings, load_settings
from chatproxy.store import keys
from chatproxy.store.connections import Connections
from chatproxy.wiring import RunningProxy, running_proxy
from chatproxy.workflows.transcripts import KeptTurn, Spurious, summary
from integration.left_whole import assert_files_left_whole
from simulators.backend import Backend, Peer, Script, backend

OPENAI = "/v1/chat/completions"
ANTHROPIC = "/v1/messages"
PATIENCE = 20.0
"""Seconds after which a wait on something that should happen at once has failed."""
ANA = {"x-chat-subject": "ana", "x-chat-plan": "pro"}
DAY = 86_400_000


_TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def http_client(url: str = "", **options: Any) -> httpx.AsyncClient:
    """Return a client of servers without TLS: to load whom the machine trusts takes 20 ms and a megabyte each time."""
    return httpx.AsyncClient(
        base_url=url, trust_env=False, timeout=PATIENCE, verify=_TRUSTS_NOBODY, **options
    )


class AheadClock:
    """The wall clock, put forward by so many ms, or back."""

    ahead = 0

    def __call__(self) -> int:
        return wall_clock() + self.ahead


def make_keys(directory: Path) -> str:
    """Make a keyset below *directory*; return its URL."""
    path = directory / "keys" / "keyset"
    KeysetFile(path, data_dir=directory / "data").create(make_keyset(created_at=wall_clock()))
    return f"file:{path}"


def a_proxy(directory: Path, *, upstream: str, store: str, **overrides: str) -> Settings:
    """Settings of a proxy on free ports that believes the identity headers of the loopback."""
    keyset = directory / "keys" / "keyset"
    if not keyset.exists():
        make_keys(directory)
    values = {
        "upstream": upstream,
        "store": store,
        "listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "data_dir": str(directory / "data"),
        "keyset": f"file:{keyset}",
        "trusted_proxies": "127.0.0.1",
        "drain_time": "5s",
    }
    return load_settings({}, overrides=values | overrides).settings


@dataclass
class World:
    """Everything of one test: the proxy that runs, the backend behind it, a client in front of it."""

    running: RunningProxy
    backend: Backend
    client: httpx.AsyncClient
    spoken: list[str] = field(default_factory=list)
    """What was said by ``chat``."""
    damage: str | None = None
    """What the test itself has damaged, so that it is not whole when the proxy has stopped."""

    async def chat(
        self,
        said: str | Sequence[dict[str, Any]],
        *,
        who: dict[str, str] | None = None,
        path: str = OPENAI,
        **request: Any,
    ) -> httpx.Response:
        """Send one chat of *who* (Ana, if nobody is named) and return the answer."""
        messages = [{"role": "user", "content": said}] if isinstance(said, str) else list(said)
        body = {"model": "m", "max_tokens": 100, "messages": messages} | request
        self.spoken += [text["content"] for text in messages if isinstance(text.get("content"), str)]
        return await self.client.post(path, json=body, headers=ANA if who is None else who)

    async def kept(self) -> list[dict[str, Any]]:
        """Wait until all is kept; return the rows of the listing by time received."""
        assert await self.running.all_kept(within=PATIENCE)
        rows = [turn async for turn in self.running.vault.transcripts.walk()]
        assert not [row for row in rows if isinstance(row, Spurious)]
        kept = sorted(
            (row for row in rows if isinstance(row, KeptTurn)), key=lambda row: row.facts.received_at
        )
        return [dict(summary(row, self.running.vault.pseudonyms)) for row in kept]

    async def decided_again(self) -> None:
        """Wait until nobody's turns are to be decided on again, now or by who has taken that up."""
        async with asyncio.timeout(2 * PATIENCE):
            while await self.running.vault.store.people_due(wall_clock() + 60_000):
                await asyncio.sleep(0.01)

    async def turns(self) -> list[KeptTurn | Spurious]:
        """Return what the listing walks over, in no order."""
        assert await self.running.all_kept(within=PATIENCE)
        return [turn async for turn in self.running.vault.transcripts.walk()]

    async def said(self, handle: str, *, purpose: str = "service") -> list[str]:
        """Decrypt a conversation; return what was said in it, a text each, roles in front."""
        vault = self.running.vault
        subject, conversation = vault.pseudonyms.read_conversation_handle(handle)
        opened = await vault.transcripts.show(subject, conversation, purpose=purpose)
        return [
            f"{message.role}: {part.body.get('text') or part.body.get('base64') or part.kind}"
            for turn in opened
            for message in (*turn.transcript.input, *turn.transcript.output)
            for part in message.parts
        ]

    def tag(self, subject: str = "ana", *, tenant: str = "default") -> SubjectTag:
        """Return a person's pseudonym."""
        return self.running.vault.pseudonyms.subject_tag(tenant=tenant, subject=subject)

    async def choose(self, *choices: Choice, subject: str = "ana", at: int | None = None) -> None:
        """Record choices of a person, as the consent commands do; now: after all that was received before."""
        for choice in choices:
            await self.running.vault.ledger.record(
                self.tag(subject),
                choice,
                at=await _next_millisecond() if at is None else at,
                by="test",
                method="test",
            )

    def counted(self, sample: str, **labels: str) -> float:
        """Return the value of a metric's sample; 0 if there is none yet."""
        return self.running.metrics.registry.get_sample_value(sample, labels) or 0.0

    def outcomes(self) -> dict[str, int]:
        """Return how many turns met each outcome that was met."""
        found: dict[str, int] = {}
        for metric in self.running.metrics.registry.collect():
            for sample in metric.samples:
                if sample.name == "chatproxy_turns_total" and sample.value:
                    found[sample.labels["outcome"]] = int(sample.value)
        return found

    def assert_outcomes_add_up(self) -> None:
        """Every turn that was seen has met one outcome."""
        assert self.counted("chatproxy_turns_pending") == 0
        self.assert_none_is_unaccounted_for()

    def assert_none_is_unaccounted_for(self) -> None:
        """Every turn that was seen has met one outcome or waits for it: at any moment, also while turns are put again."""
        waiting = self.counted("chatproxy_turns_pending")
        assert sum(self.outcomes().values()) + waiting == self.counted("chatproxy_turns_seen_total")

    def assert_left_whole(self, audit_keys: Mapping[str, Sequence[bytes]] | None) -> None:
        """I1: every turn has met its outcome or waits. I7: nothing is there past its end. And what files must be."""
        log = logging.getLogger("invariants")
        self.assert_none_is_unaccounted_for()
        log.info("I1")
        if self.damage is None:
            assert self.counted("chatproxy_expired_but_readable") == 0
            log.info("I7")
            assert_files_left_whole(
                Path(self.running.vault.settings.data_dir), spoken=self.spoken, audit_keys=audit_keys
            )


async def _next_millisecond() -> int:
    """Return the wall clock's next instant when it has come: a yes counts for what was received within its own."""
    before = wall_clock()
    while (now := wall_clock()) <= before:
        await asyncio.sleep(0)
    return now


@asynccontextmanager
async def a_world(
    script: Script, directory: Path, store: str, *, clock: Clock = wall_clock, **overrides: str
) -> AsyncIterator[World]:
    """Run a proxy in front of *script*; ``overrides`` are settings in their written form.

    When it has stopped, see that what must hold after any fault does (``integration.left_whole``).
    A *clock* that lives on other days than the store's has the machine's as ``machine``.
    """
    async with AsyncExitStack() as closing:
        behind = await closing.enter_async_context(backend(script))
        settings = a_proxy(
            directory, upstream=overrides.pop("upstream", behind.url), store=store, **overrides
        )
        running = await closing.enter_async_context(
            running_proxy(settings, clock=clock, machine_clock=getattr(clock, "machine", None))
        )
        client = await closing.enter_async_context(http_client(running.url))
        world = World(running, behind, client)
        yield world
    vault = running.vault
    world.assert_left_whole(vault.audit_keys if vault.keyset_in_use.is_known else None)


# What backends answer.


def response(body: bytes, *headers: bytes, status: bytes = b"200 OK") -> bytes:
    """A whole HTTP response with its length."""
    lines = (b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers, b"", b"")
    return b"\r\n".join(lines) + body


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
JSON_TYPE = b"Content-Type: application/json"


async def endless(peer: Peer) -> None:
    """A backend that streams without end."""
    await peer.read_head()
    await peer.send(STREAM_HEAD)
    while True:
        await peer.send(chunk(b"z" * 60_000))


def openai_reply(text: str) -> bytes:
    """A whole answer of an OpenAI-compatible backend."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    return json.dumps({"id": "x", "model": "m-1", "choices": [choice], "usage": usage}).encode()


def openai_events(*words: str, finish: bool = True) -> list[bytes]:
    """The events of a streamed answer."""
    deltas: list[tuple[dict[str, str], str | None]] = [({"content": word}, None) for word in words]
    if finish:
        deltas.append(({}, "stop"))
    choices = [{"index": 0, "delta": delta, "finish_reason": reason} for delta, reason in deltas]
    events = [
        b"data: %b\n\n" % json.dumps({"model": "m-1", "choices": [choice]}).encode() for choice in choices
    ]
    return [*events, b"data: [DONE]\n\n"] if finish else events


def anthropic_reply(text: str) -> bytes:
    """A whole answer of an Anthropic-compatible backend."""
    message = {
        "id": "msg",
        "type": "message",
        "role": "assistant",
        "model": "m-1",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }
    return json.dumps(message).encode()


def anthropic_events(*words: str) -> list[bytes]:
    """The events of a streamed answer."""
    payloads: list[dict[str, Any]] = [
        {
            "type": "message_start",
            "message": {
                "id": "msg", "type": "message", "role": "assistant", "model": "m-1", "content": [],
                "usage": {"input_tokens": 1, "output_tokens": 0},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
            for word in words
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]  # fmt: skip
    return [
        b"event: %b\ndata: %b\n\n" % (str(payload["type"]).encode(), json.dumps(payload).encode())
        for payload in payloads
    ]


def answer_to(request: bytes, text: str) -> bytes:
    """A whole HTTP answer that says *text* in the dialect of *request*, streamed if it asks for that."""
    head, _, body = request.partition(b"\r\n\r\n")
    is_anthropic = head.startswith(b"POST /v1/messages")
    if b'"stream":true' in body.replace(b" ", b""):
        words = [word + " " for word in text.split(" ")]
        events = anthropic_events(*words) if is_anthropic else openai_events(*words)
        return STREAM_HEAD + b"".join(map(chunk, events)) + LAST_CHUNK
    return response(anthropic_reply(text) if is_anthropic else openai_reply(text), JSON_TYPE)


def chatting(reply: Callable[[int], str] = "reply {}".format) -> Script:
    """A backend that chats in both dialects; *reply* makes the text of each answer from its number, from 0."""
    number = 0

    async def script(peer: Peer) -> None:
        nonlocal number
        while True:
            request = await peer.read_request()
            text = reply(number)
            number += 1
            await peer.send(answer_to(request, text))

    return script


# A client that sees bytes.


@dataclass
class Answer:
    """An HTTP answer as it came over the wire."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    pieces: list[bytes] = field(default_factory=list)
    """The chunks of a chunked body, as they were cut."""
    is_whole: bool = True
    """Whether it ended as it had announced: by its length, or by the last chunk."""

    def header(self, name: bytes) -> bytes | None:
        """Return the value of the first header of that name."""
        return next((value for key, value in self.headers if key == name), None)


class RawClient:
    """One connection to an HTTP server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Answer:
        """Read the head of an answer."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        headers = [
            (name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)
        ]
        return Answer(int(first.split(b" ")[1]), headers)

    async def chunk(self) -> bytes:
        """Read one chunk of a body; b"" is the last."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def answer(self, *, has_body: bool = True) -> Answer:
        """Read one answer to its end, whether that is the announced one or not."""
        found = await self.head()
        length = found.header(b"content-length")
        try:
            if not has_body or found.status in {204, 304}:
                pass
            elif found.header(b"transfer-encoding") == b"chunked":
                while piece := await self.chunk():
                    found.pieces.append(piece)
                    found.body += piece
            elif length is not None:
                found.body = await self.reader.readexactly(int(length))
            else:
                found.body = await self.reader.read()
        except asyncio.IncompleteReadError as error:
            found.is_whole = False
            found.body += error.partial if length is not None else b""
        return found

    def close(self) -> None:
        """Leave."""
        self.writer.transport.abort()


@asynccontextmanager
async def raw_client(url: str) -> AsyncIterator[RawClient]:
    """Connect to the server at *url*."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 26)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()


def takes_nothing(client: RawClient, *, room: int = 4_096) -> None:
    """Have a client read no more, and the system keep *room* bytes for him."""
    client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]


async def exchange(url: str, request: bytes) -> Answer:
    """Send one request on a connection of its own and return the answer."""
    async with raw_client(url) as client:
        await client.send(request)
        return await client.answer(has_body=not request.startswith(b"HEAD"))


def post(path: str, body: bytes, *headers: bytes) -> bytes:
    """A POST request with its length."""
    lines = (b"POST %b HTTP/1.1" % path.encode(), b"Host: chat", b"Content-Length: %d" % len(body), *headers)
    return b"\r\n".join((*lines, b"", b"")) + body


def chat_bytes(said: str = "hello", *, stream: bool = False) -> bytes:
    """The body of an OpenAI chat request."""
    return json.dumps(
        {"model": "m", "stream": stream, "messages": [{"role": "user", "content": said}]}
    ).encode()


ANA_LINES = tuple(f"{name}: {value}".encode() for name, value in ANA.items())


async def all_keys(connections: Connections) -> dict[bytes, int]:
    """Return every key of the store with its PEXPIRETIME, but for what is noted by the clock: how full it is."""
    [names] = await connections.ask([["KEYS", "*"]])
    names = [name for name in names if name != keys.control("growth")]
    times = await connections.ask([["PEXPIRETIME", name] for name in names])
    return dict(zip(names, times, strict=True))
