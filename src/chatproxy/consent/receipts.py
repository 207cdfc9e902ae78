"""What does a person hold in their hands after a yes, a no or a withdrawal? A receipt, which anyone can verify (R37).

A receipt is one JSON object in the terms of ISO/IEC TS 27560:2023, made of the consent record in the ledger and of
nothing else, and says nothing about how the person behaved. The same event and key give the same bytes.

It is signed as ``chatproxy.crypto.signed_document`` says. docs/receipts.md has every member.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from chatproxy.consent.events import ConsentEvent
from chatproxy.crypto.keys import SigningSeed
from chatproxy.crypto.signed_document import (
    decode_base64url,
    encode_base64url,
    key_id,
    sign_document,
    verify_document,
)
from chatproxy.errors import ConfigurationError
from chatproxy.policy.instants import format_instant

FORMAT = "chatproxy/receipt/v1"
_STANDARD = "ISO/IEC TS 27560:2023"
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
    return sign_document(receipt, seed=seed)


def verify_receipt(file: bytes, *, publics: Iterable[bytes]) -> dict[str, Any]:
    """Return what a receipt says if one of *publics* has signed it, without the signature.

    Raises UndecryptableError: receipt_format, receipt_unknown_key, receipt_signature.
    """
    return verify_document(file, form=FORMAT, kind="receipt", publics=publics)


def write_public_keys(publics: Sequence[bytes]) -> str:
    """Return public keys as a JWK Set (RFC 7517, RFC 8037), the present one first."""
    keys = [
        {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": encode_base64url(public),
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
        publics = tuple(decode_base64url(key["x"]) for key in keys)
    except (ValueError, KeyError, TypeError):
        publics = ()
    if not publics or any(len(public) != _KEY_SIZE for public in publics):
        raise ConfigurationError(
            f"{source} is no file of public keys; make one with `chatproxy keys public > FILE`"
        )
    return publics
