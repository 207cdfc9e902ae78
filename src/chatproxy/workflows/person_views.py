"""How does what is kept of a person look to them? Without what was said. Instants are ms."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from chatproxy.consent.due import ChoiceDue, DueState
from chatproxy.consent.events import UNDECIDED, Choice
from chatproxy.consent.person import PersonFacts
from chatproxy.model import ConversationTag, Surface
from chatproxy.policy.choices import read_choices
from chatproxy.policy.facts import Override
from chatproxy.policy.grounds import ENDED_BY_DELETION
from chatproxy.policy.reasons import Reason
from chatproxy.workflows.annotate import GroupNote
from chatproxy.workflows.decide import public_reason
from chatproxy.workflows.transcripts import KeptTurn


@dataclass(frozen=True, slots=True)
class Standing:
    """The choice about the account as it stands. ``since`` in ms."""

    choice: Choice | None
    """None: none was ever made, or it is none that this version knows; it permits nothing."""
    since: int | None
    policy_version: str | None
    receipt_id: str | None
    purposes: Mapping[str, bool] = field(default_factory=dict)
    surfaces: tuple[str, ...] = ()
    due: ChoiceDue = ChoiceDue(state=DueState.SETTLED)  # noqa: RUF009 - a constant
    """Whether the person is to be asked."""

    @property
    def has_yes(self) -> bool:
        """Whether a yes stands."""
        return self.choice is not None and self.choice.permits

    @property
    def no(self) -> Choice:
        """What a no is beside it."""
        return Choice.WITHDRAWN if self.has_yes else Choice.REFUSED


@dataclass(frozen=True, slots=True)
class StayingCopy:
    """A ground that keeps something of a conversation after it is deleted (R22), and until when (ms)."""

    ground: str
    until: int


@dataclass(frozen=True, slots=True)
class ConversationView:
    """One conversation as its person sees it. Instants are ms."""

    handle: str
    started_at: int
    last_at: int
    turns: int
    expires_at: int
    """When the last of it is gone."""
    eligible: bool
    """Whether any part of it may be used for training."""
    reason: str
    also: tuple[str, ...]
    override: Override
    is_deleted: bool
    model: str | None
    feedback: str | None = None
    """The kind that was given."""
    stays: tuple[StayingCopy, ...] = ()
    """Where it is deleted: what the deletion does not end."""


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a deletion came to. Instants are ms."""

    deleted_at: int
    erased_by: int
    """When the last of what the deletion ends is gone, at the latest."""
    stays: tuple[StayingCopy, ...]
    """What it does not end, and until when."""


def standing_of(person: PersonFacts) -> Standing:
    """Return the choice that stands. What was put off counts only while nothing was decided (R8)."""
    choices = person.account_choices
    decided = [event for event in choices if event.choice not in UNDECIDED]
    if not choices:
        return Standing(None, None, None, None)
    event = (decided or choices)[-1]
    return Standing(
        event.choice, event.at, event.policy_version, event.receipt_id, event.purposes, event.surfaces
    )


def view_of(
    tag: ConversationTag, turns: Sequence[KeptTurn], person: PersonFacts, *, handle: str
) -> ConversationView:
    """Return how a conversation looks.

    What was said after a deletion is a conversation that goes on; else what is left of it is shown.
    """
    alive = [turn for turn in turns if not turn.is_deleted]
    shown = sorted(alive or turns, key=lambda turn: turn.facts.received_at)
    groups = [group for turn in shown for group in turn.groups]
    eligible = next((group for group in groups if group.eligible.capability), None)
    return ConversationView(
        handle=handle,
        started_at=shown[0].facts.received_at,
        last_at=shown[-1].facts.received_at,
        turns=len(shown),
        expires_at=max(group.kept_until for group in groups),
        eligible=eligible is not None,
        reason=_public(eligible.reason if eligible else shown[-1].groups[0].reason)
        if alive
        else _end(person, shown[-1]),
        also=tuple(dict.fromkeys(also for group in groups for also in group.also)),
        override=_override(person, tag, shown[-1].note.surface),
        is_deleted=not alive,
        model=shown[-1].facts.model,
        feedback=feedback_of(person, tag, shown),
        stays=() if alive else _staying(groups),
    )


def _override(person: PersonFacts, tag: ConversationTag, surface: Surface) -> Override:
    """Return what is set for a conversation, as it stands: a share that a later decision has ended is none (R17)."""
    own = person.about(tag, None, received_at=0)
    if own.override is Override.SHARE and read_choices(person.choices(surface)).revoked_from(own.override_at):
        return Override.INHERIT
    return own.override


def _end(person: PersonFacts, turn: KeptTurn) -> str:
    """Return which deletion ended the conversation of *turn*, at once, whatever its annotation says yet."""
    events = person.about(turn.facts.conversation_tag, turn.turn, received_at=turn.facts.received_at)
    return str(Reason.DELETED if events.account_deleted_at is None else Reason.ACCOUNT_DELETED)


def _public(reason: str) -> str:
    return public_reason(Reason(reason)) if reason in set(Reason) else reason


def feedback_of(person: PersonFacts, tag: ConversationTag, turns: Iterable[KeptTurn]) -> str | None:
    """Return the kind of feedback that was given on any of the turns."""
    given = (person.about(tag, turn.turn, received_at=turn.facts.received_at).feedback for turn in turns)
    return next((feedback[1] for feedback in given if feedback is not None), None)


def _staying(groups: Iterable[GroupNote]) -> tuple[StayingCopy, ...]:
    ends: dict[str, int] = {}
    for group in groups:
        for ground, end in group.grounds.items():
            if ground not in ENDED_BY_DELETION:
                ends[ground] = max(end, ends.get(ground, 0))
        if str(Reason.LEGAL_HOLD) in group.also:
            ends[str(Reason.LEGAL_HOLD)] = max(group.expires_at, ends.get(str(Reason.LEGAL_HOLD), 0))
    return tuple(StayingCopy(ground, until) for ground, until in sorted(ends.items()))


def deletion_of(deleted_at: int, groups: Sequence[GroupNote]) -> Deletion:
    """Return what a deletion at *deleted_at* (ms) comes to, of what is kept then."""
    ended = (end for group in groups for ground, end in group.grounds.items() if ground in ENDED_BY_DELETION)
    return Deletion(deleted_at, max(ended, default=deleted_at), _staying(groups))
