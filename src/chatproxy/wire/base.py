"""The interface of a dialect: bytes of one chatbot protocol in, messages out. No I/O.

A dialect reads whole bodies that were copied while they streamed past, so how they were cut into chunks cannot
matter. It never sees, and so never alters, what is forwarded. To add one: one file here, one line in
``chatproxy.wire.DIALECTS``.

Only messages are read. Definitions of tools, sampling parameters, metadata and user ids of a request, and ids, log
probabilities and timestamps of a reply, are not part of the conversation: they are neither kept nor looked at.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chatproxy.model import Message, Origin
from chatproxy.unshown import Unshown

ANSWER_ROLE = "assistant"
"""The role of every answer, whatever the dialect calls it."""
INSTRUCTION_ROLES = frozenset({"system", "developer"})


class ChatRequest(Unshown, frozen=True):
    """A request body as read: every message in the order sent, instructions first.

    ``new_from`` is the index of the first message after the last answer in the history (R13): what lies before
    was sent earlier. Instructions (role ``system`` or ``developer``) before it are history too, unless there is
    none. A trailing assistant message is a prefill: part of the new input, continued by the reply.
    """

    messages: tuple[Message, ...]
    new_from: int
    model: str | None = None
    conversation: str | None = None
    """The dialect's own conversation id, where it has one."""
    continues: str | None = None
    """What names the answer that this request continues, where the backend remembers it and the client refers to
    it instead of sending it again: one of the ``reply_ids`` of that answer."""


class ChatReply(Unshown, frozen=True):
    """A reply body as read. ``output`` has one message per choice that said anything, in order of choice.

    ``finish``: the finish reasons that were seen, in order of choice, and the code of the error if there was one.
    ``streamed``: the reply was a stream of events. ``finished``: the dialect's own end was seen (finish reason of
    every choice, ``message_stop`` …); a reply that is no stream is finished by being whole.
    ``failed``: the reply is an error, or an error event ended the stream; ``output`` is what came before it.
    """

    output: tuple[Message, ...]
    model: str | None = None
    usage: dict[str, int] = {}  # noqa: RUF012 - a Struct copies it
    finish: tuple[str, ...] = ()
    streamed: bool = False
    finished: bool = False
    failed: bool = False
    conversation: str | None = None
    """The dialect's own conversation id, where the backend gives it."""
    reply_ids: tuple[str, ...] = ()
    """The names by which a later request can refer to this answer, where the backend remembers it."""


@dataclass(frozen=True, slots=True)
class BlockOrigin:
    """A rule: what blocks of a type hold has this origin."""

    types: str
    """Of content blocks and items, as a shell pattern."""
    origin: Origin

    def __str__(self) -> str:
        return f"{self.types}={self.origin}"


@dataclass(frozen=True, slots=True)
class OriginRules:
    """What settings say of whose words are these. Patterns are shell patterns; case matters."""

    connector_tools: tuple[str, ...] = ("mcp__*",)
    """Names of tools whose results are a connector's raw data (R25)."""
    block_origins: tuple[BlockOrigin, ...] = (BlockOrigin("file_search_call", Origin.CONNECTOR_RAW),)
    """Of several that match, one that says raw data of a connector counts, else the first."""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that chatproxy itself answers with, before a dialect dresses it."""

    status: int
    code: str
    message: str
    request_id: str


class Dialect(Protocol):
    """One chatbot protocol."""

    name: str
    """As in the contract: ``openai_chat``, ``anthropic_messages`` …"""

    def claims(self, method: str, path: str) -> bool:
        """Whether a request with this method and undecoded path (no query) is a chat of this dialect."""

    def read_request(self, body: bytes, rules: OriginRules) -> ChatRequest:
        """Read a decoded request body. Raises UnreadableError."""

    def read_reply(self, status: int, content_type: str, body: bytes, rules: OriginRules) -> ChatReply:
        """Read a decoded reply body, whole or cut short anywhere. Raises UnreadableError.

        A stream that was cut gives what had arrived, with ``finished`` false; so does an empty body. An error
        status says all there is to say, so its body is never unreadable.
        """

    def render_failure(self, failure: Failure) -> bytes:
        """Return the JSON body in which clients of this dialect expect an error."""


def first_new(messages: Sequence[Message]) -> int:
    """Return the index of the first message that answers an answer: ``new_from`` (R13).

    0 if no answer is followed by anything. Answers at the very end are taken for a prefill here; that such a one was
    stored as an answer, only the matching of history can tell (``chatproxy.history``).
    """
    end = len(messages)
    while end and messages[end - 1].role == ANSWER_ROLE:
        end -= 1
    while end and messages[end - 1].role != ANSWER_ROLE:
        end -= 1
    return end
