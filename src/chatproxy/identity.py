"""Who sent this request? Only what a trusted source says counts; a client itself can only tighten privacy.

Trusted is a peer whose address is listed, or who presents the shared secret; where both are configured both must
hold, where neither is nobody is trusted. From anyone else identity headers are dropped and counted, and the
conversation is nobody's. What a trusted source says ambiguously is refused, never guessed.
"""

import hmac
import ipaddress
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from chatproxy.errors import AmbiguousIdentityError
from chatproxy.model import Age, Caller, Surface

Headers = Sequence[tuple[bytes, bytes]]
"""Request headers in the order received, names in lower case."""

_AUTH = b"x-chat-auth"
_INCOGNITO = b"x-chat-incognito"
_TEXTS = frozenset(
    (
        b"x-chat-subject",
        b"x-chat-plan",
        b"x-chat-conversation",
        b"x-chat-tenant",
        b"x-chat-surface",
        b"x-chat-age",
    )
)
_TRUSTED_ONLY = _TEXTS | {b"x-chat-zdr", _AUTH}
IDENTITY_HEADERS = _TRUSTED_ONLY | {_INCOGNITO}
"""Header names that are chatproxy's own and never reach the upstream."""
_CONTENT_USAGE = b"content-usage"
_GPC = b"sec-gpc"
_HEARD = IDENTITY_HEADERS | {_CONTENT_USAGE, _GPC}

_SURFACES = {str(surface): surface for surface in Surface}
_AGES = {str(age): age for age in Age}
_LONGEST_VALUE = 256


class Rejected(StrEnum):
    """Why identity headers were dropped, or a presented credential was not believed."""

    UNTRUSTED_PEER = "untrusted_peer"
    BAD_SECRET = "bad_secret"  # noqa: S105 - a reason, not a secret
    MISSPELT = "misspelt"
    REPEATED = "repeated_credential"
    """Two credentials, of which each reader could take another."""
    MALFORMED = "token_malformed"
    ALGORITHM = "token_algorithm"
    KEYS_UNAVAILABLE = "token_keys_unavailable"
    """Nothing can be verified: the source of the keys has not answered for too long. No fault of the caller's."""
    UNKNOWN_KEY = "token_unknown_key"
    SIGNATURE = "token_signature"
    FOREIGN = "token_foreign"
    """Of another issuer, or for another audience."""
    EXPIRED = "token_expired"
    EARLY = "token_early"
    CLAIMS = "token_claims"
    """Genuine, but it lacks what must be in it, or says it in another form."""
    UNKNOWN_API_KEY = "unknown_api_key"


class Identified(msgspec.Struct, frozen=True):
    """The caller, and why any identity that the request presents was not believed."""

    caller: Caller
    rejected: Rejected | None = None


class IdentifyCaller(Protocol):
    """A way to tell who sends a request: headers from a front, a verified token, a mapped API key."""

    def __call__(self, headers: Headers, peer: str | None) -> Identified:
        """Identify from the request's headers and the peer's address (None: not known).

        Raises AmbiguousIdentityError.
        """


class HeaderIdentity:
    """Identity from ``X-Chat-*`` headers that an authenticated front sets."""

    def __init__(
        self,
        *,
        trusted_proxies: Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network] = (),
        secrets: Iterable[str] = (),
    ) -> None:
        self._networks = tuple(trusted_proxies)
        self._secrets = tuple(secret.encode() for secret in secrets)
        self._trust_by_peer: dict[str, bool] = {}

    def __call__(self, headers: Headers, peer: str | None) -> Identified:
        """Identify the caller; see IdentifyCaller."""
        claims: dict[bytes, bytes] = {}
        repeated = False
        misspelt = False
        tightening = _Tightening()
        for name, value in headers:
            if name in _HEARD:
                if name == _INCOGNITO:
                    tightening.incognito |= _is_set(value)
                elif name == _CONTENT_USAGE:
                    tightening.train_ai_no |= _denies_training(value)
                elif name == _GPC:
                    tightening.gpc |= value.strip() == b"1"
                elif name in claims:
                    repeated = True
                else:
                    claims[name] = value
            elif b"_" in name and name.replace(b"_", b"-") in IDENTITY_HEADERS:
                misspelt = True
        if not claims:
            return Identified(tightening.caller(), Rejected.MISSPELT if misspelt else None)
        rejected = self._distrust(claims.get(_AUTH), peer)
        if rejected:
            return Identified(tightening.caller(), rejected)
        if repeated:
            raise AmbiguousIdentityError("an identity header is sent twice; the front must set each once")
        return Identified(_believe(claims, tightening), Rejected.MISSPELT if misspelt else None)

    def _distrust(self, secret: bytes | None, peer: str | None) -> Rejected | None:
        if not self._networks and not self._secrets:
            return Rejected.UNTRUSTED_PEER
        if self._networks and not self._is_trusted(peer):
            return Rejected.UNTRUSTED_PEER
        if self._secrets:
            # Every secret is compared, so that the time taken does not tell which of two matched.
            matches = [hmac.compare_digest(secret or b"", known) for known in self._secrets]
            if not any(matches):
                return Rejected.BAD_SECRET
        return None

    def _is_trusted(self, peer: str | None) -> bool:
        if peer is None:
            return False
        known = self._trust_by_peer.get(peer)
        if known is None:
            if len(self._trust_by_peer) >= 10_000:  # noqa: PLR2004 - a bound, since peers choose what fills it
                self._trust_by_peer.clear()
            known = self._trust_by_peer[peer] = self._is_listed(peer)
        return known

    def _is_listed(self, peer: str) -> bool:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


class _Tightening(msgspec.Struct):
    """Signals accepted from anyone, since they can only shorten and deny. Of two readings the stricter counts."""

    incognito: bool = False
    train_ai_no: bool = False
    gpc: bool = False

    def caller(self) -> Caller:
        if not (self.incognito or self.train_ai_no or self.gpc):
            return _ANYBODY
        return Caller(incognito=self.incognito, train_ai_no=self.train_ai_no, gpc=self.gpc)


_ANYBODY = Caller()


def _believe(claims: dict[bytes, bytes], tightening: _Tightening) -> Caller:
    said = {name: _text(name, value) for name, value in claims.items() if name in _TEXTS}
    surface, age, plan = said.get(b"x-chat-surface"), said.get(b"x-chat-age"), said.get(b"x-chat-plan")
    return Caller(
        tenant=said.get(b"x-chat-tenant") or "default",
        subject=said.get(b"x-chat-subject"),
        plan=plan.lower() if plan else None,
        conversation=said.get(b"x-chat-conversation"),
        surface=_SURFACES.get(surface, Surface.UNKNOWN) if surface else Surface.CHAT,
        age=_AGES.get(age.lower(), Age.UNKNOWN) if age else Age.UNKNOWN,
        zdr=b"x-chat-zdr" in claims and _is_set(claims[b"x-chat-zdr"]),
        incognito=tightening.incognito,
        train_ai_no=tightening.train_ai_no,
        gpc=tightening.gpc,
    )


def _text(name: bytes, value: bytes) -> str | None:
    """Read the value of *name*; None: it is empty. Raises AmbiguousIdentityError."""
    value = value.strip()
    if len(value) > _LONGEST_VALUE:
        raise AmbiguousIdentityError(f"{name.decode()} is longer than {_LONGEST_VALUE} bytes")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise AmbiguousIdentityError(f"{name.decode()} is not UTF-8") from None
    if not text.isprintable():
        raise AmbiguousIdentityError(f"{name.decode()} has control characters")
    return text or None


def _is_set(value: bytes) -> bool:
    """Read a structured boolean (RFC 9651), where anything but a plain ``?0`` sets it: in doubt, tighter."""
    return value.strip() != b"?0"


def _denies_training(value: bytes) -> bool:
    """Whether a Content-Usage dictionary says ``train-ai`` in any way but a plain ``y`` (R18)."""
    for member in value.lower().split(b","):
        key, _, choice = member.partition(b";")[0].strip().partition(b"=")
        if key.strip() == b"train-ai" and choice.strip() != b"y":
            return True
    return False
