"""Where is the embedded server's socket? In its directory, unless that path is too long for a socket's name.

Systems take little over 100 bytes, and a deep data directory should just work. Then the socket lies in a private
directory under the system's one for temporary files, whose name follows from the path, so that every process of
the same data directory finds it.
"""

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from chatproxy.disk.directory import private_directory
from chatproxy.errors import StoreRefusedError

_LONGEST = 103
"""Bytes that every supported system takes (macOS 103, Linux 107)."""
_NAME = "s.sock"


def socket_path(directory: Path) -> Path:
    """Return where the server of *directory* listens, in a directory that nobody else can write to.

    Raises:
        StoreRefusedError: there is no place that is short enough, or somebody else holds it.
    """
    if _fits(directory / _NAME):
        return directory / _NAME
    name = hashlib.sha256(os.fsencode(directory)).hexdigest()[:24]
    runtime = Path(tempfile.gettempdir()) / f"chatproxy-{name}"
    if not _fits(runtime / _NAME):
        raise StoreRefusedError(
            f"{directory} is too long a path for a socket, and so is {runtime.parent}: name a data directory with "
            f"a path of fewer than {_LONGEST - len(_NAME) - len('/store/')} bytes"
        )
    return private_directory(runtime) / _NAME


def remove_socket(socket: Path, directory: Path) -> None:
    """Remove the socket of a server that has ended, and what was made for it."""
    socket.unlink(missing_ok=True)
    if socket.parent != directory:
        with contextlib.suppress(OSError):
            socket.parent.rmdir()


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= _LONGEST
