"""One connection to the upstream, and the one request at a time that runs on it.

Rules of this file:

1. A connection has at most one call. Bytes that arrive while it has none belong to nobody: it is cut (security F2).
2. A call gives its connection back as soon as the response has arrived, not when it has been read, and only if the
   whole request was sent and the response left the connection in a known state. In all other cases it is closed.
3. Whoever waits in a call and is cancelled takes the connection down with him.
4. What arrives is handed on in the same step, without a task that has to wake for it: the head, and each piece of the body.
   Pieces that arrived before a failure are handed on before the failure is raised.
"""

import asyncio
import select
import socket
from collections.abc import Callable, Sequence
from typing import Protocol

from chatproxy.forwarding import RefusedRequestError, ResponseHead
from chatproxy.web.upstream.errors import UpstreamAbortedError, UpstreamError, UpstreamTimeoutError
from chatproxy.web.upstream.response import ResponseReader

_MOST_UNREAD_BYTES = 262_144
"""What the system takes of an answer that we do not read, since its client does not; it would take megabytes for each."""
_FIRST_ERROR_STATUS = 400


class Pool(Protocol):
    """What a connection and a call need of the pool they belong to."""

    loop: asyncio.AbstractEventLoop
    head_timeout: float
    idle_timeout: float
    idle_expiry: float

    def forget(self, connection: "Connection") -> None:
        """The connection is closed."""

    def give_back(self, connection: "Connection") -> None:
        """The connection may be used again."""

    async def connect(self) -> "Connection":
        """Open a new connection. Raises UpstreamError."""


class User(Protocol):
    """What a connection and the pool need of who uses the connection: a call, or a tunnel it has become."""

    def received(self, data: bytes) -> None:
        """Bytes have arrived."""

    def ended(self) -> bool:
        """The upstream sends nothing more; return whether the connection stays open for the other direction."""

    def lost(self, cause: Exception | None) -> None:
        """The connection has ended, in order if there is no *cause*."""

    def rearm(self) -> None:
        """The upstream has begun or ceased to take what is sent (``is_write_paused``)."""

    def wake(self) -> None:
        """The upstream takes again what is sent."""

    def sweep(self, now: float) -> None:
        """Time has passed."""

    def abort(self) -> None:
        """Close the connection at once."""


class Connection(asyncio.Protocol):
    """A connection, while it serves a call, after it has become a tunnel, and while it is idle."""

    def __init__(self, pool: Pool) -> None:
        self.call: User | None = None
        self.is_reused = False
        self.is_write_paused = False
        self.idle_since = 0.0
        self.transport: asyncio.Transport
        self._pool = pool
        self._poll: Callable[[int], list[tuple[int, int]]]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = transport  # type: ignore[assignment]
        connected = transport.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _MOST_UNREAD_BYTES)
        poll = select.poll()
        poll.register(connected.fileno(), select.POLLIN)
        self._poll = poll.poll

    def is_usable(self, now: float) -> bool:
        """Whether a request may be sent: nothing, not even its end, has arrived since the last response.

        The system is asked, since the event loop may not have come to it yet.
        """
        return (
            now - self.idle_since < self._pool.idle_expiry
            and not self.transport.is_closing()
            and not self._poll(0)
        )

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long, fail what has taken too long."""
        if self.call is not None:
            self.call.sweep(now)
        elif now - self.idle_since >= self._pool.idle_expiry:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self.call is None:
            self.transport.abort()
        else:
            self.call.received(data)

    def eof_received(self) -> bool:
        """See asyncio.Protocol."""
        return self.call is not None and self.call.ended()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._pool.forget(self)
        if self.call is not None:
            self.call.lost(exc)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self.is_write_paused = True
        if self.call is not None:
            self.call.rearm()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self.is_write_paused = False
        if self.call is not None:
            self.call.rearm()
            self.call.wake()


class Answered(Protocol):
    """Who is told what arrives of a response, as it arrives."""

    def begun(self, head: ResponseHead) -> None:
        """The head of the final response is there; ``body`` follows at once, with or without a piece."""

    def body(self, pieces: Sequence[bytes], *, more_body: bool) -> None:
        """Pieces have arrived, cut as they came, and with the last of them the end, unless there is *more_body*."""


class UpstreamCall:
    """One request and its response, which is told *answered*.

    Whoever starts it waits until it is whole, or aborts it. One task waits (``whole``); the same or one other writes
    (``write``, ``drain``).
    """

    __slots__ = (
        "_answered",
        "_connection",
        "_drainer",
        "_drop",
        "_error",
        "_has_begun",
        "_is_head_request",
        "_is_read_paused",
        "_is_sent",
        "_left",
        "_may_replay",
        "_may_switch",
        "_moved_at",
        "_pool",
        "_reader",
        "_replay",
        "_waiter",
    )

    def __init__(
        self,
        pool: Pool,
        connection: Connection,
        answered: Answered,
        *,
        is_head_request: bool,
        length: int | None,
        drop: frozenset[bytes],
        may_switch: bool,
        replay: bytes | None,
    ) -> None:
        self._connection: Connection | None
        self._reader: ResponseReader
        self._moved_at: float
        """Since when it is the upstream's turn, as the loop's clock has it."""
        self._pool = pool
        self._answered = answered
        self._has_begun = False
        self._is_head_request = is_head_request
        self._left = length
        self._drop = drop
        self._may_switch = may_switch
        self._replay = replay
        self._may_replay = False
        self._is_sent = False
        self._is_read_paused = False
        self._error: UpstreamError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._drainer: asyncio.Future[None] | None = None
        self._begin(connection)

    @property
    def wants_body(self) -> bool:
        """Whether more of the request body is of any use: not all is sent, and no error or end has been answered."""
        if self._connection is None or self._is_sent:
            return False
        head = self._reader.head
        return head is None or head.status < _FIRST_ERROR_STATUS

    def write(self, data: bytes, *, more_body: bool) -> None:
        """Send a piece of the request body, framed as announced; nothing, if the upstream wants no more of it.

        Raises RefusedRequestError, and aborts, where the body is not as long as announced.
        """
        if self.wants_body:
            self.send(b"", data, more_body=more_body)

    async def drain(self) -> bool:
        """Wait until the upstream takes more of the body. False: it wants no more; do not read the rest of it."""
        while self.wants_body and self._connection is not None and self._connection.is_write_paused:
            self._drainer = self._pool.loop.create_future()
            await self._wait_for(self._drainer)
        return self.wants_body

    async def whole(self) -> None:
        """Wait until the whole response has been handed on. Raises UpstreamError where there will not be more of it."""
        while not self._reader.is_complete:
            if self._error is None:
                self._waiter = self._pool.loop.create_future()
                await self._wait_for(self._waiter)
            elif self._replay is not None and self._may_replay:
                await self._start_again(self._replay)
            else:
                raise self._error

    def pause_reading(self) -> None:
        """Have the upstream wait. What the reading under way has brought is still handed on."""
        if not self._is_read_paused:
            self._is_read_paused = True
            if self._connection is not None:
                self._connection.transport.pause_reading()

    def resume_reading(self) -> None:
        """Let the upstream send more."""
        if self._is_read_paused:
            self._is_read_paused = False
            if self._connection is not None:
                self._connection.transport.resume_reading()
                self.rearm()

    def switch(self, user: User) -> tuple[Connection, bytes]:
        """Give the connection, which is no longer HTTP after a 101, to *user*, with what arrived behind the head.

        Nothing more arrives until its reading is resumed. Raises UpstreamError if it has been lost.
        """
        connection, self._connection = self._connection, None
        if connection is None:
            raise self._error or UpstreamAbortedError("the request to the upstream was given up")
        connection.call = user
        return connection, self._reader.rest

    def abort(self) -> None:
        """Close the connection at once, unless the response has arrived. Never raises; may be called again."""
        self._replay = None
        self._fail(UpstreamAbortedError("the request to the upstream was given up"))

    # Called by the pool and the connection.

    def send(self, head: bytes, data: bytes, *, more_body: bool) -> None:
        """Send a request head, or nothing, and a piece of the body in one write."""
        framed = self._framed(data, more_body=more_body)
        if self._connection is not None:
            self._connection.transport.write(head + framed)
            self._is_sent = not more_body or self._left == 0
            self.rearm()

    def received(self, data: bytes) -> None:
        """Bytes of the response have arrived."""
        reader = self._reader
        try:
            reader.feed(data)
        except UpstreamError as error:
            self._hand_on()
            self._fail(error)
            return
        if reader.is_complete:
            self._end()
        elif reader.head is not None:
            self._moved_at = self._pool.loop.time()
        self._hand_on()

    def ended(self) -> bool:
        """See User."""
        return False

    def lost(self, cause: Exception | None) -> None:
        """The connection has ended, in order if there is no *cause*."""
        if cause is None:
            try:
                self._reader.finish()
            except UpstreamError as error:
                self._fail(error)
            else:
                self._connection = None
                self._hand_on()
        else:
            self._fail(UpstreamAbortedError("the upstream broke the connection before its answer was whole"))

    def rearm(self) -> None:
        """From now on the upstream has its whole time for what it has to do next."""
        self._moved_at = self._pool.loop.time()

    def sweep(self, now: float) -> None:
        """Fail if the upstream has not done in time what it has to do next. While it is another's turn, it has time."""
        if self._connection is None or self._is_read_paused or self._reader.has_switched:
            return
        pool, waited = self._pool, now - self._moved_at
        if self._is_sent and self._reader.head is None and not self._connection.is_write_paused:
            if waited >= pool.head_timeout:
                message = f"the upstream did not begin to answer within {pool.head_timeout:g} s"
                self._fail(UpstreamTimeoutError(message))
        elif (self._is_sent or self._connection.is_write_paused) and waited >= pool.idle_timeout:
            message = f"the upstream neither sent nor took anything for {pool.idle_timeout:g} s"
            self._fail(UpstreamTimeoutError(message))

    def wake(self) -> None:
        """Let who sends look again."""
        drainer = self._drainer
        if drainer is not None and not drainer.done():
            drainer.set_result(None)

    def _begin(self, connection: Connection) -> None:
        self._connection = connection
        self._reader = ResponseReader(
            to_head_request=self._is_head_request, drop=self._drop, may_switch=self._may_switch
        )
        connection.call = self
        if self._is_read_paused:
            # Who takes the answer was made to wait before it was asked for again.
            connection.transport.pause_reading()

    def _hand_on(self) -> None:
        """Tell what has arrived."""
        reader = self._reader
        if reader.head is None:
            return
        pieces, reader.pieces = reader.pieces, []
        try:
            if not self._has_begun:
                self._has_begun = True
                self._answered.begun(reader.head)
                self._answered.body(pieces, more_body=not reader.is_complete)
                # An error is no reason to send the rest of a request.
                self.wake()
            elif pieces or reader.is_complete:
                self._answered.body(pieces, more_body=not reader.is_complete)
        finally:
            # Also where who was told has failed: whoever waits must not wait for ever.
            if reader.is_complete:
                self._wake_all()

    async def _start_again(self, request: bytes) -> None:
        """Send a safe request without body once more (RFC 9112 9.3.1); not again, as the connection is new."""
        connection = await self._pool.connect()
        if self._replay is None:
            # Given up meanwhile.
            connection.transport.abort()
            return
        self._error = None
        self._begin(connection)
        connection.transport.write(request)
        self.rearm()

    def _framed(self, data: bytes, *, more_body: bool) -> bytes:
        if self._left is None:
            framed = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
            return framed if more_body else framed + b"0\r\n\r\n"
        self._left -= len(data)
        if self._left < 0 or (self._left > 0 and not more_body):
            self.abort()
            raise RefusedRequestError(
                "body_length", "the request body is not as long as its Content-Length says"
            )
        return data

    async def _wait_for(self, change: asyncio.Future[None]) -> None:
        try:
            await change
        except BaseException:
            self.abort()
            raise

    def _end(self) -> None:
        """The response has arrived: the connection is free."""
        if self._reader.has_switched and self._connection is not None:
            self._connection.transport.pause_reading()
            return
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.call = None
        if self._reader.is_reusable and self._is_sent:
            self._pool.give_back(connection)
        else:
            connection.transport.abort()

    def _fail(self, error: UpstreamError) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._may_replay = connection.is_reused and not self._reader.has_started
        self._error = error
        connection.call = None
        connection.transport.abort()
        self._wake_all()

    def _wake_all(self) -> None:
        """Let those who wait look again: there will be no more."""
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        self.wake()
