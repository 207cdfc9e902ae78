"""A transcript as bytes to be sealed, and back. The parts of a turn that expire together are one payload.

A payload is JSON of a numbered version, compressed by zstd where that makes it smaller. Each message and part
carries its place, so that the payloads of a turn merge again in any order, and what is left of one whose other
payloads have expired is still in order. What belongs to the turn as a whole (model, usage, finish reasons) is in each.
Version 2, which is written, has arrays, in the order of the members below; version 1 had objects that named them, which
took 45 bytes more of a short turn.

Payloads are opened before they are read, so they are authentic; reading is bounded nevertheless, and a version that
this program does not know is refused rather than guessed at.
"""

import sys
from collections.abc import Container, Iterable, Sequence
from typing import Any, Literal

import msgspec

from chatproxy.errors import UndecryptableError
from chatproxy.model import Message, Origin, Part, PartKind, Transcript
from chatproxy.unshown import Unshown

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

VERSION: Literal[2] = 2
MAX_OUTPUT = 64 << 20
"""Bytes that the payloads of one turn may hold together, decompressed (security B2)."""

_LEVEL = 3
_SMALL = 16 << 10
"""Bytes up to which a payload is compressed with tables that are kept: making them takes longer than it does."""


class Payload(Unshown, frozen=True):
    """What is sealed of one group of parts. ``compressed`` is bit 0 of the record's flags (security B4)."""

    data: bytes
    compressed: bool


class _Part(Unshown, frozen=True, gc=False, array_like=True):
    at: int
    kind: PartKind
    origin: Origin
    body: dict[str, Any]


class _Message(msgspec.Struct, gc=False, array_like=True):
    at: int
    role: str
    parts: Sequence[_Part]
    choice: int | None = None


class _Group(msgspec.Struct, gc=False, array_like=True):
    v: int
    input: Sequence[_Message] = []
    output: Sequence[_Message] = []
    model: str | None = None
    usage: dict[str, int] = {}
    finish: list[str] = []
    parsed: bool = True


class _Version(msgspec.Struct, array_like=True):
    v: int


class _NamedPart(_Part, frozen=True, gc=False, array_like=False):
    """In version 1, as all below."""


class _NamedMessage(_Message, gc=False, array_like=False):
    parts: Sequence[_NamedPart]


class _NamedGroup(_Group, gc=False, array_like=False):
    input: Sequence[_NamedMessage] = []
    output: Sequence[_NamedMessage] = []


class _NamedVersion(_Version, array_like=False):
    pass


class Encoder:
    """Makes payloads, one at a time: not for several threads at once."""

    def __init__(self) -> None:
        self._compressor = zstd.ZstdCompressor(level=_LEVEL)

    def encode_group(self, transcript: Transcript, origins: Container[Origin]) -> Payload:
        """Return the payload of those parts of *transcript* that are of *origins*."""
        plain = _written(transcript, origins)
        small = self._compressed(plain)
        return (
            Payload(small, compressed=True) if len(small) < len(plain) else Payload(plain, compressed=False)
        )

    def _compressed(self, plain: bytes) -> bytes:
        if len(plain) > _SMALL:
            return zstd.compress(plain, level=_LEVEL)
        compressor = self._compressor
        try:
            compressor.set_pledged_input_size(len(plain))
            return compressor.compress(plain, compressor.FLUSH_FRAME)
        except BaseException:
            # Out of memory, perhaps, and in the middle of a frame.
            self._compressor = zstd.ZstdCompressor(level=_LEVEL)
            raise


def _written(transcript: Transcript, origins: Container[Origin]) -> bytes:
    group = _Group(
        v=VERSION,
        input=_chosen(transcript.input, origins),
        output=_chosen(transcript.output, origins),
        model=transcript.model,
        usage=dict(transcript.usage),
        finish=list(transcript.finish),
        parsed=transcript.parsed,
    )
    return msgspec.json.encode(group)


def decode_groups(payloads: Iterable[Payload], max_output: int = MAX_OUTPUT) -> Transcript:
    """Return the transcript that *payloads*, all or some of those of one turn, hold.

    Raises UndecryptableError if there is none, or one is of an unknown version, malformed, or beyond *max_output* bytes.
    """
    groups: list[_Group] = []
    for payload in payloads:
        plain = _decompress(payload.data, max_output) if payload.compressed else payload.data
        max_output -= len(plain)
        if max_output < 0:
            raise UndecryptableError("payload_too_large")
        groups.append(_read(plain))
    if not groups:
        raise UndecryptableError("payload_missing")
    first = groups[0]
    return Transcript(
        input=_merged([message for group in groups for message in group.input]),
        output=_merged([message for group in groups for message in group.output]),
        model=first.model,
        usage=first.usage,
        finish=tuple(first.finish),
        parsed=first.parsed,
    )


def _chosen(messages: Sequence[Message], origins: Container[Origin]) -> list[_Message]:
    """Return the messages that have a part of *origins*, and those that never had any."""
    chosen: list[_Message] = []
    for at, message in enumerate(messages):
        parts = [
            _Part(number, part.kind, part.origin, dict(part.body))
            for number, part in enumerate(message.parts)
            if part.origin in origins
        ]
        if parts or not message.parts:
            chosen.append(_Message(at, message.role, parts, message.choice))
    return chosen


def _merged(found: Iterable[_Message]) -> tuple[Message, ...]:
    heads: dict[int, _Message] = {}
    parts: dict[int, dict[int, Part]] = {}
    for message in found:
        heads[message.at] = message
        place = parts.setdefault(message.at, {})
        place.update({part.at: Part(part.kind, part.origin, part.body) for part in message.parts})
    return tuple(
        Message(head.role, tuple(part for _, part in sorted(parts[at].items())), head.choice)
        for at, head in sorted(heads.items())
    )


def _decompress(data: bytes, max_output: int) -> bytes:
    decoder = zstd.ZstdDecompressor()
    try:
        plain = decoder.decompress(data, max_output + 1)
    except zstd.ZstdError:
        raise UndecryptableError("payload_malformed") from None
    if len(plain) > max_output:
        raise UndecryptableError("payload_too_large")
    if not decoder.eof or decoder.unused_data:
        raise UndecryptableError("payload_malformed")
    return plain


def _read(plain: bytes) -> _Group:
    try:
        if plain.startswith(b"["):
            if msgspec.json.decode(plain, type=_Version).v == VERSION:
                return msgspec.json.decode(plain, type=_Group)
        elif msgspec.json.decode(plain, type=_NamedVersion).v == 1:
            return msgspec.json.decode(plain, type=_NamedGroup)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise UndecryptableError("payload_malformed") from None
    raise UndecryptableError("payload_version_unknown")
