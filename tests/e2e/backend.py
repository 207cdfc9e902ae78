"""The demo chat backend, and what it does not do: stall in the middle of an answer, and speak other dialects."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from chatproxy.demo.backend import Receive, Scope, Send, demo_backend
from chatproxy.web.client_call import asgi
from chatproxy.web.server import Listener

STALL = "Please stall."
"""Who says this gets three words of an answer, and then nothing until they leave."""
_WORDS = 3
_WORD = (b'"delta": {"content": "', b'"type": "text_delta"')
"""What the demo backend writes with each word, in either dialect."""


async def backend(scope: Scope, receive: Receive, send: Send) -> None:
    body = await _body(receive)
    other = {"/api/chat": _ollama, "/v1/responses": _responses}.get(scope["path"])
    if other is not None:
        await other(json.loads(body), send)
        return
    told = False

    async def receive_again() -> dict[str, Any]:
        nonlocal told
        if not told:
            told = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    if _last_said(body) == STALL:
        await demo_backend(scope, receive_again, _stalling(send, receive))
    else:
        await demo_backend(scope, receive_again, send)


def _last_said(body: bytes) -> str:
    try:
        content = json.loads(body)["messages"][-1]["content"]
    except (ValueError, KeyError):
        return ""
    return str(content if isinstance(content, str) else content[-1].get("text", ""))


def _stalling(send: Send, receive: Receive) -> Send:
    words = 0

    async def send_some(message: dict[str, Any]) -> None:
        nonlocal words
        if words < _WORDS:
            piece = message.get("body", b"")
            words += any(says in piece for says in _WORD)
            await send(message)
        elif words == _WORDS:
            words += 1
            while (await receive())["type"] != "http.disconnect":
                pass

    return send_some


async def _ollama(request: dict[str, Any], send: Send) -> None:
    words = _words("Ollama", request["messages"])
    at = {"model": request["model"], "created_at": "2026-01-01T00:00:00Z"}
    end = {"done": True, "done_reason": "stop", "prompt_eval_count": 8, "eval_count": len(words)}
    if request.get("stream", True):
        kind = b"application/x-ndjson"
        lines = [{**at, "message": {"role": "assistant", "content": word}, "done": False} for word in words]
        lines.append({**at, "message": {"role": "assistant", "content": ""}, **end})
    else:
        kind = b"application/json; charset=utf-8"
        lines = [{**at, "message": {"role": "assistant", "content": "".join(words)}, **end}]
    await _answer(send, kind, [json.dumps(line).encode() + b"\n" for line in lines])


async def _responses(request: dict[str, Any], send: Send) -> None:
    words = _words("a backend of responses", request["input"])
    part = {"type": "output_text", "text": "".join(words), "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    response: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_767_225_600,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "model": request["model"],
        "output": [item],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 8,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": len(words),
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 8 + len(words),
        },
    }
    if not request.get("stream"):
        await _answer(send, b"application/json", [json.dumps(response).encode()])
        return
    begun = {**response, "status": "in_progress", "output": [], "usage": None}
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    opened = {**item, "status": "in_progress", "content": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": opened},
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        *({"type": "response.output_text.delta", **place, "delta": word, "logprobs": []} for word in words),
        {"type": "response.output_text.done", **place, "text": part["text"], "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": response},
    ]
    for number, event in enumerate(events):
        event["sequence_number"] = number
    lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
    await _answer(send, b"text/event-stream", lines)


def _words(name: str, messages: list[Any]) -> list[str]:
    return [f"As {name} says, number {len(messages)}", " is", " a", " good", " number", "."]


async def _answer(send: Send, kind: bytes, pieces: list[bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _body(receive: Receive) -> bytes:
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    return body


@asynccontextmanager
async def running_backend() -> AsyncIterator[str]:
    """Run it on a port of its own and yield its base URL."""
    listener = Listener(asgi(backend), host="127.0.0.1", port=0, setting="the backend", drain_seconds=0)
    await listener.start()
    try:
        yield listener.url
    finally:
        await listener.stop()
