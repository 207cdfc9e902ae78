"""How is the record of a person packed, so that a program and the person can read it (R42)? A zip file, written as it grows.

===================  ==========================================================
``record.jsonl``     the record, one JSON object a line
``record.schema.json``  JSON Schema of a line
``index.<language>.html``  the same as a page, in each language
``receipts/``        the signed receipt of each choice, and the keys to check them with
===================  ==========================================================

The same store at the same instant gives the same bytes. The record is gone through once for each form of it.
"""

import json
import zipfile
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from importlib.resources import files
from typing import IO, Any

from chatproxy.crypto.sealed_file import Sealing
from chatproxy.policy.instants import EPOCH, format_instant
from chatproxy.tasks import aside
from chatproxy.web.pages.access_page import AccessPage
from chatproxy.web.pages.words import Words
from chatproxy.workflows.access import Access

SEALED = ".sealed"
"""What the name of a sealed archive ends in."""
_FILE_MODE = 0o100600
_UNIX = 3


class _Sink:
    """Where zip bytes go, until they are taken."""

    def __init__(self) -> None:
        self._data = bytearray()

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def take(self) -> bytes:
        """Return what was written since this was asked last."""
        data, self._data = bytes(self._data), bytearray()
        return data

    def flush(self) -> None:
        """Nothing goes anywhere by itself."""

    def close(self) -> None:
        """It holds no file."""


class AccessArchive:
    """Packs one record."""

    def __init__(self, access: Access, page: AccessPage, words: Iterable[Words], *, public_keys: str) -> None:
        """``public_keys``: those that verify receipts, as a JWK Set."""
        self._access = access
        self._page = page
        self._words = tuple(words)
        self._public_keys = public_keys

    def name(self, *, is_sealed: bool) -> str:
        """Return what the file is called where nobody says: by a part of the pseudonym, and the day."""
        name = f"access-{self._access.subject.hex()[:8]}-{format_instant(self._access.at)[:10]}.zip"
        return name + SEALED if is_sealed else name

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the archive, a piece for each line of the record, which may be empty. Raises what ``Access`` does."""
        sink = _Sink()
        with zipfile.ZipFile(sink, "w") as archive:
            for name, content in self._files():
                with self._entry(archive, name) as entry:
                    async for data in content:
                        await aside(partial(entry.write, data), size=len(data))
                        yield sink.take()
        yield sink.take()

    def _files(self) -> Iterator[tuple[str, AsyncIterator[bytes]]]:
        for words in self._words:
            yield f"index.{words.language}.html", self._read(words)
        yield "record.jsonl", self._record()
        yield "record.schema.json", _whole(record_schema())
        for name, receipt in self._access.receipts():
            yield f"receipts/{name}.json", _whole(receipt)
        yield "receipts/keys.json", _whole(self._public_keys.encode())

    async def _read(self, words: Words) -> AsyncIterator[bytes]:
        async for piece in self._page.pieces(self._access.lines(), words):
            yield piece.encode()

    async def _record(self) -> AsyncIterator[bytes]:
        async for line in self._access.lines():
            yield as_line(line)

    @contextmanager
    def _entry(self, archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
        info = zipfile.ZipInfo(name, (EPOCH + timedelta(milliseconds=self._access.at)).timetuple()[:6])
        info.compress_type, info.create_system, info.external_attr = (
            zipfile.ZIP_DEFLATED,
            _UNIX,
            _FILE_MODE << 16,
        )
        with archive.open(info, "w", force_zip64=True) as entry:
            yield entry


async def sealed(pieces: AsyncIterator[bytes], sealing: Sealing) -> AsyncIterator[bytes]:
    """Yield an archive sealed to a passphrase."""
    yield sealing.head
    async for piece in pieces:
        yield b"".join(sealing.add(piece))
    yield sealing.end()


async def _whole(content: bytes) -> AsyncIterator[bytes]:
    yield content


def as_line(line: Mapping[str, Any]) -> bytes:
    """Return an object of the record as it is written: JSON in ASCII on one line."""
    return json.dumps(line, ensure_ascii=True).encode() + b"\n"


def record_schema() -> bytes:
    """Return the JSON Schema of a line."""
    return files(__package__).joinpath("access.schema.json").read_bytes()
