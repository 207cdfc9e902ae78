"""A loop that stands still is noticed, and where; what variables hold is not told."""

import asyncio
import logging
import threading

import pytest

from chatproxy.telemetry import Metrics
from chatproxy.watchdog import watched


async def test_a_blocked_loop_is_told_once_with_the_place_and_no_content(
    caplog: pytest.LogCaptureFixture,
) -> None:
    metrics, noticed = Metrics(), threading.Event()

    class Noticing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            noticed.set()

    logger = logging.getLogger("chatproxy.watchdog")
    logger.addHandler(handler := Noticing())
    try:
        with watched(metrics, longest=0.05, every=0.01):
            secret = "what somebody said"
            assert noticed.wait(20), secret  # which blocks the loop until the watchdog has seen it
            await asyncio.sleep(0)
    finally:
        logger.removeHandler(handler)

    [record] = [record for record in caplog.records if record.name == "chatproxy.watchdog"]
    assert "test_watchdog.py" in str(record.__dict__)
    assert "what somebody said" not in str(record.__dict__)
    assert metrics.loop_blocked._value.get() == 1


async def test_a_loop_that_turns_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    with watched(metrics, longest=5, every=0.001):
        for _ in range(100):
            await asyncio.sleep(0)

    assert metrics.loop_blocked._value.get() == 0
    assert not caplog.records
