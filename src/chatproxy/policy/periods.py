"""How long is a period? Exact for days and less, by the calendar for years (R7)."""

import re
from calendar import isleap
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from chatproxy.policy.instants import EPOCH, LAST_INSTANT

SECOND_MS = 1_000
DAY_MS = 86_400 * SECOND_MS
"""A day is 86 400 s, whatever a local clock does (R7)."""

_UNIT_MS = {"w": 7 * DAY_MS, "d": DAY_MS, "h": 3_600 * SECOND_MS, "m": 60 * SECOND_MS, "s": SECOND_MS}
_DURATION = re.compile(r"(0|[1-9][0-9]{0,9})([ywdhms])")
_FIRST_DAY = EPOCH.toordinal()
_FEBRUARY, _LEAP_DAY = 2, 29
_SHORTEST_YEAR, _LONGEST_YEAR = 365 * DAY_MS, 366 * DAY_MS


@dataclass(frozen=True, slots=True)
class Period:
    """A length of time, maximum of what it limits: either *ms* milliseconds or *years* calendar years."""

    ms: int = 0
    years: int = 0

    def __post_init__(self) -> None:
        if self.ms < 0 or self.years < 0 or (self.ms and self.years):
            raise ValueError("a period is either milliseconds or years, and not negative")

    def after(self, at: int) -> int:
        """Return the instant at which this period, begun at *at*, is over; at most the year 9999.

        Years keep the calendar date; 29 February becomes 28 February where there is none (R7).
        """
        if not self.years:
            return min(at + self.ms, LAST_INSTANT)
        days = _days_in(self.years, at // DAY_MS)
        return LAST_INSTANT if days is None else at + days * DAY_MS

    @property
    def length(self) -> int:
        """Return the length in ms, for comparing; years are those from 1970 on."""
        return self.after(0)


@lru_cache(maxsize=1024)
def _days_in(years: int, day: int) -> int | None:
    """Return how many days *years* have that begin *day* days after 1970-01-01; None: they end after the year 9999."""
    begin = date.fromordinal(_FIRST_DAY + day)
    year = begin.year + years
    if year > begin.max.year:
        return None
    if begin.month == _FEBRUARY and begin.day == _LEAP_DAY and not isleap(year):
        end = begin.replace(year=year, day=_LEAP_DAY - 1)
    else:
        end = begin.replace(year=year)
    return end.toordinal() - begin.toordinal()


def shorter_period(one: Period, other: Period) -> Period:
    """Return a period that ends no later than either, whenever it begins.

    How long years are depends on when they begin. Where that decides which of the two is shorter, what is returned
    are years of 365 days: never more than either, and less than the shorter by a day in four years at most.
    """
    if bool(one.years) == bool(other.years):
        return min(one, other, key=lambda period: period.length)
    years, time = (one, other) if one.years else (other, one)
    if time.ms <= years.years * _SHORTEST_YEAR:
        return time
    return years if time.ms >= years.years * _LONGEST_YEAR else Period(ms=years.years * _SHORTEST_YEAR)


def parse_duration(text: str) -> Period:
    """Read a duration as settings write it: a whole number and a unit, ``s m h d w y``, nothing between.

    ``0d`` is a period of no length; whether that makes sense is for the caller. Raises ValueError, naming the
    accepted form.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(
            "must be a whole number and a unit without a space between, such as 30d, 12h or 5y"
            " (units: s, m = minutes, h, d, w, y)"
        )
    number, unit = int(match[1]), match[2]
    return Period(years=number) if unit == "y" else Period(ms=number * _UNIT_MS[unit])


def format_duration(period: Period) -> str:
    """Return *period* as ``parse_duration`` reads it, in the largest unit up to days that is exact.

    Raises ValueError for a fraction of a second, which settings cannot write.
    """
    if period.years:
        return f"{period.years}y"
    for unit in ("d", "h", "m", "s"):
        if period.ms % _UNIT_MS[unit] == 0:
            return f"{period.ms // _UNIT_MS[unit]}{unit}"
    raise ValueError("a duration is a whole number of seconds")
