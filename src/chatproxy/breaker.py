"""Is it worth asking? A source that keeps failing is left alone for a while, so that nobody waits for it in vain."""


class Breaker:
    """Opens after some failures in a row; then one question at a time tries whether the source is back.

    Instants are seconds of a clock that never goes back.
    """

    def __init__(
        self, *, most_failures: int = 5, first_pause: float = 1.0, longest_pause: float = 30.0
    ) -> None:
        """Pauses, in seconds, double from the first to the longest as long as the source fails."""
        self._most_failures = most_failures
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._failures = 0
        self._pause = first_pause
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
        self._failures, self._pause, self._open_until = 0, self._first_pause, None

    def failed(self, now: float) -> None:
        """The source has not answered, or not as it should."""
        self._failures += 1
        if self._failures < self._most_failures:
            return
        if self._failures > self._most_failures:
            self._pause = min(self._pause * 2, self._longest_pause)
        self._open_until = now + self._pause
