"""Is this person to be asked now, and may they still put it off? (R8, R10, R33).

1. Who has decided about the version that is asked about is asked no more. So is who decided about an earlier one, if
   nothing material has changed since: a no is remembered as well as a yes.
2. A material version asks again, from its publication on. Until it takes effect, and the deadline has passed, the
   choice may be put off, which is remembered too. After that it may not.
3. Who said no before a material change is asked until then, and then the no stands: it is still a no.
4. Being asked, not being asked and not answering never count as a yes; here nothing is decided, only who is asked.
"""

from dataclasses import dataclass
from enum import StrEnum

from chatproxy.consent.events import CAPABILITY, Choice, ConsentEvent
from chatproxy.consent.notices import Terms
from chatproxy.consent.person import PersonFacts
from chatproxy.policy.versions import PolicyVersion

_LAPSED = frozenset({Choice.EXPIRED, Choice.INVALIDATED})
"""Ends of a yes that the person did not choose: who agreed once is asked again."""


class DueState(StrEnum):
    """How it stands with a person's choice."""

    SETTLED = "settled"
    """Decided, or there is nothing to decide about."""
    DUE = "due"
    """To be asked."""
    DEFERRED = "deferred"
    """Put off by the person, who is not asked again before the deadline."""
    OVERDUE = "overdue"
    """The deadline has passed without a decision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceDue:
    """Whether a person is to be asked, and about what."""

    state: DueState
    may_defer: bool = False
    """Whether "not now" is an answer: only before the deadline, and only where something is to be decided."""
    until: int | None = None
    """Until when (ms) it may be put off, or might have been; None: as long as the person likes."""
    version: PolicyVersion | None = None
    """What is to be shown, also to who is settled and wants to change their mind; None: nothing is published."""


def choice_due(person: PersonFacts, terms: Terms, *, now: int, deadline: int | None) -> ChoiceDue:
    """Return how it stands with the choice of *person* at *now*; ``deadline`` (ms) None: there is none (R10)."""
    version = terms.to_choose_about(now)
    if version is None:
        return ChoiceDue(state=DueState.SETTLED)
    changed = _last_change(terms, now)
    choices = [event for event in person.account_choices if event.choice is not Choice.REQUESTED]
    decision = next((event for event in reversed(choices) if event.choice is not Choice.DEFERRED), None)
    if decision is not None and decision.choice in _LAPSED:
        decision = None
    if decision is not None and (
        not changed.material or person.chosen_about(decision) >= changed.effective_at
    ):
        return ChoiceDue(state=DueState.SETTLED, version=version)
    until = None if deadline is None else max(deadline, changed.effective_at)
    if until is not None and now >= until:
        is_no = decision is not None and not _is_yes(decision)
        return ChoiceDue(state=DueState.SETTLED if is_no else DueState.OVERDUE, until=until, version=version)
    last = choices[-1] if choices else None
    is_deferred = last is not None and last.choice is Choice.DEFERRED and last.at >= changed.published_at
    return ChoiceDue(
        state=DueState.DEFERRED if is_deferred else DueState.DUE, may_defer=True, until=until, version=version
    )


def _last_change(terms: Terms, now: int) -> PolicyVersion:
    """Return the version that people must have chosen about: the last material one published, else the first of all."""
    published = [version for version in terms.versions if version.published_at <= now]
    return next((version for version in reversed(published) if version.material), published[0])


def _is_yes(event: ConsentEvent) -> bool:
    return event.choice is not None and event.choice.permits and event.purposes.get(CAPABILITY, False)
