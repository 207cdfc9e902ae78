"""For all records: what was sealed opens, under its names only; and two implementations make the same bytes."""

from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from chatproxy.crypto.keys import DataKey
from chatproxy.crypto.padding import pad, padme_size, unpad
from chatproxy.crypto.record import (
    OVERHEAD,
    Grounds,
    RecordFlags,
    RecordHeader,
    open_record,
    parse_header,
    seal_record,
)
from chatproxy.errors import UndecryptableError
from vectors.testkit import independent as second

keys = st.binary(min_size=32, max_size=32)
tags = st.binary(min_size=16, max_size=16)
seeds = st.binary(min_size=24, max_size=24)
payloads = st.binary(max_size=600)
headers = st.builds(
    RecordHeader,
    flags=st.integers(0, 15).map(RecordFlags),
    grounds=st.integers(1, 63).map(Grounds),
    generation=st.integers(0, 65_535),
    expires_at=st.integers(0, 2**20 * 86_400_000 - 1),
    turn=tags,
    series=st.integers(0, 4095),
)


@st.composite
def names(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "subject_key": DataKey(draw(keys)),
        "epoch_key": DataKey(draw(keys)),
        "subject": draw(tags),
        "metadata": draw(st.binary(max_size=80)),
    }


@given(headers, names(), payloads)
def test_what_was_sealed_opens(header: RecordHeader, names: dict[str, Any], payload: bytes) -> None:
    blob = seal_record(header, **names, payload=payload)

    assert open_record(blob, **names) == payload
    assert parse_header(blob) == header
    padded = header.flags & RecordFlags.PADDED
    assert len(blob) == OVERHEAD + (padme_size(len(payload) + 4) if padded else len(payload))


@settings(max_examples=40)
@given(headers, names(), payloads, seeds)
def test_two_implementations_make_the_same_bytes(
    header: RecordHeader, names: dict[str, Any], payload: bytes, seed: bytes
) -> None:
    ours = seal_record(header, **names, payload=payload, seed=seed)
    theirs = second.record(
        subject_key=names["subject_key"].reveal(),
        epoch_key=names["epoch_key"].reveal(),
        subject=names["subject"],
        metadata=names["metadata"],
        plaintext=second.padded(payload) if header.flags & RecordFlags.PADDED else payload,
        turn=header.turn,
        seed=seed,
        expires_at=header.expires_at,
        flags=header.flags,
        grounds=header.grounds,
        generation=header.generation,
        series=header.series,
    )

    assert ours == theirs


@given(headers, names(), payloads, st.data())
def test_no_flip_cut_or_addition_opens(
    header: RecordHeader, names: dict[str, Any], payload: bytes, data: st.DataObject
) -> None:
    blob = seal_record(header, **names, payload=payload)
    bit = data.draw(st.integers(0, len(blob) * 8 - 1))
    flipped = bytearray(blob)
    flipped[bit // 8] ^= 1 << bit % 8
    cut = blob[: data.draw(st.integers(0, len(blob) - 1))]
    more = blob + data.draw(st.binary(min_size=1, max_size=40))

    for wrong in (bytes(flipped), cut, more):
        with pytest.raises(UndecryptableError):
            open_record(wrong, **names)


@given(
    headers, names(), names(), payloads, st.sampled_from(["subject_key", "epoch_key", "subject", "metadata"])
)
def test_no_record_opens_under_other_names(
    header: RecordHeader, names: dict[str, Any], others: dict[str, Any], payload: bytes, exchanged: str
) -> None:
    blob = seal_record(header, **names, payload=payload)
    other = others[exchanged]
    wrong = (
        DataKey(bytes(a ^ 1 for a in names[exchanged].reveal()))
        if exchanged.endswith("key")
        else other + b"x"
    )

    with pytest.raises(UndecryptableError, match="record_commitment"):
        open_record(blob, **(names | {exchanged: wrong}))


@given(st.binary(max_size=300), names())
def test_no_bytes_at_all_do_anything_but_be_refused(blob: bytes, names: dict[str, Any]) -> None:
    with pytest.raises(UndecryptableError):
        open_record(blob, **names)


@given(st.binary(max_size=200), names())
def test_no_bytes_after_a_good_head_do_anything_but_be_refused(tail: bytes, names: dict[str, Any]) -> None:
    with pytest.raises(UndecryptableError):
        open_record(b"CP\x01\x01\x02\x01" + tail, **names)


@given(st.integers(2, 2**40))
def test_padding_adds_at_most_12_percent_and_agrees_with_the_second_implementation(size: int) -> None:
    assert size <= padme_size(size) <= size * 1.12 + 1
    assert padme_size(size) == second.padme(size)
    assert padme_size(padme_size(size)) == padme_size(size)


@given(payloads)
def test_padding_comes_off_again(payload: bytes) -> None:
    assert unpad(pad(payload)) == payload


@given(st.binary(max_size=200))
def test_only_what_padding_makes_comes_off(padded: bytes) -> None:
    try:
        payload = unpad(padded)
    except UndecryptableError:
        return
    assert pad(payload) == padded
