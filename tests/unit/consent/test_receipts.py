"""A receipt says what the ledger says, and anyone can tell whether it does (R37)."""

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from chatproxy.consent.events import (
    Choice,
    Circumstances,
    ConsentEvent,
    ShownNotice,
    read_ledger,
    write_choice,
)
from chatproxy.consent.receipts import (
    read_public_keys,
    receipt_of,
    sign_receipt,
    verify_receipt,
    write_public_keys,
)
from chatproxy.crypto.annotation import AnnotationKeys
from chatproxy.crypto.keys import MacKey, SigningSeed
from chatproxy.crypto.primitives import ed25519_public
from chatproxy.crypto.signed_document import key_id
from chatproxy.errors import ConfigurationError, UndecryptableError
from chatproxy.model import Age, ConversationTag, SubjectTag, Surface
from chatproxy.policy.versions import PolicyVersion

KEYS = AnnotationKeys(1, {1: MacKey(bytes(range(32)))})
SEED = SigningSeed(bytes(range(1, 33)))
OTHER_SEED = SigningSeed(bytes(range(2, 34)))
PUBLIC = ed25519_public(SEED.reveal())
ANA = SubjectTag(b"A" * 16)
AT = 1_760_000_000_000
ABOUT = Circumstances(
    policy=PolicyVersion(version="2025-08-28", published_at=AT - 2, effective_at=AT - 1, sha256="ab" * 32),
    notice=ShownNotice(sha256="cd" * 32, language="fr", screen="page", buttons=("yes", "no")),
    plan="pro",
    age=Age.ADULT,
    terms={
        "retention_if_yes": "P5Y",
        "retention_if_no": "P30D",
        "storage_location": "eu-west",
        "recipients": [],
        "transfers": [],
        "controller": {"name": "Exemple SAS", "address": "Paris", "contact": "a@b", "dpo": "d@b"},
        "jurisdiction": "FR",
        "authority": "CNIL",
        "withdrawal": {"url": "https://chat.example.com/_chatproxy/", "steps": 1},
    },
)


def an_event(choice: Choice = Choice.GIVEN, *, conversation: ConversationTag | None = None) -> ConsentEvent:
    written = write_choice(
        subject=ANA,
        choice=choice,
        at=AT,
        by="data_subject",
        method="button:yes",
        purposes=("train.capability",),
        surfaces=(Surface.CHAT,),
        record_id="r-1",
        previous=None,
        keys=KEYS,
        conversation=conversation,
        circumstances=ABOUT,
    )
    [event] = read_ledger([written], subject=ANA, keys=KEYS)
    assert isinstance(event, ConsentEvent)
    return event


def a_receipt(choice: Choice = Choice.GIVEN, seed: SigningSeed = SEED) -> bytes:
    return sign_receipt(receipt_of(an_event(choice), conversation=None), seed=seed)


def altered(**members: Any) -> bytes:
    return json.dumps(json.loads(a_receipt()) | members).encode()


def resigned(**members: str) -> bytes:
    receipt = json.loads(a_receipt())
    return json.dumps(receipt | {"signature": receipt["signature"] | members}).encode()


@pytest.mark.parametrize("choice", list(Choice))
def test_every_choice_has_a_receipt_that_verifies(choice: Choice) -> None:
    found = verify_receipt(a_receipt(choice), publics=[PUBLIC])
    assert found["event"]["event_state"] == choice.dpv
    assert {purpose["decision"] for purpose in found["pii_processing"]["purposes"]} == (
        {"yes", "no"} if choice.permits else {"no"}
    )


def test_a_receipt_is_the_record_in_the_terms_of_the_standard() -> None:
    event = an_event()
    assert verify_receipt(a_receipt(), publics=[PUBLIC]) == {
        "format": "chatproxy/receipt/v1",
        "schema_version": "ISO/IEC TS 27560:2023",
        "receipt_id": "receipt-r-1",
        "record_id": "r-1",
        "pii_principal_id": ANA.hex(),
        "event": {
            "event_time": "2025-10-09T08:53:20Z",
            "event_state": "ConsentGiven",
            "event_type": "ExplicitlyExpressedConsent",
            "entity_id": "data_subject",
            "collection_method": "button:yes",
            "validity_duration": "until_withdrawn",
            "record_hash": event.digest,
            "previous_record_hash": None,
        },
        "pii_processing": {
            "privacy_notice": {
                "sha256": "cd" * 32,
                "language": "fr",
                "screen": "page",
                "layout": {
                    "buttons": ["yes", "no"],
                    "equal_prominence": True,
                    "preselected": False,
                    "bundled_with_terms": False,
                },
            },
            "policy": {
                "version": "2025-08-28",
                "published_at": "2025-10-09T08:53:19.998Z",
                "effective_at": "2025-10-09T08:53:19.999Z",
                "sha256": "ab" * 32,
            },
            "purposes": [
                {"purpose": "train.capability", "lawful_basis": "A6-1-a", "decision": "yes"},
                {"purpose": "train.safety", "lawful_basis": "A6-1-a", "decision": "no"},
            ],
            "services": ["chat"],
            "scope": {"kind": "account"},
            "retention_period": {"if_yes": "P5Y", "if_no": "P30D"},
            "storage_locations": "eu-west",
            "recipient_third_parties": [],
            "transfers": [],
            "jurisdictions": "FR",
            "withdrawal_method": {"url": "https://chat.example.com/_chatproxy/", "steps": 1},
            "authority_party": "CNIL",
            "signals": {"sec_gpc": False},
        },
        "party_identification": {
            "party_role": "controller",
            "party_name": "Exemple SAS",
            "party_address": "Paris",
            "party_contact": "a@b",
            "data_protection_officer": "d@b",
        },
    }


def test_a_receipt_about_one_conversation_names_its_handle() -> None:
    event = an_event(conversation=ConversationTag(b"C" * 16))
    receipt = receipt_of(event, conversation="c_x")
    assert receipt["pii_processing"]["scope"] == {"kind": "conversation", "conversation": "c_x"}
    assert b"C" * 16 not in sign_receipt(receipt, seed=SEED)


def test_the_same_choice_gives_the_same_bytes() -> None:
    assert a_receipt() == a_receipt()
    assert a_receipt().endswith(b"}\n")
    assert a_receipt().count(b"\n") == 1


@pytest.mark.parametrize("word", ["click", "second", "shown_at", "mouse", "duration_ms"])
def test_a_receipt_says_nothing_about_behaviour(word: str) -> None:
    assert word not in a_receipt().decode().lower()


def test_a_second_implementation_verifies_a_receipt_as_documented() -> None:
    receipt = json.loads(a_receipt())
    signature = receipt.pop("signature")
    signed = json.dumps(receipt, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    value = base64.urlsafe_b64decode(signature["value"] + "==")
    Ed25519PublicKey.from_public_bytes(PUBLIC).verify(value, b"chatproxy/receipt/v1\n" + signed.encode())


def test_a_receipt_that_was_printed_nicely_still_verifies() -> None:
    pretty = json.dumps(json.loads(a_receipt()), indent=4).encode()
    assert verify_receipt(pretty, publics=[ed25519_public(OTHER_SEED.reveal()), PUBLIC])


@pytest.mark.parametrize(
    "file, reason",
    [
        pytest.param(altered(record_id="r-2"), "receipt_signature", id="another record"),
        pytest.param(altered(extra=1), "receipt_signature", id="a member more"),
        pytest.param(altered(format="chatproxy/receipt/v2"), "receipt_format", id="another format"),
        pytest.param(altered(signature=None), "receipt_format", id="unsigned"),
        pytest.param(altered(signature="x"), "receipt_format", id="a signature that is none"),
        pytest.param(altered(record_id=1.5), "receipt_format", id="a fraction"),
        pytest.param(altered(record_id="\ud800"), "receipt_format", id="a lone surrogate"),
        pytest.param(resigned(alg="none"), "receipt_format", id="no algorithm"),
        pytest.param(resigned(more="x"), "receipt_format", id="more in the signature"),
        pytest.param(resigned(value="AAAA"), "receipt_signature", id="a short signature"),
        pytest.param(resigned(value="*"), "receipt_format", id="a signature that is no base64"),
        pytest.param(resigned(kid="x"), "receipt_unknown_key", id="a key of another name"),
        pytest.param(a_receipt(seed=OTHER_SEED), "receipt_unknown_key", id="another key"),
        pytest.param(
            a_receipt().replace(b'{"event":', b'{"record_id":"r-2","event":', 1),
            "receipt_format",
            id="a member twice",
        ),
        pytest.param(b"", "receipt_format", id="nothing"),
        pytest.param(b"[]", "receipt_format", id="a list"),
        pytest.param(b"\xff", "receipt_format", id="no text"),
        pytest.param(b"[" * 100_000, "receipt_format", id="a well"),
        pytest.param(a_receipt()[:-10], "receipt_format", id="cut"),
        pytest.param(a_receipt() + b" " * (256 << 10), "receipt_format", id="endless"),
    ],
)
def test_what_is_no_genuine_receipt_is_refused(file: bytes, reason: str) -> None:
    with pytest.raises(UndecryptableError) as failure:
        verify_receipt(file, publics=[PUBLIC])
    assert failure.value.reason == reason


def test_public_keys_are_a_jwk_set_that_reads_back() -> None:
    publics = (PUBLIC, ed25519_public(OTHER_SEED.reveal()))
    text = write_public_keys(publics)
    assert read_public_keys(text, source="f") == publics
    assert [key["kid"] for key in json.loads(text)["keys"]] == [key_id(public) for public in publics]


def test_the_key_id_is_the_thumbprint_of_rfc_8037() -> None:
    public = base64.urlsafe_b64decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
    assert key_id(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"keys": []}', '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}]}']
)
def test_what_is_no_file_of_public_keys_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is no file of public keys"):
        read_public_keys(text, source="keys.json")
