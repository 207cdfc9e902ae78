"""Something about a person has changed: decide again on each of their turns that is kept (R20 to R24, R31).

1. The ledger says what happened; every turn's annotation says what it was kept for. So a decision is made of what is
   in the store alone, and making it again changes nothing: whoever is interrupted begins anew.
2. A turn is changed in one step, and only if its annotation and the ledger are those that were seen. Of two decisions
   the one that has seen more stands, whoever is the later to write.
3. A turn stays under the policy that it was decided under (``chatproxy.workflows.policies``).
4. Downgrades happen by themselves. An upgrade needs a cause of its own: the person shared, took up or un-excluded
   the conversation, a flag was lifted, or the choice could not be read when the turn was kept (R31).
5. What cannot be authenticated, the ledger or an annotation, is left as it is: nothing is granted, and nothing erased.
"""

import asyncio
from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from msgspec.structs import replace

from chatproxy.clock import Clock
from chatproxy.consent.events import read_ledger
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.annotation import Annotation, AnnotationKeys, authenticate, verify
from chatproxy.crypto.keys import DataKey
from chatproxy.crypto.record import RecordHeader, epoch_day, open_record, parse_header, seal_record
from chatproxy.errors import StoreUnavailableError, UndecryptableError
from chatproxy.model import ConversationTag, SubjectTag, TurnId
from chatproxy.policy.choices import Grant, read_choices
from chatproxy.policy.engine import Decision
from chatproxy.policy.facts import Lookup
from chatproxy.policy.grounds import Ground
from chatproxy.policy.reasons import Reason
from chatproxy.policy.versions import PolicyVersion
from chatproxy.ports import (
    Due,
    RedecidedTurn,
    RedecideStatus,
    SealedGroup,
    StoredTurn,
    SubjectState,
    TranscriptStore,
)
from chatproxy.tasks import aside
from chatproxy.telemetry import Log, Metrics, Redecided
from chatproxy.workflows.annotate import (
    GroupNote,
    TurnFacts,
    TurnNote,
    grounds_in_record,
    group_note,
    read,
)
from chatproxy.workflows.decide import HOLD_ROLLED_BEFORE_MS, Policy, TurnToDecide, kept_until
from chatproxy.workflows.keys import RecordKeys
from chatproxy.workflows.ledger import LEDGER_OUTLIVES_MS
from chatproxy.workflows.policies import Policies

_log = Log("redecide")

_BATCH = 100
_STRIDE = 4
"""Turns that are decided on before running chats get their turn: about a millisecond."""
_MOST_TRIES = 5
_CLAIM_MS = 20_000
"""After that, a person whom nobody has finished is taken up by another node."""
_RENEW_MS = _CLAIM_MS // 4
_MOST_CLAIMED = 4
_POLL_SECONDS = 1.0
_PAUSE_SECONDS = 1.0
_AGAIN_MS = 60_000
"""When somebody is looked at again whose ledger cannot be read, or keeps changing."""

_EXCUSES = frozenset(
    {
        Reason.CONSENT_LOOKUP_FAILED,
        Reason.CONSENT_CACHE_STALE,
        Reason.CONV_EXCLUDED,
    }
)
"""Reasons of a turn that is not eligible, which may turn out otherwise under a consent that covers it (R31)."""
_UNREAD: Mapping[str, Lookup] = {
    Reason.CONSENT_LOOKUP_FAILED: Lookup.FAILED,
    Reason.CONSENT_CACHE_STALE: Lookup.STALE,
}
_BROUGHT_IN = frozenset({Reason.ELIGIBLE_RESUMED, Reason.ELIGIBLE_CONV_SHARE})


@dataclass(slots=True)
class Tally:
    """What became of a person's turns."""

    turns: dict[Redecided, int] = field(default_factory=lambda: dict.fromkeys(Redecided, 0))
    next_at: int | None = None
    """When a hold is to be rolled forward, ms."""
    is_settled: bool = False
    """If not, the ledger cannot be read, or keeps changing, so it is to be tried again."""

    def count(self, outcome: Redecided) -> None:
        """One more turn."""
        self.turns[outcome] += 1


class _OvertakenError(Exception):
    """The person's ledger or keys have changed meanwhile: begin anew with what is there now."""


@dataclass(frozen=True, slots=True)
class _Person:
    subject: SubjectTag
    state: SubjectState
    facts: PersonFacts


@dataclass(frozen=True, slots=True)
class _Kept:
    """A turn as its authentic annotation has it."""

    stored: StoredTurn
    annotation: Annotation
    facts: TurnFacts
    note: TurnNote


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision on one group, beside how it is noted now."""

    before: GroupNote
    decision: Decision
    expires_at: int | None
    """Until when it is to be sealed, ms; None: it goes."""

    @property
    def after(self) -> GroupNote | None:
        """Return how it is to be noted; None: it goes."""
        if self.expires_at is None:
            return None
        return group_note(
            self.decision,
            number=self.before.n,
            part=self.before.part,
            expires_at=self.expires_at,
            size=self.before.bytes,
        )

    @property
    def is_unchanged(self) -> bool:
        """Whether it is noted as it is to be."""
        return self.after == self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """A kept turn, and what a decision on it that is made at *now* (ms) depends on."""

    stored: StoredTurn
    facts: TurnFacts
    note: TurnNote
    turn: TurnToDecide
    person: PersonFacts
    policy: Policy
    """The one that the turn is kept under."""
    now: int
    under: Callable[[Policy], list[Verdict]] = field(repr=False)
    """Decide on each group, under any policy."""


class Redecider:
    """Decides again on what is kept."""

    def __init__(
        self,
        store: TranscriptStore,
        keys: RecordKeys,
        annotation_keys: AnnotationKeys,
        policies: Policies,
        *,
        clock: Clock,
        metrics: Metrics,
        versions: Sequence[PolicyVersion] = (),
    ) -> None:
        """``versions``: of the policy that people choose about."""
        self._store = store
        self._keys = keys
        self._annotation_keys = annotation_keys
        self._policies = policies
        self._clock = clock
        self._metrics = metrics
        self._versions = tuple(versions)
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Somebody is due: do not wait for the next look."""
        self._woken.set()

    async def run(self) -> None:
        """Decide on whoever is due, until cancelled."""
        while True:
            try:
                self._woken.clear()
                now = self._clock()
                self._metrics.people_due.set(await self._store.people_due(now))
                claimed = await self._store.claim_due(now=now, until=now + _CLAIM_MS, most=_MOST_CLAIMED)
                for due in claimed:
                    await self._take_up(due)
            except StoreUnavailableError:
                self._metrics.store_failures.labels("redecide").inc()
                await asyncio.sleep(_PAUSE_SECONDS)
            except Exception as error:  # noqa: BLE001 - the outer edge of this task: it must never end by itself
                _log.error("people cannot be decided on again; it is tried again", failure=error)
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                if not claimed:
                    await self._rest()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(_POLL_SECONDS):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _take_up(self, due: Due) -> None:
        claim = _Claim(self._store, due, self._clock)
        tally = await self.person(due.subject, claim=claim)
        next_at = tally.next_at if tally.is_settled else self._clock() + _AGAIN_MS
        await claim.settle(next_at)

    async def person(
        self, subject: SubjectTag, *, claim: "_Claim | None" = None, apply: bool = False
    ) -> Tally:
        """Decide on every turn of one person. Raises StoreUnavailableError.

        ``apply``: as far as the present policy is stricter than a turn's own, under the present one.
        """
        tally = Tally()
        for _ in range(_MOST_TRIES):
            try:
                await self._pass(subject, tally, claim=claim, apply=apply)
            except _OvertakenError:
                continue
            except UndecryptableError as error:
                _log.error("what is kept of a person cannot be decided on again", reason=error.reason)
                break
            else:
                tally.is_settled = True
                break
        for outcome, number in tally.turns.items():
            self._metrics.redecided.labels(outcome).inc(number)
        return tally

    async def _pass(self, subject: SubjectTag, tally: Tally, *, claim: "_Claim | None", apply: bool) -> None:
        person = await self._person(subject)
        times = await self._times(subject)
        last: dict[ConversationTag, int] = {}
        async for batch in self._batches(subject):
            changes = []
            for number, stored in enumerate(batch, 1):
                kept = self._verified(stored)
                if kept is None:
                    tally.count(Redecided.FAULTY)
                    continue
                changed = await self._decide(kept, person, times, apply=apply, tally=tally, last=last)
                if changed is not None:
                    changes.append(changed)
                if number % _STRIDE == 0:
                    await asyncio.sleep(0)
            await self._write(changes, tally)
            if claim is not None:
                await claim.renew()
        await self._store.trim(subject, last)

    async def outlooks(self, subject: SubjectTag) -> AsyncIterator["Outlook | UndecryptableError"]:
        """Walk a person's turns with what deciding on them now depends on, and change nothing.

        An error stands for a turn that is not as it was kept. Raises StoreUnavailableError, and UndecryptableError
        for the ledger.
        """
        person = await self._person(subject)
        times = await self._times(subject)
        async for stored in self._store.annotations(subject):
            try:
                yield await self._outlook(stored, person, times)
            except UndecryptableError as error:
                yield error

    async def outlook(self, subject: SubjectTag, turn: TurnId) -> "Outlook | None":
        """Return one turn with what deciding on it now depends on; None if it is not held.

        Raises UndecryptableError where turn or ledger are not as they were kept, StoreUnavailableError.
        """
        stored = await self._store.turn(subject, turn)
        if stored is None:
            return None
        return await self._outlook(stored, await self._person(subject), await self._times(subject))

    async def _person(self, subject: SubjectTag) -> _Person:
        state = await self._store.subject_state(subject)
        events = read_ledger(state.ledger, subject=subject, keys=self._annotation_keys)
        return _Person(subject, state, PersonFacts(events, self._versions))

    async def _outlook(
        self, stored: StoredTurn, person: _Person, times: dict[ConversationTag, list[int]]
    ) -> "Outlook":
        kept = self._verified(stored)
        if kept is None:
            raise UndecryptableError("annotation")
        turn = self._turn(kept, person, times.get(kept.facts.conversation_tag, []))
        now = self._clock()
        return Outlook(
            stored=stored,
            facts=kept.facts,
            note=kept.note,
            turn=turn,
            person=person.facts,
            policy=await self._policies.get(kept.note.policy),
            now=now,
            under=partial(self._verdicts, turn, kept, person, now=now),
        )

    async def _times(self, subject: SubjectTag) -> dict[ConversationTag, list[int]]:
        """Return when the turns of each conversation were received, ascending, by authentic annotations."""
        times: defaultdict[ConversationTag, list[int]] = defaultdict(list)
        async for stored in self._store.annotations(subject):
            kept = self._verified(stored)
            if kept is not None:
                times[kept.facts.conversation_tag].append(kept.facts.received_at)
        for found in times.values():
            found.sort()
        return times

    async def _batches(self, subject: SubjectTag) -> AsyncIterator[list[StoredTurn]]:
        batch: list[StoredTurn] = []
        async for stored in self._store.annotations(subject):
            batch.append(stored)
            if len(batch) == _BATCH:
                yield batch
                batch = []
        if batch:
            yield batch

    def _verified(self, stored: StoredTurn) -> _Kept | None:
        """Return the turn if its annotation is authentic."""
        try:
            annotation = verify(
                stored.annotation, keys=self._annotation_keys, subject=stored.subject, turn=stored.turn
            )
            return _Kept(stored, annotation, *read(annotation))
        except UndecryptableError:
            return None

    async def _decide(
        self,
        kept: _Kept,
        person: _Person,
        times: dict[ConversationTag, list[int]],
        *,
        apply: bool,
        tally: Tally,
        last: dict[ConversationTag, int],
    ) -> RedecidedTurn | None:
        """Return how one turn is to be changed; None: it stays as it is."""
        try:
            policy = await self._policies.get(kept.note.policy)
            if apply:
                policy = await self._policies.stricter_than(policy)
            conversation = kept.facts.conversation_tag
            now = self._clock()
            turn = self._turn(kept, person, times.get(conversation, []))
            verdicts = self._verdicts(turn, kept, person, policy, now=now)
            for verdict in verdicts:
                if verdict.expires_at is not None:
                    last[conversation] = max(verdict.expires_at, last.get(conversation, 0))
                    if verdict.decision.held:
                        rolled_at = verdict.expires_at - HOLD_ROLLED_BEFORE_MS
                        tally.next_at = min(rolled_at, tally.next_at or rolled_at)
            same_policy = policy.digest == kept.note.policy
            if same_policy and all(verdict.is_unchanged for verdict in verdicts):
                tally.count(Redecided.UNCHANGED)
                return None
            changed = await self._changed(kept, person, policy, turn, verdicts, now=now)
        except UndecryptableError as error:
            _log.error("a turn cannot be decided on again", reason=error.reason)
            tally.count(Redecided.FAULTY)
            return None
        return changed

    def _turn(self, kept: _Kept, person: _Person, times: Sequence[int]) -> TurnToDecide:
        grants = read_choices(person.facts.choices(kept.note.surface)).grants
        taken_up = set(kept.note.activity) | set(first_in_each(grants, times))
        return TurnToDecide(
            caller=kept.note.caller,
            received_at=kept.facts.received_at,
            conversation=kept.facts.conversation_tag,
            turn=kept.stored.turn,
            activity=tuple(sorted(at for at in taken_up if at > kept.facts.received_at)),
            tried_again_at=kept.note.tried_again_at,
        )

    def _verdicts(
        self,
        turn: TurnToDecide,
        kept: _Kept,
        person: _Person,
        policy: Policy,
        *,
        now: int,
    ) -> list[Verdict]:
        events = person.facts.about(turn.conversation, turn.turn, received_at=turn.received_at)
        verdicts = []
        for group in kept.note.groups:
            decision = decide_as_read(turn, group, person.facts, policy, now=now)
            if is_unfounded_upgrade(group, decision):
                decision = policy.decide_part(
                    turn, part=group.part, now=now, person=person.facts.without_choices()
                )
            until = kept_until(
                decision, review_at=events.hold_review_at, now=now, sealed_until=group.expires_at
            )
            verdicts.append(Verdict(group, decision, until if until is not None and until > now else None))
        return verdicts

    async def _changed(
        self,
        kept: _Kept,
        person: _Person,
        policy: Policy,
        turn: TurnToDecide,
        verdicts: Sequence[Verdict],
        *,
        now: int,
    ) -> RedecidedTurn:
        notes = tuple(after for verdict in verdicts if (after := verdict.after) is not None)
        dropped = tuple(verdict.before.n for verdict in verdicts if verdict.expires_at is None)
        conversation = kept.facts.conversation_tag
        heads = tuple(map(bytes.fromhex, kept.note.heads))
        generation = person.state.generation or 0
        if not notes:
            return RedecidedTurn(
                subject=person.subject,
                turn=kept.stored.turn,
                conversation=conversation,
                expected_mac=kept.stored.annotation[b"mac"],
                ledger_length=len(person.state.ledger),
                generation=generation,
                expires_at=None,
                dropped=dropped,
                heads=heads,
            )
        moved = [
            verdict for verdict in verdicts if verdict.expires_at not in {None, verdict.before.expires_at}
        ]
        groups = await self._resealed(kept, person, moved)
        note = replace(
            kept.note,
            policy=policy.digest,
            decided_at=now,
            consent=person.facts.last_digest,
            activity=turn.activity,
            groups=notes,
        )
        annotation = Annotation(
            seq=kept.annotation.seq + 1,
            expires_at=note.expires_at,
            metadata=kept.annotation.metadata,
            body=note.body(),
            previous_mac=kept.stored.annotation[b"mac"],
        )
        return RedecidedTurn(
            subject=person.subject,
            turn=kept.stored.turn,
            conversation=conversation,
            expected_mac=kept.stored.annotation[b"mac"],
            ledger_length=len(person.state.ledger),
            generation=generation,
            expires_at=note.expires_at,
            groups=tuple(groups),
            dropped=dropped,
            annotation=authenticate(
                annotation, keys=self._annotation_keys, subject=person.subject, turn=kept.stored.turn
            ),
            heads=heads,
            ledger_keep_until=note.expires_at + LEDGER_OUTLIVES_MS,
        )

    async def _resealed(self, kept: _Kept, person: _Person, moved: Sequence[Verdict]) -> list[SealedGroup]:
        """Seal anew, to another day, what expires at another time. Raises UndecryptableError."""
        stored = kept.stored
        blobs = await self._store.records(
            stored.subject, stored.turn, [verdict.before.n for verdict in moved]
        )
        groups = []
        for verdict, blob in zip(moved, blobs, strict=True):
            if blob is None:
                raise UndecryptableError("record_missing")
            header = parse_header(blob)
            assert verdict.expires_at is not None  # noqa: S101 - moved, not gone
            work = partial(
                _sealed_anew,
                blob,
                header,
                verdict,
                person=person,
                old_keys=(
                    self._keys.unwrap_subject_key(person.subject, person.state, header.generation),
                    await self._keys.existing_epoch_key(header.epoch),
                ),
                new_keys=(
                    self._keys.unwrap_subject_key(person.subject, person.state, person.state.generation or 0),
                    await self._keys.epoch_key(epoch_day(verdict.expires_at)),
                ),
                metadata=kept.facts.record_metadata(verdict.before.n),
            )
            sealed = await aside(work, size=len(blob))
            groups.append(SealedGroup(verdict.before.n, sealed, verdict.expires_at))
        return groups

    async def _write(self, changes: Sequence[RedecidedTurn], tally: Tally) -> None:
        """Write a batch. Raises _OvertakenError where the decisions were made on what is no longer so."""
        is_overtaken = False
        statuses = await self._store.redecide(changes)
        for change, status in zip(changes, statuses, strict=True):
            match status:
                case RedecideStatus.CHANGED:
                    tally.count(Redecided.CHANGED if change.expires_at is not None else Redecided.ERASED)
                case RedecideStatus.GONE | RedecideStatus.EXPIRED:
                    tally.count(Redecided.ERASED)
                case None:
                    raise StoreUnavailableError("the store did not take a decision")
                case _:
                    is_overtaken = True
        if is_overtaken:
            raise _OvertakenError


class _Claim:
    """The hold on one person, renewed while the work goes on."""

    def __init__(self, store: TranscriptStore, due: Due, clock: Clock) -> None:
        self._store = store
        self._due: Due | None = due
        self._clock = clock
        self._renewed_at = clock()

    async def renew(self) -> None:
        """Keep others off for another while, if it is time."""
        now = self._clock()
        if self._due is not None and now - self._renewed_at > _RENEW_MS:
            self._due = await self._store.put_off_due(self._due, until=now + _CLAIM_MS)
            self._renewed_at = now

    async def settle(self, next_at: int | None) -> None:
        """The person is done; due again at *next_at* (ms), if at all. If marked meanwhile, they stay due."""
        if self._due is None:
            return
        if next_at is None:
            await self._store.settle_due(self._due)
        else:
            await self._store.put_off_due(self._due, until=next_at)


def first_in_each(grants: Iterable[Grant], times: Sequence[int]) -> list[int]:
    """Return the first of *times* (ascending) in the coverage of each grant: what a resumption depends on (R12)."""
    found = []
    for grant in grants:
        place = bisect_left(times, grant.starts_at)
        if place < len(times) and grant.covers(times[place]):
            found.append(times[place])
    return found


def decide_as_read(
    turn: TurnToDecide, before: GroupNote, person: PersonFacts, policy: Policy, *, now: int
) -> Decision:
    """Decide on one group. While the consent service has not answered again, nothing becomes eligible (R31).

    What was kept without a good answer stays so, under its own reason, until there is one.
    """
    lookup = _UNREAD.get(before.reason, Lookup.OK) if person.are_choices_unread else Lookup.OK
    decision = policy.decide_part(turn, part=before.part, now=now, person=person, lookup=lookup)
    gains = Ground.TRAIN in decision.grounds and Ground.TRAIN not in before.grounds
    if gains and person.are_choices_unread:
        return policy.decide_part(turn, part=before.part, now=now, person=person, lookup=Lookup.STALE)
    return decision


def is_unfounded_upgrade(before: GroupNote, decision: Decision) -> bool:
    """Whether a turn that was not covered by a consent would be now, with nothing of R31 to bring it in.

    Such is a choice that was recorded with an earlier time than the turn it would cover.
    """
    if not decision.eligible_capability or Ground.TRAIN in before.grounds:
        return False
    return decision.reason not in _BROUGHT_IN and before.reason not in _EXCUSES


def _sealed_anew(
    blob: bytes,
    header: RecordHeader,
    verdict: Verdict,
    *,
    person: _Person,
    old_keys: tuple[DataKey, DataKey],
    new_keys: tuple[DataKey, DataKey],
    metadata: bytes,
) -> bytes:
    payload = open_record(
        blob, subject_key=old_keys[0], epoch_key=old_keys[1], subject=person.subject, metadata=metadata
    )
    assert verdict.expires_at is not None  # noqa: S101 - moved, not gone
    return seal_record(
        RecordHeader(
            flags=header.flags,
            grounds=grounds_in_record(verdict.decision),
            generation=person.state.generation or 0,
            expires_at=verdict.expires_at,
            turn=header.turn,
        ),
        subject_key=new_keys[0],
        epoch_key=new_keys[1],
        subject=person.subject,
        metadata=metadata,
        payload=payload,
    )
