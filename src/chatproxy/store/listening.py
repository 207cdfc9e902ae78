"""How does a node hear that something has changed on another one: somebody's ledger, or a control value?

By a channel of the store. It promises nothing: what is said while nobody listens is lost. So who listens must know
when hearing began and when it ended:

1. Hearing begins when the server has confirmed it, not before.
2. A connection that is silent is asked whether it is still there, since a peer that has vanished says nothing either.
   Within a second of vanishing it counts as gone.
3. Whatever else goes wrong, an error reply, nonsense, a closed connection, ends the hearing. Nothing is mended here.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from chatproxy.store.connections import Reply, Servers

T = TypeVar("T")
_SILENCE_SECONDS = 0.4
"""Without a word for so long the server is asked for one; without one for as long again it has gone."""
_MESSAGE_LENGTH = 3


@asynccontextmanager
async def listen(
    connections: Servers, channel: bytes, read: Callable[[bytes], T]
) -> AsyncIterator[AsyncIterator[T]]:
    """Yield what is told on *channel* from now on. Raises StoreUnavailableError, from the iterator too."""
    connection = await connections.dedicated()
    try:
        await _say(connections, connection, b"SUBSCRIBE", channel)
        if _word(await _hear(connections, connection)) != b"subscribe":
            raise connections.unavailable("did not confirm its channel")
        yield _told(connections, connection, read)
    finally:
        await connection.disconnect(nowait=True)


async def _told(
    connections: Servers, connection: AbstractConnection, read: Callable[[bytes], T]
) -> AsyncIterator[T]:
    while True:
        reply = await _hear(connections, connection)
        if reply is None:
            await _say(connections, connection, b"PING")
            reply = await _hear(connections, connection)
        match _word(reply):
            case b"message":
                yield read(reply[2])
            case b"pong":
                pass
            case None:
                raise connections.unavailable("does not answer on its channel")
            case _:
                raise connections.unavailable("answers on its channel what was not asked")


def _word(reply: Reply) -> bytes | None:
    """Return what kind of thing was said, b"" for nonsense, None for nothing."""
    if reply is None:
        return None
    if not isinstance(reply, list) or not reply or not all(isinstance(item, bytes | int) for item in reply):
        return b""
    is_whole = reply[0] != b"message" or (len(reply) == _MESSAGE_LENGTH and isinstance(reply[2], bytes))
    return reply[0] if is_whole and isinstance(reply[0], bytes) else b""


async def _say(connections: Servers, connection: AbstractConnection, *words: bytes) -> None:
    try:
        await connection.send_packed_command(connection.pack_command(*words), check_health=False)
    except (RedisError, OSError) as error:
        raise connections.unavailable(f"cannot be used: {error}") from error


async def _hear(connections: Servers, connection: AbstractConnection) -> Reply:
    """Return the next thing said, None for silence. Raises StoreUnavailableError.

    A reply that has come in part stays with the connection and is whole the next time.
    """
    try:
        try:
            async with asyncio.timeout(_SILENCE_SECONDS):
                return await connection.read_response(disconnect_on_error=False)
        except TimeoutError:
            # A loop that is late looks at the time before it looks at what has come; it does so within two rounds.
            for _ in range(2):
                await asyncio.sleep(0)
            async with asyncio.timeout(0):
                return await connection.read_response(disconnect_on_error=False)
    except TimeoutError:
        return None
    except ResponseError as error:
        raise connections.refused(error) from error
    except (RedisError, OSError) as error:
        raise connections.unavailable(f"broke off: {error}") from error
