"""Evaluation, step 2: which grants did the person's choices make, and what is the state now?"""

from collections.abc import Iterable
from functools import cached_property

from msgspec import Struct

_ORDER_AT_ONE_INSTANT = {
    "given": 0,
    "renewed": 0,
    "superseded": 1,
    "expired": 2,
    "refused": 3,
    "withdrawn": 4,
    "invalidated": 5,
    "terminated": 6,
}
_ANY_OTHER_WORD = 7
_OPENING = frozenset({"given", "renewed"})
_UNDECIDED = frozenset({"requested", "deferred", "unknown"})
"""These say something only while no decision was ever made."""


class Grant(Struct, frozen=True):
    """A yes and what it covers: turns from ``starts_at``, inclusive, to ``covers_until``, exclusive (R9)."""

    starts_at: int
    covers_until: int | None
    """None: the coverage is open."""
    revoked_at: int | None
    """None: not revoked. A grant that is neither open nor revoked was superseded (R33)."""

    def covers(self, at: int) -> bool:
        """Return whether *at* lies in the coverage."""
        return self.starts_at <= at and (self.covers_until is None or at < self.covers_until)


class Standing(Struct, frozen=True):
    """What all choices together come to."""

    state: str | None
    """The last choice that counts; None: there is none."""
    grants: tuple[Grant, ...]
    revocations: tuple[int, ...]
    """The instants of revoking decisions, ascending, whether or not there was a grant to revoke."""

    def revoked_from(self, at: int | None) -> int | None:
        """Return the first revoking decision at or after *at* (None: at any time), if there is one."""
        return _first_from(at, self.revocations)


class Choices(tuple[tuple[int, str], ...]):  # noqa: SLOT001 - its reading needs a place
    """(at, state) pairs that are read once, however many turns are decided by them."""

    @cached_property
    def standing(self) -> Standing:
        """Return what they come to."""
        return _read(self)


def read_choices(choices: Iterable[tuple[int, str]]) -> Standing:
    """Go through (at, state) pairs in order of time and say what they come to."""
    return choices.standing if isinstance(choices, Choices) else _read(choices)


def _read(choices: Iterable[tuple[int, str]]) -> Standing:
    state: str | None = None
    decided = False
    open_from: int | None = None
    coverages: list[tuple[int, int]] = []
    revocations: list[int] = []
    for at, word in sorted(choices, key=_in_order):
        if word in _UNDECIDED:
            state = state if decided else word
            continue
        state, decided = word, True
        if word in _OPENING:
            open_from = at if open_from is None else open_from
            continue
        if open_from is not None and open_from < at:
            coverages.append((open_from, at))
        open_from = None
        if word != "superseded":
            revocations.append(at)
    grants = [Grant(begin, end, _first_from(end, revocations)) for begin, end in coverages]
    if open_from is not None:
        grants.append(Grant(open_from, None, None))
    return Standing(state, tuple(grants), tuple(revocations))


def _first_from(at: int | None, revocations: Iterable[int]) -> int | None:
    return next((r for r in revocations if at is None or r >= at), None)


def _in_order(choice: tuple[int, str]) -> tuple[int, int]:
    at, word = choice
    return at, _ORDER_AT_ONE_INSTANT.get(word, _ANY_OTHER_WORD)
