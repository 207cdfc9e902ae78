"""An upstream made of sockets: each connection runs a script that reads what it wants and sends exact bytes.

A script is a coroutine function of one argument, the ``Peer``. ``Backend.connections`` has them all, in the order in
which they were accepted, and every byte that was received on each.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from chatproxy.forwarding import UpstreamAddress

Script = Callable[["Peer"], Awaitable[None]]


@dataclass
class Peer:
    """One accepted connection."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    received: bytearray = field(default_factory=bytearray)
    has_received: asyncio.Event = field(default_factory=asyncio.Event)
    is_gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the other side has ended the connection, in order or not."""

    async def read_head(self) -> bytes:
        """Return a request's head with its empty line."""
        return self._noted(await self.reader.readuntil(b"\r\n\r\n"))

    async def read(self, size: int) -> bytes:
        """Return exactly *size* bytes."""
        return self._noted(await self.reader.readexactly(size))

    async def read_request(self) -> bytes:
        """Return one request, head and body."""
        head = await self.read_head()
        fields = head.lower().split(b"\r\n")
        length = next((int(line.split(b":")[1]) for line in fields if line.startswith(b"content-length:")), 0)
        body = await self.read(length)
        if b"transfer-encoding: chunked" in fields:
            while not body.endswith(b"0\r\n\r\n"):
                body += await self.read(1)
        return head + body

    async def send(self, data: bytes) -> None:
        """Send bytes and wait until the system has taken them."""
        self.writer.write(data)
        await self.writer.drain()

    async def pause(self, seconds: float) -> None:
        """Be a slow upstream."""
        await asyncio.sleep(seconds)

    def close(self) -> None:
        """End in order: what was sent arrives first."""
        self.writer.close()

    def reset(self) -> None:
        """End with a reset: what the other side has not read is lost."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def until_gone(self) -> None:
        """Read, and note, until the other side ends the connection."""
        with suppress(ConnectionError):
            while data := await self.reader.read(65_536):
                self._noted(data)
        self.is_gone.set()

    def _noted(self, data: bytes) -> bytes:
        self.received += data
        self.has_received.set()
        return data


@dataclass
class Backend:
    """The upstream of a test."""

    url: str
    address: UpstreamAddress
    connections: list[Peer] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def connection(self, number: int) -> Peer:
        """Wait for the connection of that number, from 0, to be made and to bring its first bytes."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.connections) > number)
        peer = self.connections[number]
        await peer.has_received.wait()
        return peer

    async def accept(self, peer: Peer) -> None:
        """Note a new connection."""
        async with self._changed:
            self.connections.append(peer)
            self._changed.notify_all()


@asynccontextmanager
async def backend(
    script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Backend]:
    """Run *script* on each connection that is made. Scripts that still run at the end are cut."""
    running: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        peer = Peer(len(found.connections), reader, writer)
        try:
            await found.accept(peer)
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await script(peer)
                await peer.until_gone()
        finally:
            peer.is_gone.set()
            writer.transport.abort()
            running.discard(task)

    server = await asyncio.start_server(accept, host, port, ssl=tls)
    bound_port = server.sockets[0].getsockname()[1]
    authority = f"[{host}]" if ":" in host else host
    url = f"{'https' if tls else 'http'}://{authority}:{bound_port}"
    found = Backend(url, UpstreamAddress.parse(url))
    try:
        yield found
    finally:
        server.close()
        for task in tuple(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def answering(*answers: bytes) -> Script:
    """A script that reads one request for each of *answers* and sends it at once."""

    async def script(peer: Peer) -> None:
        for answer in answers:
            await peer.read_request()
            await peer.send(answer)

    return script


def ok(body: bytes, *headers: bytes) -> bytes:
    """A response with *body* and its length."""
    return b"\r\n".join((b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers, b"", body))
