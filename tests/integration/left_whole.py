"""What must hold wherever a proxy of a test has stopped, whatever was done to it (docs/reliability.md, The fault matrix)."""

import base64
import errno
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from chatproxy.audit.log import LOG_NAME
from chatproxy.audit.verify import verify_log

CANARY = "canary-7f3a9"
"""Put it into whatever is said."""
_SHORTEST = 8
"""Characters: what is shorter may stand somewhere by chance."""
_MOST_TEXTS = 64
"""How many of what was spoken are looked for: a load says thousands of times the same."""
_log = logging.getLogger("invariants")


def assert_files_left_whole(
    data_dir: Path, *, spoken: Iterable[str] = (), audit_keys: Mapping[str, Sequence[bytes]] | None = None
) -> None:
    """I3: nothing of what was said lies readable in any file. I6: the audit log is whole, where its keys are known.

    Where a test has put something else in its place there is none.
    """
    assert_nothing_readable(data_dir, spoken=spoken)
    _log.info("I3")
    if audit_keys is not None and (data_dir / "audit" / LOG_NAME).is_file():
        assert verify_log(data_dir / "audit", keys=audit_keys).fault is None
        _log.info("I6")


def assert_nothing_readable(*directories: Path, spoken: Iterable[str] = ()) -> None:
    """I3, of every file below *directories*: neither the canary nor, of what was *spoken*, some."""
    long_enough = sorted({text for text in spoken if len(text) >= _SHORTEST})
    some = long_enough[:: len(long_enough) // _MOST_TEXTS + 1]
    texts = {CANARY, CANARY.upper(), *some}
    forms = [form for text in texts for form in _forms(text)]
    for path in _files(directories):
        data = _written(path)
        assert not any(form in data for form in forms), path


def _files(directories: Iterable[Path]) -> Iterable[Path]:
    return (
        path for top in directories for path in top.rglob("*") if path.is_file() and not path.is_symlink()
    )


def _written(path: Path) -> bytes:
    """Return what is in a file; nothing where it only takes up space, as ballast does: that is as good as read."""
    with path.open("rb") as file:
        try:
            file.seek(0, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return b""
            raise
        file.seek(0)
        return file.read()


def _forms(text: str) -> list[bytes]:
    raw = text.encode()
    # In base64 a text looks in one of three ways, by where it begins; its ends depend on its neighbours.
    in_base64 = [base64.b64encode(b"x" * ahead + raw)[ahead * 4 // 3 + 2 : -4] for ahead in range(3)]
    return [
        raw,
        raw.hex().encode(),
        raw.hex().upper().encode(),
        *(form for form in in_base64 if len(form) >= _SHORTEST),
    ]
