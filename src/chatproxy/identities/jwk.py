"""Which signatures can be verified with the keys of this JWK Set?

Rules of this file:

1. A key serves only the algorithms that its own type and curve allow, that it is meant for, and that the operator
   has listed. So a token cannot talk a public RSA key into being an HMAC secret (RFC 8725 2.1, 3.1).
2. What cannot be used is skipped and counted, never the reason to drop the rest (RFC 7517 5): a set may hold keys
   for encryption, or of types not known here.
3. Skipped on purpose: symmetric and private keys, which whoever reads the set could sign with; RSA below 2048 bits
   (SP 800-131A); a second key for the same name and algorithm.
4. Only the members that make up the key are read; certificates and URLs in it are not.
"""

import base64
import binascii
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import msgspec
from joserfc.errors import JoseError
from joserfc.jwa import JWS_ALGORITHMS, JWSAlgModel
from joserfc.jwk import ECKey, OKPKey, RSAKey

from chatproxy.errors import ChatproxyError
from chatproxy.identities.unproved import UnprovedError
from chatproxy.identity import Rejected
from chatproxy.unshown import Unshown

_KEY_TYPES: Mapping[str, tuple[str, str | None]] = MappingProxyType(
    {
        "RS256": ("RSA", None),
        "RS384": ("RSA", None),
        "RS512": ("RSA", None),
        "PS256": ("RSA", None),
        "PS384": ("RSA", None),
        "PS512": ("RSA", None),
        "ES256": ("EC", "P-256"),
        "ES384": ("EC", "P-384"),
        "ES512": ("EC", "P-521"),
        "EdDSA": ("OKP", "Ed25519"),
        "Ed25519": ("OKP", "Ed25519"),
    }
)
ALGORITHMS = frozenset(_KEY_TYPES)
"""What may be allowed at all: asymmetric signatures. ``none`` and the HMAC family are not among them."""

_MODELS: Mapping[str, JWSAlgModel] = MappingProxyType(
    {model.name: model for model in JWS_ALGORITHMS if model.name in ALGORITHMS}
)
_RSA_BITS = range(2048, 16_385)
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")


class UnreadableKeySetError(ChatproxyError):
    """The text is not a JWK Set."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key for one algorithm. Two are equal if they verify the same signatures."""

    algorithm: str
    material: tuple[str, ...] = field(repr=False)
    _key: RSAKey | ECKey | OKPKey = field(repr=False, compare=False)

    def require_signature(self, message: bytes, signature: bytes) -> None:
        """Raise UnprovedError(SIGNATURE) unless *signature* is this key's over *message*."""
        if not _MODELS[self.algorithm].verify(message, signature, self._key):
            raise UnprovedError(Rejected.SIGNATURE)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys by key id and algorithm."""

    keys: Mapping[tuple[str, str], VerifyingKey]
    skipped: int
    """Keys of the set that are not used."""


class _JWKSet(Unshown, frozen=True):
    keys: list[Any]


class _JWK(Unshown, frozen=True):
    kty: str
    kid: str
    use: str | None = None
    key_ops: list[str] | None = None
    alg: str | None = None
    n: str = ""
    e: str = ""
    crv: str = ""
    x: str = ""
    y: str = ""
    d: Any = None
    k: Any = None


_DECODE = msgspec.json.Decoder(_JWKSet).decode


def read_key_set(text: bytes, *, algorithms: Collection[str]) -> KeySet:
    """Read a JWK Set (RFC 7517 5) for use with *algorithms*. Raises UnreadableKeySetError."""
    try:
        found = _DECODE(text).keys
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise UnreadableKeySetError("it is not a JWK Set") from None
    keys: dict[tuple[str, str], VerifyingKey] = {}
    skipped = 0
    for item in found:
        usable = [(kid, key) for kid, key in _read_key(item, algorithms) if (kid, key.algorithm) not in keys]
        keys.update({(kid, key.algorithm): key for kid, key in usable})
        skipped += not usable
    return KeySet(MappingProxyType(keys), skipped)


def _read_key(item: object, algorithms: Collection[str]) -> list[tuple[str, VerifyingKey]]:
    """Return the key for each algorithm that it serves."""
    try:
        jwk = msgspec.convert(item, _JWK)
    except msgspec.ValidationError:
        return []
    is_for_verifying = jwk.use in {None, "sig"} and (jwk.key_ops is None or "verify" in jwk.key_ops)
    if not is_for_verifying or jwk.d is not None or jwk.k is not None:
        return []
    served = [
        name
        for name, (kty, crv) in _KEY_TYPES.items()
        if name in algorithms and kty == jwk.kty and crv in {None, jwk.crv} and jwk.alg in {None, name}
    ]
    if not served:
        return []
    try:
        key = _import(jwk)
    except (JoseError, ValueError):
        return []
    material = (jwk.kty, jwk.n, jwk.e, jwk.crv, jwk.x, jwk.y)
    return [(jwk.kid, VerifyingKey(name, material, key)) for name in served]


def _import(jwk: _JWK) -> RSAKey | ECKey | OKPKey:
    """Build the public key. Raises JoseError, ValueError."""
    if jwk.kty == "RSA":
        # Measured first: the library would only warn of a short one, and take its time over a huge one.
        if _bits(jwk.n) not in _RSA_BITS or _bits(jwk.e) > 64:  # noqa: PLR2004 - no exponent in use is longer
            raise ValueError
        return RSAKey.import_key({"kty": "RSA", "n": jwk.n, "e": jwk.e})
    if jwk.kty == "EC":
        return ECKey.import_key({"kty": "EC", "crv": jwk.crv, "x": jwk.x, "y": jwk.y})
    return OKPKey.import_key({"kty": "OKP", "crv": jwk.crv, "x": jwk.x})


def _bits(number: str) -> int:
    """Return the length of a base64url number. Raises ValueError."""
    return int.from_bytes(decode_base64url(number), "big").bit_length()


def decode_base64url(text: str) -> bytes:
    """Undo base64url without padding (RFC 7515 2); there is one spelling for every value. Raises ValueError."""
    if not _BASE64URL.fullmatch(text) and text:
        raise ValueError
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise ValueError from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != text:
        raise ValueError
    return data
