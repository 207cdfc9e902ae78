"""Two connections made one: what arrives at either end leaves at the other, byte for byte.

Rules of this file:

1. A piece is passed on before it is copied, and unaltered; whatever the copy does is not this path's business.
2. Neither end reads more than the other takes: at most the transports' own buffers stand between them.
3. An end that sends nothing more has that said to the other, which may go on (a half-closed connection), unless TLS,
   which has no such state, is on the way: then what was sent is delivered, and both are closed.
4. Nothing is ever put into the tunnel: who is cut off, by silence or by the end of chatproxy, sees the connection
   end, as no frame could be placed safely between the pieces of another.
"""

import asyncio
from typing import NamedTuple

from prometheus_client import Counter

from chatproxy.model import StreamEnd
from chatproxy.web.client_call import Switch, Switched
from chatproxy.web.upstream import UpstreamCall, UpstreamConnection
from chatproxy.workflows.frame_copy import FrameCopy

_CHECKS_A_TIMEOUT = 4
_LONGEST_BETWEEN_CHECKS = 2.5
"""Seconds: so much later than told a copy may notice that an answer has been silent."""


class TunnelLimits(NamedTuple):
    """What cuts a tunnel."""

    idle_timeout: float
    """Seconds without a byte in either direction, met to within a quarter."""
    refuse_unkept: bool
    """Whether it is cut once something that is said in it cannot be kept."""


class Tunnel:
    """One tunnel, from the switch of both connections to the end of both."""

    def __init__(self, call: UpstreamCall, limits: TunnelLimits, *, sent: Counter, returned: Counter) -> None:
        """Take over the upstream's connection from *call*. Raises UpstreamError if it has gone.

        ``sent`` and ``returned`` count bytes, to the upstream and back.
        """
        self._copy: FrameCopy | None = None
        self._limits = limits
        self._sent = sent
        self._returned = returned
        self._loop = asyncio.get_running_loop()
        self._check_every = min(limits.idle_timeout / _CHECKS_A_TIMEOUT, _LONGEST_BETWEEN_CHECKS)
        self._passed_at = self._loop.time()
        self._end: StreamEnd | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_over: asyncio.Future[None] = self._loop.create_future()
        self._client = _ClientEnd(self)
        self._upstream = _UpstreamEnd(self)
        self._upstream.connection, self._rest = call.switch(self._upstream)
        self._upstream.transport = self._upstream.connection.transport

    async def run(self, switch: Switch, head: bytes, copy: FrameCopy | None) -> None:
        """Take over the client's connection, answer it with *head*, and pass on until both have ended.

        *switch* gives the connection, or None if it has gone.
        """
        self._copy = copy
        try:
            client = switch(self._client)
            if client is None:
                self._end = StreamEnd.CLIENT_ABORTED
                self._client.is_lost = True
                return
            self._client.switched(client)
            client.transport.write(head)
            if self._rest:
                self.pass_down(self._rest)
            if client.early:
                self.pass_up(client.early)
            if not self._client.is_write_paused:
                self._upstream.hold_reading(held=False)
            self._client.hold_reading(held=self._upstream.connection.is_write_paused)
            self._check()
            await self._is_over
        finally:
            self._cut(StreamEnd.INTERRUPTED)
            if self._timer is not None:
                self._timer.cancel()
            if self._copy is not None:
                self._copy.finish(self._end or StreamEnd.INTERRUPTED)

    # Called by the ends.

    def pass_up(self, data: bytes) -> None:
        """Pass on what the client sent."""
        self._passed_at = self._loop.time()
        self._upstream.write(data)
        self._sent.inc(len(data))
        if self._copy is not None:
            self._copy.from_client(data)
            self._refuse_unkept(self._copy)

    def pass_down(self, data: bytes) -> None:
        """Pass on what the upstream sent."""
        self._passed_at = self._loop.time()
        self._client.write(data)
        self._returned.inc(len(data))
        if self._copy is not None:
            self._copy.from_upstream(data)
            self._refuse_unkept(self._copy)

    def taken(self) -> None:
        """An end has taken what it was sent."""
        self._passed_at = self._loop.time()

    def ended(self, end: "_End") -> bool:
        """Pass on that *end* sends nothing more; return whether it stays open for what the other sends."""
        cause = self._note(end)
        if end is self._upstream and self._copy is not None:
            # No answer can follow, however long the client keeps its side open.
            self._copy.finish(cause)
        other = self._other(end)
        if other.has_ended or not (end.transport.can_write_eof() and other.transport.can_write_eof()):
            other.transport.close()
            return False
        end.has_ended = True
        if not other.transport.is_closing():
            other.transport.write_eof()
        return True

    def lost(self, end: "_End") -> None:
        """End the other connection, once it has what was sent to it."""
        self._note(end)
        end.is_lost = True
        other = self._other(end)
        if not other.is_lost:
            other.transport.close()
        elif not self._is_over.done():
            self._is_over.set_result(None)

    def hold_other(self, end: "_End", *, held: bool) -> None:
        """Let the other end wait while *end* does not take what is sent to it."""
        if not held:
            self.taken()
        self._other(end).hold_reading(held=held)

    def _other(self, end: "_End") -> "_End":
        return self._upstream if end is self._client else self._client

    def _note(self, end: "_End") -> StreamEnd:
        """Remember, and return, who ended the tunnel: the first who did."""
        if self._end is None:
            is_client = end is self._client
            self._end = StreamEnd.CLIENT_ABORTED if is_client else StreamEnd.UPSTREAM_ABORTED
        return self._end

    def _refuse_unkept(self, copy: FrameCopy) -> None:
        if copy.is_unkept and self._limits.refuse_unkept:
            self._cut(StreamEnd.INTERRUPTED)

    def _check(self) -> None:
        if self._copy is not None:
            self._copy.tick()
        if self._loop.time() - self._passed_at >= self._limits.idle_timeout:
            self._cut(StreamEnd.UPSTREAM_ABORTED)
        self._timer = self._loop.call_later(self._check_every, self._check)

    def _cut(self, end: StreamEnd) -> None:
        """End both connections at once, which is the *end* if there was none before."""
        self._end = self._end or end
        for side in (self._client, self._upstream):
            if not side.is_lost:
                side.transport.abort()


class _End:
    """One of the two connections."""

    def __init__(self, tunnel: Tunnel) -> None:
        self.transport: asyncio.Transport
        self.tunnel = tunnel
        self.has_ended = False
        """Whether it sends nothing more."""
        self.is_lost = False

    def write(self, data: bytes) -> None:
        """Send to it, if it is still there."""
        if not self.transport.is_closing():
            self.transport.write(data)

    def hold_reading(self, *, held: bool) -> None:
        """Cease, or begin again, to read what it sends."""
        if self.is_lost or self.has_ended or self.transport.is_closing():
            return
        if held:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()


class _ClientEnd(_End, asyncio.Protocol):
    """The connection of the client, taken over from HTTP."""

    is_write_paused = False

    def switched(self, client: Switched) -> None:
        """Begin: *client* is the connection now."""
        self.transport = client.transport
        self.is_write_paused = client.is_write_paused
        self._forget = client.forget

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self.tunnel.pass_up(data)

    def eof_received(self) -> bool:
        """See asyncio.Protocol."""
        return self.tunnel.ended(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._forget(exc)
        self.tunnel.lost(self)

    def pause_writing(self) -> None:
        """See asyncio.Protocol."""
        self.tunnel.hold_other(self, held=True)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self.tunnel.hold_other(self, held=False)


class _UpstreamEnd(_End):
    """The connection to the upstream; its ``User``."""

    connection: UpstreamConnection

    def received(self, data: bytes) -> None:
        """See User."""
        self.tunnel.pass_down(data)

    def ended(self) -> bool:
        """See User."""
        return self.tunnel.ended(self)

    def lost(self, cause: Exception | None) -> None:  # noqa: ARG002 - how it ended makes no difference
        """See User."""
        self.tunnel.lost(self)

    def rearm(self) -> None:
        """See User."""
        self.tunnel.hold_other(self, held=self.connection.is_write_paused)

    def wake(self) -> None:
        """See User."""

    def sweep(self, now: float) -> None:
        """See User: the tunnel has a deadline of its own."""

    def abort(self) -> None:
        """See User."""
        self.transport.abort()
