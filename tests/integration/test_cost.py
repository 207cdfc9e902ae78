"""What a request costs, in calls of functions: a guard that does not depend on how busy the machine is.

The proxy runs in a thread of its own, in which every call of a Python or C function is counted; client and backend are
outside. What runs by the clock falls into some requests, so the one that took the fewest counts. Where a bound is passed, look
for what was added on the way of each chat; where a change makes it cheaper, lower the bound.
"""

import asyncio
import json
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice
from chatproxy.settings import Settings
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.web.server import run_event_loop
from chatproxy.wiring import RunningProxy, running_proxy
from integration.proxy_fixtures import (
    ANA_LINES,
    JSON_TYPE,
    LAST_CHUNK,
    OPENAI,
    STREAM_HEAD,
    RawClient,
    a_proxy,
    chat_bytes,
    chunk,
    openai_events,
    openai_reply,
    post,
    raw_client,
    response,
)
from simulators.backend import Peer, Script, backend

REQUESTS = 25
PASSED = "/v1/models/other"
"""Where no dialect takes chats."""
MOST_OF_A_MESSAGE = 18
"""Calls for each message of a history."""
SHORT, LONG = 4, 36
"""Words of two streams, whose difference is what a piece costs."""


class CountedProxy:
    """A proxy in a thread that counts the calls of functions in it."""

    def __init__(self, settings: Settings) -> None:
        self.calls = 0
        self.running: RunningProxy
        self._settings = settings
        self._is_ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._is_over: asyncio.Event

    def serve(self) -> None:
        """Serve until stopped."""
        try:
            run_event_loop(self._serve())
        finally:
            self._is_ready.set()

    async def _serve(self) -> None:
        self._loop, self._is_over = asyncio.get_running_loop(), asyncio.Event()
        async with running_proxy(self._settings) as running:
            vault = running.vault
            ana = vault.pseudonyms.subject_tag(tenant="default", subject="ana")
            await vault.ledger.record(ana, Choice.GIVEN, at=wall_clock(), by="test", method="test")
            self.running = running
            sys.setprofile(self._count)
            self._is_ready.set()
            await self._is_over.wait()
            sys.setprofile(None)

    def _count(self, _frame: FrameType, event: str, _argument: object) -> None:
        if event in {"call", "c_call"}:
            self.calls += 1

    async def ready(self) -> None:
        """Wait until it serves."""
        await asyncio.to_thread(self._is_ready.wait)

    def stop(self) -> None:
        """Serve no longer."""
        self._loop.call_soon_threadsafe(self._is_over.set)

    async def calls_of(self, ask: Callable[[], Awaitable[None]]) -> int:
        """Return the calls that a request costs until its turn is kept."""
        counts = []
        for _ in range(REQUESTS):
            before = self.calls
            await ask()
            while self.running.metrics.registry.get_sample_value("chatproxy_turns_pending"):
                await asyncio.sleep(0.001)
            counts.append(self.calls - before)
        return min(counts)


class Pace:
    """A backend that streams as many words as it is asked for, each once the piece before has reached the client."""

    def __init__(self) -> None:
        self.words = 0
        self._has_arrived = asyncio.Event()

    async def script(self, peer: Peer) -> None:
        """See Script."""
        while True:
            await peer.read_request()
            if not self.words:
                await peer.send(response(openai_reply("words " * 200), JSON_TYPE))
                continue
            self._has_arrived.clear()
            await peer.send(STREAM_HEAD)
            for event in openai_events(*["word"] * self.words):
                await self._has_arrived.wait()
                self._has_arrived.clear()
                await peer.send(chunk(event))
            await peer.send(LAST_CHUNK)

    async def read_answer(self, client: RawClient) -> None:
        """Read an answer and say what has arrived."""
        if not self.words:
            await client.answer()
            return
        await client.head()
        self._has_arrived.set()
        while await client.chunk():
            self._has_arrived.set()


class Talk:
    """A conversation, of which everything is sent again with each turn."""

    def __init__(self) -> None:
        self._messages: list[dict[str, str]] = []

    def ask(self) -> bytes:
        """Return the next request."""
        self._messages.append({"role": "user", "content": f"question {len(self._messages)}"})
        body = json.dumps({"model": "m", "messages": self._messages})
        self._messages.append({"role": "assistant", "content": "words " * 200})
        return body.encode()


@asynccontextmanager
async def a_counted_proxy(directory: Path, store: str, script: Script) -> AsyncIterator[CountedProxy]:
    """Serve in front of *script*."""
    async with backend(script) as behind:
        proxy = CountedProxy(a_proxy(directory, upstream=behind.url, store=store))
        serving = asyncio.get_running_loop().run_in_executor(None, proxy.serve)
        await proxy.ready()
        try:
            yield proxy
        finally:
            proxy.stop()
            await serving


@pytest.mark.parametrize(
    "path, headers, most_of_an_answer, most_of_a_piece",
    [
        pytest.param(OPENAI, ANA_LINES, 1_150, 24, id="captured"),
        pytest.param(PASSED, (), 210, 16, id="passed"),
    ],
)
async def test_an_answer_and_a_piece_of_a_stream_cost_no_more_calls_than_they_did(
    tmp_path: Path,
    server: EmbeddedServer,
    connections: Connections,
    path: str,
    headers: Sequence[bytes],
    most_of_an_answer: int,
    most_of_a_piece: int,
) -> None:
    pace = Pace()
    async with (
        a_counted_proxy(tmp_path, server.url, pace.script) as proxy,
        raw_client(proxy.running.url) as client,
    ):

        async def ask() -> None:
            await client.send(post(path, chat_bytes("question " * 100, stream=bool(pace.words)), *headers))
            await pace.read_answer(client)

        of_an_answer = await proxy.calls_of(ask)
        pace.words = SHORT
        of_a_short_stream = await proxy.calls_of(ask)
        pace.words = LONG
        of_a_piece = (await proxy.calls_of(ask) - of_a_short_stream) / (LONG - SHORT)

    assert of_an_answer <= most_of_an_answer
    assert of_a_piece <= most_of_a_piece


async def test_a_message_that_is_sent_again_costs_no_more_calls_than_it_did(
    tmp_path: Path, server: EmbeddedServer, connections: Connections
) -> None:
    pace = Pace()
    async with (
        a_counted_proxy(tmp_path, server.url, pace.script) as proxy,
        raw_client(proxy.running.url) as client,
    ):
        talk = Talk()

        async def ask() -> None:
            await client.send(post(OPENAI, talk.ask(), *ANA_LINES))
            await pace.read_answer(client)

        of_a_short_talk = await proxy.calls_of(ask)
        await proxy.calls_of(ask)
        of_a_message = (await proxy.calls_of(ask) - of_a_short_talk) / (2 * 2 * REQUESTS)

    assert of_a_message <= MOST_OF_A_MESSAGE
