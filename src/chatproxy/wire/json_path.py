"""Where in a JSON value? A tiny language of paths, enough to describe a chatbot: ``reply.text``, ``messages[*].text``.

A path is names with dots between; ``[*]`` after a name, or at the beginning, means each element of the list there. A
name is anything without dots, brackets and white space. What a path does not lead to is not there, and no error.
"""

import re
from dataclasses import dataclass

_NAME = re.compile(r"[^\s.\[\]]+")
_EACH = "[*]"


@dataclass(frozen=True, slots=True)
class JSONPath:
    """A path as parsed: names of members, and None for each element of a list."""

    steps: tuple[str | None, ...]

    @classmethod
    def parse(cls, text: str) -> "JSONPath":
        """Parse *text*. Raises ValueError, which says what a path looks like."""
        steps: list[str | None] = []
        at = 0
        while at < len(text):
            if text.startswith(_EACH, at):
                steps.append(None)
                at += len(_EACH)
            elif name := _NAME.match(text, at):
                steps.append(name[0])
                at = name.end()
            else:
                break
            if text.startswith(".", at) and _NAME.match(text, at + 1):
                at += 1
            elif at < len(text) and not text.startswith(_EACH, at):
                break
        if at < len(text) or not steps:
            raise ValueError(
                "must be names with dots between, [*] for each element of a list: reply.text, messages[*].text"
            )
        return cls(tuple(steps))

    def find(self, value: object) -> list[object]:
        """Return what *value*, read from JSON, holds at this path: nothing, one value, or one of each element."""
        found = [value]
        for step in self.steps:
            if step is None:
                found = [element for each in found if isinstance(each, list) for element in each]
            else:
                found = [each[step] for each in found if isinstance(each, dict) and step in each]
        return found
