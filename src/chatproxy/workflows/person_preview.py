"""What would a choice or a deletion do to what is kept of a person?

It is computed by the policy itself, as if it had been made, and nothing is written.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from msgspec import structs

from chatproxy.clock import Clock
from chatproxy.consent.events import (
    DATA_SUBJECT,
    PURPOSES,
    SURFACES,
    Choice,
    ConsentEvent,
    FactEvent,
    FactKind,
    Scope,
)
from chatproxy.consent.person import PersonFacts
from chatproxy.model import Age, Caller, Origin, SubjectTag
from chatproxy.policy.engine import Decision
from chatproxy.policy.versions import PolicyVersion
from chatproxy.workflows.annotate import GroupNote
from chatproxy.workflows.decide import TurnToDecide
from chatproxy.workflows.person_kept import PersonKept
from chatproxy.workflows.person_views import Deletion, deletion_of, standing_of
from chatproxy.workflows.policies import Policies
from chatproxy.workflows.transcripts import KeptTurn
from chatproxy.workflows.verdict import decide_again, turn_to_decide


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


class PersonPreview:
    """Decides as if, and writes nothing. Everything raises as ``PersonKept``."""

    def __init__(
        self,
        kept: PersonKept,
        policies: Policies,
        *,
        clock: Clock,
        versions: Sequence[PolicyVersion],
    ) -> None:
        """``versions``: of the policy that people choose about."""
        self._kept = kept
        self._policies = policies
        self._clock = clock
        self._versions = tuple(versions)

    async def of_choice(
        self, subject: SubjectTag, *, plan: str | None = None, age: Age = Age.UNKNOWN
    ) -> Previews:
        """Return what a yes or a no would do if it were given now; ``plan`` and ``age`` are for what comes next.

        Nothing is written.
        """
        person = await self._kept.facts(subject)
        found = await self._kept.conversations(subject, with_deleted=False)
        now = self._clock()
        yes = self._supposing(person, Choice.GIVEN, now)
        no = self._supposing(person, standing_of(person).no, now)
        previews = []
        for tag, turns in found.items():
            view = self._kept.view(subject, tag, turns, person)
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

    async def of_deletion(self, subject: SubjectTag, handle: str) -> Deletion:
        """Return what deleting a conversation now would come to; nothing is written. Raises NotFoundError."""
        tag, turns = await self._kept.turns(subject, handle)
        person = await self._kept.facts(subject)
        now = self._clock()
        supposed = FactEvent(
            at=_next_at(person, now),
            kind=FactKind.CONVERSATION_DELETED,
            by=DATA_SUBJECT,
            method="",
            scope=Scope(tag),
            details={},
            digest="",
        )
        deleted = PersonFacts((*person.events, supposed), self._versions)
        groups = [
            structs.replace(
                group,
                grounds={str(ground): end for ground, end in decision.grounds.items()},
                also=tuple(map(str, decision.also)),
            )
            async for group, decision in self._decided(turns, deleted, now=supposed.at)
            if decision.stored
        ]
        return deletion_of(supposed.at, groups)

    def _supposing(self, person: PersonFacts, choice: Choice, now: int) -> PersonFacts:
        """Return what the ledger would come to with one more choice about the account."""
        supposed = ConsentEvent(
            at=_next_at(person, now),
            choice=choice,
            by=DATA_SUBJECT,
            method="",
            purposes=dict.fromkeys(PURPOSES, choice.permits),
            surfaces=SURFACES,
            receipt_id="",
            digest="",
            policy_effective_at=now,
        )
        return PersonFacts((*person.events, supposed), self._versions)

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


@dataclass(frozen=True, slots=True)
class _Outcome:
    expires_at: int | None
    eligible: bool


def _next_at(person: PersonFacts, now: int) -> int:
    """Return when an event of *now* is (ms): no event is older than the one before it."""
    return max([now, *(event.at for event in person.events[-1:])])
