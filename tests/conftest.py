"""What every test shares: one event loop backend, logging as it was, memory, and properties that do not fail for being slow."""

import ctypes
import gc
import logging
import sys
from collections.abc import Iterator

import pytest
import re2
from hypothesis import settings

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Have the collector pass over the tests themselves: 300,000 objects that live as long as it does."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True, scope="module")
def memory_given_back() -> Iterator[None]:
    """Give back what the tests of a module took.

    RE2 remembers every pattern, and with it up to megabytes of what it has made of it. The C library keeps what is free in
    between for itself.
    """
    yield
    re2.purge()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)


@pytest.fixture(autouse=True)
def log_level_as_before() -> Iterator[None]:
    """Undo what a command that ran in this process has set: it would keep warnings from the tests after it."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
