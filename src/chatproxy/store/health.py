"""Is the store there, and is it still safe? Asked again and again while the proxy runs (security F6, F7, B8.4).

1. Every two seconds: does every server answer, what time is it there, how much is in it, is the key ring there, and are
   these the servers that had what was confirmed? Once a minute: all that was asked at the start.
2. A store that is away is not unsafe: what it has confirmed it has. A store is unsafe that evicts, that has another
   time, or that was emptied: nothing is put there before that is mended.
3. A clock of our own that jumps is seen at once, by one that cannot, and nothing is put before the next look.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from redis.exceptions import ResponseError

from chatproxy.clock import Clock
from chatproxy.crypto.keyring import RING_NAME
from chatproxy.errors import ConfigurationError, StoreRefusedError, StoreUnavailableError
from chatproxy.store import keys
from chatproxy.store.connections import Connections
from chatproxy.store.preflight import OFFSET_FATAL_MS, Demands, examine, require_safe
from chatproxy.store.redis import RedisStore
from chatproxy.telemetry import Log

_log = Log("store")
_LOOK_SECONDS = 2.0
_LOOKS_A_CHECK = 30


class StoreHealth:
    """Watches one store. ``problem`` says in words what is wrong, or is None."""

    def __init__(
        self,
        store: RedisStore,
        *,
        clock: Clock,
        demands: Demands,
        when_safe: Callable[[], Awaitable[None]],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``when_safe`` is awaited after each check that the store passed; it may raise ConfigurationError.

        ``monotonic``: seconds of a clock that nobody can set.
        """
        self._store = store
        self._clock = clock
        self._demands = demands
        self._when_safe = when_safe
        self._monotonic = monotonic
        self._looked_at: tuple[int, float] | None = None
        self._histories: frozenset[bytes] | None = None
        self.problem: str | None = "the store has not been reached yet"
        self.is_safe = True
        """Whether the store may be written to. A store that is away is not unsafe."""
        self.keys = 0
        """How many keys it has, of others too."""
        self.offset_ms = 0
        """How far its clock is ahead of ours; of several, the one that is furthest away."""
        self.used = 0.0
        """Which part of its room the fullest server has filled, 0 to 1."""
        self.promoted = asyncio.Event()
        """Set when a server has another history than before: a replica has taken over, or files were read again."""

    def may_put(self) -> bool:
        """Whether what is put now would live as long as it is to."""
        if not self.is_safe or self._looked_at is None:
            return self.is_safe
        wall, monotonic = self._looked_at
        passed_ms = (self._monotonic() - monotonic) * 1000
        return abs(self._clock() - wall - passed_ms) <= OFFSET_FATAL_MS

    def is_clock_sure(self) -> bool:
        """Whether the store's clock has agreed with ours since the start, and ours has not jumped since."""
        return self._looked_at is not None and self.may_put()

    async def check(self) -> None:
        """Check once. Raises StoreUnavailableError, or ConfigurationError where the store must not be used."""
        facts, findings = await examine(self._store.connections, self._demands, clock=self._clock)
        self.used = max((each.used_bytes / each.room_bytes for each in facts if each.room_bytes), default=0.0)
        try:
            require_safe(findings)
            for finding in findings:
                _log.warning("store could be safer", what=finding.what, fix=finding.fix)
            await self._when_safe()
            await self.look()
        except ConfigurationError:
            self.is_safe = False
            raise
        self.is_safe, self.problem = True, None

    async def look(self) -> None:
        """Look whether it is still the store that was checked. Raises as ``check``."""
        servers = self._store.connections
        [ring] = await servers.ask([["EXISTS", keys.control(RING_NAME)]])
        if isinstance(ring, ResponseError):
            raise servers.refused(ring)
        if not ring:
            raise StoreRefusedError(
                "the store has lost its key ring: it was emptied, or another one answers at its address. Nothing is "
                "put there; restore it, or restart chatproxy to begin with what is there"
            )
        seen = [await self._look_at(node) for node in await servers.nodes()]
        self.keys = sum(count for count, _, _ in seen)
        self.offset_ms = max((offset for _, offset, _ in seen), key=abs, default=0)
        if abs(self.offset_ms) > OFFSET_FATAL_MS:
            raise StoreRefusedError(
                f"the clocks of the store and of this machine are {abs(self.offset_ms) // 1000} s apart, and expiry "
                "follows the store's: nothing is put there before both are set by NTP"
            )
        self._looked_at = (self._clock(), self._monotonic())
        self._note_histories(frozenset(history for _, _, history in seen))

    async def watch(self) -> None:
        """Look often, check now and then, for ever."""
        since_check = _LOOKS_A_CHECK if self.problem else 0
        while True:
            before = self.problem
            try:
                if self.problem is not None or since_check >= _LOOKS_A_CHECK:
                    await self.check()
                    since_check = 0
                else:
                    await self.look()
                    since_check += 1
            except StoreUnavailableError as error:
                self.problem = str(error)
            except ConfigurationError as error:
                self.is_safe, self.problem = False, str(error)
            except Exception as error:  # noqa: BLE001 - the outer edge of this task: it must never end by itself
                self.problem = "the store could not be looked at; the log says why"
                _log.error("the store could not be looked at; it is tried again", failure=error)
            self._report(before)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look_at(self, node: Connections) -> tuple[int, int, bytes]:
        """Return how many keys a server has, how far its clock is ahead (ms), and by what its history is known."""
        before = self._clock()
        replies = await node.ask([["TIME"], ["DBSIZE"], ["INFO", "replication"]])
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise node.refused(reply)
        (seconds, micros), count, info = replies
        offset = int(seconds) * 1000 + int(micros) // 1000 - before
        history = info.partition(b"master_replid:")[2].partition(b"\r\n")[0]
        return count, offset, history

    def _note_histories(self, histories: frozenset[bytes]) -> None:
        if self._histories is not None and histories - self._histories:
            _log.warning("a server of the store has taken over, or has started again")
            self.promoted.set()
        self._histories = histories

    def _report(self, before: str | None) -> None:
        if self.problem == before:
            return
        if self.problem is None:
            _log.info("store is there and safe")
        else:
            _log.error("nothing can be kept; turns wait", problem=self.problem)
