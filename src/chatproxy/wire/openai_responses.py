"""OpenAI responses: input and output as items, of which messages are only one kind.

1. Items that the model made (messages, reasoning, calls) are the assistant's, one after the other one answer; what
   clients answer calls with is role ``tool``. Tools that the backend runs itself (web search, code interpreter …)
   are a call named after the item and, where it holds one, a result.
2. What MCP servers returned (``mcp_call``) is a connector's raw data, whatever the rules for tool names say (R25).
3. ``previous_response_id`` and references to items continue what the backend remembers: the history is not sent
   again, so the names that a reply gives are how the next request finds it.
4. A stream's last event holds the whole response, which is read if it came; else it is what its deltas say.
5. Encrypted reasoning and compactions say nothing that can be read: not kept, but that there was some is. Lists of
   tools are definitions, no conversation. Items of a type unknown here are kept as JSON (kind ``other``).
6. A response made in the background is asked for later by its id, which is no chat: its answer is not seen.
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
    429: "rate_limit_error",
    500: "server_error",
}
_ERROR_STATUS = 400
_TEXTS = ("input_text", "output_text", "text")
_REFERENCE = "item_reference"
_DEFINITIONS = ("additional_tools", "mcp_list_tools")
_ASKED_OF_TOOLS = {
    "apply_patch_call": "operation",
    "code_interpreter_call": "code",
    "computer_call": "action",
    "file_search_call": "queries",
    "image_generation_call": "revised_prompt",
    "local_shell_call": "action",
    "shell_call": "action",
    "tool_search_call": "arguments",
    "web_search_call": "action",
}
"""The member of a built-in tool's call that says what is asked of it."""
_FOUND_BY_TOOLS = {"code_interpreter_call": "outputs", "file_search_call": "results"}
"""The member that holds what the backend found, where it is part of the call."""
_BACKEND_RAN = frozenset({"shell_call_output", "tool_search_output", "program_output"})
"""Results that backends make themselves too, which then have an id."""


class OpenAIResponses:
    """The dialect ``openai_responses``."""

    name = "openai_responses"

    def claims(self, method: str, path: str) -> bool:
        """Claim ``POST …/responses``, and nothing below it (``…/resp_1/cancel``, ``…/compact``)."""
        return method == "POST" and path.rstrip("/").endswith("/responses")

    def read_request(self, body: bytes, rules: OriginRules) -> ChatRequest:
        """Read a request body. Raises UnreadableError."""
        request = read_object(body)
        items = request.get("input")
        if isinstance(items, str):
            items = [{"role": "user", "content": items}]
        if items is None and isinstance(request.get("prompt"), dict):
            items = []
        if not isinstance(items, list):
            raise UnreadableError("the request has no input")
        origins = Origins(rules)
        messages = _instructions(request, origins)
        references: dict[int, str] = {}
        for item in items:
            message = _message(item, origins)
            if message is not None:
                references[len(messages)] = _referred_to(item)
                messages.append(message)
        new_from = first_new(messages)
        referred = [ident for index, ident in references.items() if index < new_from and ident]
        previous = as_text(request.get("previous_response_id"))
        return ChatRequest(
            tuple(messages),
            # Instructions are repeated with each request: they are new only where there was none before.
            max(new_from, bool(request.get("instructions"))) if previous else new_from,
            model=as_text(request.get("model")) or None,
            conversation=_conversation(request.get("conversation")),
            continues=previous or (referred[-1] if referred else None),
        )

    def read_reply(self, status: int, content_type: str, body: bytes, rules: OriginRules) -> ChatReply:
        """Read a reply body, streamed or not. Raises UnreadableError."""
        if status >= _ERROR_STATUS:
            return failed_reply(status, body)
        if is_event_stream(content_type, body):
            return _read_stream(body, rules)
        return _read_whole(body, rules) if body else ChatReply(())

    def render_failure(self, failure: Failure) -> bytes:
        """Return the error object that OpenAI's clients read."""
        error = {
            "message": failure.message,
            "type": type_of_status(_ERROR_TYPES, failure.status),
            "param": None,
            "code": failure.code,
        }
        return msgspec.json.encode({"error": error})


# --- items, as requests and replies hold them ---


def _instructions(request: Mapping[str, Any], origins: Origins) -> list[Message]:
    """Return what stands before the conversation. Words that fill a stored prompt may be the person's own."""
    messages: list[Message] = []
    instructions = request.get("instructions")
    if instructions:
        messages.append(Message("system", tuple(_content(instructions, "system", origins))))
    prompt = request.get("prompt")
    if isinstance(prompt, dict):
        filled = Part(PartKind.OTHER, Origin.TYPED, {"type": "prompt", **media.without_content(prompt)})
        messages.append(Message("developer", (filled,)))
    return messages


def _conversation(value: object) -> str | None:
    return as_text(value.get("id") if isinstance(value, dict) else value) or None


def _message(item: object, origins: Origins) -> Message | None:
    """Read one item of the input as a message; None for definitions."""
    if not isinstance(item, dict):
        raise UnreadableError("an item of the input is not an object")
    if ident := _referred_to(item):
        item = {"type": _REFERENCE, "id": ident}
    kind = item.get("type")
    if kind in _DEFINITIONS:
        return None
    role = item.get("role")
    if kind is None or kind == "message":
        if not isinstance(role, str):
            raise UnreadableError("a message has no role")
    elif not isinstance(role, str):
        role = _role_of(item, as_text(kind))
    return Message(role, tuple(_parts(item, role, origins)))


def _referred_to(item: object) -> str:
    """Return the id of the item that *item* stands for, or "" if it stands for itself. Its type may be left out."""
    if not isinstance(item, dict):
        return ""
    refers = item.get("type") == _REFERENCE or (item.get("type") is None and item.keys() <= {"type", "id"})
    return as_text(item.get("id")) if refers else ""


def _role_of(item: Mapping[str, Any], kind: str) -> str:
    if kind == "mcp_approval_response":
        return "user"
    if kind.endswith("_output") and not (kind in _BACKEND_RAN and item.get("id")):
        return "tool"
    return ANSWER_ROLE


def _parts(item: Mapping[str, Any], role: str, origins: Origins) -> Sequence[Part]:
    """Read one item that is no definition, by the rules for its type."""
    return origins.of_block(kinds_of(item, item.get("output")), _item(item, role, origins))


def _item(item: Mapping[str, Any], role: str, origins: Origins) -> Sequence[Part]:
    kind = as_text(item.get("type"))
    match kind:
        case "" | "message":
            return _content(item.get("content"), role, origins)
        case "reasoning":
            return _reasoning(item)
        case "function_call":
            return _call(item, as_text(item.get("name")), item.get("arguments"), origins)
        case "custom_tool_call":
            return _call(item, as_text(item.get("name")), item.get("input"), origins)
        case "mcp_call":
            return _mcp_call(item, origins)
        case "compaction":
            return [Part(PartKind.OTHER, of_role(role), {"type": kind})]
    if kind in _ASKED_OF_TOOLS:
        return _built_in_call(item, kind, origins)
    if kind.endswith("_output"):
        tool = as_text(item.get("name")) or kind.removesuffix("_output").removesuffix("_call")
        ident = as_text(item.get("call_id")) or as_text(item.get("id"))
        named = None if tool in ("function", "custom_tool") else tool
        return [_result(ident, item.get("output"), origins.of_result(ident, tool=named))]
    unsaid = ("status",) if kind == _REFERENCE else ("id", "status")
    said = {name: value for name, value in item.items() if name not in unsaid}
    return [Part(PartKind.OTHER, of_role(role), media.without_content(said))]


def _reasoning(item: Mapping[str, Any]) -> list[Part]:
    texts = [
        text
        for name in ("summary", "content")
        for piece in as_objects(item.get(name))
        if (text := as_text(piece.get("text")))
    ]
    parts = [Part(PartKind.REASONING, Origin.ASSISTANT, {"text": text}) for text in texts]
    if not parts and item.get("encrypted_content"):
        parts.append(Part(PartKind.REASONING, Origin.ASSISTANT, {"text": "", "redacted": True}))
    return parts


def _content(content: object, role: str, origins: Origins) -> list[Part]:
    if content is None or content == "":
        return []
    blocks = content if isinstance(content, list) else [content]
    return [part for block in blocks for part in origins.of_block(kinds_of(block), _block(block, role))]


def _block(block: object, role: str) -> Sequence[Part]:
    said = _said(block, role)
    if said is not None:
        return said
    if described := _media(block):
        return [Part(PartKind.MEDIA, of_upload(role), described)]
    body = media.without_content(block)
    return [Part(PartKind.OTHER, of_role(role), body if isinstance(block, dict) else {"value": body})]


def _said(block: object, role: str) -> Sequence[Part] | None:
    if isinstance(block, str):
        return [Part(PartKind.TEXT, of_role(role), {"text": block})]
    # No pattern, each of which takes as long as all the rest: long histories are texts.
    if isinstance(block, dict) and block.get("type") in _TEXTS and isinstance(block.get("text"), str):
        return text_block(block, role, cited="annotations")
    match block:
        case {"type": "refusal", "refusal": str(text)}:
            return [Part(PartKind.REFUSAL, of_role(role), {"text": text})] if text else []
        case {"type": "output_audio", "transcript": str(text), **more}:
            sound = media.from_base64([as_text(more.get("data"))], "audio/*")
            spoken = Part(PartKind.TEXT, of_role(role), {"text": text})
            return [Part(PartKind.MEDIA, of_upload(role), sound), spoken]
    return None


def _media(block: object) -> dict[str, Any] | None:
    """Describe the image, sound or file that *block* is; None if it is none of these."""
    match block:
        case {"type": "input_image" | "computer_screenshot", "image_url": str(url)}:
            return media.from_url(url, "image/*")
        case {"type": "input_file", "file_data": str(data)}:
            mime = "application/octet-stream"
            return media.from_url(data, mime) if data[:5] == "data:" else media.from_base64([data], mime)
        case {"type": "input_file", "file_url": str(url)}:
            return media.from_url(url, "application/octet-stream")
        case {"type": "input_image" | "input_file" | "computer_screenshot" as kind, "file_id": str(ident)}:
            return {"mime": "" if kind == "input_file" else "image/*", "file_id": ident}
        case {"type": "input_audio", "input_audio": {"data": str(data), **more}}:
            return media.from_base64([data], f"audio/{as_text(more.get('format')) or '*'}")
    return None


def _call(item: Mapping[str, Any], name: str, arguments: object, origins: Origins, **more: str) -> list[Part]:
    ident = as_text(item.get("call_id")) or as_text(item.get("id"))
    if not isinstance(arguments, str):
        arguments = "" if arguments is None else json_text(arguments)
    origins.learn([(ident, name)])
    body = {"id": ident, "name": name, "arguments": arguments, **more}
    return [Part(PartKind.TOOL_CALL, Origin.ASSISTANT, body)]


def _mcp_call(item: Mapping[str, Any], origins: Origins) -> list[Part]:
    server = as_text(item.get("server_label"))
    parts = _call(
        item,
        as_text(item.get("name")),
        item.get("arguments"),
        origins,
        **({"server": server} if server else {}),
    )
    ident = parts[0].body["id"]
    output, error = item.get("output"), item.get("error")
    if output is not None:
        parts.append(_result(ident, output, Origin.CONNECTOR_RAW))
    if error is not None:
        failed = _result(ident, error, Origin.CONNECTOR_RAW)
        parts.append(Part(failed.kind, failed.origin, {**failed.body, "is_error": True}))
    return parts


def _built_in_call(item: Mapping[str, Any], kind: str, origins: Origins) -> list[Part]:
    """Read the call of a tool that needs no definition, and what the backend found with it."""
    tool = kind.removesuffix("_call")
    asked = item.get(_ASKED_OF_TOOLS[kind])
    if kind == "computer_call" and asked is None:
        asked = item.get("actions")
    parts = _call(item, tool, asked, origins)
    found = item.get(_FOUND_BY_TOOLS.get(kind, ""))
    if found is not None:
        parts.append(_result(parts[0].body["id"], found, origins.of_tool(tool)))
    if kind == "image_generation_call" and isinstance(item.get("result"), str):
        mime = f"image/{as_text(item.get('output_format')) or '*'}"
        parts.append(Part(PartKind.MEDIA, Origin.ASSISTANT, media.from_base64([item["result"]], mime)))
    return parts


def _result(ident: str, output: object, origin: Origin) -> Part:
    match output:
        case None | str():
            body: dict[str, Any] = {"id": ident, "text": output or ""}
        case [{"type": "input_text" | "output_text" | "text", "text": str(text)}]:
            body = {"id": ident, "text": text}
        case [*items]:
            body = {"id": ident, "content": [_result_item(item) for item in items]}
        case _:
            body = {"id": ident, "content": _result_item(output)}
    return Part(PartKind.TOOL_RESULT, origin, body)


def _result_item(item: object) -> object:
    match item:
        case {"type": "input_text" | "output_text" | "text", "text": str(text)}:
            return {"type": "text", "text": text}
    described = _media(item)
    return {"type": "media", **described} if described else media.without_content(item)


# --- whole replies ---


class _Response(Unshown, frozen=True, gc=False):
    id: Any = None
    status: Any = None
    model: Any = None
    output: Any = None
    usage: Any = None
    error: Any = None
    incomplete_details: Any = None
    conversation: Any = None


_RESPONSES = JSONReader(_Response)


def _read_whole(body: bytes, rules: OriginRules) -> ChatReply:
    response = _RESPONSES.read(body)
    if not isinstance(response.output, list):
        reply = read_object(body)
        if is_error(reply):
            return ChatReply((), finish=(error_code(reply) or "error",), failed=True)
        raise UnreadableError("the reply has neither output nor an error")
    return _reply(response, response.output, rules, streamed=False)


def _reply(
    response: _Response, items: list[Any], rules: OriginRules, *, streamed: bool, code: str | None = None
) -> ChatReply:
    """Return what *response* says by *items*. *code*: of the error that ended the stream."""
    objects = as_objects(items)
    finish: list[str] = []
    if code is None:
        finish, code = _finish(response)
    ids = [as_text(response.id), as_text(objects[-1].get("id")) if objects else ""]
    return ChatReply(
        _output(objects, rules),
        model=as_text(response.model) or None,
        usage=counters(response.usage),
        finish=tuple(finish if code is None else [*finish, code]),
        streamed=streamed,
        finished=code is None and (bool(finish) or not streamed),
        failed=code is not None,
        conversation=_conversation(response.conversation),
        reply_ids=tuple(filter(None, ids)),
    )


def _finish(response: _Response) -> tuple[list[str], str | None]:
    """Return why a response ended, where it has; and the code of its error, if it failed."""
    status = as_text(response.status)
    if status == "failed":
        return [], error_code({"error": response.error}) or "failed"
    if status == "incomplete" and isinstance(response.incomplete_details, dict):
        return [as_text(response.incomplete_details.get("reason")) or status], None
    return [status] if status not in ("", "in_progress", "queued") else [], None


def _output(items: list[dict[str, Any]], rules: OriginRules) -> tuple[Message, ...]:
    origins = Origins(rules)
    parts = tuple(
        part
        for item in items
        if item.get("type") not in _DEFINITIONS
        for part in _parts(item, ANSWER_ROLE, origins)
    )
    return (Message(ANSWER_ROLE, parts, choice=0),) if parts else ()


# --- streams ---


class _Event(Unshown, frozen=True, gc=False):
    type: str = ""
    output_index: int = 0
    content_index: int = 0
    summary_index: int = 0
    delta: Any = None
    text: Any = None
    refusal: Any = None
    arguments: Any = None
    input: Any = None
    code: Any = None
    item: dict[str, Any] | None = None
    annotation: Any = None
    response: _Response | None = None
    error: Any = None


_EVENTS = JSONReader(_Event)

_PIECES = {
    "response.output_text": ("message", "output_text", "text"),
    "response.refusal": ("message", "refusal", "refusal"),
    "response.reasoning_text": ("reasoning", "reasoning_text", "text"),
    "response.reasoning_summary_text": ("reasoning", "summary_text", "text"),
    "response.function_call_arguments": ("function_call", "arguments", "arguments"),
    "response.mcp_call_arguments": ("mcp_call", "arguments", "arguments"),
    "response.custom_tool_call_input": ("custom_tool_call", "input", "input"),
    "response.code_interpreter_call_code": ("code_interpreter_call", "code", "code"),
}
"""By the beginning of an event's type: type of the item, what the piece is of, member that holds it once it is whole."""
_DELTAS = {f"{beginning}.delta": (kind, what) for beginning, (kind, what, _) in _PIECES.items()}
_DONE = {f"{beginning}.done": which for beginning, which in _PIECES.items()}
_LAST = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


def _read_stream(body: bytes, rules: OriginRules) -> ChatReply:
    stream = read_event_stream(body)
    if stream.foreign and not stream.data:
        raise UnreadableError("the reply is no event stream")
    datas = [
        data for data in stream.data if data and data[:6] != b"[DONE]"
    ]  # some compatible backends send it
    answer = _Answer()
    for event in _EVENTS.read_all(datas):
        answer.add(event)
        if answer.has_ended:
            break
    if datas and not answer.understood:
        raise UnreadableError("no event of the stream is one of a response")
    return answer.reply(rules)


class _Item:
    """One item of the output, as its pieces come."""

    __slots__ = ("annotations", "is_whole", "pieces", "start")

    def __init__(self, start: dict[str, Any]) -> None:
        self.start = start
        self.is_whole = False
        self.pieces: dict[tuple[str, int], list[str]] = {}
        self.annotations: dict[int, list[Any]] = {}

    def whole(self) -> dict[str, Any]:
        """Return the item as a reply that is no stream would have it."""
        if self.is_whole or not self.pieces:
            return self.start
        said = {
            which: "".join(pieces)
            for which, pieces in sorted(self.pieces.items(), key=lambda each: each[0][1])
        }
        match self.start.get("type"):
            case "message":
                content = [self._said(what, index, text) for (what, index), text in said.items()]
                return {**self.start, "content": content}
            case "reasoning":
                summary = [{"text": text} for (what, _), text in said.items() if what == "summary_text"]
                content = [{"text": text} for (what, _), text in said.items() if what == "reasoning_text"]
                return {**self.start, "summary": summary, "content": content}
        return {**self.start, **{what: text for (what, _), text in said.items()}}

    def _said(self, what: str, index: int, text: str) -> dict[str, Any]:
        if what == "refusal":
            return {"type": what, "refusal": text}
        return {"type": what, "text": text, "annotations": self.annotations.get(index, [])}


class _Answer:
    """The response of a stream, as its events come."""

    def __init__(self) -> None:
        self.understood = False
        self.has_ended = False
        self._response = _Response()
        self._items: dict[int, _Item] = {}
        self._code: str | None = None

    def add(self, event: _Event) -> None:
        piece = _DELTAS.get(event.type)
        if piece is not None:
            self.understood = True
            self._pieces(event, *piece).append(as_text(event.delta))
            return
        done = _DONE.get(event.type)
        if done is not None:
            kind, what, member = done
            pieces = self._pieces(event, kind, what)
            if not pieces:
                pieces.append(as_text(getattr(event, member)))
        elif event.type == "response.output_item.added" and event.item is not None:
            self._items.setdefault(event.output_index, _Item(event.item))
        elif event.type == "response.output_item.done" and event.item is not None:
            item = self._items[event.output_index] = _Item(event.item)
            item.is_whole = True
        elif event.type == "response.output_text.annotation.added":
            item = self._item(event.output_index, "message")
            item.annotations.setdefault(event.content_index, []).append(event.annotation)
        elif event.response is not None:
            self._response = event.response
            self.has_ended = event.type in _LAST
        elif event.type == "error" or event.error is not None:
            self._code = error_code({"error": event.error or {"code": event.code}}) or "error"
            self.has_ended = True
        elif not event.type.startswith("response."):
            return
        self.understood = True

    def reply(self, rules: OriginRules) -> ChatReply:
        """Return what was said: by the last event, if it says so, else by the pieces."""
        whole = self._response.output if self.has_ended else None
        items = whole or [item.whole() for _, item in sorted(self._items.items())]
        return _reply(
            self._response,
            items if isinstance(items, list) else [],
            rules,
            streamed=True,
            code=self._code,
        )

    def _pieces(self, event: _Event, kind: str, what: str) -> list[str]:
        index = event.summary_index if what == "summary_text" else event.content_index
        return self._item(event.output_index, kind).pieces.setdefault((what, index), [])

    def _item(self, index: int, kind: str) -> _Item:
        item = self._items.get(index)
        if item is None:
            item = self._items[index] = _Item({"type": kind})
        return item
