"""Which earlier answer does a request continue? Conversations matched by what they say (R13).

Chat clients send the whole conversation with each request and name it rarely. So each answer that was stored is known
by a *head*: a keyed hash of all that was said up to and including it. A request that continues the conversation
brings the same words again, so the head after an answer in its history is the head of the turn that made it.

1. A running SHA-256 goes over the canonical bytes of each message. A head is the keyed hash of where it stands after
   an answer; without the key it says nothing about the words. The key binds tenant and person: that is the caller's.
2. A message must hash the same as it was streamed, as it was returned whole, and as any client sends it back. So its
   canonical bytes hold: its role; its text in one piece without white space at either end (content as text equals
   content as parts, a refusal equals a text); then, in order, calls of tools by name and arguments in canonical
   JSON, results by content, media by digest, other blocks by canonical JSON. They do not hold: reasoning (clients drop
   it), ids of calls (backends begin anew, clients rename), hints for caches (clients move them).
3. Instructions are left out, so that a changed system prompt does not break a conversation in two.
4. Answers that follow each other directly are one answer: a reply to a prefill continues it, and clients send both
   back as one message.
5. Of several answers to one request (choices) each has its head, since the client goes on from whichever it likes.
   An edited or regenerated message leaves the path at the answer before it: the deepest head that is known is where a
   branch begins.
6. Where the backend remembers the conversation, the client refers to an answer by a name that the backend gave it,
   and sends nothing again. Then the head is the keyed hash of that name.
7. A trailing answer counts as a position too. When its head is known, it is no prefill but an answer that was stored,
   and nothing before it is new.
8. Clients do not always bring an answer back as it was kept: who stops it keeps the words that were shown, while more
   had passed; some let people edit it. So of a person who is known, a turn is known by its *question* too: the keyed
   hash of all that was said up to the answer, but not the answer. Where the head after an answer is not known, the
   question before it may be, and then the answer that was sent back is the client's version of the one that was kept.
   Its words are not compared. An answer at the very end is no such version: it is a prefill, or 7.
9. Of nobody, questions are no heads: two people begin alike far more often than they get the same answer.
10. Who stops an answer before its first word sends nothing back for it. So between two messages of the person that
   follow each other directly there is a place too, known by its question alone.
11. A request that is sent again says the same to the last word, prefill included. That is what its attempts have in
   common (``asked``).
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from chatproxy.model import Message, Origin, Part, PartKind
from chatproxy.unshown import Unshown

Keyed = Callable[[bytes], bytes]
"""A keyed hash under a key of its own, bound to the tenant and the data subject."""

_ANSWER = "assistant"
_PERSON = "user"
_INSTRUCTIONS = frozenset({"system", "developer"})
_START = b"chatproxy/history/v1"
_NAME_START = b"chatproxy/reply/v1"
_QUESTION = b"chatproxy/question/v1"
_ASKED = b"chatproxy/asked/v1"
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


class Position(Unshown, frozen=True):
    """A place right after an answer in what a request sent: after its first ``length`` messages."""

    length: int
    head: bytes


class _Answer(msgspec.Struct, frozen=True):
    """An answer that was followed by something."""

    length: int
    """Messages up to it."""
    question: bytes | None
    """The path before it; None where nothing had been asked."""
    digest: bytes | None
    """The path after it; None where it says nothing, or never came, so that there is only the question."""


class Path:
    """The way of one conversation through the messages of a request, walked and hashed once.

    Its beginning is walked again where somebody looks there: most often a turn follows the last answer.
    """

    def __init__(self, messages: Sequence[Message], *, notes_all: bool = False) -> None:
        """Walk *messages*: all that a request sent, history and new input. ``notes_all``: every answer is looked for."""
        self._messages = messages
        self._beginning = 0 if notes_all else _before_last_answer(messages)
        """Messages whose answers are not noted."""
        self._answers: list[_Answer] = []
        self._running = hashlib.sha256(_START)
        self._open: list[Part] = []
        """The answer that has not been followed by anything yet."""
        self._open_length = 0
        self._is_asked = False
        """Whether anything was said that could be answered."""
        said_at = 0
        """Up to where the person has spoken last, if nobody has since."""
        for length, message in enumerate(messages, 1):
            if message.role == _ANSWER:
                self._open += message.parts
                self._open_length = length
                said_at = 0
            elif message.role not in _INSTRUCTIONS:
                if self._open:
                    self._close_answer()
                if said_at > self._beginning and message.role == _PERSON:
                    self._answers.append(_Answer(said_at, self._running.digest(), None))
                said_at = length if message.role == _PERSON else 0
                self._running.update(message_bytes(message))
                self._is_asked = True

    def positions(self, keyed: Keyed, *, by_question: bool = False) -> Iterator[Position]:
        """Yield the place after each answer, the deepest first; the first whose head is known is the parent's.

        ``by_question``: each answer is looked for by what it says, then by what was asked (8).
        """
        answered = self._after_open_answer()
        if answered is not None:
            yield Position(self._open_length, keyed(answered))
        for answer in reversed(self._answers):
            if answer.digest is not None:
                yield Position(answer.length, keyed(answer.digest))
            if by_question and answer.question is not None:
                yield Position(answer.length, keyed(_QUESTION + answer.question))
        if self._beginning:
            earlier = Path(self._messages[: self._beginning], notes_all=True)
            yield from earlier.positions(keyed, by_question=by_question)

    def question(self, keyed: Keyed) -> bytes | None:
        """Return the head before the answers to this request (8); None where nothing was asked."""
        return keyed(_QUESTION + self._running.digest()) if self._is_asked else None

    def asked(self, keyed: Keyed, *context: bytes) -> bytes | None:
        """Return what all attempts at this request have in common within *context* (11); None if it asks nothing."""
        if not self._is_asked:
            return None
        said = self._after_open_answer() or self._running.digest()
        return keyed(msgspec.json.encode([_ASKED, said, *context]))

    def heads(self, answers: Sequence[Message], keyed: Keyed) -> tuple[bytes, ...]:
        """Return the head after each of *answers*, the alternative replies to this request.

        An answer that says nothing has none, and answers that say the same have one.
        """
        digests: dict[bytes, None] = {}
        for answer in answers:
            said = _canonical(answer.parts)
            if any(said):
                whole = _canonical([*self._open, *answer.parts]) if self._open else said
                digests[self._after(whole)] = None
        return tuple([keyed(digest) for digest in digests])

    def _close_answer(self) -> None:
        canonical = _canonical(self._open)
        is_noted = self._open_length > self._beginning
        question = self._running.digest() if is_noted and self._is_asked else None
        digest = None
        if any(canonical):
            self._running.update(_encode_sorted((_ANSWER, *canonical)))
            digest = self._running.digest() if is_noted else None
        if is_noted:
            self._answers.append(_Answer(self._open_length, question, digest))
        self._open = []

    def _after_open_answer(self) -> bytes | None:
        """Return the path after the answer that ends the request; None where there is none, or it says nothing."""
        if not self._open:
            return None
        canonical = _canonical(self._open)
        return self._after(canonical) if any(canonical) else None

    def _after(self, answer: tuple[str, list[Any]]) -> bytes:
        """Return the path after an answer of these canonical words."""
        running = self._running.copy()
        running.update(_encode_sorted((_ANSWER, *answer)))
        return running.digest()


def _before_last_answer(messages: Sequence[Message]) -> int:
    """Return how many messages come before the last answer that is followed by something; 0 if none is."""
    end = len(messages)
    while end and (messages[end - 1].role == _ANSWER or messages[end - 1].role in _INSTRUCTIONS):
        end -= 1
    while end and messages[end - 1].role != _ANSWER:
        end -= 1
    while end and (messages[end - 1].role == _ANSWER or messages[end - 1].role in _INSTRUCTIONS):
        end -= 1
    return end


def name_head(name: str, keyed: Keyed) -> bytes:
    """Return the head of an answer, or of a conversation, that the backend has given *name* (6)."""
    return keyed(hashlib.sha256(_NAME_START + name.encode("utf-8", "surrogatepass")).digest())


def message_bytes(message: Message) -> bytes:
    """Return the canonical bytes of *message*, the same however it travelled (2). They say themselves where they end."""
    return _encode_sorted((message.role, *_canonical(message.parts)))


def _canonical(parts: Sequence[Part]) -> tuple[str, list[Any]]:
    if len(parts) == 1 and parts[0].kind is PartKind.TEXT and "audio_id" not in parts[0].body:
        # As below; nearly all messages of a long history are one text, and each is walked with every turn.
        return parts[0].body["text"].strip(), []
    texts: list[str] = []
    rest: list[Any] = []
    for part in parts:
        body = part.body
        match part.kind:
            case PartKind.TEXT if body.get(
                "audio_id"
            ):  # clients send nothing but the id of a spoken answer back
                rest.append(["audio", body["audio_id"]])
            case PartKind.TEXT | PartKind.REFUSAL:
                texts.append(body["text"])
            case PartKind.REASONING:
                pass
            case PartKind.TOOL_CALL:
                rest.append(["call", body["name"], _canonical_json(body["arguments"])])
            case PartKind.TOOL_RESULT:
                rest.append(["result", *_canonical_result(body)])
            case PartKind.MEDIA:
                if part.origin is not Origin.ASSISTANT or not body["mime"].startswith("audio/"):
                    rest.append(["media", _digest_of(body)])
            case _:
                rest.append(["other", _bare(body)])
    return "".join(texts).strip(), rest


def _canonical_result(body: Mapping[str, Any]) -> tuple[str, object]:
    """Return the text of a tool's result and whatever else it holds."""
    content = body.get("content")
    if not isinstance(content, list):
        return body.get("text", "").strip(), _bare(content)
    texts = [item["text"] for item in content if _is_text(item)]
    others = [_bare(item) for item in content if not _is_text(item)]
    return "".join(texts).strip(), others or None


def _is_text(item: object) -> bool:
    return isinstance(item, dict) and item.get("type") == "text" and isinstance(item.get("text"), str)


def _digest_of(media: Mapping[str, Any]) -> object:
    return media.get("sha256") or media.get("url_sha256") or media.get("file_id") or _bare(media)


def _canonical_json(arguments: str) -> object:
    """Return what JSON *arguments* say, or their text if they are broken. No arguments are an empty object."""
    try:
        return _bare(msgspec.json.decode(arguments or "{}"))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return arguments.strip()


def _bare(value: object) -> object:
    """Return JSON *value* without what clients change as they pass it on: null members, and 1.0 for 1."""
    if isinstance(value, Mapping):
        return {key: _bare(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_bare(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
