"""What is known of each person in this process: their keys and their choices, cached and never trusted to be fresh.

1. A lookup starts at acceptance and nobody waits for it (R29). Whoever asks for a person while they are being read joins
   that reading: a thousand requests at once are one.
2. What is cached may be old, and that is safe for what is kept: a turn is put with the length of the ledger that its
   decision has seen, and the store refuses it when there is more by then.
3. Every change is heard, from any node, and empties the place of its person at once. What was being read meanwhile may
   be from before, so it is read again. While nothing can be heard, what is cached counts for half a second.
4. Where people choose at the company's own service, a yes counts only as far as that has confirmed it
   (``chatproxy.workflows.consult``).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from chatproxy.clock import Clock
from chatproxy.consent.events import read_ledger
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.annotation import AnnotationKeys
from chatproxy.crypto.keys import DataKey
from chatproxy.errors import StoreUnavailableError, UndecryptableError
from chatproxy.model import Caller, SubjectTag
from chatproxy.policy.facts import Lookup
from chatproxy.policy.versions import PolicyVersion
from chatproxy.ports import SubjectState, TranscriptStore
from chatproxy.tasks import Background
from chatproxy.telemetry import Log, Metrics
from chatproxy.workflows.consult import Consultations

_log = Log("subjects")
_MOST_CACHED = 20_000
_MOST_READINGS = 3
"""How often a person is read in a row who keeps changing; the last reading is not remembered."""
_UNHEARD_MS = 500
"""How long what was read counts while changes are not heard."""
_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Person:
    """What is known of one subject as of ``read_at``."""

    state: SubjectState = field(repr=False)
    facts: PersonFacts | None = field(repr=False)
    """What the ledger comes to; None where it cannot be authenticated, which counts as no (R30)."""
    read_at: int
    opened: dict[int, DataKey] = field(default_factory=dict, repr=False, compare=False)
    """Keys of the person that were unwrapped since, by generation; they go when this goes."""


@dataclass(slots=True)
class _Reading:
    """A person is being read, for whoever waits for ``done``."""

    done: "asyncio.Future[Person]"
    is_overtaken: bool = False
    """They have changed since the reading began."""


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
        consultations: Consultations | None = None,
        most_cached: int = _MOST_CACHED,
    ) -> None:
        """``versions``: of the policy that people choose about. ``consultations``: where that is not done here."""
        self._store = store
        self._annotation_keys = annotation_keys
        self._clock = clock
        self._metrics = metrics
        self._background = background
        self._max_staleness_ms = max_staleness_ms
        self._versions = tuple(versions)
        # One for all who have never chosen, who are most: of their own they would take a kilobyte each.
        self._no_choices = PersonFacts((), self._versions)
        self._consultations = consultations
        self._most_cached = most_cached
        self._cache: OrderedDict[SubjectTag, Person] = OrderedDict()
        self._readings: dict[SubjectTag, _Reading] = {}
        self._is_listening = False
        metrics.cached_people.set_function(lambda: len(self._cache))
        metrics.listening.set_function(lambda: self._is_listening)

    def prefetch(self, subject: SubjectTag, caller: Caller) -> None:
        """Begin to read *caller*, unless that is under way or what is known is fresh. Returns at once."""
        if self._consultations is not None:
            self._consultations.begin(subject, caller, when_changed=self.forget)
        if self.known(subject) is not None:
            self._metrics.lookups.labels("cached").inc()
        elif subject in self._readings:
            self._metrics.lookups.labels("coalesced").inc()
        else:
            self._begin(subject).done.add_done_callback(self._count)

    def known(self, subject: SubjectTag) -> Person | None:
        """Return what is known if it is no older than the staleness allowed (R30)."""
        person = self._cache.get(subject)
        oldest = self._max_staleness_ms if self._is_listening else min(self._max_staleness_ms, _UNHEARD_MS)
        if person is None or not -oldest <= self._clock() - person.read_at <= oldest:
            return None
        self._cache.move_to_end(subject)
        return person

    def lookup(self, subject: SubjectTag, person: Person) -> Lookup | None:
        """Return how it went to ask about a known person, as of now; None: that is not known yet."""
        consultations = self._consultations
        if consultations is None or consultations.is_fresh(subject):
            return Lookup.OK
        return None if consultations.is_pending(subject) else _without_answer(person)

    async def read(self, subject: SubjectTag) -> Person:
        """Read a subject from the store now. Raises StoreUnavailableError, UndecryptableError."""
        reading = self._readings.get(subject) or self._begin(subject)
        return await asyncio.shield(reading.done)

    async def erased_at(self, subject: SubjectTag) -> int | None:
        """Return the fence of an erasure (ms), None: there is none. Raises StoreUnavailableError, UndecryptableError."""
        return (await self._current(subject)).state.erased_at

    async def ask(self, subject: SubjectTag, caller: Caller) -> Person | None:
        """Return what is known of *caller* for certain now; None: the company's consent service does not answer.

        Raises StoreUnavailableError, UndecryptableError.
        """
        consultations = self._consultations
        if consultations is not None and not await consultations.finish(
            subject, caller, when_changed=self.forget
        ):
            return None
        return await self.read(subject)

    async def to_keep(self, subject: SubjectTag, caller: Caller, *, may_wait: bool) -> tuple[Person, Lookup]:
        """Return what a turn of *caller* is to be kept by, and how it went to ask about them (R29, R30).

        ``may_wait``: for the company's consent service. Raises StoreUnavailableError, UndecryptableError.
        """
        consultations = self._consultations
        if consultations is None or caller.subject is None:
            return await self._current(subject), Lookup.OK
        if may_wait:
            is_answered = await consultations.finish(subject, caller, when_changed=self.forget)
        else:
            is_answered = consultations.is_fresh(subject)
        person = await self._current(subject)
        if is_answered:
            return person, Lookup.OK
        if person.facts is not None and not person.facts.are_choices_unread:
            await consultations.note_unread(subject)
            self.forget(subject)
            person = await self._current(subject)
        return person, _without_answer(person)

    def has_key(self, subject: SubjectTag, person: Person, *, generation: int, wrap: bytes) -> None:
        """A put has made the subject's key: remember it, if *person* still is what is known of them."""
        if self._cache.get(subject) is not person:
            return
        state = replace(person.state, generation=generation, wraps={**person.state.wraps, generation: wrap})
        self._remember(subject, replace(person, state=state))

    def forget(self, subject: SubjectTag) -> None:
        """Something about the subject has changed: what is known, and what is being read, may be from before."""
        self._cache.pop(subject, None)
        reading = self._readings.get(subject)
        if reading is not None:
            reading.is_overtaken = True

    async def listen(self, wake: Callable[[], None]) -> None:
        """Forget whoever's ledger grows, on any node, until cancelled; *wake* whoever waits for that.

        What is said while the connection is broken is not heard, so then nothing that is known counts.
        """
        while True:
            try:
                async with self._store.changes() as changes:
                    self._forget_all()
                    self._is_listening = True
                    wake()
                    async for subject in changes:
                        self.forget(subject)
                        wake()
            except StoreUnavailableError:
                self._metrics.store_failures.labels("listen").inc()
            except Exception as error:  # noqa: BLE001 - the outer edge of this task: it must never end by itself
                _log.error("changes made on other nodes cannot be heard; it is tried again", failure=error)
            finally:
                self._is_listening = False
                self._forget_all()
            await asyncio.sleep(_PAUSE_SECONDS)

    def _forget_all(self) -> None:
        self._cache.clear()
        for reading in self._readings.values():
            reading.is_overtaken = True

    async def _current(self, subject: SubjectTag) -> Person:
        return self.known(subject) or await self.read(subject)

    def _begin(self, subject: SubjectTag) -> _Reading:
        reading = self._readings[subject] = _Reading(asyncio.get_running_loop().create_future())
        self._background.spawn(self._read(subject, reading), name="read-subject")
        return reading

    async def _read(self, subject: SubjectTag, reading: _Reading) -> None:
        try:
            person = await self._fetch(subject)
            for _ in range(_MOST_READINGS - 1):
                if not reading.is_overtaken:
                    break
                reading.is_overtaken = False
                person = await self._fetch(subject)
        except Exception as error:  # noqa: BLE001 - whoever waits for the reading hears of it
            outcome: Person | BaseException = error
        except BaseException:
            reading.done.cancel()
            raise
        else:
            outcome = person if reading.is_overtaken else self._remember(subject, person)
        finally:
            del self._readings[subject]
        if reading.done.done():
            return
        if isinstance(outcome, Person):
            reading.done.set_result(outcome)
        else:
            reading.done.set_exception(outcome)
            reading.done.exception()  # nobody need be waiting

    async def _fetch(self, subject: SubjectTag) -> Person:
        read_at = self._clock()
        state = await self._store.subject_state(subject)
        if not state.ledger:
            return Person(state, self._no_choices, read_at)
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
        return Person(state, facts, read_at)

    def _count(self, done: "asyncio.Future[Person]") -> None:
        has_failed = done.cancelled() or done.exception() is not None
        self._metrics.lookups.labels("failed" if has_failed else "read").inc()

    def _remember(self, subject: SubjectTag, person: Person) -> Person:
        self._cache[subject] = person
        self._cache.move_to_end(subject)
        if len(self._cache) > self._most_cached:
            self._cache.popitem(last=False)
        return person


def _without_answer(person: Person) -> Lookup:
    """Return how it went where the service did not answer: what was copied before is a cached choice, if any was."""
    return Lookup.STALE if person.facts is not None and person.facts.account_choices else Lookup.FAILED
