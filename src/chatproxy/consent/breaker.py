"""Is it worth asking? A source that keeps failing is left alone for a while, so that nobody waits for it in vain."""

_MOST_FAILURES = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


class Breaker:
    """Opens after five failures in a row; then one question at a time tries whether the source is back.

    Instants are seconds of a clock that never goes back.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._pause = _FIRST_PAUSE
        self._open_until: float | None = None

    def lets_pass(self, now: float) -> bool:
        """Whether a question may be asked. After a pause the first one may, and the others wait for its outcome."""
        if self._open_until is None:
            return True
        if now < self._open_until:
            return False
        self._open_until = now + self._pause
        return True

    def succeeded(self) -> None:
        """The source has answered."""
        self._failures, self._pause, self._open_until = 0, _FIRST_PAUSE, None

    def failed(self, now: float) -> None:
        """The source has not answered, or not as it should."""
        self._failures += 1
        if self._failures < _MOST_FAILURES:
            return
        if self._failures > _MOST_FAILURES:
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        self._open_until = now + self._pause
