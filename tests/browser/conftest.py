"""A real Chromium, headless, driven against a real proxy. Run by ``make browser``.

CHATPROXY_TEST_CHROMIUM names the browser's program; without it the system's is taken.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.conftest import connections, server, server_dir

__all__ = ["connections", "server", "server_dir"]

_HERE = Path(__file__).parent
_TEST_SECONDS = 120
_CHROMIUM = os.environ.get("CHATPROXY_TEST_CHROMIUM", "/usr/bin/chromium")
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""It runs as whoever runs the tests, and speaks to nobody but the proxy."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(_TEST_SECONDS))


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


@pytest.fixture(scope="session")
async def chromium(anyio_backend: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=_CHROMIUM, args=list(_QUIET))
        yield browser
        await browser.close()
