"""The life of the key ring: minted, loaded, and what each status lets a KEK do."""

from typing import Any

import pytest

from chatproxy.crypto.keyring import (
    MAX_RING_BYTES,
    Keyring,
    MintedSecrets,
    RingKey,
    RingManifest,
    parse_manifest,
    sign_manifest,
)
from chatproxy.crypto.keys import DataKey, KeyEncryptionKey, KeyStatus, MacKey
from chatproxy.crypto.wrap import Purpose, wrap_key, wrapped_under
from chatproxy.errors import KeysetError, UndecryptableError
from chatproxy.model import SubjectTag
from vectors.testkit import independent as second

ALICE, BOB = SubjectTag(b"a" * 16), SubjectTag(b"b" * 16)
AT = 1_790_000_000_000
DAY = 20_779
MAC_KEY = MacKey.generate()


def a_ring(statuses: dict[int, KeyStatus], keks: dict[int, KeyEncryptionKey]) -> Keyring:
    """A ring whose root leaves everything as it is."""
    keys = tuple(
        RingKey(
            version=version,
            status=status,
            created_at=AT,
            wrapped=None if status is KeyStatus.DESTROYED else keks[version].reveal(),
        )
        for version, status in statuses.items()
    )
    ring = RingManifest(counter=3, wrapped_mac_key=MAC_KEY.reveal(), keys=keys)
    data = sign_manifest(ring, mac_key=MAC_KEY)
    return Keyring(data, [wrapped for _, wrapped in parse_manifest(data).wrapped_secrets()])


def minted() -> tuple[bytes, list[bytes]]:
    secrets = MintedSecrets()
    to_wrap = secrets.to_wrap()
    data = secrets.manifest([b"wrapped " + ident for ident, _ in to_wrap], created_at=AT)
    return data, [secret for _, secret in to_wrap]


def test_a_minted_ring_holds_only_wraps() -> None:
    data, secrets = minted()
    manifest = parse_manifest(data)

    assert manifest.wrapped_secrets() == [(b"mac", b"wrapped mac"), (b"kek/1", b"wrapped kek/1")]
    assert manifest.keys == (
        RingKey(version=1, status=KeyStatus.PRIMARY, created_at=AT, wrapped=b"wrapped kek/1"),
    )
    assert manifest.counter == 1
    assert not any(secret in data for secret in secrets)


def test_a_minted_ring_is_authentic_and_wraps() -> None:
    ring = Keyring(*minted())
    key = DataKey.generate()

    wrapped = ring.wrap_subject_key(key, subject=ALICE, generation=2)

    assert ring.unwrap_subject_key(wrapped, subject=ALICE, generation=2).reveal() == key.reveal()
    assert wrapped_under(wrapped) == ring.primary_version == 1


def test_two_rings_have_nothing_in_common() -> None:
    assert set(minted()[1]).isdisjoint(minted()[1])


def test_a_ring_is_refused_with_the_secrets_of_another() -> None:
    with pytest.raises(KeysetError, match="not authentic"):
        Keyring(minted()[0], minted()[1])


def test_the_idents_of_wraps_are_those_of_the_format() -> None:
    data, secrets = minted()
    ring, key = Keyring(data, secrets), DataKey.generate()
    subject_wrap = ring.wrap_subject_key(key, subject=ALICE, generation=258)
    epoch_wrap = ring.wrap_epoch_key(key, epoch=DAY)

    for wrapped, purpose, ident in (
        (subject_wrap, 1, ALICE + b"\1\2"),
        (epoch_wrap, 2, DAY.to_bytes(4, "big")),
    ):
        assert wrapped == second.wrap(secrets[1], 1, purpose, ident, key.reveal(), wrapped[4:16])


@pytest.mark.parametrize(
    "owner, reason",
    [
        pytest.param({"subject": BOB, "generation": 1}, "wrap_tag", id="another subject"),
        pytest.param({"subject": ALICE, "generation": 2}, "wrap_tag", id="another generation"),
    ],
)
def test_a_subjects_wrap_opens_for_nobody_else(owner: dict[str, Any], reason: str) -> None:
    ring = Keyring(*minted())
    wrapped = ring.wrap_subject_key(DataKey.generate(), subject=ALICE, generation=1)
    with pytest.raises(UndecryptableError) as caught:
        ring.unwrap_subject_key(wrapped, **owner)

    assert caught.value.reason == reason


def test_a_days_wrap_opens_for_no_other_day_and_no_subject() -> None:
    ring = Keyring(*minted())
    wrapped = ring.wrap_epoch_key(DataKey.generate(), epoch=DAY)

    with pytest.raises(UndecryptableError, match="wrap_tag"):
        ring.unwrap_epoch_key(wrapped, epoch=DAY + 1)
    with pytest.raises(UndecryptableError, match="wrap_purpose"):
        ring.unwrap_subject_key(wrapped, subject=ALICE, generation=1)


STATUSES = {
    1: KeyStatus.DESTROYED,
    2: KeyStatus.RETIRED,
    3: KeyStatus.DECRYPT,
    4: KeyStatus.PRIMARY,
    5: KeyStatus.PENDING,
}


@pytest.mark.parametrize("version", [3, 4, 5])
def test_versions_in_use_open_what_they_wrapped(version: int) -> None:
    keks = {number: KeyEncryptionKey.generate() for number in STATUSES}
    key = DataKey.generate()
    ident = ALICE + b"\0\1"
    wrapped = wrap_key(keks[version], kek_version=version, purpose=Purpose.SUBJECT, ident=ident, key=key)

    ring = a_ring(STATUSES, keks)

    assert ring.unwrap_subject_key(wrapped, subject=ALICE, generation=1).reveal() == key.reveal()
    assert wrapped_under(ring.wrap_subject_key(key, subject=ALICE, generation=1)) == 4


@pytest.mark.parametrize(
    "version, reason",
    [
        (1, "destroyed_kek_version"),
        (2, "retired_kek_version"),
        (6, "unknown_kek_version"),
        (0, "unknown_kek_version"),
    ],
)
def test_other_versions_are_refused_each_for_its_reason(version: int, reason: str) -> None:
    keks = {number: KeyEncryptionKey.generate() for number in range(7)}
    wrapped = wrap_key(
        keks[version],
        kek_version=version,
        purpose=Purpose.EPOCH,
        ident=DAY.to_bytes(4, "big"),
        key=DataKey.generate(),
    )
    with pytest.raises(UndecryptableError) as caught:
        a_ring(STATUSES, keks).unwrap_epoch_key(wrapped, epoch=DAY)

    assert caught.value.reason == reason


def test_a_ring_prints_versions_and_statuses_only() -> None:
    keks = {number: KeyEncryptionKey.generate() for number in STATUSES}

    assert repr(a_ring(STATUSES, keks)) == (
        "Keyring(counter=3, 1 DESTROYED, 2 RETIRED, 3 DECRYPT, 4 PRIMARY, 5 PENDING)"
    )


def test_a_ring_that_is_too_long_is_not_read() -> None:
    with pytest.raises(KeysetError, match="too long"):
        parse_manifest(b" " * (MAX_RING_BYTES + 1))
