"""How is a walk over the store cut into pieces that one round trip, or one turn of work, can take?"""

from collections.abc import AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def in_batches(found: AsyncIterator[T], size: int) -> AsyncIterator[list[T]]:
    """Yield what is found in lists of *size*, the last one with what is left; nothing where nothing is found."""
    batch: list[T] = []
    async for each in found:
        batch.append(each)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
