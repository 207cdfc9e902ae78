"""The life of a key version: which steps there are, what each changes, and which are refused."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from chatproxy.crypto.keyring import RingKey, RingManifest
from chatproxy.crypto.keys import KeyStatus
from chatproxy.crypto.ring_changes import (
    next_version,
    older_versions,
    pending_version,
    require_settled,
    with_destroyed,
    with_pending,
    with_primary,
    with_retired,
    with_rewrapped,
    with_unretired,
)
from chatproxy.errors import KeysetError

AT = 1_790_000_000_000
Step = Callable[..., RingManifest]


def a_ring(*statuses: KeyStatus) -> RingManifest:
    """A ring with versions from 1 on, of *statuses*."""
    keys = tuple(
        RingKey(
            version=number,
            status=status,
            created_at=AT,
            wrapped=None if status is KeyStatus.DESTROYED else b"wrap %d" % number,
        )
        for number, status in enumerate(statuses, 1)
    )
    return RingManifest(counter=7, wrapped_mac_key=b"mac", keys=keys)


EACH = a_ring(KeyStatus.DESTROYED, KeyStatus.RETIRED, KeyStatus.DECRYPT, KeyStatus.PRIMARY, KeyStatus.PENDING)
ALLOWED = {
    ("promote", KeyStatus.PENDING): KeyStatus.PRIMARY,
    ("retire", KeyStatus.DECRYPT): KeyStatus.RETIRED,
    ("unretire", KeyStatus.RETIRED): KeyStatus.DECRYPT,
    ("destroy", KeyStatus.RETIRED): KeyStatus.DESTROYED,
    ("destroy", KeyStatus.PENDING): KeyStatus.DESTROYED,
}
STEPS: dict[str, Step] = {
    "promote": with_primary, "retire": with_retired, "unretire": with_unretired, "destroy": with_destroyed,
}  # fmt: skip


@pytest.mark.parametrize("key", EACH.keys, ids=lambda key: str(key.status))
@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_taken_from_the_statuses_it_is_for_and_from_no_other(name: str, key: RingKey) -> None:
    becomes = ALLOWED.get((name, key.status))
    if becomes is None:
        with pytest.raises(KeysetError, match=f"version {key.version} is {key.status}"):
            STEPS[name](EACH, version=key.version, at=AT + 5)
        return

    ring = STEPS[name](EACH, version=key.version, at=AT + 5)

    changed = ring.key(key.version)
    assert ring.counter == EACH.counter + 1
    assert changed.status is becomes
    assert changed.changed_at == AT + 5
    assert changed.promoted_at == (AT + 5 if name == "promote" else None)
    assert changed.wrapped == (None if name == "destroy" else key.wrapped)
    others = [each for each in EACH.keys if each.version != key.version]
    if name == "promote":
        was = EACH.primary
        others[others.index(was)] = replace(was, status=KeyStatus.DECRYPT, changed_at=AT + 5)
    assert [each for each in ring.keys if each.version != key.version] == others


def test_a_version_that_never_was_is_refused() -> None:
    for step in STEPS.values():
        with pytest.raises(KeysetError, match="no version 9"):
            step(EACH, version=9, at=AT)


def test_a_new_version_is_pending_and_the_ring_has_another_key_of_its_own() -> None:
    before = a_ring(KeyStatus.DESTROYED, KeyStatus.PRIMARY)

    ring = with_pending(before, version=3, wrapped=b"new", wrapped_mac_key=b"new mac", at=AT + 5)

    assert ring.counter == 8
    assert ring.wrapped_mac_key == b"new mac"
    assert ring.keys[:-1] == before.keys
    assert pending_version(before) is None
    assert pending_version(ring) == RingKey(
        version=3, status=KeyStatus.PENDING, created_at=AT + 5, wrapped=b"new"
    )


def test_there_is_one_pending_version_at_a_time() -> None:
    with pytest.raises(KeysetError, match="version 5 is PENDING already"):
        with_pending(EACH, version=6, wrapped=b"", wrapped_mac_key=b"", at=AT)


def test_a_number_is_never_given_again() -> None:
    assert next_version(EACH) == 6
    assert next_version(a_ring(KeyStatus.PRIMARY, KeyStatus.DESTROYED)) == 3
    last = a_ring(KeyStatus.PRIMARY)
    assert next_version(replace(last, keys=(replace(last.keys[0], version=65_534),))) == 65_535
    with pytest.raises(KeysetError, match="move to a new store"):
        next_version(replace(last, keys=(replace(last.keys[0], version=65_535),)))


def test_older_versions_are_those_before_the_primary_one() -> None:
    assert older_versions(EACH, KeyStatus.DECRYPT, KeyStatus.RETIRED) == [2, 3]
    assert older_versions(EACH, KeyStatus.DESTROYED) == [1]
    assert older_versions(EACH, KeyStatus.PENDING, KeyStatus.PRIMARY) == []


def test_a_ring_is_put_under_another_root_with_every_secret_of_it() -> None:
    ring = a_ring(KeyStatus.DESTROYED, KeyStatus.PRIMARY)

    moved = with_rewrapped(ring, [b"mac anew", b"key anew"])

    assert (moved.counter, moved.wrapped_mac_key) == (8, b"mac anew")
    assert [key.wrapped for key in moved.keys] == [None, b"key anew"]
    assert [replace(key, wrapped=None) for key in moved.keys] == [
        replace(key, wrapped=None) for key in ring.keys
    ]


@pytest.mark.parametrize("status", [KeyStatus.PENDING, KeyStatus.DECRYPT, KeyStatus.RETIRED])
def test_a_ring_is_moved_only_when_no_version_comes_or_goes(status: KeyStatus) -> None:
    require_settled(a_ring(KeyStatus.DESTROYED, KeyStatus.PRIMARY))
    with pytest.raises(KeysetError, match="not over"):
        require_settled(a_ring(KeyStatus.DESTROYED, status, KeyStatus.PRIMARY))
