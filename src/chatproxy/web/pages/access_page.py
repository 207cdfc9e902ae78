"""How does the record of a person look to them (R42)? One page of its own, in one language, that needs nothing else.

It is made from the record, object by object, so that it says what the record says, and is never whole in memory. It runs
no script and loads nothing; its style stands in it, and prints.
"""

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, cast

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from chatproxy.consent.events import DATA_SUBJECT, Choice
from chatproxy.model import Origin, Part, PartKind
from chatproxy.policy.instants import parse_instant
from chatproxy.web.pages.conversation_words import ROLES, said_part
from chatproxy.web.pages.history import name_of
from chatproxy.web.pages.words import Words

Line = Mapping[str, Any]
_SECTIONS = {
    "about": "about",
    "choice": "chosen",
    "event": "chosen",
    "hold": "holds",
    "conversation": "conversations",
    "turn": "conversations",
    "dataset": "datasets",
    "read": "reads",
    "fault": "faults",
    "end": "end",
}
_CHOICES = {str(choice): choice for choice in Choice}
_PERIOD = re.compile(r"P(?:(\d+)Y|(\d+)D|T(\d+)S)")
_PRINTED = """
h4 { font-size: 1.0625rem; margin: 0; } h5 { font-size: 0.875rem; margin: 0; color: var(--soft); }
@media print { h2, h3, h4, h5 { break-after: avoid; } .said li { max-width: none; margin: 0; } .said .text { orphans: 3; } }
"""


class AccessPage:
    """Writes the page."""

    def __init__(self) -> None:
        self._template = _template()

    async def pieces(self, lines: AsyncIterator[Line], words: Words) -> AsyncIterator[str]:
        """Yield the page in the language of *words*, as the *lines* of the record come."""
        page = cast(
            "Any",
            self._template.make_module(
                {
                    "words": words,
                    "say": words.say,
                    "count": words.count,
                    "day": words.day,
                    "moment": words.moment,
                    "length": lambda period: _length(period, words),
                }
            ),
        )
        yield page.opening()
        section = ""
        async for line in lines:
            its = _SECTIONS[line["kind"]]
            yield page.told({**_shown(line, words), "opens": its if its != section else None})
            section = its
        yield page.closing()


def reason_in_words(code: str, words: Sequence[Words]) -> dict[str, str]:
    """Return what a reason means, by language, without markup."""
    return {str(each.language): each.sentences[f"reason.{code}"] for each in words}


@cache
def _template() -> Template:
    """Return the template, which is compiled once in a process: that takes 50 ms."""
    style = files(__package__).joinpath("assets/pages.css").read_text(encoding="utf-8") + _PRINTED
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = Environment(
        loader=PackageLoader("chatproxy.web.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(style=Markup(style), style_hash=f"sha256-{digest}", at=parse_instant)  # noqa: S704 - our own
    return environment.get_template("access.html")


def _shown(line: Line, words: Words) -> Line:
    """Return a line with what of it is said in words."""
    match line["kind"]:
        case "choice" | "event":
            what, details = words.say(f"history.{_what(line)}"), list(_details(line, words))
            return {**line, "what": what, "details": details}
        case "turn":
            return {**line, "messages": [_message(message, words) for message in line["messages"]]}
        case _:
            return line


def _what(line: Line) -> str:
    """Return the name of the words for a choice or an event."""
    if line["kind"] == "event":
        return str(line["event"])
    choice = None if line["event"] is None else _CHOICES[line["event"]]
    return name_of("choice", choice, is_of_conversation=line["conversation"] is not None)


def _details(line: Line, words: Words) -> Iterator[Markup]:
    if line["kind"] == "choice":
        yield words.say("history.account" if line["conversation"] is None else "history.conversation")
        if line["policy_version"] is not None:
            yield words.say("history.version", version=line["policy_version"])
    if line["by"] != DATA_SUBJECT:
        yield words.say("access.staff" if line["by"] == "staff" else "access.company")


def _message(message: Line, words: Words) -> Line:
    parts = [
        said_part(Part(PartKind(part["kind"]), Origin(part["origin"]), part["body"]), words)
        for part in message["parts"]
    ]
    return {"role": ROLES.get(message["role"], "other"), "parts": parts}


def _length(period: str, words: Words) -> Markup:
    """Return an ISO 8601 period of ours in words."""
    match = _PERIOD.fullmatch(period)
    if match is None:
        raise ValueError("no period that chatproxy writes")
    for unit, number in zip(("years", "days", "seconds"), match.groups(), strict=True):
        if number is not None:
            return words.count(f"period.{unit}", int(number))
    raise AssertionError
