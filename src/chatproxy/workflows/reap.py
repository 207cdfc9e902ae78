"""What is over goes: rows that the store has not dropped yet, and the keys of days that have passed (R7, security F8).

No reader waits for this: each checks the promised end itself, so a read at that instant fails already. Here

1. once an hour, by one node, every key of a person is looked at in bounded steps. By that the store drops what it only
   holds still. A key without expiry, or with a later one than its record or annotation says, gets the right one, and
   that is said loudly: only somebody else can have changed it. Indexes lose what is gone.
2. the key of an expiry day is destroyed a grace after its day. From then on nothing that ended on it opens, wherever a
   copy lies. At most one a hour, and only if the clocks of node and store agree: a wrong clock can cost one day.
"""

import asyncio
from dataclasses import dataclass

from chatproxy.clock import Clock
from chatproxy.crypto.record import day_of_epoch
from chatproxy.ports import AuditLog, FoundKey, ReapStore, TranscriptStore
from chatproxy.telemetry import Log, Metrics
from chatproxy.workflows.census import Tally, publish_census

_log = Log("reap")
_HOUR_MS = 3_600_000
_DAY_MS = 86_400_000
_TOLERANCE_MS = 1000
_CLOCKS_AGREE_MS = 60_000
_WALKED_NAME, _EPOCH_NAME = "reap:next", "epochs:next"
"""Control values: when the next walk, and the next destruction, is due. Who moves it on does the work."""
_NO_EXPIRY = -1
_ANNOTATION = "a"
_PROMISING = frozenset({"a", "r"})
_INDEXES = frozenset({"ix", "v"})
_OUTLIVING = frozenset({"s", "c", "u"})
_ATTEMPT = "p"
"""Lives for a day at most."""


@dataclass(slots=True)
class Reaped:
    """What a walk has found."""

    keys: int = 0
    repaired: int = 0
    expired_but_readable: int = 0
    trimmed: int = 0


class Reaper:
    """Removes what is over."""

    def __init__(
        self,
        store: TranscriptStore,
        reaping: ReapStore,
        *,
        audit: AuditLog,
        clock: Clock,
        metrics: Metrics,
        grace_ms: int,
        longest_ms: int,
    ) -> None:
        """``grace_ms``: after a day, its key stays so long. ``longest_ms``: no ledger need outlive that from now."""
        self._store = store
        self._reaping = reaping
        self._audit = audit
        self._clock = clock
        self._metrics = metrics
        self._grace_ms = grace_ms
        self._longest_ms = longest_ms

    async def take_up(self) -> bool:
        """Do what is due, if nobody else does. Raises StoreUnavailableError, AuditUnavailableError."""
        now = await self._store.now()
        if abs(now - self._clock()) > _CLOCKS_AGREE_MS:
            _log.error("nothing is reaped: the clocks of node and store are apart", ms=now - self._clock())
            return False
        return await self.destroy_epoch(now) or (
            await self._is_ours(_WALKED_NAME, now) and bool(await self.walk(now))
        )

    async def destroy_epoch(self, now: int) -> bool:
        """Destroy the key of the oldest day whose grace is over, if an hour has passed since the last."""
        overdue = [
            epoch
            for epoch in await self._reaping.epochs()
            if (day_of_epoch(epoch) + 1) * _DAY_MS + self._grace_ms <= now
        ]
        days = sorted({day_of_epoch(epoch) for epoch in overdue})
        self._metrics.overdue_epoch_keys.set(len(days))
        if not overdue or not await self._is_ours(_EPOCH_NAME, now):
            return False
        await asyncio.to_thread(self._audit.append, "epoch.destroy", {"day": days[0]})
        await self._reaping.destroy_epochs([epoch for epoch in overdue if day_of_epoch(epoch) == days[0]])
        self._metrics.overdue_epoch_keys.set(len(days) - 1)
        return True

    async def walk(self, now: int) -> Reaped:
        """Look at every key of every person once; count when turns end."""
        reaped, tally = Reaped(), Tally(now)
        async for found in self._reaping.walk():
            for key in found:
                await self._look_at(key, now, reaped)
                if key.kind == _ANNOTATION and key.promised is not None:
                    tally.add(key.promised)
        await publish_census(self._store, tally.census())
        self._metrics.expired_but_readable.set(reaped.expired_but_readable)
        self._metrics.repaired_expiries.inc(reaped.repaired)
        if reaped.repaired:
            _log.error(
                "keys had no expiry, or a later one than promised; they have the right one now",
                keys=reaped.repaired,
            )
        return reaped

    async def _look_at(self, key: FoundKey, now: int, reaped: Reaped) -> None:
        reaped.keys += 1
        if key.kind in _INDEXES:
            reaped.trimmed += await self._reaping.trim_index(key.subject, key.name)
        if key.promised is not None and key.promised + _TOLERANCE_MS < now:
            reaped.expired_but_readable += key.kind == "r"
        end = await self._end(key, now)
        if end is not None:
            await self._reaping.end(key.name, end)
            reaped.repaired += 1

    async def _end(self, key: FoundKey, now: int) -> int | None:
        """Return when a key is to expire instead; None: as it does."""
        has_none = key.ttl_expires_at == _NO_EXPIRY
        if key.kind in _PROMISING and key.promised is not None:
            is_later = key.ttl_expires_at > key.promised + _TOLERANCE_MS
            return key.promised if has_none or is_later else None
        if not has_none:
            return None
        if key.kind in _OUTLIVING:
            return now + self._longest_ms
        last = await self._reaping.last_expiry(key.subject) or now
        return min(last, now + _DAY_MS) if key.kind == _ATTEMPT else last

    async def _is_ours(self, name: str, now: int) -> bool:
        """Move on what is due once an hour; False if it is not yet, or another node was faster."""
        due = await self._store.read_control(name)
        if due is not None and due.isdigit() and int(due) > now:
            return False
        return await self._store.swap_control(name, due, b"%d" % (now + _HOUR_MS))
