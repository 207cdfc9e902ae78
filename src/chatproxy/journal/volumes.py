"""The volumes of one journal directory: which one is written, which are adopted, and when does each go?"""

import asyncio
import contextlib
import shutil
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from chatproxy.clock import Clock
from chatproxy.crypto.keys import DataKey
from chatproxy.disk.ballast import Ballast
from chatproxy.disk.directory import private_directory
from chatproxy.errors import KeysetError, RootRefusedError, UndecryptableError
from chatproxy.journal.volume import (
    SegmentFile,
    Volume,
    abandoned_volumes,
    make_volume,
    new_volume_name,
)
from chatproxy.ports import RootKey
from chatproxy.telemetry import Log

_log = Log("journal")
_T = TypeVar("_T")

_PURPOSE = "journal"
_VOLUME_MS = 86_400_000
_BALLAST_BYTES = 16 << 20
_SMALL_BYTES = 256 << 10
"""Up to here a spent segment may be written on; a larger one is given up, so that what was kept does not stay."""
_STALE_MS = 10_000
"""After that a spent segment goes, however small."""


class Volumes:
    """Makes, adopts and removes volumes, in a thread of its own."""

    def __init__(
        self, directory: Path, root: RootKey, *, clock: Clock, ballast: int = _BALLAST_BYTES
    ) -> None:
        """``ballast``: bytes that are given up on the day the disk is full."""
        self._directory = directory
        self._root = root
        self._clock = clock
        self._ballast = Ballast(directory, size=ballast)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._made_at = 0
        self._volumes: list[Volume] = []
        self._left_alone: set[str] = set()
        self.unread: set[str] = set()
        """What dead processes have left and could not be read the last time; it is tried again."""
        self.current: Volume | None = None
        """The one that is written; None as long as the root has not answered."""

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(volume.size for volume in self._volumes)

    @property
    def file_system_bytes(self) -> int:
        """Return how large the file system is."""
        return shutil.disk_usage(self._directory).total

    async def begin(self) -> None:
        """Make the directory. Raises ConfigurationError."""
        private_directory(self._directory)
        await self.in_thread(self._ballast.lay)

    async def in_thread(self, work: Callable[[], _T]) -> _T:
        """Do what waits for the disk, one after the other."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def make_room(self) -> None:
        """Give up the ballast if the disk is full."""
        await self.in_thread(self._ballast.drop_if_full)

    async def renew(self, primary: int) -> None:
        """Write to a new volume if there is none, or it is a day old, or under an older root version than *primary*.

        Raises OSError, KeysetError, RootUnavailableError.
        """
        now = self._clock()
        current = self.current
        if (
            current is not None
            and now - self._made_at < _VOLUME_MS
            and self._root.version_of(current.wrapped_key) >= primary
        ):
            return
        name = new_volume_name()
        key = DataKey.generate()
        [wrapped] = await self._root.wrap(_PURPOSE, [(name.encode(), key.reveal())])
        self.current = await self.in_thread(lambda: make_volume(self._directory, name, key, wrapped))
        self._volumes.append(self.current)
        self._made_at = now
        if current is not None:
            await self.in_thread(current.roll)

    async def move_set_aside(self) -> None:
        """Write what could not be kept to the current volume, if it lies under an older root version.

        It stays for long, and a root version must not be needed for so long. Raises OSError.
        """
        current = self.current
        if current is None:
            return
        for volume in self._volumes:
            if self._version_of(volume) < self._version_of(current):
                await self.in_thread(lambda volume=volume: volume.move_set_aside(current))  # type: ignore[misc]

    @property
    def oldest_root(self) -> int | None:
        """The oldest root version that a volume needs; None: there is no volume."""
        return min(map(self._version_of, self._volumes), default=None)

    def _version_of(self, volume: Volume) -> int:
        return self._root.version_of(volume.wrapped_key)

    async def adopt(self) -> AsyncIterator[tuple[Volume, int]]:
        """Take over what processes that are dead have left; yield volumes, and how many exchanges each has.

        What cannot be opened now is let go, so that it is found again, and keeps nothing else from being taken over.
        Raises OSError, RootUnavailableError, and RootRefusedError once all others are taken over.
        """
        known = {volume.path.name for volume in self._volumes} | self._left_alone
        left, failed = await self.in_thread(lambda: abandoned_volumes(self._directory, except_for=known))
        found = deque(left)
        refused: RootRefusedError | None = None
        try:
            while found:
                path, wrapped, lock = found[0]
                try:
                    [key] = await self._root.unwrap(_PURPOSE, [(path.name.encode(), wrapped)])
                    volume = Volume(path, DataKey(key), wrapped, lock)
                    count = await self.in_thread(volume.find_all)
                except RootRefusedError as error:
                    found.popleft()
                    lock.close()
                    refused = error  # once the operator has put that right it opens
                    continue
                except OSError as error:
                    found.popleft()
                    lock.close()
                    failed.append((path, error))
                    continue
                except (UndecryptableError, KeysetError) as error:
                    found.popleft()
                    self._left_alone.add(path.name)
                    lock.close()
                    _log.error(
                        "what a process before this one has left in the journal cannot be opened; it stays where it is: "
                        "give chatproxy the keyset that it was written with, or remove it",
                        volume=path.name,
                        failure=error,
                    )
                    continue
                found.popleft()
                self._volumes.append(volume)
                yield volume, count
        finally:
            for *_, lock in found:
                lock.close()
        self._note_unread(failed)
        if refused is not None:
            raise refused

    def _note_unread(self, failed: Iterable[tuple[Path, OSError]]) -> None:
        """Say it once of each."""
        before, self.unread = self.unread, set()
        for path, error in failed:
            self.unread.add(path.name)
            if path.name not in before:
                _log.error(
                    "what a process before this one has left in the journal cannot be read; it is tried again",
                    volume=path.name,
                    failure=error,
                )

    def segments(self) -> list[SegmentFile]:
        """Return every segment."""
        return [segment for volume in self._volumes for segment in list(volume.segments)]

    async def tidy(self) -> None:
        """Remove what is not needed any more. Raises OSError."""
        current = self.current
        if current is not None and (writing := current.current) is not None:
            is_stale = writing.size > _SMALL_BYTES or self._clock() - writing.created_at > _STALE_MS
            if not writing.holds and is_stale:
                await self.in_thread(current.roll)
        for segment in self.segments():
            if segment.is_spent:
                await self.in_thread(lambda segment=segment: segment.volume.remove(segment))  # type: ignore[misc]
        for volume in list(self._volumes):
            if volume is not current and await self.in_thread(volume.remove_if_spent):
                self._volumes.remove(volume)
        await self.in_thread(self._ballast.lay)

    async def aclose(self) -> None:
        """Leave what is still needed to whoever comes next."""
        await self.in_thread(self._leave)
        self._thread.shutdown()

    def _leave(self) -> None:
        for volume in self._volumes:
            with contextlib.suppress(OSError):  # what cannot be removed is adopted
                volume.leave()
