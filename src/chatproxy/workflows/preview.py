"""What would another policy do to all that is kept, and doing it: never longer, never more.

A turn is brought under what its own policy and the new one both allow. The preview decides twice on each turn, under
its own policy and under both, and counts what differs; it writes nothing. Applying decides the same again and writes.
Both go person by person, so memory does not grow with the store, and both can be broken off: what was applied stays,
and applying again goes on with the rest.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from chatproxy.clock import Clock
from chatproxy.errors import UndecryptableError
from chatproxy.model import SubjectTag
from chatproxy.policy.engine import Decision
from chatproxy.ports import AuditLog, TranscriptStore
from chatproxy.telemetry import Redecided
from chatproxy.workflows.annotate import shown_reason
from chatproxy.workflows.decide import Policy
from chatproxy.workflows.policies import Policies
from chatproxy.workflows.redecide import Outlook, Redecider, Verdict


@dataclass(slots=True)
class Effect:
    """What becomes of turns. A turn counts where any of its parts does."""

    turns: int = 0
    sooner: int = 0
    """Expire sooner, or at once."""
    at_once: int = 0
    """Something of them is erased at once."""
    lose_eligibility: int = 0
    """May not be used any more for a purpose that they may be used for now."""
    bytes: int = 0
    """Sealed bytes of the parts that expire sooner."""

    def add(self, other: "Effect") -> None:
        """Count *other* in."""
        self.turns += other.turns
        self.sooner += other.sooner
        self.at_once += other.at_once
        self.lose_eligibility += other.lose_eligibility
        self.bytes += other.bytes


@dataclass(slots=True)
class Forecast:
    """What a policy would do."""

    people: int = 0
    turns: int = 0
    """All that were looked at."""
    moved: int = 0
    """Turns that are under another policy than they would be. Of some that shows only if something happens later."""
    total: Effect = field(default_factory=Effect)
    effects: dict[tuple[str, str], Effect] = field(default_factory=dict)
    """By the reason now and the reason then, as a listing shows them; only turns that something changes for."""
    faulty: int = 0
    """Turns, and ledgers, that are not as they were kept. They are left as they are."""


@dataclass(slots=True)
class Applied:
    """What applying has done."""

    people: int = 0
    turns: dict[Redecided, int] = field(default_factory=lambda: dict.fromkeys(Redecided, 0))
    unsettled: int = 0
    """People whose turns could not all be decided on: their ledger is damaged, or kept changing."""


class Applier:
    """Previews and applies policies."""

    def __init__(
        self,
        store: TranscriptStore,
        redecider: Redecider,
        policies: Policies,
        *,
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        self._store = store
        self._redecider = redecider
        self._policies = policies
        self._audit = audit
        self._clock = clock

    async def preview(self, policy: Policy, *, told: Callable[[int], None]) -> Forecast:
        """Say what *policy* would do to what is kept; *told* hears how many people have been looked at.

        Raises StoreUnavailableError.
        """
        forecast = Forecast()
        merged: dict[str, Policy] = {}
        async for subject in self._store.subjects():
            await self._look_at(subject, policy, forecast, merged)
            forecast.people += 1
            told(forecast.people)
        return forecast

    async def apply(self, forecast: Forecast, *, told: Callable[[int], None]) -> Applied:
        """Bring every turn under the present policy as far as that is stricter. *forecast* goes to the audit log.

        Raises StoreUnavailableError, AuditUnavailableError.
        """
        policy = self._policies.current.digest
        foreseen = {
            "changed": forecast.total.turns,
            "sooner": forecast.total.sooner,
            "at_once": forecast.total.at_once,
        }
        await asyncio.to_thread(self._audit.append, "policy.apply", {"policy": policy, **foreseen})
        applied = Applied()
        async for subject in self._store.subjects():
            tally = await self._redecider.person(subject, apply=True)
            if tally.next_at is not None:
                # What a hold keeps may be sealed to another day now: whoever rolls it forward must look again.
                await self._store.mark_due(subject, self._clock())
            for outcome, number in tally.turns.items():
                applied.turns[outcome] += number
            applied.people += 1
            applied.unsettled += not tally.is_settled
            told(applied.people)
        done = {str(outcome): number for outcome, number in applied.turns.items()}
        await asyncio.to_thread(self._audit.append, "policy.applied", {"policy": policy, **done})
        return applied

    async def _look_at(
        self, subject: SubjectTag, policy: Policy, forecast: Forecast, merged: dict[str, Policy]
    ) -> None:
        try:
            async for outlook in self._redecider.outlooks(subject):
                if isinstance(outlook, UndecryptableError):
                    forecast.faulty += 1
                    continue
                own = outlook.policy
                if own.digest not in merged:
                    merged[own.digest] = own.and_as_strict_as(policy)
                _count(outlook, merged[own.digest], forecast)
        except UndecryptableError:
            forecast.faulty += 1


def _count(outlook: Outlook, both: Policy, forecast: Forecast) -> None:
    stands = outlook.under(outlook.policy)
    if all(verdict.expires_at is None for verdict in stands):
        return  # gone already, but for the store's clock
    forecast.turns += 1
    if both.digest == outlook.policy.digest:
        return
    forecast.moved += 1
    then = outlook.under(both)
    effect = _effect(stands, then)
    reasons = _shown(stands), _shown(then)
    if reasons[0] == reasons[1] and not (effect.sooner or effect.lose_eligibility):
        return
    forecast.effects.setdefault(reasons, Effect()).add(effect)
    forecast.total.add(effect)


def _effect(stands: Sequence[Verdict], then: Sequence[Verdict]) -> Effect:
    pairs = [(now, later) for now, later in zip(stands, then, strict=True) if now.expires_at is not None]
    sooner = [now for now, later in pairs if (later.expires_at or 0) < (now.expires_at or 0)]
    return Effect(
        turns=1,
        sooner=bool(sooner),
        at_once=any(later.expires_at is None for _, later in pairs),
        lose_eligibility=any(_loses(now.decision, later.decision) for now, later in pairs),
        bytes=sum(now.before.bytes for now in sooner),
    )


def _loses(now: Decision, later: Decision) -> bool:
    return (
        now.eligible_capability > later.eligible_capability
        or now.eligible_safety > later.eligible_safety
        or now.eligible_feedback > later.eligible_feedback
    )


def _shown(verdicts: Sequence[Verdict]) -> str:
    """Return the reason that a listing shows: that of the first part."""
    first = verdicts[0]
    return shown_reason(first.before.part, first.decision.reason)
