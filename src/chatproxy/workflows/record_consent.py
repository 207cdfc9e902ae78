"""A person makes a choice: one more event in their ledger (R8, R37)."""

from collections.abc import Callable, Sequence

from chatproxy.consent.events import PURPOSES, Choice, ConsentEvent, read_ledger, write_event
from chatproxy.crypto.annotation import AnnotationKeys
from chatproxy.errors import StoreUnavailableError
from chatproxy.model import SubjectTag, Surface
from chatproxy.policy.periods import Period
from chatproxy.ports import TranscriptStore
from chatproxy.workflows.seal import LEDGER_OUTLIVES_MS

_MOST_TRIES = 5


class ConsentLedger:
    """Reads and appends to the ledgers of people."""

    def __init__(
        self,
        store: TranscriptStore,
        annotation_keys: AnnotationKeys,
        *,
        training: Period,
        new_record_id: Callable[[], str],
    ) -> None:
        """``training``: the longest that a yes keeps a turn, which its evidence must outlive (R38)."""
        self._store = store
        self._keys = annotation_keys
        self._training = training
        self._new_record_id = new_record_id

    async def history(self, subject: SubjectTag) -> tuple[ConsentEvent, ...]:
        """Return every choice, oldest first. Raises UndecryptableError, StoreUnavailableError."""
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
        surfaces: Sequence[Surface] = (Surface.CHAT, Surface.CODE),
    ) -> ConsentEvent:
        """Append a choice made at *at* (ms). Raises UndecryptableError, StoreUnavailableError.

        No event is older than the one before it: with clocks apart, a later choice still is the later one.
        """
        for _ in range(_MOST_TRIES):
            ledger = (await self._store.subject_state(subject)).ledger
            events = read_ledger(ledger, subject=subject, keys=self._keys)
            at = max([at, *(event.at + 1 for event in events[-1:])])
            written = write_event(
                subject=subject,
                choice=choice,
                at=at,
                by=by,
                method=method,
                purposes=purposes,
                surfaces=surfaces,
                record_id=self._new_record_id(),
                previous=ledger[-1] if ledger else None,
                keys=self._keys,
            )
            kept_until = self._training.after(at) + LEDGER_OUTLIVES_MS
            if await self._store.append_consent(
                subject, written, expected_length=len(ledger), expires_at=kept_until
            ):
                return read_ledger((*ledger, written), subject=subject, keys=self._keys)[-1]
        raise StoreUnavailableError("the consent ledger of this person keeps changing; try again")
