"""Is the audit log whole? Every entry is read again and compared with every checkpoint there is.

A checkpoint says how many entries there were and what the tree over them was. With one for each writing, an entry
that was altered, put in or taken out shows at the first checkpoint behind it. Who rewrites the log and all that lies
beside it must also rewrite the checkpoint in the store, and whatever somebody has kept elsewhere (``kept``).
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chatproxy.audit.log import CHECKPOINTS_NAME, LOG_NAME
from chatproxy.crypto.tlog import Checkpoint, Tree, read_checkpoint
from chatproxy.errors import UndecryptableError


@dataclass(frozen=True, slots=True)
class Verified:
    """What was found. ``fault``: in words, None if the log is whole."""

    entries: int
    checkpoints: int
    fault: str | None = None
    first_bad: int | None = None
    """The number, from 0, of the first entry that is not as it was written, where that can be told."""


def verify_log(directory: Path, *, keys: Mapping[str, Sequence[bytes]], kept: Sequence[str] = ()) -> Verified:
    """Check the log in *directory*. *keys*: the public keys by origin; *kept*: checkpoints from elsewhere.

    Raises OSError if there is a log that cannot be read.
    """
    notes = [*_notes(directory / CHECKPOINTS_NAME), *kept]
    checkpoints: list[Checkpoint] = []
    for note in notes:
        try:
            checkpoints.append(read_checkpoint(note, keys=keys))
        except UndecryptableError as error:
            return Verified(0, len(notes), f"a checkpoint is not one of this log's ({error.reason})")
    awaited = sorted(checkpoints, key=lambda checkpoint: checkpoint.size)
    tree, good, place = Tree(), 0, 0
    for line in _lines(directory / LOG_NAME):
        tree = tree.with_entry(line)
        while place < len(awaited) and awaited[place].size == tree.size:
            if awaited[place].root != tree.root:
                fault = (
                    f"entry {good} or one soon after it, before entry {tree.size}, is not as it was written"
                )
                return Verified(tree.size, len(notes), fault, first_bad=good)
            good, place = tree.size, place + 1
    if place < len(awaited):
        fault = f"there were {awaited[-1].size} entries, and there are {tree.size}: the end was cut off or rolled back"
        return Verified(tree.size, len(notes), fault, first_bad=tree.size)
    if tree.size > good:
        fault = f"no checkpoint covers the entries from {good} on: they were not written by chatproxy, or it was stopped"
        return Verified(tree.size, len(notes), fault, first_bad=good)
    return Verified(tree.size, len(notes))


def _notes(path: Path) -> Iterator[str]:
    """Yield the signed notes in a file of them: each ends with a signature and an empty line."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    lines: list[str] = []
    for line in text.splitlines(keepends=True):
        if line == "\n" and lines and lines[-1].startswith("— "):
            yield "".join(lines)
            lines = []
        else:
            lines.append(line)
    if lines:
        yield "".join(lines)


def _lines(path: Path) -> Iterator[bytes]:
    if not path.exists():
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as log:
        for line in log:
            yield line.removesuffix(b"\n")
