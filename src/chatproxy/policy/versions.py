"""Which version of the policy was chosen, and is it still the one that holds (R33)?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_PERMITTING = frozenset({"given", "renewed"})
_UNDECIDED = frozenset({"requested", "deferred"})
"""These neither give nor take back anything."""


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

    Only a yes that stands at that instant and was made about an earlier version is superseded; a no is remembered. Who
    says yes to an earlier version afterwards, when another is in force, has not agreed to what holds: superseded, too.
    """
    words: list[tuple[int, str]] = []
    in_force: int | None = None
    agreed_about: int | None = None
    changes = sorted(version.effective_at for version in versions if version.material)
    # At one instant the choice comes first: who agrees to a version as it takes effect has agreed to it.
    steps: list[tuple[int, int, DatedChoice | None]] = [(choice.at, 0, choice) for choice in choices]
    steps += [(effective_at, 1, None) for effective_at in changes]
    for at, _, choice in sorted(steps, key=lambda step: step[:2]):
        if choice is None:
            in_force = at
            if agreed_about is not None and agreed_about < at:
                words.append((at, "superseded"))
                agreed_about = None
        elif choice.word not in _PERMITTING:
            words.append((at, choice.word))
            agreed_about = agreed_about if choice.word in _UNDECIDED else None
        elif agreed_about is None and in_force is not None and choice.about < in_force:
            words.append((at, "superseded"))
        else:
            words.append((at, choice.word))
            agreed_about = max(choice.about, agreed_about if agreed_about is not None else choice.about)
    return tuple(words)
