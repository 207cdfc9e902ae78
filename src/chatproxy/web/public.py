"""The public listener: everything is the upstream's, except one prefix that is chatproxy's own."""

from chatproxy.web.own import Own
from chatproxy.web.person_session import PREFIX
from chatproxy.web.proxy import Proxy, Receive, Scope, Send


class Public:
    """ASGI application that routes by prefix: the pages of the data subject come from a router, chats do not."""

    def __init__(self, proxy: Proxy, own: Own) -> None:
        self._proxy = proxy
        self._own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["path"].startswith(PREFIX) or scope["path"] == PREFIX[:-1]:
            await self._own(scope, receive, send)  # type: ignore[arg-type]
        else:
            await self._proxy(scope, receive, send)
