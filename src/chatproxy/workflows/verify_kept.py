"""Is what is kept as it was kept? Every row is looked at, and what contradicts itself, the ledger or the audit log, told.

1. By itself: the annotation is authentic; record, annotation and the store's expiry name the same end; the record opens;
   none is without the other; no key is without an expiry.
2. By the ledger: a decision is made of the ledger and the facts of the turn, and making it again changes nothing. So an
   annotation that was put back to an earlier, authentic one permits or keeps what the ledger does not any more. No
   reader is misled by it, since each decides again; here it is told.
3. By the audit log: what tightened a ledger, who was erased, and which annotations have changed, is written there too,
   outside the store. A ledger that was cut short, a person who was brought back with an old copy of the store, or an
   earlier annotation that was put back, contradicts it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from chatproxy.clock import Clock
from chatproxy.consent.events import read_ledger
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.annotation import AnnotationKeys
from chatproxy.crypto.record import open_record, parse_header
from chatproxy.errors import UndecryptableError
from chatproxy.model import SubjectTag, TurnId
from chatproxy.policy.versions import PolicyVersion
from chatproxy.ports import FoundKey, ReapStore, StoredTurn, SubjectState, TranscriptStore
from chatproxy.workflows.annotate import GroupNote, TurnFacts
from chatproxy.workflows.annotation_log import LastChange, Turn
from chatproxy.workflows.keys import RecordKeys
from chatproxy.workflows.policies import Policies
from chatproxy.workflows.tombstones import Tombstone, is_of
from chatproxy.workflows.verdict import Kept

_TOLERANCE_MS = 1000
_RECENT_MS = 60_000
"""What has happened since is not held against anybody: it may be under way."""
_MOST_OWNERS = 10_000
_NO_EXPIRY = -1


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it was kept. ``reason``: a code of docs/erasure.md."""

    reason: str
    subject: SubjectTag
    turn: TurnId | None = None


@dataclass(slots=True)
class Looked:
    """What was looked at."""

    turns: int = 0
    records: int = 0
    opened: int = 0
    keys: int = 0
    tombstones: int = 0


@dataclass(frozen=True, slots=True)
class _Owner:
    state: SubjectState = field(repr=False)
    facts: PersonFacts | None


class KeptVerifier:
    """Looks at everything that is kept, and changes nothing."""

    def __init__(
        self,
        store: TranscriptStore,
        reaping: ReapStore,
        keys: RecordKeys,
        annotation_keys: AnnotationKeys,
        policies: Policies,
        *,
        clock: Clock,
        versions: Sequence[PolicyVersion] = (),
    ) -> None:
        self._store = store
        self._reaping = reaping
        self._keys = keys
        self._annotation_keys = annotation_keys
        self._policies = policies
        self._clock = clock
        self._versions = tuple(versions)
        self._owners: dict[SubjectTag, _Owner] = {}
        self.looked = Looked()

    async def faults(
        self, stones: Sequence[Tombstone], changes: Mapping[Turn, LastChange], *, opens: bool
    ) -> AsyncIterator[Fault]:
        """Yield what is not as it was kept. Raises StoreUnavailableError.

        *stones*, *changes*: what the audit log has, read before; ``opens``: whether each record is opened too.
        """
        async for stored in self._store.annotations():
            self.looked.turns += 1
            last = changes.get((stored.subject, stored.turn))
            async for of_turn in self._of_turn(stored, last, opens=opens):
                yield of_turn
        async for found in self._reaping.walk():
            for key in found:
                self.looked.keys += 1
                if (fault := await self._of_key(key)) is not None:
                    yield fault
        for stone in stones:
            self.looked.tombstones += 1
            if (fault := await self._of_stone(stone)) is not None:
                yield fault

    async def _of_turn(
        self, stored: StoredTurn, last: LastChange | None, *, opens: bool
    ) -> AsyncIterator[Fault]:
        try:
            kept = Kept.of(stored, self._annotation_keys)
        except UndecryptableError as error:
            yield Fault(error.reason, stored.subject, stored.turn)
            return
        annotation, facts, note = kept.annotation, kept.facts, kept.note
        if abs(stored.ttl_expires_at - annotation.expires_at) > _TOLERANCE_MS:
            yield Fault("annotation_ttl", stored.subject, stored.turn)
        if last is not None and last.is_after(kept):
            yield Fault("annotation_put_back", stored.subject, stored.turn)
        owner = await self._owner(stored.subject)
        if owner.facts is None:
            yield Fault("ledger", stored.subject, stored.turn)
        elif not owner.state.is_fenced(facts.received_at) and await self._contradicts(kept, owner.facts):
            yield Fault("annotation_against_ledger", stored.subject, stored.turn)
        if owner.state.is_fenced(facts.received_at):
            return  # behind the fence of an erasure, on its way out
        numbers = [group.n for group in note.groups]
        blobs = await self._store.records(stored.subject, stored.turn, numbers)
        for group, blob in zip(note.groups, blobs, strict=True):
            if group.expires_at <= self._clock() + _TOLERANCE_MS:
                continue
            reason = await self._of_record(stored, facts, group, blob, owner.state, opens=opens)
            if reason is not None:
                yield Fault(reason, stored.subject, stored.turn)

    async def _contradicts(self, kept: Kept, person: PersonFacts) -> bool:
        """Whether the note permits or keeps what deciding again does not, though there was time to."""
        now = self._clock()
        if person.events and person.events[-1].at > now - _RECENT_MS:
            return False
        try:
            policy = await self._policies.get(kept.note.policy)
        except UndecryptableError:
            return True
        for group in kept.note.groups:
            decision = policy.decide_part(kept.as_noted, part=group.part, now=now, person=person)
            live = {str(ground): end for ground, end in decision.grounds.items()}
            eligible = group.eligible
            if any(end > max(now, live.get(name, 0)) + _TOLERANCE_MS for name, end in group.grounds.items()):
                return True
            if (
                eligible.capability
                and not decision.eligible_capability
                and group.grounds.get("TRAIN", 0) > now
            ):
                return True
            if not decision.stored and group.expires_at > now + _TOLERANCE_MS:
                return True
        return False

    async def _of_record(
        self,
        stored: StoredTurn,
        facts: TurnFacts,
        group: GroupNote,
        blob: bytes | None,
        state: SubjectState,
        *,
        opens: bool,
    ) -> str | None:
        """Return what is wrong with a record, or None."""
        if blob is None:
            return "record_missing"
        self.looked.records += 1
        try:
            header = parse_header(blob)
            if header.turn != stored.turn or header.expires_at != group.expires_at:
                return "record_of_another_turn"
            if opens:
                open_record(
                    blob,
                    subject_key=self._keys.unwrap_subject_key(stored.subject, state, header.generation),
                    epoch_key=await self._keys.existing_epoch_key(header.epoch),
                    subject=stored.subject,
                    metadata=facts.record_metadata(group.n),
                )
                self.looked.opened += 1
        except UndecryptableError as error:
            return error.reason
        return None

    async def _of_key(self, key: FoundKey) -> Fault | None:
        turn = key.turn
        if key.ttl_expires_at == _NO_EXPIRY:
            return Fault(f"no_expiry_{key.kind}", key.subject, turn)
        if key.kind != "r" or turn is None:
            return None
        if key.promised is None or abs(key.ttl_expires_at - key.promised) > _TOLERANCE_MS:
            return Fault("record_ttl", key.subject, turn)
        if await self._store.turn(key.subject, turn) is None:
            return Fault("record_without_annotation", key.subject, turn)
        return None

    async def _of_stone(self, stone: Tombstone) -> Fault | None:
        """Compare with the audit log, which lies outside the store."""
        state = await self._store.subject_state(stone.subject)
        if stone.at > self._clock() - _RECENT_MS or (state.erased_at or 0) >= stone.at:
            return None
        if stone.kind == "erased":
            # A fence has gone with all else, or what was before it has come back.
            return Fault("erasure_undone", stone.subject) if await self._has_older(stone) else None
        if not state.ledger and state.generation is None:
            return None
        owner = await self._owner(stone.subject)
        if owner.facts is None or not any(is_of(event, stone) for event in owner.facts.events):
            return Fault("ledger_cut", stone.subject, stone.scope.turn)
        return None

    async def _has_older(self, stone: Tombstone) -> bool:
        async for stored in self._store.annotations(stone.subject):
            try:
                kept = Kept.of(stored, self._annotation_keys)
            except UndecryptableError:
                continue
            if kept.facts.received_at <= stone.at:
                return True
        return False

    async def _owner(self, subject: SubjectTag) -> _Owner:
        if subject not in self._owners:
            if len(self._owners) >= _MOST_OWNERS:
                self._owners.clear()
            state = await self._store.subject_state(subject)
            try:
                events = read_ledger(state.ledger, subject=subject, keys=self._annotation_keys)
                facts = PersonFacts(events, self._versions)
            except UndecryptableError:
                facts = None
            self._owners[subject] = _Owner(state, facts)
        return self._owners[subject]
