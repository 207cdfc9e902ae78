"""What do the records need to know of datasets? What knows it is told from outside; until something does, nothing is in one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chatproxy.model import ConversationTag, SubjectTag


class DatasetUse(Protocol):
    """One conversation of a person in one dataset."""

    @property
    def conversation(self) -> ConversationTag: ...  # noqa: D102 - a name that says all
    @property
    def dataset(self) -> str: ...  # noqa: D102
    @property
    def purpose(self) -> str: ...  # noqa: D102
    @property
    def consumer(self) -> str:
        """Who got it."""

    @property
    def at(self) -> int:
        """The instant of the export, ms."""

    @property
    def turns(self) -> int: ...  # noqa: D102


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFigures:
    """One dataset as a whole. Instants in ms."""

    dataset: str
    purpose: str
    """``capability``, ``safety`` or ``feedback``."""
    consumer: str
    at: int
    redaction: str
    """Name and version of the profile that took personal data out."""
    items: int
    turns: int
    people: int
    conversations: int
    first_received_at: int | None
    last_received_at: int | None
    """Of the turns in it; None where there are none."""
    recalled: int = 0
    """Items that may not be used any more."""


class DatasetLineage(Protocol):
    """What of whom is in which dataset. Raises StoreUnavailableError."""

    async def used_of(self, subject: SubjectTag) -> Sequence[DatasetUse]:
        """Return which conversations of a person are in which datasets, oldest first (R42)."""

    async def figures(self) -> Sequence[DatasetFigures]:
        """Return every dataset, oldest first (R43)."""


class NoDatasets:
    """No dataset was ever made."""

    async def used_of(self, subject: SubjectTag) -> Sequence[DatasetUse]:
        """Return nothing."""
        del subject
        return ()

    async def figures(self) -> Sequence[DatasetFigures]:
        """Return nothing."""
        return ()


_: type[DatasetLineage] = NoDatasets
