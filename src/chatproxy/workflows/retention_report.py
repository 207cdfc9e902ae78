"""What is kept on which ground, until when, and is anything there that should be gone (R44)?

1. Every annotation is looked at once, in bounded batches, and nothing is opened. A turn counts in each class of ground
   that keeps it. What nothing but a hold keeps is in the class of holds.
2. A decision that has seen the whole ledger of its person is believed; any other is made again, as of an hour ago: what
   was chosen or deleted since is being seen to.
3. Every other key of a person is looked at too: it must end, and a record not later than it says itself.
4. The keys of expiry days must be destroyed after their grace; one goes an hour.
5. What is over for an hour (the key of a day: for a day) and still there is overdue. None may be.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from chatproxy.clock import Clock
from chatproxy.consent.events import read_ledger
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.annotation import AnnotationKeys
from chatproxy.crypto.record import day_of_epoch
from chatproxy.errors import UndecryptableError
from chatproxy.model import SubjectTag
from chatproxy.policy.grounds import Ground
from chatproxy.policy.periods import DAY_MS
from chatproxy.policy.reasons import Reason
from chatproxy.policy.versions import PolicyVersion
from chatproxy.ports import FoundKey, ReapStore, StoredTurn, SubjectState, TranscriptStore
from chatproxy.workflows.batches import in_batches
from chatproxy.workflows.policies import Policies
from chatproxy.workflows.verdict import Kept

_HOUR_MS = 3_600_000
_BATCH, _READ_AT_ONCE = 500, 50
"""Turns that are looked at together, and people whose ledgers are in memory together."""
_NO_EXPIRY = -1
_KINDS = {"r": "records", "c": "ledgers", "s": "keys of people", "u": "uses in datasets"}
INDEXES, DAYS, ERASED, UNREADABLE = "indexes", "keys of days", "erased, being removed", "not as kept"
HELD = str(Reason.LEGAL_HOLD)
CLASSES = (*map(str, Ground), HELD, ERASED, UNREADABLE, *_KINDS.values(), INDEXES, DAYS)


@dataclass(slots=True)
class Retained:
    """What was found of one class. Instants in ms."""

    count: int = 0
    oldest: int | None = None
    """When the oldest of it was received; of the key of a day, when that day ends."""
    next_due: int | None = None
    """When the first of it that is not over yet must be gone."""
    due: int = 0
    """How many are over and should go any moment."""
    overdue: int = 0
    """How many should be gone, and are there."""

    def add(
        self, *, ends_at: int | None, now: int, received_at: int | None = None, grace: int = _HOUR_MS
    ) -> None:
        """Count one that must be gone at *ends_at*; None: it never ends, which is a fault."""
        self.count += 1
        if received_at is not None:
            self.oldest = received_at if self.oldest is None else min(self.oldest, received_at)
        if ends_at is None or ends_at + grace <= now:
            self.overdue += 1
        elif ends_at <= now:
            self.due += 1
        else:
            self.next_due = ends_at if self.next_due is None else min(self.next_due, ends_at)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a decision on the person's turns must have seen."""

    digest: str | None
    """Of the last event of the ledger."""
    erased_at: int | None
    is_authentic: bool

    def is_fenced(self, received_at: int) -> bool:
        """Whether what was received then is erased."""
        return self.erased_at is not None and received_at <= self.erased_at

    def has_decided(self, kept: Kept, now: int) -> bool:
        """Whether the decision on a turn is to be believed, or nothing else can be."""
        received_at = kept.facts.received_at
        return (
            kept.note.consent == self.digest
            or received_at > now - _HOUR_MS
            or not self.is_authentic
            or self.is_fenced(received_at)
        )


class RetentionReporter:
    """Looks at everything, and changes nothing."""

    def __init__(
        self,
        store: TranscriptStore,
        reaping: ReapStore,
        annotation_keys: AnnotationKeys,
        policies: Policies,
        *,
        clock: Clock,
        day_grace_ms: int,
        versions: Iterable[PolicyVersion] = (),
        most_remembered: int = 50_000,
    ) -> None:
        """``day_grace_ms``: so long after its day the key of it stays.

        ``most_remembered``: of so many people it is remembered what a decision must have seen, some 400 bytes each; of
        others it is read again.
        """
        self._store = store
        self._reaping = reaping
        self._annotation_keys = annotation_keys
        self._policies = policies
        self._clock = clock
        self._day_grace_ms = day_grace_ms
        self._versions = tuple(versions)
        self._most_remembered = most_remembered
        self._seen: dict[SubjectTag, _Seen] = {}

    async def report(self) -> Mapping[str, Retained]:
        """Return every class, also where there is nothing of it. Raises StoreUnavailableError."""
        now = self._clock()
        found = {name: Retained() for name in CLASSES}
        async for batch in in_batches(self._store.annotations(), _BATCH):
            await self._look_at_turns(batch, found, now)
        async for keys in self._reaping.walk():
            for key in keys:
                _look_at_key(key, found, now)
        for day in {day_of_epoch(epoch) for epoch in await self._reaping.epochs()}:
            ends_at = (day + 1) * DAY_MS
            found[DAYS].add(ends_at=ends_at + self._day_grace_ms, now=now, received_at=ends_at, grace=DAY_MS)
        return found

    async def _look_at_turns(
        self, batch: Sequence[StoredTurn], found: Mapping[str, Retained], now: int
    ) -> None:
        if len(self._seen) >= self._most_remembered:
            self._seen.clear()
        people: dict[SubjectTag, list[Kept]] = {}
        for stored in batch:
            try:
                kept = Kept.of(stored, self._annotation_keys)
            except UndecryptableError:
                # It is of no use to anybody, and ends by what the store says of it.
                ttl = stored.ttl_expires_at
                found[UNREADABLE].add(ends_at=None if ttl == _NO_EXPIRY else ttl, now=now)
            else:
                people.setdefault(stored.subject, []).append(kept)
        unread = [subject for subject, turns in people.items() if not self._is_settled(subject, turns, now)]
        for start in range(0, len(unread), _READ_AT_ONCE):
            some = unread[start : start + _READ_AT_ONCE]
            for subject, state in zip(some, await self._store.subject_states(some), strict=True):
                facts = self._read(subject, state)
                for kept in people.pop(subject):
                    await self._count(kept, self._seen[subject], facts, found, now)
        for subject, turns in people.items():
            for kept in turns:
                await self._count(kept, self._seen[subject], None, found, now)

    def _is_settled(self, subject: SubjectTag, turns: Sequence[Kept], now: int) -> bool:
        """Whether the decisions on some turns of a person are to be believed, as far as is remembered."""
        seen = self._seen.get(subject)
        return seen is not None and all(seen.has_decided(kept, now) for kept in turns)

    def _read(self, subject: SubjectTag, state: SubjectState) -> PersonFacts | None:
        """Read the ledger of a person, and remember what a decision must have seen; None: it is not authentic."""
        try:
            events = read_ledger(state.ledger, subject=subject, keys=self._annotation_keys)
        except UndecryptableError:
            self._seen[subject] = _Seen(None, state.erased_at, is_authentic=False)
            return None
        digest = events[-1].digest if events else None
        self._seen[subject] = _Seen(digest, state.erased_at, is_authentic=True)
        return PersonFacts(events, self._versions)

    async def _count(
        self, kept: Kept, seen: _Seen, facts: PersonFacts | None, found: Mapping[str, Retained], now: int
    ) -> None:
        """Count one turn; *facts*: the ledger, where the decision has not seen the whole of it."""
        received_at = kept.facts.received_at
        if seen.is_fenced(received_at):
            found[ERASED].add(ends_at=seen.erased_at, now=now, received_at=received_at, grace=DAY_MS)
            return
        over: frozenset[int] = frozenset()
        if facts is not None and not seen.has_decided(kept, now):
            over = await self._over(kept, facts, now - _HOUR_MS)
        for name, end in _ends(kept, over, now=now).items():
            ends_at = None if kept.stored.ttl_expires_at == _NO_EXPIRY else end
            found[name].add(ends_at=ends_at, now=now, received_at=received_at)

    async def _over(self, kept: Kept, person: PersonFacts, at: int) -> frozenset[int]:
        """Return the groups of a turn that nothing kept at *at* any more, by the whole ledger."""
        try:
            policy = await self._policies.get(kept.note.policy)
        except UndecryptableError:
            return frozenset()  # nothing is granted, and nothing erased: `transcripts verify` names it
        return frozenset(
            group.n
            for group in kept.note.groups
            if not policy.decide_part(kept.as_noted, part=group.part, now=at, person=person).stored
        )


def _ends(kept: Kept, over: frozenset[int], *, now: int) -> dict[str, int]:
    """Return when the first of a turn ends in each class that it is in: by its grounds, under a hold by its seal.

    A ground that is over while another lives keeps nothing. What is *over* by the ledger has been so since it was kept.
    """
    ends: dict[str, int] = {}
    for group in kept.note.groups:
        if HELD in group.also:
            its = {HELD: group.expires_at}
        else:
            last = max(group.grounds.values(), default=group.expires_at)
            its = {ground: end for ground, end in group.grounds.items() if end > now or end == last}
        if group.n in over:
            its = dict.fromkeys(its, kept.facts.received_at)
        for name, end in its.items():
            ends[name] = min(end, ends.get(name, end))
    return ends


def _look_at_key(key: FoundKey, found: Mapping[str, Retained], now: int) -> None:
    if key.kind == "a":
        return  # looked at as a turn
    its = found[_KINDS.get(key.kind, INDEXES)]
    ttl = None if key.ttl_expires_at == _NO_EXPIRY else key.ttl_expires_at
    its.add(ends_at=ttl if key.promised is None or ttl is None else min(ttl, key.promised), now=now)
