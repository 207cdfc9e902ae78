"""Something about a person has changed: decide again on each of their turns that is kept (R20 to R24, R31).

1. The ledger says what happened; every turn's annotation says what it was kept for. So a decision is made of what is
   in the store alone (``chatproxy.workflows.verdict``), and making it again changes nothing: whoever is interrupted
   begins anew.
2. A turn is changed in one step, and only if its annotation and the ledger are those that were seen. Of two decisions
   the one that has seen more stands, whoever is the later to write.
3. A turn stays under the policy that it was decided under (``chatproxy.workflows.policies``).
4. What cannot be authenticated, the ledger or an annotation, is left as it is: nothing is granted, and nothing erased.
   It is counted, and looked at again later: a newer chatproxy may be able to read it.
5. Turns come in batches, people side by side: one with a million turns keeps nobody waiting, and of either only a few
   turns are in memory. Chats come first: after each stride of work there is a rest.
"""

import asyncio
import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from msgspec.structs import replace as msgspec_replace

from chatproxy.clock import Clock
from chatproxy.consent.events import read_ledger
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.annotation import Annotation, AnnotationKeys, authenticate
from chatproxy.crypto.record import epoch_day
from chatproxy.errors import StoreUnavailableError, UndecryptableError
from chatproxy.model import ConversationTag, SubjectTag, TurnId
from chatproxy.policy.engine import Decision
from chatproxy.policy.versions import PolicyVersion
from chatproxy.ports import (
    Due,
    RedecidedTurn,
    RedecideStatus,
    StoredTurn,
    SubjectState,
    TranscriptStore,
)
from chatproxy.telemetry import Log, Metrics, Redecided
from chatproxy.workflows.annotate import GroupNote, TurnFacts, TurnNote, group_note
from chatproxy.workflows.batches import in_batches
from chatproxy.workflows.decide import HOLD_ROLLED_BEFORE_MS, Policy, TurnToDecide, kept_until
from chatproxy.workflows.keys import RecordKeys
from chatproxy.workflows.ledger import LEDGER_OUTLIVES_MS
from chatproxy.workflows.policies import Policies
from chatproxy.workflows.reseal import Move, Moved, PersonKeys, read_records, reseal
from chatproxy.workflows.verdict import Activity, Kept, decide_again

_log = Log("redecide")

_BATCH = 50
_PORTION, _PORTION_BYTES = 25, 4 << 20
_NOTED_AT_ONCE = 500
"""What is written in one round trip: putting it together takes about a millisecond."""
_STRIDE_SECONDS = 0.001
"""How long is worked before others get their turn."""
_REST_SECONDS = 0.001
"""How long running chats then have for themselves: one takes several turns, and would wait a stride at each."""
_MOST_TRIES = 5
_MOST_PEOPLE = 16
"""Who are decided on side by side."""
_CLAIM_MS = 20_000
"""After that, a person whom nobody has finished is taken up by another node."""
_RENEW_MS = _CLAIM_MS // 4
_SOON_SECONDS, _POLL_SECONDS = 0.02, 1.0
"""How long nobody looks who is due: soon after an event, whose mark comes a moment after its news; then less often."""
_PAUSE_SECONDS = 1.0
_AGAIN_MS = 60_000
"""When somebody is looked at again whose ledger cannot be read, or keeps changing."""
_FAULTY_AGAIN_MS = 3_600_000
"""When somebody is looked at again of whom a turn cannot be read."""
_MARKED_AT_ONCE = 500
_VERSIONS_CONTROL = "versions-announced"


@dataclass(slots=True)
class Tally:
    """What became of a person's turns."""

    turns: dict[Redecided, int] = field(default_factory=lambda: dict.fromkeys(Redecided, 0))
    next_at: int | None = None
    """When they are to be looked at again without anything having happened, ms."""
    is_settled: bool = False
    """If not, the ledger cannot be read, or keeps changing, so it is to be tried again."""
    unnoted: dict[TurnId, int] = field(default_factory=dict, repr=False)
    """The numbers of changed annotations that the audit log has not been told."""

    def again_at(self, at: int | None) -> None:
        """Look at them again at *at* (ms) at the latest."""
        if at is not None:
            self.next_at = at if self.next_at is None else min(at, self.next_at)


@dataclass(frozen=True, slots=True)
class _Person:
    subject: SubjectTag
    state: SubjectState
    facts: PersonFacts
    keys: PersonKeys


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision on one group, beside how it is noted now."""

    before: GroupNote
    decision: Decision
    expires_at: int | None
    """Until when it is to be sealed, ms; None: it goes."""

    def noted(self, expires_at: int) -> GroupNote:
        """Return how it is to be noted, sealed until *expires_at* (ms)."""
        return group_note(
            self.decision,
            number=self.before.n,
            part=self.before.part,
            expires_at=expires_at,
            size=self.before.bytes,
        )

    @property
    def after(self) -> GroupNote | None:
        """Return how it is to be noted; None: it goes."""
        return None if self.expires_at is None else self.noted(self.expires_at)

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


@dataclass(frozen=True, slots=True)
class _Change:
    """What is decided otherwise about one turn."""

    kept: Kept
    turn: TurnToDecide
    policy: str
    verdicts: tuple[Verdict, ...]
    now: int

    @property
    def ends_sooner(self) -> bool:
        """Whether something ends on an earlier day than it was sealed to, so that backups would keep it too long."""
        return any(
            epoch_day(self.now if verdict.expires_at is None else verdict.expires_at)
            < epoch_day(verdict.before.expires_at)
            for verdict in self.verdicts
        )

    @property
    def moves(self) -> list[Move]:
        return [
            Move(
                turn=self.kept.stored.turn,
                facts=self.kept.facts,
                number=verdict.before.n,
                expires_before=verdict.before.expires_at,
                expires_at=verdict.expires_at,
                decision=verdict.decision,
            )
            for verdict in self.verdicts
            if verdict.expires_at is not None and verdict.expires_at != verdict.before.expires_at
        ]


@dataclass(slots=True)
class _Overtaken:
    """What others have changed while a batch was decided on."""

    turns: list[StoredTurn] = field(default_factory=list)
    by_event: bool = False


class _Pace:
    """Lets one piece of work happen at a time, and gives running chats their turn in between."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._begun = 0.0
        self.chats_run: Callable[[], bool] = bool

    async def __aenter__(self) -> None:
        await self._lock.acquire()
        self._begun = asyncio.get_running_loop().time()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()

    async def breathe(self) -> None:
        """Rest, if it is time. Only within the context."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._begun > _STRIDE_SECONDS:
            await asyncio.sleep(_REST_SECONDS if self.chats_run() else 0)
            self._begun = loop.time()


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
        mark_roll: Callable[[SubjectTag], Awaitable[object]],
        note_changes: Callable[[SubjectTag, Mapping[TurnId, int]], Awaitable[None]],
        versions: Sequence[PolicyVersion] = (),
    ) -> None:
        """``versions``: of the policy that people choose about. ``mark_roll``: has a person's key rolled soon.

        ``note_changes``: is told the numbers of annotations that have changed.
        """
        self._mark_roll = mark_roll
        self._note_changes = note_changes
        self._store = store
        self._keys = keys
        self._annotation_keys = annotation_keys
        self._policies = policies
        self._clock = clock
        self._metrics = metrics
        self._versions = tuple(versions)
        self._versions_change_at: int | None = 0
        """When the versions in force are to be looked at next, ms; None: none is to come."""
        self._woken = asyncio.Event()
        self._pace = _Pace()
        self._at_work: dict[SubjectTag, Due | None] = {}
        """Who is being decided on; and the claim on them that has come meanwhile, if one has."""

    def wake(self) -> None:
        """Somebody is due: do not wait for the next look."""
        self._woken.set()

    async def mark(self, subject: SubjectTag) -> None:
        """Have a person decided on again now. Raises StoreUnavailableError."""
        await self._store.mark_due(subject, self._clock())
        self.wake()

    async def run(self, *, chats_run: Callable[[], bool]) -> None:
        """Decide on whoever is due, until cancelled; ``chats_run``: whether there are chats to give way to."""
        self._pace.chats_run = chats_run
        pause = _SOON_SECONDS
        async with asyncio.TaskGroup() as people:
            while True:
                claimed: Sequence[Due] = ()
                try:
                    self._woken.clear()
                    await self._announce_versions()
                    claimed = await self._claim()
                except StoreUnavailableError:
                    self._metrics.store_failures.labels("redecide").inc()
                    await asyncio.sleep(_PAUSE_SECONDS)
                except Exception as error:  # noqa: BLE001 - the outer edge of this task: it must never end by itself
                    _log.error("people cannot be decided on again; it is tried again", failure=error)
                    await asyncio.sleep(_PAUSE_SECONDS)
                for due in claimed:
                    if due.subject in self._at_work:
                        self._at_work[due.subject] = due
                    else:
                        self._at_work[due.subject] = None
                        people.create_task(self._work(due), name="redecide-person")
                pause = _SOON_SECONDS if claimed or await self._rest(pause) else min(2 * pause, _POLL_SECONDS)

    async def _claim(self) -> Sequence[Due]:
        now = self._clock()
        self._metrics.people_due.set(await self._store.people_due(now))
        room = _MOST_PEOPLE - len(self._at_work)
        if room <= 0:
            return ()
        return await self._store.claim_due(now=now, until=now + _CLAIM_MS, most=room)

    async def _rest(self, seconds: float) -> bool:
        """Wait until woken, but no longer than *seconds*; return whether that was it."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        return True

    async def _announce_versions(self) -> None:
        """Mark everybody where the versions in force are not those that everybody was last marked for.

        So a material version counts when it takes effect, and one that is added late, dated otherwise or taken back at
        the next start. Who is interrupted marks everybody again.
        """
        now = self._clock()
        if self._versions_change_at is None or now < self._versions_change_at:
            return
        present = _name_of_versions(version for version in self._versions if version.effective_at <= now)
        announced = await self._store.read_control(_VERSIONS_CONTROL)
        if present != (announced or b""):
            await self._mark_everybody()
            if not await self._store.swap_control(_VERSIONS_CONTROL, announced, present):
                return  # somebody else was quicker; the next look says with what
        to_come = (version.effective_at for version in self._versions if version.effective_at > now)
        self._versions_change_at = min(to_come, default=None)

    async def _mark_everybody(self) -> None:
        async for batch in in_batches(self._store.subjects(), _MARKED_AT_ONCE):
            await self._store.mark_all_due(batch, self._clock())

    async def _work(self, claimed: Due) -> None:
        """Decide on one person, and once more if they were claimed meanwhile."""
        subject = claimed.subject
        due: Due | None = claimed
        try:
            while due is not None:
                self._at_work[subject] = None
                await self._take_up(due)
                due = self._at_work[subject]
        except StoreUnavailableError:
            # The claim lapses, and then they are due again.
            self._metrics.store_failures.labels("redecide").inc()
        finally:
            del self._at_work[subject]
            self._woken.set()

    async def _take_up(self, due: Due) -> None:
        claim = _Claim(self._store, due, self._clock)
        tally = Tally()
        try:
            tally = await self.person(due.subject, claim=claim)
        except StoreUnavailableError:
            raise
        except asyncio.CancelledError:
            # This process stops: whoever goes on need not wait for the claim to lapse.
            with contextlib.suppress(StoreUnavailableError):
                await claim.settle(self._clock())
            raise
        except Exception as error:  # noqa: BLE001 - the outer edge of one person: others must not suffer
            _log.error("a person cannot be decided on again; it is tried again", failure=error)
        await claim.settle(tally.next_at if tally.is_settled else self._clock() + _AGAIN_MS)

    async def person(
        self, subject: SubjectTag, *, claim: "_Claim | None" = None, apply: bool = False
    ) -> Tally:
        """Decide on every turn of one person. Raises StoreUnavailableError.

        ``apply``: as far as the present policy is stricter than a turn's own, under the present one.
        """
        tally = Tally()
        try:
            for _ in range(_MOST_TRIES):
                tally.turns[Redecided.UNCHANGED] = tally.turns[Redecided.FAULTY] = 0
                tally.next_at = None
                if await self._pass(subject, tally, claim=claim, apply=apply):
                    tally.is_settled = True
                    break
        except UndecryptableError as error:
            _log.error("what is kept of a person cannot be decided on again", reason=error.reason)
        finally:
            await self._note(subject, tally)
        return tally

    async def _note(self, subject: SubjectTag, tally: Tally, *, at_least: int = 1) -> None:
        """Tell which annotations have changed, once there are so many."""
        if len(tally.unnoted) >= at_least:
            changed, tally.unnoted = tally.unnoted, {}
            await self._note_changes(subject, changed)

    async def _read(self, subject: SubjectTag) -> _Person:
        """Read a person. Raises UndecryptableError where the ledger is not authentic, StoreUnavailableError."""
        state = await self._store.subject_state(subject)
        events = read_ledger(state.ledger, subject=subject, keys=self._annotation_keys)
        return _Person(
            subject, state, PersonFacts(events, self._versions), PersonKeys(self._keys, subject, state)
        )

    async def _pass(self, subject: SubjectTag, tally: Tally, *, claim: "_Claim | None", apply: bool) -> bool:
        """Decide on every turn once; return whether nothing happened meanwhile that bears on those done before."""
        person = await self._read(subject)
        tally.again_at(person.facts.changes_after(self._clock()))
        activity = await self._activity(person)
        is_current = True
        touched: set[ConversationTag] = set()
        faults: Counter[str] = Counter()
        async for batch in in_batches(self._store.annotations(subject), _BATCH):
            overtaken = _Overtaken(batch)
            for _ in range(_MOST_TRIES):
                overtaken = await self._decide_batch(
                    overtaken.turns,
                    person,
                    activity,
                    apply=apply,
                    tally=tally,
                    touched=touched,
                    faults=faults,
                )
                await self._note(subject, tally, at_least=_NOTED_AT_ONCE)
                if overtaken.by_event:
                    is_current = False
                    person = await self._read(subject)
                if not overtaken.turns:
                    break
            else:
                is_current = False
            if claim is not None:
                await claim.renew()
        await self._store.trim(subject, list(touched))
        if faults:
            tally.again_at(self._clock() + _FAULTY_AGAIN_MS)
            for reason, number in faults.items():
                _log.error("turns are not as they were kept", reason=reason, turns=number)
        return is_current

    async def outlooks(self, subject: SubjectTag) -> AsyncIterator[Outlook | UndecryptableError]:
        """Walk a person's turns with what deciding on them now depends on, and change nothing.

        An error stands for a turn that is not as it was kept. Raises StoreUnavailableError, and UndecryptableError
        for the ledger.
        """
        person = await self._read(subject)
        activity = await self._activity(person)
        async for stored in self._store.annotations(subject):
            try:
                yield await self._outlook(stored, person, activity)
            except UndecryptableError as error:
                yield error

    async def outlook(self, subject: SubjectTag, turn: TurnId) -> Outlook | None:
        """Return one turn with what deciding on it now depends on; None if it is not held.

        Raises UndecryptableError where turn or ledger are not as they were kept, StoreUnavailableError.
        """
        stored = await self._store.turn(subject, turn)
        if stored is None:
            return None
        person = await self._read(subject)
        return await self._outlook(stored, person, await self._activity(person))

    async def _outlook(self, stored: StoredTurn, person: _Person, activity: Activity) -> Outlook:
        kept = Kept.of(stored, self._annotation_keys)
        turn = kept.to_decide(person.facts, activity.times(kept.facts.conversation_tag))
        now = self._clock()
        return Outlook(
            stored=stored,
            facts=kept.facts,
            note=kept.note,
            turn=turn,
            person=person.facts,
            policy=await self._policies.get(kept.note.policy),
            now=now,
            under=lambda policy: _verdicts(kept, turn, person, policy, now=now),
        )

    async def _activity(self, person: _Person) -> Activity:
        """Learn from authentic annotations when the person's conversations were taken up."""
        activity = Activity(person.facts)
        if not activity.matters:
            return activity
        async for batch in in_batches(self._store.annotations(person.subject), _BATCH):
            async with self._pace:
                for stored in batch:
                    await self._pace.breathe()
                    try:
                        kept = Kept.of(stored, self._annotation_keys)
                    except UndecryptableError:
                        continue  # told when it is decided on
                    activity.learn(kept.facts.conversation_tag, kept.facts.received_at)
        return activity

    async def _decide_batch(
        self,
        batch: Sequence[StoredTurn],
        person: _Person,
        activity: Activity,
        *,
        apply: bool,
        tally: Tally,
        touched: set[ConversationTag],
        faults: Counter[str],
    ) -> _Overtaken:
        """Decide on some turns of one person and write what has changed."""
        counted: Counter[Redecided] = Counter()
        changes: list[_Change] = []
        async with self._pace:
            for stored in batch:
                await self._pace.breathe()
                try:
                    change = await self._decide(stored, person, activity, apply=apply, tally=tally)
                except UndecryptableError as error:
                    faults[error.reason] += 1
                    counted[Redecided.FAULTY] += 1
                    continue
                if change is None:
                    counted[Redecided.UNCHANGED] += 1
                else:
                    changes.append(change)
        overtaken = _Overtaken()
        for portion in _portions(changes):
            touched.update(change.kept.facts.conversation_tag for change in portion)
            if any(change.ends_sooner for change in portion):
                # Backups have it sealed to the later end. Marked first, in case this process does not live to do it.
                await self._mark_roll(person.subject)
            with self._keys.wrapping():
                turns = await self._carried_out(portion, person, faults)
                await self._write(turns, overtaken, counted, tally, faults)
        for outcome, number in counted.items():
            tally.turns[outcome] += number
            self._metrics.redecided.labels(outcome).inc(number)
        return overtaken

    async def _decide(
        self, stored: StoredTurn, person: _Person, activity: Activity, *, apply: bool, tally: Tally
    ) -> _Change | None:
        """Return how one turn is to be changed; None: it stays as it is. Raises UndecryptableError."""
        kept = Kept.of(stored, self._annotation_keys)
        policy = await self._policies.get(kept.note.policy)
        if apply:
            policy = await self._policies.stricter_than(policy)
        now = self._clock()
        turn = kept.to_decide(person.facts, activity.times(kept.facts.conversation_tag))
        verdicts = _verdicts(kept, turn, person, policy, now=now)
        for verdict in verdicts:
            if verdict.decision.held and verdict.expires_at is not None:
                tally.again_at(verdict.expires_at - HOLD_ROLLED_BEFORE_MS)
        if (
            policy.digest == kept.note.policy
            and turn.activity == kept.note.activity
            and all(verdict.is_unchanged for verdict in verdicts)
        ):
            return None
        return _Change(kept, turn, policy.digest, tuple(verdicts), now)

    async def _carried_out(
        self, changes: Sequence[_Change], person: _Person, faults: Counter[str]
    ) -> list[RedecidedTurn]:
        """Seal anew and note what has changed. Raises UndecryptableError, StoreUnavailableError."""
        moves = [move for change in changes for move in change.moves]
        blobs = await read_records(self._store, person.keys, moves)
        moved: list[Moved] = []
        turns = []
        async with self._pace:
            for move, blob in zip(moves, blobs, strict=True):
                await self._pace.breathe()
                moved.append(await reseal(person.keys, move, blob))
            results = iter(moved)
            for change in changes:
                await self._pace.breathe()
                turns.append(self._noted(change, person, list(islice(results, len(change.moves)))))
        faults.update(done.fault for done in moved if done.fault is not None)
        return turns

    def _noted(self, change: _Change, person: _Person, moved: Sequence[Moved]) -> RedecidedTurn:
        """Return the change of one turn as the store takes it."""
        kept, stored = change.kept, change.kept.stored
        kept_until = {
            verdict.before.n: verdict.expires_at
            for verdict in change.verdicts
            if verdict.expires_at is not None
        } | {move.number: done.expires_at for move, done in zip(change.moves, moved, strict=True)}
        notes = tuple(
            verdict.noted(until)
            for verdict in change.verdicts
            if (until := kept_until.get(verdict.before.n, 0)) > change.now
        )
        left = {note.n for note in notes}
        new = RedecidedTurn(
            subject=person.subject,
            turn=stored.turn,
            conversation=kept.facts.conversation_tag,
            expected_mac=stored.annotation[b"mac"],
            ledger_length=len(person.state.ledger),
            generation=person.state.generation or 0,
            expires_at=None,
            dropped=tuple(verdict.before.n for verdict in change.verdicts if verdict.before.n not in left),
            heads=tuple(map(bytes.fromhex, kept.note.heads)),
        )
        if not notes:
            return new
        note = msgspec_replace(
            kept.note,
            policy=change.policy,
            decided_at=change.now,
            consent=person.facts.last_digest,
            activity=change.turn.activity,
            groups=notes,
        )
        annotation = Annotation(
            seq=kept.annotation.seq + 1,
            expires_at=note.expires_at,
            metadata=kept.annotation.metadata,
            body=note.body(),
            previous_mac=stored.annotation[b"mac"],
        )
        return replace(
            new,
            expires_at=note.expires_at,
            groups=tuple(
                done.group for done in moved if done.group is not None and done.group.number in left
            ),
            annotation=authenticate(
                annotation, keys=self._annotation_keys, subject=person.subject, turn=stored.turn
            ),
            ledger_keep_until=note.expires_at + LEDGER_OUTLIVES_MS,
        )

    async def _write(
        self,
        turns: Sequence[RedecidedTurn],
        overtaken: _Overtaken,
        counted: Counter[Redecided],
        tally: Tally,
        faults: Counter[str],
    ) -> None:
        """Write some decisions; those that were made on what is no longer so are to be made again."""
        statuses = await self._store.redecide(turns)
        for turn, status in zip(turns, statuses, strict=True):
            match status:
                case RedecideStatus.CHANGED:
                    counted[Redecided.CHANGED] += 1
                    tally.unnoted[turn.turn] = int(turn.annotation[b"seq"])
                case RedecideStatus.GONE:
                    counted[Redecided.ERASED] += 1
                case RedecideStatus.DAMAGED:
                    counted[Redecided.FAULTY] += 1
                    faults["store_damaged"] += 1
                case None:
                    raise StoreUnavailableError("the store did not take a decision")
                case RedecideStatus.OVERTAKEN | RedecideStatus.LEDGER_CHANGED | RedecideStatus.KEY_CHANGED:
                    overtaken.by_event |= status is not RedecideStatus.OVERTAKEN
                    if (found := await self._store.turn(turn.subject, turn.turn)) is not None:
                        overtaken.turns.append(found)


def _verdicts(kept: Kept, turn: TurnToDecide, person: _Person, policy: Policy, *, now: int) -> list[Verdict]:
    events = person.facts.about(turn.conversation, turn.turn, received_at=turn.received_at)
    verdicts = []
    for group in kept.note.groups:
        decision = decide_again(group, turn, policy=policy, person=person.facts, now=now)
        until = kept_until(decision, review_at=events.hold_review_at, now=now, sealed_until=group.expires_at)
        if person.state.is_fenced(turn.received_at) and not decision.held:
            until = None
        verdicts.append(Verdict(group, decision, until if until is not None and until > now else None))
    return verdicts


def _name_of_versions(in_force: Iterable[PolicyVersion]) -> bytes:
    """Return a digest of the versions in force; nothing where none of them ends what was agreed to before."""
    versions = sorted((v.effective_at, v.version, v.sha256, v.material) for v in in_force)
    if not any(is_material for *_, is_material in versions):
        return b""
    return hashlib.sha256(json.dumps(versions).encode()).hexdigest().encode()


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


def _portions(changes: Sequence[_Change]) -> Iterator[list[_Change]]:
    """Cut a batch so that its records fit into memory and into one round trip."""
    portion: list[_Change] = []
    size = 0
    for change in changes:
        portion.append(change)
        size += sum(verdict.before.bytes for verdict in change.verdicts)
        if size > _PORTION_BYTES or len(portion) == _PORTION:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
