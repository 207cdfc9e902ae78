"""What removes what is over, over the Redis protocol: a server drops expired keys lazily, and trusts who sets expiries."""

from collections.abc import AsyncIterator

from redis.exceptions import ResponseError

from chatproxy.model import SubjectTag
from chatproxy.ports import FoundKey, ReapStore
from chatproxy.store import keys
from chatproxy.store.connections import Command, Connections, Reply
from chatproxy.store.erasure import RedisErasure, read_turn

_SCAN_COUNT = 1000
_RECORD_EXPIRES = (12, 19)
"""Where a record's header says when it ends (docs/record-format.md)."""
_GONE = -2


class RedisReaper:
    """Implements the ReapStore port. Every method raises StoreUnavailableError."""

    def __init__(self, connections: Connections, erasure: RedisErasure) -> None:
        self._connections = connections
        self._erasure = erasure

    async def walk(self) -> AsyncIterator[list[FoundKey]]:
        """Walk over the keys of all people; scanning alone makes the server drop what has expired."""
        cursor = b"0"
        while True:
            [[cursor, found]] = await self._ask(
                ["SCAN", cursor, "MATCH", keys.ANY_PERSON, "COUNT", _SCAN_COUNT]
            )
            named = [(subject, name) for name in found if (subject := keys.parse_person(name)) is not None]
            yield await self._look_at(named)
            if cursor == b"0":
                return

    async def _look_at(self, named: list[tuple[SubjectTag, bytes]]) -> list[FoundKey]:
        kinds = [keys.parse_own(subject, name)[0].decode("ascii", "replace") for subject, name in named]
        commands: list[Command] = [["PEXPIRETIME", name] for _, name in named]
        for kind, (_, name) in zip(kinds, named, strict=True):
            if kind == "r":
                commands.append(["GETRANGE", name, *_RECORD_EXPIRES])
            elif kind == "a":
                commands.append(["HGET", name, "exp"])
        if not commands:
            return []
        replies = await self._connections.ask(commands)
        promised = iter(replies[len(named) :])
        looked = []
        for kind, (subject, name), ttl in zip(kinds, named, replies[: len(named)], strict=True):
            said = _promised(kind, next(promised)) if kind in {"r", "a"} else None
            if isinstance(ttl, int) and ttl != _GONE:
                turn = read_turn(keys.parse_own(subject, name)[1]) if kind in {"r", "a"} else None
                looked.append(FoundKey(subject, name, kind, ttl, said, turn))
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

    async def epoch_days(self) -> list[int]:
        """Return the expiry days that have a key, ascending."""
        [days] = await self._ask(["HKEYS", keys.EPOCH_WRAPS])
        return sorted(int(day) for day in days)

    async def destroy_epoch(self, day: int) -> None:
        """Destroy the key of an expiry day."""
        await self._ask(["HDEL", keys.EPOCH_WRAPS, day])

    async def _ask(self, *commands: Command) -> list[Reply]:
        replies = await self._connections.ask(commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise self._connections.refused(reply)
        return replies


def _promised(kind: str, said: Reply) -> int | None:
    if not isinstance(said, bytes):
        return None
    if kind == "r":
        return (
            int.from_bytes(said, "big") if len(said) == _RECORD_EXPIRES[1] - _RECORD_EXPIRES[0] + 1 else None
        )
    return int(said) if said.isdigit() else None


_: type[ReapStore] = RedisReaper
