"""What is one item of a dataset? One answer of one turn, as messages that a chat template takes, without the person.

1. An item has the input that was new in its turn, and one of the answers: a turn with several answers is as many items.
   ``after`` names the item before in the conversation, which need not be in the dataset.
2. Left out is what nobody may learn from or nothing can be taken out of: what a connector brought, history that was sent
   again without being known, media, and blocks of unknown types. ``left_out`` says what, so that a prompt about a picture is not
   taken for one without.
3. Every text goes through redaction: what was said, reasoning, names and arguments of tools, results, the name of the
   model.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from chatproxy.datasets.redaction import Redactor
from chatproxy.model import Message, Origin, Part, PartKind, Transcript

_LEFT_OUT_ORIGINS = {Origin.CONNECTOR_RAW: "connector", Origin.RAW: "raw", Origin.HISTORY: "history"}
_LEFT_OUT_KINDS = {
    PartKind.MEDIA: "media",
    PartKind.OTHER: "other",
    PartKind.RAW_REQUEST: "raw",
    PartKind.RAW_REPLY: "raw",
}


class Function(msgspec.Struct, frozen=True):
    """What a tool call calls. ``arguments`` is JSON as text."""

    name: str
    arguments: str

    def __repr__(self) -> str:
        return f"Function({self.name}, {len(self.arguments)} characters)"


class ToolCall(msgspec.Struct, frozen=True):
    """A call of a tool, as chat templates have it."""

    id: str
    type: str
    function: Function


class ChatMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One message, as chat templates have it. Every member is always there, so that each file has one schema."""

    role: str
    content: str
    reasoning_content: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    def __repr__(self) -> str:
        return f"ChatMessage({self.role}, {len(self.content)} characters)"


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One item."""

    id: str
    person: str
    conversation: str
    after: str | None
    choice: int
    day: int
    """When it was said, to the day (UTC): 20261123. A number, since readers of JSON take dates for instants."""
    surface: str
    model: str | None
    end: str
    """How the answer ended; ``complete``, or it was cut."""
    messages: list[ChatMessage]
    left_out: list[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of a turn with what it answers, redacted."""

    choice: int
    model: str | None
    messages: list[ChatMessage]
    left_out: list[str]
    redacted: Counter[str]


def answers(transcript: Transcript, redactor: Redactor) -> list[Answer]:
    """Return each answer of *transcript* that says something to something; none: there is nothing to learn from."""
    counts: Counter[str] = Counter()
    left_out: set[str] = set()
    asked = [each for message in transcript.input for each in _messages(message, redactor, counts, left_out)]
    if not any(message.content or message.tool_calls for message in asked):
        return []
    model = redactor.text(transcript.model, counts) if transcript.model is not None else None
    found = []
    for choice in sorted({message.choice or 0 for message in transcript.output}):
        own, also = Counter(counts), set(left_out)
        said = [
            each
            for message in transcript.output
            if (message.choice or 0) == choice
            for each in _messages(message, redactor, own, also)
        ]
        if any(message.content or message.tool_calls for message in said):
            found.append(Answer(choice, model, asked + said, sorted(also), own))
    return found


def choices(transcript: Transcript) -> Iterable[int]:
    """Return the numbers of the answers of a turn."""
    return sorted({message.choice or 0 for message in transcript.output})


def _messages(
    message: Message, redactor: Redactor, counts: Counter[str], left_out: set[str]
) -> Iterator[ChatMessage]:
    """Yield what one message is to a chat template: results of tools are messages of their own there."""
    parts: list[Part] = []
    for part in message.parts:
        why = _LEFT_OUT_ORIGINS.get(part.origin) or _LEFT_OUT_KINDS.get(part.kind)
        if why is not None:
            left_out.add(why)
        elif part.kind is PartKind.TOOL_RESULT:
            yield from _spoken(message.role, parts, redactor, counts)
            parts = []
            yield ChatMessage(
                role="tool",
                content=_result(part, redactor, counts),
                tool_call_id=redactor.text(str(part.body.get("id") or ""), counts),
            )
        else:
            parts.append(part)
    yield from _spoken(message.role, parts, redactor, counts)


def _spoken(role: str, parts: list[Part], redactor: Redactor, counts: Counter[str]) -> Iterator[ChatMessage]:
    if not parts:
        return
    said = [_text(part) for part in parts if part.kind in {PartKind.TEXT, PartKind.REFUSAL}]
    thought = [_text(part) for part in parts if part.kind is PartKind.REASONING]
    calls = [
        ToolCall(
            redactor.text(str(part.body.get("id") or ""), counts),
            "function",
            Function(
                redactor.text(str(part.body.get("name") or ""), counts),
                redactor.json_text(str(part.body.get("arguments") or ""), counts),
            ),
        )
        for part in parts
        if part.kind is PartKind.TOOL_CALL
    ]
    yield ChatMessage(
        role=redactor.text(role, counts),
        content=redactor.text("\n".join(said), counts),
        reasoning_content=redactor.text("\n".join(thought), counts) if any(thought) else None,
        tool_calls=calls or None,
    )


def _text(part: Part) -> str:
    return str(part.body.get("text") or "")


def _result(part: Part, redactor: Redactor, counts: Counter[str]) -> str:
    found: Any = part.body.get("text")
    if found is None:
        found = part.body.get("content")
    if isinstance(found, str):
        return redactor.json_text(found, counts)
    return "" if found is None else json.dumps(redactor.value(found, counts), ensure_ascii=False)
