"""How an instant is written: RFC 3339 in UTC outside, milliseconds since 1970-01-01 UTC inside."""

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_IN_UTC = EPOCH.replace(tzinfo=None)
MILLISECOND = timedelta(milliseconds=1)
FIRST_INSTANT = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MILLISECOND
LAST_INSTANT = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MILLISECOND
"""Between these two lies what RFC 3339 can write: the years 0001 to 9999."""

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):([0-5]\d))", re.ASCII
)
_HOURS_A_DAY = 24


def parse_instant(text: str) -> int:
    """Return the instant written in *text*; digits beyond the millisecond are cut off.

    Raises ValueError, without repeating the text, if it is not an RFC 3339 instant with its offset from UTC.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("must be an RFC 3339 instant such as 2025-10-10T00:00:00Z")
    date, time, fraction, sign, hours, minutes = match.groups()
    try:
        local = datetime.fromisoformat(f"{date}T{time}+00:00")
    except ValueError:
        raise ValueError("must be an instant that exists in the calendar, as RFC 3339") from None
    at = (local - EPOCH) // MILLISECOND + int((fraction or "")[:3].ljust(3, "0"))
    if sign is not None:
        if int(hours) >= _HOURS_A_DAY:
            raise ValueError("must have an offset from UTC below 24:00")
        offset = (int(hours) * 60 + int(minutes)) * 60_000
        at += offset if sign == "-" else -offset
    if not FIRST_INSTANT <= at <= LAST_INSTANT:
        raise ValueError("must lie in the years 0001 to 9999 UTC")
    return at


def format_instant(at: int) -> str:
    """Return *at* as RFC 3339 in UTC, with milliseconds only where there are any."""
    moment = _EPOCH_IN_UTC + timedelta(milliseconds=at)
    return moment.isoformat(timespec="milliseconds" if at % 1000 else "seconds") + "Z"
