"""A front that knows who speaks, as a company has one: it says so in headers and passes everything else on."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


@asynccontextmanager
async def naming(url: str, who: Mapping[str, str]) -> AsyncIterator[str]:
    """Listen in front of *url* and name *who* in each request, one a connection; yield where."""
    behind = urlsplit(url)
    named = "".join(f"{name}: {value}\r\n" for name, value in who.items()) + "Connection: close\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line, _, rest = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
            fields = rest.lower().split(b"\r\n")
            length = next((int(each[15:]) for each in fields if each.startswith(b"content-length:")), 0)
            kept = b"\r\n".join(
                each for each in rest.split(b"\r\n") if not each.lower().startswith(b"connection:")
            )
            answer, request = await asyncio.open_connection(behind.hostname, behind.port)
            request.write(line + b"\r\n" + named.encode() + kept + await reader.readexactly(length))
            writer.write(await answer.read())
            await writer.drain()
            request.close()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        yield f"http://{host}:{port}"
