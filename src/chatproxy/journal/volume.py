"""A directory of segments under one key, written by one process: how it is made, appended to, adopted and removed.

1. ``lock`` is held by the process that writes; whoever gets it may adopt what another has left. ``key`` is the volume's
   key, wrapped by the root. ``*.seg`` are segments, numbered. ``*.poison`` are segments of what could not be kept: they
   stay for the next start, which tries again.
2. What ``append`` has returned for is on the disk: data, size and name.
3. After a write that failed nothing more goes to that file: what the system has kept of it is not known.

Nothing here is async: it runs in the journal's own thread, or before there is one.
"""

import contextlib
import os
from array import array
from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from chatproxy.crypto.keys import DataKey
from chatproxy.crypto.primitives import random_bytes
from chatproxy.disk.directory import FileLock, private_directory, sync_directory, write_all
from chatproxy.errors import UndecryptableError, UnreadableError
from chatproxy.journal.copies import Assembly
from chatproxy.journal.segment import SEGMENT_ID_SIZE, Frame, Segment, frames, make_header
from chatproxy.model import Exchange

_VOLUME_ID_SIZE = 8
_KEY_NAME, _LOCK_NAME = "key", "lock"
_SEGMENT, _SET_ASIDE = ".seg", ".poison"
_ROLL_BYTES = 16 << 20
"""How large a segment grows: what is on disk longer than it must be, and what is read at once."""


@dataclass(slots=True)
class Waiting:
    """Ended exchanges that are on disk only, and have ended in one segment."""

    numbers: "array[int]" = field(default_factory=lambda: array("Q"))
    """In the order in which they ended; an array, since they may be millions."""
    earlier: dict[int, list["SegmentFile"]] = field(default_factory=dict)
    """The other segments of those that have begun before this one."""

    def add(self, number: int, earlier: list["SegmentFile"]) -> None:
        """Add one."""
        self.numbers.append(number)
        if earlier:
            self.earlier[number] = earlier


@dataclass(slots=True, eq=False)
class SegmentFile:
    """A segment on disk, and what of it is still needed."""

    volume: "Volume" = field(repr=False)
    path: Path
    size: int
    created_at: int
    is_closed: bool = False
    """Whether nothing more is written to it."""
    holds: int = 0
    """How many exchanges that are not kept yet have frames in it."""
    waiting: Waiting = field(default_factory=Waiting)
    is_left: bool = False
    """Whether nobody here has what is in it any more, nor waits for it: it is for the next start."""

    @property
    def number(self) -> int:
        """Return its place among those of its volume."""
        return int(self.path.stem)

    @property
    def is_set_aside(self) -> bool:
        """Whether it has what could not be kept."""
        return self.path.suffix == _SET_ASIDE

    @property
    def is_spent(self) -> bool:
        """Whether it can go."""
        return self.is_closed and not self.holds

    def take_waiting(self) -> Waiting:
        """Return what waits in it; nothing waits in it then."""
        waiting, self.waiting = self.waiting, Waiting()
        return waiting

    def put_back(self, waiting: Waiting) -> None:
        """What was taken waits again, before what has come since."""
        since, self.waiting = self.waiting, waiting
        for number in since.numbers:
            waiting.add(number, since.earlier.get(number, []))


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a segment still has: exchanges by their number, those that cannot be put together as None."""

    exchanges: dict[int, Exchange | None]
    damaged_frames: int


class Volume:
    """One process's segments, or those that a dead one has left."""

    def __init__(self, path: Path, key: DataKey, wrapped_key: bytes, lock: FileLock) -> None:
        """*path* as ``locked_volume`` or ``make_volume`` made it."""
        self.path = path
        self.wrapped_key = wrapped_key
        self.segments: list[SegmentFile] = []
        self._key = key
        self._lock = lock
        self._last_number = 0
        self._current: SegmentFile | None = None
        self._descriptor = -1
        self._sealing: Segment | None = None
        self._place = 0

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(segment.size for segment in self.segments)

    @property
    def current(self) -> SegmentFile | None:
        """The segment that is written to."""
        return self._current

    @property
    def last_number(self) -> int:
        """The number of the newest segment."""
        return self._last_number

    def append(self, content: Iterable[Frame], *, now: int) -> SegmentFile:
        """Write frames and wait until they are on disk; return where they are. *now* in ms. Raises OSError."""
        if self._current is not None and self._current.size >= _ROLL_BYTES:
            self.roll()
        current = self._current or self._begin(now, _SEGMENT)
        assert self._sealing is not None  # noqa: S101 - as ``_begin`` has left it
        sealed = []
        for frame in content:
            sealed.append(self._sealing.seal(frame, place=self._place))
            self._place += 1
        data = b"".join(sealed)
        try:
            write_all(self._descriptor, data)
            os.fdatasync(self._descriptor)
        except OSError:
            self.roll()
            raise
        current.size += len(data)
        return current

    def set_aside(self, frame: Frame, *, now: int) -> None:
        """Write what could not be kept to a segment of its own. Raises OSError."""
        self.roll()
        self._begin(now, _SET_ASIDE)
        segment = self.append([frame], now=now)
        # Before it is closed: what is closed and holds nothing is removed.
        segment.holds, segment.is_left = 1, True
        self.roll()

    def move_set_aside(self, target: "Volume") -> None:
        """Set aside in *target* what was set aside here and waits for the next start. Raises OSError."""
        for segment in [each for each in self.segments if each.is_left and each.holds]:
            for frame in self._open(segment):
                target.set_aside(frame, now=segment.created_at)
            segment.holds = 0

    def roll(self) -> None:
        """Write no more to the current segment."""
        if self._current is not None:
            self._current.is_closed = True
            self._current, self._sealing = None, None
            os.close(self._descriptor)

    def remove(self, segment: SegmentFile) -> None:
        """Remove a segment. Raises OSError."""
        segment.path.unlink(missing_ok=True)
        self.segments.remove(segment)

    def remove_if_spent(self) -> bool:
        """Remove the volume if nothing in it is needed; return whether it is gone. Raises OSError."""
        if any(not segment.is_spent for segment in self.segments):
            return False
        remove_volume(self.path)
        self.segments.clear()
        self._lock.close()
        return True

    def leave(self) -> None:
        """Leave what is still needed to whoever comes next. Raises OSError."""
        self.roll()
        for segment in [segment for segment in self.segments if segment.is_spent]:
            self.remove(segment)
        if not self.remove_if_spent():
            self._lock.close()

    def find_all(self) -> int:
        """Look for what a dead process has left; return how many exchanges. Raises OSError."""
        touched: dict[int, list[SegmentFile]] = {}
        for path in sorted(self.path.iterdir()):
            if path.suffix not in {_SEGMENT, _SET_ASIDE} or not path.stem.isdecimal():
                continue
            self._last_number = max(self._last_number, int(path.stem))
            segment = self._found(path)
            if segment is None:
                path.unlink()
                continue
            for number in {frame.number for frame in frames(memoryview(path.read_bytes())) if frame}:
                touched.setdefault(number, []).append(segment)
                segment.holds += 1
        for number, segments in touched.items():
            *earlier, last = segments
            last.waiting.add(number, earlier)
        return len(touched)

    def read(self, segment: SegmentFile, waiting: Waiting) -> Recovered:
        """Read what waits in a closed segment. Raises OSError."""
        assemblies = {number: Assembly() for number in waiting.numbers}
        damaged = 0
        earlier = {file.number: file for files in waiting.earlier.values() for file in files}
        for file in (*(earlier[number] for number in sorted(earlier)), segment):
            data = memoryview(file.path.read_bytes())
            sealing = Segment(bytes(data[:64]), self._key)
            for found in frames(data):
                if found is None:
                    damaged += 1
                elif found.number in assemblies:
                    try:
                        assemblies[found.number].add(sealing.open(data, found).content)
                    except (UndecryptableError, UnreadableError):
                        damaged += 1
        return Recovered({number: parts.exchange() for number, parts in assemblies.items()}, damaged)

    def _open(self, segment: SegmentFile) -> list[Frame]:
        """Return the frames of a segment that are not damaged. Raises OSError."""
        data = memoryview(segment.path.read_bytes())
        sealing = Segment(bytes(data[:64]), self._key)
        opened = []
        for found in frames(data):
            if found is not None:
                with contextlib.suppress(UndecryptableError):
                    opened.append(sealing.open(data, found))
        return opened

    def _found(self, path: Path) -> SegmentFile | None:
        """Return a segment of somebody else; None where not even its header was written."""
        with path.open("rb") as file:
            try:
                created_at = Segment(file.read(64), self._key).created_at
            except UndecryptableError:
                return None
        segment = SegmentFile(self, path, path.stat().st_size, created_at, is_closed=True)
        self.segments.append(segment)
        return segment

    def _begin(self, now: int, suffix: str) -> SegmentFile:
        """Make a segment and open it for writing. Raises OSError."""
        self._last_number += 1
        path = self.path / f"{self._last_number:08d}{suffix}"
        header = make_header(random_bytes(SEGMENT_ID_SIZE), created_at=now)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            write_all(descriptor, header)
            sync_directory(self.path)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        self._descriptor, self._sealing, self._place = descriptor, Segment(header, self._key), 0
        self._current = SegmentFile(self, path, len(header), now)
        self.segments.append(self._current)
        return self._current


def make_volume(directory: Path, name: str, key: DataKey, wrapped_key: bytes) -> Volume:
    """Make a new volume in *directory*. Raises OSError, ConfigurationError."""
    draft = private_directory(directory / f".{name}")  # nobody adopts it yet
    lock = FileLock(draft / _LOCK_NAME)
    lock.acquire()
    descriptor = os.open(draft / _KEY_NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, wrapped_key)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync_directory(draft)
    path = draft.rename(directory / name)
    sync_directory(directory)
    return Volume(path, key, wrapped_key, lock)


def new_volume_name() -> str:
    """Return a name that no volume has."""
    return random_bytes(_VOLUME_ID_SIZE).hex()


def remove_volume(path: Path) -> None:
    """Remove a volume that the caller has locked. Raises OSError."""
    gone = path.rename(path.with_name(f".{path.name}"))  # nobody adopts it any more
    (gone / _KEY_NAME).unlink(missing_ok=True)
    for file in gone.iterdir():
        file.unlink()
    gone.rmdir()


def abandoned_volumes(
    directory: Path, *, except_for: Container[str]
) -> tuple[list[tuple[Path, bytes, FileLock]], list[tuple[Path, OSError]]]:
    """Lock every volume that nobody writes any more; return path, wrapped key and lock of each, and what cannot be read.

    Raises OSError if the directory itself cannot be read.
    """
    found: list[tuple[Path, bytes, FileLock]] = []
    unread: list[tuple[Path, OSError]] = []
    for path in sorted(directory.iterdir()):
        if path.name.startswith(".") or path.name in except_for or not path.is_dir():
            continue
        lock = FileLock(path / _LOCK_NAME)
        try:
            if lock.acquire():
                found.append((path, (path / _KEY_NAME).read_bytes(), lock))
        except FileNotFoundError:  # its owner has just removed it
            lock.close()
        except OSError as error:
            lock.close()
            unread.append((path, error))
    return found, unread
