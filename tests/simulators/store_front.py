"""What stands before a real store and misbehaves: it reads every command, and passes it on or does as it is told.

Replies go back in order, a command at a time. Everything can be changed while connections are open.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import unquote


class StoreFront:
    """A TCP port on loopback before the store at *store_url* (unix:// or redis://)."""

    def __init__(self, store_url: str) -> None:
        self._store_url = store_url
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.answers: dict[bytes, bytes] = {}
        """What is said instead of asking the store, by the name of the command."""
        self.accepted = 0
        self.seen: Counter[bytes] = Counter()
        """Commands by name."""
        self.hangs = False
        """Commands are read, and nothing is done or said."""
        self.says: bytes | None = None
        """What is said to whatever is asked, and then the connection is closed."""
        self.piece: int | None = None
        """How many bytes of a reply are sent at once, with a pause after each piece."""
        self.delay = 0.0
        """Seconds before each reply."""
        self.loses_replies = False
        """Commands are done and the connection is closed instead of a reply."""

    @property
    def url(self) -> str:
        """Where it listens, as a store URL."""
        return f"redis://127.0.0.1:{self.port}"

    async def open(self) -> None:
        """Listen, at the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Refuse connections, and break those that are open."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until_seen(self, name: bytes, more: int) -> None:
        """Wait until *more* commands of that name have come from now on."""
        wanted = self.seen[name] + more
        async with asyncio.timeout(30):
            while self.seen[name] < wanted:
                await asyncio.sleep(0.01)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        behind: asyncio.StreamWriter | None = None
        try:
            behind_reader, behind = await self._connect()
            while True:
                command, words = await read_command(reader)
                name = words[0].upper()
                self.seen[name] += 1
                if self.hangs:
                    continue
                if self.says is not None:
                    writer.write(self.says)
                    await writer.drain()
                    return
                if name in self.answers:
                    reply = self.answers[name]
                else:
                    behind.write(command)
                    reply = await read_reply(behind_reader)
                if self.loses_replies:
                    return
                await asyncio.sleep(self.delay)
                await self._send(writer, reply)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            if behind is not None:
                behind.transport.abort()
            self._tasks.discard(task)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._store_url.startswith("unix://"):
            return await asyncio.open_unix_connection(
                unquote(self._store_url.removeprefix("unix://")), limit=1 << 26
            )
        host, _, port = self._store_url.removeprefix("redis://").rpartition(":")
        return await asyncio.open_connection(host, int(port), limit=1 << 26)

    async def _send(self, writer: asyncio.StreamWriter, reply: bytes) -> None:
        piece = self.piece or len(reply)
        for start in range(0, len(reply), piece):
            writer.write(reply[start : start + piece])
            await writer.drain()
            if self.piece:
                await asyncio.sleep(0)


async def read_command(reader: asyncio.StreamReader) -> tuple[bytes, list[bytes]]:
    """Read one command, as clients send it; return its bytes and its words."""
    raw = await reader.readuntil(b"\r\n")
    words = []
    for _ in range(int(raw[1:])):
        head = await reader.readuntil(b"\r\n")
        word = await reader.readexactly(int(head[1:]) + 2)
        raw += head + word
        words.append(word[:-2])
    return raw, words


async def read_reply(reader: asyncio.StreamReader) -> bytes:
    """Read one reply of RESP2, whole."""
    raw = await reader.readuntil(b"\r\n")
    size = int(raw[1:]) if raw[:1] in {b"$", b"*"} else -1
    if raw[:1] == b"$" and size >= 0:
        raw += await reader.readexactly(size + 2)
    elif raw[:1] == b"*":
        for _ in range(max(size, 0)):
            raw += await read_reply(reader)
    return raw


@asynccontextmanager
async def store_front(store_url: str) -> AsyncIterator[StoreFront]:
    """Open a front before a store for as long as the block runs."""
    front = StoreFront(store_url)
    await front.open()
    try:
        yield front
    finally:
        with suppress(OSError):
            await front.shut()
