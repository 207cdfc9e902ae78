"""Everybody, in an order that is always the same, though the store has none, and without holding them all.

A walk over the store gives the people who come next, some hundred thousand of them; when those are done, the next walk
gives those after. So memory is bounded, and who stops can begin again where they were.
"""

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

from chatproxy.model import SubjectTag
from chatproxy.ports import TranscriptStore

Key = TypeVar("Key", bytes, tuple[int, bytes])
Value = TypeVar("Value")


class Smallest(Generic[Key, Value]):
    """Of everything that is offered, those with the smallest keys above a given one; each key once."""

    def __init__(self, most: int, above: Key | None) -> None:
        self._most = most
        self._above: Key | None = above
        self._found: dict[Key, Value] = {}
        self._limit: Key | None = None
        self.is_all = True
        """Whether nothing was left out at the upper end."""

    def offer(self, key: Key, value: Value) -> None:
        """Take *value* in, if its key is small enough."""
        if self._above is not None and key <= self._above:
            return
        if self._limit is not None and key > self._limit:
            return
        self._found[key] = value
        if len(self._found) >= 2 * self._most:
            self._cut()

    def in_order(self) -> list[tuple[Key, Value]]:
        """Return what was found, by key."""
        self._cut()
        return sorted(self._found.items(), key=lambda item: item[0])

    def _cut(self) -> None:
        if len(self._found) > self._most:
            self.is_all = False
            self._limit = sorted(self._found)[self._most - 1]
            self._found = {key: self._found[key] for key in sorted(self._found)[: self._most]}


class PeopleInOrder:
    """Walks over the people of one shard by their places in a dataset."""

    def __init__(
        self,
        store: TranscriptStore,
        place: Callable[[SubjectTag], bytes],
        is_wanted: Callable[[SubjectTag], bool],
        *,
        most: int = 200_000,
    ) -> None:
        """``most``: how many people are held at a time, some 100 bytes each."""
        self._store = store
        self._place = place
        self._is_wanted = is_wanted
        self._most = most
        self._held: list[tuple[bytes, SubjectTag]] = []
        self._above: bytes | None = None
        self._is_all = False
        self._is_read = False

    async def after(self, place: bytes | None, *, inclusive: bool) -> AsyncIterator[tuple[bytes, SubjectTag]]:
        """Yield everybody behind *place*, or from it on. Raises StoreUnavailableError."""
        while True:
            if not self._covers(place, inclusive=inclusive):
                await self._read(_before(place) if inclusive else place)
            start = 0
            if place is not None:
                # A tag is 16 bytes, so what is longer than every tag comes after its place.
                start = bisect_right(self._held, (place, b"" if inclusive else b"\xff" * 17))
            for found in self._held[start:]:
                yield found
            if self._is_all:
                return
            place, inclusive = self._held[-1][0], False

    def _covers(self, place: bytes | None, *, inclusive: bool) -> bool:
        """Whether those held begin at *place* or before, and end behind it."""
        if not self._is_read or place is None:
            return self._is_read and self._above is None
        begins = self._above is None or place > self._above or (place == self._above and not inclusive)
        return begins and (self._is_all or place < self._held[-1][0])

    async def _read(self, above: bytes | None) -> None:
        smallest: Smallest[bytes, SubjectTag] = Smallest(self._most, above)
        async for subject in self._store.subjects():
            if self._is_wanted(subject):
                smallest.offer(self._place(subject), subject)
        self._held = smallest.in_order()
        self._above, self._is_all, self._is_read = above, smallest.is_all, True


def _before(place: bytes | None) -> bytes | None:
    if place is None or not int.from_bytes(place, "big"):
        return None
    return (int.from_bytes(place, "big") - 1).to_bytes(len(place), "big")
