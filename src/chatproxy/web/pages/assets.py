"""Where do style and script of the pages come from? From the package, with an ETag, so that they are sent once."""

import hashlib
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES = {
    "pages.css": "text/css; charset=utf-8",
    "pages.js": "text/javascript; charset=utf-8",
    "choice.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_FOR_OTHER_ORIGINS = frozenset({"choice.js"})
"""Front ends on other origins include it; what it may read there is for the API to allow."""


def asset_routes(prefix: str) -> list[Route]:
    """Return a route for each file, below *prefix*, which ends in a slash."""
    folder = files(__package__).joinpath("assets")
    return [
        _route(prefix, name, folder.joinpath(name).read_bytes(), media_type)
        for name, media_type in _TYPES.items()
    ]


def _route(prefix: str, name: str, content: bytes, media_type: str) -> Route:
    headers = {
        "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        "Cache-Control": "no-cache",
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "cross-origin" if name in _FOR_OTHER_ORIGINS else "same-origin",
    }

    async def send(request: Request) -> Response:
        known = request.headers.get("if-none-match", "")
        if headers["ETag"] in [tag.strip().removeprefix("W/") for tag in known.split(",")]:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return Route(prefix + name, send)
