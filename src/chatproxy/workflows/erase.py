"""A person is erased: from one instant on nothing of them opens or is written, on any node; what is left then goes.

1. What there is, is read; the audit log says what is about to happen; a mark says that it has begun, so that any node
   finishes it.
2. In one step in the store the keys and the ledger are destroyed and the fence is set (``ErasureStore.erase``). This is
   the erasure: what is under way is refused by the fence, what lies in the store is noise, every node forgets.
3. What a legal hold covers is not erased (R24). It is sealed anew under a key of its own before the others are
   destroyed. From the first moment the fence stands, and whatever is behind it is read for no purpose.
4. What went into datasets is recalled as soon as the fence stands, before anything else is removed: from then on nothing
   more of it can be delivered.
5. The rest is removed in the background, by the generation of the key that it lies under: a person who comes back
   meanwhile begins anew, and nothing of that is touched.
6. The store writes down what is destroyed and removed in the steps that do it, so the certificate is made by whoever
   finishes, also after the first was stopped. It lies in the store until it is handed over.
"""

import asyncio
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from chatproxy.clock import Clock
from chatproxy.consent.events import ACCOUNT, FactKind, read_ledger, write_fact
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.annotation import AnnotationKeys
from chatproxy.crypto.record import open_record, parse_header
from chatproxy.errors import StoreUnavailableError, UndecryptableError
from chatproxy.model import ConversationTag, SubjectTag
from chatproxy.policy.periods import Period
from chatproxy.ports import (
    AuditLog,
    Chore,
    Doomed,
    Due,
    Erased,
    EraseRefusal,
    ErasureStore,
    Removed,
    StoredTurn,
    SubjectState,
    TranscriptStore,
)
from chatproxy.telemetry import Log
from chatproxy.workflows.annotate import TurnFacts
from chatproxy.workflows.keys import RecordKeys
from chatproxy.workflows.ledger import LEDGER_OUTLIVES_MS
from chatproxy.workflows.roll import Roller
from chatproxy.workflows.verdict import Kept

_log = Log("erase")
_MOST_TRIES = 10
_BATCH = 100
_CLAIM_MS = 60_000
_RENEW_MS = 15_000
_LATER_MS = 60_000
ERASE_ACTION = "subject.erase"
"""What the audit log calls it, before it happens."""
_SAMPLE = 8
"""Records that are tried to be opened after their key is gone."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of the attempts to open what had been kept."""

    tried: int
    opened: int
    codes: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What an erasure has done. No content and no id of the company's."""

    subject: SubjectTag
    erased: Erased
    kek_versions: tuple[int, ...]
    """Under which the destroyed keys lay wrapped."""
    removed: Removed
    completed_at: int
    held_turns: int
    held_until: int | None
    """When the last of the legal holds is to be reviewed; None: there is none."""
    proof: Proof


@dataclass(frozen=True, slots=True)
class _Sample:
    """A record as it lay in the store before."""

    blob: bytes = field(repr=False)
    metadata: bytes = field(repr=False)
    day: int


class Eraser:
    """Erases people."""

    def __init__(
        self,
        store: TranscriptStore,
        erasure: ErasureStore,
        keys: RecordKeys,
        annotation_keys: AnnotationKeys,
        *,
        audit: AuditLog,
        clock: Clock,
        training: Period,
        rewrites_log: bool,
        certify: Callable[["Erasure"], Awaitable[bytes]],
        recall: Callable[[SubjectTag], Awaitable[None]],
    ) -> None:
        """``training``: the longest that a yes keeps a turn; ``rewrites_log``: whether the store is ours alone.

        ``certify``: makes the signed certificate of an erasure that the audit log has. ``recall``: recalls from datasets
        what was received before the fence, and forgets whose it was.
        """
        self._certify = certify
        self._store = store
        self._erasure = erasure
        self._keys = keys
        self._annotation_keys = annotation_keys
        self._audit = audit
        self._clock = clock
        self._training = training
        self._rewrites_log = rewrites_log
        self._recall = recall
        self._roller = Roller(store, erasure, keys, annotation_keys, clock=clock)

    async def erase(self, subject: SubjectTag, *, by: str) -> Erasure | None:
        """Erase a person to the end, or end what was begun; None: nothing is held of such a person.

        Raises StoreUnavailableError, AuditUnavailableError, and UndecryptableError where the ledger is not authentic,
        since then nobody can tell whether a legal hold stands.
        """
        before = await self._store.subject_state(subject)
        sample = await self._sample(subject, before)
        if not (sample or before.wraps or before.ledger or before.erased_at or await self._any_turn(subject)):
            return None
        await self._audited(ERASE_ACTION, subject, by=by, generations=_listed(before.wraps))
        due = await self._erasure.mark_chore(Chore.ERASE, subject, self._clock() + _CLAIM_MS)
        await self._destroy(subject, before)
        await self._recall(subject)
        if await self._erasure.unfinished(subject) is None:
            await self._erasure.settle_chore(Chore.ERASE, due)
            return None
        return await self._complete(subject, _Claim(self._erasure, due, self._clock), sample, by=by)

    async def certificate(self, subject: SubjectTag) -> bytes | None:
        """Return the certificate of a person's erasure, until it is handed over. Raises StoreUnavailableError."""
        return await self._erasure.certificate(subject)

    async def handed_over(self, subject: SubjectTag, certificate: bytes) -> None:
        """Somebody else has the certificate now. Raises StoreUnavailableError."""
        await self._erasure.forget_certificate(subject, certificate)

    async def _complete(
        self, subject: SubjectTag, claim: "_Claim", sample: Sequence["_Sample"], *, by: str
    ) -> "Erasure":
        """Remove what is left, and certify the whole."""
        await self._sweep(subject, claim)
        completed_at = self._clock()
        held_turns, held_until = await self._held(subject)
        proof = await self._try(subject, sample)
        done = await self._erasure.unfinished(subject)
        if done is None:
            raise StoreUnavailableError("somebody else has just finished this erasure; ask again")
        erased = done.erased
        await self._audited(
            "subject.erased",
            subject,
            by=by,
            erased_at=erased.at,
            turns=erased.turns,
            events=erased.events,
            generations=_listed(erased.generations),
            held=held_turns,
            opened=proof.opened,
        )
        erasure = Erasure(
            subject=subject,
            erased=erased,
            kek_versions=done.kek_versions,
            removed=done.removed,
            completed_at=completed_at,
            held_turns=held_turns,
            held_until=held_until,
            proof=proof,
        )
        await self._erasure.conclude(subject, erased_at=erased.at, certificate=await self._certify(erasure))
        await self._finish(claim)
        return erasure

    async def take_up(self) -> bool:
        """Finish an erasure that somebody has left unfinished; False if there was none.

        Raises StoreUnavailableError, AuditUnavailableError.
        """
        now = self._clock()
        for due in await self._erasure.claim_chores(Chore.ERASE, now=now, until=now + _CLAIM_MS, most=1):
            claim = _Claim(self._erasure, due, self._clock)
            try:
                await self._resume(due.subject, claim)
            except UndecryptableError as error:
                _log.error("an erasure cannot be finished; it is tried again", reason=error.reason)
                await self._erasure.put_off_chore(Chore.ERASE, due, until=now + _LATER_MS)
            return True
        return False

    async def _resume(self, subject: SubjectTag, claim: "_Claim") -> None:
        if await self._erasure.is_erasing(subject):
            await self._destroy(subject, await self._store.subject_state(subject))
        state = await self._store.subject_state(subject)
        await self._recall(subject)
        if await self._erasure.unfinished(subject) is not None:
            sample = await self._sample(subject, state, up_to=state.generation_floor)
            await self._complete(subject, claim, sample, by="chatproxy")
            return
        if state.erased_at is not None:
            removed = await self._sweep(subject, claim)
            await self._audited("subject.swept", subject, by="chatproxy", records=removed.records)
        await self._finish(claim)

    async def _destroy(self, subject: SubjectTag, state: SubjectState) -> None:
        """Do what makes everything unreadable that no hold covers."""
        for _ in range(_MOST_TRIES):
            person = PersonFacts(read_ledger(state.ledger, subject=subject, keys=self._annotation_keys))
            stays: int | None = None
            if person.has_holds and state.generation is not None:
                stays = await self._seal_held(subject, state, person)
            if not person.has_holds or state.generation is None or stays is not None:
                events = [] if stays is None else [self._account_deleted(subject, state, person)]
                found = await self._erasure.erase(
                    subject,
                    at=self._clock(),
                    ledger_length=len(state.ledger),
                    stays=stays,
                    events=events,
                    ledger_keep_until=self._training.after(self._clock()) + LEDGER_OUTLIVES_MS,
                )
                if isinstance(found, Erased):
                    if stays is not None:
                        await self._store.mark_due(subject, self._clock())
                    return
                if found is EraseRefusal.NOTHING:
                    return
            state = await self._store.subject_state(subject)
        raise StoreUnavailableError("the ledger or the key of this person keeps changing; try again")

    async def _seal_held(self, subject: SubjectTag, state: SubjectState, person: PersonFacts) -> int | None:
        """Set the fence, and seal what is held under a key of its own; None: the key has changed meanwhile."""
        stays = state.generation
        if not await self._erasure.is_erasing(subject):
            stays = await self._roller.renew(subject, state, erasing=True)
        if stays is not None:
            await self._roller.move(subject, stays, wanted=lambda turn, facts: _is_held(person, turn, facts))
        return stays

    def _account_deleted(self, subject: SubjectTag, state: SubjectState, person: PersonFacts) -> bytes:
        """Return the event that ends what the person agreed to, where the ledger stays because of a hold."""
        return write_fact(
            subject=subject,
            kind=FactKind.ACCOUNT_DELETED,
            at=max([self._clock(), *(event.at + 1 for event in person.events[-1:])]),
            by="chatproxy",
            method="erasure",
            scope=ACCOUNT,
            details={},
            record_id=str(uuid.uuid4()),
            previous=state.ledger[-1] if state.ledger else None,
            keys=self._annotation_keys,
        )

    async def _sweep(self, subject: SubjectTag, claim: "_Claim") -> Removed:
        """Remove what lies under destroyed keys."""
        removed = Removed()
        batch: list[Doomed] = []
        async for stored in self._store.annotations(subject):
            batch.append(self._doomed(stored))
            if len(batch) == _BATCH:
                removed = removed.and_more(*await self._erasure.sweep(subject, batch))
                batch = []
                await claim.renew()
        removed = removed.and_more(*await self._erasure.sweep(subject, batch))
        await claim.renew()
        return removed.and_more(*await self._erasure.sweep_rest(subject))

    def _doomed(self, stored: StoredTurn) -> Doomed:
        try:
            kept = Kept.of(stored, self._annotation_keys)
        except UndecryptableError:
            return Doomed(stored.turn)
        return Doomed(stored.turn, kept.facts.conversation_tag, tuple(map(bytes.fromhex, kept.note.heads)))

    async def _finish(self, claim: "_Claim") -> None:
        if self._rewrites_log:
            try:
                await self._erasure.rewrite_log()
            except StoreUnavailableError:
                # One is being written; it may hold what has gone since, so the chore stays until the next.
                await claim.put_off(self._clock() + _LATER_MS)
                return
        await claim.settle()

    async def _held(self, subject: SubjectTag) -> tuple[int, int | None]:
        """Return how many turns a hold keeps, and until when it is to be reviewed."""
        state = await self._store.subject_state(subject)
        person = PersonFacts(read_ledger(state.ledger, subject=subject, keys=self._annotation_keys))
        if not person.has_holds:
            return 0, None
        turns = 0
        async for stored in self._store.annotations(subject):
            try:
                facts = Kept.of(stored, self._annotation_keys).facts
            except UndecryptableError:
                continue
            turns += state.is_fenced(facts.received_at) and _is_held(person, stored, facts)
        return turns, max(hold.review_at for hold in person.holds)

    async def _any_turn(self, subject: SubjectTag) -> bool:
        async for _ in self._store.annotations(subject):
            return True
        return False

    async def _sample(
        self, subject: SubjectTag, state: SubjectState, *, up_to: int | None = None
    ) -> list[_Sample]:
        """Return a few records as they lie in the store, of turns that no hold covers; ``up_to``: a generation."""
        person = PersonFacts(read_ledger(state.ledger, subject=subject, keys=self._annotation_keys))
        sample: list[_Sample] = []
        async for stored in self._store.annotations(subject):
            try:
                kept = Kept.of(stored, self._annotation_keys)
            except UndecryptableError:
                continue
            if _is_held(person, stored, kept.facts):
                continue
            number = kept.note.groups[0].n
            [blob] = await self._store.records(subject, stored.turn, [number])
            if blob is not None and (up_to is None or parse_header(blob).generation <= up_to):
                sample.append(_Sample(blob, kept.facts.record_metadata(number), parse_header(blob).epoch))
            if len(sample) == _SAMPLE:
                break
        return sample

    async def _try(self, subject: SubjectTag, sample: Sequence[_Sample]) -> Proof:
        """Try to open, with all the keys that there are now, what lay in the store before."""
        state = await self._store.subject_state(subject)
        codes: Counter[str] = Counter()
        for record in sample:
            try:
                open_record(
                    record.blob,
                    subject_key=self._keys.unwrap_subject_key(
                        subject, state, parse_header(record.blob).generation
                    ),
                    epoch_key=await self._keys.existing_epoch_key(record.day),
                    subject=subject,
                    metadata=record.metadata,
                )
                codes["opened"] += 1
            except UndecryptableError as error:
                codes[error.reason] += 1
        return Proof(len(sample), codes.pop("opened", 0), dict(codes))

    async def _audited(
        self, action: str, subject: SubjectTag, *, by: str, **details: str | int | bool
    ) -> None:
        """Write to the audit log. Raises AuditUnavailableError."""
        entry = {"subject": subject.hex(), "for": by, **details}
        await asyncio.to_thread(self._audit.append, action, entry)


class _Claim:
    """The hold on one chore, renewed while the work goes on."""

    def __init__(self, erasure: ErasureStore, due: Due, clock: Clock) -> None:
        self._erasure = erasure
        self._due: Due | None = due
        self._clock = clock
        self._renewed_at = clock()

    async def renew(self) -> None:
        """Keep others off for another while, if it is time."""
        now = self._clock()
        if now - self._renewed_at > _RENEW_MS:
            await self.put_off(now + _CLAIM_MS)
            self._renewed_at = now

    async def put_off(self, until: int) -> None:
        """Have the chore due again at *until* (ms)."""
        if self._due is not None:
            self._due = await self._erasure.put_off_chore(Chore.ERASE, self._due, until=until)

    async def settle(self) -> None:
        """The chore is done."""
        if self._due is not None:
            await self._erasure.settle_chore(Chore.ERASE, self._due)


def _is_held(person: PersonFacts, turn: StoredTurn, facts: TurnFacts) -> bool:
    conversation: ConversationTag = facts.conversation_tag
    return person.about(conversation, turn.turn, received_at=facts.received_at).hold_at is not None


def _listed(generations: Sequence[int] | Mapping[int, bytes]) -> str:
    return ",".join(map(str, sorted(generations)))
