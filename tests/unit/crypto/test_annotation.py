"""Making annotations and authenticating consent events; refusals are in the testkit."""

from typing import Any

import pytest

from chatproxy.crypto.annotation import (
    Annotation,
    AnnotationKeys,
    authenticate,
    event_mac,
    verify,
    verify_event_mac,
)
from chatproxy.crypto.keys import MacKey
from chatproxy.errors import UndecryptableError
from chatproxy.model import SubjectTag, TurnId
from vectors.testkit import independent as second

KEYS = AnnotationKeys(2, {1: MacKey.generate(), 2: MacKey.generate()})
ALICE, BOB = SubjectTag(b"a" * 16), SubjectTag(b"b" * 16)
TURN = TurnId(b"t" * 16)


def an_annotation(**changed: Any) -> Annotation:
    fields: dict[str, Any] = {"seq": 1, "expires_at": 1_795_342_723_456, "metadata": b"{}", "body": b"[]"}
    return Annotation(**(fields | changed))


def test_an_annotation_is_authenticated_under_the_primary_key() -> None:
    fields = authenticate(an_annotation(), keys=KEYS, subject=ALICE, turn=TURN)

    assert fields[b"kv"] == b"2"
    assert verify(fields, keys=KEYS, subject=ALICE, turn=TURN) == an_annotation()


def test_a_change_names_the_state_before_it() -> None:
    first = authenticate(an_annotation(), keys=KEYS, subject=ALICE, turn=TURN)
    changed = an_annotation(seq=2, body=b"[1]", previous_mac=first[b"mac"])

    fields = authenticate(changed, keys=KEYS, subject=ALICE, turn=TURN)

    assert fields[b"prev"] == first[b"mac"]
    assert verify(fields, keys=KEYS, subject=ALICE, turn=TURN) == changed


@pytest.mark.parametrize("changed", [{"seq": -1}, {"expires_at": 10**19}])
def test_numbers_that_could_not_be_read_back_are_not_written(changed: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="19 digits"):
        authenticate(an_annotation(**changed), keys=KEYS, subject=ALICE, turn=TURN)


def test_an_annotation_prints_no_content() -> None:
    assert "canary" not in repr(an_annotation(metadata=b"canary", body=b"canary"))


def test_an_event_is_authenticated_as_the_format_says() -> None:
    found = event_mac(b"event", keys=KEYS, version=1, subject=ALICE)

    assert found == second.event_mac(KEYS[1].reveal(), b"1", ALICE, b"event")
    verify_event_mac(b"event", found, keys=KEYS, version=1, subject=ALICE)


@pytest.mark.parametrize(
    "event, version, subject, reason",
    [
        pytest.param(b"other", 1, ALICE, "event_mac", id="another event"),
        pytest.param(b"event", 2, ALICE, "event_mac", id="another version"),
        pytest.param(b"event", 1, BOB, "event_mac", id="another subject"),
        pytest.param(b"event", 3, ALICE, "unknown_annotation_key_version", id="unknown version"),
    ],
)
def test_an_event_does_not_pass_as(event: bytes, version: int, subject: SubjectTag, reason: str) -> None:
    found = event_mac(b"event", keys=KEYS, version=1, subject=ALICE)
    with pytest.raises(UndecryptableError) as caught:
        verify_event_mac(event, found, keys=KEYS, version=version, subject=subject)

    assert caught.value.reason == reason


@pytest.mark.parametrize("mac", [b"", bytes(16), bytes(32)])
def test_an_events_mac_is_whole_or_nothing(mac: bytes) -> None:
    with pytest.raises(UndecryptableError, match="event_mac"):
        verify_event_mac(b"event", mac, keys=KEYS, version=1, subject=ALICE)


def test_an_events_mac_is_no_annotations() -> None:
    fields = authenticate(an_annotation(), keys=KEYS, subject=ALICE, turn=TURN)
    names = [ALICE, TURN, *(fields[name] for name in (b"kv", b"seq", b"exp", b"meta", b"body", b"prev"))]
    tlv = b"".join(bytes([number]) + second.lp(value) for number, value in enumerate(names, start=1))

    with pytest.raises(UndecryptableError, match="event_mac"):
        verify_event_mac(tlv, fields[b"mac"], keys=KEYS, version=2, subject=ALICE)
