"""What was delivered and may not be used any more, until whoever has it says that it is out (R43).

1. Of everything that is noted as used, it is decided again as if it were to be exported now, only that how old it is does not
   matter. What is refused goes on the recall list of its dataset, by the name of the item, and stays there: a person who
   agrees again does not call it back.
2. Who is erased takes what is noted of them along: the names of their items go on the lists first. Nothing on a list
   says whose an item was.
3. An item that a dataset holds and nobody knows anything of is recalled too: a store that was restored from a backup
   may have forgotten it.
4. What is not acknowledged in time is overdue, and alarms.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from chatproxy.clock import Clock
from chatproxy.crypto.dataset_names import show_dataset, show_item
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.errors import StoreUnavailableError
from chatproxy.model import ConversationTag, SubjectTag, TurnId
from chatproxy.ports import LineageStore, TranscriptStore
from chatproxy.telemetry import Log, Metrics
from chatproxy.workflows.export_gate import ERASED, Allowed, ExportGate
from chatproxy.workflows.lineage import About, Use, uses_in

_log = Log("recall")
_POLL_SECONDS = 60.0
UNTRACKED = "untracked"
"""Nothing is known of an item that a dataset holds."""
_HOUR_MS = 3_600_000
_COUNTED_MS = 300_000
"""How often each node counts what is open."""
_DUE_NAME = "recall:next"
"""Control value: when the next look at everybody is due. Who moves it on does the work."""


class Recalled(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a recall list. Instants in ms."""

    at: int
    reason: str
    acknowledged_at: int | None = None


@dataclass(frozen=True, slots=True)
class Recall:
    """One item that is to be taken out."""

    item: bytes
    what: Recalled


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenBack:
    """What of one conversation is recalled from one dataset. Instants in ms."""

    turns: int
    at: int
    """When the first of it was."""
    acknowledged_at: int | None
    """When the last of it was said to be out; None: something is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WasUsed:
    """One conversation of a person in one dataset (R42). Instants in ms."""

    conversation: ConversationTag
    began_at: int
    """When the first of the turns was received that went into it."""
    dataset: str
    purpose: str
    consumer: str
    at: int
    turns: int
    recall: TakenBack | None
    """None: nothing of it is recalled."""


class OpenRecalls(NamedTuple):
    """How many items of a dataset nobody has acknowledged, and for how many of them it is late."""

    open: int
    overdue: int


class Recalls:
    """Keeps the recall lists."""

    def __init__(
        self,
        store: TranscriptStore,
        lineage: LineageStore,
        gates: Mapping[str, ExportGate],
        pseudonyms: Pseudonymizer,
        *,
        clock: Clock,
        deadline_ms: int,
    ) -> None:
        """``gates``: by purpose; ``deadline_ms``: how long a consumer has to acknowledge."""
        self._store = store
        self._lineage = lineage
        self._gates = gates
        self._pseudonyms = pseudonyms
        self._clock = clock
        self._deadline_ms = deadline_ms

    async def datasets(self) -> dict[bytes, About]:
        """Return what is noted of each dataset. Raises StoreUnavailableError."""
        return {
            name: msgspec.json.decode(about, type=About)
            for name, about in (await self._lineage.datasets()).items()
        }

    async def look_at_everybody(self, only: bytes | None = None) -> int:
        """Decide again on everything that is used, in one dataset or in all; return how many items were recalled."""
        datasets = await self.datasets()
        return sum([await self._look_at(subject, datasets, only) async for subject in self._lineage.used()])

    async def erased(self, subject: SubjectTag) -> None:
        """A person is erased: recall what was received by then, and forget whose it was. Raises StoreUnavailableError."""
        state = await self._store.subject_state(subject)
        uses = await self._lineage.uses(subject)
        if uses is None or state.erased_at is None:
            return
        datasets = await self.datasets()
        for dataset, about in datasets.items():
            names = about.names(self._pseudonyms).of_person(subject, uses.link)
            own = {
                turn: use for turn, use in uses_in(uses, dataset).items() if state.is_fenced(use.received_at)
            }
            items = [names.item(turn, choice) for turn, use in own.items() for choice in use.choices]
            await self._put(dataset, dict.fromkeys(items, ERASED))
        gone = [name for name, what in uses.entries.items() if state.is_fenced(Use.decode(what).received_at)]
        await self._lineage.forget_uses(subject, gone)

    async def of_dataset(self, dataset: bytes, held: Iterable[bytes]) -> AsyncIterator[Recall]:
        """Yield what is to be taken out of a dataset that holds the items *held*, what is acknowledged too."""
        about = (await self.datasets()).get(dataset)
        unknown = set(held)
        if about is not None:
            await self.look_at_everybody(dataset)
            names = about.names(self._pseudonyms)
            async for subject in self._lineage.used():
                uses = await self._lineage.uses(subject)
                if uses is not None:
                    own = names.of_person(subject, uses.link)
                    for turn, use in uses_in(uses, dataset).items():
                        unknown -= {own.item(turn, choice) for choice in use.choices}
        listed = [item async for item, _ in self._lineage.recalls(dataset)]
        await self._put(dataset, dict.fromkeys(unknown.difference(listed), UNTRACKED))
        seen: set[bytes] = set()
        async for item, what in self._lineage.recalls(dataset):
            if item not in seen:
                seen.add(item)
                yield Recall(item, msgspec.json.decode(what, type=Recalled))

    async def acknowledge(self, dataset: bytes, items: Sequence[bytes] | None) -> int:
        """Note that items are out, or all that are recalled; return how many were open."""
        wanted = None if items is None else set(items)
        now = self._clock()
        done: dict[bytes, bytes | None] = {}
        async for item, stored in self._lineage.recalls(dataset):
            what = msgspec.json.decode(stored, type=Recalled)
            if what.acknowledged_at is None and (wanted is None or item in wanted):
                done[item] = msgspec.json.encode(msgspec.structs.replace(what, acknowledged_at=now))
        await self._lineage.settle_recalls(dataset, done)
        return len(done)

    def is_overdue(self, what: Recalled) -> bool:
        """Whether a consumer has not acknowledged in time."""
        return what.acknowledged_at is None and what.at + self._deadline_ms < self._clock()

    async def open_and_overdue(self) -> tuple[int, int]:
        """Return how many recalls of all datasets are open, and how many of them overdue."""
        counted = (await self.open_by_dataset()).values()
        return sum(count.open for count in counted), sum(count.overdue for count in counted)

    async def open_by_dataset(self) -> dict[str, OpenRecalls]:
        """Return the recalls of each dataset that are open. Raises StoreUnavailableError."""
        found: dict[str, OpenRecalls] = {}
        for dataset in await self._lineage.datasets():
            is_open = overdue = 0
            async for _, stored in self._lineage.recalls(dataset):
                what = msgspec.json.decode(stored, type=Recalled)
                is_open += what.acknowledged_at is None
                overdue += self.is_overdue(what)
            if is_open:
                found[show_dataset(dataset)] = OpenRecalls(is_open, overdue)
        return found

    async def used_of(self, subject: SubjectTag) -> list[WasUsed]:
        """Return which conversations of a person are in which datasets, oldest first (R42)."""
        uses = await self._lineage.uses(subject)
        if uses is None:
            return []
        found: list[WasUsed] = []
        for dataset, about in (await self.datasets()).items():
            own = uses_in(uses, dataset)
            names = about.names(self._pseudonyms).of_person(subject, uses.link)
            items = {turn: [names.item(turn, choice) for choice in use.choices] for turn, use in own.items()}
            listed = await self._lineage.recalled(dataset, [item for some in items.values() for item in some])
            recalled = {item: msgspec.json.decode(what, type=Recalled) for item, what in listed.items()}
            conversations: dict[ConversationTag, list[TurnId]] = {}
            for turn, use in own.items():
                conversations.setdefault(use.conversation_tag, []).append(turn)
            found += [
                WasUsed(
                    conversation=conversation,
                    began_at=min(own[turn].received_at for turn in turns),
                    dataset=show_dataset(dataset),
                    purpose=about.purpose,
                    consumer=about.consumer,
                    at=about.at,
                    turns=len(turns),
                    recall=_taken_back(
                        [[recalled[item] for item in items[turn] if item in recalled] for turn in turns]
                    ),
                )
                for conversation, turns in conversations.items()
            ]
        return sorted(found, key=lambda used: (used.at, used.dataset, used.began_at))

    async def _look_at(self, subject: SubjectTag, datasets: Mapping[bytes, About], only: bytes | None) -> int:
        uses = await self._lineage.uses(subject)
        if uses is None:
            return 0
        count = 0
        for dataset, about in datasets.items():
            own = uses_in(uses, dataset)
            if not own or (only is not None and dataset != only):
                continue
            gate = self._gates[about.purpose]
            person = await gate.person(subject)
            activity = await gate.activity(person)
            names = about.names(self._pseudonyms).of_person(subject, uses.link)
            refused: dict[bytes, str] = {}
            for turn, use in own.items():
                verdict = await gate.judge_turn(turn, person, activity, at=None)
                if not isinstance(verdict, Allowed):
                    refused |= {names.item(turn, choice): verdict for choice in use.choices}
            count += await self._put(dataset, refused)
        return count

    async def _put(self, dataset: bytes, refused: Mapping[bytes, str]) -> int:
        now = self._clock()
        return await self._lineage.recall(
            dataset,
            {item: msgspec.json.encode(Recalled(at=now, reason=reason)) for item, reason in refused.items()},
        )


class RecallWatch:
    """Looks at everybody once an hour, on whichever node comes first, and counts what is open."""

    def __init__(self, recalls: Recalls, store: TranscriptStore, *, clock: Clock, metrics: Metrics) -> None:
        self._recalls = recalls
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._count_at = 0

    async def run(self) -> None:
        """Look again and again, until cancelled; apart from the chores, since looking at everybody takes long."""
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            try:
                await self.take_up()
            except StoreUnavailableError:
                self._metrics.store_failures.labels("recall").inc()
            except Exception as error:  # noqa: BLE001 - the outer edge of this task: it must never end by itself
                _log.error("what is to be recalled cannot be looked for; it is tried again", failure=error)

    async def take_up(self) -> bool:
        """Look, if it is time; False if it is not, or another node does. Raises StoreUnavailableError."""
        now = self._clock()
        is_done = await self._is_ours(now)
        if is_done:
            await self._recalls.look_at_everybody()
        if is_done or now >= self._count_at:
            self._count_at = now + _COUNTED_MS
            is_open, overdue = await self._recalls.open_and_overdue()
            self._metrics.recalls_open.set(is_open)
            self._metrics.recalls_overdue.set(overdue)
        return is_done

    async def _is_ours(self, now: int) -> bool:
        """Move on when it is due; False if it is not yet, or another node was faster."""
        due = await self._store.read_control(_DUE_NAME)
        if due is not None and due.isdigit() and int(due) > now:
            return False
        return await self._store.swap_control(_DUE_NAME, due, b"%d" % (now + _HOUR_MS))


def _taken_back(turns: Iterable[Sequence[Recalled]]) -> TakenBack | None:
    """Return what of some *turns* is recalled, by the items of each that are."""
    recalled = [items for items in turns if items]
    if not recalled:
        return None
    acknowledged = [item.acknowledged_at for items in recalled for item in items]
    known = [at for at in acknowledged if at is not None]
    return TakenBack(
        turns=len(recalled),
        at=min(item.at for items in recalled for item in items),
        acknowledged_at=max(known) if len(known) == len(acknowledged) else None,
    )


def shown(recall: Recall) -> dict[str, object]:
    """Return a line of a recall list as a program reads it; instants in ms."""
    return {
        "item": show_item(recall.item),
        "reason": recall.what.reason,
        "recalled_at": recall.what.at,
        "acknowledged_at": recall.what.acknowledged_at,
    }
