"""Which keys are there? All servers are walked in turn, in bounded steps.

While slots of a cluster move, a key may go from a server that is still to be walked to one that was. So if servers or
slots are not the same after a walk as before it, or a slot is on its way, all are walked once more; a key may come twice.
"""

from collections.abc import AsyncIterator

from redis.exceptions import ResponseError

from chatproxy.store.connections import Servers

_COUNT = 1000
"""How many keys a server looks at in one step."""
_MOST_WALKS = 3


async def scan(servers: Servers, pattern: bytes) -> AsyncIterator[list[bytes]]:
    """Yield the keys that match *pattern*, step by step. Raises StoreUnavailableError."""
    for _ in range(_MOST_WALKS):
        before = await servers.layout()
        for node in await servers.nodes():
            cursor = b"0"
            while True:
                [reply] = await node.ask([["SCAN", cursor, "MATCH", pattern, "COUNT", _COUNT]])
                if isinstance(reply, ResponseError):
                    raise node.refused(reply)
                cursor, found = reply
                yield found
                if cursor == b"0":
                    break
        if await servers.layout() == before:
            return
    raise servers.unavailable("is being divided anew all the time; try again when that is done")
