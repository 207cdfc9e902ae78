"""The public listener: everything is the upstream's, except one prefix that is chatproxy's own."""

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from chatproxy.web.proxy import Proxy, Receive, Scope, Send
from chatproxy.wire import DIALECTS
from chatproxy.wire.base import Failure

PREFIX = "/_chatproxy/"
_NO_PAGE = "chatproxy has no page here in this version; paths under /_chatproxy/ never reach the chat backend"


class Public:
    """ASGI application that routes by prefix: the pages of the data subject come from a router, chats do not."""

    def __init__(self, proxy: Proxy, *, new_request_id: Callable[[], str]) -> None:
        async def no_page(_: Request) -> Response:
            failure = Failure(404, "not_found", _NO_PAGE, new_request_id())
            body = DIALECTS[0].render_failure(failure)
            headers = {"x-request-id": failure.request_id}
            return Response(body, status_code=404, media_type="application/json", headers=headers)

        self._proxy = proxy
        self._pages = Starlette(routes=[Route("/{path:path}", no_page, methods=None)])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["path"].startswith(PREFIX) or scope["path"] == PREFIX[:-1]:
            await self._pages(scope, receive, send)  # type: ignore[arg-type]
        else:
            await self._proxy(scope, receive, send)
