"""What a store does to have gone what has expired."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from chatproxy.model import SubjectTag, TurnId


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key of a person as a walk over the store finds it."""

    subject: SubjectTag
    name: bytes
    kind: str
    """The letter that its name has after the person's (``chatproxy.store.keys``)."""
    ttl_expires_at: int
    """-1: it has no expiry, which is a fault."""
    promised: int | None = None
    """When a record or an annotation says itself that it ends; None for other kinds, and where it cannot be read."""
    turn: TurnId | None = None
    """The turn that a record or an annotation is of."""
    epoch: int | None = None
    """The number of the epoch key that a record is under."""


class ReapStore(Protocol):
    """What removes what is over. Raises StoreUnavailableError."""

    def walk(self) -> AsyncIterator[list[FoundKey]]:
        """Walk over the keys of all people in bounded steps; what has expired goes by being looked at."""

    async def last_expiry(self, subject: SubjectTag) -> int | None:
        """When the last of a person's turns ends, by their index."""

    async def end(self, name: bytes, at: int) -> None:
        """Have a key expire at *at* (ms), which removes it if that is past."""

    async def trim_index(self, subject: SubjectTag, name: bytes) -> int:
        """Take out of an index what is not kept; return how many members."""

    async def epochs(self) -> list[int]:
        """The numbers of the epoch keys that there are, ascending."""

    async def destroy_epochs(self, epochs: Sequence[int]) -> None:
        """Destroy epoch keys."""
