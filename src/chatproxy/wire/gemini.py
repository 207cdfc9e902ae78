"""Gemini's generateContent and streamGenerateContent, as Google AI and Vertex AI speak it.

1. A stream is one of events (``alt=sse``) or else a JSON array that comes element by element; each holds a piece of
   the answer in the shape of a whole one.
2. Names of fields are read in both spellings that protocol buffers allow, ``inlineData`` and ``inline_data``.
3. Role ``model`` is the assistant. Text that follows text of the same kind continues it, thoughts being a kind.
4. Signatures of thoughts say nothing that can be read: not kept. Nor are grounding and safety ratings.
5. The model's name stands in the path and in replies (``modelVersion``), not in requests.

The protocol has no conversation id of its own, and calls of tools may have none either: then a result goes by the
name of its tool.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from chatproxy.errors import UnreadableError
from chatproxy.model import Message, Origin, Part, PartKind
from chatproxy.unshown import Unshown
from chatproxy.wire import media
from chatproxy.wire.base import ANSWER_ROLE, ChatReply, ChatRequest, Failure, OriginRules, first_new
from chatproxy.wire.failures import error_code, failed_reply, type_of_status
from chatproxy.wire.json_reading import JSONReader, as_objects, as_text, json_text, read_object
from chatproxy.wire.origins import Origins, of_role, of_upload
from chatproxy.wire.sse import is_event_stream, read_event_stream
from chatproxy.wire.usage import counters

_METHODS = tuple(
    f"{colon}{method}"
    for colon in (":", "%3A", "%3a")
    for method in ("generateContent", "streamGenerateContent")
)
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_CODE_TOOL = "code_execution"
_UNSAID = frozenset({"thought", "thoughtSignature", "thought_signature"})
_ERROR_STATUS = 400


class Gemini:
    """The dialect ``gemini``."""

    name = "gemini"

    def claims(self, method: str, path: str) -> bool:
        """Claim ``POST …:generateContent`` and ``POST …:streamGenerateContent``."""
        return method == "POST" and path.rstrip("/").endswith(_METHODS)

    def read_request(self, body: bytes, rules: OriginRules) -> ChatRequest:
        """Read a request body. Raises UnreadableError."""
        request = read_object(body)
        contents = request.get("contents")
        if isinstance(contents, dict):
            contents = [contents]
        if not isinstance(contents, list):
            raise UnreadableError("the request has no contents")
        origins = Origins(rules)
        messages = [_message(raw, origins) for raw in contents]
        system = _field(request, "systemInstruction", "system_instruction")
        if system is not None:
            parts = _parts(system.get("parts") if isinstance(system, dict) else system, "system", origins)
            messages[:0] = [Message("system", tuple(parts))] if parts else []
        return ChatRequest(tuple(messages), first_new(messages), model=as_text(request.get("model")) or None)

    def read_reply(self, status: int, content_type: str, body: bytes, rules: OriginRules) -> ChatReply:
        """Read a reply body, streamed or not. Raises UnreadableError."""
        if status >= _ERROR_STATUS:
            return failed_reply(status, body.strip().removeprefix(b"[").removesuffix(b"]"))
        if is_event_stream(content_type, body):
            stream = read_event_stream(body)
            if stream.foreign and not stream.data:
                raise UnreadableError("the reply is no event stream")
            return _read(_PIECES.read_all([data for data in stream.data if data]), rules, streamed=True)
        if body.lstrip()[:1] == b"[":
            return _read(_PIECES.read_begun(body), rules, streamed=True)
        return _read([_PIECES.read(body)], rules, streamed=False) if body else ChatReply(())

    def render_failure(self, failure: Failure) -> bytes:
        """Return the error object that Gemini's clients read; the code is the reason in its details."""
        info = {"@type": _ERROR_INFO, "reason": failure.code.upper(), "domain": "chatproxy"}
        error = {
            "code": failure.status,
            "message": failure.message,
            "status": type_of_status(_STATUSES, failure.status),
            "details": [info | {"metadata": {"request_id": failure.request_id}}],
        }
        return msgspec.json.encode({"error": error})


# --- contents and parts ---


def _field(value: Mapping[str, Any], name: str, other_name: str) -> Any:
    found = value.get(name)
    return value.get(other_name) if found is None else found


def _message(raw: object, origins: Origins) -> Message:
    if not isinstance(raw, dict):
        raise UnreadableError("one of the contents is not an object")
    role = raw.get("role")
    if role is None or role == "":
        role = "user"
    if not isinstance(role, str):
        raise UnreadableError("one of the contents has a role that is no text")
    role = ANSWER_ROLE if role == "model" else role
    return Message(role, tuple(_parts(raw.get("parts"), role, origins)))


def _parts(parts: object, role: str, origins: Origins) -> list[Part]:
    if parts is None:
        return []
    blocks = parts if isinstance(parts, list) else [parts]
    read = [part for block in blocks for part in origins.of_block(_kinds(block), _part(block, role, origins))]
    calls = [part.body for part in read if part.kind is PartKind.TOOL_CALL]
    origins.learn([(call["id"], call["name"]) for call in calls])
    return read


def _kinds(block: object) -> list[str]:
    """Return the types by which rules know *block*: names of members, its own and those of what a function gave back."""
    if not isinstance(block, dict):
        return []
    response = _field(block, "functionResponse", "function_response")
    inner = as_objects(response.get("parts")) if isinstance(response, dict) else []
    return [_in_json(name) for each in (block, *inner) for name in each]


def _in_json(name: str) -> str:
    """Return the name of a member as JSON spells it: ``fileData`` of ``file_data``."""
    first, *others = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in others)


def _part(block: object, role: str, origins: Origins) -> Sequence[Part]:
    if isinstance(block, str):
        block = {"text": block}
    if not isinstance(block, dict):
        return [Part(PartKind.OTHER, of_role(role), {"value": media.without_content(block)})]
    text = block.get("text")
    if isinstance(text, str):
        kind = PartKind.REASONING if block.get("thought") is True else PartKind.TEXT
        return [Part(kind, of_role(role), {"text": text})] if text else []
    other = _media(block, role) or _tool(block, origins)
    if other is None:
        said = {name: value for name, value in block.items() if name not in _UNSAID}
        other = Part(PartKind.OTHER, of_role(role), media.without_content(said)) if said else None
    return [other] if other else []


def _media(block: Mapping[str, Any], role: str) -> Part | None:
    inline = _field(block, "inlineData", "inline_data")
    if isinstance(inline, dict) and isinstance(inline.get("data"), str):
        return Part(PartKind.MEDIA, of_upload(role), media.from_base64([inline["data"]], _mime(inline)))
    file = _field(block, "fileData", "file_data")
    if isinstance(file, dict):
        uri = as_text(_field(file, "fileUri", "file_uri"))
        return Part(PartKind.MEDIA, of_upload(role), media.from_url(uri, _mime(file)))
    return None


def _mime(described: Mapping[str, Any]) -> str:
    return as_text(_field(described, "mimeType", "mime_type")) or "application/octet-stream"


def _tool(block: Mapping[str, Any], origins: Origins) -> Part | None:
    call = _field(block, "functionCall", "function_call")
    if isinstance(call, dict):
        arguments = call.get("args")
        return _called(
            as_text(call.get("id")),
            as_text(call.get("name")),
            "" if arguments is None else json_text(arguments),
        )
    response = _field(block, "functionResponse", "function_response")
    if isinstance(response, dict):
        return _function_response(response, origins)
    code = _field(block, "executableCode", "executable_code")
    if isinstance(code, dict):
        return _called(as_text(code.get("id")), _CODE_TOOL, json_text(code))
    ran = _field(block, "codeExecutionResult", "code_execution_result")
    if isinstance(ran, dict):
        body = {"id": as_text(ran.get("id")), "text": as_text(ran.get("output"))}
        outcome = as_text(ran.get("outcome"))
        failed = {"is_error": True} if outcome not in ("", "OUTCOME_OK") else {}
        return Part(PartKind.TOOL_RESULT, origins.of_tool(_CODE_TOOL), body | failed)
    return None


def _called(ident: str, name: str, arguments: str) -> Part:
    return Part(PartKind.TOOL_CALL, Origin.ASSISTANT, {"id": ident, "name": name, "arguments": arguments})


def _function_response(response: Mapping[str, Any], origins: Origins) -> Part:
    ident, name = as_text(response.get("id")), as_text(response.get("name"))
    origin = origins.of_tool(name) if name and not ident else origins.of_result(ident, tool=name or None)
    content = media.without_content(response.get("response"))
    parts = response.get("parts")
    if parts is None:
        return Part(PartKind.TOOL_RESULT, origin, {"id": ident, "content": content})
    items = [_result_item(item) for item in (parts if isinstance(parts, list) else [parts])]
    return Part(PartKind.TOOL_RESULT, origin, {"id": ident, "content": [content, *items]})


def _result_item(item: object) -> object:
    described = _media(item, "tool") if isinstance(item, dict) else None
    return {"type": "media", **described.body} if described else media.without_content(item)


# --- replies ---


class _Content(Unshown, frozen=True, gc=False):
    parts: Any = None


class _Candidate(msgspec.Struct, rename="camel", gc=False):
    index: int | None = None
    content: _Content | None = None
    finish_reason: Any = None


class _Piece(Unshown, frozen=True, rename="camel", gc=False):
    candidates: list[_Candidate] | None = None
    prompt_feedback: Any = None
    usage_metadata: Any = None
    model_version: Any = None
    error: Any = None


_PIECES = JSONReader(_Piece)


def _read(pieces: list[_Piece], rules: OriginRules, *, streamed: bool) -> ChatReply:
    reply = _Reply(rules)
    for piece in pieces:
        reply.add(piece)
        if reply.code is not None:
            break
    if pieces and not reply.understood:
        raise UnreadableError("the reply has neither candidates nor an error")
    return reply.whole(streamed=streamed)


class _Reply:
    """A reply, as its pieces come."""

    def __init__(self, rules: OriginRules) -> None:
        self._origins = Origins(rules)
        self._answers: dict[int, _Answer] = {}
        self._model: str | None = None
        self._usage: Any = None
        self._blocked = ""
        self.code: str | None = None
        self.understood = False

    def add(self, piece: _Piece) -> None:
        if piece.error is not None:
            self.code = error_code({"error": piece.error}) or "error"
            self.understood = True
            return
        for position, candidate in enumerate(piece.candidates or ()):
            index = position if candidate.index is None else candidate.index
            answer = self._answers.get(index)
            if answer is None:
                answer = self._answers[index] = _Answer(self._origins)
            answer.add(candidate)
        if isinstance(piece.prompt_feedback, dict):
            self._blocked = as_text(piece.prompt_feedback.get("blockReason")) or self._blocked
        if piece.usage_metadata is not None:
            self._usage = piece.usage_metadata
        if self._model is None:
            self._model = as_text(piece.model_version) or None
        if (
            piece.candidates is not None
            or piece.prompt_feedback is not None
            or piece.usage_metadata is not None
        ):
            self.understood = True

    def whole(self, *, streamed: bool) -> ChatReply:
        ordered = sorted(self._answers.items())
        output = [
            Message(ANSWER_ROLE, parts, choice=index)
            for index, answer in ordered
            if (parts := answer.parts())
        ]
        finish = [answer.finish for _, answer in ordered if answer.finish]
        has_ended = bool(ordered) and len(finish) == len(ordered)
        return ChatReply(
            tuple(output),
            model=self._model,
            usage=counters(self._usage),
            finish=tuple(filter(None, [*finish, self._blocked, self.code])),
            streamed=streamed,
            finished=self.code is None and (has_ended or bool(self._blocked) or not streamed),
            failed=self.code is not None,
        )


class _Answer:
    """One candidate, as its pieces come."""

    __slots__ = ("_kind", "_origins", "_parts", "_text", "finish")

    def __init__(self, origins: Origins) -> None:
        self.finish = ""
        self._origins = origins
        self._parts: list[Part] = []
        self._text: list[str] = []
        """The pieces of the text that is being said."""
        self._kind = PartKind.TEXT

    def add(self, candidate: _Candidate) -> None:
        if candidate.content is not None:
            for block in _blocks(candidate.content.parts):
                text = block.get("text") if block.__class__ is dict else None
                if text.__class__ is str:
                    self._add_text(
                        PartKind.REASONING if block.get("thought") is True else PartKind.TEXT, text
                    )
                else:
                    self._close_text()
                    self._parts += _parts([block], ANSWER_ROLE, self._origins)
        if candidate.finish_reason is not None:
            self.finish = as_text(candidate.finish_reason)

    def parts(self) -> tuple[Part, ...]:
        self._close_text()
        return tuple(self._parts)

    def _add_text(self, kind: PartKind, text: str) -> None:
        if kind is not self._kind:
            self._close_text()
            self._kind = kind
        self._text.append(text)

    def _close_text(self) -> None:
        text = "".join(self._text)
        if text:
            self._parts.append(Part(self._kind, Origin.ASSISTANT, {"text": text}))
        self._text = []


def _blocks(parts: object) -> list[Any]:
    if parts is None:
        return []
    return parts if isinstance(parts, list) else [parts]
