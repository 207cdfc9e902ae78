"""Is a directory private enough for what we keep there, and whose is it at the moment?"""

import fcntl
import os
import stat
from pathlib import Path

from chatproxy.errors import ConfigurationError

_ELSEWHERE = "or name a directory that chatproxy may make itself"


def private_directory(path: Path) -> Path:
    """Return *path* made absolute, made with mode 0700 if it is not there.

    Raises:
        ConfigurationError: it is a symbolic link or no directory, belongs to somebody else, others may write in it,
            or it cannot be made.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100 (resolve() would follow the link that is to be refused)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.lstat()
    except FileExistsError:
        raise ConfigurationError(f"{path} is no directory: move it away, {_ELSEWHERE}") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be made: {error.strerror}: {_ELSEWHERE}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigurationError(f"{path} is a symbolic link: name the directory itself")
    if found.st_uid != os.geteuid():
        raise ConfigurationError(f"{path} belongs to another user: change its owner, {_ELSEWHERE}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigurationError(f"others may write in {path}: chmod 700 it, {_ELSEWHERE}")
    return path


def sync_directory(path: Path) -> None:
    """Wait until the names in a directory are on disk, and survive a power cut. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of *data*, in as many writes as the system makes of it. Raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def replace_file(path: Path, data: bytes) -> None:
    """Put *data* in the place of a file that is for this user alone: whole or not at all, also after a power cut.

    One process at a time: the draft beside it, which is hidden, has one name. Raises OSError.
    """
    draft = path.with_name(f".{path.name}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(path)
    sync_directory(path.parent)


class FileLock:
    """An exclusive ``flock``: it ends with the last process that holds its descriptor, however that ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock, or return False at once if another has it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True

    @property
    def held(self) -> bool:
        """Whether this object has the lock."""
        return self._descriptor is not None

    @property
    def descriptor(self) -> int:
        """What a child must inherit to hold the lock too; the lock must be held."""
        if self._descriptor is None:
            raise RuntimeError("the lock is not held")
        return self._descriptor

    def close(self) -> None:
        """Give up this process's hold, if any. Children that inherited the lock keep it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
