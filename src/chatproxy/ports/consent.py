"""The company's own record of what people have chosen."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StatedChoice:
    """A choice about the account, as the company's consent service states it. ``at`` in ms."""

    ident: str = field(repr=False)
    """The service's own name of it. It may tell about the person, so it is never stored as it is."""
    state: str
    """A word of R8 that can be recorded."""
    at: int
    purposes: tuple[str, ...]
    surfaces: tuple[str, ...]
    policy_version: str | None = None
    receipt: str | None = None
    """By which the company finds its own record; tells nothing about the person."""


class ConsentSource(Protocol):
    """The company's own consent service, where people choose there."""

    async def choices(self, *, tenant: str, subject: str) -> tuple[StatedChoice, ...]:
        """Ask now for every choice of a person, oldest first. Raises ConsentSourceError."""

    async def aclose(self) -> None: ...
