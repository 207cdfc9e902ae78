"""What does the company's consent service say of a person now? It is asked at acceptance, and its answer copied.

1. Nobody who chats waits. Each request of a person has them asked about, unless that is under way or was answered within
   the last second; whoever keeps the turn waits for the answer at most as long as the service may take.
2. A good answer is in the ledger before it counts as one. From then on proof, puts, deciding again and every other node
   depend on the ledger alone.
3. An answer counts as long as ``CHATPROXY_CONSENT_MAX_STALENESS``; what is kept later is asked about again.
4. Without a good answer what the ledger holds is a cached choice: a yes in it is stale, a no still is one (R30). That
   something is kept so is written in the ledger too, and until there is an answer again nothing is granted (R31).
   That takes a request of the person: their id is theirs alone to bring, and stored nowhere.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from chatproxy.clock import Clock
from chatproxy.consent.copying import Copier, Step, are_unread
from chatproxy.consent.events import FactKind, LedgerEvent
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.errors import ConsentSourceError, StoreUnavailableError, UndecryptableError
from chatproxy.model import Caller, SubjectTag
from chatproxy.policy.versions import PolicyVersion
from chatproxy.ports import ConsentSource
from chatproxy.tasks import Background
from chatproxy.telemetry import Metrics
from chatproxy.workflows.ledger import Ledger

_BY = "consent-service"
_MOST_REMEMBERED = 100_000
_JUST_NOW_MS = 1_000
"""A person is not asked about more often than that."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """When a person was last asked about, and answered, ms."""

    at: int
    answered_at: int | None

    @property
    def is_good(self) -> bool:
        """Whether the last question was answered."""
        return self.answered_at == self.at


class Consultations:
    """Asks about people, one question a person at a time."""

    def __init__(
        self,
        source: ConsentSource,
        ledger: Ledger,
        pseudonyms: Pseudonymizer,
        *,
        clock: Clock,
        metrics: Metrics,
        background: Background,
        max_staleness_ms: int,
        versions: Sequence[PolicyVersion] = (),
    ) -> None:
        """``versions``: of the policy that people choose about, if any are known."""
        self._source = source
        self._ledger = ledger
        self._pseudonyms = pseudonyms
        self._clock = clock
        self._metrics = metrics
        self._background = background
        self._max_staleness_ms = max_staleness_ms
        self._again_ms = min(_JUST_NOW_MS, max_staleness_ms)
        self._versions = tuple(versions)
        self._asked: OrderedDict[SubjectTag, _Asked] = OrderedDict()
        self._asking: dict[SubjectTag, asyncio.Future[bool]] = {}

    def begin(
        self, subject: SubjectTag, caller: Caller, *, when_changed: Callable[[SubjectTag], None]
    ) -> None:
        """Ask about *caller*, whose pseudonym is *subject*. Returns at once.

        ``when_changed`` is told if the ledger of the person has grown by it.
        """
        last = self._asked.get(subject)
        if subject in self._asking or (
            last is not None and last.is_good and self._is_young(last.at, self._again_ms)
        ):
            return
        self._asking[subject] = asyncio.get_running_loop().create_future()
        self._background.spawn(self._ask(subject, caller, when_changed), name="consult")

    def is_pending(self, subject: SubjectTag) -> bool:
        """Whether the person is being asked about."""
        return subject in self._asking

    def is_fresh(self, subject: SubjectTag) -> bool:
        """Whether there is a good answer that is young enough for a yes to count (R30)."""
        last = self._asked.get(subject)
        return (
            last is not None
            and last.answered_at is not None
            and self._is_young(last.answered_at, self._max_staleness_ms)
        )

    async def finish(
        self, subject: SubjectTag, caller: Caller, *, when_changed: Callable[[SubjectTag], None]
    ) -> bool:
        """Return whether there is a good answer, after asking if there is none that is young enough."""
        if subject not in self._asking and not self.is_fresh(subject):
            last = self._asked.get(subject)
            if last is not None and not last.is_good and self._is_young(last.at, _JUST_NOW_MS):
                return False
            self.begin(subject, caller, when_changed=when_changed)
        asking = self._asking.get(subject)
        # An answer to a question that is under way counts, however little time answers count for.
        return (asking is not None and await asyncio.shield(asking)) or self.is_fresh(subject)

    async def note_unread(self, subject: SubjectTag) -> None:
        """Write down that something is kept without a good answer. Raises UndecryptableError, StoreUnavailableError."""
        at = self._clock()

        def next_step(events: Sequence[LedgerEvent]) -> Step | None:
            return None if are_unread(events) else Step(what=FactKind.CHOICES_UNREAD, at=at)

        await self._ledger.follow(subject, next_step, by=_BY)

    async def _ask(
        self, subject: SubjectTag, caller: Caller, when_changed: Callable[[SubjectTag], None]
    ) -> None:
        at = self._clock()
        result = "cancelled"
        try:
            with self._metrics.service_seconds.time():
                stated = await self._source.choices(tenant=caller.tenant, subject=caller.subject or "")
            copier = Copier(
                stated,
                asked_at=at,
                pseudonym=partial(self._pseudonyms.choice_tag, subject),
                versions=self._versions,
            )
            if await self._ledger.follow(subject, copier.next_step, by=_BY):
                when_changed(subject)
            result = "good"
        except ConsentSourceError as error:
            result = error.reason
        except (StoreUnavailableError, UndecryptableError):
            result = "not_recorded"
        finally:
            self._remember(subject, at, is_good=result == "good")
            self._metrics.service_answers.labels(result).inc()
            asking = self._asking.pop(subject)
            if not asking.done():
                asking.set_result(result == "good")

    def _remember(self, subject: SubjectTag, at: int, *, is_good: bool) -> None:
        last = self._asked.pop(subject, None)
        self._asked[subject] = _Asked(at, at if is_good else last.answered_at if last is not None else None)
        if len(self._asked) > _MOST_REMEMBERED:
            self._asked.popitem(last=False)

    def _is_young(self, at: int, age_ms: int) -> bool:
        return abs(self._clock() - at) <= age_ms
