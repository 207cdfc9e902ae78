"""A keyset that was made: what is in it, what it shows, and by what a store knows it again."""

import hashlib

import pytest

from chatproxy.crypto.keys import KeyStatus
from chatproxy.crypto.keyset import (
    Keyset,
    RenewedPurpose,
    are_same_but_for_root,
    make_keyset,
    parse_keyset,
    with_other_root,
    without_root,
    write_keyset,
)
from chatproxy.crypto.primitives import ed25519_public
from chatproxy.errors import KeysetError, UndecryptableError
from vectors.testkit import independent as second

AT = 1_790_000_000_000


class Draws:
    """A random source that remembers what it gave."""

    def __init__(self) -> None:
        self.given: list[bytes] = []

    def __call__(self, size: int) -> bytes:
        self.given.append(hashlib.shake_256(b"draw %d" % len(self.given)).digest(size))
        return self.given[-1]


def test_a_new_keyset_has_every_purpose_with_a_primary() -> None:
    keyset = make_keyset(created_at=AT)

    for entries in keyset.versioned().values():
        assert [(entry.version, entry.status, entry.created_at) for entry in entries] == [
            (1, KeyStatus.PRIMARY, AT)
        ]
    assert list(keyset.versioned()) == ["root", "annotations", "signing"]
    assert keyset.pseudonyms.created_at == keyset.created_at == AT


def test_every_key_is_drawn_for_itself() -> None:
    draws = Draws()
    keyset = make_keyset(created_at=AT, random=draws)

    assert sorted(len(drawn) for drawn in draws.given) == [16, 32, 32, 32, 32]
    assert keyset.id in {drawn.hex() for drawn in draws.given}


def test_a_new_keyset_passes_its_own_rules_and_comes_back() -> None:
    keyset = make_keyset(created_at=AT)

    again = parse_keyset(write_keyset(keyset), source="keyset")

    assert write_keyset(again) == write_keyset(keyset)
    assert again.check_value == keyset.check_value


def test_the_public_signing_key_is_the_seeds() -> None:
    (signing,) = make_keyset(created_at=AT).signing

    assert signing.key is not None
    assert signing.public == ed25519_public(signing.key.reveal())


def test_a_keyset_prints_versions_and_statuses_only() -> None:
    draws = Draws()
    keyset = make_keyset(created_at=AT, random=draws)

    assert repr(keyset) == f"Keyset({keyset.id}; root: 1 PRIMARY; annotations: 1 PRIMARY; signing: 1 PRIMARY)"
    assert "hidden" in repr((keyset.root, keyset.annotations, keyset.pseudonyms))
    assert "hidden" in repr(keyset.signing)


def test_annotation_keys_are_those_that_may_be_used() -> None:
    keyset = a_keyset_with_a_history()

    keys = keyset.annotation_keys()

    assert keys.primary_version == 2
    assert sorted(keys.versions) == [1, 2]
    with pytest.raises(UndecryptableError, match="unknown_annotation_key_version"):
        keys[3]


def a_keyset_with_a_history() -> Keyset:
    made = [make_keyset(created_at=AT) for _ in range(3)]
    statuses = {1: KeyStatus.DECRYPT, 2: KeyStatus.PRIMARY, 3: KeyStatus.RETIRED}
    annotations = tuple(
        type(entry)(version=version, status=statuses[version], created_at=AT, key=entry.key)
        for version, entry in enumerate((keyset.annotations[0] for keyset in made), start=1)
    )
    return Keyset(
        id=made[0].id,
        created_at=AT,
        root=made[1].root,
        pseudonyms=made[0].pseudonyms,
        annotations=annotations,
        signing=made[0].signing,
    )


def test_a_store_knows_its_keyset_again() -> None:
    keyset = make_keyset(created_at=AT)

    keyset.require_check_value(keyset.check_value, source="keyset")


def test_a_check_value_outlives_rotation_and_tells_keysets_apart() -> None:
    rotated = a_keyset_with_a_history()
    same_id = Keyset(
        id=rotated.id,
        created_at=AT,
        root=rotated.root,
        pseudonyms=make_keyset(created_at=AT).pseudonyms,
        annotations=rotated.annotations,
        signing=rotated.signing,
    )

    assert rotated.check_value.startswith(b"chatproxy/keyset-check/v1 " + rotated.id.encode() + b" ")
    with pytest.raises(KeysetError, match="made with keyset"):
        same_id.require_check_value(rotated.check_value, source="keyset")


def test_a_check_value_is_as_the_format_says() -> None:
    keyset = make_keyset(created_at=AT)

    assert keyset.check_value.decode() == second.check_value(keyset.pseudonyms.key.reveal(), keyset.id)


def test_a_store_of_another_keyset_is_refused_with_both_names() -> None:
    one, two = make_keyset(created_at=AT), make_keyset(created_at=AT)
    with pytest.raises(KeysetError) as caught:
        one.require_check_value(two.check_value, source="/keys/keyset")

    assert f"/keys/keyset: this is keyset {one.id}, but the store was made with keyset {two.id}." in str(
        caught.value
    )
    assert "CHATPROXY_KEYSET" in str(caught.value)


@pytest.mark.parametrize("found", [b"", b"anything", b"\xff\n", b"chatproxy/keyset-check/v2 x y"])
def test_what_is_no_check_value_is_another_keysets_and_not_repeated(found: bytes) -> None:
    with pytest.raises(KeysetError, match=r"made with another keyset\. "):
        make_keyset(created_at=AT).require_check_value(found, source="keyset")


def roots(keyset: Keyset) -> list[tuple[int, KeyStatus, bool]]:
    return [(entry.version, entry.status, entry.key is not None) for entry in keyset.root]


def test_a_root_goes_through_its_life_and_another_takes_its_place() -> None:
    keyset = make_keyset(created_at=AT)
    old = keyset.root[0].key
    assert old is not None

    added = keyset.with_new_root(created_at=AT + 1)
    promoted = added.with_root_status(2, KeyStatus.PRIMARY)
    retired = promoted.with_root_status(1, KeyStatus.RETIRED)
    destroyed = retired.with_root_status(1, KeyStatus.DESTROYED)

    assert roots(added) == [(1, KeyStatus.PRIMARY, True), (2, KeyStatus.PENDING, True)]
    assert added.root[1].created_at == AT + 1
    assert added.root[1].key is not None
    assert added.root[1].key.reveal() != old.reveal()
    assert roots(promoted) == [(1, KeyStatus.DECRYPT, True), (2, KeyStatus.PRIMARY, True)]
    assert roots(retired) == [(1, KeyStatus.RETIRED, True), (2, KeyStatus.PRIMARY, True)]
    assert retired.root[0].key is old
    assert roots(retired.with_root_status(1, KeyStatus.DECRYPT)) == roots(promoted)
    assert roots(destroyed) == [(1, KeyStatus.DESTROYED, False), (2, KeyStatus.PRIMARY, True)]
    assert [entry.version for entry in destroyed.with_new_root(created_at=AT).root] == [1, 2, 3]
    assert parse_keyset(write_keyset(destroyed), source="x").root[0].key is None


def test_one_root_is_added_at_a_time() -> None:
    with pytest.raises(KeysetError, match="PENDING already"):
        make_keyset(created_at=AT).with_new_root(created_at=AT).with_new_root(created_at=AT)


@pytest.mark.parametrize(
    "version, status, message",
    [
        (3, KeyStatus.PRIMARY, "no root version 3"),
        (1, KeyStatus.DESTROYED, "1 is PRIMARY, and cannot become DESTROYED"),
        (1, KeyStatus.RETIRED, "1 is PRIMARY, and cannot become RETIRED"),
        (2, KeyStatus.RETIRED, "2 is PENDING, and cannot become RETIRED"),
    ],
)
def test_a_root_takes_no_step_out_of_order(version: int, status: KeyStatus, message: str) -> None:
    keyset = make_keyset(created_at=AT).with_new_root(created_at=AT)
    with pytest.raises(KeysetError, match=message):
        keyset.with_root_status(version, status)


def test_what_signs_is_the_primary_one() -> None:
    keyset = make_keyset(created_at=AT)
    assert ed25519_public(keyset.signing_key().reveal()) == keyset.signing_publics()[0]


def test_a_text_with_blanks_is_no_key() -> None:
    draws = iter(
        [
            b"Or else & now: the 32 characters",
            *(bytes([n] * 5) + hashlib.sha256(b"%d" % n).digest()[5:] for n in range(9)),
        ]
    )
    keyset = make_keyset(created_at=AT, random=lambda size: next(draws)[:size])
    with pytest.raises(KeysetError, match="not random"):
        parse_keyset(write_keyset(keyset), source="x")


def test_a_new_annotation_key_is_known_before_it_is_used_and_the_old_one_verifies_on() -> None:
    keyset = make_keyset(created_at=AT)
    first = keyset.annotation_keys()
    handed_out = keyset.with_new_version(RenewedPurpose.ANNOTATIONS, created_at=AT + 1)
    assert handed_out.with_new_version(RenewedPurpose.ANNOTATIONS, created_at=AT + 2) is handed_out
    assert handed_out.annotation_keys().primary_version == 1
    assert sorted(handed_out.annotation_keys().versions) == [1, 2]
    in_use = handed_out.with_promoted(RenewedPurpose.ANNOTATIONS, 2)
    assert [entry.status for entry in in_use.annotations] == [KeyStatus.DECRYPT, KeyStatus.PRIMARY]
    assert in_use.annotation_keys().primary_version == 2
    assert in_use.annotation_keys().versions[1].reveal() == first.versions[1].reveal()
    assert in_use.with_promoted(RenewedPurpose.ANNOTATIONS, 2) is in_use
    assert in_use.check_value == keyset.check_value
    again = parse_keyset(write_keyset(in_use), source="x")
    assert again.annotations[1].created_at == AT + 1


def test_of_a_signing_key_that_was_renewed_only_the_public_half_stays() -> None:
    keyset = make_keyset(created_at=AT)
    handed_out = keyset.with_new_version(RenewedPurpose.SIGNING, created_at=AT + 1)
    new = handed_out.signing[-1].public
    assert handed_out.signing_key().reveal() == keyset.signing_key().reveal()
    assert handed_out.known_versions(RenewedPurpose.SIGNING) == [1, 2]
    in_use = parse_keyset(write_keyset(handed_out.with_promoted(RenewedPurpose.SIGNING, 2)), source="x")
    assert in_use.signing_publics() == (new, keyset.signing[0].public)
    assert [(entry.status, entry.key is None) for entry in in_use.signing] == [
        (KeyStatus.DESTROYED, True),
        (KeyStatus.PRIMARY, False),
    ]
    assert ed25519_public(in_use.signing_key().reveal()) == new


@pytest.mark.parametrize("version", [2, 7], ids=["destroyed", "unknown"])
def test_what_is_not_pending_is_not_promoted(version: int) -> None:
    keyset = make_keyset(created_at=AT)
    for number in (2, 3):
        keyset = keyset.with_new_version(RenewedPurpose.SIGNING, created_at=AT)
        keyset = keyset.with_promoted(RenewedPurpose.SIGNING, number)
    with pytest.raises(KeysetError, match=f"no signing version {version} to promote"):
        keyset.with_promoted(RenewedPurpose.SIGNING, version)


def test_keysets_are_the_same_whatever_their_root() -> None:
    keyset = make_keyset(created_at=AT)
    moved = with_other_root(keyset, created_at=AT + 5)
    assert moved.root[0].key is not None
    assert keyset.root[0].key is not None
    assert moved.root[0].key.reveal() != keyset.root[0].key.reveal()
    assert are_same_but_for_root(keyset, moved)
    assert are_same_but_for_root(without_root(keyset), moved)
    renewed = keyset.with_new_version(RenewedPurpose.ANNOTATIONS, created_at=AT)
    assert not are_same_but_for_root(renewed, keyset)
