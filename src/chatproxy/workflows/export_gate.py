"""May this turn go into a dataset? Decided again, from the ledger at this moment; in doubt it may not (R29, R36, R43).

1. Annotation, ledger and audit log must say the same: the annotation is authentic and permits; the ledger is authentic
   and permits, now; nothing that the audit log knows to have tightened the ledger is missing in it.
2. Annotation, record and the store's expiry name one end.
3. What the person may still want back is not taken yet: a turn is some days old before it may be used.
4. A decision that rests on an answer which the company's consent service could not give again is none.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from chatproxy.clock import Clock
from chatproxy.consent.events import ConsentEvent, read_ledger
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.annotation import AnnotationKeys
from chatproxy.errors import UndecryptableError
from chatproxy.model import Origin, SubjectTag, TurnId
from chatproxy.policy.grounds import Ground
from chatproxy.policy.reasons import Reason
from chatproxy.policy.versions import PolicyVersion
from chatproxy.ports import StoredTurn, SubjectState, TranscriptStore
from chatproxy.workflows.annotate import GroupNote
from chatproxy.workflows.policies import Policies
from chatproxy.workflows.tombstones import Tombstone, is_of
from chatproxy.workflows.verdict import Activity, Kept, decide_again

GROUNDS: Mapping[str, Ground] = {
    "capability": Ground.TRAIN,
    "safety": Ground.SAFETY_IO,
    "feedback": Ground.FEEDBACK,
}
"""What each purpose needs a live ground of."""

NOT_AUTHENTIC = "annotation"
TTL_DIFFERS = "annotation_ttl"
LEDGER = "ledger"
AGAINST_LOG = "ledger_against_log"
ERASED = "erased"
COOLING_OFF = "cooling_off"
UNREAD = "choices_unread"
BEHIND = "annotation_behind"
NO_GROUND = "no_ground"
NO_ANSWER = "no_answer"
RECORD = "record"
GONE = "gone"
"""Deleted, erased or expired since."""
FAULTS = frozenset({NOT_AUTHENTIC, TTL_DIFFERS, LEDGER, AGAINST_LOG, RECORD})
"""Reasons that somebody must look at: what is kept is not as it was kept."""
_TOLERANCE_MS = 1000
_TYPED = frozenset(Origin) - {Origin.CONNECTOR_RAW, Origin.RAW}


@dataclass(frozen=True, slots=True)
class Allowed:
    """A turn that may be used, and what permits it."""

    kept: Kept
    groups: tuple[GroupNote, ...]
    reason: str
    until: int
    """When the ground ends, ms: what is in a dataset must not outlive it."""
    receipt: str | None
    """The id of the receipt of the choice that permits it; None where a ground needs no choice."""


@dataclass(frozen=True, slots=True)
class Person:
    """A person as they are at this moment."""

    subject: SubjectTag
    state: SubjectState = field(repr=False)
    facts: PersonFacts | None
    fault: str | None = None

    @property
    def ledger_length(self) -> int:
        """Return how many events were seen."""
        return len(self.state.ledger)


class ExportGate:
    """Decides for one purpose."""

    def __init__(
        self,
        store: TranscriptStore,
        annotation_keys: AnnotationKeys,
        policies: Policies,
        *,
        purpose: str,
        clock: Clock,
        min_age_ms: int,
        versions: Sequence[PolicyVersion] = (),
        stones: Iterable[Tombstone] = (),
    ) -> None:
        """``min_age_ms``: how old a turn must be (R36); ``stones``: what the audit logs know of."""
        self._store = store
        self._keys = annotation_keys
        self._policies = policies
        self.purpose = purpose
        self._clock = clock
        self._min_age_ms = min_age_ms
        self._versions = tuple(versions)
        self._stones: defaultdict[SubjectTag, list[Tombstone]] = defaultdict(list)
        for stone in stones:
            self._stones[stone.subject].append(stone)

    async def person(self, subject: SubjectTag) -> Person:
        """Read a person. Raises StoreUnavailableError."""
        try:
            state = await self._store.subject_state(subject)
            events = read_ledger(state.ledger, subject=subject, keys=self._keys)
        except UndecryptableError:
            return Person(subject, SubjectState(None, {}, None, ()), None, LEDGER)
        for stone in self._stones.get(subject, ()):
            if stone.kind != ERASED and not any(is_of(event, stone) for event in events):
                return Person(subject, state, None, AGAINST_LOG)
        return Person(subject, state, PersonFacts(events, self._versions))

    def read(self, stored: StoredTurn) -> Kept | None:
        """Authenticate a row; None: it is not as it was kept."""
        try:
            return Kept.of(stored, self._keys)
        except UndecryptableError:
            return None

    async def judge(
        self, kept: Kept, person: Person, activity: Activity | None, *, at: int | None
    ) -> Allowed | str:
        """Decide on one turn of *person*, or say why not: a reason of the policy, or one of this module.

        ``at``: the instant of the export (ms), by which a turn is old enough; None: how old it is does not matter.
        """
        now = self._clock()
        received_at = kept.facts.received_at
        if person.facts is None or activity is None:
            return person.fault or LEDGER
        if self._is_erased(person, received_at):
            return ERASED
        if abs(kept.stored.ttl_expires_at - kept.annotation.expires_at) > _TOLERANCE_MS:
            return TTL_DIFFERS
        if at is not None and received_at + self._min_age_ms > at:
            return COOLING_OFF
        try:
            policy = await self._policies.get(kept.note.policy)
        except UndecryptableError:
            return NOT_AUTHENTIC
        turn = kept.to_decide(person.facts, activity.times(kept.facts.conversation_tag))
        why = NO_GROUND
        groups: list[GroupNote] = []
        reason, until = "", 0
        for group in kept.note.groups:
            if group.part not in _TYPED:
                continue
            decision = decide_again(group, turn, policy=policy, person=person.facts, now=now)
            ground = GROUNDS[self.purpose]
            ends_at = decision.grounds.get(ground, 0)
            if not getattr(decision, f"eligible_{self.purpose}") or ends_at <= now:
                is_about_consent = self.purpose == "capability"
                why = str(decision.reason) if is_about_consent else NO_GROUND
            elif person.facts.are_choices_unread:
                why = UNREAD
            elif (
                not getattr(group.eligible, self.purpose)
                or group.grounds.get(ground, 0) <= now
                or group.expires_at <= now
            ):
                why = BEHIND
            else:
                groups.append(group)
                reason = str(decision.reason if self.purpose == "capability" else ground)
                until = max(until, min(ends_at, group.grounds[ground]))
        if not groups:
            return "UNPARSED" if not kept.note.parsed else why
        receipt = self._receipt(kept, person.facts, reason) if self.purpose == "capability" else None
        return Allowed(kept, tuple(groups), reason, until, receipt)

    async def activity(self, person: Person) -> Activity | None:
        """Learn when a person's conversations were taken up; None where the ledger cannot be believed."""
        if person.facts is None:
            return None
        activity = Activity(person.facts)
        async for stored in self._store.annotations(person.subject):
            if (kept := self.read(stored)) is not None:
                activity.learn(kept.facts.conversation_tag, kept.facts.received_at)
        return activity

    async def judge_turn(
        self, turn: TurnId, person: Person, activity: Activity | None, *, at: int | None
    ) -> Allowed | str:
        """Decide on a turn by its name, as ``judge``. Raises StoreUnavailableError."""
        stored = await self._store.turn(person.subject, turn)
        if stored is None or stored.turn != turn:
            return GONE
        kept = self.read(stored)
        return NOT_AUTHENTIC if kept is None else await self.judge(kept, person, activity, at=at)

    def _is_erased(self, person: Person, received_at: int) -> bool:
        return person.state.is_fenced(received_at) or any(
            stone.kind == ERASED and received_at <= stone.at for stone in self._stones.get(person.subject, ())
        )

    def _receipt(self, kept: Kept, person: PersonFacts, reason: str) -> str | None:
        """Return the receipt of the last yes that the decision can rest on."""
        conversation = kept.facts.conversation_tag if reason == Reason.ELIGIBLE_CONV_SHARE else None
        for event in reversed(person.events):
            if (
                isinstance(event, ConsentEvent)
                and event.conversation == conversation
                and event.choice is not None
                and event.choice.permits
            ):
                return event.receipt_id
        return None
