"""Can what is in this process's memory end on a disk, and does the system get back what is not used? See security B8.7.

Core files are refused twice: by the limit of their size, and by the flag of the process that also keeps other processes
of the same account from reading its memory and environment. Swap is kept out where the system lets memory be locked.
The flag and the lock are Linux's; elsewhere only the limit holds.

What large bodies have taken stays with the C library's allocator once they are gone, in the middle of its heap. glibc can be
told to give it back; another library is let be.
"""

import asyncio
import ctypes
import os
import sys
from pathlib import Path

_PR_SET_DUMPABLE = 4
_CAP_IPC_LOCK = 1 << 14
_ALL_IDS = ["0", "0", "4294967295"]
"""How the first user namespace maps accounts: in another one, capabilities let no memory be locked."""
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_IN_MEMORY = "/dev/zram"
_LOOK_SECONDS = 30.0
_MOST_SPARE_BYTES = 64 << 20
"""How much more than at the least may be resident before it is looked whether that is needed."""


def refuse_dumps() -> None:
    """See that a crash of this process writes no core file. A program that it becomes or starts has its own flag."""
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415 - not on every platform

    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def lock_memory() -> bool:
    """Keep this process's memory out of swap, pages as they come to be used; False: the system does not let it.

    Only where no limit counts: with one, memory that is asked for beyond it would not be had.
    """
    if sys.platform != "linux" or not is_memory_lockable():
        return False
    return bool(ctypes.CDLL(None).mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0)


def is_memory_lockable() -> bool:
    """Return whether a process with these limits and capabilities may lock all its memory."""
    if sys.platform == "win32":
        return False
    import resource  # noqa: PLC0415 - not on every platform

    return (
        resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY or _is_beyond_memory_limits()
    )


def _is_beyond_memory_limits(process: Path = Path("/proc/self")) -> bool:
    """Return whether the limit does not count, by the capability IPC_LOCK."""
    try:
        status = (process / "status").read_text(encoding="utf-8", errors="replace")
        ids = (process / "uid_map").read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    effective = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) & _CAP_IPC_LOCK) and ids == _ALL_IDS


def read_swaps(table: Path = Path("/proc/swaps")) -> list[str]:
    """Return the devices and files that this machine swaps to and that are not in memory themselves."""
    try:
        lines = table.read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    except OSError:
        return []
    names = [line.split()[0] for line in lines if line.strip()]
    return [name for name in names if not name.startswith(_IN_MEMORY)]


async def give_back_memory() -> None:
    """Give back to the system what is not used any more, now and then, until cancelled."""
    least = resident_bytes()
    while least:
        await asyncio.sleep(_LOOK_SECONDS)
        least = await without_spare(least)


async def without_spare(least: int, *, step: int = _MOST_SPARE_BYTES) -> int:
    """Give back what is not used, if *step* bytes more than the *least* are resident; return the least from then on.

    That is what is left, so that memory which is needed is looked through once and not time and again: it is done in a
    thread, but takes 10 to 35 ms, in which who allocates waits for up to 25. Of memory that is locked, only what is at the
    end of the heap can be given back.
    """
    if resident_bytes() < least + step:
        return min(resident_bytes(), least)
    await asyncio.to_thread(_trim)
    return resident_bytes()


def resident_bytes() -> int:
    """Return how much of this process is in memory; 0 where the system does not tell in Linux's way."""
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE")


def _trim() -> None:
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc's alone
        trim(0)
