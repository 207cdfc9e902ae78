"""How values become the bytes that are hashed, authenticated or derived from: one way only, never two."""

import struct
from collections.abc import Sequence

_length = struct.Struct(">I").pack
_number_and_length = struct.Struct(">BI").pack


def lp(value: bytes) -> bytes:
    """Length-prefix: a 32-bit big-endian length, then *value* (security list 2)."""
    return _length(len(value)) + value


def lps(*values: bytes) -> bytes:
    """Length-prefix each of *values*, so that no two lists give the same bytes."""
    return b"".join([_length(len(value)) + value for value in values])


def tlvs(values: Sequence[bytes]) -> bytes:
    """Length-prefix each of *values*, after its number in one byte, from 1."""
    return b"".join(
        [_number_and_length(number, len(value)) + value for number, value in enumerate(values, 1)]
    )
