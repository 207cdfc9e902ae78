"""What `serve` does to the process, beside serving."""

import gc
from collections.abc import Iterator

import pytest

from chatproxy.cli.serve import spare_collector


@pytest.fixture
def collector() -> Iterator[None]:
    """It passes over nothing; afterwards it does again, as ``conftest.py`` has it."""
    gc.unfreeze()
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_the_collector_passes_over_what_was_there(collector: None) -> None:
    spare_collector()

    assert gc.get_freeze_count() > 10_000
    assert gc.isenabled()
    assert gc.get_threshold()[0] == 10_000
