"""How do those who write come back after their disk was full?

The embedded store ends when it cannot write its append-only file, so that nothing is confirmed that is not on disk; the
journal keeps what it cannot write in memory. A file that only takes up space is then removed, and both go on while
somebody makes room (security B7).
"""

import os
import shutil
from pathlib import Path

_NAME = "ballast"
_ROOM = 4
"""The ballast is made only where this many times its size is free."""


class Ballast:
    """A file of *size* bytes in *directory* that may be given up; 0: none."""

    def __init__(self, directory: Path, *, size: int) -> None:
        self._directory = directory
        self._path = directory / _NAME
        self._size = size

    def lay(self) -> None:
        """Take up the space, if there is room and the system can."""
        if not self._size or not hasattr(os, "posix_fallocate"):
            return
        if self._path.exists() or shutil.disk_usage(self._directory).free < _ROOM * self._size:
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size)
        except OSError:
            self._path.unlink()
        finally:
            os.close(descriptor)

    def drop_if_full(self) -> bool:
        """Give the space back if no more than its size is left on the disk; True if that was so."""
        if not self._path.exists() or shutil.disk_usage(self._directory).free > self._size:
            return False
        self._path.unlink()
        return True
