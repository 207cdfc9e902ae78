"""One table of operations both serves the API and describes it, so the two cannot differ.

1. Bodies are JSON of a declared form and a bounded size; a member, a query parameter or a body that is not declared is
   refused, so a misspelt one is never passed over.
2. Every answer has a request id and is kept by no cache; every failure is a problem (``chatproxy.web.api.problems``).
3. A page of another origin may ask only if that origin is named in the settings, and is told so; never all.
"""

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from chatproxy.errors import ChatproxyError
from chatproxy.telemetry import Log
from chatproxy.web.api import problems
from chatproxy.web.api.problems import RefusedError, headers_of, kind_of, problem_response
from chatproxy.web.person_session import TOKEN_HEADER

_log = Log("api")
JSON_TYPE = "application/json"
LINES_TYPE = "application/x-ndjson"
_LARGEST_BODY = 16 << 10
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_PREFLIGHT_SECONDS = 600

WhoT = TypeVar("WhoT")


@dataclass(frozen=True, slots=True)
class Query:
    """A parameter of the query, which may be left out."""

    name: str
    about: str
    form: Any = str


@dataclass(frozen=True, slots=True)
class Call(Generic[WhoT]):
    """One call of an operation, checked: who asks, and what for."""

    who: WhoT
    request: Request = field(repr=False)
    body: Any = field(repr=False)
    """As the operation takes it."""

    @property
    def path(self) -> Mapping[str, str]:
        """Return what stands in the place of each name in the path."""
        return self.request.path_params

    @property
    def query(self) -> Mapping[str, str]:
        """Return the parameters of the query."""
        return self.request.query_params


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[WhoT]):
    """What can be asked for: it is served as it is described here."""

    name: str
    method: str
    path: str
    about: str
    handler: Callable[[Call[WhoT]], Awaitable[Any]]
    """Returns what ``gives`` says, or bytes that are that as JSON already."""
    takes: Any = None
    """The form of the body; None: there is none."""
    are_lines: bool = False
    """The body is a line of ``takes`` after another, and read by the handler itself."""
    gives: Any
    queries: tuple[Query, ...] = ()
    fails: tuple[int, ...] = ()
    """Statuses of its own, beside those that every operation may answer."""

    @property
    def changes_something(self) -> bool:
        """Whether it is more than a question."""
        return self.method != "GET"


Authenticate = Callable[[Request, Operation[WhoT]], Awaitable[WhoT]]
"""Tells who asks, and whether they may. Raises ChatproxyError."""


class API(Generic[WhoT]):
    """Serves a table of operations under one path."""

    def __init__(
        self,
        operations: Sequence[Operation[WhoT]],
        *,
        base: str,
        authenticate: Authenticate[WhoT],
        new_request_id: Callable[[], str],
        allows_origin: Callable[[str | None], bool] = lambda _: False,
    ) -> None:
        """``base``: the path before those of the operations, without a slash at the end."""
        self.operations = tuple(operations)
        self.base = base
        self._authenticate = authenticate
        self._new_request_id = new_request_id
        self._allows_origin = allows_origin

    def routes(self) -> list[Route]:
        """Return a route for each path, and one for all that is no path."""
        by_path: defaultdict[str, dict[str, Operation[WhoT]]] = defaultdict(dict)
        for operation in self.operations:
            by_path[operation.path][operation.method] = operation
        return [
            *(Route(self.base + path, _Resource(self, by_method)) for path, by_method in by_path.items()),
            Route(self.base + "/{path:path}", _Resource(self, {})),
            Route(self.base, _Resource(self, {})),
        ]

    async def answer(self, request: Request, by_method: Mapping[str, Operation[WhoT]]) -> Response:
        """Answer one request to a path that knows these methods."""
        given = request.headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else self._new_request_id()
        origin = request.headers.get("origin")
        is_allowed = self._allows_origin(origin)
        try:
            if request.method == "OPTIONS" and by_method and is_allowed:
                answer = _preflight(by_method)
            else:
                answer = await self._do(request, by_method)
        except ChatproxyError as error:
            kind = kind_of(error)
            if kind.status >= 500:  # noqa: PLR2004 - ours, not theirs
                _log.warning(
                    "a call failed", code=kind.code, request_id=request_id, failure=type(error).__name__
                )
            answer = problem_response(kind, str(error), request_id=request_id, headers=headers_of(error))
        except Exception as error:  # noqa: BLE001 - the outer edge: who asks gets an answer, the log the place
            _log.error("a call failed unexpectedly", failure=error, request_id=request_id)
            answer = problem_response(problems.FAILED, "", request_id=request_id)
        answer.headers["x-request-id"] = request_id
        for name, value in _HEADERS.items():
            answer.headers.setdefault(name, value)
        answer.headers.add_vary_header("Origin")
        if is_allowed and origin is not None:
            answer.headers["access-control-allow-origin"] = origin
            answer.headers["access-control-allow-credentials"] = "true"
            answer.headers["access-control-expose-headers"] = "retry-after, x-request-id"
        return answer

    async def _do(self, request: Request, by_method: Mapping[str, Operation[WhoT]]) -> Response:
        if not by_method:
            raise RefusedError(problems.NOT_FOUND, "there is nothing under this path")
        operation = by_method.get("GET" if request.method == "HEAD" else request.method)
        if operation is None:
            allow = ", ".join(_methods(by_method))
            raise RefusedError(problems.NOT_ALLOWED, f"it knows {allow}", {"allow": allow})
        who = await self._authenticate(request, operation)
        unknown = set(request.query_params) - {query.name for query in operation.queries}
        if unknown or len(request.query_params) != len(request.query_params.multi_items()):
            raise RefusedError(
                problems.BAD_REQUEST, "a parameter of the query is not known here, or comes twice"
            )
        body = None if operation.are_lines else await _read_body(request, operation.takes)
        given = await operation.handler(Call(who, request, body))
        content = given if isinstance(given, bytes) else msgspec.json.encode(given)
        return Response(content, media_type=JSON_TYPE)


class _Resource:
    """ASGI application of one path, so that every method gets an answer in our form."""

    def __init__(self, api: API[Any], by_method: Mapping[str, Operation[Any]]) -> None:
        self._api = api
        self._by_method = by_method

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._api.answer(Request(scope, receive), self._by_method)
        await answer(scope, receive, send)


def require_type(request: Request, media_type: str) -> None:
    """Raise RefusedError unless the body says that it is of that type."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != media_type:
        raise RefusedError(problems.NOT_JSON, f"send it with Content-Type: {media_type}")


async def _read_body(request: Request, form: Any) -> Any:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _LARGEST_BODY:
            raise RefusedError(problems.TOO_LARGE, f"it may have {_LARGEST_BODY} bytes")
    if form is None:
        if body:
            raise RefusedError(problems.BAD_REQUEST, "this takes no body")
        return None
    require_type(request, JSON_TYPE)
    try:
        return msgspec.json.decode(bytes(body), type=form)
    except msgspec.ValidationError as error:
        raise RefusedError(problems.INVALID, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RefusedError(problems.BAD_REQUEST, "the body is not JSON") from None


def _methods(by_method: Mapping[str, Operation[Any]]) -> list[str]:
    return sorted({*by_method, *(["HEAD"] if "GET" in by_method else []), "OPTIONS"})


def _preflight(by_method: Mapping[str, Operation[Any]]) -> Response:
    headers = {
        "access-control-allow-methods": ", ".join(_methods(by_method)),
        "access-control-allow-headers": f"authorization, content-type, {TOKEN_HEADER}, x-request-id",
        "access-control-max-age": str(_PREFLIGHT_SECONDS),
    }
    return Response(status_code=204, headers=headers)
