"""When does work that can wait give way to running chats, and for how long may it go on?

1. As soon as something has come for the event loop, which the system is asked after each step: a chat waits for one step
   at most, and while none waits nothing is lost by asking. Way is given until that has been seen to.
2. Timers and tasks that are due are not seen that way. So way is given after a millisecond at the latest.
3. A round of the loop takes long in a crowd, and one step in each would leave most of the work undone. So it goes on
   for a share of what the others have just taken, whoever waits.
"""

import asyncio
import select
from collections.abc import Callable
from functools import cached_property
from time import monotonic

_SLICE_SECONDS = 0.001
_SHARE = 0.1


class GivingWay:
    """The turn-taking of one task that computes, between its steps."""

    def __init__(self, *, goes_first: Callable[[], bool]) -> None:
        """``goes_first``: whether the work is what matters most just now, so that no way is given."""
        self._goes_first = goes_first
        self._share_until = 0.0
        self._slice_until = 0.0

    def is_due(self) -> bool:
        """Whether way is to be given now. To be asked after each step."""
        now = monotonic()
        return now >= self._share_until and (
            now >= self._slice_until or (self._poll is not None and bool(self._poll(0)))
        )

    async def give(self) -> None:
        """Let others have their turn."""
        began_at = monotonic()
        if not self._goes_first():
            await asyncio.sleep(0)
            # What has come in this round may have begun a task, which stands behind this one.
            await asyncio.sleep(0)
        now = monotonic()
        self._share_until = now + (now - began_at) * _SHARE
        self._slice_until = now + _SLICE_SECONDS

    @cached_property
    def _poll(self) -> Callable[[int], list[tuple[int, int]]] | None:
        """Return what asks the event loop's own set of descriptors, where there is one: it can be waited for like a socket.

        uvloop has it for its tests. Without it, time alone says when to give way.
        """
        backend = getattr(asyncio.get_running_loop(), "_get_backend_id", None)
        if backend is None:
            return None
        poll = select.poll()
        poll.register(backend(), select.POLLIN)
        return poll.poll
