"""What do the person's pages say, in the language of who reads them?

The sentences are data beside this file, ``words/<language>.toml``, the same names in each. A sentence is plain text:
it is escaped, and so is whatever is filled into it, unless that is markup already.
"""

import tomllib
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from importlib.resources import files
from typing import Any

from markupsafe import Markup, escape

from chatproxy.policy.instants import EPOCH, format_instant


class Language(StrEnum):
    """A language that the pages speak, as BCP 47 names it."""

    ENGLISH = "en"
    FRENCH = "fr"


@dataclass(frozen=True, slots=True)
class Words:
    """The sentences of one language."""

    language: Language
    sentences: dict[str, str]
    """By name, ``table.name``."""

    def say(self, name: str, /, **filled: object) -> Markup:
        """Return a sentence with what is *filled* in. Raises KeyError for a name that there is not."""
        return escape(self.sentences[name]).format(**filled)

    def count(self, name: str, count: int, /, **filled: object) -> Markup:
        """Return the sentence ``name_one`` or ``name_other``, as the language counts."""
        is_one = count == 1 or (self.language is Language.FRENCH and count == 0)
        return self.say(f"{name}_{'one' if is_one else 'other'}", count=count, **filled)

    def knows(self, name: str) -> bool:
        """Return whether there is a sentence of that name."""
        return name in self.sentences

    def day(self, at: int) -> Markup:
        """Return the day of *at* (ms) in UTC, in words."""
        return self._time(at, self._day(at))

    def moment(self, at: int) -> Markup:
        """Return *at* (ms) in words, to the minute, with its time zone."""
        instant = EPOCH + timedelta(milliseconds=at)
        text = self.say(
            "date.moment", date=self._day(at), hour=f"{instant.hour:02}", minute=f"{instant.minute:02}"
        )
        return self._time(at, text)

    def _day(self, at: int) -> Markup:
        instant = EPOCH + timedelta(milliseconds=at)
        return self.say(
            "date.first_day" if instant.day == 1 else "date.day",
            day=instant.day,
            month=self.sentences[f"months.{instant.month}"],
            year=instant.year,
        )

    def _time(self, at: int, text: Markup) -> Markup:
        return Markup('<time datetime="{}">{}</time>').format(format_instant(at), text)


def load_words() -> dict[Language, Words]:
    """Read the sentences of every language from the package."""
    folder = files(__package__).joinpath("words")
    return {
        language: Words(
            language,
            dict(_flat(tomllib.loads(folder.joinpath(f"{language}.toml").read_text(encoding="utf-8")))),
        )
        for language in Language
    }


def preferred_language(*named: str | None, accept: str) -> Language:
    """Return the first language *named* that there is, else the one that ``Accept-Language`` weighs most.

    English where nothing that is asked for is spoken here.
    """
    for name in named:
        if name in set(Language):
            return Language(name)
    weighed = [_weighed(entry) for entry in accept.split(",")]
    for tag, weight in sorted(weighed, key=lambda entry: -entry[1]):
        primary = tag.split("-")[0].lower()
        if weight > 0 and primary in set(Language):
            return Language(primary)
    return Language.ENGLISH


def _weighed(entry: str) -> tuple[str, float]:
    tag, _, parameter = entry.partition(";")
    name, _, value = parameter.partition("=")
    if name.strip() != "q":
        return tag.strip(), 1.0
    try:
        return tag.strip(), float(value)
    except ValueError:
        return tag.strip(), 0.0


def _flat(tables: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for name, value in tables.items():
        found += _flat(value, f"{before}{name}.") if isinstance(value, dict) else [(before + name, value)]
    return found
