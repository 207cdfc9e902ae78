"""What is known of each person in this process: their keys and their choices, cached and never trusted to be fresh.

A lookup starts at acceptance and nobody waits for it (R29). What is cached may be old, and that is safe: a turn is
put with the length of the ledger that its decision has seen, and the store refuses it when there is more by then, so
a choice made on another node a millisecond ago is in force here.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from chatproxy.clock import Clock
from chatproxy.consent.events import read_ledger
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.annotation import AnnotationKeys
from chatproxy.errors import StoreUnavailableError, UndecryptableError
from chatproxy.model import SubjectTag
from chatproxy.policy.versions import PolicyVersion
from chatproxy.ports import SubjectState, TranscriptStore
from chatproxy.tasks import Background
from chatproxy.telemetry import Log, Metrics

_log = Log("subjects")
_MOST_CACHED = 100_000
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Person:
    """What is known of one subject as of ``read_at``."""

    state: SubjectState = field(repr=False)
    facts: PersonFacts | None = field(repr=False)
    """What the ledger comes to; None where it cannot be authenticated, which counts as no (R30)."""
    read_at: int


class Subjects:
    """A bounded cache of Person, least recently used out first."""

    def __init__(
        self,
        store: TranscriptStore,
        annotation_keys: AnnotationKeys,
        *,
        clock: Clock,
        metrics: Metrics,
        background: Background,
        max_staleness_ms: int,
        versions: Sequence[PolicyVersion] = (),
    ) -> None:
        """``versions``: of the policy that people choose about."""
        self._store = store
        self._annotation_keys = annotation_keys
        self._clock = clock
        self._metrics = metrics
        self._background = background
        self._max_staleness_ms = max_staleness_ms
        self._versions = tuple(versions)
        self._cache: OrderedDict[SubjectTag, Person] = OrderedDict()
        self._loading: set[SubjectTag] = set()

    def prefetch(self, subject: SubjectTag) -> None:
        """Begin to read a subject, unless that is under way or what is known is fresh. Returns at once."""
        if self.known(subject) is not None:
            self._metrics.lookups.labels("cached").inc()
            return
        if subject in self._loading:
            self._metrics.lookups.labels("coalesced").inc()
            return
        self._loading.add(subject)
        self._background.spawn(self._prefetch(subject), name="read-subject")

    async def _prefetch(self, subject: SubjectTag) -> None:
        try:
            await self.read(subject)
            self._metrics.lookups.labels("read").inc()
        except (StoreUnavailableError, UndecryptableError):
            self._metrics.lookups.labels("failed").inc()
        finally:
            self._loading.discard(subject)

    def known(self, subject: SubjectTag) -> Person | None:
        """Return what is known if it is no older than the staleness allowed (R30)."""
        person = self._cache.get(subject)
        if person is None or abs(self._clock() - person.read_at) > self._max_staleness_ms:
            return None
        self._cache.move_to_end(subject)
        return person

    async def read(self, subject: SubjectTag) -> Person:
        """Read a subject from the store now. Raises StoreUnavailableError."""
        read_at = self._clock()
        state = await self._store.subject_state(subject)
        facts = None
        try:
            facts = PersonFacts(
                read_ledger(state.ledger, subject=subject, keys=self._annotation_keys), self._versions
            )
        except UndecryptableError as error:
            _log.error(
                "consent ledger cannot be authenticated; its person counts as not having agreed",
                reason=error.reason,
            )
        return self._remember(subject, Person(state, facts, read_at))

    def has_key(self, subject: SubjectTag, person: Person, *, generation: int, wrap: bytes) -> None:
        """A put has made the subject's key: remember it."""
        state = replace(person.state, generation=generation, wraps={**person.state.wraps, generation: wrap})
        self._remember(subject, replace(person, state=state))

    def forget(self, subject: SubjectTag) -> None:
        """Something about the subject has changed elsewhere."""
        self._cache.pop(subject, None)

    async def listen(self, wake: Callable[[], None]) -> None:
        """Forget whoever's ledger grows, on any node, until cancelled; *wake* whoever waits for that.

        What is said while the connection is broken is not heard, so then nothing that is known counts.
        """
        while True:
            try:
                async with self._store.changes() as changes:
                    self._cache.clear()
                    async for subject in changes:
                        self.forget(subject)
                        wake()
            except StoreUnavailableError:
                self._metrics.store_failures.labels("listen").inc()
            finally:
                self._cache.clear()
            await asyncio.sleep(_PAUSE_SECONDS)

    def _remember(self, subject: SubjectTag, person: Person) -> Person:
        self._cache[subject] = person
        self._cache.move_to_end(subject)
        if len(self._cache) > _MOST_CACHED:
            self._cache.popitem(last=False)
        return person
