"""A choice is an event that cannot be forged, moved, reordered or left out."""

import pytest

from chatproxy.consent.events import (
    CAPABILITY,
    PURPOSES,
    Choice,
    ConsentEvent,
    read_ledger,
    write_choice,
)
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.annotation import AnnotationKeys
from chatproxy.crypto.keyset import make_keyset
from chatproxy.errors import UndecryptableError
from chatproxy.model import SubjectTag, Surface

ANA, BEA = SubjectTag(b"A" * 16), SubjectTag(b"B" * 16)
BOTH = (Surface.CHAT, Surface.CODE)


@pytest.fixture(scope="module")
def keys() -> AnnotationKeys:
    return make_keyset(created_at=0).annotation_keys()


def ledger(
    keys: AnnotationKeys,
    *made: Choice,
    subject: SubjectTag = ANA,
    purposes: tuple[str, ...] = PURPOSES,
    surfaces: tuple[Surface, ...] = BOTH,
) -> tuple[bytes, ...]:
    events: list[bytes] = []
    for number, choice in enumerate(made):
        events.append(
            write_choice(
                subject=subject, choice=choice, at=1000 + number, by="test", method="test", purposes=purposes,
                surfaces=surfaces, record_id=str(number), previous=events[-1] if events else None, keys=keys,
            )
        )  # fmt: skip
    return tuple(events)


def test_a_ledger_reads_back_as_it_was_written(keys: AnnotationKeys) -> None:
    first, second = read_ledger(ledger(keys, Choice.GIVEN, Choice.WITHDRAWN), subject=ANA, keys=keys)
    assert isinstance(first, ConsentEvent)
    assert isinstance(second, ConsentEvent)
    assert (first.choice, first.at, first.by, first.receipt_id) == (Choice.GIVEN, 1000, "test", "receipt-0")
    assert first.purposes == dict.fromkeys(PURPOSES, True)
    assert second.purposes == dict.fromkeys(PURPOSES, False)
    assert second.surfaces == ("chat", "code")
    assert first.digest != second.digest


def test_an_event_says_what_the_standard_asks(keys: AnnotationKeys) -> None:
    [event] = ledger(keys, Choice.REFUSED)
    assert b'"state":"ConsentRefused"' in event
    assert b'"schema":"dpv-27560:record-eu-gdpr"' in event
    assert b'"previous_event":null' in event


def test_every_flipped_bit_is_found(keys: AnnotationKeys) -> None:
    events = ledger(keys, Choice.GIVEN)
    for position in range(len(events[0])):
        forged = bytearray(events[0])
        forged[position] ^= 1
        with pytest.raises(UndecryptableError):
            read_ledger([bytes(forged)], subject=ANA, keys=keys)


def test_every_truncation_is_found(keys: AnnotationKeys) -> None:
    [event] = ledger(keys, Choice.GIVEN)
    for length in range(len(event)):
        with pytest.raises(UndecryptableError):
            read_ledger([event[:length]], subject=ANA, keys=keys)


CHANGED = {
    "one left out": (0, 2),
    "the first left out": (1, 2),
    "two exchanged": (1, 0, 2),
    "one repeated": (0, 0, 1, 2),
}


@pytest.mark.parametrize("order", CHANGED.values(), ids=CHANGED)
def test_a_changed_chain_is_found(order: tuple[int, ...], keys: AnnotationKeys) -> None:
    events = ledger(keys, Choice.GIVEN, Choice.WITHDRAWN, Choice.GIVEN)
    with pytest.raises(UndecryptableError, match="chain"):
        read_ledger([events[number] for number in order], subject=ANA, keys=keys)


def test_an_event_of_another_person_or_under_another_key_is_found(keys: AnnotationKeys) -> None:
    events = ledger(keys, Choice.GIVEN)
    with pytest.raises(UndecryptableError):
        read_ledger(events, subject=BEA, keys=keys)
    with pytest.raises(UndecryptableError):
        read_ledger(events, subject=ANA, keys=make_keyset(created_at=0).annotation_keys())


@pytest.mark.parametrize(
    "surfaces, purposes, asked, word",
    [
        (BOTH, PURPOSES, Surface.CHAT, ["given"]),
        ((Surface.CODE,), PURPOSES, Surface.CHAT, []),
        ((Surface.CODE,), PURPOSES, Surface.CODE, ["given"]),
        (BOTH, PURPOSES, Surface.UNKNOWN, []),
        (BOTH, (CAPABILITY,), Surface.CHAT, ["given"]),
        (BOTH, ("train.safety",), Surface.CHAT, ["refused"]),
    ],
)
def test_a_yes_counts_only_for_what_it_names(
    surfaces: tuple[Surface, ...],
    purposes: tuple[str, ...],
    asked: Surface,
    word: list[str],
    keys: AnnotationKeys,
) -> None:
    events = read_ledger(
        ledger(keys, Choice.GIVEN, surfaces=surfaces, purposes=purposes), subject=ANA, keys=keys
    )
    assert [found for _, found in PersonFacts(events).choices(asked)] == word


@pytest.mark.parametrize("choice", [Choice.REFUSED, Choice.WITHDRAWN, Choice.DEFERRED])
def test_a_no_counts_everywhere(choice: Choice, keys: AnnotationKeys) -> None:
    events = read_ledger(ledger(keys, choice, surfaces=(Surface.CODE,)), subject=ANA, keys=keys)
    for surface in Surface:
        assert [word for _, word in PersonFacts(events).choices(surface)] == [choice]
