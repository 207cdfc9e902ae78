"""Every case of tests/vectors/testkit comes out as its file says, and the files are what their script makes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chatproxy.consent.receipts import verify_receipt
from chatproxy.crypto.annotation import AnnotationKeys, authenticate, verify
from chatproxy.crypto.keyring import Keyring
from chatproxy.crypto.keys import (
    DataKey,
    KeyEncryptionKey,
    MacKey,
    PseudonymKey,
    RootSecret,
    SigningSeed,
)
from chatproxy.crypto.keyset import parse_keyset, write_keyset
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.crypto.record import open_record, parse_header, seal_record
from chatproxy.crypto.root import root_check, root_version_of, unwrap_under_root, wrap_under_root
from chatproxy.crypto.sealed_keyset import open_sealed, parse_sealed, secrets_of, write_sealed
from chatproxy.crypto.signed_document import sign_document
from chatproxy.crypto.wrap import Purpose, unwrap_key, wrap_key, wrapped_under
from chatproxy.errors import KeysetError, UndecryptableError
from chatproxy.model import SubjectTag, TurnId
from chatproxy.workflows.erasure_certificate import verify_certificate
from vectors.testkit import make

DIRECTORY = Path(__file__).parents[2] / "vectors"


def cases(name: str) -> pytest.MarkDecorator:
    found = json.loads((DIRECTORY / name).read_text())
    return pytest.mark.parametrize("case", [pytest.param(case, id=case["name"]) for case in found])


def unhex(case: dict[str, Any], name: str) -> bytes:
    return bytes.fromhex(case[name])


@pytest.mark.parametrize("name", make.FILES)
def test_the_testkit_is_what_its_script_makes(name: str) -> None:
    assert (DIRECTORY / "testkit" / f"{name}.json").read_text() == make.text_of(name)


@cases("testkit/records.json")
def test_records(case: dict[str, Any]) -> None:
    blob = unhex(case, "blob")
    names: dict[str, Any] = {
        "subject_key": DataKey(unhex(case, "subject_key")),
        "epoch_key": DataKey(unhex(case, "epoch_key")),
        "subject": unhex(case, "subject"),
        "metadata": unhex(case, "metadata"),
    }
    if case["expect"] != "opens":
        with pytest.raises(UndecryptableError) as caught:
            open_record(blob, **names)
        assert caught.value.reason == case["expect"]
        return

    payload = open_record(blob, **names)
    again = seal_record(parse_header(blob), **names, payload=payload, seed=blob[36:60])

    assert payload == unhex(case, "payload")
    assert again == blob


@cases("testkit/wraps.json")
def test_wraps(case: dict[str, Any]) -> None:
    kek = KeyEncryptionKey(unhex(case, "kek"))
    names: dict[str, Any] = {"purpose": Purpose(case["purpose"]), "ident": unhex(case, "ident")}
    wrapped = unhex(case, "wrapped")
    if case["expect"] != "opens":
        with pytest.raises(UndecryptableError) as caught:
            unwrap_key(kek, wrapped=wrapped, **names)
        assert caught.value.reason == case["expect"]
        return

    key = unwrap_key(kek, wrapped=wrapped, **names)
    again = wrap_key(
        kek, kek_version=wrapped_under(wrapped), key=key, random=lambda _size: wrapped[4:16], **names
    )

    assert key.reveal() == unhex(case, "key")
    assert again == wrapped
    assert len(wrapped) == 64


@cases("testkit/root_wraps.json")
def test_root_wraps(case: dict[str, Any]) -> None:
    root = RootSecret(unhex(case, "root"))
    assert root_check(root) == case["check"]
    names: dict[str, Any] = {"purpose": case["purpose"], "ident": unhex(case, "ident")}
    wrapped = unhex(case, "wrapped")
    if case["expect"] != "opens":
        with pytest.raises(UndecryptableError) as caught:
            unwrap_under_root(root, wrapped=wrapped, **names)
        assert caught.value.reason == case["expect"]
        return

    secret = unwrap_under_root(root, wrapped=wrapped, **names)
    again = wrap_under_root(
        root, version=root_version_of(wrapped), secret=secret, random=lambda _size: wrapped[3:15], **names
    )

    assert secret == unhex(case, "secret")
    assert again == wrapped


@cases("testkit/annotations.json")
def test_annotations(case: dict[str, Any]) -> None:
    keys = {int(version): MacKey(bytes.fromhex(key)) for version, key in case["keys"].items()}
    of: dict[str, Any] = {
        "subject": SubjectTag(unhex(case, "subject")),
        "turn": TurnId(unhex(case, "turn")),
    }
    fields = {name.encode(): bytes.fromhex(value) for name, value in case["fields"].items()}
    if case["expect"] != "opens":
        with pytest.raises(UndecryptableError) as caught:
            verify(fields, keys=AnnotationKeys(2, keys), **of)
        assert caught.value.reason == case["expect"]
        return

    annotation = verify(fields, keys=AnnotationKeys(2, keys), **of)

    assert authenticate(annotation, keys=AnnotationKeys(int(fields[b"kv"]), keys), **of) == fields


@cases("testkit/keysets.json")
def test_keysets(case: dict[str, Any]) -> None:
    data = case["text"].encode()
    if case["expect"] != "opens":
        with pytest.raises(KeysetError) as caught:
            parse_keyset(data, source="/keys/keyset")
        assert case["expect"] in str(caught.value)
        assert str(caught.value).startswith("/keys/keyset: ")
        assert str(caught.value).count(". ") == 1, "what is wrong, then what to do"
        return

    keyset = parse_keyset(data, source="/keys/keyset")

    assert write_keyset(keyset).strip() == data.strip()


@cases("testkit/sealed_keysets.json")
def test_sealed_keysets(case: dict[str, Any]) -> None:
    data, secrets = case["text"].encode(), [bytes.fromhex(secret) for secret in case["secrets"]]
    if case["expect"] != "opens":
        with pytest.raises(KeysetError) as caught:
            open_sealed(data, secrets)
        assert case["expect"] in str(caught.value)
        return

    keyset = open_sealed(data, secrets)

    assert [secret for _, secret in secrets_of(keyset)] == secrets
    assert write_sealed(keyset, [wrap for _, wrap in parse_sealed(data).wrapped_secrets()]) == data


@pytest.mark.parametrize(
    "verify_file, case",
    [
        pytest.param(verify_file, case, id=f"{name}: {case['name']}")
        for name, verify_file in (("receipt", verify_receipt), ("certificate", verify_certificate))
        for case in json.loads((DIRECTORY / f"testkit/{name}s.json").read_text())
    ],
)
def test_signed_documents(verify_file: Callable[..., dict[str, Any]], case: dict[str, Any]) -> None:
    file, publics = (
        unhex(case, "file") + b" " * case["blanks"],
        [bytes.fromhex(public) for public in case["publics"]],
    )
    if case["expect"] != "opens":
        with pytest.raises(UndecryptableError) as caught:
            verify_file(file, publics=publics)
        assert caught.value.reason == case["expect"]
        return

    assert verify_file(file, publics=publics) == case["says"]


def test_a_signed_document_is_written_as_the_testkit_has_it() -> None:
    [whole] = [case for case in json.loads(make.text_of("receipts")) if case["name"] == "whole"]
    assert sign_document(whole["says"], seed=SigningSeed(make.drawn("signing"))) == unhex(whole, "file")


@cases("testkit/rings.json")
def test_rings(case: dict[str, Any]) -> None:
    secrets = [bytes.fromhex(secret) for secret in case["secrets"]]
    if case["expect"] != "opens":
        with pytest.raises(KeysetError) as caught:
            Keyring(case["text"].encode(), secrets)
        assert case["expect"] in str(caught.value)
        assert str(caught.value).startswith("the key ring in the store ")
        return

    ring = Keyring(case["text"].encode(), secrets)

    assert (ring.counter, ring.primary_version) == (9, 4)


@cases("testkit/pseudonyms.json")
def test_pseudonyms(case: dict[str, Any]) -> None:
    pseudonymizer = Pseudonymizer(PseudonymKey(unhex(case, "key")))
    person = {"tenant": case["tenant"], "subject": case["subject"]}
    turn = TurnId(unhex(case, "turn"))

    tag = pseudonymizer.subject_tag(**person)
    conversation = pseudonymizer.conversation_tag(**person, conversation=case["conversation"])

    assert tag == unhex(case, "subject_tag")
    assert conversation == unhex(case, "conversation_tag")
    assert pseudonymizer.history_hasher(tag)(b"hello") == unhex(case, "message_hash_of_hello")
    assert pseudonymizer.turn_handle(tag, turn) == case["turn_handle"]
    assert pseudonymizer.read_turn_handle(case["turn_handle"]) == (tag, turn)
    assert pseudonymizer.conversation_handle(tag, conversation) == case["conversation_handle"]
    assert pseudonymizer.read_conversation_handle(case["conversation_handle"]) == (tag, conversation)
