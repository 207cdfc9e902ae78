"""Run the whole test: plant, drive, look."""

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from chatproxy.leaks.canaries import Canaries, make_canaries
from chatproxy.leaks.drive import Place, drive
from chatproxy.leaks.planting import NAMES
from chatproxy.leaks.scan import Hit, Looked, Scanner

CORE_FILE = "a core file"


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it."""

    canaries: int
    done: tuple[str, ...]
    looked: Looked
    hits: tuple[Hit, ...]


async def look_for_leaks(
    directory: Path, *, before_looking: Callable[[Place, Canaries], None] = lambda _place, _canaries: None
) -> Report:
    """Do it in *directory*, which is empty. ``before_looking``: what else is done. Raises NotDrivenError."""
    canaries = make_canaries(NAMES, random=secrets.token_bytes)
    place = await drive(directory, canaries)
    before_looking(place, canaries)
    scanner = Scanner(canaries)
    hits = scanner.scan_tree(place.seen)
    hits += [Hit(str(path.relative_to(place.seen)), "memory", CORE_FILE) for path in _core_files(place.seen)]
    return Report(len(canaries.words), tuple(place.done), scanner.looked, tuple(hits))


def _core_files(directory: Path) -> Iterable[Path]:
    return (path for path in (directory / "cwd").rglob("*core*") if path.is_file())
