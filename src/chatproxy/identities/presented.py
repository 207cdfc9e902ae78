"""What does a request present of itself, and what may be made of it?

Only reads: a credential is the upstream's as well, most of the time, and passes on as it came.
"""

from msgspec.structs import replace

from chatproxy.identity import Headers
from chatproxy.model import Caller

AUTHORIZATION = b"authorization"
LONGEST_NAME = 256
"""Bytes of UTF-8 of a subject, tenant, plan or conversation (security D3, 79)."""

_BEARER = b"bearer"


def values_of(headers: Headers, name: bytes) -> list[bytes]:
    """Return the values of the header *name*, stripped, without empty ones."""
    return [stripped for key, value in headers if key == name and (stripped := value.strip())]


def bearer(value: bytes) -> bytes | None:
    """Return the token of a value of ``Authorization``, or None if it is of another scheme (RFC 6750 2.1)."""
    scheme, _, token = value.partition(b" ")
    return token.strip() or None if scheme.lower() == _BEARER else None


def tightened(caller: Caller, *, by: Caller) -> Caller:
    """Return *caller* with the signals of *by*, who is the same request read without any identity."""
    return replace(
        caller,
        incognito=caller.incognito or by.incognito,
        train_ai_no=caller.train_ai_no or by.train_ai_no,
        gpc=caller.gpc or by.gpc,
    )


def is_name(value: str) -> bool:
    """Whether *value* can name somebody or something: printable and of a bounded length, as in headers."""
    # What is printable has no lone surrogates, so it can be encoded.
    return value.isprintable() and 0 < len(value.encode()) <= LONGEST_NAME
