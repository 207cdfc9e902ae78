"""A proxy for WebSockets alone: the real listener, gateway and client to the upstream, without a store."""

import asyncio
import base64
import hashlib
import ipaddress
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

from chatproxy.clock import Clock, wall_clock
from chatproxy.forwarding import UpstreamAddress
from chatproxy.identity import IDENTITY_HEADERS, HeaderIdentity
from chatproxy.journal.memory import MemoryJournal
from chatproxy.model import Caller, Exchange, TurnId
from chatproxy.policy.reasons import Reason
from chatproxy.telemetry import Metrics
from chatproxy.web.connection import ClientLimits
from chatproxy.web.own import Own
from chatproxy.web.person_session import PersonSessions
from chatproxy.web.proxy import Proxy
from chatproxy.web.public import Public
from chatproxy.web.server import Listener
from chatproxy.web.upstream import Upstream
from chatproxy.wire import DIALECTS, Dialects
from chatproxy.wire.base import Dialect
from chatproxy.wire.frame_dialect import FrameDialect
from chatproxy.workflows.announce import DECISION_HEADERS, Announcer
from chatproxy.workflows.frame_copy import FrameCapture
from chatproxy.workflows.record import Capture

PATIENCE = 20.0
DEFAULT_LIMITS = ClientLimits()
KEY = base64.b64encode(bytes(range(16)))
ACCEPT = base64.b64encode(hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324
SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPT + b"\r\n\r\n"
)


def upgrade(
    path: bytes = b"/ws", *lines: bytes, without: Sequence[bytes] = (), method: bytes = b"GET"
) -> bytes:
    """The request of a WebSocket; *without* are names of headers that it has not."""
    usual = (
        b"Host: chat", b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket",
        b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + KEY,
    )  # fmt: skip
    kept = [line for line in usual if line.partition(b":")[0] not in without]
    return b"\r\n".join((method + b" " + path + b" HTTP/1.1", *kept, *lines, b"", b""))


class ToyChat:
    """A chat of objects: ``{"say": …}`` up, ``{"answer": …}`` and ``{"done": true}`` down."""

    name = "json:toy"

    def __init__(self, *, marks_ends: bool = True, names_conversations: bool = False) -> None:
        self.marks_ends = marks_ends
        self.names_conversations = names_conversations

    def claims_socket(self, path: str) -> bool:
        return path == "/ws"

    def is_user_message(self, payload: bytes) -> bool:
        return "say" in _object(payload)

    def is_answer(self, payload: bytes) -> bool:
        return "answer" in _object(payload)

    def ends_turn(self, payload: bytes) -> bool:
        return self.marks_ends and _object(payload).get("done") is True


_: type[FrameDialect] = ToyChat


def _object(payload: bytes) -> dict[str, Any]:
    try:
        value = json.loads(payload)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


@dataclass
class Turns:
    """What a capture gives on."""

    journal: MemoryJournal
    metrics: Metrics
    capture: FrameCapture

    async def ended(self, count: int) -> list[Exchange]:
        """Wait for that many turns to end."""
        found: list[Exchange] = []
        async with asyncio.timeout(PATIENCE):
            while len(found) < count:
                found += await self.journal.take(count - len(found))
        return found

    def counted(self, sample: str, **labels: str) -> float:
        """Return the value of a metric's sample; 0 if there is none yet."""
        return self.metrics.registry.get_sample_value(sample, labels) or 0.0


def a_capture(
    *dialects: FrameDialect,
    clock: Clock = wall_clock,
    memory: int = 1 << 24,
    queue: int = 1 << 28,
    limit: int = 1 << 26,
    never_kept: Reason | None = None,
    journal: MemoryJournal | None = None,
) -> tuple[Capture, Turns]:
    """A capture over a journal in memory."""
    journal, metrics = journal or MemoryJournal(queue), Metrics()
    numbers = itertools.count()
    capture = Capture(
        journal,
        metrics,
        limit=limit,
        never_kept=lambda _: never_kept,
        new_turn_id=lambda: TurnId(next(numbers).to_bytes(16)),
    )
    frames = FrameCapture(
        capture, dialects, metrics=metrics, clock=clock, new_name=lambda: f"c{next(numbers)}", memory=memory
    )
    return capture, Turns(journal, metrics, frames)


@dataclass
class Gate:
    """A proxy that runs."""

    url: str
    listener: Listener
    turns: Turns

    @property
    def socket_url(self) -> str:
        return self.url.replace("http", "ws") + "/ws"


@asynccontextmanager
async def a_gate(
    upstream: str,
    *dialects: FrameDialect,
    idle_timeout: float = 60.0,
    head_timeout: float = PATIENCE,
    drain_seconds: float = 5.0,
    refuse: bool = False,
    trusted: str | None = "127.0.0.1",
    base_path: str = "",
    tls: Any = None,
    over_http: Sequence[Dialect] = DIALECTS,
    limits: ClientLimits = DEFAULT_LIMITS,
    fronts: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network] = (),
    announcer: object = None,
    hold_until_safe: bool = False,
    **capture: Any,
) -> AsyncIterator[Gate]:
    """Run a proxy in front of *upstream*."""
    address = UpstreamAddress.parse(upstream.replace("ws", "http", 1) + base_path)
    client = Upstream(
        address,
        connect_timeout=5,
        head_timeout=head_timeout,
        idle_timeout=PATIENCE,
        ssl_context=tls,
        drop=DECISION_HEADERS,
    )
    opening, turns = a_capture(*dialects, **capture)
    proxy = Proxy(
        client,
        address=address,
        dialects=Dialects(over_http),
        identify=HeaderIdentity(trusted_proxies=[ipaddress.ip_network(trusted)] if trusted else []),
        capture=opening,
        frames=turns.capture,
        tunnel_idle_timeout=idle_timeout,
        announcer=cast("Announcer", announcer),
        metrics=turns.metrics,
        clock=wall_clock,
        new_request_id=lambda: "req_test",
        refuse_uncaptured=refuse,
        hold_until_safe=hold_until_safe,
    )
    listener = Listener(
        Public(
            proxy,
            Own((), sessions=cast("PersonSessions", None), new_request_id=lambda: "req_test"),
        ),
        host="127.0.0.1",
        port=0,
        setting="CHATPROXY_LISTEN",
        drain_seconds=drain_seconds,
        limits=limits,
        words=proxy.words,
        cut=lambda reason: turns.metrics.client_cuts.labels(reason).inc(),
        fronts=fronts,
        not_in_trailers=IDENTITY_HEADERS,
    )
    await listener.start()
    try:
        yield Gate(listener.url, listener, turns)
    finally:
        listener.cut()
        await listener.stop()
        await client.aclose()


def said(exchange: Exchange) -> tuple[bytes, bytes]:
    """Return both sides of a turn."""
    return b"".join(exchange.request), b"".join(exchange.reply)


NOBODY = Caller()
