"""What removes what is over, over the Redis protocol: a server drops expired keys lazily, and trusts who sets expiries."""

from collections.abc import AsyncIterator, Sequence

from redis.exceptions import ResponseError

from chatproxy.model import SubjectTag
from chatproxy.ports import FoundKey, ReapStore
from chatproxy.store import keys
from chatproxy.store.connections import Command, Reply, Servers
from chatproxy.store.erasure import RedisErasure, read_turn
from chatproxy.store.scanning import scan

_RECORD_ENDS = (8, 19)
"""Where a record's header says which epoch key it is under, and when it ends (docs/record-format.md)."""
_EPOCH_SIZE = 4
_GONE = -2


class RedisReaper:
    """Implements the ReapStore port. Every method raises StoreUnavailableError."""

    def __init__(self, connections: Servers, erasure: RedisErasure) -> None:
        self._connections = connections
        self._erasure = erasure

    async def walk(self) -> AsyncIterator[list[FoundKey]]:
        """Walk over the keys of all people; scanning alone makes the server drop what has expired."""
        async for found in scan(self._connections, keys.ANY_PERSON):
            yield await self._look_at(
                [(subject, name) for name in found if (subject := keys.parse_person(name)) is not None]
            )

    async def _look_at(self, named: list[tuple[SubjectTag, bytes]]) -> list[FoundKey]:
        kinds = [keys.parse_own(subject, name)[0].decode("ascii", "replace") for subject, name in named]
        commands: list[Command] = [["PEXPIRETIME", name] for _, name in named]
        for kind, (_, name) in zip(kinds, named, strict=True):
            if kind == "r":
                commands.append(["GETRANGE", name, *_RECORD_ENDS])
            elif kind == "a":
                commands.append(["HGET", name, "exp"])
        if not commands:
            return []
        replies = await self._connections.ask(commands)
        promised = iter(replies[len(named) :])
        looked = []
        for kind, (subject, name), ttl in zip(kinds, named, replies[: len(named)], strict=True):
            reply = next(promised) if kind in {"r", "a"} else None
            if isinstance(ttl, int) and ttl != _GONE:
                turn = read_turn(keys.parse_own(subject, name)[1]) if kind in {"r", "a"} else None
                epoch, said = _read_record(reply) if kind == "r" else (None, _read_annotation(reply))
                looked.append(FoundKey(subject, name, kind, ttl, said, turn, epoch))
        return looked

    async def last_expiry(self, subject: SubjectTag) -> int | None:
        """Return when the last of a person's turns ends, by their index."""
        [last] = await self._connections.ask([["ZRANGE", keys.index(subject), 0, 0, "REV", "WITHSCORES"]])
        return int(last[1]) if isinstance(last, list) and last else None

    async def end(self, name: bytes, at: int) -> None:
        """Have a key expire at *at* (ms), which removes it if that is past."""
        await self._ask(["PEXPIREAT", name, max(at, 1)])

    async def trim_index(self, subject: SubjectTag, name: bytes) -> int:
        """Take turns that are not kept out of an index; return how many."""
        return await self._erasure.trim_index(subject, name)

    async def epochs(self) -> list[int]:
        """Return the numbers of the epoch keys that there are, ascending."""
        [days] = await self._ask(["HKEYS", keys.EPOCH_WRAPS])
        return sorted(int(day) for day in days)

    async def destroy_epochs(self, epochs: Sequence[int]) -> None:
        """Destroy epoch keys."""
        if epochs:
            await self._ask(["HDEL", keys.EPOCH_WRAPS, *epochs])

    async def _ask(self, *commands: Command) -> list[Reply]:
        replies = await self._connections.ask(commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise self._connections.refused(reply)
        return replies


def _read_record(said: Reply) -> tuple[int | None, int | None]:
    """Return which epoch key a record is under, and when it ends."""
    if not isinstance(said, bytes) or len(said) != _RECORD_ENDS[1] - _RECORD_ENDS[0] + 1:
        return None, None
    return int.from_bytes(said[:_EPOCH_SIZE], "big"), int.from_bytes(said[_EPOCH_SIZE:], "big")


def _read_annotation(said: Reply) -> int | None:
    return int(said) if isinstance(said, bytes) and said.isdigit() else None


_: type[ReapStore] = RedisReaper
