"""Content codings: never more than the limit comes out, and nothing is raised but UnreadableError.

The first byte of an input chooses the coding.
"""

import gzip
import sys
import zlib

import brotli

from chatproxy.errors import UnreadableError
from chatproxy.wire.coding import decode
from fuzz.target import Target

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LIMIT = 1 << 18
CODINGS = ("gzip", "deflate", "br", "zstd", "gzip, br", "zstd, gzip", "deflate, deflate")
SAID = b'data: {"delta": "hello"}\n\n' * 8
BOMB = bytes(1 << 20)


def undo(data: bytes) -> None:
    """Undo the coding that the first byte says."""
    if not data:
        return
    try:
        plain = decode(data[1:], CODINGS[data[0] % len(CODINGS)], LIMIT)
    except UnreadableError:
        return
    assert len(plain) <= LIMIT


def _seeds() -> tuple[bytes, ...]:
    seeds = []
    for plain in (SAID, BOMB):
        squeezed, inflated = gzip.compress(plain, mtime=0), zlib.compress(plain)
        coded = (
            squeezed, inflated, brotli.compress(plain), zstd.compress(plain), brotli.compress(squeezed),
            gzip.compress(zstd.compress(plain), mtime=0), zlib.compress(inflated),
        )  # fmt: skip
        seeds += [bytes([number]) + body for number, body in enumerate(coded)]
        seeds += [bytes([0]) + squeezed * 3, bytes([3]) + zstd.compress(plain) * 3]
    return tuple(seeds)


TARGETS = {"codings": Target(undo, _seeds(), head=1)}
