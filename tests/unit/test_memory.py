"""What is in memory stays there: no core file, and no swap where the system lets memory be locked."""

import subprocess
import sys
from pathlib import Path

import pytest

from chatproxy import memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the flag and the lock are Linux's")


def in_a_process(code: str) -> str:
    """Run code in a process of its own, whose limits it may change."""
    done = subprocess.run(
        [sys.executable, "-c", f"import resource, ctypes\nfrom chatproxy import memory\n{code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def require_locked(code: str, *, skipped: str) -> None:
    """See that memory is locked, and what is used later too, after *code*, unless that ends the process by saying it may not."""
    said = in_a_process(
        f"{code}\n"
        "print(memory.lock_memory())\n"
        "held = bytearray(64 << 20)\n"
        "held[::4096] = bytes([1]) * len(held[::4096])\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmLck')).split()[1])"
    )
    if said == "may not":
        pytest.skip(skipped)
    is_locked, size = said.split()
    assert is_locked == "True"
    assert int(size) >= 64 << 10


def test_core_files_are_refused_by_limit_and_by_flag() -> None:
    code = (
        "soft, hard = resource.getrlimit(resource.RLIMIT_CORE); resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))\n"
        "memory.refuse_dumps()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE)[0], ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"
    )
    assert in_a_process(code) == "0 0"


def test_where_memory_has_a_limit_it_is_not_locked() -> None:
    code = (
        "import os\n"
        "if os.geteuid() == 0: os.setuid(65534)  # without the capability of root\n"
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 16, resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]))\n"
        "print(memory.is_memory_lockable(), memory.lock_memory())"
    )
    assert in_a_process(code) == "False False"


def test_where_memory_has_no_limit_what_is_used_is_locked_from_then_on() -> None:
    code = (
        "try:\n"
        "    resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "except (ValueError, OSError):\n"
        "    print('may not'); raise SystemExit\n"
    )
    require_locked(code, skipped="this account may not lift the limit")


def test_by_its_capability_a_process_locks_more_than_its_limit() -> None:
    code = (
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 16, resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]))\n"
        "if not memory.is_memory_lockable(): print('may not'); raise SystemExit\n"
    )
    require_locked(code, skipped="this account has not the capability IPC_LOCK")


@pytest.mark.parametrize(
    "effective, ids, may",
    [
        ("000001fffeffffff", "         0          0 4294967295", True),
        ("0000000000004000", "         0          0 4294967295", True),
        ("0000000000003fff", "         0          0 4294967295", False),
        ("000001ffffffffff", "         0       1000          1", False),
        ("000001ffffffffff", "         0     100000      65536", False),
    ],
    ids=["root", "it alone", "the others", "a user's own namespace", "a container's own namespace"],
)
def test_the_capability_counts_outside_of_user_namespaces_alone(
    tmp_path: Path, effective: str, ids: str, may: bool
) -> None:
    (tmp_path / "status").write_text(f"Name:\tx\nCapPrm:\t0\nCapEff:\t{effective}\n")
    (tmp_path / "uid_map").write_text(ids + "\n")
    assert memory._is_beyond_memory_limits(tmp_path) is may
    assert memory._is_beyond_memory_limits(tmp_path / "none") is False


def test_swap_that_is_in_memory_itself_is_none_on_a_disk() -> None:
    code = (
        "import pathlib, tempfile\n"
        "path = pathlib.Path(tempfile.mkdtemp()) / 'swaps'\n"
        "path.write_text('Filename Type Size Used Priority\\n/dev/zram0 partition 1 0 1\\n/swap.img file 1 0 -2\\n')\n"
        "print(memory.read_swaps(path), memory.read_swaps(path.with_name('none')))"
    )
    assert in_a_process(code) == "['/swap.img'] []"


def test_what_is_not_used_any_more_is_given_back_where_it_is_much() -> None:
    """In a process of its own, as others' memory here comes and goes."""
    said = in_a_process(
        "import asyncio\n"
        "async def look():\n"
        "    least = memory.resident_bytes()\n"
        '    held = [b"x" * 100_000 for _ in range(1_000)]\n'
        "    used = memory.resident_bytes()\n"
        "    held = held[::50]\n"
        "    assert await memory.without_spare(least, step=1 << 30) == least\n"
        "    kept = memory.resident_bytes()\n"
        "    new_least = await memory.without_spare(least, step=32 << 20)\n"
        "    assert abs(new_least - memory.resident_bytes()) < 1 << 20\n"
        "    assert await memory.without_spare(new_least) <= new_least\n"
        "    print(used - least, kept - least, memory.resident_bytes() - least)\n"
        "    assert abs(await memory.without_spare(least << 1) - memory.resident_bytes()) < 1 << 20\n"
        "asyncio.run(look())"
    )
    used, kept, left = map(int, said.split())
    assert used > 90_000_000
    assert kept > 50_000_000, "the allocator gives it back by itself, so nobody else need"
    assert left < 20_000_000
