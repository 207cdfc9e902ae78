"""A small demo chat backend. It is not a model: it answers with a few fixed sentences.

It speaks OpenAI chat completions and Anthropic messages, streamed and not, closely enough for the official SDKs.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_THINKING_SECONDS = 0.02
"""No backend answers at once."""
_JSON = [(b"content-type", b"application/json")]
_STREAM = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


async def demo_backend(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI application of the demo chat backend."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return
        body += message["body"]
        if not message["more_body"]:
            break
    dialect = {"/v1/chat/completions": _openai, "/v1/messages": _anthropic}.get(scope["path"])
    if dialect is None or scope["method"] != "POST":
        await _answer(
            send, 404, _JSON, [b'{"error":{"message":"this demo backend only chats","type":"not_found"}}']
        )
        return
    try:
        request = json.loads(body)
        messages = request["messages"]
        asked = _text(messages[-1]["content"])
    except (ValueError, KeyError, IndexError, TypeError):
        await _answer(
            send, 400, _JSON, [b'{"error":{"message":"not a chat request","type":"invalid_request_error"}}']
        )
        return
    await asyncio.sleep(_THINKING_SECONDS)
    streamed = request.get("stream") is True
    pieces = list(dialect(str(request.get("model", "demo")), _reply(asked, len(messages)), streamed=streamed))
    await _answer(send, 200, _STREAM if streamed else _JSON, pieces)


async def _answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], pieces: list[bytes]) -> None:
    if headers is not _STREAM:
        headers = [*headers, (b"content-length", str(sum(map(len, pieces))).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(str(block.get("text", "")) for block in content)


def _reply(asked: str, messages: int) -> str:
    topic = asked.strip().rstrip("?.! ").split(" ")[-1] or "that"
    if messages > 1:
        return f"As we said before, {topic} deserves a second look. Which part matters most to you?"
    return f"You asked about {topic}. I am a small demo backend and no model, but I am glad to hear it."


def _words(text: str) -> Iterator[str]:
    for number, word in enumerate(text.split(" ")):
        yield word if number == 0 else f" {word}"


def _event(payload: dict[str, Any], name: str | None = None) -> bytes:
    data = f"data: {json.dumps(payload)}\n\n"
    return (f"event: {name}\n{data}" if name else data).encode()


def _openai(model: str, text: str, *, streamed: bool) -> Iterator[bytes]:
    usage = {
        "prompt_tokens": 8,
        "completion_tokens": len(text.split()),
        "total_tokens": 8 + len(text.split()),
    }
    if not streamed:
        yield json.dumps(
            {
                "id": "chatcmpl-demo",
                "object": "chat.completion",
                "created": 0,
                "model": model,
                "choices": [
                    {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
                ],
                "usage": usage,
            }
        ).encode()
        return

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _event(
            {
                "id": "chatcmpl-demo",
                "object": "chat.completion.chunk",
                "created": 0,
                "model": model,
                "choices": [choice],
            }
        )

    yield chunk({"role": "assistant", "content": ""})
    for word in _words(text):
        yield chunk({"content": word})
    yield chunk({}, "stop")
    yield b"data: [DONE]\n\n"


def _anthropic(model: str, text: str, *, streamed: bool) -> Iterator[bytes]:
    usage = {"input_tokens": 8, "output_tokens": len(text.split())}
    message = {
        "id": "msg_demo",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    if not streamed:
        yield json.dumps(message).encode()
        return
    started = {**message, "content": [], "stop_reason": None}
    yield _event({"type": "message_start", "message": started}, "message_start")
    block = {"type": "text", "text": ""}
    yield _event({"type": "content_block_start", "index": 0, "content_block": block}, "content_block_start")
    for word in _words(text):
        delta = {"type": "text_delta", "text": word}
        yield _event({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")
    yield _event({"type": "content_block_stop", "index": 0}, "content_block_stop")
    ended = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": usage,
    }
    yield _event(ended, "message_delta")
    yield _event({"type": "message_stop"}, "message_stop")
