"""What does the API answer when it cannot do what was asked? Problem details (RFC 9457), each with a request id.

What a message of ours says of operators' matters (a path, a command) is for the log alone, so such errors have words of
their own here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
from starlette.responses import Response

from chatproxy.errors import (
    AccessRefusedError,
    AmbiguousIdentityError,
    AuditUnavailableError,
    ChatproxyError,
    ConfirmationNeededError,
    ConflictError,
    NotFoundError,
    StoreUnavailableError,
    UndecryptableError,
)
from chatproxy.rates import TooOftenError
from chatproxy.web.person_session import ForeignRequestError, NotIdentifiedError

MEDIA_TYPE = "application/problem+json"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What went wrong, as RFC 9457 says it."""

    type: str
    """``urn:chatproxy:problem:`` and a code."""
    title: str
    status: int
    detail: str
    """What is wrong, and what to do."""
    request_id: str


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of problem."""

    status: int
    code: str
    title: str
    detail: str | None = None
    """None: as the error says it."""


class RefusedError(ChatproxyError):
    """A request is answered with a problem of that kind; ``headers`` go with the answer."""

    def __init__(self, kind: Kind, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.headers = headers or {}


BAD_REQUEST = Kind(400, "bad_request", "The request cannot be understood")
NOT_FOUND = Kind(404, "not_found", "Nothing of that name is held")
NOT_ALLOWED = Kind(405, "method_not_allowed", "The resource does not know this method")
TOO_LARGE = Kind(413, "too_large", "The body is too large")
NOT_JSON = Kind(415, "unsupported_media_type", "The body is of another type than is taken here")
INVALID = Kind(422, "invalid", "The body does not have the form that is asked for")
UNAUTHENTICATED = Kind(401, "unauthenticated", "The token is missing or wrong")
NO_RIGHT = Kind(403, "not_allowed", "Who asks has no role for this")
DISABLED = Kind(403, "api_disabled", "The admin API is not enabled")
FAILED = Kind(500, "internal_error", "Something went wrong here", "the log has more under this request id")

_KINDS: tuple[tuple[type[ChatproxyError], Kind], ...] = (
    (NotIdentifiedError, Kind(401, "not_identified", "It is not known who asks")),
    (TooOftenError, Kind(429, "too_many_requests", "This was asked too often")),
    (ForeignRequestError, Kind(403, "foreign_request", "The request does not come from a page that may ask")),
    (AmbiguousIdentityError, Kind(400, "ambiguous_identity", "Who asks is said in two ways")),
    (NotFoundError, NOT_FOUND),
    (ConfirmationNeededError, Kind(409, "confirmation_needed", "The person must confirm this first")),
    (ConflictError, Kind(409, "conflict", "This does not fit what stands")),
    (
        AccessRefusedError,
        Kind(403, "access_refused", "It may not be read", "nothing of it is kept for this purpose"),
    ),
    (
        StoreUnavailableError,
        Kind(
            503,
            "store_unavailable",
            "It cannot be read or recorded at the moment",
            "the store does not answer; nothing is certain to have changed, so look and try again",
        ),
    ),
    (
        AuditUnavailableError,
        Kind(
            503,
            "audit_unavailable",
            "It cannot be done at the moment",
            "it cannot be recorded, so it was not done",
        ),
    ),
    (
        UndecryptableError,
        Kind(
            500,
            "damaged",
            "What is held cannot be authenticated",
            "it was damaged or altered, counts as no, and nothing was changed; the operator must look at it",
        ),
    ),
)


def kind_of(error: ChatproxyError) -> Kind:
    """Return the kind of problem that an error is to who asks."""
    if isinstance(error, RefusedError):
        return error.kind
    return next((kind for known, kind in _KINDS if isinstance(error, known)), FAILED)


def headers_of(error: ChatproxyError) -> Mapping[str, str]:
    """Return the headers that go with the answer to an error."""
    if isinstance(error, TooOftenError):
        return {"retry-after": str(error.retry_after)}
    return error.headers if isinstance(error, RefusedError) else {}


def problem_response(
    kind: Kind, detail: str, *, request_id: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with a problem; ``detail`` where the kind has no words of its own."""
    problem = Problem(
        type=f"urn:chatproxy:problem:{kind.code}",
        title=kind.title,
        status=kind.status,
        detail=kind.detail or detail,
        request_id=request_id,
    )
    more = {"retry-after": "1"} if kind.status == 503 else {}  # noqa: PLR2004 - unavailable
    return Response(
        msgspec.json.encode(problem),
        status_code=kind.status,
        media_type=MEDIA_TYPE,
        headers={**(headers or {}), **more},
    )
