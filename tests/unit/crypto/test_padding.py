"""Padmé sizes, from the published definition: keep the leading bits, round up the rest."""

import pytest

from chatproxy.crypto.padding import pad, padme_size, unpad
from chatproxy.errors import UndecryptableError


@pytest.mark.parametrize(
    "size, padded",
    [
        *((2, 2), (4, 4), (8, 8), (9, 10), (15, 16), (17, 18), (33, 36), (64, 64), (100, 104), (337, 352)),
        *((1000, 1024), (1004, 1024), (1024, 1024), (1025, 1088), (65_535, 65_536), (65_537, 67_584)),
    ],
)
def test_padme_sizes(size: int, padded: int) -> None:
    assert padme_size(size) == padded


@pytest.mark.parametrize("size", [0, 1, 4, 5, 12, 13, 333, 1000, 4096])
def test_padding_comes_off_again(size: int) -> None:
    payload = bytes([255]) * size

    assert unpad(pad(payload)) == payload
    assert len(pad(payload)) == padme_size(size + 4)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(bytes(3), id="half a length"),
        pytest.param(b"\0\0\0\1", id="payload missing"),
        pytest.param(b"\xff\xff\xff\xff", id="length that cannot be"),
        pytest.param(pad(b"x" * 7) + b"\0", id="a byte more"),
        pytest.param(pad(b"x" * 7)[:-1], id="a byte less"),
        pytest.param(pad(b"x" * 7)[:-1] + b"\1", id="not zero"),
    ],
)
def test_what_padding_does_not_make_is_refused(wrong: bytes) -> None:
    with pytest.raises(UndecryptableError, match="record_padding"):
        unpad(wrong)
