"""A piece of work whose process dies by SIGKILL after every so many writes, and is gone on with by another one."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine


def run_killed(work: Callable[[int], Coroutine[None, None, None]], *, writes: int, kills: int) -> None:
    """Do *work*, told after how many writes it is to die (0: never), until it ends; at most *kills* of it die.

    Prints how many did. The processes are forked, so that each is there at once.
    """
    killed = 0
    while True:
        child = os.fork()
        if child == 0:
            asyncio.run(work(writes if killed < kills else 0))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            killed += 1
        else:
            sys.stdout.write(str(killed))
            sys.exit(os.WEXITSTATUS(status))
