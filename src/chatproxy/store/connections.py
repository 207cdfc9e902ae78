"""How are commands asked without ever mixing up two callers' answers?

A bounded pool over redis-py's connections, with its own rules:

1. A connection goes back to the pool only after every reply to what was sent on it has been read. Anything else, a
   timeout, an error, a cancelled caller, closes it: a reply left behind would be the next caller's answer.
2. One deadline covers waiting for a free connection, connecting, sending and reading. It grows with what is sent,
   or a value that is long enough could never be stored.
3. Nothing is sent twice: what was asked may have been done, and only the caller knows whether to ask again.
4. What goes wrong leaves here as StoreUnavailableError, which names the address without credentials.
5. A server that has failed three times in a row is left alone: whoever asks hears so at once, and once a second one
   of them tries whether it is back. So nobody queues for a server that hangs.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import hiredis
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from chatproxy.breaker import Breaker
from chatproxy.errors import StoreUnavailableError
from chatproxy.store.address import StoreAddress, Transport

Command = Sequence[bytes | int | str]
Reply = Any
"""As RESP2 has it: bytes, int, None, a list of these, or a ResponseError as a value."""

_SLOWEST_BYTES_A_SECOND = 8 << 20
"""What a store that is not down takes at the least."""
_MOST_FAILURES = 3
_PROBE_SECONDS = 1.0
_HINTS = {
    "BUSY": "a script of somebody else runs there and does not end: end it with SCRIPT KILL",
    "CLUSTERDOWN": "part of the cluster is down: see `CLUSTER INFO` there",
    "LOADING": "it is still reading its files",
    "MISCONF": "it cannot write to its disk: free space there and see its log",
    "MOVED": "it is part of a cluster: name it with redis+cluster://",
    "NOAUTH": "it wants a password: put it into the URL",
    "NOPERM": "its ACL does not let this user do that",
    "NOREPLICAS": "too few replicas have what was written: bring them back",
    "OOM": "its memory limit is reached: raise maxmemory",
    "READONLY": "it is a replica: name the primary",
}


class Servers(Protocol):
    """The server that a store is, or those among which its keys are divided."""

    async def ask(self, commands: Sequence[Command], *, confirmed: bool = False) -> list[Reply]:
        """Send *commands* and return their replies; an error reply is a ResponseError in the list.

        ``confirmed``: a reply stands only if as many replicas as the settings ask for have what was written.
        What one server of several could not be asked is an error reply too. Raises StoreUnavailableError.
        """

    async def nodes(self) -> Sequence["Connections"]:
        """Return every server that takes writes, as is known now. Raises StoreUnavailableError."""

    async def layout(self) -> object:
        """Return something that is another thing once keys may have moved. Raises StoreUnavailableError."""

    async def dedicated(self) -> AbstractConnection:
        """Make a connection to any of them for one use of its own. Raises StoreUnavailableError."""

    def unavailable(self, what: str) -> StoreUnavailableError:
        """Make the error that says where it happened."""

    def refused(self, error: ResponseError) -> StoreUnavailableError:
        """Make the error for an error reply."""

    async def aclose(self) -> None:
        """Close the idle connections now, and each that is in use after its call."""


class Connections:
    """Up to *most* connections to one server, made when needed.

    Args:
        address: the server.
        deadline: seconds for one call of :meth:`ask`, all told, and more for long values.
        connect_timeout: seconds for making a connection, within the deadline.
        most: how many calls run at once; further ones wait.
        replicas: how many replicas must have what is to be confirmed.
        why_away: says in words why the server is known not to be there; None: it may be.
    """

    def __init__(
        self,
        address: StoreAddress,
        *,
        deadline: float = 2.0,
        connect_timeout: float = 1.0,
        most: int = 16,
        replicas: int = 0,
        why_away: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.address = address
        self._why_away = why_away
        self._replicas = replicas
        self._deadline = deadline
        self._connect_timeout = connect_timeout
        self._free = asyncio.Semaphore(most)
        self._idle: list[AbstractConnection] = []
        self._closed = False
        self._breaker = Breaker(
            most_failures=_MOST_FAILURES, first_pause=_PROBE_SECONDS, longest_pause=_PROBE_SECONDS
        )
        self._failure = ""
        """What went wrong last, in words."""

    async def ask(self, commands: Sequence[Command], *, confirmed: bool = False) -> list[Reply]:
        """Send *commands* in one go and return their replies; an error reply is a ResponseError in the list.

        ``confirmed``: if too few replicas have it within half of the deadline, each reply is an error reply.

        Raises:
            StoreUnavailableError: no whole answer in time. Any part of what was asked may have been done.
        """
        now = asyncio.get_running_loop().time
        if not self._breaker.lets_pass(now()):
            raise self._unreached(self._failure)
        waits = confirmed and self._replicas > 0
        if waits:
            commands = [*commands, ["WAIT", self._replicas, int(self._deadline * 500)]]
        # Not by redis-py, which takes six times as long: a put has some fifty words. The stub wants one of them.
        packed = [hiredis.pack_command(tuple(command)) for command in commands]  # type: ignore[arg-type]
        deadline = self._deadline + sum(map(len, packed)) / _SLOWEST_BYTES_A_SECOND
        try:
            async with asyncio.timeout(deadline), self._free:
                replies = await self._converse(packed)
        except TimeoutError as error:
            self._failure = f"did not answer within {deadline:.3g} s"
            self._breaker.failed(now())
            raise self.unavailable(self._failure) from error
        except (RedisError, OSError) as error:
            self._failure = f"cannot be used: {error}"
            self._breaker.failed(now())
            raise self._unreached(self._failure) from error
        self._breaker.succeeded()
        return self._confirmed(replies) if waits else replies

    async def nodes(self) -> Sequence["Connections"]:
        """Return this server alone."""
        return [self]

    async def layout(self) -> object:
        """Return the same always: all keys are here."""
        return None

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

    def _unreached(self, what: str) -> StoreUnavailableError:
        why = self._why_away()
        return self.unavailable(what) if why is None else StoreUnavailableError(why)

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

    def _confirmed(self, replies: list[Reply]) -> list[Reply]:
        *replies, reached = replies
        if isinstance(reached, int) and reached >= self._replicas:
            return replies
        error = reached if isinstance(reached, ResponseError) else ResponseError("NOREPLICAS too few have it")
        return [reply if isinstance(reply, ResponseError) else error for reply in replies]

    async def _converse(self, packed: Sequence[bytes]) -> list[Reply]:
        connection = await self._take()
        clean = False
        try:
            # A new one connects by itself.
            await connection.send_packed_command(packed, check_health=False)
            replies = [await self._read(connection) for _ in packed]
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


_: type[Servers] = Connections
