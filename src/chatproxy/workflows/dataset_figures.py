"""How much of whom went into each dataset, as a controller must be able to say (R43)?

It is counted from what is remembered of each use. Of who is erased nothing is remembered but that items were recalled, so
those count as items alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from chatproxy.crypto.dataset_names import NAME_SIZE, show_dataset
from chatproxy.model import ConversationTag, SubjectTag
from chatproxy.ports import LineageStore
from chatproxy.workflows.export_gate import ERASED
from chatproxy.workflows.lineage import About, Use
from chatproxy.workflows.recall import Recalled


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


@dataclass(slots=True)
class _Count:
    items: int = 0
    turns: int = 0
    people: int = 0
    conversations: int = 0
    recalled: int = 0
    first: int | None = None
    last: int | None = None

    def add(self, use: Use) -> None:
        self.items += len(use.choices)
        self.turns += 1
        self.first = use.received_at if self.first is None else min(self.first, use.received_at)
        self.last = use.received_at if self.last is None else max(self.last, use.received_at)


async def dataset_figures(lineage: LineageStore) -> Sequence[DatasetFigures]:
    """Return the figures of every dataset, the oldest first. Raises StoreUnavailableError.

    One person at a time is in memory, and the pseudonyms of all.
    """
    datasets = {
        name: msgspec.json.decode(about, type=About) for name, about in (await lineage.datasets()).items()
    }
    counts = {name: _Count() for name in datasets}
    seen: set[SubjectTag] = set()
    async for subject in lineage.used():
        if subject not in seen:
            seen.add(subject)
            await _add_person(lineage, subject, counts)
    for name, count in counts.items():
        recalled: set[bytes] = set()
        async for item, what in lineage.recalls(name):
            if item not in recalled:
                recalled.add(item)
                count.items += msgspec.json.decode(what, type=Recalled).reason == ERASED
        count.recalled = len(recalled)
    return sorted(
        (_figures(datasets[name], show_dataset(name), count) for name, count in counts.items()),
        key=lambda each: (each.at, each.dataset),
    )


async def _add_person(lineage: LineageStore, subject: SubjectTag, counts: dict[bytes, _Count]) -> None:
    uses = await lineage.uses(subject)
    conversations: dict[bytes, set[ConversationTag]] = {}
    for entry, what in uses.entries.items() if uses is not None else ():
        name, use = entry[:NAME_SIZE], Use.decode(what)
        if name in counts:
            counts[name].add(use)
            conversations.setdefault(name, set()).add(use.conversation_tag)
    for name, own in conversations.items():
        counts[name].people += 1
        counts[name].conversations += len(own)


def _figures(about: About, name: str, count: _Count) -> DatasetFigures:
    return DatasetFigures(
        dataset=name,
        purpose=about.purpose,
        consumer=about.consumer,
        at=about.at,
        redaction=about.redaction,
        items=count.items,
        turns=count.turns,
        people=count.people,
        conversations=count.conversations,
        first_received_at=count.first,
        last_received_at=count.last,
        recalled=count.recalled,
    )
