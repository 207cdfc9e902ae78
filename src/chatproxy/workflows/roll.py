"""How does an old key of a person die, while what is still to be kept under it goes on? Their key is rolled (R40).

1. A key of the next generation takes the place of the old one. From then on everything new is sealed under it, and the
   old one only opens.
2. Each record under an older key is opened and sealed anew: the same content, grounds and expiry, under the present key
   of its expiry day. A record is replaced in one step, and only if its annotation is the one that was seen.
3. When none is left, the old keys are destroyed, and their generations never come again.

The same moves records off keys of days that have leaked (``chatproxy.workflows.replace_keys``).

Whoever is interrupted begins with what is left. A turn that is put meanwhile under the key before is refused by the
store, and sealed again (``chatproxy.workflows.archive``): a roll costs no turn.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from chatproxy.clock import Clock
from chatproxy.crypto.annotation import AnnotationKeys, verify
from chatproxy.crypto.keys import DataKey
from chatproxy.crypto.record import RecordHeader, epoch_day, open_record, parse_header, seal_record
from chatproxy.errors import StoreUnavailableError, UndecryptableError
from chatproxy.model import SubjectTag
from chatproxy.ports import (
    Chore,
    Due,
    ErasureStore,
    NewKey,
    RedecideStatus,
    ResealedTurn,
    SealedGroup,
    StoredTurn,
    SubjectState,
    TranscriptStore,
)
from chatproxy.tasks import aside
from chatproxy.telemetry import Log
from chatproxy.workflows.annotate import TurnFacts, TurnNote, read
from chatproxy.workflows.batches import in_batches
from chatproxy.workflows.keys import EpochKey, RecordKeys

_log = Log("roll")
DAY_MS = 86_400_000
_BATCH = 50
_MOST_PASSES = 5
_CLAIM_MS = 60_000
_LATER_MS = 60_000
_SOON_MS = 60_000
_NEWER = frozenset({"unknown_kek_version", "unknown_annotation_key_version"})
"""Not damage: another node knows a key that this one does not."""

Wanted = Callable[[StoredTurn, TurnFacts], bool]


async def _at_once(_: int) -> None:
    """Do not wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakedKeys:
    """Which keys are to be replaced."""

    made_before: int | None = None
    """A key of a person that was made before this instant (ms of the store's clock); None: none of them."""
    is_leaked_epoch: Callable[[int], bool] = lambda _: False
    """Whether an epoch key is one of them, by its number."""


NO_KEYS = LeakedKeys()


class BusyPersonError(StoreUnavailableError):
    """Others change what is kept of a person, or their key: try again later."""


@dataclass(slots=True)
class Rolled:
    """What a roll has done."""

    records: int = 0
    lost: int = 0
    """Turns of which nothing can be opened as it is: damaged, so that nothing is lost with their key."""
    generations: tuple[int, ...] = ()
    """Those that were destroyed."""


@dataclass(slots=True)
class _Keys:
    """The keys of one person's records, each unwrapped once."""

    keys: RecordKeys
    subject: SubjectTag
    state: SubjectState
    _subject_keys: dict[int, DataKey] = field(default_factory=dict, repr=False)
    _epoch_keys: dict[int, DataKey] = field(default_factory=dict, repr=False)

    def of_subject(self, generation: int) -> DataKey:
        if generation not in self._subject_keys:
            self._subject_keys[generation] = self.keys.unwrap_subject_key(
                self.subject, self.state, generation
            )
        return self._subject_keys[generation]

    async def of_epoch(self, epoch: int) -> DataKey:
        if epoch not in self._epoch_keys:
            self._epoch_keys[epoch] = await self.keys.existing_epoch_key(epoch)
        return self._epoch_keys[epoch]


class Roller:
    """Rolls the keys of people."""

    def __init__(
        self,
        store: TranscriptStore,
        erasure: ErasureStore,
        keys: RecordKeys,
        annotation_keys: AnnotationKeys,
        *,
        clock: Clock,
    ) -> None:
        self._store = store
        self._erasure = erasure
        self._keys = keys
        self._annotation_keys = annotation_keys
        self._clock = clock

    async def mark(self, subject: SubjectTag) -> None:
        """Have a person's key rolled soon: in a minute, so that what happens together is one roll.

        Raises StoreUnavailableError.
        """
        await self._erasure.mark_chore(Chore.ROLL, subject, self._clock() + _SOON_MS)

    async def take_up(self) -> bool:
        """Roll the keys of one person who is due, at most once a day each; False if there was none.

        Raises StoreUnavailableError.
        """
        now = self._clock()
        for due in await self._erasure.claim_chores(Chore.ROLL, now=now, until=now + _CLAIM_MS, most=1):
            await self._take_up(due, now)
            return True
        return False

    async def _take_up(self, due: Due, now: int) -> None:
        rolled_at = await self._erasure.rolled_at(due.subject)
        if rolled_at is not None and now < rolled_at + DAY_MS:
            await self._erasure.put_off_chore(Chore.ROLL, due, until=rolled_at + DAY_MS)
            return
        try:
            await self.roll(due.subject)
        except UndecryptableError as error:
            _log.error("a key cannot be rolled; it is tried again", reason=error.reason)
            await self._erasure.put_off_chore(Chore.ROLL, due, until=now + _LATER_MS)
        else:
            await self._erasure.settle_chore(Chore.ROLL, due)

    async def roll(self, subject: SubjectTag) -> Rolled:
        """Roll a person's key now. Raises StoreUnavailableError, UndecryptableError where another node knows better."""
        state = await self._store.subject_state(subject)
        is_begun = any(older < (state.generation or 0) for older in state.wraps)
        return await self._roll(subject, state, NO_KEYS, renew=not is_begun, pace=_at_once)

    async def replace(
        self, subject: SubjectTag, leaked: LeakedKeys, *, pace: Callable[[int], Awaitable[None]] = _at_once
    ) -> Rolled:
        """Seal anew what lies under *leaked* keys, and destroy the person's own among them.

        ``pace`` is awaited with the number of records after some of them. Doing it again changes nothing. Raises
        StoreUnavailableError, UndecryptableError where another node knows better.
        """
        state = await self._store.subject_state(subject)
        is_begun = any(older < (state.generation or 0) for older in state.wraps)
        if leaked.made_before is None:
            return await self._roll(subject, state, leaked, renew=False, pace=pace)
        is_old = (state.generation_at or 0) < leaked.made_before
        if not is_old and not is_begun:
            # What is under a key that was made since, was sealed since.
            return Rolled()
        return await self._roll(subject, state, leaked, renew=is_old, pace=pace)

    async def _roll(
        self,
        subject: SubjectTag,
        state: SubjectState,
        leaked: LeakedKeys,
        *,
        renew: bool,
        pace: Callable[[int], Awaitable[None]],
    ) -> Rolled:
        generation = state.generation
        if generation is None:
            return Rolled()
        if state.is_erasing:
            # What must go lies under older keys, and must not come under one that stays.
            raise BusyPersonError("this person is being erased; try again")
        if renew:
            renewed = await self.renew(subject, state, erasing=False)
            if renewed is None:
                raise BusyPersonError("the key of this person has just changed; try again")
            generation = renewed
        rolled = await self.move(
            subject, generation, wanted=lambda _turn, _facts: True, leaked=leaked, pace=pace
        )
        if renew or any(older < generation for older in state.wraps):
            rolled.generations = await self._erasure.retire_keys(subject, stays=generation)
        return rolled

    async def renew(self, subject: SubjectTag, state: SubjectState, *, erasing: bool) -> int | None:
        """Give a person a new key; return its generation, None if they have another one by now."""
        if state.generation is None:
            return None
        new = state.generation + 1
        with self._keys.wrapping():
            _, wrap = self._keys.new_subject_key(subject, generation=new)
            is_done = await self._erasure.renew_key(
                subject, before=state.generation, key=NewKey(new, wrap), at=self._clock(), erasing=erasing
            )
        return new if is_done else None

    async def move(
        self,
        subject: SubjectTag,
        generation: int,
        *,
        wanted: Wanted,
        leaked: LeakedKeys = NO_KEYS,
        pace: Callable[[int], Awaitable[None]] = _at_once,
    ) -> Rolled:
        """Seal anew, under *generation* and keys of days that have not leaked, each *wanted* turn that is not yet.

        Raises StoreUnavailableError, UndecryptableError where another node knows better.
        """
        rolled = Rolled()
        for _ in range(_MOST_PASSES):
            rolled.lost = 0
            is_whole = True
            async for batch in in_batches(self._store.annotations(subject), _BATCH):
                seen = rolled.records
                # Until it is in the store: as long, nobody takes the present series of epoch keys away.
                with self._keys.wrapping():
                    is_whole &= await self._move_batch(subject, generation, batch, wanted, leaked, rolled)
                await pace(rolled.records - seen)
            # Nothing has come under an older key since the walk began: the store refuses that from the renewal on.
            if is_whole:
                if rolled.lost:
                    _log.error("turns could not be sealed anew: they are damaged", turns=rolled.lost)
                return rolled
        raise BusyPersonError("what is kept of this person keeps changing; try again")

    async def _move_batch(
        self,
        subject: SubjectTag,
        generation: int,
        batch: Sequence[StoredTurn],
        wanted: Wanted,
        leaked: LeakedKeys,
        rolled: Rolled,
    ) -> bool:
        """Seal a batch anew; False where something has changed meanwhile, so that it is to be looked at again."""
        keys = _Keys(self._keys, subject, await self._store.subject_state(subject))
        turns = []
        for stored in batch:
            try:
                facts, note = self._verified(stored)
            except UndecryptableError as error:
                if error.reason in _NEWER:
                    raise
                rolled.lost += 1
                continue
            if wanted(stored, facts):
                turns.append((stored, facts, [group.n for group in note.groups]))
        named = [(stored.turn, number) for stored, _, numbers in turns for number in numbers]
        blobs = iter(await self._store.records_of_turns(subject, named))
        resealed = []
        for stored, facts, numbers in turns:
            records = [(number, next(blobs)) for number in numbers]
            try:
                groups = await self._groups(subject, facts, records, keys, generation, leaked)
            except UndecryptableError as error:
                if error.reason in _NEWER:
                    raise
                rolled.lost += 1
                continue
            if groups:
                mac = stored.annotation[b"mac"]
                resealed.append(ResealedTurn(subject, stored.turn, mac, generation, tuple(groups)))
        statuses = await self._erasure.reseal(resealed) if resealed else []
        rolled.records += sum(
            len(turn.groups)
            for turn, status in zip(resealed, statuses, strict=True)
            if status is RedecideStatus.CHANGED
        )
        return all(status in {RedecideStatus.CHANGED, RedecideStatus.GONE} for status in statuses)

    def _verified(self, stored: StoredTurn) -> tuple[TurnFacts, TurnNote]:
        annotation = verify(
            stored.annotation, keys=self._annotation_keys, subject=stored.subject, turn=stored.turn
        )
        return read(annotation)

    async def _groups(
        self,
        subject: SubjectTag,
        facts: TurnFacts,
        records: Sequence[tuple[int, bytes | None]],
        keys: _Keys,
        generation: int,
        leaked: LeakedKeys,
    ) -> list[SealedGroup]:
        """Return the groups of a turn that lie under another key, sealed anew. Raises UndecryptableError."""
        found = []
        for number, blob in records:
            if blob is None:
                continue
            header = parse_header(blob)
            if header.generation == generation and not leaked.is_leaked_epoch(header.epoch):
                continue
            work = partial(
                _under_another_key,
                blob,
                header,
                generation=generation,
                subject=subject,
                metadata=facts.record_metadata(number),
                old_key=keys.of_subject(header.generation),
                new_key=keys.of_subject(generation),
                old_epoch_key=await keys.of_epoch(header.epoch),
                new_epoch_key=await self._keys.epoch_key(epoch_day(header.expires_at)),
            )
            found.append(SealedGroup(number, await aside(work, size=len(blob)), header.expires_at))
        return found


def _under_another_key(
    blob: bytes,
    header: RecordHeader,
    *,
    generation: int,
    subject: SubjectTag,
    metadata: bytes,
    old_key: DataKey,
    new_key: DataKey,
    old_epoch_key: DataKey,
    new_epoch_key: EpochKey,
) -> bytes:
    payload = open_record(
        blob, subject_key=old_key, epoch_key=old_epoch_key, subject=subject, metadata=metadata
    )
    return seal_record(
        RecordHeader(
            flags=header.flags,
            grounds=header.grounds,
            generation=generation,
            expires_at=header.expires_at,
            turn=header.turn,
            series=new_epoch_key.series,
        ),
        subject_key=new_key,
        epoch_key=new_epoch_key.key,
        subject=subject,
        metadata=metadata,
        payload=payload,
    )
