"""Starlette's Request and StreamingResponse, with httpx: how most Python gateways are built."""

import httpx
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

from stacks.serving import UPSTREAM_PORT, serve

client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{UPSTREAM_PORT}", trust_env=False, timeout=60)


async def relay(request):
    headers = [(name, value) for name, value in request.headers.raw if name != b"host"]
    outgoing = client.build_request(
        request.method, request.url.path, headers=headers, content=await request.body()
    )
    answer = await client.send(outgoing, stream=True)
    kept = {name: value for name, value in answer.headers.items() if name != "transfer-encoding"}

    async def pieces():
        async for piece in answer.aiter_raw():
            yield piece
        await answer.aclose()

    return StreamingResponse(pieces(), answer.status_code, kept)


app = Starlette(routes=[Route("/{path:path}", relay, methods=["POST"])])

if __name__ == "__main__":
    serve(app)
