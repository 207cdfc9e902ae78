"""How values become the bytes that are hashed, authenticated or derived from: one way only, never two."""

_LENGTH_BYTES = 4


def lp(value: bytes) -> bytes:
    """Length-prefix: a 32-bit big-endian length, then *value* (security list 2)."""
    return len(value).to_bytes(_LENGTH_BYTES, "big") + value


def lps(*values: bytes) -> bytes:
    """Length-prefix each of *values*, so that no two lists give the same bytes."""
    return b"".join([len(value).to_bytes(_LENGTH_BYTES, "big") + value for value in values])
