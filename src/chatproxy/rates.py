"""How often may each do something? A token bucket for each name, in bounded memory.

A bucket holds as many tokens as may be used at once, and fills evenly. Of each only one number is kept: the instant at
which it will be full again. A full one needs no memory, so whoever was not seen for long is as good as new.
"""

import math
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from chatproxy.errors import ChatproxyError
from chatproxy.policy.periods import Period, format_duration, parse_duration

NameT = TypeVar("NameT")
_RATE = re.compile(r"([1-9][0-9]{0,5})/([0-9]+[a-z]+)", re.ASCII)
_LONGEST_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Rate:
    """So many, at once or evenly, in so long (ms)."""

    count: int
    per_ms: int

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Read ``120/1m``. Raises ValueError."""
        match = _RATE.fullmatch(text)
        period = parse_duration(match[2]) if match else Period()
        if match is None or period.years or not 0 < period.ms <= _LONGEST_MS:
            raise ValueError("must be a number and a duration of at most 1d, such as 120/1m")
        return cls(int(match[1]), period.ms)

    def __str__(self) -> str:
        return f"{self.count}/{format_duration(Period(ms=self.per_ms))}"


class TooOftenError(ChatproxyError):
    """Somebody asks too often. ``retry_after``: in how many seconds they may again."""

    def __init__(self, wait_ms: int) -> None:
        self.retry_after = math.ceil(wait_ms / 1000)
        super().__init__(f"this was asked too often; ask again in {self.retry_after} s")


class Buckets(Generic[NameT]):
    """The buckets of everybody who was seen lately."""

    def __init__(self, rate: Rate, *, most: int = 100_000) -> None:
        """``most``: of how many one is kept. Beyond, who was not seen for longest counts as new: theirs is fullest."""
        self._rate = rate
        self._step = rate.per_ms / rate.count
        self._most = most
        self._full_at: OrderedDict[NameT, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait(self, name: NameT, *, now: int) -> int:
        """Return in how many ms after *now* (ms) there will be a token; 0: there is one. None is taken."""
        missing = self._full_at_by(name, now) + self._step - now - self._rate.per_ms
        # A token is there even if the sum of many parts says that a billionth of it is missing.
        return math.ceil(missing) if missing > self._step * 1e-6 else 0

    def take(self, name: NameT, *, now: int) -> int:
        """Take a token at *now* (ms) and return 0; or return in how many ms there will be one."""
        full_at = self._full_at_by(name, now)
        if wait := self.wait(name, now=now):
            if name in self._full_at:
                self._full_at[name] = full_at
            return wait
        self._full_at[name] = full_at + self._step
        self._full_at.move_to_end(name)
        self._forget(now)
        return 0

    def _full_at_by(self, name: NameT, now: int) -> float:
        # A clock that was set back must lock nobody out for longer than an empty bucket does.
        return max(min(self._full_at.get(name, 0.0), now + self._rate.per_ms), now)

    def _forget(self, now: int) -> None:
        """Let go of who was not seen for longest, if there are too many, or their bucket is full."""
        for _ in range(2):
            name, full_at = next(iter(self._full_at.items()))
            if full_at > now and len(self._full_at) <= self._most:
                return
            del self._full_at[name]
            if not self._full_at:
                return
