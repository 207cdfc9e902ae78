"""The admin listener: is it alive, would it serve and keep, what has it counted; and the admin API.

Anybody may ask whether it is alive and ready, since what asks that has no credentials. Why it is not ready, and what it
has counted, is told to whoever reaches the listener as far as the settings open that, and else to who has the role.
"""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from chatproxy.rates import TooOftenError
from chatproxy.web.console import Console
from chatproxy.web.operator_door import OperatorDoor
from chatproxy.web.rights import may, roles_for
from chatproxy.web.siblings import Node


def build_admin(
    node: Node,
    *,
    door: OperatorDoor,
    is_open: bool,
    console: Console | None = None,
    api: Sequence[BaseRoute] = (),
) -> Starlette:
    """Build the application, with the routes of the *api*.

    ``is_open``: metrics, the console and why the node is not ready are for whoever reaches the listener.
    """

    def may_see(request: Request, name: str) -> bool:
        try:
            return is_open or may(door.operator_of(request), name)
        except TooOftenError:
            return False

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("alive\n")

    async def readyz(request: Request) -> Response:
        reasons = (await node.ask()).reasons
        told = {"reasons": reasons} if may_see(request, "/readyz reasons") else {}
        return JSONResponse({"ready": not reasons, **told}, status_code=503 if reasons else 200)

    def refusal(request: Request, name: str) -> Response | None:
        if is_open:
            return None
        try:
            operator = door.operator_of(request)
        except TooOftenError as error:
            return PlainTextResponse(
                f"{error}\n", status_code=429, headers={"retry-after": str(error.retry_after)}
            )
        if may(operator, name):
            return None
        is_known = operator is not None
        return PlainTextResponse(
            f"{name} is for the role {roles_for(name)}: send Authorization: Bearer and a token of "
            "CHATPROXY_ADMIN_TOKEN that has it, or set CHATPROXY_ADMIN_OPEN = true\n",
            status_code=403 if is_known else 401,
            headers={} if is_known else {"www-authenticate": "Bearer"},
        )

    async def exposition(request: Request) -> Response:
        return refusal(request, "/metrics") or Response(
            (await node.ask()).metrics, media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    async def show(request: Request) -> Response:
        assert console is not None  # noqa: S101 - else there is no route
        return refusal(request, "/console") or await console.show(await node.ask())

    routes = [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", exposition)]
    if console is not None:
        routes += [Route("/console", show), Route("/console.css", console.style)]
    app = Starlette(routes=[*routes, *api])
    app.router.redirect_slashes = False
    return app
