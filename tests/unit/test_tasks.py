import asyncio
import logging

import pytest

from chatproxy.tasks import Background

LOGGER = logging.getLogger("chatproxy.test")


async def test_closing_ends_every_task_and_waits_for_it() -> None:
    ended = []

    async def work(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    background = Background(LOGGER)
    for number in range(3):
        background.spawn(work(number), name="work")
    await asyncio.sleep(0)

    await background.aclose()

    assert sorted(ended) == [0, 1, 2]


async def test_a_failure_is_logged_by_type_and_not_by_content(caplog: pytest.LogCaptureFixture) -> None:
    reached = asyncio.Event()

    async def work() -> None:
        reached.set()
        raise ValueError("somebody's words")

    background = Background(LOGGER)
    background.spawn(work(), name="reader")
    await reached.wait()
    await background.aclose()

    assert [record.getMessage() for record in caplog.records] == ["background task reader failed: ValueError"]
    assert "somebody" not in caplog.text
