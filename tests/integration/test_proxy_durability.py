"""What `CHATPROXY_CAPTURE_DURABILITY` and `CHATPROXY_CAPTURE_FAILURE` promise, with a disk that fails."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.proxy_fixtures import (
    ANA_LINES,
    LAST_CHUNK,
    OPENAI,
    STREAM_HEAD,
    World,
    a_world,
    chat_bytes,
    chatting,
    chunk,
    exchange,
    openai_events,
    post,
    raw_client,
)
from simulators.backend import Peer

AWAY = "redis://127.0.0.1:9"
EVENTS = openai_events("one ", "two ", "three")


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    del connections  # which has emptied it
    return server.url


async def streaming(peer: Peer) -> None:
    while True:
        await peer.read_request()
        await peer.send(STREAM_HEAD + b"".join(map(chunk, EVENTS)) + LAST_CHUNK)


@contextmanager
def full_disk() -> Iterator[None]:
    """Let every write to a file of this process fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def ask(world: World, *, stream: bool) -> bytes:
    """Chat once, and return the answer as it comes on the wire, up to its end or the cut."""
    async with raw_client(world.running.url) as client:
        await client.send(post(OPENAI, chat_bytes(stream=stream), b"Connection: close", *ANA_LINES))
        return await client.reader.read()


@pytest.mark.parametrize("stream", [True, False])
async def test_strict_ends_no_answer_that_is_not_safe(tmp_path: Path, stream: bool) -> None:
    async with a_world(
        streaming if stream else chatting(), tmp_path, AWAY, capture_durability="strict"
    ) as world:
        whole = await ask(world, stream=stream)
        with full_disk():
            cut = await ask(world, stream=stream)

        assert whole.endswith(LAST_CHUNK if stream else b"}")
        assert not cut.endswith(LAST_CHUNK if stream else b"}")
        assert world.counted("chatproxy_failures_total", code="capture_unsafe") == 1


@pytest.mark.parametrize("stream, words", [(True, "one two three"), (False, "reply 0")])
async def test_strict_keeps_the_piece_that_waited_until_it_was_safe(
    tmp_path: Path, store: str, stream: bool, words: str
) -> None:
    async with a_world(
        streaming if stream else chatting(), tmp_path, store, capture_durability="strict"
    ) as world:
        await ask(world, stream=stream)
        (row,) = await world.kept()

        assert (await world.said(row["conversation"]))[-1] == f"assistant: {words}"


async def test_strict_refuses_a_chat_while_the_disk_fails(tmp_path: Path, store: str) -> None:
    async with a_world(
        chatting(), tmp_path, store, capture_durability="strict", journal_size="1KiB"
    ) as world:
        # The first frames may be more than the room; after them there is none.
        answers = [
            await exchange(world.running.url, post(OPENAI, chat_bytes("x" * 2000), *ANA_LINES)) for _ in "12"
        ]
        while answers[-1].status == 200:
            answers.append(await exchange(world.running.url, post(OPENAI, chat_bytes(), *ANA_LINES)))

        assert answers[-1].status == 503
        assert json.loads(answers[-1].body)["error"]["code"] == "capture_unavailable"


@pytest.mark.parametrize("durability", ["journal", "relaxed"])
async def test_otherwise_a_disk_that_fails_is_no_matter_to_the_chat(
    tmp_path: Path, store: str, durability: str
) -> None:
    async with a_world(streaming, tmp_path, store, capture_durability=durability) as world:
        with full_disk():
            for _ in range(3):
                assert (await ask(world, stream=True)).endswith(LAST_CHUNK)
            assert len(await world.kept()) == 3


async def test_relaxed_writes_nothing(tmp_path: Path, store: str) -> None:
    async with a_world(streaming, tmp_path, store, capture_durability="relaxed") as world:
        await ask(world, stream=True)
        assert len(await world.kept()) == 1
    assert not (tmp_path / "data" / "journal").exists()
