"""OpenAI chat completions, as OpenAI, Azure and the many compatible backends speak it.

Differences that occur in the wild are read, not refused: content as text or as parts, calls of tools as
``tool_calls`` or the older ``function_call``, arguments as text or as an object, calls in a stream without an index,
reasoning as ``reasoning_content`` or ``reasoning`` or as parts, no ``[DONE]``, errors as ``error`` or as an object of type
``error``. What follows ``[DONE]`` is not read, since no client reads it.

The protocol has no conversation id of its own.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec

from chatproxy.errors import UnreadableError
from chatproxy.model import Message, Origin, Part, PartKind
from chatproxy.unshown import Unshown
from chatproxy.wire import media
from chatproxy.wire.base import ANSWER_ROLE, ChatReply, ChatRequest, Failure, OriginRules, first_new
from chatproxy.wire.failures import error_code, failed_reply, is_error, type_of_status
from chatproxy.wire.json_reading import JSONReader, as_objects, as_text, json_text, read_object
from chatproxy.wire.origins import Origins, kinds_of, of_role, of_upload
from chatproxy.wire.sse import is_event_stream, read_event_stream
from chatproxy.wire.usage import counters

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "server_error",
}
_RESULT_ROLES = ("tool", "function")
_ROLE_AND_CONTENT = 2
"""Members of a message that has only these."""
_DONE = b"[DONE]"
_ERROR_STATUS = 400
_by_choice = attrgetter("choice")


class OpenAIChat:
    """The dialect ``openai_chat``."""

    name = "openai_chat"

    def claims(self, method: str, path: str) -> bool:
        """Claim ``POST …/chat/completions``, below any prefix (``/v1``, ``/openai/deployments/x``)."""
        return method == "POST" and path.rstrip("/").endswith("/chat/completions")

    def read_request(self, body: bytes, rules: OriginRules) -> ChatRequest:
        """Read a request body. Raises UnreadableError."""
        request = read_object(body)
        raw_messages = request.get("messages")
        if not isinstance(raw_messages, list):
            raise UnreadableError("the request has no list of messages")
        origins = Origins(rules)
        messages = tuple([_message(raw, origins) for raw in raw_messages])
        return ChatRequest(messages, first_new(messages), model=as_text(request.get("model")) or None)

    def read_reply(self, status: int, content_type: str, body: bytes, rules: OriginRules) -> ChatReply:  # noqa: ARG002
        """Read a reply body, streamed or not. Raises UnreadableError."""
        if status >= _ERROR_STATUS:
            return failed_reply(status, body)
        if is_event_stream(content_type, body):
            return _read_stream(body)
        return _read_whole(body) if body else ChatReply(())

    def render_failure(self, failure: Failure) -> bytes:
        """Return the error object that OpenAI's clients read."""
        error = {
            "message": failure.message,
            "type": type_of_status(_ERROR_TYPES, failure.status),
            "param": None,
            "code": failure.code,
        }
        return msgspec.json.encode({"error": error})


# --- messages, as requests and whole replies hold them ---


def _message(raw: object, origins: Origins) -> Message:
    if not isinstance(raw, dict):
        raise UnreadableError("a message is not an object")
    role = raw.get("role")
    if not isinstance(role, str):
        raise UnreadableError("a message has no role")
    if len(raw) == _ROLE_AND_CONTENT and role not in _RESULT_ROLES and isinstance(raw.get("content"), str):
        # What nearly all messages of a long history are, each of which is read again with every turn.
        text = raw["content"]
        return Message(role, (Part(PartKind.TEXT, of_role(role), {"text": text}),) if text else ())
    if role in _RESULT_ROLES:
        kinds = kinds_of(None, raw.get("content"))
        return Message(role, tuple(origins.of_block(kinds, [_tool_result(raw, origins)])))
    if role != ANSWER_ROLE:
        return Message(role, tuple(_sent(raw.get("content"), role, origins)))
    parts = _answer_parts(raw)
    calls = [(part.body["id"], part.body["name"]) for part in parts if part.kind is PartKind.TOOL_CALL]
    if calls:
        origins.learn(calls)
    return Message(role, parts)


def _answer_parts(raw: Mapping[str, Any]) -> tuple[Part, ...]:
    """Return the parts of an answer, in the order in which a stream would bring them."""
    parts: list[Part] = []
    if "reasoning_content" in raw or "reasoning" in raw:
        reasoning = as_text(raw.get("reasoning_content")) or as_text(raw.get("reasoning"))
        parts += _said(PartKind.REASONING, reasoning)
    parts += _content(raw.get("content"), ANSWER_ROLE)
    if "refusal" in raw:
        parts += _said(PartKind.REFUSAL, as_text(raw["refusal"]))
    if "images" in raw:
        parts += _content(as_objects(raw["images"]), ANSWER_ROLE)
    if "audio" in raw and isinstance(raw["audio"], dict):
        audio = raw["audio"]
        pieces = [audio["data"]] if isinstance(audio.get("data"), str) else []
        parts += _audio(as_text(audio.get("id")), pieces, as_text(audio.get("transcript")))
    if "tool_calls" in raw:
        parts += [_tool_call(call) for call in as_objects(raw["tool_calls"])]
    if "function_call" in raw and isinstance(raw["function_call"], dict):
        parts.append(_tool_call({"function": raw["function_call"]}))
    return tuple(parts)


def _content(content: object, role: str) -> list[Part]:
    if content is None:
        return []
    if isinstance(content, str):
        return _said(PartKind.TEXT, content, of_role(role))
    return [_content_part(item, role) for item in (content if isinstance(content, list) else [content])]


def _sent(content: object, role: str, origins: Origins) -> list[Part]:
    """Read what a client sends, by the rules for its blocks."""
    if not isinstance(content, list):
        return _content(content, role)
    return [
        part for item in content for part in origins.of_block(kinds_of(item), [_content_part(item, role)])
    ]


def _content_part(item: object, role: str) -> Part:
    if isinstance(item, str):
        return Part(PartKind.TEXT, of_role(role), {"text": item})
    # No pattern, each of which takes as long as all the rest: long histories are texts.
    if isinstance(item, dict) and item.get("type") == "text" and isinstance(item.get("text"), str):
        return Part(PartKind.TEXT, of_role(role), {"text": item["text"]})
    if described := _media(item):
        return Part(PartKind.MEDIA, of_upload(role), described)
    match item:
        case {"type": "refusal", "refusal": str(text)}:
            return Part(PartKind.REFUSAL, of_role(role), {"text": text})
        case {"type": "thinking", "thinking": list(pieces)}:
            text = "".join(as_text(piece.get("text")) for piece in as_objects(pieces))
            return Part(PartKind.REASONING, of_role(role), {"text": text})
    body = media.without_content(item)
    return Part(PartKind.OTHER, of_role(role), body if isinstance(item, dict) else {"value": body})


def _media(item: object) -> dict[str, Any] | None:
    """Describe the image, sound or file that *item* is; None if it is none of these."""
    match item:
        case {"type": "image_url", "image_url": str(url) | {"url": str(url)}}:
            return media.from_url(url, "image/*")
        case {"type": "input_audio", "input_audio": {"data": str(data), **more}}:
            return media.from_base64([data], f"audio/{as_text(more.get('format')) or '*'}")
        case {"type": "file", "file": {"file_data": str(data)}}:
            return _file(data)
        case {"type": "file", "file": {"file_id": str(ident)}}:
            return {"mime": "", "file_id": ident}
    return None


def _file(data: str) -> dict[str, Any]:
    """Describe ``file_data``: a data URL by the book, bare base64 with some clients."""
    mime = "application/octet-stream"
    return media.from_url(data, mime) if data[:5] == "data:" else media.from_base64([data], mime)


def _tool_call(call: Mapping[str, Any]) -> Part:
    """Read a call of a function (``arguments``) or of a custom tool (``input``, free text)."""
    called = call.get("function")
    if not isinstance(called, dict):
        called = call.get("custom")
        called = called if isinstance(called, dict) else {}
    arguments = called.get("arguments", called.get("input"))
    if not isinstance(arguments, str):
        arguments = "" if arguments is None else json_text(arguments)
    return _called(as_text(call.get("id")), as_text(called.get("name")), arguments)


def _called(ident: str, name: str, arguments: str) -> Part:
    return Part(PartKind.TOOL_CALL, Origin.ASSISTANT, {"id": ident, "name": name, "arguments": arguments})


def _tool_result(raw: Mapping[str, Any], origins: Origins) -> Part:
    ident = as_text(raw.get("tool_call_id"))
    origin = origins.of_result(ident, tool=as_text(raw.get("name")) or None)
    content = raw.get("content")
    match content:
        case None | str():
            body: dict[str, Any] = {"id": ident, "text": content or ""}
        case [{"type": "text", "text": str(text)}]:
            body = {"id": ident, "text": text}
        case _:
            body = {"id": ident, "content": media.without_content(content)}
    return Part(PartKind.TOOL_RESULT, origin, body)


def _audio(ident: str, pieces: Sequence[str], transcript: str) -> list[Part]:
    """Return spoken words: the sound, and its transcript as text.

    ``audio_id`` is on one of them, since a client sends nothing but this id back.
    """
    parts: list[Part] = []
    if pieces:
        parts.append(Part(PartKind.MEDIA, Origin.ASSISTANT, media.from_base64(pieces, "audio/*")))
    if transcript or ident:
        body = {"text": transcript, "audio_id": ident}
        parts.append(Part(PartKind.TEXT, Origin.ASSISTANT, body))
    return parts


def _said(kind: PartKind, text: str, origin: Origin = Origin.ASSISTANT) -> list[Part]:
    return [Part(kind, origin, {"text": text})] if text else []


# --- whole replies ---


def _read_whole(body: bytes) -> ChatReply:
    reply = read_object(body)
    choices = reply.get("choices")
    if not isinstance(choices, list):
        if is_error(reply):
            return ChatReply((), finish=(error_code(reply) or "error",), failed=True)
        raise UnreadableError("the reply has neither choices nor an error")
    output: list[Message] = []
    finish: list[str] = []
    for position, choice in enumerate(as_objects(choices)):
        index = choice.get("index")
        message = choice.get("message")
        parts = _answer_parts(message) if isinstance(message, dict) else ()
        if parts:
            output.append(Message(ANSWER_ROLE, parts, choice=index if type(index) is int else position))
        finish += filter(None, [as_text(choice.get("finish_reason"))])
    return ChatReply(
        tuple(sorted(output, key=_by_choice)),
        model=as_text(reply.get("model")) or None,
        usage=counters(reply.get("usage")),
        finish=tuple(finish),
        finished=True,
    )


# --- streams ---


class _Delta(Unshown, frozen=True, gc=False):
    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None
    audio: Any = None
    images: Any = None


class _StreamChoice(msgspec.Struct, gc=False):
    index: int | None = None
    delta: _Delta | None = None
    finish_reason: Any = None


class _Chunk(Unshown, frozen=True, gc=False):
    choices: list[_StreamChoice] | None = None
    model: Any = None
    usage: Any = None
    error: Any = None
    object: Any = None
    type: Any = None
    code: Any = None


_CHUNKS = JSONReader(_Chunk)


def _read_stream(body: bytes) -> ChatReply:
    stream = read_event_stream(body)
    if stream.foreign and not stream.data:
        raise UnreadableError("the reply is no event stream")
    end = stream.data.index(_DONE) if _DONE in stream.data else None
    events = [data for data in stream.data[:end] if data]
    reply = _StreamedReply()
    reply.read(_CHUNKS.read_all(events))
    if events and not reply.understood:
        raise UnreadableError("no event of the stream is a chat completion chunk")
    return reply.whole(done=end is not None)


class _StreamedReply:
    """A reply, put together of its chunks."""

    def __init__(self) -> None:
        self.answers: defaultdict[int, _Answer] = defaultdict(_Answer)
        self.model: str | None = None
        self.usage: Any = None
        self.code: str | None = None
        """The code of the error that ended the stream."""
        self.understood = False

    def read(self, chunks: Iterable[_Chunk]) -> None:
        """Read *chunks*, up to an error."""
        for chunk in chunks:
            if chunk.choices is not None:
                self.understood = True
                for choice in chunk.choices:
                    self.answers[choice.index or 0].add(choice)
            if self.model is None and chunk.model:
                self.model = as_text(chunk.model)
            if chunk.usage is not None:
                self.usage = chunk.usage
            if chunk.error is not None or chunk.choices is None:
                self._add_other(chunk)
            if self.code is not None:
                break

    def whole(self, *, done: bool) -> ChatReply:
        ordered = sorted(self.answers.items())
        output = [
            Message(ANSWER_ROLE, parts, choice=index)
            for index, answer in ordered
            if (parts := answer.parts())
        ]
        finish = [answer.finish for _, answer in ordered if answer.finish]
        all_finished = bool(ordered) and len(finish) == len(ordered)
        return ChatReply(
            tuple(output),
            model=self.model,
            usage=counters(self.usage),
            finish=tuple(finish if self.code is None else [*finish, self.code]),
            streamed=True,
            finished=self.code is None and (done or all_finished),
            failed=self.code is not None,
        )

    def _add_other(self, chunk: _Chunk) -> None:
        """Read a chunk without choices, or with an error beside them."""
        event = {"error": chunk.error, "object": chunk.object, "type": chunk.type, "code": chunk.code}
        if is_error(event):
            self.understood = True
            self.code = error_code(event) or "error"
        elif chunk.usage is not None or chunk.object == "chat.completion.chunk":
            self.understood = True


class _Call:
    """A call of a tool, as its pieces come."""

    __slots__ = ("arguments", "ident", "name")

    def __init__(self) -> None:
        self.ident = ""
        self.name = ""
        self.arguments: list[str] = []

    def add(self, piece: Mapping[str, Any]) -> None:
        called = piece.get("function")
        if not isinstance(called, dict):
            called = piece.get("custom")
            called = called if isinstance(called, dict) else {}
        self.ident = self.ident or as_text(piece.get("id"))
        self.name = self.name or as_text(called.get("name"))
        arguments = called.get("arguments", called.get("input"))
        if isinstance(arguments, str):
            self.arguments.append(arguments)
        elif arguments is not None:
            self.arguments.append(json_text(arguments))


class _Answer:
    """One choice of a stream, as its deltas come."""

    __slots__ = (
        "audio",
        "audio_id",
        "calls",
        "finish",
        "images",
        "last_call",
        "reasoning",
        "refusal",
        "said",
        "text",
        "transcript",
    )

    def __init__(self) -> None:
        self.finish = ""
        self.text: list[str] = []
        self.said: list[Part] = []
        """Content that came as parts and cannot be joined to the text."""
        self.reasoning: list[str] = []
        self.refusal: list[str] = []
        self.calls: dict[int, _Call] = {}
        self.last_call = -1
        """The highest index of a call."""
        self.audio_id = ""
        self.audio: list[str] = []
        self.transcript: list[str] = []
        self.images: list[Mapping[str, Any]] = []

    def add(self, choice: _StreamChoice) -> None:
        if choice.finish_reason is not None:
            self.finish = as_text(choice.finish_reason)
        delta = choice.delta
        if delta is None:
            return
        content = delta.content
        if content.__class__ is str:
            self.text.append(content)
        elif content is not None:
            self._add_content(content)
        if delta.reasoning_content is not None:
            self.reasoning.append(as_text(delta.reasoning_content))
        elif delta.reasoning is not None:
            self.reasoning.append(as_text(delta.reasoning))
        if delta.refusal is not None:
            self.refusal.append(as_text(delta.refusal))
        if delta.tool_calls is not None:
            self._add_calls(as_objects(delta.tool_calls))
        if delta.function_call is not None:
            self.calls.setdefault(0, _Call()).add({"function": delta.function_call})
        if delta.audio is not None:
            self._add_audio(delta.audio)
        if delta.images is not None:
            self.images += as_objects(delta.images)

    def parts(self) -> tuple[Part, ...]:
        parts = _said(PartKind.REASONING, "".join(self.reasoning))
        parts += _said(PartKind.TEXT, "".join(self.text))
        parts += self.said
        parts += _said(PartKind.REFUSAL, "".join(self.refusal))
        parts += _content(self.images, ANSWER_ROLE)
        parts += _audio(self.audio_id, self.audio, "".join(self.transcript))
        parts += [
            _called(call.ident, call.name, "".join(call.arguments)) for _, call in sorted(self.calls.items())
        ]
        return tuple(parts)

    def _add_content(self, content: object) -> None:
        for part in _content(content, ANSWER_ROLE):
            if part.kind is PartKind.TEXT:
                self.text.append(part.body["text"])
            elif part.kind is PartKind.REASONING:
                self.reasoning.append(part.body["text"])
            else:
                self.said.append(part)

    def _add_calls(self, pieces: list[dict[str, Any]]) -> None:
        """Add each piece to the call that its index names; without one, a piece with an id begins a call."""
        for piece in pieces:
            index = piece.get("index")
            if not isinstance(index, int):
                begins = self.last_call < 0 or bool(piece.get("id"))
                index = self.last_call + begins
            self.last_call = max(self.last_call, index)
            self.calls.setdefault(index, _Call()).add(piece)

    def _add_audio(self, audio: object) -> None:
        if isinstance(audio, dict):
            self.audio_id = self.audio_id or as_text(audio.get("id"))
            self.audio += filter(None, [as_text(audio.get("data"))])
            self.transcript.append(as_text(audio.get("transcript")))
