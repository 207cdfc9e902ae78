"""Is the clock right when the embedded store starts? A server drops what it takes for expired before anybody can ask.

The file ``CLOCK`` in the store's directory has the time that was seen last while the store was used. A start is held
where it is further from now than a store may have rested: the clock may be wrong, or the machine was off for long, and
only somebody who looks can tell which (security F6, B8.4).
"""

from pathlib import Path

from chatproxy.disk.directory import replace_file
from chatproxy.policy.instants import format_instant

_NAME = "CLOCK"
_LATEST_MS = 253_402_300_799_999
"""The end of the year 9999: what is later cannot be written as an instant."""


class ClockSeen:
    """What was seen of the clock in one store's directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _NAME

    def last(self) -> int | None:
        """Return the time that was seen last, ms; None: there is none, or it cannot be read."""
        try:
            seen = int(self._path.read_bytes())
        except (OSError, ValueError):
            return None
        return seen if 0 <= seen <= _LATEST_MS else None

    def note(self, now: int) -> None:
        """It is *now* (ms), and that is right. Raises OSError."""
        replace_file(self._path, b"%d\n" % now)

    def doubt(self, now: int, *, longest_pause_ms: int) -> str | None:
        """Say why the store is not to be started at *now*, and what to do; None: it may be."""
        seen = self.last()
        if seen is None or abs(now - seen) <= longest_pause_ms:
            return None
        return (
            f"it is {format_instant(now)} by this machine's clock, and the embedded store was last used at "
            f"{format_instant(seen)}. By a wrong clock it would drop what has not expired, or show what has, so it is not "
            "started: set the clock (NTP). If it is right, say so with `chatproxy store accept-clock`"
        )
