"""Is a server there, on a Unix socket? A few bytes of the Redis protocol, before there is a client."""

import asyncio
from enum import Enum
from pathlib import Path

_SECONDS = 1.0


class Presence(Enum):
    """What a socket answers."""

    READY = "ready"
    LOADING = "loading"
    """Up, and still reading its files."""
    SILENT = "silent"


async def probe(socket: Path | None) -> Presence:
    """Ask for a PONG; no socket and no answer within a second are silence."""
    answer = await _say(socket, b"PING\r\n")
    if answer == b"+PONG\r\n":
        return Presence.READY
    return Presence.LOADING if answer.startswith(b"-LOADING") else Presence.SILENT


async def request_shutdown(socket: Path | None) -> None:
    """Ask a server to write what it has and end. It does not answer; a server that is not there is fine too."""
    await _say(socket, b"SHUTDOWN\r\n")


async def _say(socket: Path | None, line: bytes) -> bytes:
    if socket is None:
        return b""
    try:
        async with asyncio.timeout(_SECONDS):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(line)
                return await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b""
