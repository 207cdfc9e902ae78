"""Disks that are slow, full, fail now and then, or lose at a power cut what was not synced.

A power cut is acted out by a library that is loaded before libc (``slow_disk.c``) and copies each file when it is synced,
and the names in each directory when that is. What is left after the cut is those copies: no write since, no name that
was not synced. Directories themselves stay. That is stricter than most file systems are.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_name("slow_disk.c")


def built(directory: Path) -> Path:
    """Compile the library; skip the test where there is no compiler, or the system is another one."""
    compiler = shutil.which("cc")
    if compiler is None or not Path("/proc/self/fd").exists():
        pytest.skip("needs a C compiler and Linux")
    library = directory / "slow_disk.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"], check=True)
    return library


def failing(directory: Path, scratch: Path, *, thousandths: int, error: int) -> dict[str, str]:
    """What to start programs with whose writes and syncs below *directory* fail so often, with *error*."""
    return {
        "LD_PRELOAD": str(built(scratch)),
        "POWER_UNDER": str(directory),
        "POWER_FAIL": str(thousandths),
        "POWER_ERRNO": str(error),
    }


def slow(directory: Path, scratch: Path, *, seconds: float) -> dict[str, str]:
    """What to start programs with whose syncs below *directory* take so long."""
    return {"LD_PRELOAD": str(built(scratch)), "POWER_UNDER": str(directory), "POWER_DELAY": str(seconds)}


class PowerCut:
    """A directory, and what of it would be left after a power cut now."""

    def __init__(self, directory: Path, scratch: Path) -> None:
        self._directory = directory
        self._kept = scratch / "kept"
        self._kept.mkdir()
        self._library = built(scratch)

    @property
    def environment(self) -> dict[str, str]:
        """What to start programs with that write below the directory."""
        return {
            "LD_PRELOAD": str(self._library),
            "POWER_UNDER": str(self._directory),
            "POWER_KEPT": str(self._kept),
        }

    def begin(self) -> None:
        """Take all that is there for synced."""
        for folder, _, names in os.walk(self._directory):
            here = Path(folder)
            inodes = {name: (here / name).lstat().st_ino for name in names}
            (self._kept / f"d{here.stat().st_ino}").write_text(
                "".join(f"{inode} {name}\n" for name, inode in inodes.items())
            )
            for name, inode in inodes.items():
                shutil.copyfile(here / name, self._kept / f"f{inode}")

    def syncs(self) -> int:
        """Return how many files and directories were synced at all."""
        return sum(1 for path in self._kept.iterdir() if not path.name.startswith("draft"))

    def happen(self) -> int:
        """Leave in the directory what was synced; return how many bytes are lost. Nothing may be running there."""
        lost = 0
        for folder, _, names in list(os.walk(self._directory)):
            here = Path(folder)
            for name in names:
                lost += (here / name).lstat().st_size
            inode = here.stat().st_ino
            for name in names:
                (here / name).unlink()
            listing = self._kept / f"d{inode}"
            if not listing.exists():
                continue
            for line in listing.read_text().splitlines():
                number, _, name = line.partition(" ")
                file = self._kept / f"f{number}"
                (here / name).write_bytes(file.read_bytes() if file.exists() else b"")
                (here / name).chmod(0o600)
                lost -= (here / name).stat().st_size
        return lost


@contextmanager
def small_disk(path: Path, *options: str) -> Iterator[Path]:
    """Mount a disk in memory at *path*; skip the test where this account may not."""
    path.mkdir(parents=True, exist_ok=True)
    mount = shutil.which("mount")
    words = [mount or "mount", "-t", "tmpfs", "-o", ",".join(("mode=700", *options)), "tmpfs", str(path)]
    if mount is None or subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        yield path
    finally:
        with suppress(OSError):
            subprocess.run(["umount", "-l", path], check=False)  # noqa: S607


def enlarge(path: Path, size: str) -> None:
    """Give a mounted disk more room."""
    subprocess.run(["mount", "-o", f"remount,size={size}", path], check=True)  # noqa: S607
