"""Anthropic messages: content in typed blocks, streamed block by block.

1. ``system`` becomes a first message of role ``system``.
2. A block of a type unknown here is kept as JSON (kind ``other``), in a stream with its deltas as they came.
3. What MCP servers returned (``mcp_tool_result``) is a connector's raw data, whatever the rules for tool names say (R25).
   Other tools that the backend runs itself are named by the call, else by the type of the result block.
4. Signatures and encrypted thinking say nothing that can be read: not kept, but that there was some is.
5. Deltas for a block whose start never came begin one; indexes only order the blocks, gaps do not matter.

The protocol has no conversation id of its own.
"""

from collections.abc import Mapping, Sequence
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
from chatproxy.wire.texts import text_block
from chatproxy.wire.usage import counters

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_CALLS = ("tool_use", "server_tool_use", "mcp_tool_use")
_RESULT = "tool_result"
_ERROR_STATUS = 400


class AnthropicMessages:
    """The dialect ``anthropic_messages``."""

    name = "anthropic_messages"

    def claims(self, method: str, path: str) -> bool:
        """Claim ``POST …/v1/messages``, and nothing below it (``count_tokens``, ``batches``)."""
        return method == "POST" and path.rstrip("/").endswith("/v1/messages")

    def read_request(self, body: bytes, rules: OriginRules) -> ChatRequest:
        """Read a request body. Raises UnreadableError."""
        request = read_object(body)
        raw_messages = request.get("messages")
        if not isinstance(raw_messages, list):
            raise UnreadableError("the request has no list of messages")
        origins = Origins(rules)
        messages = [_message(raw, origins) for raw in raw_messages]
        system = tuple(_blocks(request.get("system"), "system", origins))
        if system:
            messages.insert(0, Message("system", system))
        return ChatRequest(tuple(messages), first_new(messages), model=as_text(request.get("model")) or None)

    def read_reply(self, status: int, content_type: str, body: bytes, rules: OriginRules) -> ChatReply:
        """Read a reply body, streamed or not. Raises UnreadableError."""
        if status >= _ERROR_STATUS:
            return failed_reply(status, body)
        if is_event_stream(content_type, body):
            return _read_stream(body, rules)
        return _read_whole(body, rules) if body else ChatReply(())

    def render_failure(self, failure: Failure) -> bytes:
        """Return the error object that Anthropic's clients read."""
        error = {"type": type_of_status(_ERROR_TYPES, failure.status), "message": failure.message}
        return msgspec.json.encode({"type": "error", "error": error, "request_id": failure.request_id})


# --- messages, as requests and whole replies hold them ---


def _message(raw: object, origins: Origins) -> Message:
    if not isinstance(raw, dict):
        raise UnreadableError("a message is not an object")
    role = raw.get("role")
    if not isinstance(role, str):
        raise UnreadableError("a message has no role")
    return Message(role, tuple(_blocks(raw.get("content"), role, origins)))


def _blocks(content: object, role: str, origins: Origins) -> list[Part]:
    if content is None or content == "":
        return []
    if isinstance(content, str):
        return [Part(PartKind.TEXT, of_role(role), {"text": content})]
    blocks = content if isinstance(content, list) else [content]
    calls = [_identity(block) for block in blocks if isinstance(block, dict) and block.get("type") in _CALLS]
    if calls:
        origins.learn(calls)
    return [
        part for block in blocks for part in origins.of_block(_kinds(block), _block(block, role, origins))
    ]


def _kinds(block: object) -> list[object]:
    """Return the types by which rules know *block*: its own, and those of what a tool's result holds."""
    if isinstance(block, dict) and as_text(block.get("type")).endswith(_RESULT):
        return kinds_of(block, block.get("content"))
    return kinds_of(block)


def _identity(block: Mapping[str, Any]) -> tuple[str, str]:
    return as_text(block.get("id")), as_text(block.get("name"))


def _block(block: object, role: str, origins: Origins) -> Sequence[Part]:
    """Read one content block: mostly one part, for a document of several blocks one for each."""
    if isinstance(block, str):
        block = {"type": "text", "text": block}
    if not isinstance(block, dict):
        return [Part(PartKind.OTHER, of_role(role), {"value": media.without_content(block)})]
    # No pattern, each of which takes as long as all the rest: long histories are texts.
    if block.get("type") == "text" and isinstance(block.get("text"), str):
        return text_block(block, role, cited="citations")
    kind = as_text(block.get("type"))
    if kind in _CALLS:
        return [_tool_call(block)]
    if kind.endswith(_RESULT):
        return [_tool_result(block, kind, origins)]
    parts = _said(block, role)
    if parts is None:
        parts = _uploaded(block, role)
    return [_other(block, role)] if parts is None else parts


def _said(block: Mapping[str, Any], role: str) -> Sequence[Part] | None:
    match block:
        case {"type": "thinking", "thinking": str(text)}:
            return [Part(PartKind.REASONING, of_role(role), {"text": text})]
        case {"type": "redacted_thinking"}:
            return [Part(PartKind.REASONING, of_role(role), {"text": "", "redacted": True})]
    return None


def _uploaded(block: Mapping[str, Any], role: str) -> Sequence[Part] | None:
    match block:
        case {"type": "document", "source": {"type": "content", "content": content}}:
            return _chunks_of_document(content, role)
        case {"type": "image" | "document" as kind, "source": dict(source)}:
            return [Part(PartKind.MEDIA, of_upload(role), _source(source, kind))]
        case {"type": "container_upload", "file_id": str(ident)}:
            return [Part(PartKind.MEDIA, of_upload(role), {"mime": "", "file_id": ident})]
    return None


def _other(block: Mapping[str, Any], role: str) -> Part:
    """Keep a block of another type as JSON. A search result is what a tool found, wherever it stands."""
    origin = Origin.TOOL_RESULT if block.get("type") == "search_result" else of_role(role)
    return Part(PartKind.OTHER, origin, media.without_content(block))


def _source(source: Mapping[str, Any], kind: str) -> dict[str, Any]:
    mime = as_text(source.get("media_type")) or ("image/*" if kind == "image" else "application/octet-stream")
    match source:
        case {"type": "base64", "data": str(data)}:
            return media.from_base64([data], mime)
        case {"type": "text", "data": str(data)}:
            return media.from_bytes(data.encode("utf-8", "surrogatepass"), mime)
        case {"type": "url", "url": str(url)}:
            return media.from_url(url, mime)
        case {"type": "file", "file_id": str(ident)}:
            return {"mime": mime, "file_id": ident}
    return {"mime": mime, "source": media.without_content(source)}


def _chunks_of_document(content: object, role: str) -> list[Part]:
    """Read a document that the client cut into blocks itself: its texts are uploads."""
    parts: list[Part] = []
    for block in [{"type": "text", "text": content}] if isinstance(content, str) else as_objects(content):
        match block:
            case {"type": "text", "text": str(text)}:
                parts.append(Part(PartKind.TEXT, of_upload(role), {"text": text}))
            case {"type": "image", "source": dict(source)}:
                parts.append(Part(PartKind.MEDIA, of_upload(role), _source(source, "image")))
            case _:
                parts.append(Part(PartKind.OTHER, of_upload(role), media.without_content(block)))
    return parts


def _tool_call(block: Mapping[str, Any]) -> Part:
    ident, name = _identity(block)
    arguments = block.get("input")
    if not isinstance(arguments, str):
        arguments = "" if arguments is None else json_text(arguments)
    body = {"id": ident, "name": name, "arguments": arguments}
    server = as_text(block.get("server_name"))
    return Part(PartKind.TOOL_CALL, Origin.ASSISTANT, {**body, "server": server} if server else body)


def _tool_result(block: Mapping[str, Any], kind: str, origins: Origins) -> Part:
    ident = as_text(block.get("tool_use_id"))
    if kind == "mcp_tool_result":
        origin = Origin.CONNECTOR_RAW
    else:
        origin = origins.of_result(ident, tool=kind.removesuffix("_" + _RESULT) if kind != _RESULT else None)
    body: dict[str, Any] = {"id": ident}
    if block.get("is_error") is True:
        body["is_error"] = True
    match block.get("content"):
        case None | "" | []:
            body["text"] = ""
        case str(text) | [{"type": "text", "text": str(text)}]:
            body["text"] = text
        case [*items]:
            body["content"] = [_result_item(item) for item in items]
        case content:
            body["content"] = media.without_content(content)
    return Part(PartKind.TOOL_RESULT, origin, body)


def _result_item(item: object) -> object:
    match item:
        case {"type": "text", "text": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "image" | "document" as kind, "source": dict(source)}:
            return {"type": "media", **_source(source, kind)}
    return media.without_content(item)


# --- whole replies ---


def _read_whole(body: bytes, rules: OriginRules) -> ChatReply:
    reply = read_object(body)
    if is_error(reply):
        return ChatReply((), finish=(error_code(reply) or "error",), failed=True)
    content = reply.get("content")
    if not isinstance(content, list):
        raise UnreadableError("the reply has neither content nor an error")
    return ChatReply(
        _output(content, rules),
        model=as_text(reply.get("model")) or None,
        usage=counters(reply.get("usage")),
        finish=tuple(filter(None, [as_text(reply.get("stop_reason"))])),
        finished=True,
    )


def _output(blocks: list[Any], rules: OriginRules) -> tuple[Message, ...]:
    parts = tuple(_blocks(blocks, ANSWER_ROLE, Origins(rules)))
    return (Message(ANSWER_ROLE, parts, choice=0),) if parts else ()


# --- streams ---


class _Delta(Unshown, frozen=True, gc=False):
    type: str = ""
    text: Any = None
    partial_json: Any = None
    thinking: Any = None
    citation: Any = None
    stop_reason: Any = None


class _Event(Unshown, frozen=True, gc=False):
    type: str = ""
    index: int = 0
    delta: _Delta | None = None
    content_block: dict[str, Any] | None = None
    message: dict[str, Any] | None = None
    usage: Any = None
    error: Any = None


_EVENTS = JSONReader(_Event)

_BLOCK_OF_DELTA = {"thinking_delta": "thinking", "input_json_delta": "tool_use"}


def _read_stream(body: bytes, rules: OriginRules) -> ChatReply:
    stream = read_event_stream(body)
    if stream.foreign and not stream.data:
        raise UnreadableError("the reply is no event stream")
    datas = [
        data for data in stream.data if data and data[:6] != b"[DONE]"
    ]  # some compatible backends send it
    answer = _Answer()
    for event, data in zip(_EVENTS.read_all(datas), datas, strict=True):
        answer.add(event, data)
        if answer.code is not None:
            break
    if datas and not answer.understood:
        raise UnreadableError("no event of the stream is one of a message")
    return answer.reply(rules)


class _Block:
    """One content block, as its deltas come."""

    __slots__ = ("citations", "pieces", "start", "unknown")

    def __init__(self, start: dict[str, Any]) -> None:
        self.start = start
        self.pieces: list[str] = []
        self.citations: list[Any] = []
        self.unknown: list[Any] = []

    def whole(self) -> dict[str, Any]:
        """Return the block as a reply that is no stream would have it."""
        block = dict(self.start)
        pieces = "".join(self.pieces)
        kind = block.get("type")
        if kind in _CALLS:
            block["input"] = pieces or block.get("input")
        elif kind in ("text", "thinking"):
            block[kind] = as_text(block.get(kind)) + pieces
        elif pieces:
            block["pieces"] = pieces
        if self.citations:
            block["citations"] = self.citations
        if self.unknown:
            block["deltas"] = self.unknown
        return block


class _Answer:
    """The message of a stream, as its events come."""

    def __init__(self) -> None:
        self.blocks: dict[int, _Block] = {}
        self.model: str | None = None
        self.usage: dict[str, int] = {}
        self.stop_reason = ""
        self.stopped = False
        self.code: str | None = None
        self.understood = False

    def add(self, event: _Event, data: bytes) -> None:
        delta = event.delta
        if event.type == "content_block_delta" and delta is not None:
            self._add_delta(event.index, delta, data)
            return
        match event.type:
            case "content_block_start":
                self.blocks[event.index] = _Block(event.content_block or {})
            case "message_start":
                message = event.message or {}
                self.model = as_text(message.get("model")) or None
                self.usage |= counters(message.get("usage"))
            case "message_delta":
                if delta is not None:
                    self.stop_reason = as_text(delta.stop_reason)
                self.usage |= counters(event.usage)
            case "message_stop":
                self.stopped = True
            case "content_block_stop" | "ping":
                pass
            case _ if event.type == "error" or event.error is not None:
                self.code = error_code({"error": event.error}) or "error"
            case _:
                return
        self.understood = True

    def reply(self, rules: OriginRules) -> ChatReply:
        finish = [self.stop_reason] if self.stop_reason else []
        return ChatReply(
            _output([block.whole() for _, block in sorted(self.blocks.items())], rules),
            model=self.model,
            usage=self.usage,
            finish=tuple(finish if self.code is None else [*finish, self.code]),
            streamed=True,
            finished=self.stopped and self.code is None,
            failed=self.code is not None,
        )

    def _add_delta(self, index: int, delta: _Delta, data: bytes) -> None:
        self.understood = True
        block = self.blocks.get(index)
        if block is None:
            block = self.blocks[index] = _Block({"type": _BLOCK_OF_DELTA.get(delta.type, "text")})
        match delta.type:
            case "text_delta":
                block.pieces.append(as_text(delta.text))
            case "input_json_delta":
                block.pieces.append(as_text(delta.partial_json))
            case "thinking_delta":
                block.pieces.append(as_text(delta.thinking))
            case "citations_delta":
                block.citations.append(delta.citation)
            case "signature_delta":
                pass
            case _:
                block.unknown.append(read_object(data).get("delta"))
