"""A person makes a choice, or something happens to what is kept of them: one more event in their ledger (R8, R37).

Whatever is in the ledger bears on what is kept already, so the person is marked as due to be decided on again: before
the event is written, a moment ahead, in case this process does not live to do it after; and after it, at once.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatproxy.clock import Clock
from chatproxy.consent.copying import Step
from chatproxy.consent.events import (
    ACCOUNT,
    PURPOSES,
    SURFACES,
    Choice,
    Circumstances,
    ConsentEvent,
    FactEvent,
    FactKind,
    LedgerEvent,
    Scope,
    read_ledger,
    write_choice,
    write_fact,
)
from chatproxy.crypto.annotation import AnnotationKeys
from chatproxy.errors import ConflictError, StoreUnavailableError
from chatproxy.model import ConversationTag, SubjectTag, Surface
from chatproxy.policy.instants import format_instant
from chatproxy.policy.periods import Period
from chatproxy.ports import TranscriptStore

LEDGER_OUTLIVES_MS = 3 * 366 * 86_400_000
"""Events outlive the data by three years (R38)."""
_MOST_TRIES = 5
_MOST_STEPS = 1000
"""More than any answer of a consent service needs."""
_AHEAD_MS = 10_000
"""Longer than an append takes, or is given up."""


class Ledger:
    """Reads and appends to the ledgers of people."""

    def __init__(
        self,
        store: TranscriptStore,
        annotation_keys: AnnotationKeys,
        *,
        training: Period,
        new_record_id: Callable[[], str],
        clock: Clock,
        noted: Callable[[SubjectTag, LedgerEvent], Awaitable[None]] | None = None,
    ) -> None:
        """``training``: the longest that a yes keeps a turn, which its evidence must outlive (R38).

        ``noted``: is told of each event just before it is appended.
        """
        self._noted = noted
        self._store = store
        self._keys = annotation_keys
        self._training = training
        self._new_record_id = new_record_id
        self._clock = clock

    async def history(self, subject: SubjectTag) -> tuple[LedgerEvent, ...]:
        """Return every event, oldest first. Raises UndecryptableError, StoreUnavailableError."""
        state = await self._store.subject_state(subject)
        return read_ledger(state.ledger, subject=subject, keys=self._keys)

    async def record(
        self,
        subject: SubjectTag,
        choice: Choice,
        *,
        at: int,
        by: str,
        method: str,
        purposes: Sequence[str] = PURPOSES,
        surfaces: Sequence[Surface] = SURFACES,
        conversation: ConversationTag | None = None,
        circumstances: Circumstances | None = None,
    ) -> ConsentEvent:
        """Append a choice made at *at* (ms), about the account or one *conversation*.

        Raises UndecryptableError, StoreUnavailableError. No event is older than the one before it: with clocks apart,
        a later choice still is the later one.
        """

        def write(at: int, previous: bytes | None) -> bytes:
            return write_choice(
                subject=subject,
                choice=choice,
                at=at,
                by=by,
                method=method,
                purposes=purposes,
                surfaces=surfaces,
                record_id=self._new_record_id(),
                previous=previous,
                keys=self._keys,
                conversation=conversation,
                circumstances=circumstances,
            )

        event = await self._append(subject, write, at=at)
        assert isinstance(event, ConsentEvent)  # noqa: S101 - what was written is read back
        return event

    async def adopt(
        self,
        subject: SubjectTag,
        choice: Choice,
        *,
        record_id: str,
        at: int,
        by: str,
        method: str,
        purposes: Sequence[str],
        surfaces: Sequence[Surface],
        circumstances: Circumstances,
    ) -> bool:
        """Append a choice about the account that was made and recorded elsewhere, at *at* (ms), under its own id.

        False: that record is there already. Raises ConflictError where something later is on record, since a choice
        of before must not stand over it; UndecryptableError, StoreUnavailableError.
        """

        def write(_: int, previous: bytes | None) -> bytes:
            return write_choice(
                subject=subject,
                choice=choice,
                at=at,
                by=by,
                method=method,
                purposes=purposes,
                surfaces=surfaces,
                record_id=record_id,
                previous=previous,
                keys=self._keys,
                circumstances=circumstances,
            )

        def plan(events: Sequence[LedgerEvent]) -> _Planned | None:
            if is_recorded(events, record_id):
                return None
            require_latest(events, at)
            return _Planned(write, at)

        return await self._grow(subject, plan) is not None

    async def note(
        self,
        subject: SubjectTag,
        kind: FactKind,
        *,
        at: int,
        by: str,
        method: str,
        scope: Scope = ACCOUNT,
        details: Mapping[str, Any] | None = None,
    ) -> FactEvent:
        """Append what happened at *at* (ms); ``details`` as ``FactKind`` says.

        Raises UndecryptableError, StoreUnavailableError.
        """

        def write(at: int, previous: bytes | None) -> bytes:
            return write_fact(
                subject=subject,
                kind=kind,
                at=at,
                by=by,
                method=method,
                scope=scope,
                details=details or {},
                record_id=self._new_record_id(),
                previous=previous,
                keys=self._keys,
            )

        event = await self._append(subject, write, at=at)
        assert isinstance(event, FactEvent)  # noqa: S101 - what was written is read back
        return event

    async def follow(
        self, subject: SubjectTag, next_step: Callable[[Sequence[LedgerEvent]], Step | None], *, by: str
    ) -> int:
        """Append what *next_step* says of the ledger as it is then, until it says nothing; return how much that was.

        Raises UndecryptableError, StoreUnavailableError; what was appended before stays.
        """
        for appended in range(_MOST_STEPS):
            if (
                await self._grow(subject, lambda events: self._planned(subject, next_step(events), by=by))
                is None
            ):
                return appended
        raise StoreUnavailableError("the ledger of this person keeps changing; try again")

    def _planned(self, subject: SubjectTag, step: Step | None, *, by: str) -> "_Planned | None":
        if step is None:
            return None
        what = step.what

        def write(at: int, previous: bytes | None) -> bytes:
            if isinstance(what, FactKind):
                return write_fact(
                    subject=subject,
                    kind=what,
                    at=at,
                    by=by,
                    method=by,
                    scope=ACCOUNT,
                    details={},
                    record_id=self._new_record_id(),
                    previous=previous,
                    keys=self._keys,
                )
            return write_choice(
                subject=subject,
                choice=what,
                at=at,
                by=by,
                method=by,
                purposes=step.purposes,
                surfaces=step.surfaces,
                record_id=self._new_record_id(),
                previous=previous,
                keys=self._keys,
                circumstances=step.circumstances,
            )

        return _Planned(write, step.at, is_placed=True, bears_on_kept=what is not FactKind.CHOICES_UNREAD)

    async def _append(
        self, subject: SubjectTag, write: Callable[[int, bytes | None], bytes], *, at: int
    ) -> LedgerEvent:
        event = await self._grow(subject, lambda _: _Planned(write, at))
        assert event is not None  # noqa: S101 - something was planned
        return event

    async def _grow(
        self, subject: SubjectTag, plan: Callable[[Sequence[LedgerEvent]], "_Planned | None"]
    ) -> LedgerEvent | None:
        """Append what *plan* says of the ledger as it is; None: it says nothing."""
        for _ in range(_MOST_TRIES):
            ledger = (await self._store.subject_state(subject)).ledger
            events = read_ledger(ledger, subject=subject, keys=self._keys)
            planned = plan(events)
            if planned is None:
                return None
            at = planned.at
            if not planned.is_placed:
                at = max([at, *(event.at + 1 for event in events)])
            written = planned.write(at, ledger[-1] if ledger else None)
            [*_, event] = read_ledger((*ledger, written), subject=subject, keys=self._keys)
            if planned.bears_on_kept:
                await self._store.mark_due(subject, self._clock() + _AHEAD_MS)
            kept_until = self._training.after(max(at, self._clock())) + LEDGER_OUTLIVES_MS
            if self._noted is not None:
                await self._noted(subject, event)
            if await self._store.append_event(
                subject, written, expected_length=len(ledger), expires_at=kept_until
            ):
                if planned.bears_on_kept:
                    await self._store.mark_due(subject, self._clock())
                return event
        raise StoreUnavailableError("the ledger of this person keeps changing; try again")


@dataclass(frozen=True, slots=True)
class _Planned:
    """An event that is to be appended, once it is known after which."""

    write: Callable[[int, bytes | None], bytes]
    at: int
    is_placed: bool = False
    """If not, it is moved behind every event that is there."""
    bears_on_kept: bool = True
    """Whether what is kept is to be decided again."""


def is_recorded(events: Sequence[LedgerEvent], record_id: str) -> bool:
    """Whether a choice of that id is among *events*."""
    return any(
        isinstance(event, ConsentEvent) and event.record.get("record_id") == record_id for event in events
    )


def require_latest(events: Sequence[LedgerEvent], at: int) -> None:
    """Raise ConflictError if anything was recorded at or after *at* (ms)."""
    latest = max((event.at for event in events), default=None)
    if latest is not None and latest >= at:
        raise ConflictError(
            f"something of {format_instant(latest)} is on record, which an older choice must not stand over"
        )
