"""What does a person's ledger come to? The events of one person, as facts about each of their turns.

1. A choice about the account goes to the engine as it is; one about a conversation is what the engine calls an
   override: a yes shares it, a no excludes it, a withdrawal of either leaves it to the account (R17).
2. A share that is repeated is one share, from its first time on, unless a decision has ended it in between.
3. Deleting the account is a choice too: it ends every consent, for what is said before and after it (R23).
4. Of several events of one kind the first that is not older than the turn counts: the first deletion (R22), the
   first feedback that keeps it (R14), the first hold that stands (R24). So what a later event says can never be what
   keeps a turn that would have gone before.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from chatproxy.consent.events import (
    CAPABILITY,
    SURFACES,
    UNDECIDED,
    Choice,
    ConsentEvent,
    FactEvent,
    FactKind,
    LedgerEvent,
)
from chatproxy.model import ConversationTag, Surface, TurnId
from chatproxy.policy.choices import Choices, Grant, read_choices
from chatproxy.policy.facts import Override
from chatproxy.policy.instants import parse_instant
from chatproxy.policy.versions import DatedChoice, PolicyVersion, with_superseded

_KEEPING_FEEDBACK = frozenset({"thumbs", "bug", "feedback", "share"})
"""These keep a conversation for their own purpose for long; ``session_share`` for short, ``rating_only`` not (R15)."""
_AGREED = frozenset({str(Choice.GIVEN), str(Choice.RENEWED)})
_NOT_REVOKING = frozenset({None, *map(str, UNDECIDED), str(Choice.GIVEN), str(Choice.RENEWED)})


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEvents:
    """What has happened to one turn, beside the choices about the account. Instants are ms."""

    override: Override = Override.INHERIT
    override_at: int | None = None
    deleted_at: int | None = None
    account_deleted_at: int | None = None
    flagged_at: int | None = None
    feedback: tuple[int, str] | None = None
    hold_at: int | None = None
    hold_review_at: int | None = None
    """When the holds that stand are to be looked at again: until then what they hold is sealed."""
    is_minor: bool = False


@dataclass(slots=True)
class _Conversation:
    """What has happened to one conversation, while its events are read."""

    override: Override = Override.INHERIT
    override_at: int | None = None
    is_share_ended: bool = False
    """Whether a decision about the account has ended the share, so that another one begins anew."""
    deleted_at: list[int] = field(default_factory=list)
    feedback: list[tuple[int, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold that stands (R24). Instants are ms."""

    case: str = field(repr=False)
    authority: str = field(repr=False)
    placed_at: int
    review_at: int
    conversation: ConversationTag | None


class PersonFacts:
    """The ledger of one person, read once."""

    def __init__(self, events: Sequence[LedgerEvent], versions: Sequence[PolicyVersion] = ()) -> None:
        """``events``: oldest first, as ``read_ledger`` gives them. ``versions``: of the policy people choose about."""
        self.events = tuple(events)
        self._last_at = max((event.at for event in self.events), default=0)
        self._versions = tuple(versions)
        self._choices: dict[Surface, Choices] = {}
        self._conversations: defaultdict[ConversationTag, _Conversation] = defaultdict(_Conversation)
        self._flagged: dict[TurnId, int] = {}
        self._holds: dict[tuple[str, ConversationTag | None], Hold] = {}
        self._account_deleted_at: list[int] = []
        self._is_minor = False
        self._agreed: set[Surface] = set()
        """Where a yes about the account stands, while the events are read."""
        self.are_choices_unread = False
        """Whether the choices are as they were when the consent service last answered, and it has failed since."""
        for event in self.events:
            if isinstance(event, FactEvent):
                self._learn(event)
            else:
                self._learn_choice(event)

    @property
    def last_digest(self) -> str | None:
        """Return the hash of the last event, by which a decision says what it has seen."""
        return self.events[-1].digest if self.events else None

    @cached_property
    def has_overrides(self) -> bool:
        """Whether a conversation is shared or excluded."""
        return any(own.override is not Override.INHERIT for own in self._conversations.values())

    @property
    def is_minor(self) -> bool:
        """Whether the person was found to be a minor (R5)."""
        return self._is_minor

    @property
    def has_holds(self) -> bool:
        """Whether a legal hold stands."""
        return bool(self._holds)

    @property
    def holds(self) -> tuple[Hold, ...]:
        """Return the legal holds that stand."""
        return tuple(self._holds.values())

    @cached_property
    def account_choices(self) -> tuple[ConsentEvent, ...]:
        """Return the choices about the account, oldest first."""
        return tuple(
            event for event in self.events if isinstance(event, ConsentEvent) and event.conversation is None
        )

    def choices(self, surface: Surface) -> Choices:
        """Return what the engine reads: (instant, word) of each choice about the account that is about *surface*.

        A yes counts only for the surfaces and purposes it names, and ends a yes that stands for a surface that it leaves
        out, so a narrower yes never leaves a wider one in force; anything else counts for every surface (R35). A deleted
        account ends what was agreed to for it, also for turns that come after (R23).
        """
        found = self._choices.get(surface)
        if found is None:
            dated: list[DatedChoice] = []
            is_agreed = False
            for event in self.events:
                if isinstance(event, FactEvent):
                    if event.kind is FactKind.ACCOUNT_DELETED:
                        dated.append(DatedChoice(event.at, "terminated", event.at))
                        is_agreed = False
                elif event.conversation is None:
                    word = _word(event, surface)
                    if word is None and is_agreed:
                        word = str(Choice.WITHDRAWN)
                    if word is not None:
                        dated.append(DatedChoice(event.at, word, self.chosen_about(event)))
                        is_agreed = word in _AGREED if word not in UNDECIDED else is_agreed
            dated.sort(key=lambda choice: choice.at)
            found = self._choices[surface] = Choices(with_superseded(dated, self._versions))
        return found

    def chosen_about(self, event: ConsentEvent) -> int:
        """Return since when the version holds that a choice was made about, ms.

        A version that is known by name counts as it is dated now: it may have been put off since. A choice that names
        none was made about what was in force.
        """
        for version in self._versions:
            if version.version == event.policy_version:
                return version.effective_at
        return event.at if event.policy_effective_at is None else event.policy_effective_at

    def grants(self, surface: Surface) -> tuple[Grant, ...]:
        """Return what each yes for *surface* covers, oldest first, as far as is recorded."""
        return read_choices(self.choices(surface)).grants

    def open_grant_since(self, surface: Surface) -> int | None:
        """Return since when a yes stands for *surface*; None if none does."""
        last = next(reversed(self.grants(surface)), None)
        return last.starts_at if last is not None and last.covers_until is None else None

    def changes_after(self, now: int) -> int | None:
        """Return when (ms) the first event dated after *now* will count: one of a node whose clock is ahead."""
        if self._last_at <= now:
            return None
        return min(event.at for event in self.events if event.at > now)

    def about(
        self, conversation: ConversationTag | None, turn: TurnId | None, *, received_at: int
    ) -> TurnEvents:
        """Return what has happened to a turn that was received at *received_at* (ms)."""
        if not (self._conversations or self._flagged or self._holds or self._account_deleted_at):
            return _NOTHING if not self._is_minor else replace(_NOTHING, is_minor=True)
        own = (conversation and self._conversations.get(conversation)) or _Conversation()
        holds = [
            hold
            for hold in self._holds.values()
            if hold.conversation in {None, conversation} and hold.placed_at >= received_at
        ]
        return TurnEvents(
            override=own.override,
            override_at=own.override_at,
            deleted_at=_first(own.deleted_at, received_at),
            account_deleted_at=_first(self._account_deleted_at, received_at),
            flagged_at=self._flagged.get(turn) if turn else None,
            feedback=_feedback(own.feedback, received_at),
            hold_at=min((hold.placed_at for hold in holds), default=None),
            hold_review_at=max((hold.review_at for hold in holds), default=None),
            is_minor=self._is_minor,
        )

    @cached_property
    def without_choices(self) -> "PersonFacts":
        """The same without any choice, for a conversation of nobody: nobody can agree to anything."""
        return PersonFacts([event for event in self.events if isinstance(event, FactEvent)])

    @cached_property
    def without_permissions(self) -> "PersonFacts":
        """The same person as if they had never said yes to anything."""
        return PersonFacts(
            [
                event
                for event in self.events
                if isinstance(event, FactEvent) or event.choice is None or not event.choice.permits
            ],
            self._versions,
        )

    def _learn_choice(self, event: ConsentEvent) -> None:
        if event.conversation is None:
            words = {surface: _word(event, surface) for surface in SURFACES}
            left_out = {surface for surface in self._agreed if words[surface] is None}
            if left_out or _NOT_REVOKING.isdisjoint(words.values()):
                self._end_shares()
            if not UNDECIDED.issuperset(words.values()):
                self._agreed = {surface for surface, word in words.items() if word in _AGREED}
            return
        own = self._conversations[event.conversation]
        if event.choice is not None and event.choice.permits and event.purposes.get(CAPABILITY):
            if own.override is not Override.SHARE or own.is_share_ended:
                own.override, own.override_at, own.is_share_ended = Override.SHARE, event.at, False
        elif event.choice is Choice.WITHDRAWN:
            own.override, own.override_at = Override.INHERIT, None
        elif event.choice not in UNDECIDED:
            own.override, own.override_at = Override.EXCLUDE, event.at

    def _end_shares(self) -> None:
        for own in self._conversations.values():
            own.is_share_ended = True

    def _learn(self, event: FactEvent) -> None:
        scope = event.scope
        match event.kind:
            case FactKind.CONVERSATION_DELETED if scope.conversation is not None:
                self._conversations[scope.conversation].deleted_at.append(event.at)
            case FactKind.ACCOUNT_DELETED:
                self._account_deleted_at.append(event.at)
                self._agreed = set()
                self._end_shares()
            case FactKind.FLAGGED if scope.turn is not None:
                self._flagged.setdefault(scope.turn, event.at)
            case FactKind.FLAG_LIFTED if scope.turn is not None:
                self._flagged.pop(scope.turn, None)
            case FactKind.FEEDBACK_GIVEN if scope.conversation is not None:
                self._conversations[scope.conversation].feedback.append((event.at, event.details["kind"]))
            case FactKind.FEEDBACK_WITHDRAWN if scope.conversation is not None:
                self._conversations[scope.conversation].feedback.clear()
            case FactKind.HOLD_PLACED:
                self._place_hold(event.at, scope.conversation, event.details)
            case FactKind.HOLD_RELEASED:
                self._holds.pop((event.details["case"], scope.conversation), None)
            case FactKind.MINOR_FOUND:
                self._is_minor = True
            case FactKind.CHOICES_UNREAD | FactKind.CHOICES_READ:
                self.are_choices_unread = event.kind is FactKind.CHOICES_UNREAD
            case _:
                pass

    def _place_hold(self, at: int, conversation: ConversationTag | None, details: Mapping[str, Any]) -> None:
        """A hold that is placed again under the same case stands since its first time, to be reviewed later."""
        name = (details["case"], conversation)
        known = self._holds.get(name)
        placed_at = known.placed_at if known else at
        review_at = parse_instant(details["review_at"])
        self._holds[name] = Hold(
            details["case"], details.get("authority", ""), placed_at, review_at, conversation
        )


_NOTHING = TurnEvents()


def _word(event: ConsentEvent, surface: Surface) -> str | None:
    """Return what the engine reads in a choice about the account; None: it is not about *surface*."""
    if event.choice is None:
        return "unrecognised"
    if not event.choice.permits:
        return str(event.choice)
    if surface not in event.surfaces:
        return None
    return str(event.choice if event.purposes.get(CAPABILITY) else Choice.REFUSED)


def _first(instants: Iterable[int], received_at: int) -> int | None:
    return min((at for at in instants if at >= received_at), default=None)


def _feedback(given: Sequence[tuple[int, str]], received_at: int) -> tuple[int, str] | None:
    """Return the feedback that keeps a turn: the first of a kind that keeps for long, else the first there is."""
    after = sorted(feedback for feedback in given if feedback[0] >= received_at)
    keeping = (feedback for feedback in after if feedback[1] in _KEEPING_FEEDBACK)
    return next(keeping, next(iter(after), None))
