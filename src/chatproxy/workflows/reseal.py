"""How does what is kept get another expiry? Its records are opened and sealed anew, to the key of another day.

A record that cannot be opened is no reason to keep it longer than was decided: it stays as it is, to the earlier of
both ends, and is told.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from chatproxy.crypto.keys import DataKey
from chatproxy.crypto.record import RecordHeader, epoch_day, open_record, parse_header, seal_record
from chatproxy.errors import UndecryptableError
from chatproxy.model import SubjectTag, TurnId
from chatproxy.policy.engine import Decision
from chatproxy.ports import SealedGroup, SubjectState, TranscriptStore
from chatproxy.tasks import aside
from chatproxy.workflows.annotate import TurnFacts, grounds_in_record
from chatproxy.workflows.keys import EpochKey, RecordKeys

_NEWER = frozenset({"unknown_kek_version"})
"""Not damage: another node knows a key that this one does not."""


@dataclass(frozen=True, slots=True)
class Move:
    """A group of a turn that is to expire at another time, ms."""

    turn: TurnId
    facts: TurnFacts
    number: int
    expires_before: int
    expires_at: int
    decision: Decision


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of a move: the record for the store, and until when it is kept now."""

    group: SealedGroup | None
    """None: the store holds no such record."""
    expires_at: int
    fault: str | None = None


@dataclass(slots=True)
class PersonKeys:
    """The keys of one person's records, each unwrapped once. Lives as long as one pass over the person."""

    keys: RecordKeys
    subject: SubjectTag
    state: SubjectState
    _by_generation: dict[int, DataKey] = field(default_factory=dict, repr=False)
    _by_epoch: dict[int, DataKey] = field(default_factory=dict, repr=False)

    def subject_key(self, generation: int) -> DataKey:
        """Return the person's key. Raises UndecryptableError."""
        if generation not in self._by_generation:
            self._by_generation[generation] = self.keys.unwrap_subject_key(
                self.subject, self.state, generation
            )
        return self._by_generation[generation]

    async def learn(self, epochs: set[int]) -> None:
        """Read epoch keys, as far as they still exist, in one round trip."""
        unknown = sorted(epochs - self._by_epoch.keys())
        if unknown:
            self._by_epoch |= await self.keys.existing_epoch_keys(unknown)

    def epoch_key(self, epoch: int) -> DataKey:
        """Return an epoch key that was learnt. Raises UndecryptableError."""
        if epoch not in self._by_epoch:
            raise UndecryptableError("no_epoch_key")
        return self._by_epoch[epoch]


async def read_records(store: TranscriptStore, keys: PersonKeys, moves: Sequence[Move]) -> list[bytes | None]:
    """Return the records of *moves* as sealed, and learn the keys of their days, in one round trip each.

    Raises UndecryptableError, StoreUnavailableError.
    """
    blobs = await store.records_of_turns(keys.subject, [(move.turn, move.number) for move in moves])
    epochs = set()
    for blob in blobs:
        # What is no record is told by whoever opens it.
        with contextlib.suppress(UndecryptableError):
            epochs.update([] if blob is None else [parse_header(blob).epoch])
    await keys.learn(epochs)
    return blobs


async def reseal(keys: PersonKeys, move: Move, blob: bytes | None) -> Moved:
    """Seal one record anew, as *move* says; the store is not changed.

    Call it within ``RecordKeys.wrapping``. Raises UndecryptableError where another node may know better,
    StoreUnavailableError.
    """
    until = min(move.expires_at, move.expires_before)
    if blob is None:
        return Moved(None, until, "record_missing")
    new_day_key = await keys.keys.epoch_key(epoch_day(move.expires_at))
    try:
        sealed = await aside(partial(_sealed_anew, keys, move, blob, new_day_key), size=len(blob))
    except UndecryptableError as error:
        if error.reason in _NEWER:
            raise
        return Moved(SealedGroup(move.number, blob, until), until, error.reason)
    return Moved(SealedGroup(move.number, sealed, move.expires_at), move.expires_at)


def _sealed_anew(keys: PersonKeys, move: Move, blob: bytes, new_day_key: EpochKey) -> bytes:
    header = parse_header(blob)
    if header.turn != move.turn or header.expires_at != move.expires_before:
        raise UndecryptableError("record_of_another_turn")
    metadata = move.facts.record_metadata(move.number)
    payload = open_record(
        blob,
        subject_key=keys.subject_key(header.generation),
        epoch_key=keys.epoch_key(header.epoch),
        subject=keys.subject,
        metadata=metadata,
    )
    generation = keys.state.generation
    if generation is None:
        raise UndecryptableError("no_subject_key")
    return seal_record(
        RecordHeader(
            flags=header.flags,
            grounds=grounds_in_record(move.decision),
            generation=generation,
            expires_at=move.expires_at,
            turn=header.turn,
            series=new_day_key.series,
        ),
        subject_key=keys.subject_key(generation),
        epoch_key=new_day_key.key,
        subject=keys.subject,
        metadata=metadata,
        payload=payload,
    )
