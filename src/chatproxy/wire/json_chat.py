"""A chatbot that takes and gives JSON in a shape of its own, as settings describe it: no code for a home-grown one.

1. A reply is whole JSON, an event stream, or one JSON object a line, whichever it turns out to be.
2. What is text where text is expected is text; null says nothing; anything else there is kept as JSON (kind
   ``other``).
3. A request in which nothing is found is unreadable, so that a wrong description shows, and nothing is lost by it.
4. A stream that is not described to have an end ends when it is closed; an event that has an ``error`` ends it.
"""

import json
from collections.abc import Sequence
from typing import Any

import msgspec

from chatproxy.errors import UnreadableError
from chatproxy.model import Message, Origin, Part, PartKind
from chatproxy.wire import media
from chatproxy.wire.base import ANSWER_ROLE, ChatReply, ChatRequest, Failure, OriginRules, first_new
from chatproxy.wire.failures import error_code, failed_reply
from chatproxy.wire.json_chat_description import JSONChatDescription
from chatproxy.wire.json_lines import is_json_lines, read_json_lines
from chatproxy.wire.json_path import JSONPath
from chatproxy.wire.json_reading import JSONReader
from chatproxy.wire.origins import of_role
from chatproxy.wire.sse import is_event_stream, read_event_stream

_USER_ROLE = "user"
_ERROR_STATUS = 400
_VALUES: JSONReader[Any] = JSONReader(Any)


class JSONChat:
    """The dialect ``json:`` and the name of the description."""

    def __init__(self, description: JSONChatDescription) -> None:
        self.name = f"json:{description.name}"
        self._description = description
        self._segments = description.path.rstrip("/").split("/")
        self._stream_text = description.stream_text or description.reply_text
        sent_along = (
            (description.request_upload, Origin.UPLOAD),
            (description.request_pasted, Origin.CONNECTOR_PASTED),
            (description.request_connector, Origin.CONNECTOR_RAW),
        )
        self._sent_along = [(path, origin) for path, origin in sent_along if path is not None]
        self._end = _End(description.stream_end) if description.stream_end is not None else None
        # Over WebSocket, the interface of ``wire.frame_dialect``.
        self._is_socket = description.transport == "websocket"
        self.names_conversations = bool(description.request_conversation or description.reply_conversation)
        self.marks_ends = self._end is not None

    def claims(self, method: str, path: str) -> bool:
        """Claim the method and path of the description."""
        return not self._is_socket and method == self._description.method and self._is_at(path)

    def claims_socket(self, path: str) -> bool:
        """Claim the path of a description of a chat over WebSocket."""
        return self._is_socket and self._is_at(path)

    def is_user_message(self, payload: bytes) -> bool:
        """Tell whether a client's message says something where the description looks."""
        asked = self._description.request_text
        return asked is not None and any(asked.find(message) for message in _read_message(payload))

    def is_answer(self, payload: bytes) -> bool:
        """Tell whether a backend's message has a piece of an answer, or an error."""
        return any(
            self._stream_text.find(message) or _code_of(message) is not None
            for message in _read_message(payload)
        )

    def ends_turn(self, payload: bytes) -> bool:
        """Tell whether a backend's message is the end of an answer."""
        end = self._end
        return end is not None and any(end.is_at(message) for message in _read_message(payload))

    def _is_at(self, path: str) -> bool:
        segments = path.rstrip("/").split("/")
        return len(segments) == len(self._segments) and all(
            wanted == segment or (wanted == "*" and segment != "")
            for wanted, segment in zip(self._segments, segments, strict=True)
        )

    def read_request(self, body: bytes, rules: OriginRules) -> ChatRequest:  # noqa: ARG002
        """Read a request body. Raises UnreadableError."""
        if self._is_socket and not body:
            return ChatRequest((), 0)  # what the backend says unasked
        request = _VALUES.read(body)
        described = self._description
        messages = []
        if described.history is not None:
            messages += [self._message(raw) for raw in described.history.find(request)]
        if described.request_text is not None:
            parts = _said(described.request_text.find(request), Origin.TYPED)
            for path, origin in self._sent_along:
                parts += _said(path.find(request), origin)
            messages += [Message(_USER_ROLE, tuple(parts))] if parts else []
        if not messages:
            raise UnreadableError("the request says nothing where the description looks")
        return ChatRequest(
            tuple(messages),
            first_new(messages),
            conversation=_name_at(described.request_conversation, request),
        )

    def read_reply(self, status: int, content_type: str, body: bytes, rules: OriginRules) -> ChatReply:  # noqa: ARG002
        """Read a reply body, streamed or not. Raises UnreadableError."""
        if status >= _ERROR_STATUS:
            return failed_reply(status, body)
        if is_event_stream(content_type, body):
            stream = read_event_stream(body)
            if stream.foreign and not stream.data:
                raise UnreadableError("the reply is no event stream")
            return self._read_events(stream.data)
        if is_json_lines(content_type, body):
            return self._read_stream(read_json_lines(body, _VALUES), ended=False)
        return self._read_whole(body) if body else ChatReply(())

    def render_failure(self, failure: Failure) -> bytes:
        """Return an error object in the shape that is most common."""
        error = {"code": failure.code, "message": failure.message, "request_id": failure.request_id}
        return msgspec.json.encode({"error": error})

    def _message(self, raw: object) -> Message:
        """Read one message of the history. A role that is neither person nor chatbot keeps its word."""
        described = self._description
        role = next((word for word in described.history_role.find(raw) if isinstance(word, str)), None)
        if role is None:
            raise UnreadableError("a message has no role where the description looks")
        role = {described.user_role: _USER_ROLE, described.assistant_role: ANSWER_ROLE}.get(role, role)
        return Message(role, tuple(_said(described.history_text.find(raw), of_role(role))))

    def _read_whole(self, body: bytes) -> ChatReply:
        reply = _VALUES.read(body)
        found = self._description.reply_text.find(reply)
        if not found:
            code = _code_of(reply)
            if code is not None:
                return ChatReply((), finish=(code,), failed=True)
            raise UnreadableError("the reply says nothing where the description looks")
        return ChatReply(
            _answer(_said(found, Origin.ASSISTANT)),
            finished=True,
            conversation=_name_at(self._description.reply_conversation, reply),
        )

    def _read_events(self, datas: Sequence[bytes]) -> ChatReply:
        """Read the events of a stream up to the one that is its end, if that is no JSON."""
        end = self._end.literal if self._end else None
        at = next((index for index, data in enumerate(datas) if data == end), None)
        return self._read_stream(
            _VALUES.read_all([data for data in datas[:at] if data]), ended=at is not None
        )

    def _read_stream(self, events: Sequence[object], *, ended: bool) -> ChatReply:
        found: list[object] = []
        conversation = code = None
        for event in events:
            code = _code_of(event)
            if code is not None:
                break
            found += self._stream_text.find(event)
            conversation = conversation or _name_at(self._description.reply_conversation, event)
            if self._end is not None and self._end.is_at(event):
                ended = True
                break
        return ChatReply(
            _answer(_joined(_said(found, Origin.ASSISTANT))),
            finish=() if code is None else (code,),
            # Without an end of its own, a stream ended as its connection did.
            streamed=self._end is not None,
            finished=ended and code is None,
            failed=code is not None,
            conversation=conversation,
        )


class _End:
    """How a stream says that it is whole."""

    def __init__(self, text: str) -> None:
        path, equals, value = text.partition("=")
        self.literal = None if equals else text.encode()
        self._path = JSONPath.parse(path) if equals else None
        self._value = value

    def is_at(self, event: object) -> bool:
        """Tell whether *event* has the value that the end has. Texts stand with or without quotes."""
        found = self._path.find(event) if self._path else []
        return any(self._value in (value, json.dumps(value, ensure_ascii=False)) for value in found)


def _read_message(payload: bytes) -> list[object]:
    """Return the one value that a WebSocket message holds, or none if it is no JSON."""
    try:
        return [_VALUES.read(payload)]
    except UnreadableError:
        return []


def _said(found: Sequence[object], origin: Origin) -> list[Part]:
    parts = []
    for value in found:
        if isinstance(value, str):
            parts += [Part(PartKind.TEXT, origin, {"text": value})] if value else []
        elif value is not None:
            parts.append(Part(PartKind.OTHER, origin, {"value": media.without_content(value)}))
    return parts


def _joined(parts: Sequence[Part]) -> list[Part]:
    """Return *parts* with the pieces of text in one, and behind it what is no text."""
    text = "".join(part.body["text"] for part in parts if part.kind is PartKind.TEXT)
    others = [part for part in parts if part.kind is not PartKind.TEXT]
    return [*_said([text], Origin.ASSISTANT), *others]


def _answer(parts: Sequence[Part]) -> tuple[Message, ...]:
    return (Message(ANSWER_ROLE, tuple(parts), choice=0),) if parts else ()


def _name_at(path: JSONPath | None, value: object) -> str | None:
    """Return the first id at *path*, as text, or None."""
    for found in path.find(value) if path else []:
        if isinstance(found, str | int) and not isinstance(found, bool) and found != "":
            return str(found)
    return None


def _code_of(event: object) -> str | None:
    """Return the code of the error that *event* is, or None if it is none."""
    if not isinstance(event, dict) or not event.get("error"):
        return None
    return error_code(event) or "error"
