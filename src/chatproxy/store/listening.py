"""How does a node hear that somebody's ledger has grown on another one?

By a channel of the store. It promises nothing: what is said while nobody listens is lost. So who listens must know
when hearing began and when it ended; a connection that is silent is asked whether it is still there, since a peer that
has vanished says nothing either.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from chatproxy.model import SubjectTag
from chatproxy.store import keys
from chatproxy.store.connections import Connections, Reply

_SILENCE_SECONDS = 1.0
"""Without a word for so long the server is asked for one; without one for as long again it has gone."""


@asynccontextmanager
async def listen(connections: Connections) -> AsyncIterator[AsyncIterator[SubjectTag]]:
    """Yield what is told from now on. Raises StoreUnavailableError, from the iterator too."""
    connection = await connections.dedicated()
    try:
        await _say(connections, connection, b"SUBSCRIBE", keys.CHANGED)
        await _hear(connections, connection)
        yield _told(connections, connection)
    finally:
        await connection.disconnect(nowait=True)


async def _told(connections: Connections, connection: AbstractConnection) -> AsyncIterator[SubjectTag]:
    while True:
        try:
            reply = await _hear(connections, connection)
        except TimeoutError:
            await _say(connections, connection, b"PING")
            try:
                reply = await _hear(connections, connection)
            except TimeoutError:
                raise connections.unavailable("does not answer on its channel") from None
        if isinstance(reply, list) and reply[0] == b"message":
            yield SubjectTag(reply[2])


async def _say(connections: Connections, connection: AbstractConnection, *words: bytes) -> None:
    try:
        await connection.send_packed_command(connection.pack_command(*words), check_health=False)
    except (RedisError, OSError) as error:
        raise connections.unavailable(f"cannot be used: {error}") from error


async def _hear(connections: Connections, connection: AbstractConnection) -> Reply:
    """Return the next thing said. Raises TimeoutError, StoreUnavailableError."""
    try:
        async with asyncio.timeout(_SILENCE_SECONDS):
            return await connection.read_response(disconnect_on_error=False)
    except TimeoutError:
        raise
    except (RedisError, OSError) as error:
        raise connections.unavailable(f"broke off: {error}") from error
