"""What of whom is in which dataset, and where datasets lie."""

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from chatproxy.model import SubjectTag


@dataclass(frozen=True, slots=True)
class Uses:
    """Which of a person's turns are in which datasets."""

    link: bytes = field(repr=False)
    """What the names of the person's things in datasets depend on; it goes when the person is erased."""
    entries: Mapping[bytes, bytes] = field(repr=False)
    """By dataset and turn, 16 bytes each."""


class DatasetFiles(Protocol):
    """Where a dataset lies: files by names such as ``data/part-….jsonl``. Raises ConfigurationError."""

    def shown(self, name: str = "") -> str:
        """Return a file, or all of it, as a message names it: without credentials."""

    def make(self) -> None:
        """Make what must be there before the first file."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all, in the place of what is there."""

    def read(self, name: str) -> bytes | None: ...
    def remove(self, name: str) -> None:
        """Remove a file that may not be there."""

    def keep_only(self, names: Collection[str], *, of: str) -> None:
        """Remove items that are not in *names*, and drafts, of the shard that ends in *of*."""

    def names(self) -> Iterator[str]:
        """Yield the names of all files but hidden ones, in order."""


class LineageStore(Protocol):
    """What of whom is in which dataset, and what of it is recalled. Raises StoreUnavailableError."""

    async def use(
        self,
        subject: SubjectTag,
        entries: Mapping[bytes, bytes],
        *,
        ledger_length: int,
        erased_at: int | None,
        keep_until: int,
    ) -> bytes | None:
        """Note that turns go into a dataset, if ledger and fence are those that the decision has seen.

        Return the person's link, which is made with the first; None: decide again. Kept at least to *keep_until*.
        """

    async def uses(self, subject: SubjectTag) -> Uses | None: ...
    def used(self) -> AsyncIterator[SubjectTag]:
        """Everybody of whom something is in a dataset, in no order; one may come twice."""

    async def forget_uses(self, subject: SubjectTag, entries: Sequence[bytes]) -> None:
        """Take entries out; the link goes with the last."""

    async def recall(self, dataset: bytes, items: Mapping[bytes, bytes]) -> int:
        """Put items that are not there yet on the recall list; return how many."""

    async def settle_recalls(self, dataset: bytes, items: Mapping[bytes, bytes | None]) -> None:
        """Replace what the recall list says of items; None takes one off."""

    async def recalled(self, dataset: bytes, items: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return what the recall list says of those *items* that are on it."""

    def recalls(self, dataset: bytes) -> AsyncIterator[tuple[bytes, bytes]]:
        """The recall list, in no order; one may come twice."""

    async def datasets(self) -> dict[bytes, bytes]: ...
    async def add_dataset(self, dataset: bytes, about: bytes) -> None:
        """Note a dataset, unless it is known."""
