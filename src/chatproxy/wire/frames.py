"""Which messages pass in one direction of a WebSocket connection (RFC 6455, 7692)? Bytes in, messages out; no I/O.

Rules of this file:

1. It reads a copy. What it cannot read it gives up, with a reason, for the rest of the connection; it never raises.
2. What every reader takes the same way is taken: a mask where none belongs, a length written too long. What two could
   take differently is a fault.
3. A message is bounded after inflation. One that is longer is cut, and the next is read, unless it was compressed:
   then all that follows could hang on what was not inflated.
4. Time grows with the bytes, however they are cut.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

_FIN = 0x80
_COMPRESSED = 0x40
_RESERVED = 0x30
_MASKED = 0x80
_LENGTH = 0x7F
_LENGTH_BYTES = {126: 2, 127: 8}
_MASK_BYTES = 4
_LONGEST_CONTROL = 125
_LONGEST_FRAME = (1 << 63) - 1
_SYNC_TAIL = b"\x00\x00\xff\xff"
"""What a sender cuts off the end of a compressed message (RFC 7692 7.2.1)."""
_MOST_STREAMS = 16
"""DEFLATE streams in one message: each final block ends one, and each costs a new window."""


class _Opcode(IntEnum):
    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class Fault(StrEnum):
    """Why a direction is not read any further."""

    NOT_FRAMES = "not_frames"
    """The bytes are not WebSocket frames, or are of an extension that was not agreed on."""
    EXTENSION = "extension"
    """An extension was agreed on that is not known here."""
    NOT_DEFLATE = "not_deflate"
    """A message that says it is compressed is not."""
    TOO_LARGE = "too_large"
    """A compressed message is longer than is read."""
    NO_MEMORY = "no_memory"
    """Unfinished messages take all the memory there is for them."""


@dataclass(frozen=True, slots=True)
class Agreed:
    """What client and upstream agreed on, as far as reading needs it."""

    is_compressed: bool = False
    client_keeps_context: bool = True
    server_keeps_context: bool = True


@dataclass(frozen=True, slots=True)
class FrameMessage:
    """One message. ``payload`` is its beginning if it ``is_whole`` not."""

    payload: bytes = field(repr=False)
    is_whole: bool


def read_agreed(values: Sequence[bytes]) -> Agreed | None:
    """Read the ``Sec-WebSocket-Extensions`` of the upstream's answer; None: something that is not known here."""
    extensions = [item for value in values for item in value.lower().split(b",") if item.strip()]
    if not extensions:
        return Agreed()
    name, *parameters = (token.strip() for token in extensions[0].split(b";"))
    if len(extensions) > 1 or name != b"permessage-deflate":
        return None
    return Agreed(
        is_compressed=True,
        client_keeps_context=b"client_no_context_takeover" not in parameters,
        server_keeps_context=b"server_no_context_takeover" not in parameters,
    )


class FrameReader:
    """Reads one direction. ``fault`` is set where it gave up; ``is_closed`` after a Close frame."""

    __slots__ = (
        "_compressed",
        "_header",
        "_inflater",
        "_is_compressed",
        "_is_final",
        "_is_in_payload",
        "_is_whole",
        "_keeps_context",
        "_left",
        "_longest",
        "_mask",
        "_message",
        "_opcode",
        "_streams",
        "fault",
        "is_closed",
    )

    def __init__(self, *, compressed: bool, keeps_context: bool, longest: int) -> None:
        """``longest``: bytes of a message, after inflation."""
        self.fault: Fault | None = None
        self.is_closed = False
        self._compressed = compressed
        self._keeps_context = keeps_context
        self._longest = longest
        self._inflater: zlib._Decompress | None = None
        self._streams = 0
        # The frame that is being read.
        self._header = bytearray()
        self._is_in_payload = False
        self._is_final = False
        self._opcode = _Opcode.CONTINUATION
        self._mask = b""
        self._left = 0
        # The message that is being put together.
        self._message: bytearray | None = None
        self._is_compressed = False
        self._is_whole = True

    @property
    def buffered(self) -> int:
        """Bytes of a message that is not whole yet."""
        return len(self._message or b"")

    def feed(self, data: bytes) -> list[FrameMessage]:
        """Take what has passed; return the messages that ended in it. After a fault, or Close, there are none."""
        messages: list[FrameMessage] = []
        at = 0
        while self.fault is None and not self.is_closed:
            if not self._is_in_payload:
                at = self._read_header(data, at)
                if not self._is_in_payload:
                    break
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            if piece and self._opcode < _Opcode.CLOSE:
                self._add(self._unmasked(piece))
            if self._left:
                break
            self._is_in_payload = False
            self._end_frame(messages)
        return messages

    def give_up(self, fault: Fault) -> None:
        """Read no further, and let go of what was read."""
        self.fault = fault
        self._message = None
        self._inflater = None

    def _read_header(self, data: bytes, at: int) -> int:
        header = self._header
        while (missing := _header_size(header) - len(header)) > 0:
            piece = data[at : at + missing]
            if not piece:
                return at
            header += piece
            at += len(piece)
        self._begin_frame(header)
        header.clear()
        return at

    def _begin_frame(self, header: bytearray) -> None:
        first, second = header[0], header[1]
        extended = _LENGTH_BYTES.get(second & _LENGTH, 0)
        length = int.from_bytes(header[2 : 2 + extended]) if extended else second & _LENGTH
        try:
            self._opcode = opcode = _Opcode(first & 0x0F)
        except ValueError:
            self.give_up(Fault.NOT_FRAMES)
            return
        self._is_final = bool(first & _FIN)
        self._mask = bytes(header[-_MASK_BYTES:]) if second & _MASKED else b""
        self._left = length
        is_begin = opcode in {_Opcode.TEXT, _Opcode.BINARY}
        is_control = opcode >= _Opcode.CLOSE
        if (
            first & _RESERVED
            or length > _LONGEST_FRAME
            or (first & _COMPRESSED and not (self._compressed and is_begin))
            or (is_control and (length > _LONGEST_CONTROL or not self._is_final))
            or (not is_control and is_begin is not (self._message is None))
        ):
            self.give_up(Fault.NOT_FRAMES)
            return
        if is_begin:
            self._message = bytearray()
            self._is_compressed = bool(first & _COMPRESSED)
            self._is_whole = True
            self._streams = 0
        self._is_in_payload = True

    def _end_frame(self, messages: list[FrameMessage]) -> None:
        if self._opcode is _Opcode.CLOSE:
            self.is_closed = True
        if self._opcode >= _Opcode.CLOSE or not self._is_final:
            return
        if self._is_compressed:
            self._add(_SYNC_TAIL)
            if not self._keeps_context:
                self._inflater = None
        if self._message is not None:
            messages.append(FrameMessage(bytes(self._message), self._is_whole))
            self._message = None

    def _unmasked(self, piece: bytes) -> bytes:
        mask = self._mask
        if not mask:
            return piece
        size = len(piece)
        key = (mask * (size // _MASK_BYTES + 1))[:size]
        turn = size % _MASK_BYTES
        self._mask = mask[turn:] + mask[:turn]
        return (int.from_bytes(piece) ^ int.from_bytes(key)).to_bytes(size)

    def _add(self, piece: bytes) -> None:
        message = self._message
        if message is None:
            return
        if self._is_compressed:
            self._inflate(message, piece)
            return
        room = self._longest - len(message)
        self._is_whole = len(piece) <= room  # and no later piece is empty, so none fits again
        message += piece[:room]

    def _inflate(self, message: bytearray, piece: bytes) -> None:
        while piece:
            inflater = self._inflater
            if inflater is None:
                inflater = self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
                self._streams += 1
                if self._streams > _MOST_STREAMS:
                    self.give_up(Fault.NOT_DEFLATE)
                    return
            room = self._longest - len(message)
            try:
                inflated = inflater.decompress(piece, room + 1)
            except zlib.error:
                self.give_up(Fault.NOT_DEFLATE)
                return
            if len(inflated) > room:
                self.give_up(Fault.TOO_LARGE)
                return
            message += inflated
            piece = inflater.unused_data
            if inflater.eof:
                self._inflater = None


def _header_size(header: bytearray) -> int:
    """Return how long the header is that begins so, as far as that can be told."""
    if len(header) < 2:  # noqa: PLR2004 - flags and first length
        return 2
    second = header[1]
    return 2 + _LENGTH_BYTES.get(second & _LENGTH, 0) + (_MASK_BYTES if second & _MASKED else 0)
