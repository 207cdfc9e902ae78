"""What a record promises beyond the testkit: the published vectors, and what sealing refuses to make."""

import json
from pathlib import Path
from typing import Any

import pytest

from chatproxy.crypto.keys import DataKey
from chatproxy.crypto.record import (
    MAX_RECORD_BYTES,
    OVERHEAD,
    Grounds,
    RecordFlags,
    RecordHeader,
    epoch_day,
    open_record,
    parse_header,
    seal_record,
)
from chatproxy.errors import UndecryptableError
from chatproxy.model import SubjectTag, TurnId
from vectors.testkit import independent as second

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "record_v1.json").read_text())
vectors = pytest.mark.parametrize("vector", [pytest.param(vector, id=vector["name"]) for vector in VECTORS])

SUBJECT = SubjectTag(bytes(range(16)))
TURN = TurnId(bytes(range(16, 32)))


def a_header(**changed: Any) -> RecordHeader:
    fields: dict[str, Any] = {
        "flags": RecordFlags(0),
        "grounds": Grounds.SERVICE,
        "generation": 1,
        "expires_at": 1_795_342_723_456,
        "turn": TURN,
    }
    return RecordHeader(**(fields | changed))


def some_names() -> dict[str, Any]:
    return {
        "subject_key": DataKey.generate(),
        "epoch_key": DataKey.generate(),
        "subject": SUBJECT,
        "metadata": b"{}",
    }


def names_of(vector: dict[str, Any]) -> dict[str, Any]:
    return {
        "subject_key": DataKey(bytes.fromhex(vector["ks"])),
        "epoch_key": DataKey(bytes.fromhex(vector["ke"])),
        "subject": SubjectTag(bytes.fromhex(vector["subject"])),
        "metadata": bytes.fromhex(vector["meta"]),
    }


@vectors
def test_a_vector_opens_and_seals_again_to_the_same_bytes(vector: dict[str, Any]) -> None:
    blob, names = bytes.fromhex(vector["blob"]), names_of(vector)

    payload = open_record(blob, **names)
    again = seal_record(parse_header(blob), **names, payload=payload, seed=bytes.fromhex(vector["seed"]))

    assert payload == bytes.fromhex(vector["plaintext"])
    assert again == blob


@vectors
def test_a_vectors_header_is_read(vector: dict[str, Any]) -> None:
    header = parse_header(bytes.fromhex(vector["blob"]))

    assert header == RecordHeader(
        flags=RecordFlags(vector["flags"]),
        grounds=Grounds(vector["cls"]),
        generation=vector["gen"],
        expires_at=vector["expires_ms"],
        turn=TurnId(bytes.fromhex(vector["rid"])),
    )
    assert header.epoch == vector["epoch"]


@vectors
def test_the_second_implementation_makes_the_vectors(vector: dict[str, Any]) -> None:
    plaintext = bytes.fromhex(vector["plaintext"])
    blob = second.record(
        subject_key=bytes.fromhex(vector["ks"]),
        epoch_key=bytes.fromhex(vector["ke"]),
        subject=bytes.fromhex(vector["subject"]),
        metadata=bytes.fromhex(vector["meta"]),
        plaintext=second.padded(plaintext) if vector["flags"] & 2 else plaintext,
        turn=bytes.fromhex(vector["rid"]),
        seed=bytes.fromhex(vector["seed"]),
        expires_at=vector["expires_ms"],
        flags=vector["flags"],
        grounds=vector["cls"],
        generation=vector["gen"],
    )

    assert blob.hex() == vector["blob"]


@vectors
def test_every_bit_flip_of_a_vector_is_refused(vector: dict[str, Any]) -> None:
    blob, names = bytes.fromhex(vector["blob"]), names_of(vector)
    for bit in range(len(blob) * 8):
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(UndecryptableError):
            open_record(bytes(flipped), **names)


@vectors
def test_every_truncation_and_extension_of_a_vector_is_refused(vector: dict[str, Any]) -> None:
    blob, names = bytes.fromhex(vector["blob"]), names_of(vector)
    for wrong in (*(blob[:end] for end in range(len(blob))), blob + b"\0", b"\0" + blob, blob + blob[-16:]):
        with pytest.raises(UndecryptableError):
            open_record(wrong, **names)


@vectors
def test_no_vector_opens_under_the_keys_of_another(vector: dict[str, Any]) -> None:
    blob = bytes.fromhex(vector["blob"])
    for other in VECTORS:
        mixed = names_of(other) if other is not vector else names_of(vector) | {"subject": SUBJECT}
        with pytest.raises(UndecryptableError) as caught:
            open_record(blob, **mixed)
        assert caught.value.reason == "record_commitment"


def test_two_seals_of_the_same_have_nothing_in_common_but_their_names() -> None:
    names = some_names()
    one, two = (seal_record(a_header(), **names, payload=bytes(64)) for _ in range(2))

    assert one[:36] == two[:36]
    assert one[36:60] != two[36:60]
    assert one[60:92] != two[60:92]
    assert one[92:] != two[92:]


def test_the_overhead_is_108_bytes() -> None:
    assert len(seal_record(a_header(), **some_names(), payload=b"x" * 500)) == 500 + OVERHEAD == 608


def test_a_turn_of_another_size_is_no_header() -> None:
    with pytest.raises(ValueError, match="turn id"):
        a_header(turn=TurnId(bytes(15)))


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"flags": RecordFlags(16)}, id="unknown flag"),
        pytest.param({"grounds": Grounds(0)}, id="no ground"),
        pytest.param({"grounds": Grounds(65)}, id="unknown ground"),
        pytest.param({"generation": -1}, id="generation below its range"),
        pytest.param({"generation": 65_536}, id="generation above its range"),
        pytest.param({"expires_at": -1}, id="expiry before 1970"),
        pytest.param({"series": -1}, id="series below 0"),
        pytest.param({"series": 4096}, id="series of 13 bits"),
        pytest.param({"expires_at": 2**20 * 86_400_000}, id="expiry after the last day"),
    ],
)
def test_what_has_no_bytes_is_no_header(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"record|generation|expires_at|series"):
        a_header(**changed)


def test_the_last_day_that_has_bytes_can_be_sealed_for() -> None:
    names, header = some_names(), a_header(expires_at=2**20 * 86_400_000 - 1, generation=0)

    blob = seal_record(header, **names, payload=b"x")

    assert parse_header(blob) == header
    assert open_record(blob, **names) == b"x"


@pytest.mark.parametrize("size", [0, 23, 25])
def test_a_seed_of_another_size_seals_nothing(size: int) -> None:
    with pytest.raises(ValueError, match="seed"):
        seal_record(a_header(), **some_names(), payload=b"", seed=bytes(size))


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_a_subject_tag_of_another_size_seals_nothing(size: int) -> None:
    with pytest.raises(ValueError, match="subject"):
        seal_record(a_header(), **(some_names() | {"subject": SubjectTag(bytes(size))}), payload=b"")


class Endless(bytes):
    """Claims a length that nobody wants to allocate in a test."""

    def __len__(self) -> int:
        return MAX_RECORD_BYTES + 1


def test_a_record_longer_than_a_store_takes_is_refused_unread() -> None:
    with pytest.raises(UndecryptableError, match="record_length"):
        parse_header(Endless())


def test_a_payload_longer_than_a_store_takes_is_refused_unsealed() -> None:
    with pytest.raises(ValueError, match="too long"):
        seal_record(a_header(), **some_names(), payload=Endless())


@pytest.mark.parametrize(
    "at, day",
    [
        pytest.param(0, 0, id="first instant"),
        pytest.param(86_399_999, 0, id="last of the first day"),
        pytest.param(86_400_000, 1, id="midnight belongs to the day it begins"),
        pytest.param(1_795_342_723_456, 20_779, id="an afternoon in 2026"),
    ],
)
def test_an_epoch_is_the_utc_day_in_which_an_instant_falls(at: int, day: int) -> None:
    assert epoch_day(at) == day


def test_a_failure_shows_neither_content_nor_keys() -> None:
    names = some_names()
    blob = seal_record(a_header(), **names, payload=b"canary-payload")
    with pytest.raises(UndecryptableError) as caught:
        open_record(blob[:-1] + bytes([blob[-1] ^ 1]), **names)

    assert str(caught.value) == "cannot be opened: record_tag"
    assert caught.value.__cause__ is None


def test_a_bit_of_the_header_has_the_meaning_that_the_format_gives_it() -> None:
    assert {flag.name: flag.value for flag in RecordFlags} == {
        "ZSTD": 1, "PADDED": 2, "INTERRUPTED": 4, "IMPORTED": 8,
    }  # fmt: skip
    assert {ground.name: ground.value for ground in Grounds} == {
        "SERVICE": 1, "TRAIN": 2, "SAFETY_IO": 4, "FEEDBACK": 8, "SESSION_SHARE": 16, "TRAIN_RESIDUE": 32,
    }  # fmt: skip
