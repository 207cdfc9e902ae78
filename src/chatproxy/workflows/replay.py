"""Was each decision what the policy says? Every note, recomputed from what its decision had seen.

A note names the policy that it was made under, its instant, and the last event of the ledger that it had seen. So the
same decision can be made again, with the events up to that one, and must come out the same. Four things are known to
the decision and not to the note, and are no differences:

1. A turn that was first kept without an authentic ledger names no event, like one of a person without events. Either
   reading may explain it.
2. What is held is sealed to the review of the hold, or further ahead while that is overdue: any end that is not before
   the grounds' own explains it (R24).
3. A turn decided on again is not brought in by a choice that was recorded with an earlier time (R31), which depends on
   what was noted before. A turn that was decided on again and is not eligible is explained by that, too.
4. How the consent service answered is not in the note, but in its reason: a turn that says that the choice was not
   read, or not lately, and one of somebody whose choices were not read, may have been decided so (R30).
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass

from chatproxy.consent.events import LedgerEvent, read_ledger
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.annotation import AnnotationKeys
from chatproxy.errors import UndecryptableError
from chatproxy.model import SubjectTag, TurnId
from chatproxy.policy.engine import Decision
from chatproxy.policy.facts import Lookup
from chatproxy.policy.reasons import Reason
from chatproxy.policy.versions import PolicyVersion
from chatproxy.ports import StoredTurn, TranscriptStore
from chatproxy.workflows.annotate import GroupNote, TurnNote, group_note
from chatproxy.workflows.decide import NOBODY, Policy
from chatproxy.workflows.policies import Policies
from chatproxy.workflows.verdict import Kept, is_unfounded_upgrade

_UNREAD = frozenset({Reason.CONSENT_LOOKUP_FAILED, Reason.CONSENT_CACHE_STALE})


@dataclass(frozen=True, slots=True)
class Difference:
    """A decision that does not come out as it was noted."""

    subject: SubjectTag
    turn: TurnId
    what: str
    """``decision``, or why it cannot be replayed: ``event_missing``, ``unknown_policy``, ``annotation_mac`` …"""
    noted: GroupNote | None = None
    replayed: GroupNote | None = None


@dataclass(frozen=True, slots=True)
class Same:
    """A turn whose decisions come out as noted."""

    subject: SubjectTag
    turn: TurnId


class Replay:
    """Replays decisions."""

    def __init__(
        self,
        store: TranscriptStore,
        annotation_keys: AnnotationKeys,
        policies: Policies,
        *,
        versions: Sequence[PolicyVersion] = (),
    ) -> None:
        """``versions``: of the policy that people choose about."""
        self._store = store
        self._annotation_keys = annotation_keys
        self._policies = policies
        self._versions = tuple(versions)

    async def walk(self, subject: SubjectTag | None = None) -> AsyncIterator[Same | Difference]:
        """Replay every turn of one person or of all: differences, or one Same. Raises StoreUnavailableError."""
        if subject is not None:
            async for found in self._person(subject):
                yield found
            return
        async for each in self._store.subjects():
            async for found in self._person(each):
                yield found

    async def _person(self, subject: SubjectTag) -> AsyncIterator[Same | Difference]:
        state = await self._store.subject_state(subject)
        known: _Known | str
        try:
            known = _Known(
                read_ledger(state.ledger, subject=subject, keys=self._annotation_keys), self._versions
            )
        except UndecryptableError as error:
            known = error.reason
        async for stored in self._store.annotations(subject):
            if isinstance(known, str):
                yield Difference(subject, stored.turn, known)
                continue
            differences = await self._replayed(stored, known)
            for difference in differences:
                yield difference
            if not differences:
                yield Same(subject, stored.turn)

    async def _replayed(self, stored: StoredTurn, known: "_Known") -> list[Difference]:
        try:
            kept = Kept.of(stored, self._annotation_keys)
            note = kept.note
            policy = await self._policies.get(note.policy)
            seen = known.until(note.consent)
        except UndecryptableError as error:
            return [Difference(stored.subject, stored.turn, error.reason)]
        seen_so = [seen] if note.consent else [seen, None]
        found = []
        for noted in note.groups:
            made = [decision for person in seen_so for decision in _decisions(noted, kept, policy, person)]
            if not any(_explains(decision, noted, note) for decision in made):
                replayed = _noted(made[0], noted)
                found.append(Difference(stored.subject, stored.turn, "decision", noted, replayed))
        return found


class _Known:
    """A ledger as it was after each of its events."""

    def __init__(self, events: tuple[LedgerEvent, ...], versions: tuple[PolicyVersion, ...]) -> None:
        self._events = events
        self._versions = versions
        self._places = {event.digest: place for place, event in enumerate(events, 1)}
        self._facts: dict[int, PersonFacts] = {0: NOBODY}

    def until(self, digest: str | None) -> PersonFacts:
        """Return what was known when the last event was that of *digest*. Raises UndecryptableError."""
        if digest is not None and digest not in self._places:
            raise UndecryptableError("event_missing")
        place = 0 if digest is None else self._places[digest]
        if place not in self._facts:
            self._facts[place] = PersonFacts(self._events[:place], self._versions)
        return self._facts[place]


def _decisions(
    noted: GroupNote, kept: Kept, policy: Policy, person: PersonFacts | None
) -> Iterator[Decision]:
    """Yield what the decision was, and what else it may have been."""
    turn, note = kept.as_noted, kept.note
    decision = policy.decide_part(turn, part=noted.part, now=note.decided_at, person=person)
    yield decision
    if person is not None and (noted.reason in _UNREAD or person.are_choices_unread):
        for lookup in (Lookup.FAILED, Lookup.STALE):
            yield policy.decide_part(turn, part=noted.part, now=note.decided_at, person=person, lookup=lookup)
    if kept.annotation.seq > 1 and person is not None:
        is_unfounded = is_unfounded_upgrade(
            noted,
            decision,
            grants=person.grants(note.surface),
            received_at=turn.received_at,
            now=note.decided_at,
        )
        if is_unfounded:
            without = person.without_permissions
            yield policy.decide_part(turn, part=noted.part, now=note.decided_at, person=without)


def _explains(decision: Decision, noted: GroupNote, note: TurnNote) -> bool:
    return decision.stored and _noted(decision, noted) == noted and noted.expires_at > note.decided_at


def _noted(decision: Decision, noted: GroupNote) -> GroupNote:
    """Return how *decision* is noted; of what is held, the end that was noted if it may be."""
    end = decision.expires_at or 0
    if decision.held:
        end = max([noted.expires_at, *decision.grounds.values()])
    return group_note(decision, number=noted.n, part=noted.part, expires_at=end, size=noted.bytes)
