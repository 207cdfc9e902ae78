"""What waits between capture and store, in memory.

Bounded in bytes: an exchange that finds no room is lost, and its caller counts that. The oldest is never dropped for
a newer one. A crash loses it all, unless ``chatproxy.journal.disk`` stands behind it.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from chatproxy.model import Exchange
from chatproxy.ports import Journal

_EXCHANGE_BYTES = 2048
"""What an exchange takes beside its copies: without it, empty requests could fill the memory uncounted."""
_PIECE_BYTES = 64
"""What each piece of a copy takes beside its bytes: streams come in small ones."""


class MemoryJournal:
    """Holds exchanges until the store has confirmed them; a crash loses them."""

    problem: str | None = None

    def __init__(self, capacity: int) -> None:
        """Hold at most *capacity* bytes, copies and what it takes to hold them."""
        self._capacity = capacity
        self._held = 0
        self._ended: deque[Exchange] = deque()
        self._running = 0
        self._taken = 0
        self.something_ended = asyncio.Event()
        """Wakes who waits to take."""

    @property
    def held_bytes(self) -> int:
        """Bytes in memory now."""
        return self._held

    @property
    def is_full(self) -> bool:
        """Whether no more than a twentieth of the capacity is free."""
        return self._held > self._capacity * 0.95

    @property
    def is_filling(self) -> bool:
        """Whether copies come faster than they are kept: a quarter of the capacity is taken."""
        return self._held > self._capacity * 0.25

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, waits or is being kept."""
        return not (self._running or self._ended or self._taken)

    @property
    def leaves_nothing(self) -> bool:
        """Nothing here outlives the process."""
        return True

    def follow_root(self, _primary: int) -> int | None:
        """Nothing is sealed here."""
        return None

    def open(self, exchange: Exchange) -> bool:  # noqa: ARG002 - all begin alike
        """Begin to hold an exchange, of which there is nothing yet; False if there is no room."""
        if self.is_full or self._held + _EXCHANGE_BYTES > self._capacity:
            return False
        self._held += _EXCHANGE_BYTES
        self._running += 1
        return True

    def grow(self, exchange: Exchange, size: int, *, pieces: int) -> bool:
        """Account for further *pieces* of *size* bytes, which are then appended; False if there is no room."""
        held = self._held + size + _PIECE_BYTES * pieces
        if held > self._capacity:
            return False
        self._held = held
        exchange.size += size
        return True

    def abandon(self, exchange: Exchange) -> None:
        """Stop holding an exchange that is still running."""
        self._running -= 1
        self._held -= _held_by(exchange)

    def close(self, exchange: Exchange) -> None:
        """Mark an exchange as ended, to be kept."""
        self._running -= 1
        self._ended.append(exchange)
        self.something_ended.set()

    async def is_safe(self, _exchange: Exchange) -> bool:
        """Nothing here survives a crash."""
        return False

    async def take(self, most: int) -> list[Exchange]:
        """Wait for ended exchanges and take up to *most*, oldest first; they are held until released."""
        while not self._ended:
            self.something_ended.clear()
            await self.something_ended.wait()
        return self.take_now(most)

    def take_now(self, most: int) -> list[Exchange]:
        """As ``take``, but of none if none has ended."""
        taken = [self._ended.popleft() for _ in range(min(most, len(self._ended)))]
        self._taken += len(taken)
        return taken

    def put_away(self, may_go: Callable[[Exchange], bool]) -> list[Exchange]:
        """Stop holding those that wait longest, up to the first that must stay; return them."""
        gone = []
        while self._ended and may_go(self._ended[0]):
            exchange = self._ended.popleft()
            self._held -= _held_by(exchange)
            gone.append(exchange)
        return gone

    def take_back(self, exchange: Exchange) -> None:
        """Hold an exchange again that was put away, as taken, whether there is room or not."""
        self._held += _held_by(exchange)
        self._taken += 1

    def release(self, exchange: Exchange, *, is_kept: bool = False) -> None:  # noqa: ARG002 - the same to a memory
        """Stop holding an exchange that was taken."""
        self._taken -= 1
        self._held -= _held_by(exchange)

    async def set_aside(self, exchange: Exchange) -> bool:
        """What cannot be kept is lost."""
        self.release(exchange)
        return False


def _held_by(exchange: Exchange) -> int:
    return exchange.size + _EXCHANGE_BYTES + _PIECE_BYTES * (len(exchange.request) + len(exchange.reply))


_: type[Journal] = MemoryJournal
