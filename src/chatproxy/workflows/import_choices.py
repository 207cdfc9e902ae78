"""Choices that the company has on record elsewhere become choices here, once each, or nothing at all.

1. A record is known again by its id there, so an import that was cut is simply run again.
2. What is on record here stands: a choice that is not later than the last entry is refused, since a yes of before must
   not undo a no. So an import comes first, and in order of time for each person.
3. A dry run says what would become of each, by the same checks, and writes nothing.
"""

from dataclasses import dataclass, field

from chatproxy.clock import Clock
from chatproxy.consent.events import Choice, Circumstances
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.errors import ConflictError
from chatproxy.model import SubjectTag, Surface
from chatproxy.policy.instants import format_instant
from chatproxy.workflows.ledger import Ledger, is_recorded, require_latest

IMPORTED_BY = "company"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignRecord:
    """A choice as it is on record elsewhere. ``at`` in ms."""

    source_id: str = field(repr=False)
    subject: SubjectTag
    choice: Choice
    at: int
    method: str
    purposes: tuple[str, ...]
    surfaces: tuple[Surface, ...]
    circumstances: Circumstances


class ChoiceImport:
    """One import, record by record."""

    def __init__(self, ledger: Ledger, pseudonyms: Pseudonymizer, *, clock: Clock, is_dry_run: bool) -> None:
        self._ledger = ledger
        self._pseudonyms = pseudonyms
        self._clock = clock
        self._is_dry_run = is_dry_run
        self._supposed: dict[SubjectTag, int] = {}
        """In a dry run: when the last record was made that each person would have by now."""
        self._seen: set[str] = set()

    async def take(self, record: ForeignRecord) -> bool:
        """Record it; False: it was there already. Raises ConflictError, UndecryptableError, StoreUnavailableError."""
        if record.at > self._clock():
            raise ConflictError("its time is in the future; choices are recorded once they are made")
        record_id = self._pseudonyms.record_id(record.subject, record.source_id)
        if self._is_dry_run:
            return await self._suppose(record, record_id)
        return await self._ledger.adopt(
            record.subject,
            record.choice,
            record_id=record_id,
            at=record.at,
            by=IMPORTED_BY,
            method=record.method,
            purposes=record.purposes,
            surfaces=record.surfaces,
            circumstances=record.circumstances,
        )

    async def _suppose(self, record: ForeignRecord, record_id: str) -> bool:
        events = await self._ledger.history(record.subject)
        if record_id in self._seen or is_recorded(events, record_id):
            return False
        require_latest(events, record.at)
        before = self._supposed.get(record.subject)
        if before is not None and before >= record.at:
            raise ConflictError(
                f"something of {format_instant(before)} would be on record, which an older choice must not stand over"
            )
        self._seen.add(record_id)
        self._supposed[record.subject] = record.at
        return True
