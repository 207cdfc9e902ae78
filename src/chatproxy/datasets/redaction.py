"""Personal data and secrets are taken out of whatever is text in an item, under a named, versioned profile (R28).

1. Whatever a person or a program wrote goes through here: every text, and every string, name and number in JSON. JSON is
   read first, so that nothing hides behind its escapes.
2. What is found gives way to its kind in brackets, and is counted by kind. Nothing of it is kept.
3. The profile's name says what was looked for: it changes with the patterns. Another engine adds its own finds, and
   its name.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from chatproxy.datasets.patterns import Found, PatternFinder

PROFILE = "standard"
_MOST_DEPTH = 200


class Finder(Protocol):
    """An engine that finds what is to be taken out, such as one for names of people."""

    @property
    def name(self) -> str:
        """Name and version, as the profile's name has it."""

    def find(self, text: bytes) -> Iterable[Found]:
        """Find in UTF-8; stretches may overlap."""


class Redactor:
    """Takes out what its finders find."""

    def __init__(self, more: Sequence[Finder] = ()) -> None:
        """``more``: engines beside the patterns."""
        self._finders: tuple[Finder, ...] = (PatternFinder(), *more)
        self.profile = f"{PROFILE} ({', '.join(finder.name for finder in self._finders)})"

    def text(self, text: str, counts: Counter[str]) -> str:
        """Return *text* without what is found; *counts* grows by kind. Lone surrogates become question marks."""
        plain = text.encode("utf-8", "replace")
        found = sorted(
            (each for finder in self._finders for each in finder.find(plain)),
            key=lambda each: (each.start, -each.end),
        )
        if not found:
            return plain.decode()
        pieces, at = [], 0
        for each in apart(found):
            pieces += [plain[at : each.start], b"[%s]" % each.kind.encode()]
            counts[each.kind] += 1
            at = each.end
        pieces.append(plain[at:])
        # A stretch of another engine may begin or end within a character.
        return b"".join(pieces).decode("utf-8", "replace")

    def json_text(self, text: str, counts: Counter[str]) -> str:
        """Return JSON without what is found in its values; what is no JSON is text."""
        try:
            value = json.loads(text, parse_constant=str)
        except (ValueError, RecursionError):
            return self.text(text, counts)
        if isinstance(value, str | int | float):
            return self.text(text, counts)
        return json.dumps(self.value(value, counts), ensure_ascii=False, separators=(",", ":"))

    def value(self, value: Any, counts: Counter[str], depth: int = 0) -> Any:
        """Return what JSON holds without what is found in it. What is nested too deeply is taken out as a whole."""
        if depth > _MOST_DEPTH:
            return "[NESTED]"
        if isinstance(value, str):
            return self.text(value, counts)
        if isinstance(value, dict):
            return {
                self.text(str(name), counts): self._member(str(name), each, counts, depth)
                for name, each in value.items()
            }
        if isinstance(value, list):
            return [self.value(each, counts, depth + 1) for each in value]
        if isinstance(value, bool) or value is None:
            return value
        written = str(value)
        without = self.text(written, counts)
        return value if without == written else without

    def _member(self, name: str, value: Any, counts: Counter[str], depth: int) -> Any:
        """Return the value of a member: what is called a password may be one by its name alone."""
        if not isinstance(value, str):
            return self.value(value, counts, depth + 1)
        head = f"{name}: "
        own: Counter[str] = Counter()
        named = self.text(head + value, own)
        alone = self.text(value, counts)
        if alone != value or not named.startswith(head) or named == head + value:
            return alone
        counts.update(own)
        return named.removeprefix(head)


def apart(found: Iterable[Found]) -> Iterator[Found]:
    """Yield stretches that do not overlap: those that do are one, of the kind of the first."""
    last: Found | None = None
    for each in found:
        if last is None:
            last = each
        elif each.start < last.end:
            last = Found(last.start, max(last.end, each.end), last.kind)
        else:
            yield last
            last = each
    if last is not None:
        yield last
