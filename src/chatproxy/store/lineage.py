"""What of whom is in which dataset, over the Redis protocol.

A use is noted in the person's own slot, in one step with the question whether ledger and fence are as the decision has
seen them. So a withdrawal comes either before, and then nothing is noted and nothing delivered; or after, and then what
was delivered is known. What is recalled lies apart, by the names of items alone: it outlives the person's data.
"""

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence

from redis.exceptions import ResponseError

from chatproxy.model import SubjectTag
from chatproxy.ports import LineageStore, Uses
from chatproxy.store import keys
from chatproxy.store.calling import run_calls
from chatproxy.store.connections import Command, Reply, Servers
from chatproxy.store.scanning import scan
from chatproxy.store.scripts import CLOCK, KEEP, Call, Script

_SCAN_COUNT = 1000
_LINK = b"link"
_LINK_SIZE = 16
_BATCH = 500

_USE = Script.of(
    CLOCK
    + KEEP
    + """
-- KEYS: subject, ledger, uses. ARGV: ledger length, erased_at or '', a fresh link, keep_until, (entry, what)...
if redis.call('LLEN', KEYS[2]) ~= tonumber(ARGV[1]) then return false end
local state = redis.call('HMGET', KEYS[1], 'erased_at', 'erasing')
if (state[1] or '') ~= ARGV[2] or state[2] then return false end
redis.call('HSETNX', KEYS[3], 'link', ARGV[3])
keep(KEYS[3], tonumber(ARGV[4]))
for at = 5, #ARGV, 2 do redis.call('HSET', KEYS[3], ARGV[at], ARGV[at + 1]) end
return redis.call('HGET', KEYS[3], 'link')
"""
)

_FORGET = Script.of(
    """
-- KEYS: uses. ARGV: entries...
for at = 1, #ARGV do redis.call('HDEL', KEYS[1], ARGV[at]) end
if redis.call('HLEN', KEYS[1]) == 1 and redis.call('HEXISTS', KEYS[1], 'link') == 1 then
  redis.call('DEL', KEYS[1])
end
return 1
"""
)


class RedisLineage:
    """Implements the LineageStore port. Every method raises StoreUnavailableError."""

    def __init__(self, connections: Servers) -> None:
        self._connections = connections

    async def use(
        self,
        subject: SubjectTag,
        entries: Mapping[bytes, bytes],
        *,
        ledger_length: int,
        erased_at: int | None,
        keep_until: int,
    ) -> bytes | None:
        """Note that turns go into a dataset; None where ledger or fence are others by now."""
        link: bytes | None = None
        listed = list(entries.items())
        for start in range(0, max(len(listed), 1), _BATCH):
            arguments: list[bytes | int] = [
                ledger_length,
                b"" if erased_at is None else b"%d" % erased_at,
                secrets.token_bytes(_LINK_SIZE),
                keep_until,
            ]
            for entry, what in listed[start : start + _BATCH]:
                arguments += [entry, what]
            link = await self._run(
                Call(_USE, [keys.subject(subject), keys.ledger(subject), keys.uses(subject)], arguments)
            )
            if link is None:
                return None
        return link

    async def uses(self, subject: SubjectTag) -> Uses | None:
        """Return what of a person is in datasets; None: nothing."""
        [pairs] = await self._ask(["HGETALL", keys.uses(subject)])
        found = dict(zip(pairs[0::2], pairs[1::2], strict=True))
        link = found.pop(_LINK, None)
        return None if link is None else Uses(link, found)

    async def used(self) -> AsyncIterator[SubjectTag]:
        """Walk over everybody of whom something is in a dataset."""
        async for found in scan(self._connections, keys.ANY_USES):
            for name in found:
                if (subject := keys.parse_person(name)) is not None:
                    yield subject

    async def forget_uses(self, subject: SubjectTag, entries: Sequence[bytes]) -> None:
        """Take entries out; the link goes with the last."""
        for start in range(0, max(len(entries), 1), _BATCH):
            await self._run(Call(_FORGET, [keys.uses(subject)], list(entries[start : start + _BATCH])))

    async def recall(self, dataset: bytes, items: Mapping[bytes, bytes]) -> int:
        """Put items that are not there yet on the recall list; return how many."""
        name = keys.recalls(dataset)
        commands: list[Command] = [["HSETNX", name, item, why] for item, why in items.items()]
        return sum(await self._ask(*commands))

    async def settle_recalls(self, dataset: bytes, items: Mapping[bytes, bytes | None]) -> None:
        """Replace what the recall list says of items; None takes one off."""
        name = keys.recalls(dataset)
        commands: list[Command] = [
            ["HDEL", name, item] if why is None else ["HSET", name, item, why] for item, why in items.items()
        ]
        await self._ask(*commands)

    async def recalled(self, dataset: bytes, items: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return what the recall list of a dataset says of those *items* that are on it."""
        found: dict[bytes, bytes] = {}
        for start in range(0, len(items), _BATCH):
            some = items[start : start + _BATCH]
            [said] = await self._ask(["HMGET", keys.recalls(dataset), *some])
            found |= {item: what for item, what in zip(some, said, strict=True) if what is not None}
        return found

    async def recalls(self, dataset: bytes) -> AsyncIterator[tuple[bytes, bytes]]:
        """Walk over the recall list of a dataset."""
        cursor = b"0"
        while True:
            [[cursor, pairs]] = await self._ask(
                ["HSCAN", keys.recalls(dataset), cursor, "COUNT", _SCAN_COUNT]
            )
            for item, why in zip(pairs[0::2], pairs[1::2], strict=True):
                yield item, why
            if cursor == b"0":
                return

    async def datasets(self) -> dict[bytes, bytes]:
        """Return what is noted of each dataset, by its name."""
        [pairs] = await self._ask(["HGETALL", keys.DATASETS])
        return dict(zip(pairs[0::2], pairs[1::2], strict=True))

    async def add_dataset(self, dataset: bytes, about: bytes) -> None:
        """Note a dataset, unless it is known."""
        await self._ask(["HSETNX", keys.DATASETS, dataset, about])

    async def _run(self, call: Call) -> Reply:
        [reply] = await run_calls(self._connections, [call])
        if isinstance(reply, ResponseError):
            raise self._connections.refused(reply)
        return reply

    async def _ask(self, *commands: Command) -> list[Reply]:
        if not commands:
            return []
        replies = await self._connections.ask(commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise self._connections.refused(reply)
        return replies


_: type[LineageStore] = RedisLineage
