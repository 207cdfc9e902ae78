"""Padmé padding: what does a sealed record's length tell? At most log log of it.

The padded plaintext is a 32-bit big-endian length, the payload, and zero bytes up to the Padmé size of
length + 4 (security list 2). Padmé keeps the leading bits of a size and rounds the rest up: at most 12 % more,
2 % on transcripts.
"""

from chatproxy.crypto.encoding import lp
from chatproxy.errors import UndecryptableError

_PREFIX = 4


def padme_size(size: int) -> int:
    """Return the Padmé size of *size* bytes (*size* ≥ 2)."""
    exponent = size.bit_length() - 1
    kept = exponent.bit_length()
    mask = (1 << exponent - kept) - 1
    return (size + mask) & ~mask


def pad(payload: bytes) -> bytes:
    """Prefix the length and fill up with zeros."""
    framed = lp(payload)
    return framed.ljust(padme_size(len(framed)), b"\0")


def unpad(padded: bytes) -> bytes:
    """Undo ``pad``. Raises UndecryptableError("record_padding") on anything that ``pad`` does not make."""
    end = _PREFIX + int.from_bytes(padded[:_PREFIX], "big")
    if len(padded) != padme_size(end):
        raise UndecryptableError("record_padding")
    if padded.count(0, end) != len(padded) - end:
        raise UndecryptableError("record_padding")
    return padded[_PREFIX:end]
