"""Why is this turn kept, by which rules, until when, and what would change that (R46)?

The decision is made anew with the facts of now, under the policy that the turn is kept under, exactly as deciding
again would make it. What would change it is found by supposing: one fact is put differently, as of now, and the
policy decides again. Nothing is decrypted, and nothing is changed.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from chatproxy.consent.events import ConsentEvent
from chatproxy.errors import NotFoundError
from chatproxy.model import Age, Origin, SubjectTag, TurnId
from chatproxy.policy.choices import read_choices
from chatproxy.policy.engine import Decision
from chatproxy.policy.facts import Facts, Override
from chatproxy.ports import AuditLog
from chatproxy.workflows.annotate import GroupNote, shown_reason
from chatproxy.workflows.happenings import NO_TURN
from chatproxy.workflows.policies import Policies
from chatproxy.workflows.redecide import Outlook, Redecider, Verdict
from chatproxy.workflows.verdict import is_unfounded_upgrade

_PERMITTING = frozenset({"given", "renewed", "superseded"})
Suppose = Callable[[Facts], Facts | None]
"""Facts put differently; None: they are so already."""


def _chosen(word: str, *, is_resumed: bool = False) -> Suppose:
    def suppose(facts: Facts) -> Facts:
        activity = (*facts.conv_activity, facts.now) if is_resumed else facts.conv_activity
        return replace(facts, choices=(*facts.choices, (facts.now, word)), conv_activity=activity)

    return suppose


def _overridden(override: Override) -> Suppose:
    def suppose(facts: Facts) -> Facts | None:
        at = facts.now if override is Override.SHARE else None
        return None if facts.override == override else replace(facts, override=override, override_at=at)

    return suppose


def _happened(name: str) -> Suppose:
    """Suppose that something has happened now that had not."""

    def suppose(facts: Facts) -> Facts | None:
        now: dict[str, Any] = {name: facts.now}
        return replace(facts, **now) if getattr(facts, name) is None else None

    return suppose


def _undone(name: str) -> Suppose:
    """Suppose that something had not happened."""

    def suppose(facts: Facts) -> Facts | None:
        never: dict[str, Any] = {name: None}
        return None if getattr(facts, name) is None else replace(facts, **never)

    return suppose


def _with_feedback(facts: Facts) -> Facts | None:
    return replace(facts, feedback=(facts.now, "thumbs")) if facts.feedback is None else None


def _minor(facts: Facts) -> Facts | None:
    return None if facts.age == Age.MINOR else replace(facts, age=Age.MINOR)


SUPPOSITIONS: Mapping[str, tuple[str, Suppose]] = {
    "agreed": ("the person agreed now", _chosen("given")),
    "agreed_and_resumed": (
        "the person agreed now and went on with the conversation",
        _chosen("given", is_resumed=True),
    ),
    "resumed": (
        "the person went on with the conversation now",
        lambda facts: replace(facts, conv_activity=(*facts.conv_activity, facts.now)),
    ),
    "withdrew": ("the person withdrew, or said no, now", _chosen("withdrawn")),
    "shared": ("the person shared the conversation now", _overridden(Override.SHARE)),
    "excluded": ("the person excluded the conversation", _overridden(Override.EXCLUDE)),
    "follows": ("the conversation followed the account again", _overridden(Override.INHERIT)),
    "deleted": ("the person deleted the conversation now", _happened("deleted_at")),
    "account_deleted": ("the person deleted the account now", _happened("account_deleted_at")),
    "flagged": ("the turn were flagged now", _happened("flagged_at")),
    "unflagged": ("the flag were lifted", _undone("flagged_at")),
    "feedback": ("the person sent feedback on the conversation now", _with_feedback),
    "feedback_withdrawn": ("the feedback were taken back", _undone("feedback")),
    "held": ("a legal hold were placed now", _happened("hold_at")),
    "released": ("the legal hold were released", _undone("hold_at")),
    "minor": ("the person were found to be a minor", _minor),
}
"""What is supposed, by name, in words that follow "if"."""

_CHOICES = frozenset({"agreed", "agreed_and_resumed", "withdrew", "shared", "excluded", "follows"})
"""What only a person who is known can do."""

APPLIED = "applied"
_APPLIED_WORDS = "`policy apply` were run with the present settings"


@dataclass(frozen=True, slots=True)
class Supposed:
    """What one fact put differently would come to."""

    name: str
    words: str
    decision: Decision
    reason: str
    changes: bool
    """Whether that is another outcome than the present one."""


@dataclass(frozen=True, slots=True)
class ExplainedPart:
    """One class of parts of a turn: the decision made now, and what would change it."""

    noted: GroupNote
    """As it is stored. It may be older than the facts: then deciding again is due."""
    facts: Facts
    decision: Decision
    reason: str
    sealed_until: int | None
    """ms; None: it goes. Later than the decision's own end while it is held (R24)."""
    supposed: tuple[Supposed, ...]

    @property
    def is_due(self) -> bool:
        """Whether what is stored still says something else."""
        return self.noted.reason != self.reason or self.noted.expires_at != self.sealed_until


@dataclass(frozen=True, slots=True)
class Explanation:
    """All that bears on one turn."""

    outlook: Outlook
    present_policy: str
    """The digest of the policy of the settings."""
    parts: tuple[ExplainedPart, ...]

    @property
    def choice(self) -> ConsentEvent | None:
        """Return the last choice about the account, whose record names the text that was shown."""
        return next(iter(reversed(self.outlook.person.account_choices)), None)


class Explainer:
    """Explains turns."""

    def __init__(self, redecider: Redecider, policies: Policies, *, audit: AuditLog) -> None:
        self._redecider = redecider
        self._policies = policies
        self._audit = audit

    async def explain(self, subject: SubjectTag, turn: TurnId, *, handle: str) -> Explanation:
        """Explain a turn; *handle* is its name in the audit log.

        Raises NotFoundError, UndecryptableError where turn or ledger are not as they were kept,
        AuditUnavailableError, StoreUnavailableError.
        """
        named = {"subject": subject.hex(), "turn": handle}
        await asyncio.to_thread(self._audit.append, "policy.explained", named)
        outlook = await self._redecider.outlook(subject, turn)
        if outlook is None:
            raise NotFoundError(NO_TURN)
        present = self._policies.current
        merged = outlook.policy.and_as_strict_as(present)
        applied = outlook.under(merged) if merged.digest != outlook.policy.digest else []
        parts = []
        for number, verdict in enumerate(outlook.under(outlook.policy)):
            other = applied[number].decision if applied else None
            parts.append(_explained(outlook, verdict, other))
        return Explanation(outlook, present.digest, tuple(parts))


def _explained(outlook: Outlook, verdict: Verdict, applied: Decision | None) -> ExplainedPart:
    before, now, part = verdict.before, verdict.decision, verdict.before.part
    facts = outlook.policy.facts(outlook.turn, part=part, now=outlook.now, person=outlook.person)
    supposed = [
        _supposed(name, words, _decided(other, before, outlook), now, part)
        for name, (words, suppose) in SUPPOSITIONS.items()
        if not (outlook.turn.is_nobodys and name in _CHOICES)
        if (other := suppose(facts)) is not None
    ]
    if applied is not None:
        supposed.append(_supposed(APPLIED, _APPLIED_WORDS, applied, now, part))
    return ExplainedPart(
        before, facts, now, shown_reason(part, now.reason), verdict.expires_at, tuple(supposed)
    )


def _supposed(name: str, words: str, decision: Decision, now: Decision, part: Origin) -> Supposed:
    return Supposed(name, words, decision, shown_reason(part, decision.reason), changes=decision != now)


def _decided(facts: Facts, before: GroupNote, outlook: Outlook) -> Decision:
    """Decide as deciding again does: what R31 gives no cause to bring in is decided as if there were no yes."""
    again = outlook.turn.tried_again_at
    decision = outlook.policy.decide_on(facts, tried_again_at=again)
    grants = read_choices(facts.choices).grants
    if is_unfounded_upgrade(before, decision, grants=grants, received_at=facts.turn_at, now=facts.now):
        refusals = tuple(choice for choice in facts.choices if choice[1] not in _PERMITTING)
        override = Override.INHERIT if facts.override is Override.SHARE else facts.override
        facts = replace(facts, choices=refusals, override=override)
        return outlook.policy.decide_on(facts, tried_again_at=again)
    return decision
