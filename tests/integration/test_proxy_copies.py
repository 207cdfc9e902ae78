"""The copy is what was said, however it travelled, and the traffic is what was sent, whatever becomes of the copy."""

import asyncio
import base64
import gzip
import hashlib
import json
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import brotli
import pytest

from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.proxy_fixtures import (
    ANA_LINES,
    JSON_TYPE,
    LAST_CHUNK,
    OPENAI,
    PATIENCE,
    STREAM_HEAD,
    World,
    a_world,
    chat_bytes,
    chunk,
    exchange,
    openai_events,
    openai_reply,
    post,
    raw_client,
    response,
)
from simulators.backend import Peer

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


# Cuts.


async def test_a_stream_cut_at_any_byte_arrives_as_it_was_and_is_kept_as_it_was(
    tmp_path: Path, store: str
) -> None:
    body = b"".join(openai_events("né ", "👋 ")).replace(b"\\ud83d\\udc4b", "👋".encode())
    body = body.replace(b"\n\n", b"\r\n\r\n", 1)
    cuts = range(1, len(body))
    sent = iter(cuts)

    async def script(peer: Peer) -> None:
        while await peer.read_request():
            at = next(sent)
            await peer.send(STREAM_HEAD + chunk(body[:at]))
            await peer.send(chunk(body[at:]) + LAST_CHUNK)

    async with a_world(script, tmp_path, store) as world:
        async with raw_client(world.running.url) as client:
            for at in cuts:
                await client.send(post(OPENAI, chat_bytes(f"{at}", stream=True), *ANA_LINES))
                answer = await client.answer()
                assert (answer.body, answer.is_whole) == (body, True)
        rows = await world.kept()
        assert {row["end"] for row in rows} == {"complete"}
        said = [await world.said(row["conversation"]) for row in rows]
        assert sorted(said) == sorted([f"user: {at}", "assistant: né 👋 "] for at in cuts)


# Content codings.

CODED: dict[str, tuple[bytes, Callable[[bytes], bytes], bool]] = {
    "gzip": (b"gzip", lambda body: gzip.compress(body, mtime=0), True),
    "br": (b"br", brotli.compress, True),
    "zstd": (b"zstd", zstd.compress, True),
    "deflate": (b"deflate", zlib.compress, True),
    "gzip, then deflate": (b"gzip, deflate", lambda body: zlib.compress(gzip.compress(body, mtime=0)), True),
    "gzip that says br": (b"br", lambda body: gzip.compress(body, mtime=0), False),
    "a coding of its own": (b"x-own", lambda body: body[::-1], False),
}


@pytest.mark.parametrize("name", CODED)
async def test_a_coded_answer_arrives_as_it_was_and_its_copy_is_decoded_or_kept_raw(
    name: str, tmp_path: Path, store: str
) -> None:
    coding, code, is_readable = CODED[name]
    body = code(openai_reply("hello there"))
    sent = response(body, JSON_TYPE, b"Content-Encoding: " + coding)

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(sent)

    async with a_world(script, tmp_path, store) as world:
        answer = await exchange(world.running.url, post(OPENAI, chat_bytes(), *ANA_LINES))
        assert (answer.status, answer.body) == (200, body)
        assert answer.header(b"content-encoding") == coding
        [row] = await world.kept()
        assert (row["end"], row["parsed"]) == ("complete", is_readable)
        said = await world.said(row["conversation"])
        assert said[-1] == "assistant: " + ("hello there" if is_readable else base64.b64encode(body).decode())


@pytest.mark.parametrize("status", [b"400 Bad Request", b"429 Too Many Requests", b"500 Oops", b"529 Busy"])
@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
async def test_a_coded_error_arrives_as_it_was_and_is_kept_as_an_error(
    coding: str, status: bytes, tmp_path: Path, store: str
) -> None:
    body = CODED[coding][1](b'{"error": {"code": "quota", "message": "no"}}')
    sent = response(body, JSON_TYPE, b"Content-Encoding: " + coding.encode(), status=status)

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(sent)

    async with a_world(script, tmp_path, store) as world:
        answer = await exchange(world.running.url, post(OPENAI, chat_bytes(), *ANA_LINES))
        assert (answer.status, answer.body) == (int(status[:3]), body)
        [row] = await world.kept()
        assert (row["end"], row["parsed"]) == ("error", True)


# Sizes.


@pytest.mark.parametrize("edge", [1 << 15, 1 << 16, 1 << 20], ids=["32 KiB", "64 KiB", "1 MiB"])
async def test_bodies_around_the_sizes_of_buffers_pass_and_are_kept_whole(
    edge: int, tmp_path: Path, store: str
) -> None:
    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            said = json.loads(request.partition(b"\r\n\r\n")[2])["messages"][0]["content"]
            await peer.send(response(openai_reply(said.upper()), JSON_TYPE))

    async with a_world(script, tmp_path, store) as world:
        padding = edge - len(chat_bytes(""))
        for size in (padding - 1, padding, padding + 1):
            answer = await exchange(world.running.url, post(OPENAI, chat_bytes("a" * size), *ANA_LINES))
            assert (answer.status, answer.body) == (200, openai_reply("A" * size))
        for row, size in zip(await world.kept(), (padding - 1, padding, padding + 1), strict=True):
            assert await world.said(row["conversation"]) == [
                "user: " + "a" * size,
                "assistant: " + "A" * size,
            ]


async def test_of_a_picture_of_24_mebibytes_a_digest_is_kept_also_where_the_backend_refuses_it(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    picture = bytes(24 << 20)
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    block = {"type": "image_url", "image_url": {"url": url}}
    body = json.dumps({"messages": [{"role": "user", "content": [block]}]}).encode()
    refusal = json.dumps({"error": {"code": "too_large", "message": "no: " + url[: 1 << 20]}}).encode()
    answers = iter(
        (response(openai_reply("grey"), JSON_TYPE), response(refusal, JSON_TYPE, status=b"413 Big"))
    )
    received: list[int] = []

    async def script(peer: Peer) -> None:
        while request := await peer.read_request():
            received.append(len(request.partition(b"\r\n\r\n")[2]))
            await peer.send(next(answers))

    async with a_world(script, tmp_path, store) as world:
        for status in (200, 413):
            answer = await exchange(world.running.url, post(OPENAI, body, *ANA_LINES))
            assert answer.status == status
        assert received == [len(body)] * 2
        rows = await world.kept()
        assert [(row["end"], row["parsed"]) for row in rows] == [("complete", True), ("error", True)]
        for row in rows:
            part = await first_part(world, row["conversation"])
            assert part == {
                "mime": "image/png", "bytes": len(picture), "sha256": hashlib.sha256(picture).hexdigest(),
            }  # fmt: skip
        [names] = await connections.ask([["KEYS", "*"]])
        sizes = await connections.ask([["MEMORY", "USAGE", name] for name in names])
        assert max(sizes) < 8192
        assert world.counted("chatproxy_queue_bytes") == 0


async def first_part(world: World, handle: str) -> dict[str, Any]:
    vault = world.running.vault
    subject, conversation = vault.pseudonyms.read_conversation_handle(handle)
    [turn] = await vault.transcripts.show(subject, conversation, purpose="service")
    return dict(turn.transcript.input[0].parts[0].body)


# What a stream takes while it runs.


async def test_a_stream_takes_no_task_and_no_thread_for_each_chunk(tmp_path: Path, store: str) -> None:
    go_on = asyncio.Event()
    events = openai_events(*("word" for _ in range(400)))

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(STREAM_HEAD + chunk(events[0]))
        await go_on.wait()
        for event in events[1:]:
            await peer.send(chunk(event))
        await peer.until_gone()

    async with (
        asyncio.timeout(PATIENCE),
        a_world(script, tmp_path, store) as world,
        raw_client(world.running.url) as client,
    ):
        await client.send(post(OPENAI, chat_bytes(stream=True), *ANA_LINES))
        await client.head()
        assert await client.chunk() == events[0]
        at_first = len(asyncio.all_tasks()), threading.active_count()
        go_on.set()
        for event in events[1:]:
            assert await client.chunk() == event
            assert len(asyncio.all_tasks()) <= at_first[0]
        assert threading.active_count() <= at_first[1]
