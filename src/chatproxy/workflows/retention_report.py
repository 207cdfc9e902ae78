"""What is kept on which ground, until when, and is anything there that should be gone (R44)?

1. Every annotation is looked at once, in bounded batches, and nothing is opened. A turn counts in each class of ground
   that keeps it. What nothing but a hold keeps is in the class of holds.
2. A decision that has seen the whole ledger of its person is believed; any other is made again, as of an hour ago: what
   was chosen or deleted since is being seen to.
3. Every other key of a person is looked at too: it must end, and a record not later than it says itself.
4. The keys of expiry days must be destroyed after their grace; one goes an hour.
5. What is over for an hour (the key of a day: for a day) and still there is overdue. None may be.
"""

from collections.abc import Iterable, Mapping
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
from chatproxy.ports import FoundKey, ReapStore, StoredTurn, TranscriptStore
from chatproxy.workflows.policies import Policies
from chatproxy.workflows.verdict import Kept

_HOUR_MS = 3_600_000
_MOST_OWNERS = 50_000
"""People whose place in the ledger is remembered: some 200 bytes each."""
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
    ) -> None:
        """``day_grace_ms``: so long after its day the key of it stays."""
        self._store = store
        self._reaping = reaping
        self._annotation_keys = annotation_keys
        self._policies = policies
        self._clock = clock
        self._day_grace_ms = day_grace_ms
        self._versions = tuple(versions)
        self._seen: dict[SubjectTag, _Seen] = {}

    async def report(self) -> Mapping[str, Retained]:
        """Return every class, also where there is nothing of it. Raises StoreUnavailableError."""
        now = self._clock()
        found = {name: Retained() for name in CLASSES}
        async for stored in self._store.annotations():
            await self._look_at_turn(stored, found, now)
        async for keys in self._reaping.walk():
            for key in keys:
                _look_at_key(key, found, now)
        for day in {day_of_epoch(epoch) for epoch in await self._reaping.epochs()}:
            ends_at = (day + 1) * DAY_MS
            found[DAYS].add(ends_at=ends_at + self._day_grace_ms, now=now, received_at=ends_at, grace=DAY_MS)
        return found

    async def _look_at_turn(self, stored: StoredTurn, found: Mapping[str, Retained], now: int) -> None:
        try:
            kept = Kept.of(stored, self._annotation_keys)
        except UndecryptableError:
            # It is of no use to anybody, and ends by what the store says of it.
            ttl = stored.ttl_expires_at
            found[UNREADABLE].add(ends_at=None if ttl == _NO_EXPIRY else ttl, now=now)
            return
        received_at = kept.facts.received_at
        seen = await self._seen_of(stored.subject)
        if seen.erased_at is not None and received_at <= seen.erased_at:
            found[ERASED].add(ends_at=seen.erased_at, now=now, received_at=received_at, grace=DAY_MS)
            return
        is_settled = kept.note.consent == seen.digest or received_at > now - _HOUR_MS
        over = frozenset() if is_settled or not seen.is_authentic else await self._over(kept, now - _HOUR_MS)
        for name, end in _ends(kept, over, now=now).items():
            ends_at = None if stored.ttl_expires_at == _NO_EXPIRY else end
            found[name].add(ends_at=ends_at, now=now, received_at=received_at)

    async def _over(self, kept: Kept, at: int) -> frozenset[int]:
        """Return the groups of a turn that nothing kept at *at* any more, by the whole ledger."""
        subject = kept.stored.subject
        state = await self._store.subject_state(subject)
        try:
            events = read_ledger(state.ledger, subject=subject, keys=self._annotation_keys)
            policy = await self._policies.get(kept.note.policy)
        except UndecryptableError:
            return frozenset()  # nothing is granted, and nothing erased: `transcripts verify` names it
        person = PersonFacts(events, self._versions)
        return frozenset(
            group.n
            for group in kept.note.groups
            if not policy.decide_part(kept.as_noted, part=group.part, now=at, person=person).stored
        )

    async def _seen_of(self, subject: SubjectTag) -> _Seen:
        seen = self._seen.get(subject)
        if seen is None:
            if len(self._seen) >= _MOST_OWNERS:
                self._seen.clear()
            state = await self._store.subject_state(subject)
            try:
                events = read_ledger(state.ledger, subject=subject, keys=self._annotation_keys)
            except UndecryptableError:
                seen = _Seen(None, state.erased_at, is_authentic=False)
            else:
                digest = events[-1].digest if events else None
                seen = _Seen(digest, state.erased_at, is_authentic=True)
            self._seen[subject] = seen
        return seen


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
