"""One proxy in front of each backend for all clients, and an account of which clients ran.

A client that cannot be installed here is skipped and said so at the end; with CHATPROXY_E2E_STRICT=1 that is a failure.
"""

import asyncio
import os
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from e2e.backend import running_backend
from e2e.clients import Client
from e2e.environments import HERE, PROGRAMS, NotInstallableError, python_environment
from e2e.route import Route, running_route

_TEST_SECONDS = 900
"""The first test of a client installs it."""
_MODEL_SECONDS = 60
_VERSIONS = pytest.StashKey[dict[str, str]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(_TEST_SECONDS))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_VERSIONS] = {}


@pytest.fixture
def ran(request: pytest.FixtureRequest) -> dict[str, str]:
    """Where a test notes which client, in which version, did its work."""
    return request.config.stash[_VERSIONS]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    try:
        yield
    except NotInstallableError as error:
        if os.environ.get("CHATPROXY_E2E_STRICT") == "1":
            raise
        client = item.funcargs.get("client") if isinstance(item, pytest.Function) else None
        pytest.skip(f"{client.name if isinstance(client, Client) else item.name}: {error}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if versions := config.stash[_VERSIONS]:
        terminalreporter.section("clients that ran")
        for client, version in sorted(versions.items()):
            terminalreporter.line(f"{client} {version}")


@pytest.fixture(scope="session")
async def demo(anyio_backend: str) -> AsyncIterator[Route]:
    """The demo backend behind the proxy."""
    async with running_backend() as url, running_route(url) as route:
        yield route


@pytest.fixture(scope="session")
async def model(anyio_backend: str) -> AsyncIterator[Route]:
    """A real language model behind the proxy."""
    try:
        interpreter = await asyncio.to_thread(python_environment, "model")
    except NotInstallableError as error:
        if os.environ.get("CHATPROXY_E2E_STRICT") == "1":
            raise
        pytest.skip(str(error))
    async with _model(interpreter) as url, running_route(url) as route:
        yield route


@asynccontextmanager
async def _model(interpreter: Path) -> AsyncIterator[str]:
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            str(interpreter), str(PROGRAMS / "model_server.py"), "0", stdin=PIPE, stdout=PIPE, stderr=log
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(_MODEL_SECONDS), httpx.AsyncClient(trust_env=False) as client:
                url = (await process.stdout.readline()).decode().strip()
                while not (await client.get(f"{url}/health")).is_success:
                    await asyncio.sleep(0.1)
            yield url
        finally:
            process.kill()
            await process.wait()
