"""From an exchange that has ended to a turn that is kept: understand, place, decide, seal, put.

One loop takes ended exchanges from the journal in batches, oldest first, and goes with some of them from step to step
together: code that has just run for one turn runs twice as fast for the next. What the store does not confirm is tried
again, for as long as it takes, and idempotently; an exchange is released only once it has met its outcome. What waits
for a server that is away, or for a newer key ring, steps aside, so that those of other servers go on. No chat ever waits
for any of it.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from msgspec.structs import replace

from chatproxy import capture
from chatproxy.clock import Clock
from chatproxy.errors import RingBehindError, StoreUnavailableError, UndecryptableError
from chatproxy.model import Exchange, SubjectTag, TurnId
from chatproxy.policy.facts import Lookup
from chatproxy.policy.reasons import Reason
from chatproxy.ports import Journal, PutStatus, SealedTurn, TranscriptStore
from chatproxy.tasks import aside
from chatproxy.telemetry import Log, Metrics, TurnOutcome
from chatproxy.wire import Dialects
from chatproxy.wire.base import OriginRules
from chatproxy.workflows.giving_way import GivingWay
from chatproxy.workflows.keys import RecordKeys
from chatproxy.workflows.place import Place, Places
from chatproxy.workflows.retry import Retries
from chatproxy.workflows.seal import FirstKeys, Group, Sealer
from chatproxy.workflows.subjects import Person, Subjects

_log = Log("archive")
T = TypeVar("T")

_BATCH = 256
_PACE_SECONDS = 0.003
"""At least so long after the beginning of one batch the next one begins: turns that are kept together cost less each."""
_TOGETHER = 8
"""Turns that take each step together."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_ASIDE_PAUSE = 0.5
_ASIDE_BYTES = 4 << 20
"""How much may step aside. With more than that, all wait: what is not taken out of the journal may lie on disk."""
_ASIDE_TURN_BYTES = 2048
"""What a turn counts there beside its copies."""
_KEPT = frozenset({TurnOutcome.STORED, TurnOutcome.UNPARSED, TurnOutcome.REPLAYED})
_RESUMING = frozenset({PutStatus.RESUMED, PutStatus.RESUMED_BEFORE})
_PUT_BYTES = 4 << 20
_PUT_TURNS = 32
_CLOCKS_APART_MS = 60_000
_MOST_FAULTS = 5
"""How often a turn that cannot be sealed, though the store answers, is tried before it is set aside."""


@dataclass(slots=True)
class _Pending:
    """An exchange between being taken and its outcome."""

    exchange: Exchange
    understood: capture.Understood | None = None
    place: Place | None = None
    known: tuple[Person, Lookup] | None = None
    """What was known of its person when it was last tried, and how it went to ask about them."""
    groups: list[Group] = field(default_factory=list)
    """What was last decided to be kept of it."""
    turn: SealedTurn | None = None
    """It, sealed under that, to be put."""
    is_disputed: bool = False
    """The store has another attempt at this request than was known."""
    faults: int = 0
    refused_wrap: bytes | None = None
    """The subject key's wrap that the store did not take for the present one, when it was last put."""
    waits_for_ring: bool = False
    """This node's key ring is too old for it; the others do not wait for that."""
    waits_for_server: bool = False
    """The server that has its person's keys is away; those of other servers do not wait for that."""
    is_concluded: bool = False

    @property
    def is_aside(self) -> bool:
        """Return whether others may go on without it."""
        return self.waits_for_ring or self.waits_for_server


_Step = Callable[[_Pending], Awaitable[bool]]
"""Brings a turn one step further; False: that has concluded it, or it must be tried again."""


class Archive:
    """Keeps what the journal holds."""

    def __init__(
        self,
        *,
        journal: Journal,
        store: TranscriptStore,
        places: Places,
        retries: Retries,
        subjects: Subjects,
        keys: RecordKeys,
        sealer: Sealer,
        dialects: Dialects,
        rules: OriginRules,
        clock: Clock,
        metrics: Metrics,
        capture_limit: int,
        media_room: int = 0,
        may_put: Callable[[], bool],
        decide_again: Callable[[SubjectTag], Awaitable[None]],
    ) -> None:
        """``capture_limit``: bytes that a compressed body may decode to. ``may_put``: whether the store is safe.

        ``decide_again``: a turn bears on others that are kept of its person.
        ``media_room``: bytes of pictures, sounds and files that are kept of a turn.
        """
        self._may_put = may_put
        self._decide_again = decide_again
        self._journal = journal
        self._store = store
        self._places = places
        self._retries = retries
        self._subjects = subjects
        self._keys = keys
        self._sealer = sealer
        self._dialects = dialects
        self._rules = rules
        self._clock = clock
        self._metrics = metrics
        self._capture_limit = capture_limit
        self._media_room = media_room
        # While copies pile up, keeping goes first: a slower chat is better than a lost turn.
        self._giving_way = GivingWay(goes_first=lambda: journal.is_filling)
        self.is_failing = False
        """Whether the store refused or did not answer the last try."""

    async def run(self) -> None:
        """Keep turns until cancelled."""
        waiting: list[_Pending] = []
        pause = _FIRST_PAUSE
        loop = asyncio.get_running_loop()
        begun = -_PACE_SECONDS
        while True:
            if not waiting:
                await asyncio.sleep(begun + _PACE_SECONDS - loop.time())
                waiting = [_Pending(exchange) for exchange in await self._journal.take(_BATCH)]
                begun = loop.time()
            elif all(pending.is_aside for pending in waiting) and _may_be_aside(waiting):
                # They are tried again beside what comes, and before it: a person's turns keep their order.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_ASIDE_PAUSE):
                        waiting += [_Pending(exchange) for exchange in await self._journal.take(_BATCH)]
            faults = sum(pending.faults for pending in waiting)
            await self._keep(waiting)
            waiting = [pending for pending in waiting if not pending.is_concluded]
            if self.is_failing or sum(pending.faults for pending in waiting) > faults:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                pause = _FIRST_PAUSE

    async def _keep(self, waiting: list[_Pending]) -> None:
        """Try to bring each exchange to its outcome, whatever goes wrong."""
        try:
            with self._keys.wrapping():
                self.is_failing = not await self._try(waiting)
        except StoreUnavailableError:
            self.is_failing = True
            self._metrics.store_failures.labels("keep").inc()
        except Exception as error:  # noqa: BLE001 - the outer edge of keeping: it must never end by itself
            self.is_failing = True
            _log.error("turns cannot be kept; they are tried again", failure=error)

    async def _try(self, waiting: list[_Pending]) -> bool:
        """Try each once; return whether the store took part. Raises StoreUnavailableError."""
        if not self._may_put():
            # Neither is anything decided: by a clock that has jumped, what waits would be over.
            return False
        seal = partial(self._seal, first=FirstKeys(self._keys))
        sealed: list[_Pending] = []
        away: set[tuple[str, str]] = set()
        for start in range(0, len(waiting), _TOGETHER):
            some = waiting[start : start + _TOGETHER]
            unkept: set[TurnId] = set()
            for step in (self._read, self._place, partial(self._decide, unkept=unkept), seal):
                some = await self._each(some, step, away)
            sealed += some
        if not self._may_put():
            return False
        took_part = not sealed and not any(pending.waits_for_server for pending in waiting)
        for portion in _portions(sealed):
            statuses = await self._put([_there(pending.turn) for pending in portion])
            for pending, status in zip(portion, statuses, strict=True):
                await self._settle(pending, status)
                took_part |= status is not None
                if self._giving_way.is_due():
                    await self._giving_way.give()
        return took_part

    async def _put(self, turns: list[SealedTurn]) -> Sequence[PutStatus | None]:
        with self._metrics.store_seconds.labels("put").time():
            try:
                return await self._store.put(turns)
            except StoreUnavailableError:
                return [None] * len(turns)

    async def _each(self, some: list[_Pending], step: _Step, away: set[tuple[str, str]]) -> list[_Pending]:
        """Take a step with each; return those that can take the next one.

        A fault of one turn, whatever it is, must not stand in the way of the others. *away*: people whose server is.
        """
        going_on = []
        for pending in some:
            caller = pending.exchange.caller
            pending.waits_for_ring = False
            # The turns of a person keep their order, whenever their server comes back.
            pending.waits_for_server = (caller.tenant, caller.subject) in away
            try:
                if not pending.waits_for_server and await step(pending):
                    going_on.append(pending)
            except RingBehindError:
                self._forget(pending)
                pending.waits_for_ring = True
            except StoreUnavailableError:
                self._metrics.store_failures.labels("keep").inc()
                pending.waits_for_server = True
                if caller.subject is not None:
                    away.add((caller.tenant, caller.subject))
            except UndecryptableError as error:
                # What is cached may lie under a KEK that was taken out of use since.
                self._forget(pending)
                await self._fault(pending, error.reason)
            except Exception as error:  # noqa: BLE001 - the outer edge of keeping one turn
                await self._fault(pending, type(error).__name__)
            if self._giving_way.is_due():
                await self._giving_way.give()
        return going_on

    async def _read(self, pending: _Pending) -> bool:
        """Understand what was said."""
        exchange = pending.exchange
        if exchange.received_at - self._clock() > _CLOCKS_APART_MS:
            # Noted by a clock that was ahead: it would be kept for longer than anybody agreed to.
            exchange.received_at = self._clock()
        if pending.understood is None:
            pending.understood = await aside(lambda: self._understand(exchange), size=exchange.size)
        return True

    async def _place(self, pending: _Pending) -> bool:
        """Find whose turn it is, in which conversation, and what is known of them."""
        exchange, understood = pending.exchange, _there(pending.understood)
        if pending.place is None:
            pending.place = await self._places.find(exchange, understood)
            pending.understood = _without_repeated(understood, pending.place.repeated)
        if pending.is_disputed:
            pending.place = await self._retries.find(exchange, pending.place)
            pending.is_disputed = False
        # While copies pile up, nobody waits for the consent service either.
        may_wait = not self._journal.is_filling
        pending.known = await self._subjects.to_keep(
            pending.place.subject, exchange.caller, may_wait=may_wait
        )
        return True

    async def _decide(self, pending: _Pending, *, unkept: set[TurnId]) -> bool:
        """Decide what may be kept of it. If nothing may, the turn is concluded, and *unkept* has it."""
        place, (person, lookup) = _there(pending.place), _there(pending.known)
        if place.after in unkept:
            # It was placed after a turn that is not kept after all, and lacks what that one said.
            pending.place = pending.understood = None
            return False
        decided = self._sealer.decide(
            pending.exchange,
            _there(pending.understood),
            place,
            person.facts,
            now=self._clock(),
            lookup=lookup,
        )
        if isinstance(decided, Reason):
            unkept.add(place.turn)
            is_over = decided is Reason.EXPIRED
            self._conclude(pending, TurnOutcome.EXPIRED if is_over else TurnOutcome.NOT_STORED)
            return False
        pending.groups = decided
        return True

    async def _seal(self, pending: _Pending, *, first: FirstKeys) -> bool:
        """Seal what may be kept."""
        person, _ = _there(pending.known)
        pending.turn = await self._sealer.seal(
            pending.exchange,
            _there(pending.understood),
            _there(pending.place),
            person,
            groups=pending.groups,
            first=first,
            now=self._clock(),
        )
        return True

    def _understand(self, exchange: Exchange) -> capture.Understood:
        try:
            return capture.understand(
                exchange, self._dialects, self._rules, limit=self._capture_limit, media_room=self._media_room
            )
        except Exception as error:  # noqa: BLE001 - a fault of ours must not cost the turn: its bytes are kept
            _log.error("an exchange could not be read, and is kept as bytes", failure=error)
            return capture.keep_raw(exchange)

    async def _settle(self, pending: _Pending, status: PutStatus | None) -> None:
        """Act on the store's answer to one put."""
        turn, place, (person, _) = _there(pending.turn), _there(pending.place), _there(pending.known)
        match status:
            case None:
                self._metrics.store_failures.labels("put").inc()
                pending.waits_for_server = True
            case PutStatus.LEDGER_CHANGED:
                # The person has chosen since: read and decide again.
                self._subjects.forget(turn.subject)
            case PutStatus.ATTEMPTED:
                pending.is_disputed = True
            case PutStatus.KEY_CHANGED:
                # Usually somebody else made the person's first key, or has rewrapped it: a rotation costs no turn,
                # however many there are. A key that has vanished, or the same wrap refused again, is a fault.
                self._subjects.forget(turn.subject)
                if person.state.generation is None or turn.new_wrap == pending.refused_wrap:
                    await self._fault(pending, "subject_key_changed")
                pending.refused_wrap = turn.new_wrap
            case PutStatus.STORED | PutStatus.RESUMED | PutStatus.REPLAYED | PutStatus.RESUMED_BEFORE:
                if status in _RESUMING or _is_to_be_seen_to(turn, person, self._clock()):
                    await self._decide_again(turn.subject)
                if person.state.generation is None and turn.new_wrap is not None:
                    self._subjects.has_key(
                        turn.subject, person, generation=turn.generation, wrap=turn.new_wrap
                    )
                if place.is_stray:
                    await self._store.remember_stray(turn.heads, turn.subject, turn.expires_at)
                self._conclude(pending, _kept_as(pending, status))
            case PutStatus.EXPIRED:
                self._conclude(pending, TurnOutcome.EXPIRED)
            case PutStatus.ERASED:
                self._conclude(pending, TurnOutcome.ERASED)
            case PutStatus.DAMAGED:
                await self._fault(pending, "store_damaged")

    def _forget(self, pending: _Pending) -> None:
        """What is known of the person of a turn is not to be relied on."""
        if pending.place is not None:
            self._subjects.forget(pending.place.subject)

    async def _fault(self, pending: _Pending, reason: str) -> None:
        """A turn could not be kept though the store answers: try again, and in the end set it aside, loudly."""
        pending.faults += 1
        if pending.faults < _MOST_FAULTS:
            return
        if await self._journal.set_aside(pending.exchange):
            _log.error("turn set aside: it cannot be kept; the next start tries again", reason=reason)
            self._settle_as(pending, TurnOutcome.SET_ASIDE)
        else:
            _log.error("turn lost: it cannot be kept", reason=reason)
            self._settle_as(pending, TurnOutcome.LOST)

    def _conclude(self, pending: _Pending, outcome: TurnOutcome) -> None:
        """A turn has met its fate."""
        self._settle_as(pending, outcome)
        self._journal.release(pending.exchange, is_kept=outcome in _KEPT)

    def _settle_as(self, pending: _Pending, outcome: TurnOutcome) -> None:
        pending.is_concluded = True
        self._metrics.settle(outcome)
        if pending.place is not None:
            if outcome in _KEPT:
                self._metrics.history_unmatched.inc(pending.place.unmatched)
            else:
                self._places.forget(pending.place)
        if pending.understood is not None:
            self._metrics.ends.labels(pending.understood.end).inc()


def _may_be_aside(waiting: Sequence[_Pending]) -> bool:
    return sum(pending.exchange.size + _ASIDE_TURN_BYTES for pending in waiting) <= _ASIDE_BYTES


def _there(found: T | None) -> T:
    """Return what an earlier step has found."""
    if found is None:
        raise LookupError("a step was left out")
    return found


def _is_to_be_seen_to(turn: SealedTurn, person: Person, now: int) -> bool:
    """Whether a turn is kept as it may not stay: held, and sealed to the review; or before an event of a clock ahead."""
    facts = person.facts
    if facts is None:
        return False
    if facts.changes_after(now) is not None:
        return True
    about = facts.about(turn.conversation, turn.turn, received_at=turn.received_at)
    return about.hold_at is not None


def _portions(sealed: Sequence[_Pending]) -> Iterator[list[_Pending]]:
    """Cut a batch into puts that the store takes in well under its deadline, and that running chats need not wait for."""
    portion: list[_Pending] = []
    size = 0
    for pending in sealed:
        portion.append(pending)
        size += sum([len(group.blob) for group in _there(pending.turn).groups])
        if size > _PUT_BYTES or len(portion) == _PUT_TURNS:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def _without_repeated(understood: capture.Understood, repeated: int) -> capture.Understood:
    """Leave out what an earlier turn holds (R13)."""
    if not repeated:
        return understood
    transcript = replace(understood.transcript, input=understood.transcript.input[repeated:])
    return replace(understood, transcript=transcript)


def _kept_as(pending: _Pending, status: PutStatus) -> TurnOutcome:
    if status in {PutStatus.REPLAYED, PutStatus.RESUMED_BEFORE}:
        return TurnOutcome.REPLAYED
    is_parsed = pending.understood is not None and pending.understood.transcript.parsed
    return TurnOutcome.STORED if is_parsed else TurnOutcome.UNPARSED
