"""How are commands asked of a cluster, each of the server that has its key?

1. Commands are divided by the slot of their key and asked of each server at once, in their order. One that has no key
   is asked of any server.
2. What a server did not do, because its slot is elsewhere (MOVED), is moving (ASK) or is in two halves (TRYAGAIN), is
   asked again where it belongs. Nothing else is sent twice (see :mod:`chatproxy.store.connections`).
3. A server that is away fails what was asked of it and nothing else: those are error replies. Only if all fail, the
   store is unavailable. Each server has a breaker of its own, so only the first to ask wait for it.
4. The map of slots is learned from any server that answers, again whenever one has failed or pointed elsewhere, at most
   twice a second, and on each look at the store's health.
"""

import asyncio
from collections.abc import Callable, Sequence

from redis.asyncio.connection import AbstractConnection
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError, TryAgainError

from chatproxy.errors import StoreUnavailableError
from chatproxy.store.address import StoreAddress
from chatproxy.store.connections import Command, Connections, Reply, Servers

_MOST_TRIES = 5
_PAUSE_SECONDS = 0.02
"""Before what is in two halves, or has just been pointed elsewhere, is asked again; it doubles."""
_LEARN_SECONDS = 0.5
_KEYLESS = frozenset({"PING", "TIME", "INFO", "CONFIG", "ACL", "LASTSAVE", "SLOWLOG"})

Place = tuple[str, int]


class UnreachedError(ResponseError):
    """Stands for the reply of a server that could not be asked."""


class Cluster:
    """The servers of one cluster."""

    def __init__(self, address: StoreAddress, open_node: Callable[[StoreAddress], Connections]) -> None:
        """*address* names some of its nodes; ``open_node`` makes the connections to one."""
        self._address = address
        self._open_node = open_node
        self._nodes: dict[Place, Connections] = {}
        self._slots: list[Place | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        self._primaries: tuple[Place, ...] = ()
        self._learning = asyncio.Lock()
        self._learned_at = float("-inf")

    async def ask(self, commands: Sequence[Command], *, confirmed: bool = False) -> list[Reply]:
        """Ask each server for what it has; see ``Servers``."""
        replies: list[Reply] = [None] * len(commands)
        waiting = list(range(len(commands)))
        pause = _PAUSE_SECONDS
        for _ in range(_MOST_TRIES):
            await self._learn(is_known_enough=bool(self._primaries))
            await self._ask_once(commands, waiting, replies, confirmed=confirmed)
            waiting = [
                number for number in waiting if isinstance(replies[number], MovedError | TryAgainError)
            ]
            if not waiting:
                break
            if any(isinstance(replies[number], TryAgainError) for number in waiting):
                await asyncio.sleep(pause)
                pause *= 2
        failed = [reply for reply in replies if isinstance(reply, UnreachedError)]
        if failed and len(failed) == len(replies):
            raise StoreUnavailableError(str(failed[0]))
        return replies

    async def nodes(self) -> Sequence[Connections]:
        """Return every primary, as the cluster says now."""
        await self._learn()
        return [self._node(place) for place in self._primaries]

    async def layout(self) -> object:
        """Return which server has which slot; something that is like nothing else while one is on its way."""
        await self._learn(is_new=True)
        for place in self._primaries:
            node = self._node(place)
            [reply] = await node.ask([["CLUSTER", "NODES"]])
            if isinstance(reply, ResponseError):
                raise node.refused(reply)
            if any(b"myself" in line and b"[" in line for line in reply.splitlines()):
                return object()
        return tuple(self._slots)

    async def dedicated(self) -> AbstractConnection:
        """Make a connection to the first primary that answers: what is published is told on all of them."""
        failure: StoreUnavailableError | None = None
        for node in await self.nodes():
            try:
                return await node.dedicated()
            except StoreUnavailableError as error:
                failure = error
        raise failure or self.unavailable("has no server that takes writes")

    def unavailable(self, what: str) -> StoreUnavailableError:
        """Make the error that says where it happened."""
        return StoreUnavailableError(f"the store at {self._address} {what}")

    def refused(self, error: ResponseError) -> StoreUnavailableError:
        """Make the error for an error reply, which may stand for a server that could not be asked."""
        if isinstance(error, UnreachedError):
            return StoreUnavailableError(str(error))
        return Connections(self._address).refused(error)

    async def aclose(self) -> None:
        """Close the connections to every server."""
        for node in self._nodes.values():
            await node.aclose()

    async def _ask_once(
        self, commands: Sequence[Command], waiting: Sequence[int], replies: list[Reply], *, confirmed: bool
    ) -> None:
        """Ask each server once for those that wait, and put what comes into *replies*."""
        divided: dict[Place, list[int]] = {}
        for number in waiting:
            place = self._place_of(commands[number])
            if place is None:
                replies[number] = UnreachedError(str(self.unavailable("has no server for some of its slots")))
            else:
                divided.setdefault(place, []).append(number)

        async def ask(place: Place, numbers: Sequence[int]) -> None:
            found = await self._ask_node(place, [commands[number] for number in numbers], confirmed=confirmed)
            for number, reply in zip(numbers, found, strict=True):
                replies[number] = reply

        async with asyncio.TaskGroup() as asking:
            for place, numbers in divided.items():
                asking.create_task(ask(place, numbers))

    async def _ask_node(self, place: Place, commands: list[Command], *, confirmed: bool) -> list[Reply]:
        replies: list[Reply]
        try:
            replies = await self._node(place).ask(commands, confirmed=confirmed)
        except StoreUnavailableError as error:
            self._learned_at = min(self._learned_at, asyncio.get_running_loop().time() - _LEARN_SECONDS)
            await self._learn(except_for=place)
            return [UnreachedError(str(error))] * len(commands)
        for number, reply in enumerate(replies):
            if isinstance(reply, MovedError):
                self._slots[reply.slot_id] = (reply.host or place[0], reply.port)
            elif isinstance(reply, AskError):
                there = (reply.host or place[0], reply.port)
                replies[number] = await self._ask_there(there, commands[number], confirmed=confirmed)
            elif isinstance(reply, ClusterDownError):
                await self._learn(except_for=place)
        return replies

    async def _ask_there(self, place: Place, command: Command, *, confirmed: bool) -> Reply:
        """Ask the server that a slot is moving to, for a key that has moved already."""
        try:
            return (await self._node(place).ask([["ASKING"], command], confirmed=confirmed))[1]
        except StoreUnavailableError as error:
            return UnreachedError(str(error))

    def _place_of(self, command: Command) -> Place | None:
        if command[0] in _KEYLESS:
            return next(iter(self._primaries), None)
        key = command[3] if command[0] == "EVALSHA" else command[1]
        return self._slots[key_slot(key if isinstance(key, bytes) else str(key).encode())]

    def _node(self, place: Place) -> Connections:
        if place not in self._nodes:
            self._nodes[place] = self._open_node(self._address.at(*place))
        return self._nodes[place]

    async def _learn(
        self, *, is_known_enough: bool = False, is_new: bool = False, except_for: Place | None = None
    ) -> None:
        """Learn which server has which slot, unless that was just done. Raises StoreUnavailableError.

        ``except_for``: a server that has just failed is asked last, and it may be that none answers.
        """
        if is_known_enough:
            return
        asked_at = asyncio.get_running_loop().time()
        async with self._learning:
            since = asyncio.get_running_loop().time() - self._learned_at
            if self._learned_at > asked_at or (since < _LEARN_SECONDS and not is_new):
                return
            known = [*self._primaries, *(place for place in self._address.seeds), *self._nodes]
            places = sorted(dict.fromkeys(known), key=lambda place: place == except_for)
            failure: StoreUnavailableError | None = None
            for place in places:
                node = self._node(place)
                try:
                    [reply] = await node.ask([["CLUSTER", "SLOTS"]])
                    if isinstance(reply, ResponseError):
                        raise node.refused(reply)
                except StoreUnavailableError as error:
                    failure = error
                else:
                    self._use(reply, place)
                    self._learned_at = asyncio.get_running_loop().time()
                    return
        if except_for is None:
            raise failure or self.unavailable("names no server")

    def _use(self, ranges: Reply, place: Place) -> None:
        slots: list[Place | None] = [None] * REDIS_CLUSTER_HASH_SLOTS
        for first, last, primary, *_ in ranges:
            host = (primary[0] or b"").decode()
            owner = (place[0] if host in {"", "?"} else host, int(primary[1]))
            slots[first : last + 1] = [owner] * (last + 1 - first)
        self._slots = slots
        self._primaries = tuple(dict.fromkeys(owner for owner in slots if owner is not None))


_: type[Servers] = Cluster
