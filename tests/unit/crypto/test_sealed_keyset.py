"""The sealed keyset: it comes back whole, and whatever is altered in it or unwrapped wrongly is refused."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from chatproxy.crypto.keyset import Keyset, make_keyset, parse_keyset, without_root, write_keyset
from chatproxy.crypto.sealed_keyset import open_sealed, parse_sealed, secrets_of, write_sealed
from chatproxy.errors import KeysetError

AT = 1_790_000_000_000
KEYSET = without_root(make_keyset(created_at=AT))
SECRETS = [secret for _, secret in secrets_of(KEYSET)]


def wraps_of(keyset: Keyset) -> list[bytes]:
    return [b"wrapped " + ident for ident, _ in secrets_of(keyset)]


SEALED = write_sealed(KEYSET, wraps_of(KEYSET))


def test_a_sealed_keyset_comes_back() -> None:
    again = open_sealed(SEALED, SECRETS)

    assert secrets_of(again) == secrets_of(KEYSET)
    assert again.check_value == KEYSET.check_value
    assert (again.root, again.id, again.created_at) == ((), KEYSET.id, AT)
    assert again.signing_publics() == KEYSET.signing_publics()
    assert repr(again) == repr(KEYSET)


def test_no_secret_is_in_it() -> None:
    for secret in SECRETS:
        assert base64.b64encode(secret) not in SEALED
        assert secret not in SEALED
        assert secret.hex().encode() not in SEALED


def test_each_secret_is_named_by_keyset_key_and_version() -> None:
    idents = [ident for ident, _ in secrets_of(KEYSET)]

    assert idents == [f"{KEYSET.id}/{key}".encode() for key in ("pseudonyms/0", "annotations/1", "signing/1")]
    assert parse_sealed(SEALED).wrapped_secrets() == list(zip(idents, wraps_of(KEYSET), strict=True))


def test_another_root_version_changes_nothing_but_the_wraps() -> None:
    rewrapped = write_sealed(open_sealed(SEALED, SECRETS), [b"other"] * 3)

    assert rewrapped != SEALED
    assert secrets_of(open_sealed(rewrapped, SECRETS)) == secrets_of(KEYSET)


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize(
    "wrong",
    [lambda key: bytes([key[0] ^ 1]) + key[1:], lambda key: key[:-1], lambda _: b""],
    ids=["bit", "short", "empty"],
)
def test_a_secret_that_was_unwrapped_wrongly_is_refused(number: int, wrong: Callable[[bytes], bytes]) -> None:
    secrets = list(SECRETS)
    secrets[number] = wrong(secrets[number])

    with pytest.raises(KeysetError, match="control value 'sealed-keyset'"):
        open_sealed(SEALED, secrets)


def test_secrets_that_changed_places_or_are_missing_are_refused() -> None:
    for secrets in (SECRETS[::-1], SECRETS[:2], []):
        with pytest.raises(KeysetError):
            open_sealed(SEALED, secrets)


def altered(change: Callable[[Any], None]) -> bytes:
    found = json.loads(SEALED)
    change(found)
    return json.dumps(found, separators=(",", ":"), sort_keys=False).encode()


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["keyset"].update(id="0" * 32),
        lambda found: found["keyset"].update(created_at=1),
        lambda found: found["keyset"]["annotations"][0].update(status="DECRYPT"),
        lambda found: found["keyset"]["annotations"][0].update(version=2),
        lambda found: found["keyset"]["annotations"][0].update(wrapped="QUFB"),
        lambda found: found["keyset"]["signing"][0].update(public=base64.b64encode(bytes(32)).decode()),
        lambda found: found["keyset"]["signing"].append(found["keyset"]["signing"][0]),
        lambda found: found["keyset"]["pseudonyms"].update(created_at=1),
        lambda found: found["keyset"].update(more=1),
        lambda found: found.update(more=1),
        lambda found: found.update(mac=""),
        lambda found: found.update(format="chatproxy/sealed-keyset/v2"),
        lambda found: found.pop("mac"),
        lambda found: found["keyset"].pop("annotations"),
    ],
    ids=range(14),
)
def test_what_was_altered_is_refused(change: Callable[[Any], None]) -> None:
    with pytest.raises(KeysetError, match="Nothing was changed"):
        open_sealed(altered(change), SECRETS)


@pytest.mark.parametrize("data", [b"", b"x", b"[]", b"{}", b"[" * 100_000, b"\xff"], ids=range(6))
def test_what_is_not_one_is_refused(data: bytes) -> None:
    with pytest.raises(KeysetError, match="Nothing was changed"):
        parse_sealed(data)


def test_a_keyset_file_must_have_a_root() -> None:
    with pytest.raises(KeysetError, match="root has 0 PRIMARY"):
        parse_keyset(write_keyset(KEYSET), source="keyset")
