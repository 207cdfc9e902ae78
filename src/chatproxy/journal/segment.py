"""The bytes of a journal segment: frames one after the other, each sealed, so that whatever was cut off is seen.

Header, 32 bytes: ``magic 8 | segment id 16 | created_at 8`` (ms). Then frames: ``length 4 | number 16 | flags 1 |
check 4``, and as many bytes of ciphertext as *length* says. ``number`` is 8 bytes of the frame's place in the segment
and 8 of the exchange's number in its volume; ``check`` is the CRC-32 of what stands before it. Integers are big-endian.

1. A frame is AES-256-GCM under the segment's own key, derived from the volume's key and the segment id. Its nonce is the
   frame's place: a segment is written once, in order, and given up with the first write that fails, so no nonce is used
   for two texts. Header and frame head are authenticated.
2. A crash cuts the file anywhere. What is whole counts, what is not was never acknowledged.
3. A frame that does not open is skipped and told; those after it are read. Where not even a head can be made out, the next
   one that fits is looked for.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from chatproxy.crypto.keys import DataKey
from chatproxy.crypto.primitives import KEY_SIZE, NONCE_SIZE, TAG_SIZE, SealingKey, hkdf_sha256
from chatproxy.errors import UndecryptableError
from chatproxy.unshown import Unshown

SEGMENT_ID_SIZE = 16
_MAGIC = b"CPJRNL\x00\x01"
_HEADER = struct.Struct(">8s16sQ")
_HEAD = struct.Struct(">IQQB")
_CHECK = struct.Struct(">I")
_HEAD_SIZE = _HEAD.size + _CHECK.size
_LABEL = b"chatproxy/journal/v1"
_LONGEST_FRAME = 1 << 30


class Frame(Unshown, frozen=True):
    """What is to be written of one exchange, or was read. ``is_last``: the exchange has ended with it."""

    number: int
    is_last: bool
    content: bytes


@dataclass(frozen=True, slots=True)
class Found:
    """Where a frame lies in a segment, as its head says it: not authentic before it is opened."""

    offset: int
    length: int
    place: int
    number: int
    is_last: bool


class Segment:
    """The sealing of one segment's frames."""

    def __init__(self, header: bytes, volume_key: DataKey) -> None:
        """*header* as ``make_header`` gave it. Raises UndecryptableError(journal_header)."""
        if len(header) < _HEADER.size:
            raise UndecryptableError("journal_header")
        self.header = header[: _HEADER.size]
        magic, segment_id, self.created_at = _HEADER.unpack(self.header)
        if magic != _MAGIC:
            raise UndecryptableError("journal_header")
        key = hkdf_sha256(volume_key.reveal(), salt=b"", info=_LABEL + segment_id, size=KEY_SIZE)
        self._key = SealingKey(key)

    def __repr__(self) -> str:
        return f"Segment(created_at={self.created_at})"

    def seal(self, frame: Frame, *, place: int) -> bytes:
        """Return the bytes of *frame*. Each *place* is given once, from 0 up."""
        head = _HEAD.pack(len(frame.content) + TAG_SIZE, place, frame.number, frame.is_last)
        head += _CHECK.pack(zlib.crc32(head))
        return head + self._key.encrypt(frame.content, nonce=_nonce(place), aad=self.header + head)

    def open(self, data: memoryview, found: Found) -> Frame:
        """Read a frame. Raises UndecryptableError(journal_frame)."""
        sealed_from = found.offset + _HEAD_SIZE
        content = self._key.decrypt(
            bytes(data[sealed_from : sealed_from + found.length]),
            nonce=_nonce(found.place),
            aad=self.header + bytes(data[found.offset : sealed_from]),
            reason="journal_frame",
        )
        return Frame(found.number, found.is_last, content)


def make_header(segment_id: bytes, *, created_at: int) -> bytes:
    """Return the first bytes of a segment. *created_at* in ms."""
    return _HEADER.pack(_MAGIC, segment_id, created_at)


def frames(data: memoryview) -> Iterator[Found | None]:
    """Find the frames of a segment, in order; None stands for bytes between two that cannot be made out.

    What a crash has cut off at the end is not told.
    """
    offset, expected = _HEADER.size, 0
    while True:
        found = _head_at(data, offset)
        if found is None or found.place < expected:
            found = _next_head(data, offset + 1, expected)
            if found is None:
                return
            yield None
        yield found
        offset = found.offset + _HEAD_SIZE + found.length
        expected = found.place + 1


def _head_at(data: memoryview, offset: int) -> Found | None:
    """Return the whole frame that begins there, if one does."""
    checked_to = offset + _HEAD.size
    if checked_to + _CHECK.size > len(data):
        return None
    head = data[offset:checked_to]
    if _CHECK.unpack_from(data, checked_to)[0] != zlib.crc32(head):
        return None
    length, place, number, flags = _HEAD.unpack(head)
    if not TAG_SIZE <= length <= _LONGEST_FRAME or checked_to + _CHECK.size + length > len(data):
        return None
    return Found(offset, length, place, number, bool(flags))


def _next_head(data: memoryview, offset: int, expected: int) -> Found | None:
    """Return the next whole frame that comes after the *expected* one, or is it."""
    for candidate in range(offset, len(data) - _HEAD_SIZE):
        found = _head_at(data, candidate)
        if found is not None and found.place >= expected:
            return found
    return None


def _nonce(place: int) -> bytes:
    return place.to_bytes(NONCE_SIZE, "big")
