"""Through the proxy and without it, the official SDKs send and get the same bytes."""

from pathlib import Path

import pytest

from e2e.clients import CLIENTS, Client, drive
from e2e.route import Route
from e2e.tap import Header, Message, tap

SDKS = [
    pytest.param(client, streamed, id=f"{client.name}, {'streamed' if streamed else 'whole'}")
    for client in CLIENTS
    if client.name in {"openai (Python)", "openai (JavaScript)", "anthropic (Python)", "@anthropic-ai/sdk"}
    for streamed in client.can_stream
]
SAYS = ["What is a lighthouse?", "Where would I find one?", "And who looks after it?"]
OF_ONE_CONNECTION = frozenset((b"host", b"connection", b"keep-alive", b"transfer-encoding", b"date"))
OF_CHATPROXY = frozenset(
    (b"x-chat-turn", b"x-training-eligible", b"x-retention-expires", b"x-decision-reason", b"x-chat-subject")
)


@pytest.mark.parametrize("client,streamed", SDKS)
async def test_the_backend_and_the_client_get_the_bytes_that_they_would_get_without_the_proxy(
    client: Client, streamed: bool, demo: Route, tmp_path: Path
) -> None:
    async with tap(demo.backend_url) as direct:
        seen_directly = await drive(client, direct.url, SAYS, home=tmp_path, streamed=streamed)
    already = len(demo.tap.requests)
    async with tap(demo.proxy.url, adding=[(b"X-Chat-Subject", b"bytes")]) as front:
        seen_through = await drive(client, front.url, SAYS, home=tmp_path, streamed=streamed)

    assert seen_through == seen_directly
    assert len(direct.requests) == len(direct.responses) == len(SAYS)
    assert same(demo.tap.requests[already:]) == same(direct.requests)
    assert same(front.responses) == same(direct.responses)


def same(messages: list[Message]) -> list[tuple[bytes, list[Header], bytes]]:
    """Return what must not differ: all but what belongs to one connection, and what chatproxy says of itself."""
    assert all(message.is_whole for message in messages)
    return [
        (
            message.start,
            [
                (name.lower(), value)
                for name, value in message.headers
                if name.lower() not in OF_ONE_CONNECTION | OF_CHATPROXY
            ],
            bytes(message.body),
        )
        for message in messages
    ]
