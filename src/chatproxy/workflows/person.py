"""What may a person see, and do, about what is kept of them? All of it about themselves alone.

1. Who asks is the subject of every query: a handle of somebody else's finds nothing in one's own place in the store,
   so unknown and foreign handles look alike.
2. What a choice would do is computed by the policy itself, as if it had been made, and nothing is written.
3. What is done to conversations and accounts is written by ``chatproxy.workflows.happenings``, as by every other way.
4. What is told about safety review is only what keeps a copy (R22); a flag, a hold or a finding about the age is no
   entry of the history.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import structs

from chatproxy.clock import Clock
from chatproxy.consent.due import ChoiceDue, DueState, choice_due
from chatproxy.consent.events import (
    PURPOSES,
    Choice,
    Circumstances,
    ConsentEvent,
    FactEvent,
    FactKind,
    LedgerEvent,
    Scope,
)
from chatproxy.consent.notices import Terms
from chatproxy.consent.person import PersonFacts
from chatproxy.consent.receipts import receipt_of, sign_receipt
from chatproxy.crypto.keys import SigningSeed
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.errors import ConflictError, NotFoundError
from chatproxy.model import Age, Caller, ConversationTag, Origin, SubjectTag, Surface
from chatproxy.policy.choices import read_choices
from chatproxy.policy.engine import Decision
from chatproxy.policy.facts import Override
from chatproxy.policy.grounds import ENDED_BY_DELETION
from chatproxy.policy.reasons import Reason
from chatproxy.workflows.annotate import GroupNote
from chatproxy.workflows.decide import TurnToDecide, public_reason
from chatproxy.workflows.happenings import NO_CONVERSATION, Actor, FeedbackKind, Happenings
from chatproxy.workflows.ledger import Ledger
from chatproxy.workflows.policies import Policies
from chatproxy.workflows.transcripts import KeptTurn, OpenedTurn, Transcripts
from chatproxy.workflows.verdict import decide_again, turn_to_decide

DATA_SUBJECT = "data_subject"
SURFACES = (Surface.CHAT, Surface.CODE)
_UNDECIDED = frozenset({Choice.REQUESTED, Choice.DEFERRED})
TOLD = frozenset(
    {
        FactKind.CONVERSATION_DELETED,
        FactKind.ACCOUNT_DELETED,
        FactKind.FEEDBACK_GIVEN,
        FactKind.FEEDBACK_WITHDRAWN,
    }
)
"""What the history tells beside choices."""
_CHOICES = {
    Override.SHARE: Choice.GIVEN,
    Override.EXCLUDE: Choice.REFUSED,
    Override.INHERIT: Choice.WITHDRAWN,
}
"""How the ledger says what is set for one conversation."""
_STRIDE = 4
"""Turns that are decided on before running chats get their turn: about a millisecond."""


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
class Preview:
    """What a yes or a no, given now, would do to one conversation. None for an expiry: it would be gone at once."""

    handle: str
    started_at: int
    now_expires_at: int
    now_eligible: bool
    if_yes_expires_at: int | None
    if_yes_eligible: bool
    if_continued_expires_at: int | None
    """After a yes, and taken up again (R12)."""
    if_continued_eligible: bool
    if_no_expires_at: int | None


@dataclass(frozen=True, slots=True)
class NextTurn:
    """Until when what is said from now on would be kept, and whether it would be used; ms."""

    if_yes_expires_at: int | None
    if_yes_eligible: bool
    if_no_expires_at: int | None


@dataclass(frozen=True, slots=True)
class Previews:
    """What a choice would do: to what is said from now on, and to each conversation, newest first."""

    next_turn: NextTurn
    conversations: tuple[Preview, ...]

    @property
    def eligible_now(self) -> int:
        """Return how many conversations may be used as it is."""
        return sum(each.now_eligible for each in self.conversations)

    @property
    def eligible_if_yes(self) -> int:
        """Return how many might be used at once after a yes."""
        return sum(each.if_yes_eligible for each in self.conversations)

    @property
    def eligible_if_continued(self) -> int:
        """Return how many might be used after a yes if all were taken up again."""
        return sum(each.if_continued_eligible for each in self.conversations)

    @property
    def gone_if_no(self) -> int:
        """Return how many a no would end at once."""
        return sum(each.if_no_expires_at is None for each in self.conversations)

    @property
    def shorter_if_no(self) -> int:
        """Return how many a no would end earlier."""
        return sum(
            each.if_no_expires_at is None or each.if_no_expires_at < each.now_expires_at
            for each in self.conversations
        )


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a deletion came to. Instants are ms."""

    deleted_at: int
    erased_by: int
    """When the last of what the deletion ends is gone, at the latest."""
    stays: tuple[StayingCopy, ...]
    """What it does not end, and until when."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The proof of one choice, as a file (``chatproxy.consent.receipts``)."""

    receipt_id: str
    file: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One entry of a person's history, a choice or something they did. ``at`` in ms."""

    at: int
    kind: str
    """``choice``, or the word of what was done."""
    choice: Choice | None
    by: str
    method: str
    conversation: str | None
    """The handle of the one conversation that it is about."""
    policy_version: str | None = None
    purposes: Mapping[str, bool] = field(default_factory=dict)
    surfaces: tuple[str, ...] = ()
    receipt_id: str | None = None
    feedback: str | None = None


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
    ) -> None:
        """``deadline``: until when the choice may be put off, ms (R10). ``transcripts`` audits that the person reads.

        ``signing_key`` signs receipts; it raises StoreUnavailableError before the key is known.

        ``is_chosen_elsewhere``: a service of the company's own has the choices about accounts, and they are made there.
        ``record_terms``: what every consent record says alike (``chatproxy.consent.controller``).
        """
        self._ledger = ledger
        self._happenings = happenings
        self._transcripts = transcripts
        self._pseudonyms = pseudonyms
        self._policies = policies
        self._signing_key = signing_key
        self._terms = terms
        self._deadline = deadline
        self._is_chosen_elsewhere = is_chosen_elsewhere
        self._record_terms = record_terms
        self._clock = clock

    async def standing(self, subject: SubjectTag) -> Standing:
        """Return the choice that stands. What was put off counts only while nothing was decided (R8)."""
        person = await self._facts(subject)
        return replace(_standing(person), due=self._due(person))

    async def conversations(self, subject: SubjectTag) -> list[ConversationView]:
        """Return every conversation of which something is kept, newest first."""
        person = await self._facts(subject)
        found: defaultdict[ConversationTag, list[KeptTurn]] = defaultdict(list)
        async for turn in self._walk(subject):
            found[turn.facts.conversation_tag].append(turn)
        views = [self._view(subject, tag, turns, person) for tag, turns in found.items()]
        return sorted(views, key=lambda view: view.last_at, reverse=True)

    async def conversation(self, subject: SubjectTag, handle: str) -> ConversationView:
        """Return one conversation. Raises NotFoundError."""
        tag, turns = await self._turns(subject, handle)
        return self._view(subject, tag, turns, await self._facts(subject))

    async def preview(
        self, subject: SubjectTag, *, plan: str | None = None, age: Age = Age.UNKNOWN
    ) -> Previews:
        """Return what a yes or a no would do if it were given now; ``plan`` and ``age`` are for what comes next.

        Nothing is written.
        """
        person = await self._facts(subject)
        found: defaultdict[ConversationTag, list[KeptTurn]] = defaultdict(list)
        async for turn in self._walk(subject):
            if not turn.is_deleted:
                found[turn.facts.conversation_tag].append(turn)
        now = self._clock()
        yes = self._supposing(person, Choice.GIVEN, now)
        no = self._supposing(person, _no_after(person), now)
        previews = []
        for tag, turns in found.items():
            view = self._view(subject, tag, turns, person)
            if_yes = await self._outcome(turns, yes, now=now)
            if_continued = await self._outcome(turns, yes, now=now, continued_at=now)
            if_no = await self._outcome(turns, no, now=now)
            previews.append(
                (
                    view.last_at,
                    Preview(
                        handle=view.handle,
                        started_at=view.started_at,
                        now_expires_at=view.expires_at,
                        now_eligible=view.eligible,
                        if_yes_expires_at=if_yes.expires_at,
                        if_yes_eligible=if_yes.eligible,
                        if_continued_expires_at=if_continued.expires_at,
                        if_continued_eligible=if_continued.eligible,
                        if_no_expires_at=if_no.expires_at,
                    ),
                )
            )
        next_turn = TurnToDecide(caller=Caller(plan=plan, age=age), received_at=now)
        policy = self._policies.current
        next_yes = policy.decide_part(next_turn, part=Origin.TYPED, now=now, person=yes)
        next_no = policy.decide_part(next_turn, part=Origin.TYPED, now=now, person=no)
        return Previews(
            NextTurn(next_yes.expires_at, next_yes.eligible_capability, next_no.expires_at),
            tuple(preview for _, preview in sorted(previews, key=lambda row: row[0], reverse=True)),
        )

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
        person = await self._facts(subject)
        about = self.circumstances(language=language, screen=screen, plan=plan, age=age, gpc=gpc)
        stands = _standing(person)
        has_yes = stands.choice is not None and stands.choice.permits
        if choice.permits:
            choice = Choice.RENEWED if has_yes else Choice.GIVEN
        elif choice is Choice.DEFERRED:
            if not self._due(person).may_defer:
                raise ConflictError("this choice cannot be put off, or not any more; say yes or no")
        else:
            choice = _no_after(person)
        return await self._record(
            subject,
            choice,
            by=by,
            method=method,
            circumstances=about,
            surfaces=surfaces if choice.permits else SURFACES,
            purposes=purposes,
        )

    async def set_override(
        self, subject: SubjectTag, handle: str, override: Override, *, by: str = DATA_SUBJECT, method: str
    ) -> ConversationView:
        """Say whether this one conversation may be used, or that it goes by the choice about the account (R17).

        What is in force already is not written again. Raises NotFoundError, and ConflictError for a share where nobody
        was named.
        """
        tag, turns = await self._turns(subject, handle)
        person = await self._facts(subject)
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
        owner, tag = self._named(handle)
        turns = await self._kept(subject, tag)
        events = await self._ledger.history(subject)
        if owner != subject:
            raise NotFoundError(NO_CONVERSATION)
        deleted_at = [
            event.at
            for event in events
            if isinstance(event, FactEvent)
            and event.kind is FactKind.CONVERSATION_DELETED
            and event.scope.conversation == tag
        ]
        if not turns and not deleted_at:
            raise NotFoundError(NO_CONVERSATION)
        if any(not turn.is_deleted for turn in turns):
            event = await self._happenings.delete_conversation(subject, tag, actor=_actor(by, method))
            turns = await self._kept(subject, tag)
            deleted_at.append(event.at)
        return _deletion(deleted_at[-1], [group for turn in turns for group in turn.groups])

    async def deletion_preview(self, subject: SubjectTag, handle: str) -> Deletion:
        """Return what deleting a conversation now would come to; nothing is written. Raises NotFoundError."""
        tag, turns = await self._turns(subject, handle)
        person = await self._facts(subject)
        now = self._clock()
        supposed = FactEvent(
            at=max([now, *(event.at for event in person.events[-1:])]),
            kind=FactKind.CONVERSATION_DELETED,
            by=DATA_SUBJECT,
            method="",
            scope=Scope(tag),
            details={},
            digest="",
        )
        deleted = PersonFacts((*person.events, supposed), self._terms.versions)
        groups = [
            structs.replace(
                group,
                grounds={str(ground): end for ground, end in decision.grounds.items()},
                also=tuple(map(str, decision.also)),
            )
            async for group, decision in self._decided(turns, deleted, now=supposed.at)
            if decision.stored
        ]
        return _deletion(supposed.at, groups)

    async def delete_account(self, subject: SubjectTag, *, by: str = DATA_SUBJECT, method: str) -> Deletion:
        """Delete all conversations and withdraw what was agreed to (R23)."""
        person = await self._facts(subject)
        turns = [turn async for turn in self._walk(subject)]
        before = [
            event.at
            for event in person.events
            if isinstance(event, FactEvent) and event.kind is FactKind.ACCOUNT_DELETED
        ]
        if not before or any(turn.facts.received_at > before[-1] for turn in turns):
            event = await self._happenings.delete_account(
                subject, actor=_actor(by, method), circumstances=self.circumstances()
            )
            before.append(event.at)
            turns = [turn async for turn in self._walk(subject)]
        return _deletion(before[-1], [group for turn in turns for group in turn.groups])

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
        tag, _ = await self._turns(subject, handle)
        await self._happenings.give_feedback(
            subject, tag, kind, actor=_actor(by, method), is_incognito_confirmed=is_confirmed
        )
        return await self.conversation(subject, handle)

    async def withdraw_feedback(
        self, subject: SubjectTag, handle: str, *, by: str = DATA_SUBJECT, method: str
    ) -> ConversationView | None:
        """Take back all feedback on a conversation; None: nothing else kept it. Raises NotFoundError."""
        owner, tag = self._named(handle)
        turns = await self._kept(subject, tag)
        person = await self._facts(subject)
        if owner != subject or not turns:
            raise NotFoundError(NO_CONVERSATION)
        if _feedback(person, tag, turns) is not None:
            await self._happenings.withdraw_feedback(subject, tag, actor=_actor(by, method))
            turns, person = await self._kept(subject, tag), await self._facts(subject)
        return self._view(subject, tag, turns, person) if turns else None

    async def history(self, subject: SubjectTag) -> list[HistoryEntry]:
        """Return what the person has chosen and done, newest first."""
        entries = [self._entry(subject, event) for event in await self._ledger.history(subject)]
        return [entry for entry in reversed(entries) if entry is not None]

    async def receipt(self, subject: SubjectTag, receipt_id: str) -> Receipt:
        """Return the signed receipt of one of the person's choices. Raises NotFoundError."""
        for event in await self._ledger.history(subject):
            if isinstance(event, ConsentEvent) and event.receipt_id == receipt_id:
                content = receipt_of(event, conversation=self._handle(subject, event.conversation))
                return Receipt(receipt_id, sign_receipt(content, seed=self._signing_key()))
        raise NotFoundError("there is no receipt of that name")

    async def read_conversation(self, subject: SubjectTag, handle: str) -> list[OpenedTurn]:
        """Return what was said in a conversation, as far as it is kept for service; audited.

        Raises NotFoundError also where it is deleted, AccessRefusedError where nothing of it is kept for service,
        AuditUnavailableError.
        """
        tag, _ = await self._turns(subject, handle)
        return await self._transcripts.show(subject, tag, purpose="service")

    async def _facts(self, subject: SubjectTag) -> PersonFacts:
        return PersonFacts(await self._ledger.history(subject), self._terms.versions)

    async def _walk(self, subject: SubjectTag) -> AsyncIterator[KeptTurn]:
        """Yield every authentic turn; running chats get their turn between."""
        number = 0
        async for turn in self._transcripts.walk(subject=subject):
            number += 1
            if number % _STRIDE == 0:
                await asyncio.sleep(0)
            if isinstance(turn, KeptTurn):
                yield turn

    async def _kept(self, subject: SubjectTag, conversation: ConversationTag) -> list[KeptTurn]:
        """Return the turns of one of *subject*'s conversations: whose it is and what it is are one query (P39)."""
        walk = self._transcripts.walk(subject=subject, conversation=conversation)
        return [turn async for turn in walk if isinstance(turn, KeptTurn)]

    def _named(self, handle: str) -> tuple[SubjectTag, ConversationTag]:
        """Return what a handle names. One that names nothing finds what an unknown one does."""
        try:
            return self._pseudonyms.read_conversation_handle(handle)
        except NotFoundError:
            raise NotFoundError(NO_CONVERSATION) from None

    async def _turns(self, subject: SubjectTag, handle: str) -> tuple[ConversationTag, list[KeptTurn]]:
        """Return the turns of a conversation that is there. Raises NotFoundError, also where it is deleted."""
        owner, tag = self._named(handle)
        turns = [turn for turn in await self._kept(subject, tag) if not turn.is_deleted]
        # The owner that a handle names is not asked for anything: it can only be the one who asks.
        if owner != subject or not turns:
            raise NotFoundError(NO_CONVERSATION)
        return tag, turns

    def _view(
        self, subject: SubjectTag, tag: ConversationTag, turns: Sequence[KeptTurn], person: PersonFacts
    ) -> ConversationView:
        """What was said after a deletion is a conversation that goes on; else what is left of it is shown."""
        alive = [turn for turn in turns if not turn.is_deleted]
        shown = sorted(alive or turns, key=lambda turn: turn.facts.received_at)
        groups = [group for turn in shown for group in turn.groups]
        eligible = next((group for group in groups if group.eligible.capability), None)
        return ConversationView(
            handle=self._pseudonyms.conversation_handle(subject, tag),
            started_at=shown[0].facts.received_at,
            last_at=shown[-1].facts.received_at,
            turns=len(shown),
            expires_at=max(map(_kept_until, groups)),
            eligible=eligible is not None,
            reason=_public(eligible.reason if eligible else shown[-1].groups[0].reason)
            if alive
            else _end(person, shown[-1]),
            also=tuple(dict.fromkeys(also for group in groups for also in group.also)),
            override=_override(person, tag, shown[-1].note.surface),
            is_deleted=not alive,
            model=shown[-1].facts.model,
            feedback=_feedback(person, tag, shown),
            stays=() if alive else _staying(groups),
        )

    def _supposing(self, person: PersonFacts, choice: Choice, now: int) -> PersonFacts:
        """Return what the ledger would come to with one more choice about the account."""
        supposed = ConsentEvent(
            at=max([now, *(event.at for event in person.events[-1:])]),
            choice=choice,
            by=DATA_SUBJECT,
            method="",
            purposes=dict.fromkeys(PURPOSES, choice.permits),
            surfaces=SURFACES,
            receipt_id="",
            digest="",
            policy_effective_at=now,
        )
        return PersonFacts((*person.events, supposed), self._terms.versions)

    async def _outcome(
        self, turns: Sequence[KeptTurn], person: PersonFacts, *, now: int, continued_at: int | None = None
    ) -> "_Outcome":
        """Return what deciding again on a conversation would come to, as of *now*."""
        expiries: list[int] = []
        eligible = False
        async for group, decision in self._decided(turns, person, now=now, continued_at=continued_at):
            if decision.stored:
                expiries.append(decision.expires_at or group.expires_at)
            eligible |= decision.eligible_capability
        return _Outcome(max(expiries, default=None), eligible)

    async def _decided(
        self, turns: Sequence[KeptTurn], person: PersonFacts, *, now: int, continued_at: int | None = None
    ) -> AsyncIterator[tuple[GroupNote, Decision]]:
        """Decide again on each group of a conversation, as of *now*."""
        received = {turn.facts.received_at for turn in turns}
        times = sorted(received if continued_at is None else received | {continued_at})
        for turn in turns:
            policy = await self._policies.get(turn.note.policy)
            to_decide = turn_to_decide(turn.facts, turn.note, turn.turn, person=person, times=times)
            for group in turn.groups:
                yield group, decide_again(group, to_decide, policy=policy, person=person, now=now)
            await asyncio.sleep(0)

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

    async def _record(
        self,
        subject: SubjectTag,
        choice: Choice,
        *,
        by: str,
        method: str,
        circumstances: Circumstances,
        surfaces: Sequence[Surface] = SURFACES,
        purposes: Sequence[str] = PURPOSES,
    ) -> ConsentEvent:
        return await self._ledger.record(
            subject,
            choice,
            at=self._clock(),
            by=by,
            method=method,
            purposes=purposes,
            surfaces=surfaces,
            circumstances=circumstances,
        )

    def _entry(self, subject: SubjectTag, event: LedgerEvent) -> HistoryEntry | None:
        if isinstance(event, ConsentEvent):
            return HistoryEntry(
                at=event.at,
                kind="choice",
                choice=event.choice,
                by=event.by,
                method=event.method,
                conversation=self._handle(subject, event.conversation),
                policy_version=event.policy_version,
                purposes=event.purposes,
                surfaces=event.surfaces,
                receipt_id=event.receipt_id,
            )
        if event.kind not in TOLD:
            return None
        return HistoryEntry(
            at=event.at,
            kind=str(event.kind),
            choice=None,
            by=event.by,
            method=event.method,
            conversation=self._handle(subject, event.scope.conversation),
            feedback=event.details.get("kind"),
        )

    def _handle(self, subject: SubjectTag, conversation: ConversationTag | None) -> str | None:
        if conversation is None:
            return None
        return self._pseudonyms.conversation_handle(subject, conversation)


@dataclass(frozen=True, slots=True)
class _Outcome:
    expires_at: int | None
    eligible: bool


def _actor(by: str, method: str) -> Actor:
    return Actor(by=by, method=method, is_the_person=by == DATA_SUBJECT)


def _standing(person: PersonFacts) -> Standing:
    choices = person.account_choices
    decided = [event for event in choices if event.choice not in _UNDECIDED]
    if not choices:
        return Standing(None, None, None, None)
    event = (decided or choices)[-1]
    return Standing(
        event.choice, event.at, event.policy_version, event.receipt_id, event.purposes, event.surfaces
    )


def _no_after(person: PersonFacts) -> Choice:
    """Return what a no is beside the choice that stands."""
    stands = _standing(person).choice
    return Choice.WITHDRAWN if stands is not None and stands.permits else Choice.REFUSED


def _is_in_force(
    override: Override, person: PersonFacts, tag: ConversationTag, turns: Sequence[KeptTurn]
) -> bool:
    """Whether saying it again would change nothing. A share may have been ended by a decision on the account."""
    if person.about(tag, None, received_at=0).override is not override:
        return False
    if override is not Override.SHARE:
        return True
    return any(group.reason == Reason.ELIGIBLE_CONV_SHARE for turn in turns for group in turn.groups)


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


def _kept_until(group: GroupNote) -> int:
    """Return until when a group is kept, also where it is not sealed to that day yet."""
    if str(Reason.LEGAL_HOLD) in group.also:
        return group.expires_at
    return min(group.expires_at, max(group.grounds.values(), default=group.expires_at))


def _public(reason: str) -> str:
    return public_reason(Reason(reason)) if reason in set(Reason) else reason


def _feedback(person: PersonFacts, tag: ConversationTag, turns: Iterable[KeptTurn]) -> str | None:
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


def _deletion(deleted_at: int, groups: Sequence[GroupNote]) -> Deletion:
    ended = (end for group in groups for ground, end in group.grounds.items() if ground in ENDED_BY_DELETION)
    return Deletion(deleted_at, max(ended, default=deleted_at), _staying(groups))
