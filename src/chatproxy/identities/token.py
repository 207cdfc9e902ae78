"""What is written in this token? Strict reading of a signed JWT in compact form; nothing here is verified yet.

Two readers must not understand one token differently: one spelling of base64url, UTF-8 alone, each name once, no
extension that must be understood (RFC 7515 4.1.11) and no other kind of token than one that gives access or tells
who somebody is (RFC 8725 3.11). Of the header only ``alg`` and ``kid`` are used, as names to look up; a key, or an
address of a key, that a token brings along is not.
"""

import json
from dataclasses import dataclass, field
from typing import Any, NoReturn

from chatproxy.identities.jwk import decode_base64url
from chatproxy.identities.unproved import UnprovedError
from chatproxy.identity import Rejected

LONGEST = 16_384
"""Bytes of a token; servers in front take no longer headers."""

_PARTS = 3
_KINDS = frozenset(("jwt", "at+jwt", "application/jwt", "application/at+jwt"))


@dataclass(frozen=True, slots=True)
class Token:
    """The pieces of a token as it claims to be."""

    algorithm: str
    kid: str | None
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    payload: str = field(repr=False)

    def claims(self) -> dict[str, Any]:
        """Read the claims, which means nothing before the signature is verified. Raises UnprovedError."""
        return _read_object(self.payload)


def read_token(text: bytes) -> Token:
    """Read a token. Raises UnprovedError(MALFORMED)."""
    if len(text) > LONGEST or not text.isascii():
        raise UnprovedError(Rejected.MALFORMED)
    parts = text.decode("ascii").split(".")
    if len(parts) != _PARTS:
        raise UnprovedError(Rejected.MALFORMED)
    header = _read_object(parts[0])
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or not isinstance(kid, str | None) or not isinstance(kind, str):
        raise UnprovedError(Rejected.MALFORMED)
    if "crit" in header or "b64" in header or kind.lower() not in _KINDS:
        raise UnprovedError(Rejected.MALFORMED)
    return Token(
        algorithm=algorithm,
        kid=kid,
        signed=text.rpartition(b".")[0],
        signature=_decode(parts[2]),
        payload=parts[1],
    )


def _decode(segment: str) -> bytes:
    try:
        return decode_base64url(segment)
    except ValueError:
        raise UnprovedError(Rejected.MALFORMED) from None


def _read_object(segment: str) -> dict[str, Any]:
    try:
        value = json.loads(
            _decode(segment).decode(), object_pairs_hook=_each_once, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        raise UnprovedError(Rejected.MALFORMED) from None
    if not isinstance(value, dict):
        raise UnprovedError(Rejected.MALFORMED)
    return value


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members


def _refuse_constant(_name: str) -> NoReturn:
    raise ValueError
