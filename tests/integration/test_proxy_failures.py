"""What bad things get: an error in the client's dialect, or the truncated answer as it came, never a clean lie."""

import asyncio
import gc
import json
import socket
import struct
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.web.client_call import ClientCall
from chatproxy.web.connection import ClientConnection
from chatproxy.web.upstream import UpstreamCall
from chatproxy.web.upstream.response import ResponseReader
from chatproxy.wiring import running_proxy
from integration.proxy_fixtures import (
    ANA_LINES,
    ANTHROPIC,
    JSON_TYPE,
    LAST_CHUNK,
    OPENAI,
    PATIENCE,
    STREAM_HEAD,
    a_proxy,
    a_world,
    chat_bytes,
    chatting,
    chunk,
    exchange,
    openai_events,
    openai_reply,
    post,
    raw_client,
    response,
)
from simulators.backend import Peer, Script, answering, backend


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


def error_of(path: str, body: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(body)
    if path == ANTHROPIC:
        assert document["type"] == "error"
    error: dict[str, Any] = document["error"]
    assert error["type"]
    return error


async def nothing(peer: Peer) -> None:
    await peer.read_request()
    await peer.until_gone()


def saying(data: bytes, then: Callable[[Peer], None] = Peer.close) -> Script:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(data)
        then(peer)

    return script


BROKEN: dict[str, tuple[Script, int]] = {
    "closes at once": (saying(b""), 502),
    "resets at once": (saying(b"", Peer.reset), 502),
    "ends inside the head": (saying(b"HTTP/1.1 200 OK\r\nContent-"), 502),
    "speaks garbage": (saying(b"\x00\x01garbage\r\n\r\n"), 502),
    "answers 999": (saying(b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n"), 502),
    "has two lengths": (saying(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), 502),
    "says nothing": (nothing, 504),
}


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
@pytest.mark.parametrize("script, status", BROKEN.values(), ids=BROKEN)
async def test_an_upstream_that_does_not_answer_gives_an_error_in_the_clients_dialect(
    script: Script, status: int, path: str, tmp_path: Path, store: str
) -> None:
    async with a_world(script, tmp_path, store, upstream_head_timeout="1s") as world:
        answer = await exchange(world.running.url, post(path, chat_bytes("CANARY"), *ANA_LINES))
        assert answer.status == status
        assert (answer.header(b"x-request-id") or b"").startswith(b"req_")
        error_of(path, answer.body)
        assert b"CANARY" not in answer.body
        [row] = await world.kept()
        assert row["end"] == "error"
        world.assert_outcomes_add_up()


async def test_whatever_byte_stands_in_a_head_of_an_answer_it_is_passed_on_or_refused(
    tmp_path: Path, store: str
) -> None:
    """What the parser lets through must not stop what writes the head for the client."""
    heads = [
        head
        for byte in (bytes([number]) for number in range(256))
        for head in (b"x-a: 1%b2" % byte, b"x-%ba: 1" % byte, b"%b: 1" % byte, b"x-a: %b" % byte)
    ]
    at = 0

    async def script(peer: Peer) -> None:
        while True:
            await peer.read_request()
            await peer.send(b"HTTP/1.1 200 OK\r\n%b\r\nContent-Length: 2\r\n\r\nok" % heads[at])

    passed = 0
    async with a_world(script, tmp_path, store) as world:
        for at in range(len(heads)):
            async with asyncio.timeout(PATIENCE):
                answer = await exchange(world.running.url, post(OPENAI, chat_bytes(), *ANA_LINES))
            assert (answer.status, answer.body) == (200, b"ok") or answer.status == 502, heads[at]
            passed += answer.status == 200
        assert passed > len(heads) // 2


async def test_an_upstream_that_is_down_gives_502(tmp_path: Path, store: str) -> None:
    async with backend(answering()) as gone:
        pass
    async with a_world(answering(), tmp_path, store, upstream=gone.url) as world:
        answer = await world.chat("hello")
        assert answer.status_code == 502
        assert error_of(OPENAI, answer.content)["code"] == "upstream_unreachable"
        get = await world.client.get("/v1/models")
        assert (get.status_code, error_of("/v1/models", get.content)["code"]) == (502, "upstream_unreachable")
        [row] = await world.kept()
        assert row["end"] == "error"


EVENTS = openai_events("one", " two")
TRUNCATED: dict[str, bytes] = {
    "between chunks": STREAM_HEAD + chunk(EVENTS[0]),
    "inside a chunk": STREAM_HEAD + chunk(EVENTS[0]) + b"ff\r\ndata: ",
    "before the last chunk": STREAM_HEAD + chunk(EVENTS[0]) + chunk(EVENTS[1]),
    "with a broken chunk": STREAM_HEAD + chunk(EVENTS[0]) + b"xyz\r\n",
}


@pytest.mark.parametrize("then", [Peer.close, Peer.reset], ids=["closed", "reset"])
@pytest.mark.parametrize("data", TRUNCATED.values(), ids=TRUNCATED)
async def test_a_stream_that_is_cut_arrives_cut_and_is_kept_as_such(
    data: bytes, then: Callable[[Peer], None], tmp_path: Path, store: str
) -> None:
    got_it = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(data)
        await got_it.wait()
        then(peer)

    async with (
        asyncio.timeout(PATIENCE),
        a_world(script, tmp_path, store) as world,
        raw_client(world.running.url) as client,
    ):
        await client.send(post(OPENAI, chat_bytes(stream=True), *ANA_LINES))
        await client.head()
        assert await client.chunk() == EVENTS[0]
        got_it.set()
        rest = await client.reader.read()
        assert LAST_CHUNK not in rest
        [row] = await world.kept()
        assert row["end"] == "upstream_aborted"
        assert (await world.said(row["conversation"]))[-1].startswith("assistant: one")


async def test_a_whole_answer_that_is_cut_arrives_cut(tmp_path: Path, store: str) -> None:
    reply = openai_reply("x" * 100)
    data = response(reply, JSON_TYPE)[:-20]
    async with a_world(saying(data), tmp_path, store) as world:
        answer = await exchange(world.running.url, post(OPENAI, chat_bytes(), *ANA_LINES))
        assert (answer.is_whole, answer.body) == (False, reply[:-20])
        [row] = await world.kept()
        assert row["end"] == "upstream_aborted"


async def test_a_stream_that_stalls_is_cut(tmp_path: Path, store: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(STREAM_HEAD + chunk(EVENTS[0]))
        await peer.until_gone()

    async with a_world(script, tmp_path, store, upstream_idle_timeout="1s") as world:
        answer = await exchange(world.running.url, post(OPENAI, chat_bytes(stream=True), *ANA_LINES))
        assert (answer.pieces, answer.is_whole) == ([EVENTS[0]], False)
        [row] = await world.kept()
        assert row["end"] == "upstream_aborted"


async def test_a_stream_without_its_dialects_end_is_kept_as_cut(tmp_path: Path, store: str) -> None:
    events = openai_events("one", finish=False)
    async with a_world(
        answering(STREAM_HEAD + b"".join(map(chunk, events)) + LAST_CHUNK), tmp_path, store
    ) as world:
        answer = await exchange(world.running.url, post(OPENAI, chat_bytes(stream=True), *ANA_LINES))
        assert answer.is_whole
        [row] = await world.kept()
        assert row["end"] == "upstream_aborted"


# The client leaves.


async def test_a_client_that_leaves_mid_answer_leaves_a_partial_turn_and_a_closed_upstream(
    tmp_path: Path, store: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(STREAM_HEAD + chunk(EVENTS[0]))
        await peer.until_gone()

    async with asyncio.timeout(PATIENCE), a_world(script, tmp_path, store) as world:
        async with raw_client(world.running.url) as client:
            await client.send(post(OPENAI, chat_bytes(stream=True), *ANA_LINES))
            await client.head()
            assert await client.chunk() == EVENTS[0]
        peer = await world.backend.connection(0)
        await peer.is_gone.wait()
        [row] = await world.kept()
        assert (row["end"], row["parsed"]) == ("client_aborted", True)
        assert await world.said(row["conversation"]) == ["user: hello", "assistant: one"]
        world.assert_outcomes_add_up()


async def test_a_stop_during_an_answer_does_not_split_the_conversation(tmp_path: Path, store: str) -> None:
    async def script(peer: Peer) -> None:
        while b"go on" in await peer.read_request():
            await peer.send(response(openai_reply("on we go")))
        await peer.send(STREAM_HEAD + chunk(EVENTS[0] + EVENTS[1]))
        await peer.until_gone()

    async with asyncio.timeout(PATIENCE), a_world(script, tmp_path, store) as world:
        async with raw_client(world.running.url) as client:
            await client.send(post(OPENAI, chat_bytes(stream=True), *ANA_LINES))
            await client.head()
            assert await client.chunk() == EVENTS[0] + EVENTS[1]
        await world.kept()
        messages = [
            {"role": "user", "content": "hello"},
            {"role": "assistant", "content": "on"},
            {"role": "user", "content": "go on"},
        ]
        answer = await world.chat(messages)
        messages += [answer.json()["choices"][0]["message"], {"role": "user", "content": "more"}]
        await world.chat(messages)
        rows = await world.kept()
        assert [row["end"] for row in rows] == ["client_aborted", "complete", "complete"]
        assert {row["conversation"] for row in rows} == {rows[0]["conversation"]}
        assert await world.said(rows[0]["conversation"]) == [
            "user: hello", "assistant: one two",
            "user: go on", "assistant: on we go",
            "user: more", "assistant: on we go",
        ]  # fmt: skip
        assert world.counted("chatproxy_history_messages_unmatched_total") == 0


async def test_a_client_that_leaves_before_the_first_byte_leaves_its_question(
    tmp_path: Path, store: str
) -> None:
    async with asyncio.timeout(PATIENCE), a_world(nothing, tmp_path, store) as world:
        for number in range(8):
            async with raw_client(world.running.url) as client:
                await client.send(post(OPENAI, chat_bytes(f"hello {number}"), *ANA_LINES))
                peer = await world.backend.connection(number)
            await peer.is_gone.wait()
        rows = await world.kept()
        assert [row["end"] for row in rows] == ["client_aborted"] * 8
        assert await world.said(rows[0]["conversation"]) == ["user: hello 0"]
        world.assert_outcomes_add_up()


async def test_a_client_that_leaves_behind_a_long_question_is_noticed(tmp_path: Path, store: str) -> None:
    async with asyncio.timeout(PATIENCE), a_world(nothing, tmp_path, store) as world:
        for number in range(8):
            async with raw_client(world.running.url) as client:
                await client.send(post(OPENAI, chat_bytes("long " * 20_000 * (number + 1)), *ANA_LINES))
                peer = await world.backend.connection(number)
            await peer.is_gone.wait()
        assert [row["end"] for row in await world.kept()] == ["client_aborted"] * 8


async def test_a_client_that_leaves_inside_its_question_is_not_passed_on_as_whole(
    tmp_path: Path, store: str
) -> None:
    async with asyncio.timeout(PATIENCE), a_world(nothing, tmp_path, store) as world:
        async with raw_client(world.running.url) as client:
            await client.send(post(OPENAI, chat_bytes(), *ANA_LINES)[:-5])
            peer = await world.backend.connection(0)
        await peer.is_gone.wait()
        [row] = await world.kept()
        assert (row["end"], row["parsed"]) == ("client_aborted", False)


async def test_a_client_that_leaves_after_the_dialects_end_has_a_complete_turn(
    tmp_path: Path, store: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(STREAM_HEAD + chunk(b"".join(EVENTS)))
        await peer.until_gone()

    async with asyncio.timeout(PATIENCE), a_world(script, tmp_path, store) as world:
        async with raw_client(world.running.url) as client:
            await client.send(post(OPENAI, chat_bytes(stream=True), *ANA_LINES))
            await client.head()
            await client.chunk()
        [row] = await world.kept()
        assert row["end"] == "complete"


async def test_a_poisoned_connection_gives_nobody_another_ones_answer(tmp_path: Path, store: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(response(b"mine") + response(b"POISON"))

    async with a_world(script, tmp_path, store) as world:
        bodies = [(await world.client.get(f"/{number}")).content for number in range(3)]
        assert bodies == [b"mine"] * 3


# Room.


async def test_a_copy_beyond_the_limit_is_kept_raw_and_the_traffic_is_whole(
    tmp_path: Path, store: str
) -> None:
    reply = openai_reply("y" * 300_000)
    async with a_world(
        answering(response(reply, JSON_TYPE)), tmp_path, store, capture_limit="64KiB"
    ) as world:
        answer = await exchange(world.running.url, post(OPENAI, chat_bytes(), *ANA_LINES))
        assert answer.body == reply
        [row] = await world.kept()
        assert (row["parsed"], row["reason"]) == (False, "CONSENT_UNKNOWN")
        assert row["eligible"]["capability"] is False


@pytest.mark.parametrize("path", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
async def test_without_room_a_chat_is_served_and_counted_as_lost_or_refused_by_setting(
    path: str, tmp_path: Path, store: str
) -> None:
    for setting in ("serve", "refuse"):
        async with a_world(
            chatting(), tmp_path, store, capture_queue="1KiB", capture_failure=setting
        ) as world:
            answer = await world.chat("hello", path=path)
            assert await world.kept() == []
            assert world.outcomes() == {"lost": 1}
            world.assert_outcomes_add_up()
            if setting == "serve":
                assert answer.status_code == 200
                assert answer.headers["x-decision-reason"] == "NOT_KEPT"
            else:
                assert answer.status_code == 503
                assert answer.headers["x-request-id"]
                error_of(path, answer.content)
                assert world.backend.connections == []


async def test_what_outgrows_the_room_is_lost_and_counted_once_and_its_room_is_free_again(
    tmp_path: Path, store: str
) -> None:
    reply = openai_reply("y" * 100_000)
    async with a_world(
        answering(response(reply), response(b"{}")), tmp_path, store, capture_queue="64KiB"
    ) as world:
        answer = await exchange(world.running.url, post(OPENAI, chat_bytes(), *ANA_LINES))
        assert answer.body == reply
        assert await world.kept() == []
        assert world.outcomes() == {"lost": 1}
        assert world.counted("chatproxy_queue_bytes") == 0
        world.assert_outcomes_add_up()


# Stopping.


async def test_a_stream_that_outlives_the_drain_is_cut_and_kept_as_interrupted(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(STREAM_HEAD + chunk(EVENTS[0]))
        await peer.until_gone()

    async with asyncio.timeout(PATIENCE):
        async with backend(script) as behind:
            settings = a_proxy(tmp_path, upstream=behind.url, store=store, drain_time="0")
            async with running_proxy(settings) as running, raw_client(running.url) as client:
                await client.send(post(OPENAI, chat_bytes(stream=True), *ANA_LINES))
                await client.head()
                await client.chunk()
                reader = client.reader
            assert LAST_CHUNK not in await reader.read()
    async with a_world(chatting(), tmp_path, store) as world:
        [row] = await world.kept()
        assert row["end"] == "interrupted"
        assert await world.said(row["conversation"]) == ["user: hello", "assistant: one"]


async def test_a_chat_that_has_no_answer_when_the_drain_ends_gets_an_error_in_its_dialect(
    tmp_path: Path, store: str
) -> None:
    async with asyncio.timeout(PATIENCE):
        async with backend(nothing) as behind:
            settings = a_proxy(tmp_path, upstream=behind.url, store=store, drain_time="0")
            async with AsyncExitStack() as closing:
                async with running_proxy(settings) as running:
                    client = await closing.enter_async_context(raw_client(running.url))
                    await client.send(post(ANTHROPIC, chat_bytes(), *ANA_LINES))
                    await behind.connection(0)
                answer = await client.answer()
        assert answer.status == 503
        assert answer.header(b"x-request-id")
        error_of(ANTHROPIC, answer.body)
    async with a_world(chatting(), tmp_path, store) as world:
        [row] = await world.kept()
        assert row["end"] == "interrupted"


async def test_a_cut_that_comes_before_the_stop_is_not_forgotten(tmp_path: Path, store: str) -> None:
    async with asyncio.timeout(PATIENCE), backend(nothing) as behind:
        settings = a_proxy(tmp_path, upstream=behind.url, store=store, drain_time="10m")
        async with AsyncExitStack() as closing, running_proxy(settings) as running:
            client = await closing.enter_async_context(raw_client(running.url))
            await client.send(post(OPENAI, chat_bytes(), *ANA_LINES))
            await behind.connection(0)
            running.cut()


@pytest.mark.parametrize(
    "request_bytes, status",
    [
        pytest.param(
            b"GET /_chatproxy/nothing HTTP/1.1\r\nHost: chat\r\n\r\n", 404, id="a page that is not there"
        ),
        pytest.param(b"BREW /pot HTTP/1.1\r\nHost: chat\r\n\r\n", 400, id="a method that is none"),
        pytest.param(b"GET /x HTTP/1.1\r\n\r\n", 400, id="no host"),
        pytest.param(
            b"POST /x HTTP/1.1\r\nHost: chat\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            id="two lengths",
        ),
    ],
)
async def test_every_error_of_chatproxy_is_json_with_a_request_id(
    request_bytes: bytes, status: int, tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        answer = await exchange(world.running.url, request_bytes)

        assert answer.status == status
        assert (answer.header(b"x-request-id") or b"").startswith(b"req_")
        assert set(json.loads(answer.body)["error"]) == {"message", "type", "param", "code"}
        assert world.backend.connections == []


async def test_nothing_is_left_of_a_connection_that_was_reset(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        for _ in range(3):
            async with raw_client(world.running.url) as client:
                await client.send(post(OPENAI, chat_bytes(), *ANA_LINES))
                await client.answer()
                linger = struct.pack("ii", 1, 0)
                client.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                client.writer.transport.abort()
        async with asyncio.timeout(PATIENCE):
            while any(isinstance(each, ClientConnection) for each in gc.get_objects()):
                await asyncio.sleep(0.01)
                gc.collect()


async def test_nothing_of_a_chat_that_was_answered_waits_for_the_collector(
    tmp_path: Path, store: str
) -> None:
    def left() -> list[object]:
        kinds = (ClientConnection, ClientCall, UpstreamCall, ResponseReader)
        return [each for each in gc.get_objects() if isinstance(each, kinds)]

    gc.collect()
    of_others = left()
    gc.disable()  # it would come sooner or later
    try:
        async with a_world(chatting(), tmp_path, store) as world:
            for _ in range(3):
                await exchange(world.running.url, post(OPENAI, chat_bytes(), *ANA_LINES))
            async with asyncio.timeout(PATIENCE):
                while [each for each in left() if not any(each is other for other in of_others)]:
                    await asyncio.sleep(0.01)
    finally:
        gc.enable()
