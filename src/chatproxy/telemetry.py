"""What operators can see: metrics by name, and logs made of known fields. Neither can carry content.

Labels and fields take values from closed sets, numbers and pseudonymous handles; there is no place to pass text of
a person or of the upstream. Every turn that is seen meets exactly one outcome, so the outcomes add up to the turns
seen once nothing is pending.
"""

import json
import logging
import re
import select
import sys
import time
from enum import StrEnum
from typing import Any, TextIO

from prometheus_client import CollectorRegistry, Counter as _Counter, Gauge, Histogram, generate_latest


class TurnOutcome(StrEnum):
    """The one fate of a captured turn."""

    STORED = "stored"
    UNPARSED = "unparsed"
    """Could not be understood; kept sealed as raw bytes for the service period."""
    REPLAYED = "replayed"
    """Was stored already by an earlier try."""
    NOT_STORED = "not_stored"
    """The policy keeps nothing (exempt plan, ZDR, minor, incognito for no time)."""
    EXPIRED = "expired"
    """Its period was over before the store could take it."""
    ERASED = "erased"
    """Its person was erased while it was under way."""
    SET_ASIDE = "set_aside"
    """Could not be kept though the store answers; it lies in the journal, and the next start tries again. A fault."""
    LOST = "lost"
    """There was no room for it, or nothing of it could be read again. A fault."""


class Redecided(StrEnum):
    """What a later decision does to a turn that is kept."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    ERASED = "erased"
    """Nothing keeps it any more."""
    FAULTY = "faulty"
    """It is not as it was kept, so it is left as it is."""


class GateAnswer(StrEnum):
    """What became of a chat whose person may have to choose first."""

    PASSED = "passed"
    REFUSED = "refused"
    UNANSWERED = "unanswered"
    """It was not known in time whether the person has chosen, so it passed."""


class _Tally:
    """The number behind a counter. Threads change only at calls and jumps, so adding to it needs no lock."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total = 0.0

    def get(self) -> float:
        """Return the number."""
        return self.total

    def get_exemplar(self) -> None:
        """No counter of ours has exemplars."""


class Counter(_Counter):
    """A counter of at most one label that holds what it has for each value: its labels are from closed sets.

    A chat counts a dozen things; the library's own way takes five times as long.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._held: dict[str, Counter] = {}
        super().__init__(*args, **kwargs)

    def _metric_init(self) -> None:
        super()._metric_init()
        self._tally = self._value = _Tally()

    @property
    def total(self) -> float:
        """Return what was counted."""
        return self._tally.total

    def inc(self, amount: float = 1) -> None:  # type: ignore[override]
        """Add *amount*, which is not negative."""
        self._tally.total += amount

    def labels(self, value: str) -> "Counter":  # type: ignore[override]
        """Return the counter of one value of the label."""
        if value not in self._held:
            self._held[value] = super().labels(value)
        return self._held[value]


class Metrics:
    """The metrics of one process. Sizes in bytes, durations in seconds."""

    def __init__(self) -> None:  # noqa: PLR0915 - one for each
        self.registry = CollectorRegistry()
        on = self.registry
        self.requests = Counter(
            "chatproxy_requests", "Requests forwarded, by capture", ["capture"], registry=on
        )
        self.failures = Counter(
            "chatproxy_failures", "Answers made by chatproxy itself", ["code"], registry=on
        )
        self.clients = Gauge(
            "chatproxy_client_connections", "Connections that clients have open", registry=on
        )
        self.client_cuts = Counter(
            "chatproxy_client_connections_cut",
            "Connections of clients that were ended for want of time or room",
            ["reason"],
            registry=on,
        )
        self.turns_seen = Counter("chatproxy_turns_seen", "Chats accepted for capture", registry=on)
        self.turns = Counter("chatproxy_turns", "Turns that met their outcome", ["outcome"], registry=on)
        Gauge("chatproxy_turns_pending", "Turns running or waiting to be kept", registry=on).set_function(
            self._turns_pending
        )
        self.decisions = Counter("chatproxy_decisions", "Decisions by reason", ["reason"], registry=on)
        self.ends = Counter("chatproxy_stream_ends", "How captured exchanges ended", ["end"], registry=on)
        self.uncaptured = Counter(
            "chatproxy_uncaptured_chats", "Requests that look like chat and are not captured yet", registry=on
        )
        self.websockets = Counter(
            "chatproxy_websockets", "WebSocket connections opened, by capture", ["capture"], registry=on
        )
        self.websocket_faults = Counter(
            "chatproxy_websocket_faults",
            "Described WebSocket connections whose capture was given up",
            ["reason"],
            registry=on,
        )
        self.identity_rejected = Counter(
            "chatproxy_identity_rejected",
            "Requests whose identity was not believed",
            ["reason"],
            registry=on,
        )
        self.rate_limited = Counter(
            "chatproxy_rate_limited",
            "Requests to a person's API and pages, and to the admin listener, that came too often",
            ["by"],
            registry=on,
        )
        self.admin_refused = Counter(
            "chatproxy_admin_tokens_refused", "Tokens on the admin listener that are nobody's", registry=on
        )
        self.relayed_bytes = Counter(
            "chatproxy_relayed_bytes", "Body bytes passed on", ["direction"], registry=on
        )
        self.queue_bytes = Gauge("chatproxy_queue_bytes", "Memory held by copies not kept yet", registry=on)
        self.workers = Gauge("chatproxy_workers", "Processes of this node that answer", registry=on)
        self.workers.set(1)
        self.loop_blocked = Counter(
            "chatproxy_loop_blocked", "Times the event loop stood still for seconds", registry=on
        )
        self.journal_bytes = Gauge("chatproxy_journal_bytes", "Disk held by the journal", registry=on)
        self.journal_room = Gauge("chatproxy_journal_room_bytes", "What the journal may hold", registry=on)
        self.journal_waiting = Gauge(
            "chatproxy_journal_waiting",
            "Ended exchanges that are on disk only, and wait for the store",
            registry=on,
        )
        self.journal_failures = Counter(
            "chatproxy_journal_failures", "Times the journal could not be written or read", registry=on
        )
        self.journal_damaged = Counter(
            "chatproxy_journal_damaged_frames", "Frames of the journal that did not open", registry=on
        )
        self.turns_recovered = Counter(
            "chatproxy_turns_recovered", "Turns found in the journal of a process that ended", registry=on
        )
        self.history_unmatched = Counter(
            "chatproxy_history_messages_unmatched", "Resent messages that match no stored turn", registry=on
        )
        self.store_seconds = Histogram(
            "chatproxy_store_seconds",
            "Store round trips, by operation",
            ["operation"],
            buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 2, 5),
            registry=on,
        )
        self.store_failures = Counter(
            "chatproxy_store_failures", "Store calls that failed", ["operation"], registry=on
        )
        self.store_usable = Gauge(
            "chatproxy_store_usable",
            "Whether the store answers and may be written to (1) or not",
            registry=on,
        )
        self.store_keys = Gauge("chatproxy_store_keys", "Keys in the store, of others too", registry=on)
        self.store_offset = Gauge(
            "chatproxy_store_clock_offset_seconds", "How far the store's clock is ahead of ours", registry=on
        )
        self.store_used = Gauge(
            "chatproxy_store_used_ratio",
            "Which part of its memory the fullest server has filled",
            registry=on,
        )
        self.store_days_until_full = Gauge(
            "chatproxy_store_days_until_full",
            "In how many days the store is full at the pace of the last week",
            registry=on,
        )
        self.store_days_until_full.set(float("nan"))
        self.lookups = Counter(
            "chatproxy_consent_lookups", "Consent lookups at acceptance", ["result"], registry=on
        )
        self.cached_people = Gauge(
            "chatproxy_consent_cached_people", "People whose choices are in memory", registry=on
        )
        self.listening = Gauge(
            "chatproxy_consent_listening",
            "Whether changes made on other nodes are heard (1) or not",
            registry=on,
        )
        self.service_answers = Counter(
            "chatproxy_consent_service_answers",
            "Questions to the company's consent service, by result",
            ["result"],
            registry=on,
        )
        self.service_seconds = Histogram(
            "chatproxy_consent_service_seconds",
            "How long the company's consent service took, answer or failure",
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
            registry=on,
        )
        self.redecided = Counter(
            "chatproxy_redecided_turns", "Kept turns decided on again, by outcome", ["outcome"], registry=on
        )
        self.people_due = Gauge(
            "chatproxy_people_due", "People whose kept turns are to be decided on again", registry=on
        )
        self.expired_but_readable = Gauge(
            "chatproxy_expired_but_readable",
            "Records found at the last walk over the store past their promised end",
            registry=on,
        )
        self.overdue_epoch_keys = Gauge(
            "chatproxy_overdue_epoch_keys", "Keys of expiry days past their grace", registry=on
        )
        self.repaired_expiries = Counter(
            "chatproxy_repaired_expiries", "Keys that had no expiry, or one later than promised", registry=on
        )
        self.gate = Counter(
            "chatproxy_gate", "Chats whose person may have to choose first", ["answer"], registry=on
        )
        self.backups_reach = Gauge(
            "chatproxy_backups_reach_seconds",
            "How long ago what was erased may still be read from an old backup",
            registry=on,
        )
        self.rotation_overdue = Gauge(
            "chatproxy_key_rotation_overdue",
            "1 while old backups reach further back than the erasure horizon",
            registry=on,
        )
        self.recalls_open = Gauge(
            "chatproxy_recalls_open", "Items of datasets that are recalled and not acknowledged", registry=on
        )
        self.recalls_overdue = Gauge(
            "chatproxy_recalls_overdue",
            "Recalled items that were not acknowledged in time",
            registry=on,
        )
        for outcome in TurnOutcome:
            self.turns.labels(outcome)
        for redecided in Redecided:
            self.redecided.labels(redecided)

    def settle(self, outcome: TurnOutcome) -> None:
        """Count the one outcome of a turn."""
        self.turns.labels(outcome).inc()

    def _turns_pending(self) -> float:
        return self.turns_seen.total - sum(self.turns.labels(outcome).total for outcome in TurnOutcome)

    def render(self) -> bytes:
        """Return the Prometheus text exposition."""
        return generate_latest(self.registry)


_OWN = "chatproxy."
_ENDS_WORDS = re.compile(r"[^\w %./-]")


def _first_words(message: object) -> str:
    """Return the beginning of another library's message: after that it shows values, which may be content."""
    return _ENDS_WORDS.split(str(message), maxsplit=1)[0].strip()


class JSONFormatter(logging.Formatter):
    """One JSON object a line: time, level, event and known fields. Exceptions give their type and place only."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record; a traceback's values and messages are left out, since they may carry content."""
        entry: dict[str, object] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage() if record.name.startswith(_OWN) else _first_words(record.msg),
        }
        fields = record.__dict__.get("fields")
        if isinstance(fields, dict):
            entry.update(fields)
        if record.exc_info and record.exc_info[0] is not None:
            entry["exception"] = record.exc_info[0].__name__
            trace = record.exc_info[2]
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            if trace is not None:
                entry["where"] = f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}"
        return json.dumps(entry, ensure_ascii=True)


class _Unblocked(logging.StreamHandler[TextIO]):
    """Leaves lines out that would have to wait for who reads them: no chat waits for a log."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line, or count it."""
        if not self._takes_a_line():
            self._left_out += 1
            return
        if self._left_out:
            fields = {"lines": self._left_out}
            note = logging.LogRecord(
                f"{_OWN}log", logging.WARNING, "", 0, "lines left out: nobody read them", (), None
            )
            note.fields = fields
            self._left_out = 0
            super().emit(note)
        super().emit(record)

    def _takes_a_line(self) -> bool:
        """Whether a line can be written at once. A pipe that says so has room for 4096 bytes."""
        try:
            poll = select.poll()
            poll.register(self.stream.fileno(), select.POLLOUT)
            return any(events & (select.POLLOUT | select.POLLERR) for _, events in poll.poll(0))
        except (OSError, ValueError, AttributeError):
            # Not a file of the system: nothing there can block. Or a system without poll.
            return True


def configure_logging(level: str) -> None:
    """Log JSON lines to standard error; libraries that would log requests are held at warning."""
    handler = _Unblocked(sys.stderr)
    handler.setFormatter(JSONFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in ("httpx", "httpcore", "redis", "asyncio"):
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))


class Log:
    """Events with known fields, by component."""

    def __init__(self, component: str) -> None:
        self._logger = logging.getLogger(f"chatproxy.{component}")

    def debug(self, event: str, **fields: str | float | bool | None) -> None:
        """Log what only a developer needs."""
        self._logger.debug(event, extra={"fields": fields})

    def info(self, event: str, **fields: str | float | bool | None) -> None:
        """Log what an operator may want to know."""
        self._logger.info(event, extra={"fields": fields})

    def warning(self, event: str, **fields: str | float | bool | None) -> None:
        """Log what an operator should look at."""
        self._logger.warning(event, extra={"fields": fields})

    def error(
        self, event: str, *, failure: BaseException | None = None, **fields: str | float | bool | None
    ) -> None:
        """Log what an operator must act on; of *failure* only type and place are shown."""
        info = (type(failure), failure, failure.__traceback__) if failure is not None else None
        self._logger.error(event, exc_info=info, extra={"fields": fields})
