"""When is the store full? What it has filled is noted once an hour, by whichever node comes first, and kept for a week."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, nan

from chatproxy.clock import Clock
from chatproxy.ports import TranscriptStore
from chatproxy.telemetry import Metrics

_NAME = "growth"
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_MOST = 168
_LEAST_MS = 6 * _HOUR_MS
"""Over less than that, growth says nothing about days."""
_WHOLE = 1_000_000
_LOOK_MS = 60_000


@dataclass(frozen=True, slots=True)
class Sample:
    """Which part of its room the fullest server had filled at an instant (ms), 0 to 1."""

    at: int
    used: float


def read_samples(value: bytes | None) -> list[Sample]:
    """Read what was noted; nothing where it is not readable."""
    try:
        pairs = [line.split() for line in (value or b"").decode("ascii").splitlines()]
        return [Sample(int(at), int(millionths) / _WHOLE) for at, millionths in pairs]
    except ValueError:
        return []


def write_samples(samples: Sequence[Sample]) -> bytes:
    """Write the last of them, a week at one an hour."""
    return "".join(f"{each.at} {round(each.used * _WHOLE)}\n" for each in samples[-_MOST:]).encode("ascii")


def days_until_full(samples: Sequence[Sample]) -> float:
    """Return in how many days the store is full at the pace of *samples*.

    Infinity where it does not grow, NaN where that cannot be told yet.
    """
    if not samples:
        return nan
    first, last = samples[0], samples[-1]
    passed = last.at - first.at
    if passed < _LEAST_MS:
        return nan
    grown = last.used - first.used
    return inf if grown <= 0 else max(1.0 - last.used, 0.0) / grown * passed / _DAY_MS


class Capacity:
    """Notes how full the store is."""

    def __init__(
        self, store: TranscriptStore, used: Callable[[], float], *, clock: Clock, metrics: Metrics
    ) -> None:
        """``used``: which part of its room is filled now, 0 to 1."""
        self._store = store
        self._used = used
        self._clock = clock
        self._metrics = metrics
        self._looked_at = 0

    async def take_up(self) -> bool:
        """Note it if an hour has passed since anybody did. There is never more to do at once.

        Raises StoreUnavailableError.
        """
        now = self._clock()
        if abs(now - self._looked_at) < _LOOK_MS:
            return False
        self._looked_at = now
        value = await self._store.read_control(_NAME)
        samples = read_samples(value)
        if not samples or abs(now - samples[-1].at) >= _HOUR_MS:
            samples.append(Sample(now, self._used()))
            await self._store.swap_control(_NAME, value, write_samples(samples))
        self._metrics.store_days_until_full.set(days_until_full(samples))
        return False


async def foreseen_days(store: TranscriptStore) -> float:
    """Return in how many days the store is full, as the nodes have noted it. Raises StoreUnavailableError."""
    return days_until_full(read_samples(await store.read_control(_NAME)))
