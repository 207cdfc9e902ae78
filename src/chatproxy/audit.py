"""Who read what, for which purpose: one JSON line an entry, appended durably before the thing is done.

Minimal on purpose: format version, instant, actor, action and pseudonymous details. Lines are never
rewritten, so a Merkle tree can be built over them later.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from chatproxy.clock import Clock
from chatproxy.errors import AuditUnavailableError
from chatproxy.ports import AuditLog


def operating_user() -> str:
    """Return who runs this process, as the system knows it: no variable of the environment can say otherwise."""
    if sys.platform == "win32":
        return os.getlogin()
    import pwd  # noqa: PLC0415 - not on every platform

    user = os.getuid()
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:  # containers run as users that have no name
        return f"uid:{user}"


class FileAuditLog:
    """An append-only file, shared by the processes of one node."""

    def __init__(self, path: Path, *, clock: Clock, actor: Callable[[], str] = operating_user) -> None:
        self._path = path
        self._clock = clock
        self._actor = actor

    def append(self, action: str, details: Mapping[str, str | int | bool]) -> None:
        """Write one entry and wait until it is on disk. Raises AuditUnavailableError."""
        entry = {**details, "v": 1, "at": self._clock(), "by": self._actor(), "action": action}
        line = json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(
                self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            try:
                # One write of a whole line with O_APPEND: entries of two processes cannot interleave.
                if os.write(descriptor, line) != len(line):
                    raise AuditUnavailableError(
                        f"the audit log {self._path} took only part of an entry; free disk space"
                    )
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise AuditUnavailableError(
                f"the audit log {self._path} cannot be written: {error.strerror}; nothing was read"
            ) from None


_: type[AuditLog] = FileAuditLog
