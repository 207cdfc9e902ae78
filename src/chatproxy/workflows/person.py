"""What may a person see, and do, about what is kept of them? All of it about themselves alone.

1. What is theirs is found by ``chatproxy.workflows.person_kept``, how it looks to them is in ``person_views`` and
   ``person_history``, and what a choice would do to it in ``person_preview``.
2. What is done to conversations and accounts is written by ``chatproxy.workflows.happenings``, as by every other way.
"""

import copy
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from chatproxy.clock import Clock
from chatproxy.consent.due import ChoiceDue, choice_due
from chatproxy.consent.events import (
    DATA_SUBJECT,
    PURPOSES,
    SURFACES,
    Choice,
    Circumstances,
    ConsentEvent,
    FactEvent,
    FactKind,
    LedgerEvent,
)
from chatproxy.consent.notices import Terms
from chatproxy.consent.person import PersonFacts
from chatproxy.consent.receipts import receipt_of, sign_receipt
from chatproxy.crypto.keys import SigningSeed
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.errors import ConflictError, NotFoundError
from chatproxy.model import Age, ConversationTag, SubjectTag, Surface
from chatproxy.policy.facts import Override
from chatproxy.policy.reasons import Reason
from chatproxy.workflows.happenings import NO_CONVERSATION, Actor, FeedbackKind, Happenings
from chatproxy.workflows.ledger import Ledger
from chatproxy.workflows.person_history import HistoryEntry, Receipt, entry_of
from chatproxy.workflows.person_kept import PersonKept
from chatproxy.workflows.person_preview import PersonPreview, Previews
from chatproxy.workflows.person_views import (
    ConversationView,
    Deletion,
    Standing,
    deletion_of,
    feedback_of,
    standing_of,
)
from chatproxy.workflows.policies import Policies
from chatproxy.workflows.recall import WasUsed
from chatproxy.workflows.transcripts import KeptTurn, OpenedTurn, Transcripts

_CHOICES = {
    Override.SHARE: Choice.GIVEN,
    Override.EXCLUDE: Choice.REFUSED,
    Override.INHERIT: Choice.WITHDRAWN,
}
"""How the ledger says what is set for one conversation."""


class PersonDesk:
    """What a person may see and do about what is kept of them.

    Everything raises StoreUnavailableError, and UndecryptableError where the ledger cannot be authenticated.
    """

    def __init__(
        self,
        ledger: Ledger,
        happenings: Happenings,
        transcripts: Transcripts,
        pseudonyms: Pseudonymizer,
        policies: Policies,
        *,
        signing_key: Callable[[], SigningSeed],
        clock: Clock,
        terms: Terms,
        deadline: int | None,
        is_chosen_elsewhere: bool,
        record_terms: Mapping[str, Any],
        used_of: Callable[[SubjectTag], Awaitable[Sequence[WasUsed]]],
    ) -> None:
        """``deadline``: until when the choice may be put off, ms (R10). ``transcripts`` audits that the person reads.

        ``signing_key`` signs receipts; it raises StoreUnavailableError before the key is known.

        ``is_chosen_elsewhere``: a service of the company's own has the choices about accounts, and they are made there.
        ``record_terms``: what every consent record says alike (``chatproxy.consent.controller``).
        ``used_of``: which conversations of a person are in which datasets (``chatproxy.workflows.recall``).
        """
        self._ledger = ledger
        self._happenings = happenings
        self._transcripts = transcripts
        self._signing_key = signing_key
        self._terms = terms
        self._deadline = deadline
        self._is_chosen_elsewhere = is_chosen_elsewhere
        self._record_terms = record_terms
        self._used_of = used_of
        self._pseudonyms = pseudonyms
        self._clock = clock
        self._kept = PersonKept(ledger, transcripts, pseudonyms, versions=terms.versions)
        self._preview = PersonPreview(self._kept, policies, clock=clock, versions=terms.versions)

    def audited_as(self, name: str) -> "PersonDesk":
        """Return the same desk, for who is called *name* in the audit log."""
        desk = copy.copy(self)
        desk._happenings = self._happenings.audited_as(name)  # noqa: SLF001 - its own
        return desk

    async def standing(self, subject: SubjectTag) -> Standing:
        """Return the choice that stands. What was put off counts only while nothing was decided (R8)."""
        person = await self._kept.facts(subject)
        return replace(standing_of(person), due=self._due(person))

    async def conversations(self, subject: SubjectTag) -> list[ConversationView]:
        """Return every conversation of which something is kept, newest first."""
        person = await self._kept.facts(subject)
        found = await self._kept.conversations(subject, with_deleted=True)
        views = [self._kept.view(subject, tag, turns, person) for tag, turns in found.items()]
        return sorted(views, key=lambda view: view.last_at, reverse=True)

    async def uses(self, subject: SubjectTag) -> list[tuple[str, WasUsed]]:
        """Return which conversations went into which datasets, by their handles, oldest first (R42)."""
        return [
            (self._pseudonyms.conversation_handle(subject, used.conversation), used)
            for used in await self._used_of(subject)
        ]

    async def conversation(self, subject: SubjectTag, handle: str) -> ConversationView:
        """Return one conversation. Raises NotFoundError."""
        tag, turns = await self._kept.turns(subject, handle)
        return self._kept.view(subject, tag, turns, await self._kept.facts(subject))

    async def preview(
        self, subject: SubjectTag, *, plan: str | None = None, age: Age = Age.UNKNOWN
    ) -> Previews:
        """Return what a yes or a no would do if it were given now; ``plan`` and ``age`` are for what comes next."""
        return await self._preview.of_choice(subject, plan=plan, age=age)

    async def deletion_preview(self, subject: SubjectTag, handle: str) -> Deletion:
        """Return what deleting a conversation now would come to. Raises NotFoundError."""
        return await self._preview.of_deletion(subject, handle)

    async def choose(
        self,
        subject: SubjectTag,
        choice: Choice,
        *,
        by: str,
        method: str,
        language: str | None = None,
        screen: str = "api",
        plan: str | None = None,
        age: Age = Age.UNKNOWN,
        gpc: bool = False,
        surfaces: Sequence[Surface] = SURFACES,
        purposes: Sequence[str] = PURPOSES,
    ) -> ConsentEvent:
        """Record a choice about the account, made now: GIVEN for yes, REFUSED for no, DEFERRED for not now.

        It is recorded as what it is beside the choice that stands: a yes over a yes renews it, a no over a yes
        withdraws it. A yes that leaves out surfaces of the yes that stands ends that one there
        (``PersonFacts.choices``). Raises ConflictError where the choice cannot be put off any more, and
        where choices are made elsewhere: what was recorded here would not last.
        """
        if self._is_chosen_elsewhere:
            raise ConflictError(
                "this choice is made with the company itself, and only read here; make it there"
            )
        person = await self._kept.facts(subject)
        about = self.circumstances(language=language, screen=screen, plan=plan, age=age, gpc=gpc)
        stands = standing_of(person)
        if choice.permits:
            choice = Choice.RENEWED if stands.has_yes else Choice.GIVEN
        elif choice is Choice.DEFERRED:
            if not self._due(person).may_defer:
                raise ConflictError("this choice cannot be put off, or not any more; say yes or no")
        else:
            choice = stands.no
        await self._happenings.tell_choice(subject, choice, actor=_actor(by, method))
        return await self._ledger.record(
            subject,
            choice,
            at=self._clock(),
            by=by,
            method=method,
            purposes=purposes,
            surfaces=surfaces if choice.permits else SURFACES,
            circumstances=about,
        )

    async def set_override(
        self, subject: SubjectTag, handle: str, override: Override, *, by: str = DATA_SUBJECT, method: str
    ) -> ConversationView:
        """Say whether this one conversation may be used, or that it goes by the choice about the account (R17).

        What is in force already is not written again. Raises NotFoundError, and ConflictError for a share where nobody
        was named.
        """
        tag, turns = await self._kept.turns(subject, handle)
        person = await self._kept.facts(subject)
        if not _is_in_force(override, person, tag, turns):
            newest = max(turns, key=lambda turn: turn.facts.received_at).note
            about = self.circumstances(plan=newest.plan, age=newest.age, gpc=newest.gpc)
            await self._happenings.choose(
                subject, tag, _CHOICES[override], actor=_actor(by, method), circumstances=about
            )
        return await self.conversation(subject, handle)

    async def delete_conversation(
        self, subject: SubjectTag, handle: str, *, by: str = DATA_SUBJECT, method: str
    ) -> Deletion:
        """Delete a conversation: from now on it is not shown and not used, and soon gone (R22).

        The first deletion counts, so a second one changes nothing. Raises NotFoundError.
        """
        owner, tag = self._kept.named(handle)
        turns = await self._kept.conversation(subject, tag)
        events = await self._ledger.history(subject)
        if owner != subject:
            raise NotFoundError(NO_CONVERSATION)
        deleted_at = _instants(events, FactKind.CONVERSATION_DELETED, tag)
        if not turns and not deleted_at:
            raise NotFoundError(NO_CONVERSATION)
        if any(not turn.is_deleted for turn in turns):
            event = await self._happenings.delete_conversation(subject, tag, actor=_actor(by, method))
            turns = await self._kept.conversation(subject, tag)
            deleted_at.append(event.at)
        return deletion_of(deleted_at[-1], [group for turn in turns for group in turn.groups])

    async def delete_account(self, subject: SubjectTag, *, by: str = DATA_SUBJECT, method: str) -> Deletion:
        """Delete all conversations and withdraw what was agreed to (R23)."""
        person = await self._kept.facts(subject)
        turns = [turn async for turn in self._kept.walk(subject)]
        before = _instants(person.events, FactKind.ACCOUNT_DELETED, None)
        if not before or any(turn.facts.received_at > before[-1] for turn in turns):
            event = await self._happenings.delete_account(
                subject, actor=_actor(by, method), circumstances=self.circumstances()
            )
            before.append(event.at)
            turns = [turn async for turn in self._kept.walk(subject)]
        return deletion_of(before[-1], [group for turn in turns for group in turn.groups])

    async def give_feedback(
        self,
        subject: SubjectTag,
        handle: str,
        kind: FeedbackKind,
        *,
        by: str = DATA_SUBJECT,
        method: str,
        is_confirmed: bool = False,
    ) -> ConversationView:
        """Send feedback on a conversation, which keeps it for that purpose (R14, R15).

        Raises NotFoundError, and ConfirmationNeededError where it is incognito and the person did not confirm it.
        """
        tag, _ = await self._kept.turns(subject, handle)
        await self._happenings.give_feedback(
            subject, tag, kind, actor=_actor(by, method), is_incognito_confirmed=is_confirmed
        )
        return await self.conversation(subject, handle)

    async def withdraw_feedback(
        self, subject: SubjectTag, handle: str, *, by: str = DATA_SUBJECT, method: str
    ) -> ConversationView | None:
        """Take back all feedback on a conversation; None: nothing else kept it. Raises NotFoundError."""
        owner, tag = self._kept.named(handle)
        turns = await self._kept.conversation(subject, tag)
        person = await self._kept.facts(subject)
        if owner != subject or not turns:
            raise NotFoundError(NO_CONVERSATION)
        if feedback_of(person, tag, turns) is not None:
            await self._happenings.withdraw_feedback(subject, tag, actor=_actor(by, method))
            turns, person = await self._kept.conversation(subject, tag), await self._kept.facts(subject)
        return self._kept.view(subject, tag, turns, person) if turns else None

    async def history(self, subject: SubjectTag) -> list[HistoryEntry]:
        """Return what the person has chosen and done, newest first."""
        handle_of = partial(self._kept.handle, subject)
        entries = [entry_of(event, handle_of=handle_of) for event in await self._ledger.history(subject)]
        return [entry for entry in reversed(entries) if entry is not None]

    async def receipt(self, subject: SubjectTag, receipt_id: str) -> Receipt:
        """Return the signed receipt of one of the person's choices. Raises NotFoundError."""
        for event in await self._ledger.history(subject):
            if isinstance(event, ConsentEvent) and event.receipt_id == receipt_id:
                content = receipt_of(event, conversation=self._kept.handle(subject, event.conversation))
                return Receipt(receipt_id, sign_receipt(content, seed=self._signing_key()))
        raise NotFoundError("there is no receipt of that name")

    async def read_conversation(self, subject: SubjectTag, handle: str) -> list[OpenedTurn]:
        """Return what was said in a conversation, as far as it is kept for service; audited.

        Raises NotFoundError also where it is deleted, AccessRefusedError where nothing of it is kept for service,
        AuditUnavailableError.
        """
        tag, _ = await self._kept.turns(subject, handle)
        return await self._transcripts.show(subject, tag, purpose="service")

    def circumstances(
        self,
        *,
        language: str | None = None,
        screen: str | None = None,
        plan: str | None = None,
        age: Age = Age.UNKNOWN,
        gpc: bool = False,
    ) -> Circumstances:
        """Return what a consent record of now says (R37); ``screen`` None: no notice was shown."""
        version = self._terms.to_choose_about(self._clock())
        notice = None
        if version is not None and screen is not None:
            notice = self._terms.notice(version.version, language or self._terms.fallback_language)
        return Circumstances(
            policy=version,
            notice=self._terms.shown(notice, screen) if notice is not None and screen is not None else None,
            plan=plan,
            age=age,
            gpc=gpc,
            terms=self._record_terms,
        )

    def _due(self, person: PersonFacts) -> ChoiceDue:
        return choice_due(person, self._terms, now=self._clock(), deadline=self._deadline)


def _actor(by: str, method: str) -> Actor:
    return Actor(by=by, method=method, is_the_person=by == DATA_SUBJECT)


def _instants(
    events: Sequence[LedgerEvent], kind: FactKind, conversation: ConversationTag | None
) -> list[int]:
    """Return when something was said to have happened, to a conversation or to the account; ms, oldest first."""
    return [
        event.at
        for event in events
        if isinstance(event, FactEvent) and event.kind is kind and event.scope.conversation == conversation
    ]


def _is_in_force(
    override: Override, person: PersonFacts, tag: ConversationTag, turns: Sequence[KeptTurn]
) -> bool:
    """Whether saying it again would change nothing. A share may have been ended by a decision on the account."""
    if person.about(tag, None, received_at=0).override is not override:
        return False
    if override is not Override.SHARE:
        return True
    return any(group.reason == Reason.ELIGIBLE_CONV_SHARE for turn in turns for group in turn.groups)
