"""Whatever bytes are exchanged: nothing raises, and what is read can be hashed, sealed and read again."""

import json
import re
from random import Random
from typing import Any

from hypothesis import example, given, settings, strategies as st

from chatproxy.capture import understand
from chatproxy.codec import Encoder, decode_groups
from chatproxy.history import Path
from chatproxy.model import Caller, Exchange, Origin, PartKind, StreamEnd, TurnId
from chatproxy.wire.base import OriginRules
from unit.wire.bodies import RULES, SPOKEN, VECTORS

RECORDED = [path.read_bytes() for path in sorted(VECTORS.iterdir())]

# Words of the protocols, so that what is drawn gets past the first check.
KEYS = re.findall(
    r"\w+",
    "messages role user assistant system tool content type text image_url url input_audio data format file file_id "
    "file_data tool_calls function name arguments custom input id index tool_call_id function_call refusal reasoning "
    "reasoning_content thinking audio transcript images model choices message delta finish_reason usage error code "
    "object tool_use tool_result mcp_tool_result tool_use_id is_error source base64 media_type document citations "
    "redacted_thinking content_block text_delta input_json_delta partial_json thinking_delta citations_delta citation "
    "stop_reason server_name",
)
EVENTS = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "ping",
]
ROLES = ["user", "assistant", "system", "tool", "function"]
TEXTS = [
    "",
    "a",
    "été",
    "data:image/png;base64,AA==",
    "data:,x",
    "\ud83d",
    "\ude00 ",
    "{}",
    '{"a": [1.0, null]}',
    "\x00",
]
NUMBERS = [-1, 0, 1, 2**63, 2**70, 0.5, 1.0, -1e300]


class Speaker:
    """Says things that nearly are chats. From a seed, since strategies for deep JSON are slow."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)  # noqa: S311 - test input

    def any_json(self, depth: int = 3) -> Any:
        match self._random.randrange(9 if depth else 5):
            case 0:
                return self._random.choice([None, True, False])
            case 1:
                return self._random.choice(NUMBERS)
            case 2 | 3:
                return self._random.choice(TEXTS)
            case 4:
                return self._random.choice(KEYS)
            case 5 | 6:
                return [self.any_json(depth - 1) for _ in range(self._random.randrange(4))]
            case _:
                return self.any_object(depth)

    def an_object(self, **fixed: Any) -> dict[str, Any]:
        return self.any_object(3) | fixed

    def any_object(self, depth: int) -> dict[str, Any]:
        keys = self._random.sample(KEYS, self._random.randrange(5))
        return {key: self.any_json(depth - 1) for key in keys}

    def a_block(self) -> dict[str, Any]:
        kind = self._random.choice(KEYS)
        inner = self._random.choice([self._random.choice(TEXTS), self.any_json()])
        return self.an_object(**{kind: inner}) | {"type": kind}

    def blocks(self) -> Any:
        return self._random.choice(
            [self.any_json(), [self.a_block() for _ in range(self._random.randrange(4))]]
        )

    def a_message(self) -> dict[str, Any]:
        calls = [self.an_object(function=self.an_object()) for _ in range(self._random.randrange(3))]
        more: dict[str, Any] = {"tool_calls": calls} if calls else {}
        return self.an_object(role=self._random.choice(ROLES), content=self.blocks(), **more)

    def a_request(self) -> dict[str, Any]:
        messages = [self.a_message() for _ in range(self._random.randrange(6))]
        return self.an_object(messages=messages, system=self.blocks())

    def an_event(self) -> dict[str, Any]:
        index = self._random.randrange(3)
        if self._random.random() < 0.5:
            choice = self.an_object(index=index, message=self.a_message(), delta=self.a_message())
            return self.an_object(choices=[choice])
        message = self.an_object()
        block = self.a_block()
        return {
            "type": self._random.choice(EVENTS),
            "index": index,
            "content_block": block,
            "message": message,
        } | ({"delta": self.a_block()} if self._random.random() < 0.9 else {"error": self.any_json()})

    def a_body(self) -> bytes:
        """Return a request, a whole reply, a stream, or a recorded body with a few bytes changed."""
        match self._random.randrange(5):
            case 0:
                return as_json(self.a_request())
            case 1:
                return as_json(self._random.choice([self.an_event(), self.an_object(content=self.blocks())]))
            case 2 | 3:
                events = [self.an_event() for _ in range(self._random.randrange(1, 5))]
                return b"".join(b"data: " + as_json(event) + b"\n\n" for event in events)
            case _:
                body = bytearray(self._random.choice(RECORDED))
                for _ in range(self._random.randrange(1, 4)):
                    at = self._random.randrange(len(body))
                    body[at : at + self._random.randrange(3)] = self._random.randbytes(
                        self._random.randrange(3)
                    )
                return bytes(body)


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


SEEDS = st.integers(0, 2**64)
BODIES = st.binary(max_size=100) | SEEDS.map(lambda seed: Speaker(seed).a_body())
REQUESTS = SEEDS.map(lambda seed: as_json(Speaker(seed).a_request()))
DIALECTS = st.sampled_from(["openai_chat", "anthropic_messages", "raw"])
ENCODINGS = st.just("") | st.sampled_from(["gzip", "deflate", "br", "zstd", "gzip, br"]) | st.text(max_size=5)
TYPES = st.sampled_from(["application/json", "text/event-stream", "text/html", ""])
STATUSES = st.sampled_from([200, 0, 204, 302, 400, 429, 500])


@settings(max_examples=1500, deadline=None)
@given(
    dialect=DIALECTS,
    request=REQUESTS | BODIES,
    reply=BODIES,
    encodings=st.just(("", "")) | st.tuples(ENCODINGS, ENCODINGS),
    status=STATUSES,
    content_type=TYPES,
    end=st.sampled_from([*StreamEnd, None]),
)
@example(
    dialect="openai_chat",
    request=b'{"messages": []}',
    reply=b'{"choices": [' + b"[" * 900,
    encodings=("", ""),
    status=200,
    content_type="application/json",
    end=None,
)
def test_any_exchange_becomes_a_turn(
    dialect: str,
    request: bytes,
    reply: bytes,
    encodings: tuple[str, str],
    status: int,
    content_type: str,
    end: StreamEnd | None,
) -> None:
    exchange = Exchange(
        turn=TurnId(bytes(16)),
        received_at=0,
        caller=Caller(),
        dialect=dialect,
        request_encoding=encodings[0],
        request=[request],
        status=status,
        content_type=content_type,
        content_encoding=encodings[1],
        reply=[reply],
        end=end,
    )
    understood = understand(exchange, SPOKEN, RULES, 1 << 20)
    transcript = understood.transcript

    assert decode_groups([Encoder().encode_group(transcript, set(Origin))]) == transcript
    path = Path([*understood.history, *transcript.input])
    assert all(len(head) == 32 for head in path.heads(transcript.output, bytes))
    assert all(position.length > 0 for position in path.positions(bytes))
    raw = [
        part
        for message in (*transcript.input, *transcript.output)
        for part in message.parts
        if part.origin == "raw"
    ]
    assert bool(raw) is not transcript.parsed


@settings(max_examples=300, deadline=None)
@given(REQUESTS, st.sampled_from(["openai_chat", "anthropic_messages"]))
def test_stricter_rules_only_ever_make_connectors_of_results(request: bytes, dialect: str) -> None:
    def origins(*patterns: str) -> list[tuple[PartKind, str]]:
        exchange = Exchange(TurnId(bytes(16)), 0, Caller(), dialect, request=[request])
        understood = understand(exchange, SPOKEN, OriginRules(patterns), 1 << 20)
        messages = (*understood.history, *understood.transcript.input)
        return [(part.kind, part.origin) for message in messages for part in message.parts]

    for loose, strict in zip(origins(), origins("*"), strict=True):
        assert strict == loose or (strict[1], loose[1]) == ("connector_raw", "tool_result")
        assert strict != (PartKind.TOOL_RESULT, "tool_result")
