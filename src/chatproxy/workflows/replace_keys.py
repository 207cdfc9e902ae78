"""After a key has leaked: whatever it could open is sealed anew under fresh keys, and the keys before are destroyed (B9).

Rewrapping does not help there: who had a KEK and a copy of the store has the keys of people and days themselves.

1. A new series of epoch keys goes into the key ring. Nothing moves before every node seals with it: from then on nothing
   new comes under a leaked key of a day.
2. Each person gets a new key, and each record is opened and sealed anew, under that and under the new key of its day
   (``chatproxy.workflows.roll``). The old keys of a person are destroyed as soon as nothing lies under them.
3. When a walk over the store finds nothing under the old keys of days, they are destroyed, after the soak.
4. No expiry moves. A step is done when the store says so and doing it again changes nothing: whoever is interrupted,
   anybody goes on, on any node. Who was done before is passed over by the instant in which their key was made.
5. What does not open with its old keys is counted and stays as it is; keys of days under which such a thing lies are
   destroyed only where the operator gives it up by number.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

import msgspec
from msgspec.structs import replace

from chatproxy.clock import Clock
from chatproxy.crypto.keyring import RING_NAME, Keyring
from chatproxy.crypto.keys import KeyStatus
from chatproxy.crypto.record import day_of_epoch, series_of_epoch
from chatproxy.crypto.ring_changes import with_epoch_series
from chatproxy.errors import KeysetError, RingBehindError, StoreUnavailableError, UndecryptableError
from chatproxy.model import SubjectTag
from chatproxy.policy.instants import format_instant
from chatproxy.ports import AuditLog, ReapStore, RootKey, TranscriptStore
from chatproxy.workflows.keys import RecordKeys, read_ring
from chatproxy.workflows.roll import BusyPersonError, LeakedKeys, Rolled, Roller
from chatproxy.workflows.rotate import NotYetError
from chatproxy.workflows.watch_ring import WORKS_WITH_RING, waiting_nodes, works_with

REPLACEMENT_NAME = "reseal"
"""The control value that holds how far it is."""
_PEOPLE_AT_ONCE = 8
_MOST_TRIES = 5
_MOST_PASSES = 3
_FIRST_DAY = date(1970, 1, 1)
_RECORD_KIND, _PERSON_KIND = "r", "s"
_SCOPES = "all, kek:VERSION, day:YYYY-MM-DD or days:YYYY-MM-DD..YYYY-MM-DD"


class Stage(StrEnum):
    """What was done last."""

    BEGUN = "begun"
    SERIES_ADDED = "series_added"
    HANDED_OUT = "handed_out"
    RESEALED = "resealed"
    DESTROYED = "destroyed"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Scope:
    """What has leaked: everything, a KEK version, or keys of expiry days."""

    text: str
    """As it was written."""
    kek: int | None = None
    days: tuple[int, int] | None = None
    """The first and the last day, counted from 1970-01-01; None: all, and the keys of people too."""

    @classmethod
    def parse(cls, text: str) -> "Scope":
        """Read a scope. Raises KeysetError."""
        kind, _, rest = text.partition(":")
        try:
            if text == "all":
                return cls(text)
            if kind == "kek":
                return cls(text, kek=int(rest))
            if kind in {"day", "days"}:
                first, _, last = rest.partition("..") if kind == "days" else (rest, "", rest)
                found = _day(first), _day(last)
                if found[0] <= found[1]:
                    return cls(text, days=found)
        except ValueError:
            pass
        raise KeysetError(f"--scope {text}: must be {_SCOPES}; the days are those on which records expire")

    def covers(self, epoch: int, *, series: int) -> bool:
        """Whether an epoch key is one of those that have leaked, where those of *series* have not."""
        if series_of_epoch(epoch) >= series:
            return False
        return self.days is None or self.days[0] <= day_of_epoch(epoch) <= self.days[1]


class ReplacementState(msgspec.Struct, frozen=True, kw_only=True):
    """Where the latest replacement is. Instants in ms."""

    started_at: int
    by: str
    scope: str
    series: int
    """The series of epoch keys that takes the place of those before."""
    step: Stage
    step_at: int
    step_by: str
    handed_out_at: int = 0
    """By the store's clock: keys of people that were made before may have leaked."""
    records: int = 0
    """Sealed anew in the walk that was the last one."""
    damaged: int = 0
    """What did not open then."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self.step in {Stage.DESTROYED, Stage.ABORTED}


@dataclass(frozen=True, slots=True)
class Survey:
    """How much there is to do."""

    people: int
    records: int


class Pace:
    """Tells how far it is, and keeps to a rate."""

    def __init__(
        self, *, rate: float | None = None, progress: Callable[[int], None] = lambda _: None
    ) -> None:
        """``rate``: records a second at most."""
        self._rate = rate
        self._progress = progress
        self._records = 0
        self._began: float | None = None

    async def __call__(self, records: int) -> None:
        """*records* were sealed anew: wait, if that is too fast."""
        loop = asyncio.get_running_loop()
        if self._began is None:
            self._began = loop.time()
        self._records += records
        self._progress(records)
        if self._rate is not None:
            await asyncio.sleep(max(0.0, self._began + self._records / self._rate - loop.time()))


class Replacement:
    """Replaces keys that have leaked."""

    def __init__(
        self,
        store: TranscriptStore,
        reaping: ReapStore,
        root: RootKey,
        keys: RecordKeys,
        roller: Roller,
        *,
        audit: AuditLog,
        clock: Clock,
        by: str,
        soak_ms: int,
        pace: Pace,
    ) -> None:
        """``soak_ms``: how long the old keys of days stay after nothing lies under them any more."""
        self._store = store
        self._reaping = reaping
        self._root = root
        self._keys = keys
        self._roller = roller
        self._audit = audit
        self._clock = clock
        self._by = by
        self._soak_ms = soak_ms
        self._pace = pace

    async def state(self) -> ReplacementState | None:
        """Return where the latest one is; None if there never was one. Raises KeysetError if it is damaged."""
        return (await self._read_state())[0]

    async def begin(self, scope: Scope) -> ReplacementState:
        """Begin, unless the same is under way already, and then return where that is.

        Raises KeysetError where another is, or where the new keys would lie under a KEK that has leaked.
        """
        state, data = await self._read_state()
        ring = await self._ring()
        if state is not None and not state.is_over:
            if state.scope != scope.text:
                raise KeysetError(
                    f"records are being sealed anew with --scope {state.scope}, begun by {state.by} at "
                    f"{format_instant(state.started_at)}: go on with that, or give it up with --abort"
                )
            return state
        if scope.kek is not None:
            _require_out_of_use(ring, scope.kek)
        self._audit.append("keys.reseal", {"scope": scope.text, "by": self._by})
        now = self._clock()
        begun = ReplacementState(
            started_at=now,
            by=self._by,
            scope=scope.text,
            series=ring.manifest.epoch_series + 1,
            step=Stage.BEGUN,
            step_at=now,
            step_by=self._by,
        )
        if not await self._store.swap_control(REPLACEMENT_NAME, data, msgspec.json.encode(begun)):
            raise NotYetError("somebody else has begun a moment ago; run the command again")
        return begun

    async def advance(self, *, abandon_damaged: int = 0) -> ReplacementState:
        """Do the next step of what is under way; return where it is then.

        ``abandon_damaged``: how many records that do not open may be given up with the keys of their days. Raises
        NotYetError, KeysetError, UndecryptableError, StoreUnavailableError, AuditUnavailableError.
        """
        state, data = await self._read_state()
        if state is None or state.is_over:
            raise KeysetError("nothing is being sealed anew: begin with `chatproxy keys reseal --scope`")
        match state.step:
            case Stage.BEGUN:
                await self._add_series(state.series)
                return await self._done(state, data, Stage.SERIES_ADDED)
            case Stage.SERIES_ADDED:
                return await self._hand_out(state, data)
            case Stage.HANDED_OUT:
                return await self._reseal(state, data)
            case _:
                return await self._destroy(state, data, abandon_damaged)

    async def abort(self) -> None:
        """Give up what is under way. What was sealed anew stays so. Raises KeysetError."""
        state, data = await self._read_state()
        if state is None or state.is_over:
            raise KeysetError("nothing is being sealed anew")
        self._audit.append("keys.reseal.abort", {"scope": state.scope, "by": self._by})
        await self._done(state, data, Stage.ABORTED)

    async def person(self, subject: SubjectTag) -> Rolled:
        """Give one person a new key, seal all of theirs anew and destroy the keys before; or go on with that.

        Raises StoreUnavailableError, UndecryptableError, AuditUnavailableError.
        """
        self._audit.append("keys.reseal", {"scope": "subject", "subject": subject.hex(), "by": self._by})
        leaked = LeakedKeys(made_before=await self._store.now())
        return await self._roller.replace(subject, leaked, pace=self._pace)

    async def survey(self, scope: Scope) -> Survey:
        """Count what there is to do; nothing is changed."""
        series = (await self._ring()).manifest.epoch_series + 1
        people = records = 0
        async for found in self._reaping.walk():
            for key in found:
                people += key.kind == _PERSON_KIND
                records += (
                    key.kind == _RECORD_KIND
                    and key.epoch is not None
                    and scope.covers(key.epoch, series=series)
                )
        return Survey(people if scope.days is None else 0, records)

    async def _add_series(self, series: int) -> None:
        for _ in range(_MOST_TRIES):
            ring = await self._ring()
            if ring.manifest.epoch_series >= series:
                return
            self._audit.append("keys.epoch_series", {"series": series, "by": self._by})
            changed = ring.signed(with_epoch_series(ring.manifest, series=series))
            if await self._store.swap_control(RING_NAME, ring.data, changed):
                return
        raise StoreUnavailableError("the key ring keeps changing; try again")

    async def _hand_out(self, state: ReplacementState, data: bytes | None) -> ReplacementState:
        ring = await self._ring()
        if ring.manifest.epoch_series < state.series:
            # Somebody has put an older ring back.
            return await self._done(state, data, Stage.BEGUN)
        waiting = await waiting_nodes(
            self._store, works_with(ring), WORKS_WITH_RING, now=self._clock(), also_gone=True
        )
        if waiting:
            raise NotYetError("; ".join(waiting))
        return await self._done(replace(state, handed_out_at=await self._store.now()), data, Stage.HANDED_OUT)

    async def _reseal(self, state: ReplacementState, data: bytes | None) -> ReplacementState:
        scope = Scope.parse(state.scope)
        await self._refresh()
        records = 0
        for _ in range(_MOST_PASSES):
            found = await self._pass(_leaked(scope, state))
            records += found.records
            left = await self._count_left(scope, state.series)
            if not found.records or left <= found.lost:
                return await self._done(replace(state, records=records, damaged=left), data, Stage.RESEALED)
        raise NotYetError("records keep coming under the old keys; run the command again")

    async def _destroy(
        self, state: ReplacementState, data: bytes | None, abandon_damaged: int
    ) -> ReplacementState:
        scope = Scope.parse(state.scope)
        left_ms = state.step_at + self._soak_ms - self._clock()
        if left_ms > 0:
            raise NotYetError(
                f"the old keys of days stay for {left_ms // 1000} s more; then they are destroyed"
            )
        left = await self._count_left(scope, state.series)
        if left > max(abandon_damaged, state.damaged):
            return await self._done(state, data, Stage.HANDED_OUT)
        if left > abandon_damaged:
            raise KeysetError(
                f"{left} records lie under the old keys and do not open with them, so they were not sealed anew. "
                "`chatproxy transcripts verify` tells which; restore them from a backup, or give them up with "
                f"`chatproxy keys reseal --scope {state.scope} --abandon-damaged {left}`"
            )
        epochs = [epoch for epoch in await self._reaping.epochs() if scope.covers(epoch, series=state.series)]
        self._audit.append(
            "keys.reseal.destroy",
            {
                "scope": state.scope,
                "epoch_keys": len(epochs),
                "records": state.records,
                "abandoned": left,
                "by": self._by,
            },
        )
        await self._reaping.destroy_epochs(epochs)
        return await self._done(state, data, Stage.DESTROYED)

    async def _pass(self, leaked: LeakedKeys) -> Rolled:
        """See to every person once. Raises NotYetError where others change what is kept of some."""
        total = Rolled()
        busy: list[BusyPersonError] = []

        async def work(people: AsyncIterator[SubjectTag], lock: asyncio.Lock) -> None:
            while True:
                async with lock:
                    subject = await anext(people, None)
                if subject is None:
                    return
                try:
                    rolled = await self._replace(subject, leaked)
                except BusyPersonError as error:
                    busy.append(error)
                    continue
                total.records += rolled.records
                total.lost += rolled.lost

        people, lock = self._store.subjects(), asyncio.Lock()
        try:
            async with asyncio.TaskGroup() as workers:
                for _ in range(_PEOPLE_AT_ONCE):
                    workers.create_task(work(people, lock), name="reseal-people")
        except* (StoreUnavailableError, UndecryptableError) as failed:
            raise _first_of(failed) from None
        if busy:
            raise NotYetError(f"what is kept of {len(busy)} people is being changed ({busy[0]})")
        return total

    async def _replace(self, subject: SubjectTag, leaked: LeakedKeys) -> Rolled:
        try:
            return await self._roller.replace(subject, leaked, pace=self._pace)
        except (RingBehindError, UndecryptableError):
            # A rotation has gone on meanwhile: with the ring as it is now it must do.
            await self._refresh()
            return await self._roller.replace(subject, leaked, pace=self._pace)

    async def _count_left(self, scope: Scope, series: int) -> int:
        """Return how many records lie under keys of days that are to be destroyed."""
        now = await self._store.now()
        left = 0
        async for found in self._reaping.walk():
            left += sum(
                key.epoch is not None
                and scope.covers(key.epoch, series=series)
                and (key.promised is None or key.promised > now)
                for key in found
            )
        return left

    async def _refresh(self) -> None:
        """Have this process work with the ring as it is in the store."""
        ring = await self._ring()
        if self._keys.ring is None or ring.counter > self._keys.ring.counter:
            self._keys.use(ring)
        self._keys.looked()

    async def _ring(self) -> Keyring:
        ring = await read_ring(self._store, self._root)
        if ring is None:
            raise KeysetError("the store has no key ring: start chatproxy once, or restore the store")
        return ring

    async def _read_state(self) -> tuple[ReplacementState | None, bytes | None]:
        data = await self._store.read_control(REPLACEMENT_NAME)
        try:
            return (msgspec.json.decode(data, type=ReplacementState) if data is not None else None), data
        except msgspec.DecodeError:
            raise KeysetError(
                f"the control value {REPLACEMENT_NAME!r} in the store cannot be read: it is damaged, or of a newer "
                "chatproxy. Restore it from a backup of the store"
            ) from None

    async def _done(self, state: ReplacementState, data: bytes | None, step: Stage) -> ReplacementState:
        done = replace(state, step=step, step_at=self._clock(), step_by=self._by)
        if await self._store.swap_control(REPLACEMENT_NAME, data, msgspec.json.encode(done)):
            return done
        raise NotYetError("somebody else is at it too; run the command again")


def _leaked(scope: Scope, state: ReplacementState) -> LeakedKeys:
    return LeakedKeys(
        made_before=state.handed_out_at if scope.days is None else None,
        is_leaked_epoch=lambda epoch: scope.covers(epoch, series=state.series),
    )


def _require_out_of_use(ring: Keyring, version: int) -> None:
    """Raise KeysetError unless nothing new comes under a KEK version."""
    status = ring.manifest.key(version).status
    if status not in {KeyStatus.RETIRED, KeyStatus.DESTROYED}:
        raise KeysetError(
            f"version {version} is {status}, so the new keys could lie under it too: run `chatproxy keys rotate --wait` "
            "first"
        )


def _first_of(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    found: BaseException = failed
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def _day(text: str) -> int:
    return (date.fromisoformat(text) - _FIRST_DAY).days
