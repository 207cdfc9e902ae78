"""A real server for the tests of this folder: one a session, emptied before each test."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chatproxy.store.address import StoreAddress
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.redis import RedisStore


@pytest.fixture(scope="session")
def server_dir() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="chatproxy-test-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
async def server(anyio_backend: str, server_dir: Path) -> AsyncIterator[EmbeddedServer]:
    async with EmbeddedServer(server_dir, ballast_bytes=0) as server:
        yield server


@pytest.fixture
async def connections(server: EmbeddedServer) -> AsyncIterator[Connections]:
    connections = Connections(StoreAddress.parse(server.url), deadline=10.0)
    await connections.ask([["FLUSHALL"], ["SCRIPT", "FLUSH"]])
    yield connections
    await connections.aclose()


@pytest.fixture
async def store(connections: Connections) -> RedisStore:
    return RedisStore(connections)
