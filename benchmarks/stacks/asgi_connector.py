"""A plain ASGI callable, with chatproxy's own connector, header rules and target check."""

from chatproxy.forwarding import UpstreamAddress, request_head, upstream_target
from chatproxy.web.upstream import Upstream
from stacks.serving import UPSTREAM_PORT, serve

address = UpstreamAddress.parse(f"http://127.0.0.1:{UPSTREAM_PORT or 9}")
upstream = Upstream(address, connect_timeout=5, head_timeout=60, idle_timeout=60)
IDENTITY = frozenset((b"x-chat-subject", b"x-chat-auth"))


async def app(scope, receive, send):
    message = await receive()
    head = request_head(scope["headers"], authority=address.authority, drop=IDENTITY)
    call = await upstream.start(
        scope["method"].encode(),
        upstream_target(scope["raw_path"], base_path=address.base_path),
        head.headers,
        length=head.length,
        body=message["body"],
        more_body=message["more_body"],
    )
    while call.wants_body:
        message = await receive()
        call.write(message["body"], more_body=message["more_body"])
        await call.drain()
    answer = await call.head()
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    more = True
    while more:
        piece, more = await call.read()
        await send({"type": "http.response.body", "body": piece, "more_body": more})


if __name__ == "__main__":
    serve(app)
