"""Which server is the primary now, where sentinels watch it?

Every sentinel that answers is asked, and the one with the highest epoch is believed: one that was cut off still names the
old primary. They are asked again once the primary has failed, has answered that it is none, or has lost its replicas, and
on each look at the store's health, since an old primary that is cut off with us never says so itself.
"""

import asyncio
from collections.abc import Callable, Sequence

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ReadOnlyError, ResponseError

from chatproxy.errors import StoreUnavailableError
from chatproxy.store.address import StoreAddress
from chatproxy.store.connections import Command, Connections, Reply, Servers

_LEARN_SECONDS = 0.5


class Watched:
    """The primary that sentinels know by a name."""

    def __init__(
        self,
        address: StoreAddress,
        sentinels: Sequence[Connections],
        open_node: Callable[[StoreAddress], Connections],
    ) -> None:
        """``open_node`` makes the connections to a primary."""
        self._address = address
        self._sentinels = sentinels
        self._open_node = open_node
        self._primary: Connections | None = None
        self._learning = asyncio.Lock()
        self._learned_at = float("-inf")

    async def ask(self, commands: Sequence[Command], *, confirmed: bool = False) -> list[Reply]:
        """Ask the primary; see ``Servers``."""
        primary = self._primary or await self._learn()
        try:
            replies = await primary.ask(commands, confirmed=confirmed)
        except StoreUnavailableError:
            await self._doubt()
            raise
        if any(isinstance(reply, ReadOnlyError) or _lacks_replicas(reply) for reply in replies):
            await self._doubt()
        return replies

    async def nodes(self) -> Sequence[Connections]:
        """Return the primary, as the sentinels say now."""
        return [await self._learn()]

    async def layout(self) -> object:
        """Return which server it is."""
        return (await self._learn()).address

    async def dedicated(self) -> AbstractConnection:
        """Make a connection to the primary for one use of its own."""
        return await (await self._learn()).dedicated()

    def unavailable(self, what: str) -> StoreUnavailableError:
        """Make the error that says where it happened."""
        return StoreUnavailableError(f"the store at {self._address} {what}")

    def refused(self, error: ResponseError) -> StoreUnavailableError:
        """Make the error for an error reply."""
        return Connections(self._address).refused(error)

    async def aclose(self) -> None:
        """Close the connections to primary and sentinels."""
        for each in (self._primary, *self._sentinels):
            if each is not None:
                await each.aclose()

    async def _doubt(self) -> None:
        """Ask the sentinels whether the primary is still the one; what they cannot say now is asked again later."""
        try:
            await self._learn()
        except StoreUnavailableError:
            return

    async def _learn(self) -> Connections:
        """Return the primary as the sentinels say, or as they said a moment ago. Raises StoreUnavailableError."""
        async with self._learning:
            now = asyncio.get_running_loop().time()
            if self._primary is not None and now - self._learned_at < _LEARN_SECONDS:
                return self._primary
            said = await asyncio.gather(*map(self._ask_sentinel, self._sentinels))
            known = [each for each in said if each is not None]
            if not known:
                raise self.unavailable(f"has no sentinel that knows {self._address.service!r}")
            _, host, port = max(known)
            address = self._address.at(host, port)
            if self._primary is None or self._primary.address != address:
                if self._primary is not None:
                    await self._primary.aclose()
                self._primary = self._open_node(address)
            self._learned_at = asyncio.get_running_loop().time()
            return self._primary

    async def _ask_sentinel(self, sentinel: Connections) -> tuple[int, str, int] | None:
        try:
            [reply] = await sentinel.ask([["SENTINEL", "MASTER", self._address.service]])
        except StoreUnavailableError:
            return None
        if isinstance(reply, ResponseError) or not isinstance(reply, list):
            return None
        fields = dict(zip(reply[0::2], reply[1::2], strict=False))
        try:
            return int(fields[b"config-epoch"]), fields[b"ip"].decode(), int(fields[b"port"])
        except (KeyError, ValueError):
            return None


def _lacks_replicas(reply: Reply) -> bool:
    return isinstance(reply, ResponseError) and str(reply).startswith("NOREPLICAS")


_: type[Servers] = Watched
