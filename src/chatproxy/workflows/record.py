"""Remember an exchange while it streams past: the copy that is later decided, sealed and kept.

Nothing here waits, and nothing here can fail the chat: where there is no room the copy is given up and counted.
"""

from collections.abc import Callable

from chatproxy.journal import MemoryJournal
from chatproxy.model import Caller, Exchange, StreamEnd, TurnId
from chatproxy.policy.reasons import Reason
from chatproxy.telemetry import Log, Metrics, TurnOutcome

_log = Log("capture")


class Recorder:
    """The copy of one exchange."""

    def __init__(self, exchange: Exchange, journal: MemoryJournal, metrics: Metrics, *, limit: int) -> None:
        self.exchange = exchange
        self._journal = journal
        self._metrics = metrics
        self._limit = limit
        self._is_over = False
        """Whether nothing more is remembered: it was lost, or has ended."""

    def request(self, chunk: bytes) -> None:
        """Remember a piece of the request body."""
        self._append(self.exchange.request, chunk)

    def head(self, status: int, content_type: str, content_encoding: str) -> None:
        """Remember what the reply says about itself."""
        self.exchange.status = status
        self.exchange.content_type = content_type
        self.exchange.content_encoding = content_encoding

    def reply(self, chunk: bytes) -> None:
        """Remember a piece of the reply body."""
        self._append(self.exchange.reply, chunk)

    def finish(self, end: StreamEnd) -> None:
        """The exchange has ended; called exactly once. From here on it waits to be kept."""
        if self._is_over:
            return
        self._is_over = True
        self.exchange.end = end
        self._journal.close(self.exchange)

    def _append(self, pieces: list[bytes], chunk: bytes) -> None:
        exchange = self.exchange
        if self._is_over or exchange.truncated:
            return
        if exchange.size + len(chunk) > self._limit:
            exchange.truncated = True
            return
        if self._journal.grow(exchange, len(chunk)):
            pieces.append(chunk)
            return
        self._is_over = True
        self._journal.abandon(exchange)
        exchange.request.clear()
        exchange.reply.clear()
        count_lost(self._metrics)


def count_lost(metrics: Metrics) -> None:
    """A turn is lost: count it and say so."""
    metrics.settle(TurnOutcome.LOST)
    _log.error("turn lost: the memory for turns that wait is full; see /readyz for what keeps them waiting")


class Capture:
    """Opens a recorder for each chat that may be kept at all."""

    def __init__(
        self,
        journal: MemoryJournal,
        metrics: Metrics,
        *,
        limit: int,
        never_kept: Callable[[Caller], Reason | None],
        new_turn_id: Callable[[], TurnId],
    ) -> None:
        """``never_kept`` tells why nothing of a caller may be kept whatever was chosen (R2, R4, R5), or None."""
        self._journal = journal
        self._metrics = metrics
        self._limit = limit
        self._never_kept = never_kept
        self._new_turn_id = new_turn_id

    def begin(
        self, caller: Caller, *, dialect: str, request_encoding: str, received_at: int
    ) -> Recorder | Reason | None:
        """Return a recorder, or the reason why nothing is kept, or None where there is no room (counted lost)."""
        self._metrics.turns_seen.inc()
        self._metrics.turns_pending.inc()
        reason = self._never_kept(caller)
        if reason is not None:
            self._metrics.decisions.labels(reason).inc()
            self._metrics.settle(TurnOutcome.NOT_STORED)
            return reason
        exchange = Exchange(
            turn=self._new_turn_id(),
            received_at=received_at,
            caller=caller,
            dialect=dialect,
            request_encoding=request_encoding,
        )
        if not self._journal.open(exchange):
            count_lost(self._metrics)
            return None
        return Recorder(exchange, self._journal, self._metrics, limit=self._limit)
