"""A secret does not print, compare, hash, copy or pickle."""

import copy
import pickle
import traceback
from collections.abc import Callable

import pytest

from chatproxy.crypto.keys import (
    DataKey,
    KeyEncryptionKey,
    KeyStatus,
    MacKey,
    PseudonymKey,
    RootSecret,
    Secret,
    SigningSeed,
)

KINDS = [DataKey, KeyEncryptionKey, MacKey, PseudonymKey, RootSecret, SigningSeed]
CANARY = b"canary-canary-canary-canary-1234"


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_is_32_bytes_that_are_only_told_on_request(kind: type[Secret]) -> None:
    assert kind(CANARY).reveal() == CANARY


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("show", [repr, str, "{}".format, lambda key: f"{[key]}"])
def test_a_key_does_not_print(kind: type[Secret], show: Callable[[Secret], str]) -> None:
    assert "canary" not in show(kind(CANARY))
    assert f"{kind.__name__}(hidden)" in show(kind(CANARY))


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_has_no_attributes_to_dump(kind: type[Secret]) -> None:
    assert not hasattr(kind(CANARY), "__dict__")


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(pickle.dumps, id="pickle"),
        pytest.param(copy.copy, id="copy"),
        pytest.param(copy.deepcopy, id="deepcopy"),
        pytest.param(hash, id="hash"),
        pytest.param(lambda key: key == DataKey(CANARY), id="equal"),
        pytest.param(lambda key: key != DataKey(CANARY), id="unequal"),
        pytest.param(lambda key: key == CANARY, id="equal to bytes"),
    ],
)
def test_a_key_cannot_be_used_by_accident(attempt: Callable[[DataKey], object]) -> None:
    with pytest.raises(TypeError):
        attempt(DataKey(CANARY))


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_key_of_another_length_is_refused_without_showing_it(size: int) -> None:
    with pytest.raises(ValueError, match=f"this one has {size}") as caught:
        DataKey(b"c" * size)

    assert "ccc" not in "".join(traceback.format_exception_only(caught.value))


def test_a_key_that_is_generated_is_what_the_source_gives() -> None:
    assert DataKey.generate(lambda size: CANARY[:size]).reveal() == CANARY
    assert isinstance(MacKey.generate(), MacKey)


def test_a_key_keeps_its_own_copy() -> None:
    buffer = bytearray(CANARY)
    key = DataKey(buffer)  # type: ignore[arg-type]
    buffer[:] = bytes(32)

    assert key.reveal() == CANARY


@pytest.mark.parametrize(
    "status, opens",
    [
        (KeyStatus.PENDING, True),
        (KeyStatus.PRIMARY, True),
        (KeyStatus.DECRYPT, True),
        (KeyStatus.RETIRED, False),
        (KeyStatus.DESTROYED, False),
    ],
)
def test_which_statuses_open(status: KeyStatus, *, opens: bool) -> None:
    assert status.opens is opens
