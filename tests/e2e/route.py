"""The whole way of a chat: a proxy, a tap behind it, and a backend."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.proxy import ProxyProcess, running_proxy
from e2e.tap import Passed, tap


@dataclass(frozen=True, slots=True)
class Route:
    """``tap``: what passed between proxy and backend."""

    backend_url: str
    tap: Passed
    proxy: ProxyProcess


@asynccontextmanager
async def running_route(backend_url: str) -> AsyncIterator[Route]:
    """Run a proxy of its own, with a store of its own, in front of a backend."""
    with tempfile.TemporaryDirectory(prefix="chatproxy-e2e-") as directory:
        async with tap(backend_url) as passed, running_proxy(passed.url, Path(directory)) as proxy:
            yield Route(backend_url, passed, proxy)
