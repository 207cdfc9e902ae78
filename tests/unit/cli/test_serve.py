"""What `serve` does to the process, beside serving."""

import gc
import sys
from collections.abc import Iterator

import pytest

from chatproxy.cli.serve import spare_chats


@pytest.fixture(autouse=True)
def interpreter() -> Iterator[None]:
    """The collector passes over nothing; afterwards all is again as ``conftest.py`` has it."""
    gc.unfreeze()
    before, interval = gc.get_threshold(), sys.getswitchinterval()
    yield
    gc.set_threshold(*before)
    sys.setswitchinterval(interval)


def test_the_collector_passes_over_what_was_there() -> None:
    spare_chats()

    assert gc.get_freeze_count() > 10_000
    assert gc.isenabled()
    assert gc.get_threshold()[0] == 10_000


def test_the_event_loop_waits_less_for_a_thread_that_computes() -> None:
    before = sys.getswitchinterval()

    spare_chats()

    assert sys.getswitchinterval() < before / 2
