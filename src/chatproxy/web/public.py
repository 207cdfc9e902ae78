"""The public listener: everything is the upstream's, except one prefix that is chatproxy's own."""

from collections.abc import Coroutine
from typing import Any

from chatproxy.web.client_call import ClientCall, asgi
from chatproxy.web.own import Own
from chatproxy.web.person_session import PREFIX
from chatproxy.web.proxy import Proxy


class Public:
    """Routes by prefix: the pages of the data subject come from a router, chats do not."""

    def __init__(self, proxy: Proxy, own: Own) -> None:
        self._proxy = proxy
        self._own = asgi(own)

    def __call__(self, call: ClientCall) -> Coroutine[Any, Any, None]:
        """Serve one request."""
        path = call.path
        return self._own(call) if path.startswith(PREFIX) or path == PREFIX[:-1] else self._proxy(call)
