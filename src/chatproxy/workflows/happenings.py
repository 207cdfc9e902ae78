"""Something happens to what is kept of a person, beside their choice about the account: say so in their ledger.

Commands and APIs call the same verbs. Each one

1. sees that what it is about is there: an authentic annotation names it. An unknown turn or conversation and that of
   somebody else are not told apart;
2. writes to the audit log first. What the person does themselves is done even where that fails: their own ledger is
   the proof of it, and who deletes must not wait for a disk of ours;
3. appends one event, from which on the turns concerned are decided again, on every node.

What is so already (a flag that is set, a minor who is known) is not written again. Choices, feedback and deletions
are: a turn that is under way meanwhile must be reached too.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from chatproxy.clock import Clock
from chatproxy.consent.events import (
    ACCOUNT,
    SURFACES,
    Choice,
    Circumstances,
    ConsentEvent,
    FactEvent,
    FactKind,
    Scope,
    read_ledger,
)
from chatproxy.consent.person import Hold, PersonFacts
from chatproxy.crypto.annotation import AnnotationKeys
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.errors import (
    AuditUnavailableError,
    ConfirmationNeededError,
    ConflictError,
    NotFoundError,
    UndecryptableError,
)
from chatproxy.model import ConversationTag, SubjectTag, TurnId
from chatproxy.policy.instants import format_instant
from chatproxy.ports import AuditLog, StoredTurn, TranscriptStore
from chatproxy.telemetry import Log
from chatproxy.workflows.annotate import TurnFacts, TurnNote
from chatproxy.workflows.ledger import Ledger
from chatproxy.workflows.verdict import Kept

_log = Log("happenings")
_LONGEST_TEXT = 200

NO_TURN = "nothing is held of a turn of that name"
NO_CONVERSATION = "nothing is held of a conversation of that name"
NO_PERSON = "nothing is held of a person of that name"
NO_HOLD = "no legal hold of that case stands there"


class FeedbackKind(StrEnum):
    """What a person may send about a conversation (R14, R15)."""

    THUMBS = "thumbs"
    BUG = "bug"
    FEEDBACK = "feedback"
    SHARE = "share"
    SESSION_SHARE = "session_share"
    RATING_ONLY = "rating_only"
    """Keeps nothing, so it is no event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who says that it happened. ``by`` and ``method`` are words of the ledger, such as ``operator:ops``, ``cli``."""

    by: str
    method: str
    is_the_person: bool = False
    """The data subject, about themselves: it is done though the audit log cannot be written."""


@dataclass(frozen=True, slots=True)
class StandingHold:
    """A legal hold, and of whom."""

    subject: SubjectTag
    hold: Hold


class Happenings:
    """Writes what happens to turns, conversations and people.

    Every verb raises NotFoundError, StoreUnavailableError, UndecryptableError where the ledger is not authentic,
    and, unless the person themselves acts, AuditUnavailableError; None is returned where nothing had to be written.
    """

    def __init__(
        self,
        store: TranscriptStore,
        ledger: Ledger,
        annotation_keys: AnnotationKeys,
        pseudonyms: Pseudonymizer,
        *,
        audit: AuditLog,
        clock: Clock,
        audited_as: str | None = None,
    ) -> None:
        """``audited_as``: who asks, in the audit log, if not who the log takes for that by itself."""
        self._store = store
        self._ledger = ledger
        self._annotation_keys = annotation_keys
        self._pseudonyms = pseudonyms
        self._audit = audit
        self._clock = clock
        self._audited_as = audited_as

    def audited_as(self, name: str) -> "Happenings":
        """Return the same verbs, done by who is called *name* in the audit log."""
        return Happenings(
            self._store,
            self._ledger,
            self._annotation_keys,
            self._pseudonyms,
            audit=self._audit,
            clock=self._clock,
            audited_as=name,
        )

    async def flag(self, subject: SubjectTag, turn: TurnId, *, actor: Actor) -> FactEvent | None:
        """A turn is flagged for safety (R19)."""
        return await self._set_flag(subject, turn, FactKind.FLAGGED, actor)

    async def lift_flag(self, subject: SubjectTag, turn: TurnId, *, actor: Actor) -> FactEvent | None:
        """The flag of a turn was wrong, or its review is done (R19)."""
        return await self._set_flag(subject, turn, FactKind.FLAG_LIFTED, actor)

    async def choose(
        self,
        subject: SubjectTag,
        conversation: ConversationTag,
        choice: Choice,
        *,
        actor: Actor,
        circumstances: Circumstances | None = None,
    ) -> ConsentEvent:
        """The person decides about one conversation (R17).

        ``given`` shares it, ``refused`` excludes it, ``withdrawn`` leaves it to the choice about the account. Raises
        ConflictError for a share where nobody was named.
        """
        turns = await self._conversation(subject, conversation)
        if choice.permits and all(note.nobody for _, note in turns):
            raise ConflictError("nobody was named in this conversation, and nobody can agree to its use")
        await self._told(f"conversation.{choice}", actor, subject, conversation=conversation)
        return await self._ledger.record(
            subject,
            choice,
            at=self._clock(),
            by=actor.by,
            method=actor.method,
            conversation=conversation,
            circumstances=circumstances,
        )

    async def delete_conversation(
        self, subject: SubjectTag, conversation: ConversationTag, *, actor: Actor
    ) -> FactEvent:
        """The person deletes a conversation: what serves them or trains goes in time, of no use meanwhile (R22)."""
        await self._conversation(subject, conversation)
        scope = Scope(conversation)
        return await self._note("conversation.deleted", subject, FactKind.CONVERSATION_DELETED, actor, scope)

    async def give_feedback(
        self,
        subject: SubjectTag,
        conversation: ConversationTag,
        kind: FeedbackKind,
        *,
        actor: Actor,
        is_incognito_confirmed: bool = False,
    ) -> FactEvent | None:
        """The person sends feedback on a conversation (R14, R15).

        Raises ConfirmationNeededError for an incognito conversation, unless the person was told what it means.
        """
        turns = await self._conversation(subject, conversation)
        if kind is FeedbackKind.RATING_ONLY:
            return None
        if any(note.incognito for _, note in turns) and not is_incognito_confirmed:
            raise ConfirmationNeededError(
                "the conversation is incognito: with this feedback it is kept longer, and used. Say that the person "
                "has confirmed this"
            )
        scope = Scope(conversation)
        return await self._note(
            "feedback.given", subject, FactKind.FEEDBACK_GIVEN, actor, scope, {"kind": str(kind)}
        )

    async def withdraw_feedback(
        self, subject: SubjectTag, conversation: ConversationTag, *, actor: Actor
    ) -> FactEvent:
        """All feedback on a conversation is taken back (R14)."""
        await self._conversation(subject, conversation)
        scope = Scope(conversation)
        return await self._note("feedback.withdrawn", subject, FactKind.FEEDBACK_WITHDRAWN, actor, scope)

    async def place_hold(
        self,
        subject: SubjectTag,
        conversation: ConversationTag | None,
        *,
        case: str,
        authority: str,
        review_at: int,
        actor: Actor,
    ) -> FactEvent:
        """Erasure of what is held of a person, or in one conversation, is suspended until *review_at* (ms; R24).

        Placed again under the same case it stands since its first time, with the new review. Raises ValueError, naming
        what is missing.
        """
        for name, text in (("case", case), ("authority", authority)):
            if not text.strip() or len(text) > _LONGEST_TEXT or not text.isprintable():
                raise ValueError(f"the {name} must be 1 to {_LONGEST_TEXT} printable characters")
        if review_at <= self._clock():
            raise ValueError("the review must be in the future")
        if conversation is not None:
            await self._conversation(subject, conversation)
        elif not await self._has_turns(subject):
            raise NotFoundError(NO_PERSON)
        return await self._note(
            "hold.placed",
            subject,
            FactKind.HOLD_PLACED,
            actor,
            Scope(conversation),
            {"case": case, "authority": authority, "review_at": format_instant(review_at)},
        )

    async def release_hold(
        self, subject: SubjectTag, conversation: ConversationTag | None, *, case: str, actor: Actor
    ) -> FactEvent:
        """A legal hold is over: what is overdue goes (R24)."""
        holds = PersonFacts(await self._ledger.history(subject)).holds
        if not any((hold.case, hold.conversation) == (case, conversation) for hold in holds):
            raise NotFoundError(NO_HOLD)
        return await self._note(
            "hold.released", subject, FactKind.HOLD_RELEASED, actor, Scope(conversation), {"case": case}
        )

    async def holds(
        self, subject: SubjectTag | None = None
    ) -> AsyncIterator[StandingHold | UndecryptableError]:
        """Walk the legal holds that stand, of one person or of all; an error for a ledger that is not authentic."""
        if subject is not None:
            for hold in PersonFacts(await self._ledger.history(subject)).holds:
                yield StandingHold(subject, hold)
            return
        async for each in self._store.subjects():
            state = await self._store.subject_state(each)
            try:
                events = read_ledger(state.ledger, subject=each, keys=self._annotation_keys)
            except UndecryptableError as error:
                yield error
                continue
            for hold in PersonFacts(events).holds:
                yield StandingHold(each, hold)

    async def delete_account(
        self, subject: SubjectTag, *, actor: Actor, circumstances: Circumstances | None = None
    ) -> FactEvent:
        """The person deletes their account: all conversations, and what they agreed to ends (R23).

        A yes that stands is withdrawn first, so that there is a receipt of its end. The deletion is written also where
        nothing is held yet, since a turn may be under way.
        """
        person = PersonFacts(await self._ledger.history(subject))
        await self._told("subject.account_deleted", actor, subject)
        if any(person.open_grant_since(surface) is not None for surface in SURFACES):
            await self._ledger.record(
                subject,
                Choice.WITHDRAWN,
                at=self._clock(),
                by=actor.by,
                method=actor.method,
                circumstances=circumstances,
            )
        return await self._ledger.note(
            subject, FactKind.ACCOUNT_DELETED, at=self._clock(), by=actor.by, method=actor.method
        )

    async def tell_choice(self, subject: SubjectTag, choice: Choice, *, actor: Actor) -> None:
        """Say in the audit log that a choice about the account is about to be recorded. Raises AuditUnavailableError."""
        await self._told(f"choice.{choice}", actor, subject)

    async def find_minor(self, subject: SubjectTag, *, actor: Actor) -> FactEvent | None:
        """The person turns out to be a minor: nothing of them is kept, now or later (R5)."""
        if PersonFacts(await self._ledger.history(subject)).is_minor:
            return None
        return await self._note("subject.minor", subject, FactKind.MINOR_FOUND, actor, ACCOUNT)

    async def _set_flag(
        self, subject: SubjectTag, turn: TurnId, kind: FactKind, actor: Actor
    ) -> FactEvent | None:
        stored = await self._store.turn(subject, turn)
        kept = stored and self._verified(stored)
        if not kept:
            raise NotFoundError(NO_TURN)
        facts, _ = kept
        events = PersonFacts(await self._ledger.history(subject))
        flagged_at = events.about(facts.conversation_tag, turn, received_at=facts.received_at).flagged_at
        if (flagged_at is not None) == (kind is FactKind.FLAGGED):
            return None
        return await self._note(f"turn.{kind}", subject, kind, actor, Scope(turn=turn))

    async def _note(
        self,
        action: str,
        subject: SubjectTag,
        kind: FactKind,
        actor: Actor,
        scope: Scope,
        details: Mapping[str, str] | None = None,
    ) -> FactEvent:
        await self._told(action, actor, subject, conversation=scope.conversation, turn=scope.turn)
        return await self._ledger.note(
            subject,
            kind,
            at=self._clock(),
            by=actor.by,
            method=actor.method,
            scope=scope,
            details=details,
        )

    async def _told(
        self,
        action: str,
        actor: Actor,
        subject: SubjectTag,
        *,
        conversation: ConversationTag | None = None,
        turn: TurnId | None = None,
    ) -> None:
        """Write to the audit log. Cases of holds stay in the ledger: what is about them alone may be secret."""
        named = {"subject": subject.hex(), "for": actor.by, "method": actor.method}
        if conversation is not None:
            named["conversation"] = self._pseudonyms.conversation_handle(subject, conversation)
        if turn is not None:
            named["turn"] = self._pseudonyms.turn_handle(subject, turn)
        try:
            await asyncio.to_thread(
                self._audit.append, action, named, by=self._audited_as
            )  # it waits for the disk, as chats must not
        except AuditUnavailableError:
            if not actor.is_the_person:
                raise
            _log.error("what a person does is not in the audit log, which cannot be written", action=action)

    async def _conversation(
        self, subject: SubjectTag, conversation: ConversationTag
    ) -> list[tuple[TurnFacts, TurnNote]]:
        """Return the turns that are authentically of that conversation. Raises NotFoundError if there are none."""
        kept = [self._verified(row) for row in await self._store.conversation(subject, conversation)]
        turns = [turn for turn in kept if turn and turn[0].conversation_tag == conversation]
        if not turns:
            raise NotFoundError(NO_CONVERSATION)
        return turns

    async def _has_turns(self, subject: SubjectTag) -> bool:
        async for row in self._store.annotations(subject):
            if self._verified(row):
                return True
        return False

    def _verified(self, row: StoredTurn) -> tuple[TurnFacts, TurnNote] | None:
        try:
            kept = Kept.of(row, self._annotation_keys)
        except UndecryptableError:
            return None
        return (kept.facts, kept.note) if kept.annotation.expires_at > self._clock() else None
