"""Who holds a background task, hears of its failure and ends it? And what is too long for the event loop?"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import TypeVar

T = TypeVar("T")
_LONG_BYTES = 256 << 10
"""From here on parsing, compressing or encrypting takes some milliseconds, which running chats would feel."""


async def aside(work: Callable[[], T], *, size: int) -> T:
    """Do *work* on *size* bytes: at once, or in a thread if there are many."""
    return await asyncio.to_thread(work) if is_long(size) else work()


def is_long(size: int) -> bool:
    """Return whether work on *size* bytes is done in a thread."""
    return size > _LONG_BYTES


class Background:
    """The tasks of one owner: referenced while they run, logged by type when they fail, cancelled on close."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[None, None, None], *, name: str) -> None:
        """Run *work* until it ends or :meth:`aclose` cancels it."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def aclose(self) -> None:
        """Cancel every task and wait until each has ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._logger.error("background task %s failed: %s", task.get_name(), type(error).__name__)
