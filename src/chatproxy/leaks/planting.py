"""In what is a canary planted? A chat with a word of its own in every place where something may stand, and its answers."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from typing import Any

from chatproxy.demo.backend import Receive, Scope, Send, demo_backend
from chatproxy.leaks.canaries import Canaries

IN_REQUESTS = (
    "prompt", "system prompt", "earlier answer", "tool description", "tool arguments", "tool result", "file name",
    "file content", "user", "metadata", "query", "path", "header", "user agent", "cookie", "authorization", "api key",
    "idempotency key", "session header", "unreadable body", "frame of no HTTP",
)  # fmt: skip
IN_IDENTITY = ("subject", "tenant", "conversation")
IN_ANSWERS = (
    "answer", "reasoning", "refusal", "answered tool arguments", "answered file name", "answered header",
    "answered cookie", "error message",
)  # fmt: skip
IN_SETTINGS = ("identity secret", "admin token")
BY_THE_WAY = (
    "guessed link",
    "guessed token",
    "guessed cursor",
    "guessed page",
    "imported id",
    "forged header",
)
NAMES = (*IN_REQUESTS, *IN_IDENTITY, *IN_ANSWERS, *IN_SETTINGS, *BY_THE_WAY)
"""Everything that a canary is planted in."""

SLOW_SECONDS = 60.0
PATHS = ("/v1/chat/completions", "/v1/messages")


def request_body(canaries: Canaries, case: str, *, streamed: bool = False, path: str = PATHS[0]) -> bytes:
    """Return the body of a chat whose answer is that of *case*."""
    attached = base64.b64encode(canaries["file content"].encode()).decode()
    asked: list[dict[str, Any]] = [{"type": "text", "text": f"{canaries['prompt']} {case}"}]
    body: dict[str, Any] = {"model": case, "max_tokens": 99, "stream": streamed}
    if path == PATHS[0]:
        call = {"name": "look_up", "arguments": json.dumps({"q": canaries["tool arguments"]})}
        asked.append({"type": "file", "file": {"filename": canaries["file name"], "file_data": attached}})
        body |= {
            "user": canaries["user"],
            "metadata": {"note": canaries["metadata"]},
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "look_up", "description": canaries["tool description"]},
                }
            ],
            "messages": [
                {"role": "system", "content": canaries["system prompt"]},
                {"role": "user", "content": "earlier"},
                {
                    "role": "assistant",
                    "content": canaries["earlier answer"],
                    "tool_calls": [{"id": "1", "type": "function", "function": call}],
                },
                {"role": "tool", "tool_call_id": "1", "content": canaries["tool result"]},
                {"role": "user", "content": asked},
            ],
        }
    else:
        body |= {
            "metadata": {"user_id": canaries["user"]},
            "system": canaries["system prompt"],
            "messages": [{"role": "user", "content": asked}],
        }
    return json.dumps(body).encode()


def headers(canaries: Canaries) -> dict[str, str]:
    """Return the headers of a person's chat, through a front that is trusted."""
    return {
        "content-type": "application/json",
        "user-agent": canaries["user agent"],
        "cookie": f"session={canaries['cookie']}",
        "authorization": f"Bearer {canaries['authorization']}",
        "x-api-key": canaries["api key"],
        "x-other": canaries["header"],
        "x-session-id": canaries["session header"],
        "x-chat-subject": canaries["subject"],
        "x-chat-tenant": canaries["tenant"],
        "x-chat-conversation": canaries["conversation"],
        "x-chat-plan": "pro",
        "x-chat-auth": canaries["identity secret"],
    }


def backend_with(canaries: Canaries, seen: bytearray) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return a chat backend that answers with canaries, or fails as the model that is asked for says; *seen*: its requests."""

    async def backend(scope: Scope, receive: Receive, send: Send) -> None:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message["body"]
            if not message["more_body"]:
                break
        seen.extend(scope.get("query_string", b"") + scope["path"].encode())
        seen.extend(b"\n".join(name + b": " + value for name, value in scope["headers"]) + bytes(body))
        case = _case(bytes(body))
        if case == "demo":

            async def again() -> dict[str, Any]:
                return {"type": "http.request", "body": bytes(body), "more_body": False}

            await demo_backend(scope, again, send)
            return
        await _answer(case, canaries, send)

    return backend


async def _answer(case: str, canaries: Canaries, send: Send) -> None:
    sent = [
        (b"content-type", b"text/event-stream" if case.startswith("stream") else b"application/json"),
        (b"x-answered", canaries["answered header"].encode()),
        (b"set-cookie", b"backend=" + canaries["answered cookie"].encode()),
    ]
    if case == "silent":
        await asyncio.sleep(SLOW_SECONDS)
    status = {"refused": 400, "failed": 500}.get(case, 200)
    await send({"type": "http.response.start", "status": status, "headers": sent})
    if status != 200:  # noqa: PLR2004 - not well
        error = {"error": {"message": canaries["error message"], "type": "invalid_request_error"}}
        await send({"type": "http.response.body", "body": json.dumps(error).encode()})
        return
    if not case.startswith("stream"):
        message = {"role": "assistant", "content": canaries["answer"], **_more(canaries)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        content = json.dumps({"id": "x", "model": case, "choices": [choice]}).encode()
        await send({"type": "http.response.body", "body": content})
        return
    for delta in ({"content": canaries["answer"]}, _more(canaries)):
        event = {"id": "x", "model": case, "choices": [{"index": 0, "delta": delta}]}
        content = b"data: " + json.dumps(event).encode() + b"\n\n"
        await send({"type": "http.response.body", "body": content, "more_body": True})
    if case == "stream-stalled":
        await asyncio.sleep(SLOW_SECONDS)
    if case == "stream-cut":
        raise ConnectionAbortedError  # the server closes the connection without an end
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


def _more(canaries: Canaries) -> dict[str, Any]:
    arguments = {"q": canaries["answered tool arguments"], "file": canaries["answered file name"]}
    call = {"index": 0, "id": "2", "type": "function"}
    return {
        "reasoning_content": canaries["reasoning"],
        "refusal": canaries["refusal"],
        "tool_calls": [call | {"function": {"name": "look_up", "arguments": json.dumps(arguments)}}],
    }


def _case(body: bytes) -> str:
    try:
        return str(json.loads(body)["model"])
    except (ValueError, KeyError, TypeError):
        return "well"
