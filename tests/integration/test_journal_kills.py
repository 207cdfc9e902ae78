"""A process that is killed loses no answer that its durability promises, and keeps none twice.

A real `chatproxy serve` is killed at random moments while people chat. `make test` does so a few times, `make faults`
two hundred times.
"""

import asyncio
import contextlib
import math
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chatproxy.model import StreamEnd, TurnId
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.vault import Vault, open_vault
from chatproxy.workflows.verdict import Kept
from integration.left_whole import CANARY
from integration.proxy_fixtures import (
    ANA_LINES,
    OPENAI,
    PATIENCE,
    STREAM_HEAD,
    a_proxy,
    chat_bytes,
    chatting,
    chunk,
    http_client,
    openai_events,
    post,
    raw_client,
)
from integration.serve_process import Serving, environment, serving
from simulators.backend import Peer, backend

SETTLED_SECONDS = 1.0
"""How long an answer must be over for `journal` to promise it, far longer than a sync takes."""


@dataclass
class Chats:
    """What clients asked for, and what they got whole."""

    asked: int = 0
    answered: dict[str, float] = field(default_factory=dict)
    """When which turn was answered."""

    async def run(self, url: str) -> None:
        """Chat until cancelled, or until the proxy is gone."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, AssertionError):
            async with raw_client(url) as client:
                while True:
                    self.asked += 1
                    streamed = bool(self.asked % 2)
                    said = chat_bytes(f"{CANARY} {self.asked}", stream=streamed)
                    await client.send(post(OPENAI, said, *ANA_LINES))
                    answer = await client.answer()
                    handle = answer.header(b"x-chat-turn")
                    assert answer.is_whole
                    # It has none where keys or person could not be read before the answer came.
                    if handle is not None:
                        self.answered[handle.decode()] = time.monotonic()


async def all_kept(process: Serving) -> None:
    """Wait until nothing waits to be kept, as long as it gets less."""
    loop, least = asyncio.get_running_loop(), math.inf
    async with http_client() as client, asyncio.timeout(PATIENCE) as patience:
        while pending := sample_of(
            (await client.get(f"{process.admin_url}/metrics")).text, "chatproxy_turns_pending"
        ):
            if pending < least:
                least = pending
                patience.reschedule(loop.time() + PATIENCE)
            await asyncio.sleep(0.05)


async def kept_turns(vault: Vault) -> dict[TurnId, Kept]:
    return {turn.turn: Kept.of(turn, vault.annotation_keys) async for turn in vault.store.annotations()}


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    """The URL of an empty store."""
    del connections  # which has emptied it
    return server.url


@pytest.mark.parametrize("durability", ["strict", "journal"])
@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(2, id="twice"),
        pytest.param(100, id="a hundred times", marks=[pytest.mark.faults, pytest.mark.timeout(1800)]),
    ],
)
async def test_killed_while_people_chat_every_answer_that_is_promised_is_kept_once(
    tmp_path: Path, store: str, durability: str, kills: int
) -> None:
    chance = random.Random(11)  # noqa: S311 - moments, not secrets
    chats = Chats()
    over: dict[str, float] = {}
    """How long which turn was answered when the proxy was killed; below 0: it was read from what had been sent."""
    settling = SETTLED_SECONDS if durability == "journal" else 0
    async with backend(chatting()) as behind:
        env = environment(tmp_path, store=store, upstream=behind.url, capture_durability=durability)
        for _ in range(kills):
            before = set(chats.answered)
            async with serving(env) as process:
                clients = [asyncio.create_task(chats.run(process.url)) for _ in range(4)]
                await asyncio.sleep(chance.uniform(0.2, 1.5) + 2 * settling)
                killed_at = time.monotonic()
                process.process.kill()
                await process.ended()
                await asyncio.gather(*clients)
                over |= {turn: killed_at - at for turn, at in chats.answered.items() if turn not in before}
        async with serving(env) as process:
            await all_kept(process)
    async with open_vault(a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=store)) as vault:
        kept = await kept_turns(vault)
        turns = {handle: vault.pseudonyms.read_turn_handle(handle)[1] for handle in chats.answered}
    lost = sorted(over[handle] for handle, turn in turns.items() if turn not in kept)
    promised = [seconds for seconds in over.values() if durability == "strict" or seconds > settling]
    print(  # noqa: T201 - figures of `make faults`
        f"{durability}: {kills} kills, {len(over)} answered, {len(kept)} kept, {len(lost)} lost, answered at most "
        f"{max(lost, default=0) * 1000:.0f} ms before a kill, half of them at most {lost[len(lost) // 2] * 1000 if lost else 0:.0f}"
    )
    assert not lost if durability == "strict" else max(lost, default=0) <= settling
    assert len(kept) <= chats.asked
    assert len(promised) > kills


async def test_what_was_answered_while_the_store_was_away_outlives_the_process(
    tmp_path: Path, store: str
) -> None:
    async with backend(chatting()) as behind:
        env = environment(tmp_path, store="redis://127.0.0.1:9", upstream=behind.url, store_timeout="1s")
        async with serving(env) as process, raw_client(process.url) as client:
            for number in range(5):
                await client.send(post(OPENAI, chat_bytes(f"{CANARY} {number}"), *ANA_LINES))
                await client.answer()
            async with http_client() as admin, asyncio.timeout(PATIENCE):
                while journal_bytes((await admin.get(f"{process.admin_url}/metrics")).text) < 5 * 300:
                    await asyncio.sleep(0.02)
            process.process.kill()
            await process.ended()
        async with serving(env | {"CHATPROXY_STORE": store}) as process:
            await all_kept(process)
    async with open_vault(a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=store)) as vault:
        kept = await kept_turns(vault)
    assert [turn.note.end for turn in kept.values()] == [StreamEnd.COMPLETE] * 5


def journal_bytes(metrics: str) -> float:
    return sample_of(metrics, "chatproxy_journal_bytes")


def sample_of(metrics: str, name: str) -> float:
    return next(float(line.split()[1]) for line in metrics.splitlines() if line.startswith(f"{name} "))


async def test_a_stream_that_a_crash_cuts_is_kept_as_far_as_it_was_written(
    tmp_path: Path, store: str
) -> None:
    events = openai_events("The ", "answer ", "goes ", "on", finish=False)

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(STREAM_HEAD + b"".join(map(chunk, events)))
        await peer.until_gone()

    async with backend(script) as behind:
        env = environment(tmp_path, store=store, upstream=behind.url)
        async with serving(env) as process, raw_client(process.url) as client:
            await client.send(post(OPENAI, chat_bytes(CANARY, stream=True), *ANA_LINES))
            await client.head()
            for event in events:
                assert await client.chunk() == event
            async with http_client() as admin, asyncio.timeout(PATIENCE):
                while journal_bytes((await admin.get(f"{process.admin_url}/metrics")).text) < 600:
                    await asyncio.sleep(0.02)
            process.process.kill()
            await process.ended()
        async with serving(env) as process:
            await all_kept(process)
    async with open_vault(a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=store)) as vault:
        [kept] = (await kept_turns(vault)).values()
        [said] = await vault.transcripts.show(
            kept.stored.subject, kept.facts.conversation_tag, purpose="service"
        )
    assert kept.note.end == StreamEnd.INTERRUPTED
    assert [part.body["text"] for message in said.transcript.output for part in message.parts] == [
        "The answer goes on"
    ]
