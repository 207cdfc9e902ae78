"""What passes, passes byte for byte: the proxy is compared with the backend called directly."""

import asyncio
import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.proxy_fixtures import (
    ANA_LINES,
    LAST_CHUNK,
    OPENAI,
    PATIENCE,
    STREAM_HEAD,
    Answer,
    a_world,
    chat_bytes,
    chunk,
    exchange,
    openai_events,
    post,
    raw_client,
    response,
)
from simulators.backend import Peer, Script, answering, backend, ok

HOP_BY_HOP = {b"connection", b"keep-alive", b"transfer-encoding", b"date", b"server"}
DECISION = {b"x-training-eligible", b"x-retention-expires", b"x-decision-reason", b"x-chat-turn"}


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


def end_to_end(answer: Answer) -> list[tuple[bytes, bytes]]:
    return [header for header in answer.headers if header[0] not in HOP_BY_HOP | DECISION]


async def both(
    script: Callable[[], Script], request: bytes, tmp_path: Path, store: str
) -> tuple[Answer, Answer, bytes, bytes]:
    """Send *request* to a backend directly and through the proxy; return the answers, and what the backend got."""
    async with backend(script()) as direct:
        expected = await exchange(direct.url, request)
        seen_directly = bytes(direct.connections[0].received)
    async with a_world(script(), tmp_path, store) as world:
        found = await exchange(world.running.url, request)
        seen = bytes((await world.backend.connection(0)).received)
    return expected, found, seen_directly, seen


def without_host(request: bytes) -> tuple[bytes, list[bytes], bytes]:
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    return first, [line.lower() for line in lines if not line.lower().startswith(b"host:")], body


ANSWERS = {
    "plain": response(b"hello", b"Content-Type: text/plain"),
    "empty": response(b""),
    "no content": b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
    "not modified": b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\n\r\n',
    "redirect": response(b"", b"Location: http://169.254.169.254/", status=b"302 Found"),
    "client error": response(b'{"error":1}', b"Retry-After: 7", status=b"429 Too Many Requests"),
    "server error": response(b"oops", status=b"500 Internal Server Error"),
    "overloaded": response(b"{}", status=b"529 Site is overloaded"),
    "duplicate headers": response(b"x", b"Set-Cookie: a=1", b"X-B: 2", b"Set-Cookie: b=2", b"X-B: 1"),
    "latin-1 header": response(b"x", b"X-Name: caf\xe9"),
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    + chunk(b"ab")
    + chunk(b"c")
    + LAST_CHUNK,
    "until closed": b"HTTP/1.1 200 OK\r\nX-A: 1\r\n\r\nas long as it lasts",
    "gzip": response(gzip.compress(b"hello", mtime=0), b"Content-Encoding: gzip"),
    "not the gzip it says": response(b"\x1f\x8b broken \x00\xff", b"Content-Encoding: gzip"),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_comes_as_the_backend_gave_it(name: str, tmp_path: Path, store: str) -> None:
    def script() -> Script:
        async def answer_and_close(peer: Peer) -> None:
            await peer.read_request()
            await peer.send(ANSWERS[name])
            if name == "until closed":
                peer.close()

        return answer_and_close

    expected, found, _, _ = await both(script, post(OPENAI, chat_bytes(), *ANA_LINES), tmp_path, store)

    assert (found.status, found.body, found.is_whole) == (expected.status, expected.body, True)
    assert end_to_end(found) == end_to_end(expected)
    assert found.pieces == expected.pieces or name == "until closed"


REQUESTS = {
    "GET": b"GET /v1/models HTTP/1.1\r\nHost: chat\r\nX-B: 2\r\nAccept: a\r\nX-B: 1\r\n\r\n",
    "DELETE": b"DELETE /v1/files/f HTTP/1.1\r\nHost: chat\r\n\r\n",
    "OPTIONS": b"OPTIONS /v1/chat HTTP/1.1\r\nHost: chat\r\nOrigin: http://x\r\n\r\n",
    "PUT": b"PUT /x HTTP/1.1\r\nHost: chat\r\nContent-Length: 3\r\n\r\nabc",
    "PATCH": b"PATCH /x HTTP/1.1\r\nHost: chat\r\nContent-Length: 3\r\n\r\nabc",
    "an unusual method": b"PROPFIND /x HTTP/1.1\r\nHost: chat\r\nContent-Length: 0\r\n\r\n",
    "a query": b"GET /x?a=1&b=%20%2F&a=2 HTTP/1.1\r\nHost: chat\r\n\r\n",
    "an empty query": b"GET /x? HTTP/1.1\r\nHost: chat\r\n\r\n",
    "a query of question marks": b"GET /x??a=?&b=http://y HTTP/1.1\r\nHost: chat\r\n\r\n",
    "an encoded slash": b"GET /a%2Fb%20c/d HTTP/1.1\r\nHost: chat\r\n\r\n",
    "doubled slashes": b"GET /a//b/ HTTP/1.1\r\nHost: chat\r\n\r\n",
    "a gzipped body": post(OPENAI, gzip.compress(chat_bytes(), mtime=0), b"Content-Encoding: gzip"),
    "chunks": b"POST /v1/messages HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n"
    + chunk(b'{"model":"m",') + chunk(b'"messages":[]}') + LAST_CHUNK,
    "credentials": post(OPENAI, chat_bytes(), b"Authorization: Bearer k", b"x-api-key: k2", b"Cookie: c=1"),
    "a tightening signal": post(OPENAI, chat_bytes(), b"Sec-GPC: 1", b"Content-Usage: train-ai=n"),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_reaches_the_backend_as_it_was_sent(name: str, tmp_path: Path, store: str) -> None:
    expected, found, seen_directly, seen = await both(
        lambda: answering(ok(b"done")), REQUESTS[name], tmp_path, store
    )

    first, headers, body = without_host(seen)
    first_directly, headers_directly, body_directly = without_host(seen_directly)
    assert first == first_directly
    assert sorted(headers) == sorted(headers_directly)
    assert [h for h in headers if h.startswith(b"x-b")] == [
        h for h in headers_directly if h.startswith(b"x-b")
    ]
    if name == "chunks":
        assert b'{"model":"m",' in body
        assert body.endswith(LAST_CHUNK)
    else:
        assert body == body_directly
    assert found.body == expected.body


async def test_a_head_request_gets_the_headers_and_no_body(tmp_path: Path, store: str) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nX-A: 1\r\n\r\n"
    request = b"HEAD /v1/models HTTP/1.1\r\nHost: chat\r\n\r\n"
    expected, found, _, seen = await both(lambda: answering(head), request, tmp_path, store)

    assert seen.startswith(b"HEAD /v1/models HTTP/1.1\r\n")
    assert end_to_end(found) == end_to_end(expected)
    assert found.header(b"content-length") == b"1234"


async def test_a_connection_serves_one_request_after_another(tmp_path: Path, store: str) -> None:
    async def script(peer: Peer) -> None:
        while True:
            head = await peer.read_head()
            method, path, _ = head.split(b" ", 2)
            await peer.send(ok(path)[: None if method == b"GET" else -len(path)])

    async with (
        a_world(script, tmp_path, store) as world,
        raw_client(world.running.url) as client,
    ):
        found = []
        for method, path in ((b"GET", b"/1"), (b"HEAD", b"/22"), (b"GET", b"/333")):
            await client.send(b"%b %b HTTP/1.1\r\nHost: chat\r\n\r\n" % (method, path))
            found.append((await client.answer(has_body=method != b"HEAD")).body)
    assert found == [b"/1", b"", b"/333"]


@pytest.mark.parametrize("is_captured", [True, False])
async def test_each_chunk_is_passed_on_before_the_next_one_exists(
    is_captured: bool, tmp_path: Path, store: str
) -> None:
    received = asyncio.Queue[bytes]()
    events = openai_events("one", " two", " three")

    async def script(peer: Peer) -> None:
        await peer.read_request()
        await peer.send(STREAM_HEAD)
        for event in events:
            await peer.send(chunk(event))
            assert await received.get() == event
        await peer.send(LAST_CHUNK)

    path = OPENAI if is_captured else "/v1/elsewhere"
    async with (
        asyncio.timeout(PATIENCE),
        a_world(script, tmp_path, store) as world,
        raw_client(world.running.url) as client,
    ):
        await client.send(post(path, chat_bytes(stream=True), *ANA_LINES))
        await client.head()
        pieces = []
        while piece := await client.chunk():
            pieces.append(piece)
            received.put_nowait(piece)
        assert pieces == events
        assert len(await world.kept()) == is_captured


async def test_each_piece_of_an_upload_is_passed_on_before_the_next_one_exists(
    tmp_path: Path, store: str
) -> None:
    received = asyncio.Queue[bytes]()

    async def script(peer: Peer) -> None:
        await peer.read_head()
        for _ in range(3):
            size = int(await peer.reader.readuntil(b"\r\n"), 16)
            received.put_nowait((await peer.read(size + 2))[:-2])
        assert await peer.read(5) == LAST_CHUNK
        await peer.send(ok(b"done"))

    head = b"POST /v1/x HTTP/1.1\r\nHost: chat\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with (
        asyncio.timeout(PATIENCE),
        a_world(script, tmp_path, store) as world,
        raw_client(world.running.url) as client,
    ):
        await client.send(head)
        for piece in (b"a", b"bb", b"ccc"):
            await client.send(chunk(piece))
            assert await received.get() == piece
        await client.send(LAST_CHUNK)
        assert (await client.answer()).body == b"done"


async def test_32_mebibytes_pass_both_ways(tmp_path: Path, store: str) -> None:
    body = os.urandom(1 << 20) * 32
    async with a_world(answering(response(body)), tmp_path, store, capture_limit="1MiB") as world:
        found = await exchange(world.running.url, post(OPENAI, body, *ANA_LINES))
        peer = await world.backend.connection(0)
        assert found.body == body
        assert peer.received.endswith(body)
        [row] = await world.kept()
        assert (row["parsed"], row["eligible"]["capability"]) == (False, False)


async def test_informational_answers_and_trailers_end_at_the_proxy(tmp_path: Path, store: str) -> None:
    answer = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunk(b"a") + b"0\r\nX-Sum: 1\r\n\r\n"
    )  # fmt: skip
    async with a_world(answering(answer), tmp_path, store) as world:
        found = await exchange(world.running.url, b"GET /x HTTP/1.1\r\nHost: chat\r\n\r\n")
    assert (found.status, found.body, found.is_whole) == (200, b"a", True)
    assert not {b"link", b"trailer", b"x-sum"} & {name for name, _ in found.headers}


async def test_expect_continue_is_answered_by_the_proxy(tmp_path: Path, store: str) -> None:
    body = chat_bytes()
    async with (
        a_world(answering(ok(b"done")), tmp_path, store) as world,
        raw_client(world.running.url) as client,
    ):
        request = post(OPENAI, body, b"Expect: 100-continue")
        await client.send(request[: -len(body)])
        assert (await client.head()).status == 100
        await client.send(body)
        assert (await client.answer()).body == b"done"
        assert b"expect" not in bytes(world.backend.connections[0].received).lower()


async def test_a_refusal_before_the_upload_ends_is_passed_on(tmp_path: Path, store: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.send(response(b"too large", b"Connection: close", status=b"413 Content Too Large"))
        peer.close()

    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: chat\r\nContent-Length: 60000000\r\n\r\n"
    async with (
        asyncio.timeout(PATIENCE),
        a_world(script, tmp_path, store) as world,
        raw_client(world.running.url) as client,
    ):
        await client.send(head + b"x" * 1000)
        found = await client.answer()
        assert (found.status, found.body) == (413, b"too large")
        [row] = await world.kept()
        assert (row["end"], row["parsed"]) == ("error", False)


async def test_the_base_path_of_the_upstream_is_put_before(tmp_path: Path, store: str) -> None:
    async with backend(answering(ok(b"x"))) as behind:
        async with a_world(answering(), tmp_path, store, upstream=behind.url + "/api/") as world:
            await exchange(world.running.url, b"GET /v1/models?x HTTP/1.1\r\nHost: chat\r\n\r\n")
        assert behind.connections[0].received.startswith(b"GET /api/v1/models?x HTTP/1.1\r\n")


async def test_paths_of_chatproxy_never_reach_the_upstream(tmp_path: Path, store: str) -> None:
    async with a_world(answering(), tmp_path, store) as world:
        for path in ("/_chatproxy/", "/_chatproxy", "/_chatproxy/x", "/%5Fchatproxy/x"):
            assert (await world.client.get(path)).status_code in {401, 404}
            assert (await world.client.post(path)).status_code in {401, 403, 404, 405}
        assert world.backend.connections == []


async def test_what_looks_like_chat_but_is_not_captured_is_counted(tmp_path: Path, store: str) -> None:
    async with a_world(answering(ok(b"{}"), ok(b"{}")), tmp_path, store) as world:
        await world.client.post("/v1/messages/batches", json={})
        await world.client.get("/v1/models")
        assert world.counted("chatproxy_uncaptured_chats_total") == 1
        assert await world.kept() == []


BAD_TARGETS = {
    "a URL": b"http://127.0.0.1:6379/",
    "another host": b"//evil/x",
    "dots": b"/v1/../admin",
    "encoded dots": b"/v1/%2e%2e/admin",
    "encoded line end": b"/v1/%0d%0aX",
    "backslash": b"/v1\\x",
}


@pytest.mark.parametrize("target", BAD_TARGETS.values(), ids=BAD_TARGETS)
async def test_a_target_that_two_readers_read_differently_is_refused(
    target: bytes, tmp_path: Path, store: str
) -> None:
    async with a_world(answering(), tmp_path, store) as world:
        found = await exchange(world.running.url, b"GET %b HTTP/1.1\r\nHost: chat\r\n\r\n" % target)
        assert found.status == 400
        assert world.backend.connections == []


AMBIGUOUS = {
    "length and chunks": b"Content-Length: 3\r\nTransfer-Encoding: chunked",
    "two lengths": b"Content-Length: 3\r\nContent-Length: 4",
    "an unknown coding": b"Transfer-Encoding: xchunked",
    "two credentials": b"Content-Length: 0\r\nAuthorization: a\r\nAuthorization: b",
    "a header taken away": b"Content-Length: 0\r\nConnection: close, authorization\r\nAuthorization: a",
}


@pytest.mark.parametrize("headers", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_a_request_that_two_readers_read_differently_is_refused_and_the_connection_closed(
    headers: bytes, tmp_path: Path, store: str
) -> None:
    request = b"POST /v1/chat/completions HTTP/1.1\r\nHost: chat\r\n%b\r\n\r\n0\r\n\r\n" % headers
    async with (
        asyncio.timeout(PATIENCE),
        a_world(answering(), tmp_path, store) as world,
        raw_client(world.running.url) as client,
    ):
        await client.send(request)
        found = await client.answer()
        assert found.status == 400
        assert found.header(b"connection") == b"close"
        assert await client.reader.read() == b""
        assert world.backend.connections == []
        assert world.counted("chatproxy_turns_seen_total") == 0
