"""A plain ASGI callable, with chatproxy's own connector, header rules and target check."""

import asyncio

from chatproxy.forwarding import UpstreamAddress, request_head, upstream_target
from chatproxy.web.upstream import Upstream
from stacks.serving import UPSTREAM_PORT, serve

address = UpstreamAddress.parse(f"http://127.0.0.1:{UPSTREAM_PORT or 9}")
upstream = Upstream(address, connect_timeout=5, head_timeout=60, idle_timeout=60)
IDENTITY = frozenset((b"x-chat-subject", b"x-chat-auth"))


class Answer:
    """What has arrived, as messages of ASGI."""

    def __init__(self):
        self.messages = asyncio.Queue()

    def begun(self, head):
        self.messages.put_nowait(
            {"type": "http.response.start", "status": head.status, "headers": head.headers}
        )

    def body(self, pieces, *, more_body):
        body = b"".join(pieces)
        if body or not more_body:
            self.messages.put_nowait({"type": "http.response.body", "body": body, "more_body": more_body})


async def app(scope, receive, send):
    message = await receive()
    head = request_head(scope["headers"], authority=address.authority, drop=IDENTITY)
    answer = Answer()
    call = await upstream.start(
        scope["method"].encode(),
        upstream_target(scope["raw_path"], base_path=address.base_path),
        head.headers,
        answer,
        length=head.length,
        body=message["body"],
        more_body=message["more_body"],
    )
    while call.wants_body:
        message = await receive()
        call.write(message["body"], more_body=message["more_body"])
        await call.drain()
    message = {"more_body": True}
    while message.get("more_body", True):
        message = await answer.messages.get()
        await send(message)


if __name__ == "__main__":
    serve(app)
