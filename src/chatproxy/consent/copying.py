"""What must a ledger say next, so that it says no more than the company's consent service does?

The ledger is what every node decides by, so the service's answers are copied into it. It only ever grows, which the
service need not know:

1. What follows, in the service's list, the last choice that was copied is new and is copied in its order.
2. A yes is copied only if it is younger than everything that was decided here; a no always.
3. A yes that stands here and is not in the list any more ends, and so does one where the service's last word is no yes.
   It stays ended if it comes back: a new yes is a new choice, with a name and a time of its own.
4. A choice is recognised by a pseudonym of all that the service says of it, so one that was altered is another one.
5. Where the service was found to be failing before, it is written down last that it has answered.

Doing it twice changes nothing, and each step depends only on the ledger as it is: two nodes that do it at once are one.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from chatproxy.consent.events import (
    PURPOSES,
    SURFACES,
    UNDECIDED,
    Choice,
    Circumstances,
    ConsentEvent,
    FactEvent,
    FactKind,
    LedgerEvent,
)
from chatproxy.errors import ConsentSourceError
from chatproxy.model import Surface
from chatproxy.policy.versions import PolicyVersion
from chatproxy.ports import StatedChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One event to append. ``at`` in ms: after every choice that is there, and not after what else is."""

    what: Choice | FactKind
    at: int
    purposes: tuple[str, ...] = ()
    surfaces: tuple[Surface, ...] = SURFACES
    circumstances: Circumstances = field(default_factory=Circumstances)


class Copier:
    """One answer of the service, to be copied into one person's ledger.

    Raises ConsentSourceError where a choice is about a version of the policy that is not known here.
    """

    def __init__(
        self,
        stated: Sequence[StatedChoice],
        *,
        asked_at: int,
        pseudonym: Callable[[bytes], str],
        versions: Sequence[PolicyVersion] = (),
    ) -> None:
        """``pseudonym`` names a choice; ``versions``: of the policy that people choose about, if any are known."""
        known = {version.version: version for version in versions}
        if known and any(c.policy_version is not None and c.policy_version not in known for c in stated):
            raise ConsentSourceError("policy_version")
        self._stated = tuple(stated)
        self._asked_at = asked_at
        self._names = [pseudonym(_canonical(choice)) for choice in stated]
        self._versions = known

    def next_step(self, events: Sequence[LedgerEvent]) -> Step | None:
        """Return what to append to the ledger that has *events*; None: nothing is missing."""
        choices = [
            event for event in events if isinstance(event, ConsentEvent) and event.conversation is None
        ]
        standing = _standing(choices)
        after = _last_choice_at(events)
        if any(event.source_id not in self._names for event in standing):
            return Step(what=Choice.INVALIDATED, at=max(self._asked_at, after + 1))
        new = self._first_new(choices, _decided_at(events))
        if new is not None:
            return replace(new, at=max(new.at, after + 1))
        if standing and not self._permits:
            return Step(what=Choice.INVALIDATED, at=max(self._asked_at, after + 1))
        if are_unread(events):
            return Step(what=FactKind.CHOICES_READ, at=self._asked_at)
        return None

    @property
    def _permits(self) -> bool:
        decided = [choice for choice in map(_word, self._stated) if choice not in UNDECIDED]
        return bool(decided) and decided[-1].permits

    def _first_new(self, choices: Sequence[ConsentEvent], decided_at: int | None) -> Step | None:
        copied = {event.source_id for event in choices}
        places = [place for place, name in enumerate(self._names) if name in copied]
        for place in range(places[-1] + 1 if places else 0, len(self._stated)):
            stated = self._stated[place]
            if _word(stated).permits and decided_at is not None and stated.at <= decided_at:
                continue
            return self._copy(stated, self._names[place])
        return None

    def _copy(self, stated: StatedChoice, name: str) -> Step:
        source = {"id": name} | ({"receipt": stated.receipt} if stated.receipt is not None else {})
        choice = _word(stated)
        return Step(
            what=choice,
            # A clock that is ahead must not put off a no.
            at=stated.at if choice.permits else min(stated.at, self._asked_at),
            purposes=tuple(purpose for purpose in PURPOSES if purpose in stated.purposes),
            surfaces=tuple(surface for surface in SURFACES if surface in stated.surfaces),
            circumstances=Circumstances(
                policy=self._versions.get(stated.policy_version or ""), source=source
            ),
        )


def are_unread(events: Sequence[LedgerEvent]) -> bool:
    """Whether the ledger says that the service has failed, and not yet that it has answered again."""
    told = [
        event.kind
        for event in events
        if isinstance(event, FactEvent) and event.kind in {FactKind.CHOICES_UNREAD, FactKind.CHOICES_READ}
    ]
    return bool(told) and told[-1] is FactKind.CHOICES_UNREAD


def _canonical(choice: StatedChoice) -> bytes:
    return json.dumps(
        [
            choice.ident,
            choice.state,
            choice.at,
            sorted(choice.purposes),
            sorted(choice.surfaces),
            choice.policy_version,
        ]
    ).encode()


def _word(stated: StatedChoice) -> Choice:
    return next(choice for choice in Choice if choice == stated.state)


def _is_undecided(event: ConsentEvent) -> bool:
    return event.choice is not None and event.choice in UNDECIDED


def _standing(choices: Sequence[ConsentEvent]) -> list[ConsentEvent]:
    """Return the yeses that stand: that which began the permission and those that renewed it."""
    standing: list[ConsentEvent] = []
    for event in choices:
        if event.choice is not None and event.choice.permits:
            standing.append(event)
        elif not _is_undecided(event):
            standing.clear()
    return standing


def _last_choice_at(events: Sequence[LedgerEvent]) -> int:
    """Return when the last choice was made, or the account deleted: of two the later must stay the later."""
    return max(
        (
            event.at
            for event in events
            if isinstance(event, ConsentEvent) or event.kind is FactKind.ACCOUNT_DELETED
        ),
        default=0,
    )


def _decided_at(events: Sequence[LedgerEvent]) -> int | None:
    """Return when something was last decided that an older yes must not undo, ms.

    What ended here because the service left it out does not count: what it says instead may be older than that.
    """
    return max(
        (
            event.at
            for event in events
            if (
                isinstance(event, ConsentEvent)
                and event.conversation is None
                and not _is_undecided(event)
                and not (event.choice is Choice.INVALIDATED and event.source_id is None)
            )
            or (isinstance(event, FactEvent) and event.kind is FactKind.ACCOUNT_DELETED)
        ),
        default=None,
    )
