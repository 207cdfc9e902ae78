"""How is a statement signed so that anybody can check it, with the public key alone?

A statement is one JSON object with a ``format``. ``signature`` is Ed25519 over the format, a line end, and the object
without ``signature`` as canonical JSON: keys sorted, no space between, UTF-8 without escapes beyond JSON's own. ``kid``
is the RFC 7638 thumbprint of the key, so a key cannot be passed off as another.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any

from chatproxy.crypto.keys import SigningSeed
from chatproxy.crypto.primitives import ed25519_public, ed25519_sign, ed25519_verify, sha256
from chatproxy.errors import UndecryptableError

_LARGEST = 256 << 10


def sign_document(document: Mapping[str, Any], *, seed: SigningSeed) -> bytes:
    """Return *document* as a file, signed: canonical JSON and a line end."""
    signature = {
        "alg": "EdDSA",
        "kid": key_id(ed25519_public(seed.reveal())),
        "value": encode_base64url(ed25519_sign(seed.reveal(), _signed_bytes(document))),
    }
    return _canonical({**document, "signature": signature}) + b"\n"


def verify_document(file: bytes, *, form: str, kind: str, publics: Iterable[bytes]) -> dict[str, Any]:
    """Return what a statement of the format *form* says if one of *publics* has signed it, without the signature.

    Raises UndecryptableError, with the word *kind* and: _format, _unknown_key, _signature.
    """
    try:
        return _verified(file, form=form, kind=kind, publics=publics)
    except ValueError:
        raise UndecryptableError(f"{kind}_format") from None


def _verified(file: bytes, *, form: str, kind: str, publics: Iterable[bytes]) -> dict[str, Any]:
    document = _read(file)
    signature = document.pop("signature", None)
    try:
        kid, value = signature["kid"], decode_base64url(signature["value"])
        is_known = signature.keys() == {"alg", "kid", "value"} and signature["alg"] == "EdDSA"
    except (KeyError, TypeError, AttributeError):
        raise ValueError("has no signature") from None
    if not is_known or document.get("format") != form:
        raise ValueError("is of another form")
    public = next((public for public in publics if key_id(public) == kid), None)
    if public is None:
        raise UndecryptableError(f"{kind}_unknown_key")
    ed25519_verify(public, value, _signed_bytes(document), reason=f"{kind}_signature")
    return document


def key_id(public: bytes) -> str:
    """Return the thumbprint of a public key (RFC 7638)."""
    return encode_base64url(
        sha256(_canonical({"crv": "Ed25519", "kty": "OKP", "x": encode_base64url(public)}))
    )


def _read(file: bytes) -> dict[str, Any]:
    if len(file) > _LARGEST:
        raise ValueError("is too long")
    try:
        found = json.loads(
            file.decode(), object_pairs_hook=_unambiguous, parse_constant=_refuse, parse_float=_refuse
        )
    except RecursionError:
        raise ValueError("is too deep") from None
    if not isinstance(found, dict):
        raise ValueError("is no object")  # noqa: TRY004 - it is the file that is wrong, not a type of ours
    return found


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two members of one name each reader could take another, so there is no such statement."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a member twice")
    return dict(pairs)


def _refuse(number: str) -> Any:
    raise ValueError(f"a statement has no such number: {number}")


def _signed_bytes(document: Mapping[str, Any]) -> bytes:
    return str(document["format"]).encode() + b"\n" + _canonical(document)


def _canonical(value: Mapping[str, Any]) -> bytes:
    """Return canonical JSON. Raises ValueError for a lone surrogate, which JSON can escape and UTF-8 cannot say."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def encode_base64url(data: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode_base64url(text: str) -> bytes:
    """Undo ``encode_base64url``; one spelling only. Raises ValueError."""
    data = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if encode_base64url(data) != text:
        raise ValueError("not base64url")
    return data
