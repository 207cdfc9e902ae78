"""WebSocket frames: the reader says the same however the bytes are cut, holds no more than it may, and never raises.

The first byte of an input says whether messages may be compressed, the second how long the pieces are.
"""

import zlib

from chatproxy.wire.frames import FrameReader, read_agreed
from fuzz.target import Target

LONGEST = 1 << 16
_HEAD = 2


def read(data: bytes) -> None:
    """Read the frames twice, whole and in pieces."""
    if len(data) < _HEAD:
        return
    flags, body = data[0], data[_HEAD:]
    piece = 1 + data[1] * (1 + len(body) // 4096)
    readers = [
        FrameReader(compressed=bool(flags & 1), keeps_context=bool(flags & 2), longest=LONGEST)
        for _ in range(2)
    ]
    messages = [readers[0].feed(body), []]
    for at in range(0, len(body), piece):
        messages[1] += readers[1].feed(body[at : at + piece])
        assert readers[1].buffered <= LONGEST
    assert messages[0] == messages[1]
    assert (readers[0].fault, readers[0].is_closed) == (readers[1].fault, readers[1].is_closed)
    assert all(len(message.payload) <= LONGEST for message in messages[0])


def agree(data: bytes) -> None:
    """Read *data* as lines of ``Sec-WebSocket-Extensions``."""
    read_agreed(data.split(b"\n"))


def _frame(first: int, payload: bytes) -> bytes:
    return bytes([first, 126]) + len(payload).to_bytes(2) + payload


def _deflated(payload: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


_SAID = (
    bytes.fromhex("818537fa213d7f9f4d5158"),
    b"\x01\x01a" + b"\x89\x01x" + b"\x80\x01b",
    _frame(0x82, b"c" * 300) + b"\x88\x00",
    _frame(0xC1, _deflated(b"hello " * 50)) * 2,
    _frame(0xC1, _deflated(bytes(1 << 17))),
)
TARGETS = {
    "frames": Target(
        read, tuple(bytes([flags, 6]) + said for said in _SAID for flags in (0, 1, 3)), head=_HEAD
    ),
    "extensions": Target(
        agree, (b"permessage-deflate; client_max_window_bits=10; server_no_context_takeover", b"x, y\nz")
    ),
}
