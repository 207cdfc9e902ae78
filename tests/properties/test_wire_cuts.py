"""Recorded streams cut, split and compressed at every place (P6, P7): never an exception, always what had come."""

import gzip
from functools import cache

import pytest

from chatproxy.capture import Understood, understand
from chatproxy.model import Caller, Exchange, StreamEnd, TurnId
from chatproxy.wire.base import ChatReply
from unit.wire.bodies import RULES, SPOKEN, VECTORS, recorded

STREAMS = sorted(path.name for path in VECTORS.glob("*.sse"))
DIALECTS = {
    "openai": "openai_chat",
    "responses": "openai_responses",
    "anthropic": "anthropic_messages",
    "gemini": "gemini",
}
REQUEST = b'{"messages": [{"role": "user"}], "input": "hi", "contents": [{"role": "user"}]}'
"""A first request, whichever the dialect."""


def dialect_of(name: str) -> str:
    return DIALECTS[name.split("_", maxsplit=1)[0]]


@cache
def read(name: str, length: int | None = None) -> ChatReply:
    dialect = SPOKEN.named(dialect_of(name))
    assert dialect is not None
    return dialect.read_reply(200, "text/event-stream", recorded(name)[:length], RULES)


def texts(reply: ChatReply) -> dict[tuple[object, ...], str]:
    """Return what each choice said of each kind, and each call's arguments, in one piece.

    A call that has begun has no pieces yet, and then its arguments are {}.
    """
    said: dict[tuple[object, ...], str] = {}
    for message in reply.output:
        for part in message.parts:
            key = (message.choice, part.kind, part.body.get("id"))
            said[key] = (
                said.get(key, "")
                + part.body.get("text", "")
                + part.body.get("arguments", "").removesuffix("{}")
            )
    return said


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_anywhere_gives_a_beginning_of_what_it_says(name: str) -> None:
    whole = texts(read(name))

    for length in range(len(recorded(name)) + 1):
        reply = read(name, length)
        assert reply.streamed or not length
        for key, text in texts(reply).items():
            assert whole[key].startswith(text)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_says_no_less_the_longer_it_is(name: str) -> None:
    size = 0
    for length in range(len(recorded(name)) + 1):
        now = sum(map(len, texts(read(name, length)).values()))
        assert now >= size
        size = now


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_not_finished_before_its_end(name: str) -> None:
    body = recorded(name)
    finished = [length for length in range(len(body) + 1) if read(name, length).finished]

    assert finished == list(range(len(body) + 1 - len(finished), len(body) + 1))
    assert bool(finished) is ("error" not in name)


def exchanged(name: str, *, encoding: str, reply: list[bytes]) -> Understood:
    exchange = Exchange(
        turn=TurnId(bytes(16)),
        received_at=0,
        caller=Caller(),
        dialect=dialect_of(name),
        request=[REQUEST],
        status=200,
        content_type="text/event-stream",
        content_encoding=encoding,
        reply=reply,
        end=StreamEnd.COMPLETE,
    )
    return understand(exchange, SPOKEN, RULES, 1 << 20)


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_how_a_reply_was_cut_into_chunks_does_not_matter(name: str, encoding: str) -> None:
    body = gzip.compress(recorded(name)) if encoding else recorded(name)
    whole = exchanged(name, encoding=encoding, reply=[body])

    assert whole.transcript.parsed
    assert exchanged(name, encoding=encoding, reply=[bytes([byte]) for byte in body]) == whole
    for at in range(1, len(body)):
        assert exchanged(name, encoding=encoding, reply=[body[:at], body[at:]]) == whole


@pytest.mark.parametrize("name", STREAMS)
def test_a_compressed_stream_cut_anywhere_is_read_as_far_as_it_came(name: str) -> None:
    body = gzip.compress(recorded(name))
    whole = texts(read(name))

    for length in range(len(body)):
        understood = exchanged(name, encoding="gzip", reply=[body[:length]])
        assert understood.transcript.parsed
        for key, text in texts(ChatReply(understood.transcript.output)).items():
            assert whole[key].startswith(text)


@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
@pytest.mark.parametrize("name", STREAMS)
def test_the_kind_of_line_end_does_not_matter(name: str, end: bytes) -> None:
    dialect = SPOKEN.named(dialect_of(name))
    assert dialect is not None
    body = recorded(name).replace(b"\n", end)

    assert dialect.read_reply(200, "text/event-stream", body, RULES) == read(name)
