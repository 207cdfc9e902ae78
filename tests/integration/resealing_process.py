"""``python -m integration.resealing_process WRITES KILLS``: seal everything anew once, as the environment says.

The process that does it dies by SIGKILL after every so many writes, at most KILLS times, and another one goes on. Prints how
often that was.
"""

import asyncio
import os
import signal
import sys

from chatproxy.settings import load_settings
from chatproxy.vault import open_vault
from chatproxy.workflows.replace_keys import Scope
from chatproxy.workflows.rotate import NotYetError
from integration.killed_process import run_killed
from integration.reseal_fixtures import a_replacement
from integration.rotation_fixtures import Killed, Writes


async def started_at() -> int:
    """Return when the run before this one was begun; 0: there was none."""
    async with open_vault(load_settings().settings) as vault:
        state = await a_replacement(vault).state()
        return state.started_at if state is not None else 0


async def reseal(kill_at: int, *, before: int) -> None:
    async with open_vault(load_settings().settings) as vault:
        work = a_replacement(vault, Writes(kill_at, is_done_first=True), by=f"process {os.getpid()}")
        state = await work.state()
        while state is None or state.started_at == before or not state.is_over:
            try:
                if state is None or state.is_over:
                    await work.begin(Scope.parse("all"))
                state = await work.advance()
            except* NotYetError:
                await asyncio.sleep(0.02)
            except* Killed:
                os.kill(os.getpid(), signal.SIGKILL)


def main(writes: int, kills: int) -> None:
    before = asyncio.run(started_at())
    run_killed(lambda kill_at: reseal(kill_at, before=before), writes=writes, kills=kills)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
