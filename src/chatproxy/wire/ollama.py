"""Ollama's chat and generate, streamed as one JSON object a line, which is what happens unless a client says no.

1. One dialect for both, since a body says which it is: chat has ``messages``, generate a ``prompt``.
2. Calls of tools may have no ids; then a result is named by its ``tool_name``, and an unnamed one goes by the
   calls before it.
3. generate remembers by ``context``, the tokens of all that was said, which a client sends back as they came. They
   are not kept, but their digest tells which answer is continued.

The protocol has no conversation id of its own.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from chatproxy.errors import UnreadableError
from chatproxy.model import Message, Origin, Part, PartKind
from chatproxy.unshown import Unshown
from chatproxy.wire import media
from chatproxy.wire.base import ANSWER_ROLE, ChatReply, ChatRequest, Failure, OriginRules, first_new
from chatproxy.wire.failures import error_code, failed_reply
from chatproxy.wire.json_lines import is_json_lines, read_json_lines
from chatproxy.wire.json_reading import JSONReader, as_objects, as_text, json_text, read_object
from chatproxy.wire.origins import Origins, of_role, of_upload
from chatproxy.wire.usage import counters

_COUNTERS = ("prompt_eval_count", "eval_count")
_ERROR_STATUS = 400


class Ollama:
    """The dialect ``ollama``."""

    name = "ollama"

    def claims(self, method: str, path: str) -> bool:
        """Claim ``POST …/api/chat`` and ``POST …/api/generate``."""
        return method == "POST" and path.rstrip("/").endswith(("/api/chat", "/api/generate"))

    def read_request(self, body: bytes, rules: OriginRules) -> ChatRequest:
        """Read a request body. Raises UnreadableError."""
        request = read_object(body)
        raw_messages = request.get("messages")
        if isinstance(raw_messages, list):
            origins = Origins(rules)
            messages = [_message(raw, origins) for raw in raw_messages]
        elif raw_messages is None and isinstance(request.get("model"), str):
            messages = _generate_messages(request)
        else:
            raise UnreadableError("the request has neither messages nor a prompt")
        return ChatRequest(
            tuple(messages),
            first_new(messages),
            model=as_text(request.get("model")) or None,
            continues=_digest(request.get("context")),
        )

    def read_reply(self, status: int, content_type: str, body: bytes, rules: OriginRules) -> ChatReply:  # noqa: ARG002
        """Read a reply body, streamed or not. Raises UnreadableError."""
        if status >= _ERROR_STATUS:
            return failed_reply(status, body)
        if is_json_lines(content_type, body):
            return _read(read_json_lines(body, _LINES), streamed=True)
        return _read([_LINES.read(body)], streamed=False) if body else ChatReply(())

    def render_failure(self, failure: Failure) -> bytes:
        """Return the error object that Ollama's clients read."""
        return msgspec.json.encode({"error": failure.message})


# --- requests ---


def _message(raw: object, origins: Origins) -> Message:
    if not isinstance(raw, dict):
        raise UnreadableError("a message is not an object")
    role = raw.get("role")
    if not isinstance(role, str):
        raise UnreadableError("a message has no role")
    if role == "tool":
        return Message(role, (_tool_result(raw, origins),))
    parts = _said(PartKind.REASONING, raw.get("thinking"), role)
    parts += _said(PartKind.TEXT, raw.get("content"), role)
    parts += _images(raw.get("images"), role)
    calls = [_tool_call(call) for call in as_objects(raw.get("tool_calls"))]
    origins.learn([(call.body["id"], call.body["name"]) for call in calls])
    return Message(role, (*parts, *calls))


def _generate_messages(request: Mapping[str, Any]) -> list[Message]:
    """Return the messages that a request of generate stands for; a request to load a model has none."""
    prompt = _said(PartKind.TEXT, request.get("prompt"), "user")
    prompt += _said(PartKind.TEXT, request.get("suffix"), "user")
    prompt += _images(request.get("images"), "user")
    system = _said(PartKind.TEXT, request.get("system"), "system")
    spoken = (("system", system), ("user", prompt))
    return [Message(role, tuple(parts)) for role, parts in spoken if parts]


def _said(kind: PartKind, text: object, role: str) -> list[Part]:
    if text is None or text == "":
        return []
    if isinstance(text, str):
        return [Part(kind, of_role(role), {"text": text})]
    return [Part(PartKind.OTHER, of_role(role), {"value": media.without_content(text)})]


def _images(images: object, role: str) -> list[Part]:
    """Describe images: bare base64, which does not say of what type."""
    if not isinstance(images, list):
        return []
    described = [media.from_base64([image], "image/*") for image in images if isinstance(image, str)]
    return [Part(PartKind.MEDIA, of_upload(role), image) for image in described]


def _tool_call(call: Mapping[str, Any]) -> Part:
    called = call.get("function")
    called = called if isinstance(called, dict) else {}
    arguments = called.get("arguments")
    if not isinstance(arguments, str):
        arguments = "" if arguments is None else json_text(arguments)
    body = {"id": as_text(call.get("id")), "name": as_text(called.get("name")), "arguments": arguments}
    return Part(PartKind.TOOL_CALL, Origin.ASSISTANT, body)


def _tool_result(raw: Mapping[str, Any], origins: Origins) -> Part:
    ident = as_text(raw.get("tool_call_id"))
    tool = as_text(raw.get("tool_name")) or as_text(raw.get("name"))
    origin = origins.of_tool(tool) if tool and not ident else origins.of_result(ident, tool=tool or None)
    content = raw.get("content")
    body: dict[str, Any] = {"id": ident}
    if content is None or isinstance(content, str):
        body["text"] = content or ""
    else:
        body["content"] = media.without_content(content)
    return Part(PartKind.TOOL_RESULT, origin, body)


def _digest(context: object) -> str | None:
    """Return what names an answer by the tokens up to it, or None if there are none."""
    if not isinstance(context, list) or not context:
        return None
    return "context:" + hashlib.sha256(json_text(context).encode()).hexdigest()


# --- replies ---


class _Said(Unshown, frozen=True, gc=False):
    content: Any = None
    thinking: Any = None
    tool_calls: Any = None
    images: Any = None


class _Line(Unshown, frozen=True, gc=False):
    message: _Said | None = None
    response: Any = None
    thinking: Any = None
    image: Any = None
    done: Any = None
    done_reason: Any = None
    model: Any = None
    context: Any = None
    prompt_eval_count: Any = None
    eval_count: Any = None
    error: Any = None


_LINES = JSONReader(_Line)


def _read(lines: list[_Line], *, streamed: bool) -> ChatReply:
    answer = _Answer()
    for line in lines:
        answer.add(line)
        if answer.code is not None:
            break
    if lines and not answer.understood:
        raise UnreadableError("the reply has neither a message nor an error")
    last = answer.last
    return ChatReply(
        answer.output(),
        model=as_text(lines[0].model) or None if lines else None,
        usage=counters({name: getattr(last, name) for name in _COUNTERS}),
        finish=tuple(filter(None, [as_text(last.done_reason), answer.code])),
        streamed=streamed,
        finished=answer.code is None and (last.done is True or not streamed),
        failed=answer.code is not None,
        reply_ids=tuple(filter(None, [_digest(last.context)])),
    )


class _Answer:
    """The answer, as its lines come."""

    def __init__(self) -> None:
        self.last = _Line()
        self.code: str | None = None
        self.understood = False
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._images: list[Any] = []
        self._calls: list[Part] = []

    def add(self, line: _Line) -> None:
        said = line.message
        if said is not None:
            self._add(said.content, said.thinking)
            if said.tool_calls is not None:
                self._calls += [_tool_call(call) for call in as_objects(said.tool_calls)]
            if isinstance(said.images, list):
                self._images += said.images
        elif line.response is not None or line.thinking is not None or line.image is not None:
            self._add(line.response, line.thinking)
            self._images += filter(None, [line.image])
        elif line.error is not None:
            self.code = error_code({"error": line.error}) or "error"
        elif line.done is None:
            return
        self.understood = True
        self.last = line

    def output(self) -> tuple[Message, ...]:
        parts = _said(PartKind.REASONING, "".join(self._thinking), ANSWER_ROLE)
        parts += _said(PartKind.TEXT, "".join(self._text), ANSWER_ROLE)
        parts += _images(self._images, ANSWER_ROLE)
        parts += self._calls
        return (Message(ANSWER_ROLE, tuple(parts), choice=0),) if parts else ()

    def _add(self, text: object, thinking: object) -> None:
        if text.__class__ is str:
            self._text.append(text)
        if thinking is not None:
            self._thinking.append(as_text(thinking))
