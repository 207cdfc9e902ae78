"""A plain ASGI callable, with aiohttp's client."""

import aiohttp
from yarl import URL

from stacks.serving import UPSTREAM_PORT, serve

state = {}


async def app(scope, receive, send):
    if not state:
        connector = aiohttp.TCPConnector(limit=0)
        state["session"] = aiohttp.ClientSession(connector=connector, auto_decompress=False)
    body = b""
    more = True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    headers = {
        name.decode("latin-1"): value.decode("latin-1")
        for name, value in scope["headers"]
        if name not in {b"host", b"content-length"}
    }
    url = URL(f"http://127.0.0.1:{UPSTREAM_PORT}{scope['raw_path'].decode()}", encoded=True)
    async with state["session"].request(scope["method"], url, headers=headers, data=body) as answer:
        kept = [header for header in answer.raw_headers if header[0].lower() != b"transfer-encoding"]
        await send({"type": "http.response.start", "status": answer.status, "headers": kept})
        async for piece in answer.content.iter_any():
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


if __name__ == "__main__":
    serve(app)
