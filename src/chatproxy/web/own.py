"""What is chatproxy's own on the public listener: the routes under one prefix, and the way in by a link."""

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from chatproxy.errors import StoreUnavailableError
from chatproxy.rates import TooOftenError
from chatproxy.web.person_session import LINK_PARAMETER, PREFIX, PersonSessions
from chatproxy.wire import DIALECTS
from chatproxy.wire.base import Failure

_NO_PAGE = "chatproxy has no page here in this version; paths under /_chatproxy/ never reach the chat backend"
_LINK_UNTOLD = "it cannot be told just now whether this link counts; try again in a moment"
_NO_LINK = "this link does not count any more; ask for a new one where you got it"


class Own:
    """ASGI application for everything under the prefix."""

    def __init__(
        self,
        routes: Sequence[BaseRoute],
        *,
        sessions: PersonSessions,
        new_request_id: Callable[[], str],
        refused_link: Callable[[Request], Response] | None = None,
        untold_link: Callable[[Request], Response] | None = None,
        busy: Callable[[Request, TooOftenError], Response] | None = None,
    ) -> None:
        """``refused_link`` answers who comes by a link that does not count; ``untold_link`` where that cannot be told.

        ``busy`` answers who comes by links too often.

        Without them, plain JSON does.
        """

        def say(status: int, code: str, message: str) -> Response:
            failure = Failure(status, code, message, new_request_id())
            body = DIALECTS[0].render_failure(failure)
            headers = {"x-request-id": failure.request_id, "cache-control": "no-store"}
            return Response(body, status_code=status, media_type="application/json", headers=headers)

        async def no_page(_: Request) -> Response:
            return say(404, "not_found", _NO_PAGE)

        self._sessions = sessions
        self._refused_link = refused_link or (lambda _: say(403, "link_refused", _NO_LINK))
        self._untold_link = untold_link or (lambda _: say(503, "store_unavailable", _LINK_UNTOLD))
        self._busy = busy or (lambda _, error: say(429, "too_many_requests", str(error)))
        self._app = Starlette(routes=[*routes, Route("/{path:path}", no_page, methods=None)])
        self._app.router.redirect_slashes = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        answer: ASGIApp = self._app
        if scope["method"] == "GET" and scope["path"] == PREFIX:
            request = Request(scope)
            if LINK_PARAMETER in request.query_params:
                try:
                    answer = self._sessions.begin(request) or self._refused_link(request)
                except StoreUnavailableError:
                    answer = self._untold_link(request)
                except TooOftenError as error:
                    answer = self._busy(request, error)
        await answer(scope, receive, send)
