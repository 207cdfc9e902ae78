"""Is the store there, and is it still safe? Asked again and again while the proxy runs (security F6, F7)."""

import asyncio
from collections.abc import Awaitable, Callable

from chatproxy.clock import Clock
from chatproxy.errors import ConfigurationError, StoreUnavailableError
from chatproxy.store.preflight import judge, read_facts, require_safe
from chatproxy.store.redis import RedisStore
from chatproxy.telemetry import Log

_log = Log("store")
_PING_SECONDS = 2.0
_PINGS_A_CHECK = 30


class StoreHealth:
    """Watches one store. ``problem`` says in words what is wrong, or is None."""

    def __init__(
        self,
        store: RedisStore,
        *,
        clock: Clock,
        allow_volatile: bool,
        when_safe: Callable[[], Awaitable[None]],
    ) -> None:
        """``when_safe`` is awaited after each check that the store passed; it may raise ConfigurationError."""
        self._store = store
        self._clock = clock
        self._allow_volatile = allow_volatile
        self._when_safe = when_safe
        self.problem: str | None = "the store has not been reached yet"
        self.is_safe = True
        """Whether the store may be written to. A store that is away is not unsafe."""

    async def check(self) -> None:
        """Check once. Raises StoreUnavailableError, or ConfigurationError where the store must not be used."""
        findings = judge(
            await read_facts(self._store.connections, now=self._clock()), allow_volatile=self._allow_volatile
        )
        try:
            require_safe(findings)
        except ConfigurationError:
            self.is_safe = False
            raise
        for finding in findings:
            _log.warning("store could be safer", what=finding.what, fix=finding.fix)
        await self._when_safe()
        self.is_safe, self.problem = True, None

    async def watch(self) -> None:
        """Ping often, check now and then, for ever."""
        since_check = _PINGS_A_CHECK if self.problem else 0
        while True:
            before = self.problem
            try:
                if self.problem is not None or since_check >= _PINGS_A_CHECK:
                    await self.check()
                    since_check = 0
                else:
                    await self._store.ping()
                    since_check += 1
            except (StoreUnavailableError, ConfigurationError) as error:
                self.problem = str(error)
            self._report(before)
            await asyncio.sleep(_PING_SECONDS)

    def _report(self, before: str | None) -> None:
        if self.problem == before:
            return
        if self.problem is None:
            _log.info("store is there and safe")
        else:
            _log.error("nothing can be kept; turns wait in memory", problem=self.problem)
