"""Whom do these verified claims name, from when until when? Pure; the signature was checked before.

1. Issuer and audience are pinned, and a token must end. What is not there does not count as fitting.
2. A mapped claim is text or it is not there; anything else makes the token name nobody. A tenant that is mapped must
   be there: two organisations must not meet in the default one.
3. What tightens is heard even in a token that names nobody: zero data retention that was agreed stays agreed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chatproxy.identities.presented import is_name
from chatproxy.identities.unproved import UnprovedError
from chatproxy.identity import Rejected
from chatproxy.model import Age, Caller, Surface

Claims = Mapping[str, Any]

_LATEST = 253_402_300_800
"""The year 10000, in seconds: beyond it a number is no instant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Whose tokens count, for whom they must be meant, and how far its clock may be from ours."""

    name: str
    audiences: frozenset[str]
    """One of them must be among the token's."""
    leeway_ms: int

    def require_ours(self, claims: Claims) -> None:
        """Raise UnprovedError(FOREIGN) unless the token is of this issuer and for one of the audiences."""
        audience = claims.get("aud")
        named = audience if isinstance(audience, list) else [audience]
        if claims.get("iss") != self.name or not any(
            isinstance(name, str) and name in self.audiences for name in named
        ):
            raise UnprovedError(Rejected.FOREIGN)

    def validity(self, claims: Claims) -> "Validity":
        """Return when the token counts, leeway included. Raises UnprovedError(CLAIMS)."""
        expires_at = _instant(claims, "exp")
        starts = [at for name in ("nbf", "iat") if (at := _instant(claims, name)) is not None]
        if expires_at is None:
            raise UnprovedError(Rejected.CLAIMS)
        return Validity(max(starts, default=0) - self.leeway_ms, expires_at + self.leeway_ms)


@dataclass(frozen=True, slots=True)
class Validity:
    """From ``starts_at`` on and before ``ends_at``."""

    starts_at: int
    ends_at: int

    def require(self, *, now: int) -> None:
        """Raise UnprovedError (EXPIRED, EARLY) unless *now* is within."""
        if now >= self.ends_at:
            raise UnprovedError(Rejected.EXPIRED)
        if now < self.starts_at:
            raise UnprovedError(Rejected.EARLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimNames:
    """Which claim says what; None: no claim does. ``a.b`` is member b of claim a, unless a claim has that very name."""

    subject: str = "sub"
    tenant: str | None = None
    plan: str | None = None
    conversation: str | None = None
    surface: str | None = None
    age: str | None = None
    zdr: str | None = None

    def caller(self, claims: Claims) -> Caller:
        """Return whom the claims name. Raises NamelessTokenError."""
        agreed = _find(claims, self.zdr)
        zdr = agreed is not None and agreed is not False
        age = _find(claims, self.age)
        assured = Age(age) if isinstance(age, str) and age in set(Age) else Age.UNKNOWN
        try:
            plan = _name(claims, self.plan)
            surface = _name(claims, self.surface) or Surface.CHAT
            return Caller(
                tenant=_name(claims, self.tenant, is_required=self.tenant is not None) or "default",
                subject=_name(claims, self.subject, is_required=True),
                plan=plan.lower() if plan else None,
                conversation=_name(claims, self.conversation),
                surface=Surface(surface) if surface in set(Surface) else Surface.UNKNOWN,
                age=assured,
                zdr=zdr,
            )
        except UnprovedError as error:
            raise NamelessTokenError(Caller(age=assured, zdr=zdr)) from error


class NamelessTokenError(UnprovedError):
    """A genuine token that names nobody. ``caller`` is what it tightens."""

    def __init__(self, caller: Caller) -> None:
        super().__init__(Rejected.CLAIMS)
        self.caller = caller


def _find(claims: Claims, path: str | None) -> object:
    if path is None:
        return None
    if path in claims:
        return claims[path]
    value: object = claims
    for name in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _name(claims: Claims, path: str | None, *, is_required: bool = False) -> str | None:
    value = _find(claims, path)
    if value is None and not is_required:
        return None
    if not isinstance(value, str) or not is_name(value):
        raise UnprovedError(Rejected.CLAIMS)
    return value


def _instant(claims: Claims, name: str) -> int | None:
    """Return a NumericDate (RFC 7519 2) in ms, None if the claim is not there. Raises UnprovedError(CLAIMS)."""
    value = claims.get(name)
    if name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LATEST:
        raise UnprovedError(Rejected.CLAIMS)
    return math.floor(value * 1000)
