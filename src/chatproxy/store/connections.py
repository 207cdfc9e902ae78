"""How are commands asked without ever mixing up two callers' answers?

A bounded pool over redis-py's connections, with its own rules:

1. A connection goes back to the pool only after every reply to what was sent on it has been read. Anything else, a
   timeout, an error, a cancelled caller, closes it: a reply left behind would be the next caller's answer.
2. One deadline covers waiting for a free connection, connecting, sending and reading. It grows with what is sent,
   or a value that is long enough could never be stored.
3. Nothing is sent twice: what was asked may have been done, and only the caller knows whether to ask again.
4. What goes wrong leaves here as StoreUnavailableError, which names the address without credentials.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from chatproxy.errors import StoreUnavailableError
from chatproxy.store.address import StoreAddress, Transport

Command = Sequence[bytes | int | str]
Reply = Any
"""As RESP2 has it: bytes, int, None, a list of these, or a ResponseError as a value."""

_SLOWEST_BYTES_A_SECOND = 8 << 20
"""What a store that is not down takes at the least."""
_HINTS = {
    "LOADING": "it is still reading its files",
    "MISCONF": "it cannot write to its disk: free space there and see its log",
    "NOAUTH": "it wants a password: put it into the URL",
    "NOPERM": "its ACL does not let this user do that",
    "OOM": "its memory limit is reached: raise maxmemory",
    "READONLY": "it is a replica: name the primary",
}


class Connections:
    """Up to *most* connections to one server, made when needed.

    Args:
        address: the server.
        deadline: seconds for one call of :meth:`ask`, all told, and more for long values.
        connect_timeout: seconds for making a connection, within the deadline.
        most: how many calls run at once; further ones wait.
    """

    def __init__(
        self, address: StoreAddress, *, deadline: float = 2.0, connect_timeout: float = 1.0, most: int = 16
    ) -> None:
        self.address = address
        self._deadline = deadline
        self._connect_timeout = connect_timeout
        self._free = asyncio.Semaphore(most)
        self._idle: list[AbstractConnection] = []
        self._closed = False

    async def ask(self, commands: Sequence[Command]) -> list[Reply]:
        """Send *commands* in one go and return their replies; an error reply is a ResponseError in the list.

        Raises:
            StoreUnavailableError: no whole answer in time. Any part of what was asked may have been done.
        """
        sent = sum(len(word) for command in commands for word in command if isinstance(word, bytes))
        deadline = self._deadline + sent / _SLOWEST_BYTES_A_SECOND
        try:
            async with asyncio.timeout(deadline), self._free:
                return await self._converse(commands)
        except TimeoutError as error:
            raise self.unavailable(f"did not answer within {deadline:.3g} s") from error
        except (RedisError, OSError) as error:
            raise self.unavailable(f"cannot be used: {error}") from error

    async def dedicated(self) -> AbstractConnection:
        """Make a connection for one use of its own, which its user closes. Raises StoreUnavailableError."""
        connection = self._make()
        is_made = False
        try:
            async with asyncio.timeout(self._deadline):
                await connection.connect()  # type: ignore[no-untyped-call]
            is_made = True
        except TimeoutError as error:
            raise self.unavailable(f"did not answer within {self._deadline:.3g} s") from error
        except (RedisError, OSError) as error:
            raise self.unavailable(f"cannot be used: {error}") from error
        finally:
            if not is_made:
                await connection.disconnect(nowait=True)
        return connection

    def unavailable(self, what: str) -> StoreUnavailableError:
        """Make the error that says where it happened."""
        return StoreUnavailableError(f"the store at {self.address} {what}")

    def refused(self, error: ResponseError) -> StoreUnavailableError:
        """Make the error for an error reply. Its text may quote keys, so only its code is repeated."""
        # Of codes that it knows redis-py takes the code off the text.
        code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
        hint = _HINTS.get(code)
        return self.unavailable(f"answered {code}" + (f": {hint}" if hint else ""))

    async def aclose(self) -> None:
        """Close the idle connections now, and each that is in use after its call."""
        self._closed = True
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

    async def _converse(self, commands: Sequence[Command]) -> list[Reply]:
        connection = await self._take()
        clean = False
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            replies = [await self._read(connection) for _ in commands]
            clean = True
        finally:
            if clean and not self._closed:
                self._idle.append(connection)
            else:
                await connection.disconnect(nowait=True)
        return replies

    async def _take(self) -> AbstractConnection:
        while self._idle:
            connection = self._idle.pop()
            # True also for a connection that the server has closed meanwhile.
            if not await connection.can_read():
                return connection
            await connection.disconnect(nowait=True)
        return self._make()

    async def _read(self, connection: AbstractConnection) -> Reply:
        try:
            return await connection.read_response()
        except ResponseError as error:
            return error

    def _make(self) -> AbstractConnection:
        address = self.address
        common: dict[str, Any] = {
            "db": address.database,
            "username": address.username,
            "password": address.password,
            "socket_timeout": None,  # the one deadline of ask() is cheaper, and covers more
            "socket_connect_timeout": self._connect_timeout,
            "retry": Retry(NoBackoff(), 0),  # the default resends up to ten times
            "protocol": 2,
            "driver_info": None,
        }
        match address.transport:
            case Transport.UNIX:
                return UnixDomainSocketConnection(path=address.path, **common)
            case Transport.TLS:
                ca_file = str(address.ca_file) if address.ca_file else None
                return SSLConnection(host=address.host, port=address.port, ssl_ca_certs=ca_file, **common)
            case Transport.TCP:
                return Connection(host=address.host, port=address.port, **common)
