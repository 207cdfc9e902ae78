"""The forms of what both APIs take and give. Instants are RFC 3339 in UTC; what is not known here is refused."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from chatproxy.consent.due import ChoiceDue, DueState
from chatproxy.consent.events import Choice, ConsentEvent
from chatproxy.policy.facts import Override
from chatproxy.policy.instants import format_instant
from chatproxy.web.api.paging import page_of
from chatproxy.workflows.happenings import FeedbackKind
from chatproxy.workflows.person_history import HistoryEntry
from chatproxy.workflows.person_preview import Previews
from chatproxy.workflows.person_views import ConversationView, Deletion, Standing, StayingCopy
from chatproxy.workflows.recall import WasUsed


class Answer(StrEnum):
    """What a person can say."""

    YES = "yes"
    NO = "no"
    LATER = "later"

    @property
    def choice(self) -> Choice:
        """Return the word of the policy."""
        return _CHOICES[self]


_CHOICES = {Answer.YES: Choice.GIVEN, Answer.NO: Choice.REFUSED, Answer.LATER: Choice.DEFERRED}


class Purpose(StrEnum):
    """What a yes can be about."""

    CAPABILITY = "train.capability"
    SAFETY = "train.safety"


class ChosenSurface(StrEnum):
    """Where a yes can hold."""

    CHAT = "chat"
    CODE = "code"


class Screen(StrEnum):
    """Where people are asked, as a consent record names it."""

    SIGNUP = "signup"
    POPUP = "popup"
    SETTINGS = "settings"
    PAGE = "page"
    API = "api"


_END = r"$(?!\n)"
"""In Python ``$`` matches before a last line end, too."""
Label = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}" + _END)]
Language = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{2,35}" + _END)]
"""BCP 47."""
Digest = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}" + _END)]
"""SHA-256."""
Purposes = Annotated[tuple[Purpose, ...], msgspec.Meta(min_length=1)]
Surfaces = Annotated[tuple[ChosenSurface, ...], msgspec.Meta(min_length=1)]


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the person is to be asked."""

    state: DueState
    may_defer: bool
    """Whether "later" is an answer."""
    version: str | None
    """The version of the policy that is to be shown."""


class ChoiceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The choice about the account as it stands."""

    choice: Answer | None
    """None: there is none on record, which counts as no."""
    state: Choice | None
    """The same in the words of the policy."""
    since: str | None
    purposes: dict[str, bool]
    surfaces: tuple[str, ...]
    policy_version: str | None
    receipt_id: str | None
    due: Due


class RecordedChoice(msgspec.Struct, frozen=True, kw_only=True):
    """A choice that was recorded."""

    state: Choice | None
    at: str
    purposes: dict[str, bool]
    surfaces: tuple[str, ...]
    policy_version: str | None
    receipt_id: str


class HistoryItem(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person chose or did."""

    at: str
    kind: str
    state: Choice | None
    by: str
    method: str
    conversation: str | None
    policy_version: str | None
    purposes: dict[str, bool]
    surfaces: tuple[str, ...]
    receipt_id: str | None
    feedback: str | None


class History(msgspec.Struct, frozen=True):
    """Newest first."""

    entries: tuple[HistoryItem, ...]
    next: str | None
    """The cursor to those before; null: there are none."""


class Copy(msgspec.Struct, frozen=True, kw_only=True):
    """What keeps something of a conversation although it is deleted."""

    ground: str
    until: str


class Conversation(msgspec.Struct, frozen=True, kw_only=True):
    """One conversation, without what was said."""

    handle: str
    started_at: str
    last_at: str
    turns: int
    expires_at: str
    eligible: bool
    reason: str
    also: tuple[str, ...]
    override: Override
    is_deleted: bool
    model: str | None
    feedback: str | None
    stays: tuple[Copy, ...]


class Conversations(msgspec.Struct, frozen=True):
    """Newest first."""

    conversations: tuple[Conversation, ...]
    next: str | None
    """The cursor to those before; null: there are none."""


class UseRecall(msgspec.Struct, frozen=True, kw_only=True):
    """What of one conversation may not be used any more in one dataset, and is to be taken out."""

    turns: int
    at: str
    """When the first of it was recalled."""
    acknowledged_at: str | None
    """When whoever has the dataset said that the last of it is out; null: not of all yet."""


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """Turns of one conversation that went into one dataset."""

    conversation: str
    """Its handle."""
    dataset: str
    at: str
    """As of when the dataset was made."""
    purpose: str
    """``capability``, ``safety`` or ``feedback``."""
    consumer: str
    """Whom it was made for."""
    turns: int
    recall: UseRecall | None
    """Null: nothing of it is recalled."""


class Uses(msgspec.Struct, frozen=True):
    """All of them, oldest first."""

    uses: tuple[Use, ...]


class Deleted(msgspec.Struct, frozen=True, kw_only=True):
    """What a deletion came to: what stays, why and until when."""

    deleted_at: str
    erased_by: str
    stays: tuple[Copy, ...]


class GivenFeedback(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Feedback on a conversation."""

    kind: FeedbackKind
    confirmed: bool = False
    """The person knows that it keeps an incognito conversation."""


class FeedbackAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The conversation after its feedback was given or taken back."""

    conversation: Conversation | None
    """None: nothing else kept it."""


class PreviewOfConversation(msgspec.Struct, frozen=True, kw_only=True):
    """What a yes or a no would do to one conversation. No expiry: it would be gone at once."""

    handle: str
    started_at: str
    now_expires_at: str
    now_eligible: bool
    if_yes_expires_at: str | None
    if_yes_eligible: bool
    if_continued_expires_at: str | None
    """After a yes, and taken up again."""
    if_continued_eligible: bool
    if_no_expires_at: str | None


class PreviewOfNext(msgspec.Struct, frozen=True, kw_only=True):
    """What a yes or a no would mean for what is said from now on. No expiry: it is not kept."""

    if_yes_expires_at: str | None
    if_yes_eligible: bool
    if_no_expires_at: str | None


class PreviewTotals(msgspec.Struct, frozen=True, kw_only=True):
    """How many conversations."""

    conversations: int
    eligible_now: int
    eligible_if_yes: int
    eligible_if_continued: int
    shorter_if_no: int
    gone_if_no: int


class PreviewAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What a yes or a no would do, as the policy computes it. Nothing is written."""

    next_turn: PreviewOfNext
    totals: PreviewTotals
    conversations: tuple[PreviewOfConversation, ...]


def choice_answer(standing: Standing) -> ChoiceAnswer:
    """Return the choice that stands."""
    state = standing.choice
    answer = None
    if state is Choice.DEFERRED:
        answer = Answer.LATER
    elif state is not None and state is not Choice.REQUESTED:
        answer = Answer.YES if state.permits else Answer.NO
    return ChoiceAnswer(
        choice=answer,
        state=state,
        since=_instant(standing.since),
        purposes=dict(standing.purposes),
        surfaces=standing.surfaces,
        policy_version=standing.policy_version,
        receipt_id=standing.receipt_id,
        due=due_answer(standing.due),
    )


def due_answer(due: ChoiceDue) -> Due:
    """Return whether the person is to be asked."""
    return Due(state=due.state, may_defer=due.may_defer, version=due.version.version if due.version else None)


def recorded(event: ConsentEvent) -> RecordedChoice:
    """Return a choice that was recorded."""
    return RecordedChoice(
        state=event.choice,
        at=format_instant(event.at),
        purposes=event.purposes,
        surfaces=event.surfaces,
        policy_version=event.policy_version,
        receipt_id=event.receipt_id,
    )


def history_of(entries: Sequence[HistoryEntry], query: Mapping[str, str]) -> History:
    """Return the part of a person's history, which is newest first, that *query* asks for. Raises RefusedError."""
    numbered = [(len(entries) - place, entry) for place, entry in enumerate(entries)]
    shown, cursor = page_of(numbered, query, key=lambda each: (each[0], ""))
    return History(
        tuple(
            HistoryItem(
                at=format_instant(entry.at),
                kind=entry.kind,
                state=entry.choice,
                by=entry.by,
                method=entry.method,
                conversation=entry.conversation,
                policy_version=entry.policy_version,
                purposes=dict(entry.purposes),
                surfaces=entry.surfaces,
                receipt_id=entry.receipt_id,
                feedback=entry.feedback,
            )
            for _, entry in shown
        ),
        cursor,
    )


def conversations_of(views: Sequence[ConversationView], query: Mapping[str, str]) -> Conversations:
    """Return the part of a person's conversations that *query* asks for. Raises RefusedError."""
    shown, cursor = page_of(views, query, key=lambda view: (view.last_at, view.handle))
    return Conversations(tuple(map(conversation_of, shown)), cursor)


def conversation_of(view: ConversationView) -> Conversation:
    """Return one conversation."""
    return Conversation(
        handle=view.handle,
        started_at=format_instant(view.started_at),
        last_at=format_instant(view.last_at),
        turns=view.turns,
        expires_at=format_instant(view.expires_at),
        eligible=view.eligible,
        reason=view.reason,
        also=view.also,
        override=view.override,
        is_deleted=view.is_deleted,
        model=view.model,
        feedback=view.feedback,
        stays=_copies(view.stays),
    )


def use_of(handle: str, used: WasUsed) -> Use:
    """Return how one conversation was used in one dataset; *handle*: how it is named to its person."""
    recall = used.recall
    return Use(
        conversation=handle,
        dataset=used.dataset,
        at=format_instant(used.at),
        purpose=used.purpose,
        consumer=used.consumer,
        turns=used.turns,
        recall=None
        if recall is None
        else UseRecall(
            turns=recall.turns,
            at=format_instant(recall.at),
            acknowledged_at=_instant(recall.acknowledged_at),
        ),
    )


def deleted(deletion: Deletion) -> Deleted:
    """Return what a deletion came to."""
    return Deleted(
        deleted_at=format_instant(deletion.deleted_at),
        erased_by=format_instant(deletion.erased_by),
        stays=_copies(deletion.stays),
    )


def preview_of(previews: Previews) -> PreviewAnswer:
    """Return what a choice would do."""
    return PreviewAnswer(
        next_turn=PreviewOfNext(
            if_yes_expires_at=_instant(previews.next_turn.if_yes_expires_at),
            if_yes_eligible=previews.next_turn.if_yes_eligible,
            if_no_expires_at=_instant(previews.next_turn.if_no_expires_at),
        ),
        totals=PreviewTotals(
            conversations=len(previews.conversations),
            eligible_now=previews.eligible_now,
            eligible_if_yes=previews.eligible_if_yes,
            eligible_if_continued=previews.eligible_if_continued,
            shorter_if_no=previews.shorter_if_no,
            gone_if_no=previews.gone_if_no,
        ),
        conversations=tuple(
            PreviewOfConversation(
                handle=each.handle,
                started_at=format_instant(each.started_at),
                now_expires_at=format_instant(each.now_expires_at),
                now_eligible=each.now_eligible,
                if_yes_expires_at=_instant(each.if_yes_expires_at),
                if_yes_eligible=each.if_yes_eligible,
                if_continued_expires_at=_instant(each.if_continued_expires_at),
                if_continued_eligible=each.if_continued_eligible,
                if_no_expires_at=_instant(each.if_no_expires_at),
            )
            for each in previews.conversations
        ),
    )


ReceiptFile = dict[str, Any]
"""A receipt, member by member in docs/receipts.md."""


def _copies(stays: Sequence[StayingCopy]) -> tuple[Copy, ...]:
    return tuple(Copy(ground=copy.ground, until=format_instant(copy.until)) for copy in stays)


def _instant(at: int | None) -> str | None:
    return None if at is None else format_instant(at)
