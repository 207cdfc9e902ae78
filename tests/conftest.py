"""What every test shares: one event loop backend, logging as it was, and properties that do not fail for being slow."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def log_level_as_before() -> Iterator[None]:
    """Undo what a command that ran in this process has set: it would keep warnings from the tests after it."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
