"""Remember an exchange while it streams past: the copy that is later decided, sealed and kept.

Nothing here waits, and nothing here can fail the chat: where there is no room the copy is given up and counted.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from chatproxy.model import Caller, Exchange, StreamEnd, TurnId
from chatproxy.policy.reasons import Reason
from chatproxy.ports import Journal
from chatproxy.telemetry import Log, Metrics, TurnOutcome
from chatproxy.workflows.decide import circumstances

_log = Log("capture")

_LONGEST_REQUEST_KEY = 255
_MOST_CHECKED_BYTES = 256 << 10


class Recorder:
    """The copy of one exchange."""

    def __init__(
        self,
        exchange: Exchange,
        journal: Journal,
        metrics: Metrics,
        *,
        limit: int,
        name: Callable[[bytes], TurnId | None] | None = None,
    ) -> None:
        """``name`` gives the turn of a request by the digest of its bytes, where the client has given it a key.

        None: it cannot be told as long as the keyset is not known.
        """
        self.exchange = exchange
        self._journal = journal
        self._metrics = metrics
        self._limit = limit
        self._is_over = False
        """Whether nothing more is remembered: it was lost, or has ended."""
        self._name = name
        self._asked = hashlib.sha256(exchange.dialect.encode() + b"\0") if name else None
        if self._asked is not None:
            self._asked.update(circumstances(exchange.caller) + b"\0")

    def request(self, chunk: bytes) -> None:
        """Remember a piece of the request body."""
        self._remember(self.exchange.request, (chunk,), len(chunk))
        if self._asked is not None:
            self._asked.update(chunk)

    def request_ended(self) -> None:
        """The request body is whole. Its turn is named now; what the head of an answer has told stays another name."""
        if self._name is None or self._asked is None or self._is_over:
            return
        self.exchange.named = self._name(self._asked.digest())
        if self.exchange.named is not None and not self.exchange.status:
            self.exchange.turn = self.exchange.named

    def request_is_readable(self) -> bool:
        """Whether the request body, as far as it is here, is JSON. No for what would take long to find out."""
        exchange = self.exchange
        if exchange.request_encoding or exchange.truncated or exchange.size > _MOST_CHECKED_BYTES:
            return False
        try:
            msgspec.json.decode(b"".join(exchange.request), type=msgspec.Raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        return True

    def head(self, status: int, content_type: str, content_encoding: str) -> None:
        """Remember what the reply says about itself."""
        self.exchange.status = status
        self.exchange.content_type = content_type
        self.exchange.content_encoding = content_encoding

    def reply(self, pieces: Sequence[bytes], size: int) -> None:
        """Remember pieces of the reply body, which have *size* bytes together."""
        self._remember(self.exchange.reply, pieces, size)

    def finish(self, end: StreamEnd) -> None:
        """The exchange has ended; called exactly once. From here on it waits to be kept."""
        if self._is_over:
            return
        self._is_over = True
        self.exchange.end = end
        self._journal.close(self.exchange)

    async def is_safe(self) -> bool:
        """Wait until the copy, which has ended, survives a crash; False if it does not. So is one that was given up."""
        return self.exchange.end is not None and await self._journal.is_safe(self.exchange)

    def _remember(self, copy: list[bytes], pieces: Sequence[bytes], size: int) -> None:
        exchange = self.exchange
        if self._is_over or exchange.truncated:
            return
        if exchange.size + size > self._limit:
            if len(pieces) == 1:
                exchange.truncated = True
            else:
                for piece in pieces:
                    self._remember(copy, (piece,), len(piece))
            return
        if self._journal.grow(exchange, size, pieces=len(pieces)):
            copy += pieces
            return
        self._is_over = True
        self._journal.abandon(exchange)
        exchange.request.clear()
        exchange.reply.clear()
        count_lost(self._metrics)


def count_lost(metrics: Metrics) -> None:
    """A turn is lost: count it and say so."""
    metrics.settle(TurnOutcome.LOST)
    _log.error("turn lost: there is no room for turns that wait; see /readyz for what keeps them waiting")


class Capture:
    """Opens a recorder for each chat that may be kept at all."""

    def __init__(
        self,
        journal: Journal,
        metrics: Metrics,
        *,
        limit: int,
        never_kept: Callable[[Caller], Reason | None],
        new_turn_id: Callable[[], TurnId],
        name_turn: Callable[[Caller, bytes, bytes], TurnId | None] | None = None,
    ) -> None:
        """``never_kept`` tells why nothing of a caller may be kept whatever was chosen (R2, R4, R5), or None.

        ``name_turn`` gives the turn of a known person's request by its key and the digest of its bytes; None: keys
        do not count.
        """
        self._journal = journal
        self._metrics = metrics
        self._limit = limit
        self._never_kept = never_kept
        self._new_turn_id = new_turn_id
        self._name_turn = name_turn

    def begin(
        self,
        caller: Caller,
        *,
        dialect: str,
        request_encoding: str,
        received_at: int,
        request_key: bytes = b"",
        conversation: str | None = None,
    ) -> Recorder | Reason | None:
        """Return a recorder, or the reason why nothing is kept, or None where there is no room (counted lost).

        ``request_key``: the client's ``Idempotency-Key``. It counts within a person, so of nobody it does not.
        ``conversation``: as in ``Exchange``.
        """
        self._metrics.turns_seen.inc()
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
            conversation=conversation,
        )
        if not self._journal.open(exchange):
            count_lost(self._metrics)
            return None
        name = None
        if (
            self._name_turn is not None
            and caller.subject is not None
            and 0 < len(request_key) <= _LONGEST_REQUEST_KEY
        ):
            name = partial(self._name_turn, caller, request_key)
        return Recorder(exchange, self._journal, self._metrics, limit=self._limit, name=name)
