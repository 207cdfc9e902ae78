"""Who read what, for which purpose, and what was done to keys and people: one JSON line an entry.

1. An entry is on the disk before the thing is done. What cannot be recorded must not happen.
2. Entries are never rewritten. A Merkle tree stands over the lines, and with each entry its root is signed, as a
   checkpoint. The checkpoints lie beside the log, and the latest one in the store too, where whoever changes the log
   does not reach it.
3. No content, no ids of the company's, no keys: pseudonyms, handles and counts.
4. Several processes of a node write one log, each in its turn: a lock on the file holds from reading where the tree
   stands until the checkpoint is written.
"""

import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from chatproxy.clock import Clock
from chatproxy.crypto.tlog import Checkpoint, NoteSigner, Tree
from chatproxy.disk.directory import write_all
from chatproxy.errors import AuditUnavailableError
from chatproxy.ports import AuditLog

LOG_NAME = "audit.jsonl"
CHECKPOINTS_NAME = "checkpoints"
_STATE_NAME = "tree.json"
_PIECE = 1 << 20

Details = Mapping[str, str | int | bool]


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
    """The log of one node, in a directory of its own."""

    def __init__(
        self,
        directory: Path,
        *,
        signer: Callable[[], NoteSigner],
        clock: Clock,
        actor: Callable[[], str] = operating_user,
    ) -> None:
        """``signer`` gives who signs now: the name is the origin of the log, and the key may be renewed."""
        self._directory = directory
        self._signer = signer
        self._clock = clock
        self._actor = actor
        self._known: tuple[Tree, int] | None = None
        """Where the tree stood, over how many bytes, when this process last saw the log: nobody else can change it."""

    def append(self, action: str, details: Details, *, by: str | None = None) -> None:
        """Write one entry and wait until it is on disk; ``by``: who did it, if not the log's actor.

        Raises AuditUnavailableError.
        """
        self.append_all([(action, details)], by=by)

    def append_all(self, entries: Sequence[tuple[str, Details]], *, by: str | None = None) -> None:
        """Write entries under one checkpoint and wait until they are on disk. Raises AuditUnavailableError."""
        try:
            with self._opened() as log:
                tree, uncovered = self._tree(log)
                lines = [self._line(action, details, by=by) for action, details in entries]
                if uncovered:
                    lines.insert(0, self._line("audit.uncovered", {"entries": uncovered}))
                _write(log, b"".join(lines))
                tree = tree.with_entries(line.removesuffix(b"\n") for line in lines)
                self._remember(tree, os.fstat(log).st_size)
        except OSError as error:
            raise AuditUnavailableError(
                f"the audit log {self._directory / LOG_NAME} cannot be written: {error.strerror}; what must be "
                "recorded there was not done. Free disk space, or see who owns the directory"
            ) from None

    def latest_checkpoint(self) -> str | None:
        """Return the last signed statement about the log; None if there is none. Raises AuditUnavailableError."""
        try:
            if not (self._directory / LOG_NAME).exists():
                return None
            with self._opened() as log:
                tree, _ = self._tree(log)
                return self._signed(tree) if tree.size else None
        except OSError as error:
            raise AuditUnavailableError(
                f"the audit log {self._directory / LOG_NAME} cannot be read: {error.strerror}"
            ) from None

    def _signed(self, tree: Tree) -> str:
        signer = self._signer()
        return signer.sign(Checkpoint.of(signer.name, tree))

    def had(self, checkpoint: Checkpoint) -> bool:
        """Whether the log as it is now begins with what *checkpoint* states. Reads it from the start; OSError."""
        tree = Tree()
        if checkpoint.size:
            with (self._directory / LOG_NAME).open("rb") as log:
                for line in islice(log, checkpoint.size):
                    tree = tree.with_entry(line.removesuffix(b"\n"))
        return Checkpoint.of(checkpoint.origin, tree) == checkpoint

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Open the log, alone."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = _open(self._directory / LOG_NAME, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            fcntl.flock(log, fcntl.LOCK_EX)
            yield log
        finally:
            os.close(log)

    def _line(self, action: str, details: Details, *, by: str | None = None) -> bytes:
        entry: dict[str, Any] = {
            **details,
            "v": 1,
            "at": self._clock(),
            "by": self._actor() if by is None else by,
            "action": action,
        }
        return json.dumps(entry, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"

    def _tree(self, log: int) -> tuple[Tree, int]:
        """Return the tree over the log, and how many of its entries no checkpoint of ours covers.

        A crash leaves such entries, and so does who writes to the log behind our back: the next entry says so. Half a
        line at the end is ended, and stays as an entry that says nothing.
        """
        size = os.fstat(log).st_size
        written, until = self._written_tree()
        tree, known = self._known or (written, until)
        if known > size:
            tree, known = Tree(), 0
        covered, rest = tree.size, b""
        while known < size:
            piece = os.pread(log, _PIECE, known)
            known += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                tree = tree.with_entry(line)
                if tree == written:  # another process of ours has written up to here
                    covered = tree.size
        if rest:
            _write(log, b"\n")
            tree = tree.with_entry(rest)
        self._known = tree, os.fstat(log).st_size
        return tree, tree.size - covered

    def _written_tree(self) -> tuple[Tree, int]:
        """Return where the tree stood when any process wrote last, as far as the file beside the log is believed."""
        try:
            state = json.loads((self._directory / _STATE_NAME).read_bytes())
            return Tree(state["size"], tuple(map(bytes.fromhex, state["frontier"]))), state["bytes"]
        except (OSError, ValueError, KeyError, TypeError):
            return Tree(), 0

    def _remember(self, tree: Tree, length: int) -> None:
        """Write the checkpoint, and where the tree stands, which only saves reading the log again."""
        self._known = tree, length
        note = self._signed(tree)
        checkpoints = _open(self._directory / CHECKPOINTS_NAME, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            _write(checkpoints, note.encode() + b"\n")
        finally:
            os.close(checkpoints)
        state = {"size": tree.size, "bytes": length, "frontier": [node.hex() for node in tree.frontier]}
        draft = self._directory / f".{_STATE_NAME}"
        draft.write_text(json.dumps(state), encoding="ascii")
        draft.replace(self._directory / _STATE_NAME)


def _open(path: Path, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _write(descriptor: int, data: bytes) -> None:
    """Write all of *data* durably. Raises OSError."""
    write_all(descriptor, data)
    os.fsync(descriptor)


_: type[AuditLog] = FileAuditLog
