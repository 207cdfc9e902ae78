"""Where does a canary stand? In files and other bytes, as it is or encoded, and in compressed streams inside them.

What is found is told by place, name and form, and never with what stands around it.
"""

import base64
import re
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chatproxy.leaks.canaries import Canaries, spellings

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_MOST_INFLATED = 8 << 20
_MOST_NESTED = 3
_GZIP = b"\x1f\x8b\x08"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
_WBITS_GZIP, _WBITS_ZLIB, _WBITS_RAW = 31, 15, -15
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{32,}")
_HEX = re.compile(rb"(?:[0-9a-fA-F]{2}){24,}")
_UNNAMED = "one of them, cut"


@dataclass(frozen=True, slots=True)
class Hit:
    """A canary where none should be."""

    where: str
    name: str
    """What it was planted in."""
    form: str


@dataclass(slots=True)
class Looked:
    """How much was looked at."""

    places: int = 0
    size: int = 0
    streams: int = 0
    """Compressed ones that were opened."""


class Scanner:
    """Looks for the canaries of one run."""

    def __init__(self, canaries: Canaries) -> None:
        self._needles = tuple(dict.fromkeys(spellings(canaries.mark)))
        self._words = {
            form: [(name, spelt) for name, word in canaries.words.items() for kind, spelt in spellings(word) if kind == form]
            for form, _ in self._needles
        }  # fmt: skip
        self.looked = Looked()

    def scan(self, where: str, data: bytes) -> list[Hit]:
        """Look at *data*, and at what is compressed in it."""
        self.looked.places += 1
        self.looked.size += len(data)
        # Most of what is large is room that is kept free; but a letter of UTF-32 ends with zeros.
        data = data.rstrip(b"\0") + bytes(3)
        return sorted(set(self._find(where, data, 0)), key=lambda hit: (hit.where, hit.name, hit.form))

    def scan_tree(self, directory: Path, *, but: Iterable[Path] = ()) -> list[Hit]:
        """Look at every file below *directory*, its name too, *but* what is below those."""
        left_out = tuple(but)
        hits: list[Hit] = []
        for path in sorted(directory.rglob("*")):
            if any(path.is_relative_to(other) for other in left_out):
                continue
            name = str(path.relative_to(directory))
            if found := self._find("the name of a file", name.encode("utf-8", "surrogateescape"), 0):
                hits += found
                name = "a file whose name is a canary"
            if path.is_symlink():
                hits += self.scan(f"{name} (link)", str(path.readlink()).encode("utf-8", "surrogateescape"))
            elif path.is_file():
                hits += self.scan(name, path.read_bytes())
        return hits

    def _find(self, where: str, data: bytes, depth: int) -> Iterator[Hit] | list[Hit]:
        hits: list[Hit] = []
        for form, needle in self._needles:
            if needle in data:
                named = [name for name, spelt in self._words[form] if spelt in data]
                hits += [Hit(where, name, form) for name in named or [_UNNAMED]]
        if depth < _MOST_NESTED:
            for kind, stream in self._streams(data, is_whole=depth == 0):
                self.looked.streams += 1
                hits += [
                    Hit(where, hit.name, f"{hit.form}, in {kind}")
                    for hit in self._find(where, stream, depth + 1)
                ]
        return hits

    def _streams(self, data: bytes, *, is_whole: bool) -> Iterator[tuple[str, bytes]]:
        """Yield what is compressed in *data*, opened, and texts that such a thing is encoded in, decoded."""
        for at in _places(data, _GZIP):
            yield from _opened("gzip", _inflated(data, at, _WBITS_GZIP))
        for at in _places(data, _ZSTD):
            yield from _opened("zstd", _unzstd(data, at))
        for match in _ZLIB.finditer(data):
            yield from _opened("deflate", _inflated(data, match.start(), _WBITS_ZLIB))
        if is_whole:  # a stream without a head can be anywhere; where data begins it is tried
            yield from _opened("deflate", _inflated(data, 0, _WBITS_RAW))
        for match in _BASE64.finditer(data):
            decoded = _unbase64(match[0])
            if decoded.startswith((_GZIP, _ZSTD)) or _ZLIB.match(decoded):
                yield "base64", decoded
        for match in _HEX.finditer(data):
            decoded = bytes.fromhex(match[0].decode())
            if decoded.startswith((_GZIP, _ZSTD)) or _ZLIB.match(decoded):
                yield "hex", decoded


def _places(data: bytes, head: bytes) -> Iterator[int]:
    at = data.find(head)
    while at >= 0:
        yield at
        at = data.find(head, at + 1)


def _opened(kind: str, stream: bytes) -> Iterator[tuple[str, bytes]]:
    if stream:
        yield kind, stream


def _inflated(data: bytes, at: int, wbits: int) -> bytes:
    """Return what can be inflated from there on, also of a stream that is cut or damaged further on."""
    decoder = zlib.decompressobj(wbits)
    found, rest = bytearray(), memoryview(data)[at:]
    piece = 1 << 12  # most places are no stream, which shows at once
    while rest and not decoder.eof and len(found) < _MOST_INFLATED:
        try:
            found += decoder.decompress(rest[:piece], _MOST_INFLATED - len(found))
        except zlib.error:
            break
        rest, piece = rest[piece:], 1 << 20
    return bytes(found)


def _unzstd(data: bytes, at: int) -> bytes:
    decoder = zstd.ZstdDecompressor()
    found, rest = bytearray(), memoryview(data)[at:]
    piece = 1 << 12
    while rest and not decoder.eof and len(found) < _MOST_INFLATED:
        try:
            found += decoder.decompress(bytes(rest[:piece]), _MOST_INFLATED - len(found))
        except zstd.ZstdError:
            break
        rest, piece = rest[piece:], 1 << 20
    return bytes(found)


def _unbase64(text: bytes) -> bytes:
    text = text.translate(bytes.maketrans(b"-_", b"+/"))
    return base64.b64decode(text[: len(text) // 4 * 4])
