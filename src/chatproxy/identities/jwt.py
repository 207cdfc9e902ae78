"""Who does the token of this request say the caller is? Only a token that verifies says anything.

1. Nothing here waits: keys are those already fetched. What does not verify, for whatever reason, is counted by that
   reason, and the chat passes as nobody's (rule 2 of the design outranks the 401 of security D3, 82: whether a token
   opens the chatbot is for the upstream to say, to which it passes on unchanged).
2. The signature is checked before any claim is read.
3. What has been verified is remembered by the token's SHA-256, within its validity, and only while the issuer still
   publishes the very key.
4. ``X-Chat-*`` headers name nobody; signals that tighten count, from anyone.
"""

import hashlib
from dataclasses import dataclass
from typing import Protocol

from chatproxy.clock import Clock
from chatproxy.identities.claims import ClaimNames, Issuer, NamelessTokenError, Validity
from chatproxy.identities.jwk import VerifyingKey
from chatproxy.identities.presented import AUTHORIZATION, bearer, tightened, values_of
from chatproxy.identities.token import read_token
from chatproxy.identities.unproved import UnprovedError
from chatproxy.identity import HeaderIdentity, Headers, Identified, IdentifyCaller, Rejected
from chatproxy.model import Caller


class VerifyingKeys(Protocol):
    """The issuer's keys as of now; ``JWKSCache`` is one."""

    @property
    def are_current(self) -> bool:
        """Whether anything is known about the issuer's keys."""

    def find(self, kid: str, algorithm: str) -> VerifyingKey | None:
        """Return the key of that id for *algorithm*; None if there is none that may be believed."""


@dataclass(frozen=True, slots=True)
class _Verified:
    kid: str
    key: VerifyingKey
    validity: Validity
    caller: Caller


class JWTIdentity:
    """Identity from a signed JWT in one header: the token alone, or after ``Bearer``."""

    def __init__(
        self,
        keys: VerifyingKeys,
        *,
        issuer: Issuer,
        names: ClaimNames,
        algorithms: frozenset[str],
        clock: Clock,
        header: bytes = AUTHORIZATION,
        remember: int = 10_000,
    ) -> None:
        """*header* is in lower case. *remember* bounds how many verified tokens are remembered."""
        self._keys = keys
        self._issuer = issuer
        self._names = names
        self._algorithms = algorithms
        self._clock = clock
        self._header = header
        self._remember = remember
        self._verified: dict[bytes, _Verified] = {}
        # It trusts no peer and no secret, so it believes no identity header, and reads what anyone may say.
        self._signals = HeaderIdentity()

    def __call__(self, headers: Headers, peer: str | None) -> Identified:
        """Identify the caller; see IdentifyCaller."""
        signals = self._signals(headers, peer)
        try:
            token = self._presented(headers)
            if token is None:
                return signals
            caller = self._verify(token)
        except NamelessTokenError as error:
            return Identified(tightened(error.caller, by=signals.caller), error.reason)
        except UnprovedError as error:
            return Identified(signals.caller, error.reason)
        return Identified(tightened(caller, by=signals.caller), signals.rejected)

    def _presented(self, headers: Headers) -> bytes | None:
        values = values_of(headers, self._header)
        if not values:
            return None
        if len(values) > 1:
            raise UnprovedError(Rejected.REPEATED)
        token = bearer(values[0])
        return values[0] if token is None and self._header != AUTHORIZATION else token

    def _verify(self, text: bytes) -> Caller:
        """Return whom the token names. Raises UnprovedError."""
        now = self._clock()
        digest = hashlib.sha256(text).digest()
        known = self._verified.get(digest)
        if known is not None and self._keys.find(known.kid, known.key.algorithm) == known.key:
            known.validity.require(now=now)
            return known.caller
        known = self._verify_anew(text, now=now)
        self._make_room(now=now)
        self._verified[digest] = known
        return known.caller

    def _make_room(self, *, now: int) -> None:
        """Forget the oldest entries while they are over or too many."""
        while self._verified:
            oldest = next(iter(self._verified))
            if len(self._verified) < self._remember and now < self._verified[oldest].validity.ends_at:
                return
            del self._verified[oldest]

    def _verify_anew(self, text: bytes, *, now: int) -> _Verified:
        token = read_token(text)
        if token.algorithm not in self._algorithms:
            raise UnprovedError(Rejected.ALGORITHM)
        key = None if token.kid is None else self._keys.find(token.kid, token.algorithm)
        if token.kid is None or key is None:
            raise UnprovedError(Rejected.UNKNOWN_KEY if self._keys.are_current else Rejected.KEYS_UNAVAILABLE)
        key.require_signature(token.signed, token.signature)
        claims = token.claims()
        self._issuer.require_ours(claims)
        validity = self._issuer.validity(claims)
        validity.require(now=now)
        return _Verified(token.kid, key, validity, self._names.caller(claims))


_: type[IdentifyCaller] = JWTIdentity
