"""What `serve` does to the process, beside serving."""

import gc

import pytest

from chatproxy.cli.serve import spare_collector


@pytest.fixture
def collector() -> None:
    """It passes over nothing; afterwards it does again, as ``conftest.py`` has it."""
    gc.unfreeze()


def test_the_collector_passes_over_what_was_there(collector: None) -> None:
    spare_collector()

    assert gc.get_freeze_count() > 10_000
    assert gc.isenabled()
