"""A plain ASGI callable, with httpx."""

import httpx

from stacks.serving import UPSTREAM_PORT, serve

client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{UPSTREAM_PORT}", trust_env=False, timeout=60)


async def app(scope, receive, send):
    body = b""
    more = True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    headers = [header for header in scope["headers"] if header[0] != b"host"]
    outgoing = client.build_request(scope["method"], scope["path"], headers=headers, content=body)
    answer = await client.send(outgoing, stream=True)
    kept = [header for header in answer.headers.raw if header[0].lower() != b"transfer-encoding"]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": kept})
    async for piece in answer.aiter_raw():
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
    await answer.aclose()


if __name__ == "__main__":
    serve(app)
