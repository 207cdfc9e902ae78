"""Recorded-style bodies, and short ways to say what was read from them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from chatproxy.model import Message, Part
from chatproxy.wire import DIALECTS, Dialects
from chatproxy.wire.anthropic_messages import AnthropicMessages
from chatproxy.wire.base import ChatReply, ChatRequest, OriginRules
from chatproxy.wire.openai_chat import OpenAIChat

VECTORS = Path(__file__).parents[2] / "vectors" / "wire"
RULES = OriginRules()
SPOKEN = Dialects(DIALECTS)
OPENAI = OpenAIChat()
ANTHROPIC = AnthropicMessages()
PNG = {
    "mime": "image/png",
    "bytes": 8,
    "sha256": "4c4b6a3be1314ab86138bef4314dde022e600960d8689a2c8f8631802d20dab6",
}
"""What is kept of the first eight bytes of any PNG."""


def recorded(name: str) -> bytes:
    return (VECTORS / name).read_bytes()


def streamed(*events: Mapping[str, Any] | str) -> bytes:
    """Return an event stream of JSON events, or of texts as they are."""
    texts = (event if isinstance(event, str) else json.dumps(event) for event in events)
    return "".join(f"data: {text}\n\n" for text in texts).encode()


def chunk(delta: Mapping[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {
        "object": "chat.completion.chunk",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
    }


def openai_stream(*events: Mapping[str, Any] | str) -> ChatReply:
    return OPENAI.read_reply(200, "text/event-stream; charset=utf-8", streamed(*events), RULES)


def openai_reply(message: Mapping[str, Any]) -> ChatReply:
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()
    return OPENAI.read_reply(200, "application/json", body, RULES)


def openai_request(*messages: Mapping[str, Any] | object, rules: OriginRules = RULES) -> ChatRequest:
    return OPENAI.read_request(json.dumps({"messages": messages}).encode(), rules)


def anthropic_stream(*events: Mapping[str, Any] | str) -> ChatReply:
    return ANTHROPIC.read_reply(200, "text/event-stream", streamed(*events), RULES)


def anthropic_reply(*blocks: Mapping[str, Any] | object) -> ChatReply:
    body = json.dumps({"type": "message", "content": blocks, "stop_reason": "end_turn"}).encode()
    return ANTHROPIC.read_reply(200, "application/json", body, RULES)


def anthropic_request(
    *messages: Mapping[str, Any], rules: OriginRules = RULES, **more: object
) -> ChatRequest:
    return ANTHROPIC.read_request(json.dumps({"messages": messages, **more}).encode(), rules)


def said(parts: Sequence[Part]) -> list[tuple[str, str, dict[str, Any]]]:
    """Return parts as plain values."""
    return [(part.kind.value, part.origin.value, dict(part.body)) for part in parts]


def text_of(message: Message) -> str:
    return "".join(part.body["text"] for part in message.parts if part.kind == "text")
