"""Whatever is exchanged in a dialect becomes a turn that can be matched, sealed and read again.

Of an input, the first byte says whether the rest is request or reply, the second of what type the reply says it is,
and the third its status.
"""

from chatproxy.capture import understand
from chatproxy.codec import Encoder, decode_groups
from chatproxy.history import Path
from chatproxy.model import Caller, Exchange, Origin, StreamEnd, TurnId
from chatproxy.wire import DIALECTS, Dialects
from chatproxy.wire.base import BlockOrigin, OriginRules
from chatproxy.wire.json_chat import JSONChat
from chatproxy.wire.json_chat_description import read_descriptions
from fuzz.target import Target
from unit.wire.bodies import VECTORS

LIMIT = 1 << 20
TYPES = ("application/json", "text/event-stream", "application/x-ndjson", "")
STATUSES = (200, 200, 200, 429)
RULES = OriginRules(("mcp__*", "[a-f]*"), (BlockOrigin("*file*", Origin.CONNECTOR_RAW),))
REQUEST = b'{"model": "m", "messages": [{"role": "user"}], "input": "hi", "contents": []}'
"""A first request, whichever the dialect."""
(BOT,) = read_descriptions(
    """
    [bot]
    path = "/talk"
    request_text = "input"
    history = "messages[*]"
    reply_text = "message.content"
    stream_text = "choices[*].delta.content"
    stream_end = "done=true"
    request_conversation = "model"
    reply_conversation = "id"
    """
)
SPOKEN = Dialects([*DIALECTS, JSONChat(BOT)])
_FAMILIES = {
    "openai_chat": "openai",
    "openai_responses": "responses",
    "anthropic_messages": "anthropic",
    "gemini": "gemini",
    "ollama": "ollama",
    "json:bot": "*",
}
_HEAD = 3


def read(dialect: str, data: bytes) -> None:
    """Read *data* as a request or a reply of *dialect*."""
    if len(data) < _HEAD:
        return
    is_request, kind, status, body = data[0] & 1, data[1], data[2], data[_HEAD:]
    understood = understand(
        Exchange(
            turn=TurnId(bytes(16)),
            received_at=0,
            caller=Caller(),
            dialect=dialect,
            request=[body if is_request else REQUEST],
            status=0 if is_request else STATUSES[status % len(STATUSES)],
            content_type=TYPES[kind % len(TYPES)],
            reply=[b"" if is_request else body],
            end=StreamEnd.COMPLETE,
        ),
        SPOKEN,
        RULES,
        LIMIT,
        media_room=LIMIT,
    )
    transcript = understood.transcript
    assert decode_groups([Encoder().encode_group(transcript, set(Origin))]) == transcript
    path = Path([*understood.history, *transcript.input])
    assert all(len(head) == 32 for head in path.heads(transcript.output, bytes))
    assert all(position.length > 0 for position in path.positions(bytes, by_question=True))


def _target(dialect: str, family: str) -> Target:
    seeds = [
        bytes(
            [
                b"_request" in path.name.encode(),
                1 if path.suffix == ".sse" else 2 * (path.suffix == ".ndjson"),
                0,
            ]
        )
        + path.read_bytes()
        for path in sorted(VECTORS.glob(f"{family}_*"))
    ]
    return Target(lambda data: read(dialect, data), tuple(seeds), head=_HEAD)


TARGETS = {name.replace(":", "_"): _target(name, family) for name, family in _FAMILIES.items()}
