"""The public listener: everything is the upstream's, except one prefix that is chatproxy's own."""

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from chatproxy.web.proxy import Proxy, Receive, Scope, Send

PREFIX = "/_chatproxy/"


class Public:
    """ASGI application that routes by prefix: the pages of the data subject come from a router, chats do not."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy
        self._pages = Starlette(routes=[Route("/{path:path}", _no_page, methods=None)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["path"].startswith(PREFIX) or scope["path"] == PREFIX[:-1]:
            await self._pages(scope, receive, send)  # type: ignore[arg-type]
        else:
            await self._proxy(scope, receive, send)


async def _no_page(_: Request) -> Response:
    message = (
        "chatproxy has no page here in this version; paths under /_chatproxy/ never reach the chat backend"
    )
    return JSONResponse({"error": {"message": message, "type": "not_found"}}, status_code=404)
