"""What has to be done on what is kept, though nobody asks for it: one task, on every node, whoever comes first.

Chores are claimed for a while, so a node that stops leaves them to the others; each can be done twice without harm.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from chatproxy.errors import AuditUnavailableError, StoreUnavailableError
from chatproxy.telemetry import Log, Metrics

_log = Log("housekeeping")
_POLL_SECONDS = 5.0

Chores = Callable[[], Awaitable[bool]]
"""Does one piece of work; False if there is none."""


class Housekeeping:
    """Looks for work again and again."""

    def __init__(self, chores: Sequence[Chores], *, metrics: Metrics) -> None:
        """*chores*: the most pressing first."""
        self._chores = tuple(chores)
        self._metrics = metrics

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            if not await self.once():
                await asyncio.sleep(_POLL_SECONDS)

    async def once(self) -> bool:
        """Do the most pressing piece of work; False if there is none, or it cannot be done now."""
        for chore in self._chores:
            try:
                if await chore():
                    return True
            except StoreUnavailableError:
                self._metrics.store_failures.labels("housekeeping").inc()
                return False
            except AuditUnavailableError:
                _log.error("the audit log cannot be written, so what must be recorded there waits")
                return False
            except Exception as error:  # noqa: BLE001 - the outer edge of this task: it must never end by itself
                _log.error("a chore failed; it is tried again", failure=error)
                return False
        return False
