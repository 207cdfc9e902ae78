"""Recorded bodies of every dialect with anything put in any place: nothing raises, and what is read can be kept."""

import json
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from chatproxy.capture import understand
from chatproxy.codec import Encoder, decode_groups
from chatproxy.history import Path
from chatproxy.model import Caller, Exchange, Origin, PartKind, StreamEnd, TurnId
from chatproxy.wire import DIALECTS, Dialects
from chatproxy.wire.base import OriginRules
from chatproxy.wire.json_chat import JSONChat
from chatproxy.wire.json_chat_description import read_descriptions
from unit.wire.bodies import RULES, VECTORS

(BOT,) = read_descriptions(
    """
    [bot]
    path = "/talk"
    request_text = "input"
    history = "messages[*]"
    reply_text = "message.content"
    stream_text = "delta"
    stream_end = "type=response.completed"
    request_conversation = "model"
    reply_conversation = "model"
    """
)
SPOKEN = Dialects([*DIALECTS, JSONChat(BOT)])
NAMES = ["openai_chat", "openai_responses", "anthropic_messages", "gemini", "ollama", "json:bot"]
TYPES = ["application/json", "text/event-stream", "application/x-ndjson", ""]
TEXTS = [
    "",
    "a",
    "été",
    "\ud83d",
    "\ude00",
    "\x00",
    "data:image/png;base64,AA==",
    "[DONE]",
    "user",
    "assistant",
]
LEAVES: list[Any] = [None, True, -1, 0, 2**70, 0.5, *TEXTS]


class Meddler:
    """Puts anything into recorded bodies. From a seed, since strategies for deep JSON are slow."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - test input
        self._values: list[Any] = []

    def request(self) -> bytes:
        return self._dumped(self._recorded("*_request.json"))

    def reply(self) -> bytes:
        shape = self._random.choice(["whole", "events", "lines", "array"])
        if shape == "whole":
            return self._dumped(self._random.choice(self._pieces()))
        pieces = [self._dumped(piece) for piece in self._pieces()]
        if shape == "array":
            return self._cut(b"[" + b",\r\n".join(pieces) + b"]")
        if shape == "lines":
            return self._cut(b"\n".join(pieces))
        return self._cut(b"".join(b"data: " + piece + b"\n\n" for piece in pieces))

    def _pieces(self) -> list[Any]:
        name = self._random.choice(sorted(VECTORS.glob("*.*")))
        body = name.read_bytes()
        if name.suffix == ".sse":
            lines = [
                line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith(b"data: {")
            ]
            return [json.loads(line) for line in lines]
        if name.suffix == ".ndjson":
            return [json.loads(line) for line in body.splitlines()]
        value = json.loads(body)
        return value if isinstance(value, list) else [value]

    def _recorded(self, pattern: str) -> Any:
        return json.loads(self._random.choice(sorted(VECTORS.glob(pattern))).read_bytes())

    def _dumped(self, value: Any) -> bytes:
        for _ in range(self._random.randrange(3)):
            value = self._meddled(value)
        return json.dumps(value).encode()

    def _meddled(self, value: Any) -> Any:
        """Return *value* with something else in one place."""
        if self._random.random() < 0.1 or not isinstance(value, dict | list) or not value:
            old = self._random.choice(self._values) if self._values and self._random.random() < 0.5 else None
            self._values = [*self._values[-20:], value]
            return self._random.choice([*LEAVES, [], {}, [value], {"text": value}, {"id": value}, old])
        if isinstance(value, list):
            at = self._random.randrange(len(value))
            return [*value[:at], self._meddled(value[at]), *value[at + 1 :]]
        key = self._random.choice(sorted(value))
        return {**value, key: self._meddled(value[key])}

    def _cut(self, body: bytes) -> bytes:
        return body[: self._random.randrange(len(body) + 1)] if self._random.random() < 0.3 else body


SEEDS = st.integers(0, 2**64)


def exchange_of(
    name: str, request: bytes, reply: bytes, *, content_type: str = "", status: int = 200
) -> Exchange:
    return Exchange(
        turn=TurnId(bytes(16)),
        received_at=0,
        caller=Caller(),
        dialect=name,
        request=[request],
        status=status,
        content_type=content_type,
        reply=[reply],
        end=StreamEnd.COMPLETE,
    )


@settings(max_examples=2000, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    request=SEEDS.map(lambda seed: Meddler(seed).request()) | st.binary(max_size=50),
    reply=SEEDS.map(lambda seed: Meddler(seed).reply()) | st.binary(max_size=50),
    content_type=st.sampled_from(TYPES),
    status=st.sampled_from([200, 200, 200, 0, 400]),
)
def test_any_exchange_becomes_a_turn(
    name: str, request: bytes, reply: bytes, content_type: str, status: int
) -> None:
    exchange = exchange_of(name, request, reply, content_type=content_type, status=status)
    understood = understand(exchange, SPOKEN, RULES, 1 << 20)
    transcript = understood.transcript

    assert decode_groups([Encoder().encode_group(transcript, set(Origin))]) == transcript
    path = Path([*understood.history, *transcript.input])
    assert all(len(head) == 32 for head in path.heads(transcript.output, bytes))
    assert all(position.length > 0 for position in path.positions(bytes))
    for named in (understood.conversation, understood.continues, *understood.reply_ids):
        assert named is None or named


@settings(max_examples=400, deadline=None)
@given(SEEDS.map(lambda seed: Meddler(seed).request()), st.sampled_from(NAMES))
def test_stricter_rules_only_ever_make_connectors_of_results(request: bytes, name: str) -> None:
    def origins(*patterns: str) -> list[tuple[PartKind, str]]:
        understood = understand(
            exchange_of(name, request, b"", status=0), SPOKEN, OriginRules(patterns), 1 << 20
        )
        messages = (*understood.history, *understood.transcript.input)
        return [(part.kind, part.origin) for message in messages for part in message.parts]

    for loose, strict in zip(origins(), origins("*"), strict=True):
        assert strict == loose or (strict[1], loose[1]) == ("connector_raw", "tool_result")
        assert strict != (PartKind.TOOL_RESULT, "tool_result")


@pytest.mark.parametrize("name", NAMES[:-1])
def test_a_recorded_request_is_understood(name: str) -> None:
    family = {"openai_chat": "openai", "openai_responses": "responses", "anthropic_messages": "anthropic"}
    request = (VECTORS / f"{family.get(name, name)}_request.json").read_bytes()

    assert understand(exchange_of(name, request, b"", status=0), SPOKEN, RULES, 1 << 20).transcript.parsed
