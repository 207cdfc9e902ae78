"""The keyset as a file: who may read it, where may it lie, and how is it written so that it is whole or not there?

1. The file is regular, ours, mode 0600 or stricter, and not a symbolic link; it lies outside the data directory,
   since a backup of one must not carry the other (security list 6, BI-126). Anything else is refused, with the
   command that mends it.
2. The first keyset never overwrites: it is written beside its name, flushed to the disk, and linked to it, which fails
   if the name exists. Rotation replaces the file as a whole. A crash leaves no half keyset.
3. All is checked on the opened file, not on its name, so that nobody can exchange it in between.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from chatproxy.crypto.keys import KeyStatus, RootSecret
from chatproxy.crypto.keyset import (
    MAX_KEYSET_BYTES,
    Keyset,
    KeyVersion,
    are_same_but_for_root,
    parse_keyset,
    with_other_root,
    write_keyset,
)
from chatproxy.crypto.primitives import random_bytes
from chatproxy.crypto.root import root_check, root_version_of, unwrap_under_root, wrap_under_root
from chatproxy.disk.directory import sync_directory
from chatproxy.errors import KeysetError, UndecryptableError
from chatproxy.ports import KeysetSource, RootKey, RootVersion, TranscriptStore

_SCHEME = "file:"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class KeysetFile:
    """A keyset file at *path*, which may not lie in *data_dir*. Raises KeysetError if it would."""

    __slots__ = ("path",)

    def __init__(self, path: Path, *, data_dir: Path) -> None:
        self.path = path
        if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(data_dir)):
            raise KeysetError(
                f"{path}: the keyset must not lie in the data directory {data_dir}: a backup of the data would "
                "carry its keys. Move it, and set CHATPROXY_KEYSET to the new place"
            )

    @classmethod
    def from_url(cls, url: str, *, data_dir: Path) -> "KeysetFile":
        """Read the setting's form ``file:PATH``."""
        path = url.removeprefix(_SCHEME)
        if not url.startswith(_SCHEME) or not path or "\0" in path:
            raise KeysetError("CHATPROXY_KEYSET must be file:PATH, such as file:./.chatproxy-keys/keyset")
        return cls(Path(path), data_dir=data_dir)

    def create(self, keyset: Keyset) -> None:
        """Write *keyset* to a new file, with missing directories (mode 0700). Raises KeysetError."""
        try:
            _make_directory(self.path.parent)
            _write_new(self.path, write_keyset(keyset))
        except FileExistsError:
            raise KeysetError(
                f"{self.path}: there is a file already, and it is left as it is: what was stored with a keyset "
                "cannot be read without it. Give another path, or move the old keyset away first"
            ) from None
        except OSError as error:
            raise KeysetError(
                f"{self.path}: the keyset cannot be written: {error.strerror}. Nothing was made; "
                "choose a directory that this account may write to"
            ) from error

    def change(self, step: Callable[[Keyset], Keyset]) -> Keyset:
        """Replace the file by what *step* makes of it, whole or not at all; return that. Raises KeysetError.

        One process at a time: a lock on the directory holds meanwhile.
        """
        try:
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(directory, fcntl.LOCK_EX)
                changed = step(self.load())
                with _draft(self.path, write_keyset(changed)) as draft:
                    draft.replace(self.path)
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise KeysetError(
                f"{self.path}: the keyset cannot be changed: {error.strerror}. It is as it was; "
                "this account must be able to write to its directory"
            ) from error
        return changed

    def take(self, keyset: Keyset, *, now: int) -> bool:
        """Write *keyset* to a new file, with a root of its own; False: it is there already. Raises KeysetError.

        *now* in ms. A file that holds anything else is left as it is.
        """
        if os.path.lexists(self.path) and are_same_but_for_root(self.load(), keyset):
            return False
        self.create(with_other_root(keyset, created_at=now))
        return True

    def load(self) -> Keyset:
        """Read the file. Raises KeysetError."""
        try:
            data = self._read()
        except FileNotFoundError:
            raise KeysetError(
                f"{self.path}: there is no keyset. Make the first one with: chatproxy keys init. If there was one, "
                "restore it from its backup: without it nothing that is stored can be read"
            ) from None
        except OSError as error:
            raise KeysetError(
                f"{self.path}: the keyset cannot be read: {error.strerror}. It must be a regular file that this "
                "account owns, not a symbolic link"
            ) from error
        return parse_keyset(data, source=str(self.path))

    def _read(self) -> bytes:
        # O_NONBLOCK: a named pipe must be refused, not waited for.
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self._require_private(os.fstat(descriptor))
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(MAX_KEYSET_BYTES)
        finally:
            os.close(descriptor)

    def _require_private(self, found: os.stat_result) -> None:
        """Raise KeysetError unless this is a regular file of ours that nobody else may use."""
        if not stat.S_ISREG(found.st_mode):
            raise KeysetError(f"{self.path}: this is not a regular file. Name the keyset file itself")
        if found.st_uid != os.geteuid():
            raise KeysetError(
                f"{self.path}: it belongs to user {found.st_uid}, and chatproxy runs as {os.geteuid()}. "
                f"Run: chown {os.geteuid()} {self.path}"
            )
        if found.st_mode & _OTHERS:
            raise KeysetError(
                f"{self.path}: others may use it (mode {stat.S_IMODE(found.st_mode):04o}). "
                f"Run: chmod 600 {self.path}, and think about who may have read it"
            )
        if found.st_size > MAX_KEYSET_BYTES:
            raise KeysetError(f"{self.path}: it is too long for a keyset. Name the keyset file itself")


class KeysetPlace(Protocol):
    """Where a keyset lies that holds its root itself."""

    def load(self) -> Keyset:
        """Read it. Raises KeysetError."""

    def change(self, step: Callable[[Keyset], Keyset]) -> Keyset:
        """Replace it by what *step* makes of it; return that. Raises KeysetError."""

    def take(self, keyset: Keyset, *, now: int) -> bool:
        """Hold *keyset* with a root of its own; False: it did already. Raises KeysetError."""


class PlacedKeyset:
    """A keyset that is all in one place, a file or a variable, as a ``KeysetSource``."""

    __slots__ = ("_place", "name", "root")

    def __init__(self, name: str, place: KeysetPlace) -> None:
        """``name``: as the setting names it."""
        self._place = place
        self.name = name
        self.root: RootKey = FileRoot(place)

    def local(self) -> Keyset:
        """Read it. Raises KeysetError."""
        return self._place.load()

    async def load(self, store: TranscriptStore) -> Keyset:
        """Read it. Raises KeysetError."""
        del store
        return self._place.load()

    async def change(self, store: TranscriptStore, step: Callable[[Keyset], Keyset]) -> Keyset:
        """Replace it by what *step* makes of it. Raises KeysetError."""
        del store
        return self._place.change(step)

    async def take(self, store: TranscriptStore, keyset: Keyset, *, now: int) -> bool:
        """Write *keyset* to its place, with a root of its own, unless it is there. Raises KeysetError."""
        del store
        return self._place.take(keyset, now=now)

    async def follow_root(self, store: TranscriptStore) -> None:
        """Do nothing: nothing of it lies in the store."""


class FileRoot:
    """The root in a keyset, as a ``RootKey``. The keyset is read anew each time, since it changes by rotation."""

    __slots__ = ("_file",)

    def __init__(self, file: KeysetPlace) -> None:
        self._file = file

    async def wrap(self, purpose: str, keys: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        """Wrap (ident, key) pairs, keys of 32 bytes, under the primary root version. Raises KeysetError."""
        primary = next(entry for entry in self._file.load().root if entry.status is KeyStatus.PRIMARY)
        root = _usable(primary)
        return [
            wrap_under_root(root, version=primary.version, purpose=purpose, ident=ident, secret=key)
            for ident, key in keys
        ]

    async def unwrap(self, purpose: str, wraps: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        """Unwrap (ident, wrapped) pairs, each under exactly the root version that it names.

        Raises UndecryptableError: unknown_root_version, retired_root_version, destroyed_root_version, or as
        ``unwrap_under_root``; KeysetError.
        """
        versions = {entry.version: entry for entry in self._file.load().root}
        return [
            unwrap_under_root(_named_by(wrapped, versions), purpose=purpose, ident=ident, wrapped=wrapped)
            for ident, wrapped in wraps
        ]

    def version_of(self, wrapped: bytes) -> int:
        """Return the root version that a wrap names. Raises UndecryptableError."""
        return root_version_of(wrapped)

    async def versions(self) -> list[RootVersion]:
        """Return every version, the oldest first. Raises KeysetError."""
        entries = sorted(self._file.load().root, key=lambda entry: entry.version)
        return [
            RootVersion(
                entry.version,
                entry.status,
                entry.created_at,
                check=root_check(entry.key) if entry.key is not None else "",
            )
            for entry in entries
        ]

    async def add_version(self, *, now: int) -> int:
        """Add a version to the file, PENDING. Every node needs the new file. Raises KeysetError."""
        changed = self._file.change(lambda keyset: keyset.with_new_root(created_at=now))
        return changed.root[-1].version

    async def set_status(self, version: int, status: KeyStatus) -> None:
        """Change a version's status in the file; DESTROYED takes its key away. Raises KeysetError."""
        self._file.change(lambda keyset: keyset.with_root_status(version, status))


def _named_by(wrapped: bytes, versions: Mapping[int, KeyVersion[RootSecret]]) -> RootSecret:
    entry = versions.get(root_version_of(wrapped))
    if entry is None:
        raise UndecryptableError("unknown_root_version")
    return _usable(entry)


def _usable(entry: KeyVersion[RootSecret]) -> RootSecret:
    if entry.key is None or not entry.status.opens:
        raise UndecryptableError(f"{entry.status.lower()}_root_version")
    return entry.key


def _make_directory(directory: Path) -> None:
    """Make *directory* and what is missing above it, durably, for this account alone."""
    missing = [part for part in (directory, *directory.parents) if not part.exists()]
    for part in reversed(missing):
        part.mkdir(mode=0o700, exist_ok=True)
        sync_directory(part.parent)


def _write_new(path: Path, data: bytes) -> None:
    """Write *data* durably to a file that must not exist yet. Raises FileExistsError, OSError."""
    with _draft(path, data) as draft:
        os.link(draft, path)
    sync_directory(path.parent)


@contextlib.contextmanager
def _draft(path: Path, data: bytes) -> Iterator[Path]:
    """Write *data* durably beside *path*; what is still there afterwards goes. Raises OSError."""
    draft = path.with_name(f".{path.name}.{random_bytes(8).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - Path.open takes no descriptor
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield draft
    finally:
        with contextlib.suppress(FileNotFoundError):
            draft.unlink()


_: type[RootKey] = FileRoot
__: type[KeysetSource] = PlacedKeyset
