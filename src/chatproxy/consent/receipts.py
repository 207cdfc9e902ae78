"""What does a person hold in their hands after a yes, a no or a withdrawal? A receipt, which anyone can verify (R37).

A receipt is one JSON object in the terms of ISO/IEC TS 27560:2023, made of the consent record in the ledger and of
nothing else, and says nothing about how the person behaved. The same event and key give the same bytes.

``signature`` is Ed25519 over the label ``chatproxy/receipt/v1``, a line end, and the receipt without ``signature`` as
canonical JSON: keys sorted, no space between, UTF-8 without escapes beyond JSON's own. ``kid`` is the RFC 7638
thumbprint of the key, so a key cannot be passed off as another. docs/receipts.md has every member.
"""

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chatproxy.consent.events import ConsentEvent
from chatproxy.crypto.keys import SigningSeed
from chatproxy.crypto.primitives import ed25519_public, ed25519_sign, ed25519_verify, sha256
from chatproxy.errors import ConfigurationError, UndecryptableError
from chatproxy.policy.instants import format_instant

FORMAT = "chatproxy/receipt/v1"
_LABEL = FORMAT.encode() + b"\n"
_STANDARD = "ISO/IEC TS 27560:2023"
_LARGEST = 256 << 10
_KEY_SIZE = 32


def receipt_of(event: ConsentEvent, *, conversation: str | None) -> dict[str, Any]:
    """Return the receipt of *event*, not yet signed; ``conversation``: the handle of the one it is about."""
    record = event.record
    controller = record.get("controller") or {}
    scope = {"kind": record["scope"]["kind"]}
    if conversation is not None:
        scope["conversation"] = conversation
    return {
        "format": FORMAT,
        "schema_version": _STANDARD,
        "receipt_id": event.receipt_id,
        "record_id": record["record_id"],
        "pii_principal_id": record["subject"],
        "event": {
            "event_time": format_instant(event.at),
            "event_state": record["event"]["state"],
            "event_type": record["event"]["type"],
            "entity_id": event.by,
            "collection_method": event.method,
            "validity_duration": record["event"]["duration"],
            "record_hash": event.digest,
            "previous_record_hash": record["event"]["previous_event"],
        },
        "pii_processing": {
            "privacy_notice": record["notice"],
            "policy": record["policy"],
            "purposes": [
                {
                    "purpose": purpose["id"],
                    "lawful_basis": purpose["basis"],
                    "decision": purpose["decision"],
                }
                for purpose in record["purposes"]
            ],
            "services": record["scope"]["surfaces"],
            "scope": scope,
            "retention_period": {
                "if_yes": record.get("retention_if_yes"),
                "if_no": record.get("retention_if_no"),
            },
            "storage_locations": record.get("storage_location"),
            "recipient_third_parties": record.get("recipients"),
            "transfers": record.get("transfers"),
            "jurisdictions": record.get("jurisdiction"),
            "withdrawal_method": record.get("withdrawal"),
            "authority_party": record.get("authority"),
            "signals": record["signals"],
        },
        "party_identification": {
            "party_role": "controller",
            "party_name": controller.get("name"),
            "party_address": controller.get("address"),
            "party_contact": controller.get("contact"),
            "data_protection_officer": controller.get("dpo"),
        },
    }


def sign_receipt(receipt: Mapping[str, Any], *, seed: SigningSeed) -> bytes:
    """Return the receipt as a file, signed: canonical JSON and a line end."""
    signature = {
        "alg": "EdDSA",
        "kid": key_id(ed25519_public(seed.reveal())),
        "value": _encode(ed25519_sign(seed.reveal(), _signed_bytes(receipt))),
    }
    return _canonical({**receipt, "signature": signature}) + b"\n"


def verify_receipt(file: bytes, *, publics: Iterable[bytes]) -> dict[str, Any]:
    """Return what a receipt says if one of *publics* has signed it, without the signature.

    Raises UndecryptableError: receipt_format, receipt_unknown_key, receipt_signature.
    """
    receipt = _read(file)
    signature = receipt.pop("signature", None)
    try:
        kid, value = signature["kid"], _decode(signature["value"])
        is_known = receipt["format"] == FORMAT and signature.keys() == {"alg", "kid", "value"}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UndecryptableError("receipt_format") from None
    if not is_known or signature["alg"] != "EdDSA":
        raise UndecryptableError("receipt_format")
    public = next((public for public in publics if key_id(public) == kid), None)
    if public is None:
        raise UndecryptableError("receipt_unknown_key")
    ed25519_verify(public, value, _signed_bytes(receipt), reason="receipt_signature")
    return receipt


def key_id(public: bytes) -> str:
    """Return the thumbprint of a public key (RFC 7638)."""
    members = {"crv": "Ed25519", "kty": "OKP", "x": _encode(public)}
    return _encode(sha256(_canonical(members)))


def write_public_keys(publics: Sequence[bytes]) -> str:
    """Return public keys as a JWK Set (RFC 7517, RFC 8037), the present one first."""
    keys = [
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": _encode(public),
            "kid": key_id(public),
            "alg": "EdDSA",
            "use": "sig",
        }
        for public in publics
    ]
    return json.dumps({"keys": keys}, indent=2)


def read_public_keys(text: str, *, source: str) -> tuple[bytes, ...]:
    """Undo ``write_public_keys``. Raises ConfigurationError, which names *source*."""
    try:
        keys = [key for key in json.loads(text)["keys"] if key["kty"] == "OKP" and key["crv"] == "Ed25519"]
        publics = tuple(_decode(key["x"]) for key in keys)
    except (ValueError, KeyError, TypeError):
        publics = ()
    if not publics or any(len(public) != _KEY_SIZE for public in publics):
        raise ConfigurationError(
            f"{source} is no file of public keys; make one with `chatproxy keys public > FILE`"
        )
    return publics


def _read(file: bytes) -> dict[str, Any]:
    if len(file) > _LARGEST:
        raise UndecryptableError("receipt_format")
    try:
        found = json.loads(
            file.decode(), object_pairs_hook=_unambiguous, parse_constant=_refuse, parse_float=_refuse
        )
    except (ValueError, RecursionError):
        raise UndecryptableError("receipt_format") from None
    if not isinstance(found, dict):
        raise UndecryptableError("receipt_format")
    return found


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two members of one name each reader could take another, so there is no such receipt."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a member twice")
    return dict(pairs)


def _refuse(number: str) -> Any:
    raise ValueError(f"a receipt has no such number: {number}")


def _signed_bytes(receipt: Mapping[str, Any]) -> bytes:
    return _LABEL + _canonical(receipt)


def _canonical(value: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can escape and UTF-8 cannot say
        raise UndecryptableError("receipt_format") from None


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Undo ``_encode``; one spelling only. Raises ValueError."""
    data = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if _encode(data) != text:
        raise ValueError("not base64url")
    return data
