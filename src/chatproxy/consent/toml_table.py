"""A table of a TOML file, whose members are taken one by one, and everything that is wrong with it said at once.

A problem names the file, the place in it and the member, why it cannot be taken, and what to write. What cannot be
taken is given as an empty value of its kind, so that reading goes on.
"""

import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from chatproxy.policy.instants import EPOCH, MILLISECOND

T = TypeVar("T")


class TOMLTable:
    """One table, or the whole of a file."""

    def __init__(self, members: Mapping[str, Any], *, at: str, problems: list[str]) -> None:
        """``at``: the file and the place in it. ``problems`` are added to, a line each."""
        self._members = dict(members)
        self._known: list[str] = []
        self._at = at
        self._problems = problems

    @classmethod
    def of_file(cls, path: Path, problems: list[str]) -> "TOMLTable | None":
        """Read *path*; None, and a problem more, where that is not possible."""
        try:
            return cls(tomllib.loads(path.read_text(encoding="utf-8")), at=str(path), problems=problems)
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            problems.append(f"{path} is not UTF-8 text; save it as UTF-8")
        except tomllib.TOMLDecodeError as error:
            problems.append(f"{path} is not TOML: {error}")
        return None

    def wrong(self, name: str, why: str) -> None:
        """Add a problem with the member *name*; ``why`` says what to do, too."""
        self._problems.append(f"{self._at}: {name} {why}")

    def has(self, name: str) -> bool:
        """Whether the member is there."""
        return name in self._members

    def text(self, name: str, *, default: str | None = None, why: str | None = None) -> str:
        """Take a text that is not empty; ``why`` it must be there."""
        value = self._take(name, default)
        if isinstance(value, str) and value.strip():
            return value
        what = "must be a text in quotes, and not empty"
        return self._refuse(name, value, f"{what}: {why}" if why else what, "")

    def texts(self, name: str, *, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """Take a list of texts."""
        value = self._take(name, default)
        if isinstance(value, list | tuple) and value and all(isinstance(t, str) and t.strip() for t in value):
            return tuple(value)
        return self._refuse(name, value, 'must be a list of texts, such as ["one", "two"]', ())

    def flag(self, name: str, *, default: bool | None = None) -> bool:
        """Take true or false."""
        value = self._take(name, default)
        if isinstance(value, bool):
            return value
        return self._refuse(name, value, "must be true or false", False)  # noqa: FBT003 - the empty value

    def count(self, name: str, *, default: int | None = None) -> int:
        """Take a whole number from 1 on."""
        value = self._take(name, default)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
            return value
        return self._refuse(name, value, "must be a whole number from 1 on", 1)

    def instant(self, name: str) -> int:
        """Take an instant, as ms."""
        value = self._take(name, None)
        if isinstance(value, datetime) and value.tzinfo is not None:
            return (value - EPOCH) // MILLISECOND
        what = "must be an instant with its zone, without quotes, such as 2025-10-08T00:00:00Z"
        return self._refuse(name, value, what, 0)

    def tables(self, name: str) -> "list[TOMLTable]":
        """Take a list of tables, [[name]]."""
        value = self._take(name, None)
        if isinstance(value, list) and value and all(isinstance(member, dict) for member in value):
            return [
                TOMLTable(member, at=f"{self._at}, [[{name}]] {number}", problems=self._problems)
                for number, member in enumerate(value, start=1)
            ]
        return self._refuse(name, value, f"must be tables, each headed [[{name}]]", [])

    def end(self) -> None:
        """Nothing more is taken: what is left is not known."""
        for name in self._members.keys() - set(self._known):
            self.wrong(name, f"is not known here; there are {', '.join(self._known)}")

    def _take(self, name: str, default: Any) -> Any:
        self._known.append(name)
        return self._members.get(name, default)

    def _refuse(self, name: str, value: object, what: str, empty: T) -> T:
        self.wrong(name, f"is missing; it {what}" if value is None else what)
        return empty
