"""Streams that are no events, cut at every place: never an exception, always a beginning of what they say (P6)."""

from functools import cache

import pytest

from chatproxy.capture import Understood, understand
from chatproxy.model import Caller, Exchange, StreamEnd, TurnId
from chatproxy.wire import Dialects
from chatproxy.wire.base import ChatReply
from chatproxy.wire.json_chat import JSONChat
from chatproxy.wire.json_chat_description import read_descriptions
from unit.wire.bodies import RULES, SPOKEN, VECTORS, recorded

STREAMS = sorted(path.name for suffix in ("ndjson", "array") for path in VECTORS.glob(f"*.{suffix}"))
TYPES = {"ndjson": "application/x-ndjson", "array": "application/json"}


@cache
def read(name: str, length: int | None = None) -> ChatReply:
    dialect = SPOKEN.named(name.split("_", maxsplit=1)[0])
    assert dialect is not None
    return dialect.read_reply(200, TYPES[name.rpartition(".")[2]], recorded(name)[:length], RULES)


def texts(reply: ChatReply) -> dict[tuple[object, ...], str]:
    """Return what was said of each kind, in one piece."""
    said: dict[tuple[object, ...], str] = {}
    for message in reply.output:
        for part in message.parts:
            key = (message.choice, part.kind, part.body.get("name"))
            said[key] = said.get(key, "") + part.body.get("text", "") + part.body.get("arguments", "")
    return said


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_anywhere_gives_a_beginning_of_what_it_says_and_never_less_than_before(
    name: str,
) -> None:
    whole = texts(read(name))
    size = 0
    for length in range(len(recorded(name)) + 1):
        now = texts(read(name, length))
        for key, text in now.items():
            assert whole[key].startswith(text)
        assert sum(map(len, now.values())) >= size
        size = sum(map(len, now.values()))
    assert size == sum(map(len, whole.values()))


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_is_not_finished_before_its_end(name: str) -> None:
    body = recorded(name)
    finished = [length for length in range(len(body) + 1) if read(name, length).finished]

    assert finished == list(range(len(body) + 1 - len(finished), len(body) + 1))
    assert bool(finished) is ("error" not in name)
    assert len(finished) < 10


@pytest.mark.parametrize("name", STREAMS)
def test_how_a_reply_was_cut_into_chunks_does_not_matter(name: str) -> None:
    body = recorded(name)
    for at in range(1, len(body)):
        exchange = Exchange(
            turn=TurnId(bytes(16)),
            received_at=0,
            caller=Caller(),
            dialect=name.split("_", maxsplit=1)[0],
            request=[b'{"model": "m", "prompt": "hi", "contents": []}'],
            status=200,
            content_type=TYPES[name.rpartition(".")[2]],
            reply=[body[:at], body[at:]],
            end=StreamEnd.COMPLETE,
        )
        assert understand(exchange, SPOKEN, RULES, 1 << 20).transcript.output == read(name).output


(BOT,) = read_descriptions(
    """
    [bot]
    path = "/talk"
    request_text = "say"
    reply_text = "message.content"
    stream_text = "choices[*].delta.content"
    stream_end = "[DONE]"
    """
)
(LINES,) = read_descriptions(
    """
    [lines]
    path = "/talk"
    request_text = "say"
    reply_text = "message.content"
    stream_end = "done=true"
    """
)
DESCRIBED = Dialects([JSONChat(BOT), JSONChat(LINES)])


@pytest.mark.parametrize(
    "name, dialect", [("openai_text.sse", "json:bot"), ("ollama_text.ndjson", "json:lines")]
)
def test_a_described_chat_cut_into_chunks_or_off_anywhere_says_the_same_or_its_beginning(
    name: str, dialect: str
) -> None:
    def exchanged(*chunks: bytes) -> Understood:
        exchange = Exchange(
            turn=TurnId(bytes(16)),
            received_at=0,
            caller=Caller(),
            dialect=dialect,
            request=[b'{"say": "hi"}'],
            status=200,
            content_type="text/event-stream" if name.endswith(".sse") else "application/x-ndjson",
            reply=list(chunks),
            end=StreamEnd.COMPLETE,
        )
        return understand(exchange, DESCRIBED, RULES, 1 << 20)

    body = recorded(name)
    whole = exchanged(body)
    assert (whole.end, whole.transcript.parsed) == (StreamEnd.COMPLETE, True)
    [said] = texts(ChatReply(whole.transcript.output)).values()
    for at in range(1, len(body)):
        assert exchanged(body[:at], body[at:]) == whole
        cut = exchanged(body[:at])
        if cut.transcript.parsed:
            assert said.startswith("".join(texts(ChatReply(cut.transcript.output)).values()))
    assert exchanged(*(bytes([byte]) for byte in body)) == whole
