"""What every test shares: one event loop backend, logging as it was, memory, and properties that do not fail for being slow."""

import ctypes
import gc
import logging
from collections.abc import Iterator

import pytest
import re2
from hypothesis import settings

_LIBC = ctypes.CDLL(None)
_IS_GLIBC = hasattr(_LIBC, "malloc_trim")
_M_TRIM_THRESHOLD = -1

settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


def pytest_configure() -> None:
    """Have glibc give back what is free. After a block of 24 MiB it would keep 48 MiB for each thread that there was."""
    if _IS_GLIBC:
        _LIBC.mallopt(_M_TRIM_THRESHOLD, 1 << 20)


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
def memory_given_back(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have the cached functions of a module forget, and RE2, which remembers every pattern and megabytes of what it made of it.

    What lies between other things is given back only when that is asked for.
    """
    yield
    for each in vars(request.module).values():
        if hasattr(each, "cache_clear") and each.__module__ == request.module.__name__:
            each.cache_clear()
    re2.purge()
    if _IS_GLIBC:
        _LIBC.malloc_trim(0)


@pytest.fixture(autouse=True)
def log_level_as_before() -> Iterator[None]:
    """Undo what a command that ran in this process has set: it would keep warnings from the tests after it."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
