"""The one place that reads the clock. Everything else takes the instant as an argument."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Returns the present instant: integer milliseconds since 1970-01-01 UTC."""


def wall_clock() -> int:
    """Return the host's wall clock."""
    return time.time_ns() // 1_000_000
