"""Which version of the policy was chosen, and is it still the one that holds (R33)?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_PERMITTING = frozenset({"given", "renewed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """One version of the text that people choose about. Instants are ms."""

    version: str
    published_at: int
    effective_at: int
    sha256: str
    """Of the text, in hexadecimal."""
    material: bool = False
    """It changes what people have agreed to, so who agreed before is asked again."""


@dataclass(frozen=True, slots=True)
class DatedChoice:
    """A choice as the engine reads it, and since when the version holds that it was made about."""

    at: int
    word: str
    about: int


def with_superseded(
    choices: Sequence[DatedChoice], versions: Iterable[PolicyVersion]
) -> tuple[tuple[int, str], ...]:
    """Return (at, word) of each choice, in order, and where a material version took effect over a yes: superseded.

    Only a yes that stands at that instant and was made about an earlier version is superseded; a no is remembered.
    """
    words = [(choice.at, choice.word) for choice in choices]
    for version in versions:
        if not version.material:
            continue
        standing = next((choice for choice in reversed(choices) if choice.at <= version.effective_at), None)
        if standing and standing.word in _PERMITTING and standing.about < version.effective_at:
            words.append((version.effective_at, "superseded"))
    return tuple(sorted(words, key=lambda word: word[0]))
