"""An issuer of tokens, made from primitives and not from the library under test."""

import base64
import functools
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from chatproxy.identities.claims import ClaimNames, Issuer
from chatproxy.identities.jwk import KeySet, VerifyingKey, read_key_set
from chatproxy.identities.jwt import JWTIdentity, VerifyingKeys
from chatproxy.identity import Headers, Identified

NOW = 1_790_000_000_000
SECOND = 1000
ISSUER = "https://login.example.com/"
AUDIENCE = "chat"
ALGORITHMS = frozenset(("RS256", "ES256", "EdDSA"))
NAMES = ClaimNames(
    tenant="org.id",
    plan="https://example.com/plan",
    conversation="thread",
    surface="surface",
    age="age",
    zdr="org.zdr",
)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


@functools.cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


@functools.cache
def other_rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@functools.cache
def ec_key(which: int = 0) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(which + 7, ec.SECP256R1())


@functools.cache
def ed_key(which: int = 0) -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.from_private_bytes(bytes([which]) * 32)


def jwk(key: PrivateKey, kid: object = "k1", **members: Any) -> dict[str, Any]:
    public: dict[str, Any]
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        public = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        point = key.public_key().public_numbers()
        size = (key.curve.key_size + 7) // 8
        crv = {256: "P-256", 384: "P-384", 521: "P-521"}[key.curve.key_size]
        public = {"kty": "EC", "crv": crv, "x": number(point.x, size), "y": number(point.y, size)}
    else:
        public = {"kty": "OKP", "crv": "Ed25519", "x": b64(key.public_key().public_bytes_raw())}
    return {**public, "kid": kid, **members}


def jwks(*keys: object) -> bytes:
    return json.dumps({"keys": keys}).encode()


def signature(key: PrivateKey | bytes, alg: str, signed: bytes) -> bytes:
    if isinstance(key, bytes):
        return hmac.digest(key, signed, {"HS256": "sha256", "HS512": "sha512"}.get(alg, "sha256"))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return key.sign(signed)


def claims(**changes: Any) -> dict[str, Any]:
    """The claims of a good token for alice of acme; None takes one away."""
    seconds = NOW // 1000
    good = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "exp": seconds + 300,
        "iat": seconds - 10,
        "org": {"id": "acme"},
        "https://example.com/plan": "Pro",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def token(
    payload: Mapping[str, Any] | bytes | None = None,
    *,
    key: PrivateKey | bytes | None = None,
    header: Mapping[str, Any] | bytes | None = None,
    **header_changes: Any,
) -> bytes:
    """Sign claims with *key* (alice's good token without arguments)."""
    key = ed_key() if key is None else key
    alg = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "EdDSA"
    alg = "ES256" if isinstance(key, ec.EllipticCurvePrivateKey) else alg
    whole: dict[str, Any] = {"alg": alg, "kid": "k1"}
    if not isinstance(header, bytes):
        whole |= {**(header or {}), **header_changes}
        header = json.dumps({name: value for name, value in whole.items() if value is not None}).encode()
    if not isinstance(payload, bytes):
        payload = json.dumps(claims() if payload is None else payload).encode()
    signed = f"{b64(header)}.{b64(payload)}".encode()
    return signed + b"." + b64(signature(key, whole["alg"], signed)).encode()


class Published:
    """The issuer's keys, as if they had been fetched."""

    def __init__(self, *keys: Mapping[str, Any]) -> None:
        self.asked: list[str] = []
        self.are_current = True
        self.publish(*(keys or (jwk(ed_key()),)))

    def publish(self, *keys: Mapping[str, Any]) -> None:
        self._set: KeySet = read_key_set(jwks(*keys), algorithms=ALGORITHMS)

    def find(self, kid: str, algorithm: str) -> VerifyingKey | None:
        self.asked.append(kid)
        return self._set.keys.get((kid, algorithm)) if self.are_current else None


@dataclass
class Time:
    now: int = NOW

    def __call__(self) -> int:
        return self.now


def identity(
    keys: VerifyingKeys | None = None,
    *,
    clock: Time | None = None,
    names: ClaimNames = NAMES,
    header: bytes = b"authorization",
    leeway_ms: int = 60 * SECOND,
    algorithms: frozenset[str] = ALGORITHMS,
    remember: int = 100,
) -> JWTIdentity:
    return JWTIdentity(
        keys or Published(),
        issuer=Issuer(name=ISSUER, audiences=frozenset((AUDIENCE, "other")), leeway_ms=leeway_ms),
        names=names,
        algorithms=algorithms,
        clock=clock or Time(),
        header=header,
        remember=remember,
    )


def identify(text: bytes, *more: tuple[bytes, bytes], by: JWTIdentity | None = None) -> Identified:
    headers: Headers = [(b"authorization", b"Bearer " + text), *more]
    return (by or identity())(headers, "192.0.2.1")


def why(text: bytes, *, by: JWTIdentity | None = None) -> str | None:
    """Return why the token is not believed, None if it is."""
    return identify(text, by=by).rejected
