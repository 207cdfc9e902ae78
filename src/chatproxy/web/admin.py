"""The admin listener: is it alive, would it serve and keep, what has it counted; and the admin API.

Anybody may ask whether it is alive and ready, since what asks that has no credentials. Why it is not ready, and what it
has counted, is told to whoever reaches the listener as far as the settings open that, and else to who has the role.
"""

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from chatproxy.identities.operators import Operator, Operators
from chatproxy.telemetry import Metrics
from chatproxy.web.rights import may, roles_for
from chatproxy.web.connection import CLIENT_CERTIFICATE
from chatproxy.web.siblings import Siblings


def build_admin(
    metrics: Metrics,
    *,
    unready: Callable[[], list[str]],
    operators: Operators,
    is_open: bool,
    siblings: Siblings | None = None,
    api: Sequence[BaseRoute] = (),
) -> Starlette:
    """Build the application, with the routes of the *api*.

    ``unready`` says, in words, why the process would not serve and keep; empty if it would. ``is_open``: metrics and
    these words are for whoever reaches the listener. ``siblings``: the other workers of this node, who answer together.
    """

    def may_see(request: Request, name: str) -> bool:
        return is_open or may(operator_of(request, operators), name)

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(request: Request) -> Response:
        reasons = unready() if siblings is None else (await siblings.ask()).reasons
        told = {"reasons": reasons} if may_see(request, "/readyz reasons") else {}
        return JSONResponse({"ready": not reasons, **told}, status_code=503 if reasons else 200)

    async def exposition(request: Request) -> Response:
        if not may_see(request, "/metrics"):
            is_known = operator_of(request, operators) is not None
            return PlainTextResponse(
                f"metrics are for the role {roles_for('/metrics')}: send Authorization: Bearer and a token of "
                "CHATPROXY_ADMIN_TOKEN that has it, or set CHATPROXY_ADMIN_OPEN = true\n",
                status_code=403 if is_known else 401,
                headers={} if is_known else {"www-authenticate": "Bearer"},
            )
        text = metrics.render() if siblings is None else (await siblings.ask()).metrics
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    app = Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", exposition), *api],
    )
    app.router.redirect_slashes = False
    return app


def operator_of(request: Request, operators: Operators) -> Operator | None:
    """Return who asks; None: nobody who is known. A token that came must be right, whatever certificate came too."""
    given = request.headers.getlist("authorization")
    if given:
        return operators.by_authorization(given[0]) if len(given) == 1 else None
    return operators.by_certificate(request.scope.get(CLIENT_CERTIFICATE))
