"""When does what is kept end? Counted on the hourly walk over the store, for the operator to see."""

from collections import Counter
from typing import Annotated

import msgspec

from chatproxy.policy.periods import DAY_MS
from chatproxy.ports import TranscriptStore

CENSUS_NAME = "census"
"""The control value in which the last count lies."""
DAYS = 30
MONTH_MS = 365 * DAY_MS // 12
MONTHS = 62
"""Five years, and what the calendar and a review of a hold may add."""

_Count = Annotated[int, msgspec.Meta(ge=0)]


class Census(msgspec.Struct, frozen=True):
    """How many turns end when. Instants in ms."""

    at: int
    turns: _Count
    days: tuple[_Count, ...]
    """Turns that end within each of the next 30 days."""
    months: tuple[_Count, ...]
    """Turns that end within each month of 365/12 days, the last one with all that end later."""


class Tally:
    """A count that is being made."""

    def __init__(self, now: int) -> None:
        self._now = now
        self._days: Counter[int] = Counter()
        self._months: Counter[int] = Counter()
        self._turns = 0

    def add(self, ends_at: int) -> None:
        """Count a turn that ends at *ends_at* (ms); what is over is not counted."""
        left = ends_at - self._now
        if left <= 0:
            return
        self._turns += 1
        self._days[left // DAY_MS] += 1
        self._months[min(left // MONTH_MS, MONTHS - 1)] += 1

    def census(self) -> Census:
        """Return what was counted."""
        return Census(
            at=self._now,
            turns=self._turns,
            days=tuple(self._days[day] for day in range(DAYS)),
            months=tuple(self._months[month] for month in range(MONTHS)),
        )


async def publish_census(store: TranscriptStore, census: Census) -> None:
    """Leave a count where every node finds it. Of two, either stands. Raises StoreUnavailableError."""
    before = await store.read_control(CENSUS_NAME)
    await store.swap_control(CENSUS_NAME, before, msgspec.json.encode(census))


async def read_census(store: TranscriptStore) -> Census | None:
    """Return the last count; None if there was none, or it cannot be read. Raises StoreUnavailableError."""
    data = await store.read_control(CENSUS_NAME)
    try:
        return msgspec.json.decode(data, type=Census) if data is not None else None
    except msgspec.MsgspecError:
        return None
