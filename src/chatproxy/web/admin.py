"""The admin listener: is it alive, would it serve and keep, what has it counted; and the admin API."""

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from chatproxy.telemetry import Metrics
from chatproxy.web.siblings import Siblings


def build_admin(
    metrics: Metrics,
    *,
    unready: Callable[[], list[str]],
    siblings: Siblings | None = None,
    api: Sequence[BaseRoute] = (),
) -> Starlette:
    """Build the application, with the routes of the *api*.

    ``unready`` says, in words, why the process would not serve and keep; empty if it would. ``siblings``: the other
    workers of this node, who answer together.
    """

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(_: Request) -> Response:
        reasons = unready() if siblings is None else (await siblings.ask()).reasons
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    async def exposition(_: Request) -> Response:
        text = metrics.render() if siblings is None else (await siblings.ask()).metrics
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    app = Starlette(
        routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", exposition), *api],
    )
    app.router.redirect_slashes = False
    return app
