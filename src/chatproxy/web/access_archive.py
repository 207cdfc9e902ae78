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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib.resources import files
from typing import IO, Any

from chatproxy.policy.instants import EPOCH
from chatproxy.web.pages.access_page import AccessPage
from chatproxy.web.pages.words import Words
from chatproxy.workflows.access import Access

_FILE_MODE = 0o100600
_UNIX = 3


class _Sink:
    """Where zip bytes go: it is written to, and nothing else."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write

    def write(self, data: bytes) -> int:
        self._write(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        """Who gave it ends it."""


class AccessArchive:
    """Packs one record."""

    def __init__(self, access: Access, words: Iterable[Words], *, public_keys: str) -> None:
        """``public_keys``: those that verify receipts, as a JWK Set."""
        self._access = access
        self._words = tuple(words)
        self._public_keys = public_keys

    async def write(self, write: Callable[[bytes], None]) -> None:
        """Give *write* the archive, piece by piece. Raises what ``Access`` does, and what *write* does."""
        page = AccessPage()
        with zipfile.ZipFile(_Sink(write), "w") as archive:
            for words in self._words:
                with self._entry(archive, f"index.{words.language}.html") as entry:
                    async for piece in page.pieces(self._access.lines(), words):
                        entry.write(piece.encode())
            with self._entry(archive, "record.jsonl") as entry:
                async for line in self._access.lines():
                    entry.write(as_line(line))
            with self._entry(archive, "record.schema.json") as entry:
                entry.write(record_schema())
            for name, receipt in self._access.receipts():
                with self._entry(archive, f"receipts/{name}.json") as entry:
                    entry.write(receipt)
            with self._entry(archive, "receipts/keys.json") as entry:
                entry.write(self._public_keys.encode())

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


def as_line(line: Mapping[str, Any]) -> bytes:
    """Return an object of the record as it is written: JSON in ASCII on one line."""
    return json.dumps(line, ensure_ascii=True).encode() + b"\n"


def record_schema() -> bytes:
    """Return the JSON Schema of a line."""
    return files(__package__).joinpath("access.schema.json").read_bytes()
