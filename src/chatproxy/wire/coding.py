"""What did this body say before it was compressed? For the copy that is captured; what is forwarded stays as it is.

Bounded (security D2, D4): never more than *limit* bytes and a buffer come out, at most two codings are undone, and
a zstd window is at most 8 MiB (RFC 9659). A body that was cut gives what can be decoded of it.
"""

import sys
import zlib
from typing import Protocol

import brotli

from chatproxy.errors import UnreadableError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_MOST_CODINGS = 2
_MOST_MEMBERS = 16
"""gzip members or zstd frames in one body; each costs a copy of what follows it."""
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_WINDOW_LOG = 23


class _Inflater(Protocol):
    """What zlib's and zstd's decompressors have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def decode(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo the ``Content-Encoding`` *encoding* of *body*: gzip, deflate, br, zstd, identity and chains of two.

    Raises UnreadableError if a coding is unknown, if the body is not in it, or if more than *limit* bytes come out.
    """
    if encoding:
        for name in reversed(_codings(encoding)):
            body = _undo(name, body, limit)
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _codings(encoding: str) -> list[str]:
    names = [name for token in encoding.split(",") if (name := token.strip().lower()) not in ("", "identity")]
    if len(names) > _MOST_CODINGS:
        raise UnreadableError(
            f"the body has {len(names)} content codings, at most {_MOST_CODINGS} are undone"
        )
    return names


def _undo(name: str, body: bytes, limit: int) -> bytes:
    if not body:
        return body
    try:
        match name:
            case "gzip" | "x-gzip":
                return _gunzip(body, limit)
            case "deflate":
                return _inflate(body, limit)
            case "br":
                return _unbrotli(body, limit)
            case "zstd":
                return _unzstd(body, limit)
            case _:
                raise UnreadableError("the body has a content coding that is not known")
    except (zlib.error, brotli.error, zstd.ZstdError):
        raise UnreadableError(f"the body is not in the content coding {name}") from None


def _gunzip(body: bytes, limit: int) -> bytes:
    pieces: list[bytes] = []
    for _ in range(_MOST_MEMBERS):
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        limit -= _take(member, body, limit, pieces)
        body = member.unused_data
        if not body.startswith(_GZIP_MAGIC):  # gzip(1) ignores what follows, often padding, as do browsers
            return b"".join(pieces)
    raise UnreadableError(f"the gzip body has more than {_MOST_MEMBERS} members")


def _inflate(body: bytes, limit: int) -> bytes:
    pieces: list[bytes] = []
    try:
        _take(zlib.decompressobj(), body, limit, pieces)
    except zlib.error:  # many senders leave out the zlib wrapper that RFC 9110 asks for
        _take(zlib.decompressobj(-zlib.MAX_WBITS), body, limit, pieces)
    return pieces[0]


def _unzstd(body: bytes, limit: int) -> bytes:
    pieces: list[bytes] = []
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    for _ in range(_MOST_MEMBERS):
        frame = zstd.ZstdDecompressor(options=options)
        limit -= _take(frame, body, limit, pieces)
        if not frame.eof or not frame.unused_data:
            return b"".join(pieces)
        body = frame.unused_data
    raise UnreadableError(f"the zstd body has more than {_MOST_MEMBERS} frames")


def _unbrotli(body: bytes, limit: int) -> bytes:
    decoder = brotli.Decompressor()
    pieces: list[bytes] = []
    size = 0
    piece = decoder.process(body, output_buffer_limit=limit + 1)
    while piece:
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise _too_large(limit)
        piece = b"" if decoder.is_finished() else decoder.process(b"", output_buffer_limit=limit + 1 - size)
    return b"".join(pieces)


def _take(decoder: _Inflater, body: bytes, limit: int, pieces: list[bytes]) -> int:
    """Decode *body* onto *pieces*; return how many bytes came. Raises UnreadableError beyond *limit*."""
    piece = decoder.decompress(body, limit + 1)
    if len(piece) > limit:
        raise _too_large(limit)
    pieces.append(piece)
    return len(piece)


def _too_large(limit: int) -> UnreadableError:
    return UnreadableError(f"the decoded body is larger than {limit} bytes")
