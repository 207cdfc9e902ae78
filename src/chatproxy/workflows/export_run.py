"""One export of one shard: part after part, in an order that is always the same (``chatproxy.workflows.export``)."""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from chatproxy import __version__, codec
from chatproxy.clock import Clock
from chatproxy.crypto.dataset_names import DatasetNames, read_item, show_item
from chatproxy.crypto.keys import DataKey, SigningSeed
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.crypto.record import RecordFlags, open_record, parse_header
from chatproxy.datasets.manifest import CARD, File, Item, Manifest, Shard, about, card, is_as_listed, lines
from chatproxy.datasets.redaction import Redactor
from chatproxy.datasets.rows import Row, answers
from chatproxy.datasets.tables import content_hash, read_rows, write_rows
from chatproxy.errors import ConflictError, StoreUnavailableError, UndecryptableError
from chatproxy.model import SubjectTag, Transcript, TurnId
from chatproxy.policy.instants import format_instant
from chatproxy.ports import AuditLog, DatasetFiles, LineageStore, TranscriptStore
from chatproxy.workflows.annotate import GroupNote
from chatproxy.workflows.export_gate import (
    ERASED,
    NO_ANSWER,
    NOT_AUTHENTIC,
    RECORD,
    Allowed,
    ExportGate,
    Person,
)
from chatproxy.workflows.export_state import Part, Place, State, state_name
from chatproxy.workflows.keys import RecordKeys
from chatproxy.workflows.lineage import Use, entry_name, uses_in
from chatproxy.workflows.people_in_order import PeopleInOrder, Smallest
from chatproxy.workflows.verdict import Activity, Kept

_MOST_TRIES = 10
_BATCH = 50
"""Turns that are opened in one round trip."""
_HELD = 5000
"""Turns of one person that are held at a time."""


@dataclass(slots=True)
class Progress:
    """How far it is, for who waits."""

    turns: int = 0
    items: int = 0
    parts: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """When a part is full."""

    items: int = 5000
    bytes: int = 32 << 20
    turns: int = 100_000
    """Looked at: so that it is noted how far it is, also where little may be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What an export works with. Durations in ms."""

    store: TranscriptStore
    lineage: LineageStore
    gate: ExportGate
    keys: RecordKeys
    pseudonyms: Pseudonymizer
    redactor: Redactor
    audit: AuditLog
    clock: Clock
    signing_key: Callable[[], SigningSeed]
    signing_publics: Callable[[], Sequence[bytes]]
    """Of all keys that have signed."""
    min_age_ms: int
    keep_ms: int
    """How long from now is remembered what was used."""
    limits: Limits = Limits()


@dataclass(slots=True)
class _Item:
    subject: SubjectTag
    turn: TurnId
    row: Row
    allowed: Allowed
    redacted: Counter[str]


@dataclass(slots=True)
class _Draft:
    """A part while it is put together."""

    items: list[_Item] = field(default_factory=list)
    people: dict[SubjectTag, Person] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    turns: int = 0
    size: int = 0
    until: Place | None = None
    is_last: bool = True


class ExportRun:
    """One export of one shard."""

    def __init__(
        self,
        means: Means,
        state: State,
        names: DatasetNames,
        files: DatasetFiles,
        told: Callable[[Progress], None],
    ) -> None:
        self._means = means
        self._state = state
        self._names = names
        self._files = files
        self._told = told
        self._shard = Shard(*state.shard)
        self._people = PeopleInOrder(means.store, names.place, self._is_wanted)
        self._store, self._lineage, self._gate = means.store, means.lineage, means.gate

    def _is_wanted(self, subject: SubjectTag) -> bool:
        return int.from_bytes(subject[:8], "big") % self._shard.of == self._shard.number - 1

    async def all(self) -> Manifest:
        """Do all that is left to do. Raises as ``Exporter.export``."""
        while not self._state.is_walked:
            draft = await self._draft()
            await self._deliver(draft)
            self._told(self._progress())
        while await self._leave_out_what_was_overtaken():
            pass
        return self._finish()

    def _progress(self) -> Progress:
        parts = self._state.parts
        return Progress(sum(part.turns for part in parts), sum(part.items for part in parts), len(parts))

    # --- putting a part together ---

    async def _draft(self) -> _Draft:
        """Go on behind the last part until the next is full."""
        draft = _Draft()
        done = self._state.parts[-1].until if self._state.parts else None
        place = bytes.fromhex(done.person) if done else None
        async for key, subject in self._people.after(place, inclusive=True):
            behind = (done.received_at, bytes.fromhex(done.turn)) if done and key == place else None
            async for batch in self._turns(subject, draft, behind):
                await self._consider(subject, batch, draft)
                last, _ = batch[-1]
                draft.until = Place(key.hex(), last[0], last[1].hex())
                if self._is_full(draft):
                    draft.is_last = False
                    return draft
            if not draft.items or draft.items[-1].subject != subject:
                del draft.people[subject]
        return draft

    def _is_full(self, draft: _Draft) -> bool:
        limits = self._means.limits
        return len(draft.items) >= limits.items or draft.size >= limits.bytes or draft.turns >= limits.turns

    async def _turns(
        self, subject: SubjectTag, draft: _Draft, behind: tuple[int, bytes] | None
    ) -> AsyncIterator[list[tuple[tuple[int, bytes], tuple[Kept | None, Activity | None]]]]:
        """Yield the turns of a person in batches, by time, as far as they lie before the instant."""
        while True:
            person = draft.people[subject] = await self._gate.person(subject)
            activity = Activity(person.facts) if person.facts is not None else None
            smallest: Smallest[tuple[int, bytes], Kept | None] = Smallest(_HELD, behind)
            async for stored in self._store.annotations(subject):
                kept = self._gate.read(stored)
                received_at = 0 if kept is None else kept.facts.received_at
                if kept is not None and activity is not None:
                    activity.learn(kept.facts.conversation_tag, received_at)
                if received_at <= self._state.at:
                    smallest.offer((received_at, stored.turn), kept)
            found = smallest.in_order()
            for start in range(0, len(found), _BATCH):
                yield [(key, (kept, activity)) for key, kept in found[start : start + _BATCH]]
            if smallest.is_all:
                return
            behind = found[-1][0]

    async def _consider(
        self,
        subject: SubjectTag,
        batch: Sequence[tuple[tuple[int, bytes], tuple[Kept | None, Activity | None]]],
        draft: _Draft,
    ) -> None:
        """Decide on some turns of a person, and open those that may be used."""
        person = draft.people[subject]
        allowed: list[Allowed] = []
        for _, (kept, activity) in batch:
            draft.turns += 1
            verdict = (
                NOT_AUTHENTIC
                if kept is None
                else await self._gate.judge(kept, person, activity, at=self._state.at)
            )
            if isinstance(verdict, Allowed):
                allowed.append(verdict)
            else:
                draft.left_out[verdict] += 1
        if not allowed:
            return
        link = await self._use(person, {})
        if link is None:
            # Something has happened meanwhile: whatever they were, they are decided on anew when they are delivered.
            link = await self._link(subject)
        own = self._names.of_person(subject, link)
        for each, transcript in zip(allowed, await self._open(person, allowed), strict=True):
            facts, turn = each.kept.facts, each.kept.stored.turn
            said = transcript if transcript is not None else await self._open_again(subject, turn)
            if said is None:
                draft.left_out[RECORD] += 1
                continue
            found = answers(said, self._means.redactor)
            if not found:
                draft.left_out[NO_ANSWER] += 1
            for answer in found:
                after = None if facts.after is None else own.item(TurnId(bytes.fromhex(facts.after)), 0)
                row = Row(
                    id=show_item(own.item(turn, answer.choice)),
                    person=own.person,
                    conversation=own.conversation(facts.conversation_tag),
                    after=None if after is None else show_item(after),
                    choice=answer.choice,
                    day=int(format_instant(facts.received_at)[:10].replace("-", "")),
                    surface=str(each.kept.note.surface),
                    model=answer.model,
                    end=str(each.kept.note.end),
                    messages=answer.messages,
                    left_out=answer.left_out,
                )
                draft.size += sum(len(message.content) for message in answer.messages)
                draft.items.append(_Item(subject, turn, row, each, answer.redacted))

    async def _open(self, person: Person, allowed: Sequence[Allowed]) -> list[Transcript | None]:
        """Open what is allowed of turns of one person; None: a record is not as it was kept."""
        wanted = [(each, group) for each in allowed for group in each.groups]
        blobs = await self._store.records_of_turns(
            person.subject, [(each.kept.stored.turn, group.n) for each, group in wanted]
        )
        epoch_keys = await self._epoch_keys(blobs)
        payloads: dict[TurnId, list[codec.Payload]] = {}
        faulty: set[TurnId] = set()
        for (each, group), blob in zip(wanted, blobs, strict=True):
            turn = each.kept.stored.turn
            try:
                payload = self._opened(person, each, group, blob, epoch_keys)
            except UndecryptableError:
                faulty.add(turn)
            else:
                payloads.setdefault(turn, []).append(payload)
        opened: list[Transcript | None] = []
        for turn in (each.kept.stored.turn for each in allowed):
            try:
                opened.append(None if turn in faulty else codec.decode_groups(payloads[turn]))
            except UndecryptableError:
                opened.append(None)
        return opened

    async def _epoch_keys(self, blobs: Iterable[bytes | None]) -> dict[int, DataKey]:
        """Return the keys of the epochs that records name, as far as they are there and sound."""
        epochs: set[int] = set()
        for blob in blobs:
            with contextlib.suppress(UndecryptableError):
                epochs |= {parse_header(blob).epoch} if blob is not None else set()
        try:
            return await self._means.keys.existing_epoch_keys(sorted(epochs))
        except UndecryptableError:
            found: dict[int, DataKey] = {}
            for epoch in epochs:
                with contextlib.suppress(UndecryptableError):
                    found |= await self._means.keys.existing_epoch_keys([epoch])
            return found

    async def _open_again(self, subject: SubjectTag, turn: TurnId) -> Transcript | None:
        """Open a turn that may have been sealed anew while it was read; None: it is not as it was kept."""
        person = await self._gate.person(subject)
        activity = await self._gate.activity(person)
        verdict = await self._gate.judge_turn(turn, person, activity, at=self._state.at)
        return (await self._open(person, [verdict]))[0] if isinstance(verdict, Allowed) else None

    def _opened(
        self,
        person: Person,
        allowed: Allowed,
        group: GroupNote,
        blob: bytes | None,
        epoch_keys: Mapping[int, DataKey],
    ) -> codec.Payload:
        """Open one record. Raises UndecryptableError where it is not the one that the annotation describes."""
        if blob is None:
            raise UndecryptableError("record_missing")
        header = parse_header(blob)
        turn = allowed.kept.stored.turn
        if header.expires_at != group.expires_at or header.turn != turn:
            raise UndecryptableError("record_of_another_turn")
        if header.epoch not in epoch_keys:
            raise UndecryptableError("no_epoch_key")
        data = open_record(
            blob,
            subject_key=self._means.keys.unwrap_subject_key(person.subject, person.state, header.generation),
            epoch_key=epoch_keys[header.epoch],
            subject=person.subject,
            metadata=allowed.kept.facts.record_metadata(group.n),
        )
        return codec.Payload(data, compressed=bool(header.flags & RecordFlags.ZSTD))

    # --- delivering it ---

    async def _use(self, person: Person, entries: Mapping[bytes, bytes]) -> bytes | None:
        return await self._lineage.use(
            person.subject,
            entries,
            ledger_length=person.ledger_length,
            erased_at=person.state.erased_at,
            keep_until=self._means.clock() + self._means.keep_ms,
        )

    async def _link(self, subject: SubjectTag) -> bytes:
        for _ in range(_MOST_TRIES):
            if (link := await self._use(await self._gate.person(subject), {})) is not None:
                return link
        raise StoreUnavailableError("the ledger of a person keeps changing; run the export again")

    async def _deliver(self, draft: _Draft) -> None:
        """Note what is used, and write it."""
        by_person: dict[SubjectTag, list[_Item]] = {}
        for item in draft.items:
            by_person.setdefault(item.subject, []).append(item)
        draft.items = [
            item for subject, own in by_person.items() for item in await self._settle(subject, own, draft)
        ]
        number = len(self._state.parts) + 1
        parts = self._state.parts
        if draft.until is not None:
            # By name, which tells nothing: the place in a file must not say who stands beside whom.
            items = sorted(draft.items, key=lambda item: item.row.id)
            part = Part(
                number=number,
                items=0,
                turns=draft.turns,
                left_out=dict(draft.left_out),
                redacted={},
                policies={},
                files=(),
                until=draft.until,
            )
            parts = (*parts, self._written(part, [(item.row, self._about(item)) for item in items]))
        self._save(parts=parts, is_walked=draft.is_last)

    async def _settle(self, subject: SubjectTag, own: list[_Item], draft: _Draft) -> list[_Item]:
        """Note what is used of one person, and return it; what has become forbidden meanwhile is not among it."""
        person = draft.people[subject]
        for _ in range(_MOST_TRIES):
            chosen: dict[TurnId, list[_Item]] = {}
            for item in own:
                chosen.setdefault(item.turn, []).append(item)
            entries = {
                entry_name(self._names.dataset, turn): Use.of(
                    items[0].allowed, person, [item.row.choice for item in items], at=self._state.at
                ).encode()
                for turn, items in chosen.items()
            }
            if not entries or await self._use(person, entries) is not None:
                return own
            person = await self._gate.person(subject)
            activity = await self._gate.activity(person)
            verdicts = {
                turn: await self._gate.judge_turn(turn, person, activity, at=self._state.at)
                for turn in chosen
            }
            for verdict in verdicts.values():
                if not isinstance(verdict, Allowed):
                    draft.left_out[verdict] += 1
            own = [item for item in own if isinstance(verdicts[item.turn], Allowed)]
        raise StoreUnavailableError("the ledger of a person keeps changing; run the export again")

    def _about(self, item: _Item) -> Item:
        receipt = item.allowed.receipt
        return Item(
            item=item.row.id,
            sha256=content_hash(item.row),
            receipt=None if receipt is None else self._names.receipt(receipt),
            policy=item.allowed.kept.note.policy,
            reason=item.allowed.reason,
            until=format_instant(item.allowed.until),
            redaction=self._state.redaction,
            redacted=dict(sorted(item.redacted.items())),
        )

    def _written(self, part: Part, rows: Sequence[tuple[Row, Item]]) -> Part:
        """Write the files of a part, and return it with what they are; one without items has none."""
        contents = {
            self._shard.data_file(part.number, self._state.form, again=part.again): write_rows(
                [row for row, _ in rows], self._state.form
            ),
            self._shard.items_file(part.number, again=part.again): lines(item for _, item in rows),
        }
        redacted: Counter[str] = Counter()
        for _, item in rows:
            redacted.update(item.redacted)
        if rows:
            for name, content in contents.items():
                self._files.write(name, content)
        return msgspec.structs.replace(
            part,
            items=len(rows),
            redacted=dict(redacted),
            policies=dict(Counter(item.policy for _, item in rows)),
            files=tuple(about(name, content, items=len(rows)) for name, content in contents.items() if rows),
        )

    def _save(self, *, parts: Sequence[Part], is_walked: bool) -> None:
        self._state = msgspec.structs.replace(self._state, parts=tuple(parts), is_walked=is_walked)
        self._files.write(state_name(self._shard), self._state.sign(self._means.signing_key()))

    # --- what has happened since ---

    async def _leave_out_what_was_overtaken(self) -> bool:
        """Take out what is not allowed any more; False: there is nothing.

        What is noted of it goes when it is out, so that who is interrupted comes here again.
        """
        refused: dict[bytes, str] = {}
        noted: dict[SubjectTag, list[bytes]] = {}
        async for subject in self._lineage.used():
            if self._is_wanted(subject):
                own, entries = await self._look_again(subject)
                refused |= own
                if entries:
                    noted[subject] = entries
        gone = {item async for item, _ in self._lineage.recalls(self._names.dataset)}
        recalled = (
            {item for part in self._state.parts for item in self._names_in(part)} & gone if gone else gone
        )
        refused |= dict.fromkeys(recalled, ERASED)
        if refused:
            self._take_out(refused)
        for subject, entries in noted.items():
            await self._lineage.forget_uses(subject, entries)
        await self._lineage.settle_recalls(self._names.dataset, dict.fromkeys(recalled))
        return bool(refused)

    async def _look_again(self, subject: SubjectTag) -> tuple[dict[bytes, str], list[bytes]]:
        """Return the items of one person that are not allowed any more, why, and what is noted of them."""
        uses = await self._lineage.uses(subject)
        own = {} if uses is None else uses_in(uses, self._names.dataset)
        if uses is None or not own:
            return {}, []
        person = await self._gate.person(subject)
        if person.fault is None and {use.ledger_length for use in own.values()} == {person.ledger_length}:
            return {}, []
        refused: dict[bytes, str] = {}
        entries: list[bytes] = []
        activity = await self._gate.activity(person)
        names = self._names.of_person(subject, uses.link)
        for turn, use in own.items():
            verdict = await self._gate.judge_turn(turn, person, activity, at=self._state.at)
            entry = entry_name(self._names.dataset, turn)
            if isinstance(verdict, Allowed):
                await self._use(person, {entry: use.seen(person.ledger_length).encode()})
            else:
                refused |= {names.item(turn, choice): verdict for choice in use.choices}
                entries.append(entry)
        return refused, entries

    def _names_in(self, part: Part) -> list[bytes]:
        return [read_item(item.item) for item in self._items(part)]

    def _items(self, part: Part) -> list[Item]:
        if not part.files:
            return []
        _, said = part.files
        return [msgspec.json.decode(line, type=Item) for line in self._unchanged(said).splitlines()]

    def _unchanged(self, file: File) -> bytes:
        """Return a file that this export has written. Raises ConflictError where it is not that any more."""
        data = self._files.read(file.name) or b""
        if not is_as_listed(file, data):
            raise ConflictError(
                f"{self._files.shown(file.name)} is not as it was written; begin in another place"
            )
        return data

    def _take_out(self, refused: Mapping[bytes, str]) -> None:
        """Write the parts again without what is refused."""
        names = {show_item(item): why for item, why in refused.items()}
        parts = list(self._state.parts)
        replaced: list[str] = []
        for at, part in enumerate(parts):
            items = self._items(part)
            left = [item for item in items if item.item not in names]
            if len(left) == len(items):
                continue
            rows = read_rows(self._unchanged(part.files[0]), self._state.form)
            left_out = Counter(part.left_out)
            left_out.update(names[item.item] for item in items if item.item in names)
            replaced += [file.name for file in part.files]
            parts[at] = self._written(
                msgspec.structs.replace(part, again=part.again + 1, left_out=dict(left_out)),
                list(zip([row for row in rows if row.id not in names], left, strict=True)),
            )
        self._save(parts=parts, is_walked=True)
        for name in replaced:
            self._files.remove(name)

    # --- the end ---

    def _finish(self) -> Manifest:
        state = self._state
        redacted: Counter[str] = Counter()
        policies: Counter[str] = Counter()
        left_out: Counter[str] = Counter()
        for part in state.parts:
            left_out.update(part.left_out)
            redacted.update(part.redacted)
            policies.update(part.policies)
        files = [file for part in state.parts for file in part.files]
        count = sum(part.items for part in state.parts)
        # What was written before a kill, and was not allowed any more when it was gone on with.
        self._files.keep_only({file.name for file in files}, of=self._shard.suffix)
        listed = lines(files)
        self._files.write(self._shard.files, listed)
        self._files.write(
            CARD,
            card(
                dataset=state.dataset,
                purpose=state.purpose,
                consumer=state.consumer,
                at=state.at,
                form=state.form,
                redaction=state.redaction,
            ),
        )
        manifest = Manifest(
            dataset=state.dataset,
            purpose=state.purpose,
            consumer=state.consumer,
            at=state.at,
            form=state.form,
            shard=self._shard,
            redaction=state.redaction,
            min_age_ms=state.min_age_ms,
            software=f"chatproxy {__version__}",
            items=count,
            turns=sum(part.turns for part in state.parts),
            left_out=left_out,
            redacted=redacted,
            policies=policies,
            files=about(self._shard.files, listed, items=count),
        )
        self._files.write(self._shard.manifest, manifest.sign(self._means.signing_key()))
        return manifest
