"""What does a decision made now say of a turn that is kept?

1. The turn's own annotation says what it was kept for, the person's ledger what has happened since, and the times of
   the conversation's turns whether it was taken up under a yes (R12). Nothing else is asked.
2. Downgrades happen by themselves. An upgrade needs a cause of its own: the conversation was shared, taken up or
   included again, or the choice could not be read when the turn was kept (R31). A yes that is recorded with an
   earlier time than the turn it would cover is none.
3. What is kept only for safety, for feedback or by a hold is not brought back to training.
4. Until a turn is sealed anew, it is shown as decided now, as far as that takes away: what a decision would bring in counts
   once it is noted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.annotation import Annotation, AnnotationKeys, verify
from chatproxy.model import ConversationTag, Surface, TurnId
from chatproxy.policy.choices import Grant
from chatproxy.policy.engine import Decision
from chatproxy.policy.facts import Lookup
from chatproxy.policy.grounds import RESUMABLE, TRAINING, Ground
from chatproxy.policy.reasons import Reason
from chatproxy.ports import StoredTurn
from chatproxy.workflows.annotate import Eligible, GroupNote, TurnFacts, TurnNote, read, shown_reason
from chatproxy.workflows.decide import Policy, TurnToDecide

_EXCUSES = frozenset({Reason.CONSENT_LOOKUP_FAILED, Reason.CONSENT_CACHE_STALE, Reason.CONV_EXCLUDED})
"""Reasons of a turn that is not eligible, which may turn out otherwise under a consent that covers it (R31)."""

_UNREAD: Mapping[str, Lookup] = {
    Reason.CONSENT_LOOKUP_FAILED: Lookup.FAILED,
    Reason.CONSENT_CACHE_STALE: Lookup.STALE,
}


@dataclass(frozen=True, slots=True)
class Kept:
    """A turn as its authentic annotation has it."""

    stored: StoredTurn
    annotation: Annotation
    facts: TurnFacts
    note: TurnNote

    @classmethod
    def of(cls, stored: StoredTurn, keys: AnnotationKeys) -> "Kept":
        """Authenticate and read what the store has. Raises UndecryptableError."""
        annotation = verify(stored.annotation, keys=keys, subject=stored.subject, turn=stored.turn)
        return cls(stored, annotation, *read(annotation))

    @property
    def as_noted(self) -> TurnToDecide:
        """What the decision was made on that the note tells of."""
        return turn_as_noted(self.facts, self.note, self.stored.turn)

    def to_decide(self, person: PersonFacts, times: Iterable[int]) -> TurnToDecide:
        """Return what is decided on; *times* as for ``turn_to_decide``."""
        return turn_to_decide(self.facts, self.note, self.stored.turn, person=person, times=times)


def turn_to_decide(
    facts: TurnFacts, note: TurnNote, turn: TurnId, *, person: PersonFacts, times: Iterable[int]
) -> TurnToDecide:
    """Return what is decided on; *times*: when the turns of its conversation were received, as for ``taken_up``."""
    activity = taken_up(person.grants(note.surface), [*note.activity, *times], received_at=facts.received_at)
    return replace(turn_as_noted(facts, note, turn), activity=activity)


def turn_as_noted(facts: TurnFacts, note: TurnNote, turn: TurnId) -> TurnToDecide:
    """Return what the decision was made on that the note tells of."""
    return TurnToDecide(
        caller=note.caller,
        received_at=facts.received_at,
        conversation=facts.conversation_tag,
        turn=turn,
        activity=note.activity,
        is_nobodys=note.nobody,
        tried_again_at=note.tried_again_at,
    )


def taken_up(grants: Iterable[Grant], times: Iterable[int], *, received_at: int) -> tuple[int, ...]:
    """Return when a conversation was first taken up under each grant that is younger than a turn (R12), ascending.

    *times* (ms) are those of the conversation's turns, in any order, as far as they are or were kept.
    """
    known = tuple(times)
    younger = (grant for grant in grants if grant.starts_at > received_at)
    found = (min((at for at in known if grant.covers(at)), default=None) for grant in younger)
    return tuple(sorted(at for at in found if at is not None))


class Activity:
    """When each conversation of a person was first taken up under each of their grants: all that R12 asks of times."""

    def __init__(self, person: PersonFacts) -> None:
        self._grants = {grant for surface in Surface for grant in person.grants(surface)}
        self._first: dict[ConversationTag, dict[Grant, int]] = {}

    @property
    def matters(self) -> bool:
        """Whether there is a grant at all."""
        return bool(self._grants)

    def learn(self, conversation: ConversationTag, at: int) -> None:
        """Take in that a turn of *conversation* was received at *at* (ms)."""
        for grant in self._grants:
            if grant.covers(at):
                first = self._first.setdefault(conversation, {})
                first[grant] = min(at, first.get(grant, at))

    def times(self, conversation: ConversationTag) -> Iterable[int]:
        """Return the times that matter of one conversation."""
        return self._first.get(conversation, {}).values()


def decide_again(
    before: GroupNote, turn: TurnToDecide, *, policy: Policy, person: PersonFacts, now: int
) -> Decision:
    """Decide on one group of a kept turn as of *now* (ms)."""
    decision = _decide_as_read(before, turn, policy=policy, person=person, now=now)
    grants = person.grants(turn.caller.surface)
    if not is_unfounded_upgrade(before, decision, grants=grants, received_at=turn.received_at, now=now):
        return decision
    return policy.decide_part(turn, part=before.part, now=now, person=person.without_permissions)


def _decide_as_read(
    before: GroupNote, turn: TurnToDecide, *, policy: Policy, person: PersonFacts, now: int
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


def is_unfounded_upgrade(
    before: GroupNote, decision: Decision, *, grants: Iterable[Grant], received_at: int, now: int
) -> bool:
    """Whether training would gain what it had not, with nothing of R31 to bring it in; *grants* of the turn's surface.

    Then the decision is to be made as if the person had never said yes.
    """
    gains = any(decision.grounds.get(ground, 0) > now for ground in TRAINING)
    if not gains or not TRAINING.isdisjoint(before.grounds):
        return False
    if not any(before.grounds.get(ground, 0) > now for ground in RESUMABLE):
        return True
    if before.reason in _EXCUSES or decision.reason is Reason.ELIGIBLE_CONV_SHARE:
        return False
    # Not covered when it was received means that a later event has brought it in: a share, or a taking up.
    return any(grant.covers(received_at) for grant in grants)


def as_it_stands(
    before: GroupNote, turn: TurnToDecide, *, policy: Policy, person: PersonFacts | None, now: int
) -> GroupNote | None:
    """Return *before* as a decision made at *now* (ms) has it, with nothing added; None: nothing keeps the group any more.

    ``person`` None: the ledger cannot be read, so nothing is granted, and nothing erased. A gain that is not noted yet keeps
    the reason that is: the two would not fit.
    """
    if person is None:
        unread = policy.decide_part(turn, part=before.part, now=now, person=None)
        reason = shown_reason(before.part, unread.reason) if before.eligible.capability else before.reason
        return replace(before, eligible=Eligible(), reason=reason)
    decision = decide_again(before, turn, policy=policy, person=person, now=now)
    if not decision.stored:
        return None
    gains = decision.eligible_capability and not before.eligible.capability
    return replace(
        before,
        grounds=_left_of(before.grounds, decision),
        eligible=Eligible(
            before.eligible.capability and decision.eligible_capability,
            before.eligible.safety and decision.eligible_safety,
            before.eligible.feedback and decision.eligible_feedback,
        ),
        reason=before.reason if gains else shown_reason(before.part, decision.reason),
        also=tuple(str(code) for code in decision.also if code in before.also or code is Reason.LEGAL_HOLD),
    )


def _left_of(noted: Mapping[str, int], decision: Decision) -> dict[str, int]:
    """Return the grounds of *decision* that are noted, none for longer; a residue is what is left of a training ground."""
    known = dict(noted)
    if Ground.TRAIN in known:
        known.setdefault(Ground.TRAIN_RESIDUE, known[Ground.TRAIN])
    return {
        str(ground): min(end, known[ground]) for ground, end in decision.grounds.items() if ground in known
    }
