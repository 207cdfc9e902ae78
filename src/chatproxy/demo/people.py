"""A few people on different plans who chose differently, and what each of them says."""

from dataclasses import dataclass

from chatproxy.consent.events import Choice

CANARY = "marmalade-lighthouse"
"""Words that every one of them says, so that a search for them in the files finds any plaintext."""


@dataclass(frozen=True, slots=True)
class Person:
    """Someone who chats. ``subject`` None: the front did not say who it is."""

    who: str
    subject: str | None
    plan: str | None
    choices: tuple[Choice, ...]
    says: tuple[str, ...]
    dialect: str = "openai"
    streamed: bool = False
    incognito: bool = False


PEOPLE = (
    Person(
        "Ana, pro, agreed",
        "ana",
        "pro",
        (Choice.GIVEN,),
        (f"How do I paint a {CANARY}?", "And how do I keep it from fading?"),
        streamed=True,
    ),
    Person(
        "Ben, free, refused",
        "ben",
        "free",
        (Choice.REFUSED,),
        (f"Write a poem about a {CANARY}.",),
        "anthropic",
    ),
    Person(
        "Chloé, max, has not chosen",
        "chloe",
        "max",
        (),
        (f"What is a {CANARY}?",),
        "anthropic",
        streamed=True,
    ),
    Person(
        "Dina, pro, agreed, then withdrew",
        "dina",
        "pro",
        (Choice.GIVEN, Choice.WITHDRAWN),
        (f"Sell me a {CANARY}.",),
    ),
    Person("Ana again, incognito", "ana", "pro", (), (f"Who stole the {CANARY}?",), incognito=True),
    Person(
        "Elif, team (exempt)", "elif", "team", (Choice.GIVEN,), (f"Plan our {CANARY} launch.",), streamed=True
    ),
    Person("somebody unknown", None, None, (), (f"Is this {CANARY} safe?",)),
)
