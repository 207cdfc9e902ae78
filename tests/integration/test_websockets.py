"""WebSocket clients and servers as they are, through the proxy; chats over them as they are kept."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK, InvalidStatus
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.http11 import Request, Response

from chatproxy.capture import understand
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.wire import Dialects
from chatproxy.wire.base import OriginRules
from chatproxy.wire.json_chat import JSONChat
from chatproxy.wire.json_chat_description import JSONChatDescription
from chatproxy.wire.json_path import JSONPath
from chatproxy.wiring import running_proxy
from chatproxy.workflows.transcripts import KeptTurn
from integration.proxy_fixtures import a_proxy
from integration.websocket_fixtures import PATIENCE, ToyChat, a_gate, said

Handler = Callable[[ServerConnection], Awaitable[None]]


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def toy(connection: ServerConnection) -> None:
    async for message in connection:
        if "say" in str(message):
            await connection.send('{"answer": "one "}')
            await connection.send('{"answer": "two"}')
            await connection.send('{"done": true}')


@asynccontextmanager
async def behind(handler: Handler, **options: object) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0, **options) as found:  # type: ignore[arg-type]
        yield url_of(found)


def url_of(found: Server) -> str:
    return f"ws://127.0.0.1:{next(iter(found.sockets)).getsockname()[1]}"


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_messages_of_any_kind_and_size_come_back_as_they_were(compression: str | None) -> None:
    sent: list[str | bytes] = [
        "",
        "é" * 1000,
        b"",
        os.urandom(70_000),
        "x" * 3_000_000,
        os.urandom(3_000_000),
    ]
    async with (
        behind(echo, max_size=None, compression=compression) as url,
        a_gate(url) as gate,
        connect(gate.socket_url, proxy=None, max_size=None, compression=compression) as client,
    ):
        assert bool(client.protocol.extensions) is (compression is not None)
        for message in sent:
            await client.send(message)
            assert await client.recv() == message
        await client.send(["frag", "ment", "ed"])
        assert await client.recv() == "fragmented"
        async with asyncio.timeout(PATIENCE):
            await (await client.ping())
            await (await client.ping(b"with data"))


async def test_a_hundred_connections_at_once_do_not_mix() -> None:
    async with behind(echo) as url, a_gate(url, ToyChat()) as gate:

        async def one(number: int) -> None:
            async with connect(gate.socket_url, proxy=None) as client:
                for turn in range(5):
                    await client.send(f'{{"say": "{number} {turn}"}}')
                    assert await client.recv() == f'{{"say": "{number} {turn}"}}'

        await asyncio.gather(*(one(number) for number in range(100)))
        turns = await gate.turns.ended(500)
        by_conversation: dict[str | None, list[str]] = {}
        for turn in turns:
            by_conversation.setdefault(turn.caller.conversation, []).append(said(turn)[0].decode())
        assert sorted(map(tuple, by_conversation.values())) == sorted(
            tuple(f'{{"say": "{number} {turn}"}}' for turn in range(5)) for number in range(100)
        )


async def test_subprotocol_and_headers_pass() -> None:
    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        await connection.send(str(connection.request.headers.get("Authorization")))

    async with (
        behind(handler, subprotocols=["v2.chat"]) as url,
        a_gate(url) as gate,
        connect(
            gate.socket_url,
            proxy=None,
            subprotocols=["v1.chat", "v2.chat"],  # type: ignore[list-item]
            additional_headers={"Authorization": "Bearer x", "X-Chat-Subject": "ana"},
        ) as client,
    ):
        assert client.subprotocol == "v2.chat"
        assert await client.recv() == "Bearer x"


@pytest.mark.parametrize("side", ["client", "upstream"])
@pytest.mark.parametrize("code", [1000, 1001, 1008, 4321])
async def test_close_codes_and_reasons_pass(side: str, code: int) -> None:
    seen: asyncio.Future[tuple[int | None, str | None]] = asyncio.get_running_loop().create_future()

    async def handler(connection: ServerConnection) -> None:
        if side == "upstream":
            await connection.close(code, "because")
        await connection.wait_closed()
        seen.set_result((connection.close_code, connection.close_reason))

    async with behind(handler) as url, a_gate(url) as gate:
        async with connect(gate.socket_url, proxy=None) as client:
            if side == "client":
                await client.close(code, "because")
            else:
                with pytest.raises((ConnectionClosedOK, ConnectionClosedError)):
                    await client.recv()
            assert (client.close_code, client.close_reason) == (code, "because")
        async with asyncio.timeout(PATIENCE):
            assert await seen == (code, "because")


@pytest.mark.parametrize("status", [401, 426, 404])
async def test_an_upstream_that_refuses_is_heard(status: int) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        return Response(status, "No", Headers([("Content-Length", "7"), ("X-Why", "so")]), b"refused")

    async with behind(echo, process_request=refuse) as url, a_gate(url) as gate:
        with pytest.raises(InvalidStatus) as refused:
            await connect(gate.socket_url, proxy=None)
        found = refused.value.response
        assert (found.status_code, found.headers["X-Why"], found.body) == (status, "so", b"refused")


@pytest.mark.parametrize(
    "client_side, server_side",
    [
        ({}, {}),
        ({"server_no_context_takeover": True, "client_no_context_takeover": True}, {}),
        ({}, {"server_no_context_takeover": True}),
        ({"server_max_window_bits": 9, "client_max_window_bits": 9}, {}),
    ],
    ids=["context kept", "no context", "the server forgets", "small windows"],
)
async def test_a_described_chat_is_captured_turn_by_turn_however_it_is_compressed(
    client_side: dict[str, bool | int], server_side: dict[str, bool | int]
) -> None:
    clients = [ClientPerMessageDeflateFactory(**client_side)]  # type: ignore[arg-type]
    servers = [ServerPerMessageDeflateFactory(**server_side)]  # type: ignore[arg-type]
    async with (
        behind(toy, extensions=servers, compression=None) as url,
        a_gate(url, ToyChat()) as gate,
        connect(
            gate.socket_url,
            proxy=None,
            extensions=clients,
            compression=None,
            additional_headers={"X-Chat-Subject": "ana", "X-Chat-Conversation": "c1"},
        ) as client,
    ):
        assert client.protocol.extensions
        for number in range(3):
            await client.send('{"typing": true}')
            await client.send(f'{{"say": "hello {number}"}}')
            for _ in range(3):
                await client.recv()
        turns = await gate.turns.ended(3)

    assert [said(turn) for turn in turns] == [
        (
            f'{{"say": "hello {number}"}}'.encode(),
            b'{"answer": "one "}\n{"answer": "two"}\n{"done": true}\n',
        )
        for number in range(3)
    ]
    assert {(turn.caller.subject, turn.caller.conversation, turn.end) for turn in turns} == {
        ("ana", "c1", "complete")
    }


async def test_what_is_captured_is_read_by_the_described_dialect() -> None:
    described = JSONChat(
        JSONChatDescription(
            name="toy",
            path="/ws",
            request_text=JSONPath.parse("say"),
            reply_text=JSONPath.parse("answer"),
            stream_end="done=true",
        )
    )
    async with (
        behind(toy) as url,
        a_gate(url, ToyChat()) as gate,
        connect(gate.socket_url, proxy=None) as client,
    ):
        await client.send('{"say": "hello"}')
        [turn] = await gate.turns.ended(1)

    understood = understand(turn, Dialects([described]), OriginRules(), 1 << 20)

    assert understood.transcript.parsed
    assert [m.parts[0].body["text"] for m in understood.transcript.input] == ["hello"]
    assert [m.parts[0].body["text"] for m in understood.transcript.output] == ["one two"]
    assert understood.end == "complete"


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def test_the_whole_proxy_passes_websockets_and_counts_what_nothing_describes(
    tmp_path: Path, store: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        behind(echo) as url,
        running_proxy(a_proxy(tmp_path, upstream=url.replace("ws", "http"), store=store)) as running,
    ):
        for _ in range(2):
            async with connect(running.url.replace("http", "ws"), proxy=None) as client:
                await client.send("hello")
                assert await client.recv() == "hello"
        counted = running.metrics.registry.get_sample_value
        assert counted("chatproxy_websockets_total", {"capture": "passed"}) == 2
        assert counted("chatproxy_turns_seen_total") == 0
    warnings = [record for record in caplog.records if "no description claims" in record.getMessage()]
    assert len(warnings) == 1


async def test_a_chat_that_settings_describe_is_kept_turn_by_turn(tmp_path: Path, store: str) -> None:
    chats = tmp_path / "chats.toml"
    chats.write_text(
        '[helpdesk]\ntransport = "websocket"\npath = "/socket"\nrequest_text = "say"\n'
        'reply_text = "answer"\nstream_end = "done=true"\n'
    )
    async with behind(toy) as url:
        settings = a_proxy(tmp_path, upstream=url.replace("ws", "http"), store=store, json_chats=str(chats))
        who = {"x-chat-subject": "ana", "x-chat-plan": "pro"}
        async with running_proxy(settings) as running:
            address = running.url.replace("http", "ws") + "/socket"
            async with connect(address, proxy=None, additional_headers=who) as client:
                for word in ("hello", "again"):
                    await client.send(f'{{"say": "{word}"}}')
                    assert [await client.recv() for _ in range(3)][-1] == '{"done": true}'
            assert await running.all_kept(within=PATIENCE)
            vault = running.vault
            subject = vault.pseudonyms.subject_tag(tenant="default", subject="ana")
            turns = [turn async for turn in vault.transcripts.walk(subject=subject)]
            assert {turn.facts.dialect for turn in turns if isinstance(turn, KeptTurn)} == {"json"}
            [conversation] = {turn.facts.conversation_tag for turn in turns if isinstance(turn, KeptTurn)}
            opened = await vault.transcripts.show(subject, conversation, purpose="service")
            assert [
                [
                    part.body["text"]
                    for message in (*turn.transcript.input, *turn.transcript.output)
                    for part in message.parts
                ]
                for turn in opened
            ] == [["hello", "one two"], ["again", "one two"]]
            counted = running.metrics.registry.get_sample_value
            assert counted("chatproxy_websockets_total", {"capture": "captured"}) == 1
