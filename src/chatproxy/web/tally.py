"""How do several workers share the clients? Each leaves the next one to whoever has fewer.

The system wakes every worker when somebody connects, and the first to look could take all who come at once. Clients stay
connected, so from then on one worker would do nearly all the work.

1. Each worker notes how many clients it has where the others read it, whenever it takes one: a number each in one file.
2. Whoever is ahead of another lets that one go first, for a moment (``chatproxy.web.accepting``). So a worker that is too
   busy to take anybody, or has died, keeps nobody waiting for longer.
3. It is advice: where it cannot be written or read, everybody takes who comes.
"""

import contextlib
import os
from array import array

_NUMBER = 8
"""Bytes."""
_EVEN_WITHIN = 8
"""A worker is ahead with an eighth more than another: letting others go first has its price, too."""


def size(workers: int) -> int:
    """Return how many bytes the file has: of each worker, and of the one that takes over from it."""
    return 2 * workers * _NUMBER


class Tally:
    """The clients of each worker, as the worker *own* sees and says it."""

    def __init__(self, file: int, own: int) -> None:
        """*file*: a descriptor of a file of ``size`` bytes, all 0 at first."""
        self._file = file
        self._own = own

    def note(self, clients: int) -> None:
        """Say that this worker has so many clients, and takes more."""
        self._write(clients + 1)

    def leave(self) -> None:
        """Say that this worker takes nobody any more. May be called for one that has died, and again."""
        self._write(0)

    def is_ahead(self, clients: int) -> bool:
        """Whether another worker should go first, this one having so many."""
        numbers = array("q")
        with contextlib.suppress(OSError):
            numbers.frombytes(os.pread(self._file, os.fstat(self._file).st_size, 0))
        fewest = min((number - 1 for number in numbers if number), default=clients)
        return clients > fewest + fewest // _EVEN_WITHIN

    def _write(self, number: int) -> None:
        with contextlib.suppress(OSError):
            os.pwrite(self._file, array("q", (number,)).tobytes(), self._own * _NUMBER)
