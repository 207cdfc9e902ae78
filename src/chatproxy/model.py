"""The nouns: who speaks, what was said, and how an exchange ended. Plain values without behaviour.

Instants are integers, milliseconds since 1970-01-01 UTC, named ``*_at`` (as stored) or ``*_ms``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NewType

import msgspec

from chatproxy.unshown import Unshown

SubjectTag = NewType("SubjectTag", bytes)
"""16 bytes, keyed pseudonym of a data subject within a tenant. The only name of a person that is stored."""
ConversationTag = NewType("ConversationTag", bytes)
"""16 bytes, keyed pseudonym of a conversation of one subject, or random where the client named none."""
TurnId = NewType("TurnId", bytes)
"""16 bytes, the same on every replay, so that keeping is idempotent: random at request start, or the pseudonym of a
request that the client has named by ``Idempotency-Key``."""


class Surface(StrEnum):
    """Where the person speaks from (rule R35)."""

    CHAT = "chat"
    CODE = "code"
    UNKNOWN = "unknown"
    """Named by a word we do not know, so no consent covers it."""


class Age(StrEnum):
    """Age assurance as the identity layer states it (rule R5)."""

    ADULT = "adult"
    MINOR = "minor"
    UNKNOWN = "unknown"


class Caller(Unshown, frozen=True):
    """Who sent a request, from trusted sources only, and the signals by which a client tightens privacy.

    ``subject`` and ``conversation`` are the company's own ids: they live in memory only and have no repr.
    """

    tenant: str = "default"
    subject: str | None = None
    plan: str | None = None
    conversation: str | None = None
    surface: Surface = Surface.CHAT
    age: Age = Age.UNKNOWN
    zdr: bool = False
    """Zero data retention is agreed with this caller's organisation: nothing is written (R4)."""
    incognito: bool = False
    train_ai_no: bool = False
    """``Content-Usage: train-ai=n`` (R18)."""
    gpc: bool = False
    """``Sec-GPC: 1`` (R18): recorded; denies disclosure to third parties."""


class Origin(StrEnum):
    """Where a part of a turn comes from; the policy decides part by part (R25, R26)."""

    TYPED = "typed"
    SYSTEM = "system"
    ASSISTANT = "assistant"
    UPLOAD = "upload"
    TOOL_RESULT = "tool_result"
    CONNECTOR_RAW = "connector_raw"
    CONNECTOR_PASTED = "connector_pasted"
    HISTORY = "history"
    """Sent again by the client without matching anything stored; kept only by setting (R13)."""
    RAW = "raw"
    """The bytes of an exchange that could not be understood."""


class PartKind(StrEnum):
    """What a part of a message is."""

    TEXT = "text"
    REASONING = "reasoning"
    REFUSAL = "refusal"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    MEDIA = "media"
    """Image, audio or file, as ``{"mime", "bytes", "sha256"}``, by setting with its content as ``base64``."""
    OTHER = "other"
    """A block of a type unknown to the dialect, kept as JSON."""
    RAW_REQUEST = "raw_request"
    RAW_REPLY = "raw_reply"


class Part(Unshown, frozen=True):
    """One piece of a message with its own origin. ``body`` is JSON-able; its keys depend on ``kind``.

    TEXT, REASONING, REFUSAL: ``text``. TOOL_CALL: ``id``, ``name``, ``arguments`` (text as sent).
    TOOL_RESULT: ``id`` and ``text`` or ``content``. RAW_*: ``base64``.
    """

    kind: PartKind
    origin: Origin
    body: Mapping[str, Any]


class Message(msgspec.Struct, frozen=True):
    """One utterance. ``choice`` numbers alternative answers to the same input, from 0."""

    role: str
    parts: tuple[Part, ...]
    choice: int | None = None


class StreamEnd(StrEnum):
    """How an exchange ended, seen from the proxy (the contract's ``end`` column)."""

    COMPLETE = "complete"
    CLIENT_ABORTED = "client_aborted"
    UPSTREAM_ABORTED = "upstream_aborted"
    INTERRUPTED = "interrupted"
    """chatproxy itself stopped while the answer was running."""
    ERROR = "error"
    """The upstream answered with an error, or an error event inside a stream."""


class Transcript(msgspec.Struct, frozen=True):
    """What one turn says: only the input that is new (R13) and every answer to it."""

    input: tuple[Message, ...]
    output: tuple[Message, ...]
    model: str | None = None
    usage: Mapping[str, int] = {}
    finish: tuple[str, ...] = ()
    parsed: bool = True


class ConversationSource(StrEnum):
    """Where a conversation gets its name from."""

    IDENTITY = "identity"
    """What names the caller names the conversation too."""
    DIALECT = "dialect"
    """The conversation id of the dialect, where it has one and the person is known."""
    HEADER = "header"
    """A header of the client's own that names the conversation, where the person is known."""
    HISTORY = "history"
    """The conversation of the turn that this one follows."""


@dataclass(slots=True)
class Exchange:
    """One captured request and its reply, as raw bytes, from acceptance until its turn is kept.

    The recorder appends while bytes stream past; nothing here is parsed yet.
    """

    turn: TurnId
    received_at: int
    caller: Caller
    dialect: str
    request_encoding: str = ""
    conversation: str | None = field(default=None, repr=False)
    """What the client names the conversation in a header of its own: the header's name, a zero byte, the value."""
    request: list[bytes] = field(default_factory=list, repr=False)
    status: int = 0
    content_type: str = ""
    content_encoding: str = ""
    reply: list[bytes] = field(default_factory=list, repr=False)
    size: int = 0
    truncated: bool = False
    """The copy hit the capture limit; the traffic did not."""
    end: StreamEnd | None = None
    named: TurnId | None = None
    """The turn that the client has named by ``Idempotency-Key``. It is ``turn`` too, unless that had been told to the
    client before the request was whole."""
    ticket: Any = field(default=None, repr=False, compare=False)
    """What the journal knows it by; nobody else's business."""
