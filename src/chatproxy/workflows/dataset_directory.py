"""The files of a dataset: each is there whole or not at all, whatever happens while it is written."""

from collections.abc import Collection, Iterator
from pathlib import Path

from chatproxy.disk.directory import replace_file
from chatproxy.errors import ConfigurationError


class DatasetDirectory:
    """One directory. Its files are for the user alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def shown(self, name: str = "") -> str:
        """Return a file, or all of it, as a message names it."""
        return str(self.path / name)

    def make(self) -> None:
        """Make the directories. Raises ConfigurationError."""
        try:
            for each in (self.path, self.path / "data", self.path / "items"):
                each.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"{self.path} cannot be made: {error.strerror}") from None

    def write(self, name: str, data: bytes) -> None:
        """Write a file durably, in one step. Raises ConfigurationError."""
        try:
            replace_file(self.path / name, data)
        except OSError as error:
            raise ConfigurationError(f"{self.path / name} cannot be written: {error.strerror}") from None

    def read(self, name: str) -> bytes | None:
        """Return a file; None: there is none of that name. Raises ConfigurationError."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigurationError(f"{self.path / name} cannot be read: {error.strerror}") from None

    def remove(self, name: str) -> None:
        """Remove a file that may not be there."""
        (self.path / name).unlink(missing_ok=True)

    def keep_only(self, names: Collection[str], *, of: str) -> None:
        """Remove items that are not in *names*, and drafts, of the shard that ends in *of*."""
        for folder in ("data", "items"):
            for path in (self.path / folder).iterdir():
                if f"-{of}-" in path.name and path.relative_to(self.path).as_posix() not in names:
                    path.unlink()

    def names(self) -> Iterator[str]:
        """Yield the names of all files but drafts, as ``write`` takes them, in order."""
        for path in sorted(self.path.rglob("*")):
            if path.is_file() and not path.name.startswith("."):
                yield path.relative_to(self.path).as_posix()
