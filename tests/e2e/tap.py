"""A front and a wire tap: relays HTTP/1.1 as it is, adds header lines to each request, remembers what passed.

As a front it stands where a company's own gateway would and says who the person is, so that clients stay unmodified
but for their base URL. As a tap it is how a test knows which bytes really travelled.
"""

import asyncio
from asyncio import IncompleteReadError, StreamReader, StreamWriter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

Header = tuple[bytes, bytes]

_WITHOUT_BODY = frozenset((b"204", b"304"))


@dataclass(slots=True)
class Message:
    """A request or a response. ``body`` is what it says: without the framing of chunks."""

    start: bytes
    headers: list[Header]
    body: bytearray = field(default_factory=bytearray)
    is_whole: bool = False

    def value(self, name: bytes) -> bytes:
        return next((value for key, value in self.headers if key.lower() == name), b"")


@dataclass(slots=True)
class Passed:
    """What passed through a tap, in the order in which it began."""

    url: str
    requests: list[Message] = field(default_factory=list)
    responses: list[Message] = field(default_factory=list)


@asynccontextmanager
async def tap(target: str, *, adding: Sequence[Header] = ()) -> AsyncIterator[Passed]:
    """Relay everything to *target*, an ``http://host:port``, on a port of its own."""
    host, _, port = target.removeprefix("http://").partition(":")
    connections: set[asyncio.Task[None]] = set()

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
        methods: asyncio.Queue[bytes] = asyncio.Queue()
        ways = {
            asyncio.create_task(_requests(reader, upstream_writer, passed, adding, methods)),
            asyncio.create_task(_responses(upstream_reader, writer, passed, methods)),
        }
        try:
            # Whichever side hangs up first, so does the tap on the other.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            writer.close()
            upstream_writer.close()
            connections.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    passed = Passed("http://{}:{}".format(*server.sockets[0].getsockname()))
    try:
        yield passed
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _requests(
    reader: StreamReader,
    writer: StreamWriter,
    passed: Passed,
    adding: Sequence[Header],
    methods: asyncio.Queue[bytes],
) -> None:
    with suppress(IncompleteReadError, ConnectionError):
        while True:
            request = await _head(reader)
            passed.requests.append(request)
            methods.put_nowait(request.start.split(b" ")[0])
            await _pass_on(request, [*request.headers, *adding], reader, writer, has_body=True)


async def _responses(
    reader: StreamReader, writer: StreamWriter, passed: Passed, methods: asyncio.Queue[bytes]
) -> None:
    with suppress(IncompleteReadError, ConnectionError):
        while True:
            response = await _head(reader)
            status = response.start.split(b" ")[1]
            if status.startswith(b"1"):
                await _pass_on(response, response.headers, reader, writer, has_body=False)
                continue
            passed.responses.append(response)
            has_body = await methods.get() != b"HEAD" and status not in _WITHOUT_BODY
            await _pass_on(response, response.headers, reader, writer, has_body=has_body, until_close=True)


async def _head(reader: StreamReader) -> Message:
    start, *lines = (await reader.readuntil(b"\r\n\r\n")).removesuffix(b"\r\n\r\n").split(b"\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    return Message(start, headers)


async def _pass_on(
    message: Message,
    headers: Sequence[Header],
    reader: StreamReader,
    writer: StreamWriter,
    *,
    has_body: bool,
    until_close: bool = False,
) -> None:
    lines = [message.start, *(name + b": " + value for name, value in headers)]
    writer.write(b"\r\n".join(lines) + b"\r\n\r\n")
    length = message.value(b"content-length")
    if not has_body:
        pass
    elif message.value(b"transfer-encoding").lower() == b"chunked":
        await _chunks(message, reader, writer)
    elif length:
        while missing := int(length) - len(message.body):
            piece = await reader.read(min(missing, 65_536))
            if not piece:
                raise IncompleteReadError(b"", missing)
            message.body += piece
            writer.write(piece)
            await writer.drain()
    elif until_close:
        while piece := await reader.read(65_536):
            message.body += piece
            writer.write(piece)
            await writer.drain()
        message.is_whole = True
        raise IncompleteReadError(b"", None)
    await writer.drain()
    message.is_whole = True


async def _chunks(message: Message, reader: StreamReader, writer: StreamWriter) -> None:
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        chunk = await reader.readexactly(size + 2)
        writer.write(line + chunk)
        await writer.drain()
        if size == 0:
            return
        message.body += chunk[:-2]
