"""Is a dataset what its manifest says, and was every item allowed? Nothing is changed.

1. With the files and a public key alone: manifests are signed and fit together, every file is the one that is listed and
   none is beside them, every item has the content that its line says, once.
2. With the store: each item is led back to its turn, and decided again with as much of the ledger as the decision had
   seen. Of who was erased nothing can be led back: their items are recalled, and counted as such.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from chatproxy.consent.events import read_ledger
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.annotation import AnnotationKeys
from chatproxy.crypto.dataset_names import DatasetNames, read_item
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.datasets.manifest import File, Item, Manifest, is_as_listed, is_manifest, read_manifest
from chatproxy.datasets.tables import Form, content_hash, read_rows
from chatproxy.errors import UndecryptableError
from chatproxy.model import SubjectTag, TurnId
from chatproxy.policy.instants import parse_instant
from chatproxy.policy.versions import PolicyVersion
from chatproxy.ports import DatasetFiles, LineageStore, TranscriptStore
from chatproxy.workflows.export_gate import GROUNDS
from chatproxy.workflows.lineage import About, Use, uses_in
from chatproxy.workflows.policies import Policies
from chatproxy.workflows.verdict import Activity, Kept


@dataclass(frozen=True, slots=True)
class DatasetFault:
    """Something that is not as the manifest says. ``reason``: a code of docs/datasets.md."""

    reason: str
    where: str


@dataclass(slots=True)
class Looked:
    """What was looked at."""

    files: int = 0
    items: int = 0
    proved: int = 0
    """Items of which the store shows that they were allowed."""
    unproved: int = 0
    """Items whose turn has gone since, or of which nothing is known any more."""
    names: dict[bytes, str] = field(default_factory=dict)
    """Every item, and the file it is in."""


class FilesVerifier:
    """Looks at the files alone."""

    def __init__(self, files: DatasetFiles, publics: Sequence[bytes]) -> None:
        self._files = files
        self._publics = tuple(publics)
        self.looked = Looked()
        self.manifests: list[Manifest] = []

    def faults(self) -> Iterator[DatasetFault]:
        """Yield what is not as the manifests say. Raises ConfigurationError where a file cannot be read."""
        names = list(self._files.names())
        listed = {"README.md"}
        for name in filter(is_manifest, names):
            listed.add(name)
            try:
                manifest = read_manifest(self._files.read(name) or b"", publics=self._publics)
            except UndecryptableError as error:
                yield DatasetFault(error.reason, name)
                continue
            except ValueError:
                yield DatasetFault("manifest_format", name)
                continue
            if manifest.shard.manifest != name:
                yield DatasetFault("manifest_name", name)
            self.manifests.append(manifest)
            listed |= {manifest.files.name}
            yield from self._of_manifest(manifest, listed)
        yield from self._of_all()
        for name in names:
            if name not in listed and self.manifests:
                yield DatasetFault("unlisted_file", name)

    def _of_all(self) -> Iterator[DatasetFault]:
        if not self.manifests:
            yield DatasetFault("no_manifest", ".")
            return
        first = self.manifests[0]
        for manifest in self.manifests[1:]:
            if (manifest.dataset, manifest.shard.of) != (first.dataset, first.shard.of):
                yield DatasetFault("another_dataset", manifest.shard.manifest)
        missing = set(range(1, first.shard.of + 1)) - {manifest.shard.number for manifest in self.manifests}
        for number in sorted(missing):
            yield DatasetFault("shard_missing", f"{number:04d}-of-{first.shard.of:04d}")

    def _of_manifest(self, manifest: Manifest, listed: set[str]) -> Iterator[DatasetFault]:
        data = self._same(manifest.files)
        if data is None:
            yield DatasetFault("file_hash", manifest.files.name)
            return
        files = [msgspec.json.decode(line, type=File) for line in data.splitlines()]
        listed |= {file.name for file in files}
        count = 0
        for of_data, of_items in zip(files[0::2], files[1::2], strict=True):
            rows_file, items_file = self._same(of_data), self._same(of_items)
            self.looked.files += 2
            if rows_file is None:
                yield DatasetFault("file_hash", of_data.name)
            if items_file is None:
                yield DatasetFault("file_hash", of_items.name)
            if rows_file is None or items_file is None:
                continue
            count += of_data.items
            yield from self._of_part(manifest, of_data, rows_file, items_file)
        if count != manifest.items:
            yield DatasetFault("items_missing", manifest.shard.manifest)

    def _of_part(
        self, manifest: Manifest, file: File, rows_file: bytes, items_file: bytes
    ) -> Iterator[DatasetFault]:
        try:
            rows = read_rows(rows_file, Form(manifest.form))
            items = [msgspec.json.decode(line, type=Item) for line in items_file.splitlines()]
        except (ValueError, msgspec.MsgspecError):
            yield DatasetFault("file_format", file.name)
            return
        if [row.id for row in rows] != [item.item for item in items] or len(rows) != file.items:
            yield DatasetFault("items_differ", file.name)
            return
        for row, item in zip(rows, items, strict=True):
            self.looked.items += 1
            name = read_item(item.item)
            if name in self.looked.names:
                yield DatasetFault("item_twice", row.id)
            self.looked.names[name] = file.name
            if content_hash(row) != item.sha256:
                yield DatasetFault("content_hash", row.id)
            if (
                item.policy not in manifest.policies
                or item.redaction != manifest.redaction
                or _is_over(item.until, manifest.at)
                or (manifest.purpose == "capability" and item.receipt is None)
            ):
                yield DatasetFault("item_unfounded", row.id)

    def _same(self, file: File) -> bytes | None:
        """Return a file if it is the one that is listed."""
        data = self._files.read(file.name)
        return data if data is not None and is_as_listed(file, data) else None


def _is_over(until: str, at: int) -> bool:
    """Whether *until*, as an item has it, had come at *at*. What is no instant never allowed anything."""
    try:
        return parse_instant(until) <= at
    except ValueError:
        return True


class LineageVerifier:
    """Leads items back to their turns."""

    def __init__(
        self,
        store: TranscriptStore,
        lineage: LineageStore,
        annotation_keys: AnnotationKeys,
        policies: Policies,
        pseudonyms: Pseudonymizer,
        *,
        versions: Sequence[PolicyVersion] = (),
    ) -> None:
        self._store = store
        self._lineage = lineage
        self._keys = annotation_keys
        self._policies = policies
        self._pseudonyms = pseudonyms
        self._versions = tuple(versions)

    async def faults(self, manifest: Manifest, looked: Looked) -> list[DatasetFault]:
        """Return the items that were not allowed; counts the others in *looked*. Raises StoreUnavailableError."""
        about = About(
            dataset=manifest.dataset,
            purpose=manifest.purpose,
            consumer=manifest.consumer,
            at=manifest.at,
            min_age_ms=manifest.min_age_ms,
            redaction=manifest.redaction,
        )
        names = about.names(self._pseudonyms)
        refused: set[bytes] = set()
        proved: set[bytes] = set()
        async for subject in self._lineage.used():
            await self._of_person(subject, manifest, names, looked.names, proved, refused)
        looked.proved = len(proved)
        looked.unproved = len(looked.names) - len(proved) - len(refused)
        return [DatasetFault("not_allowed", "i_" + item.hex()) for item in sorted(refused)]

    async def _of_person(
        self,
        subject: SubjectTag,
        manifest: Manifest,
        names: DatasetNames,
        held: Iterable[bytes],
        proved: set[bytes],
        refused: set[bytes],
    ) -> None:
        uses = await self._lineage.uses(subject)
        own = {} if uses is None else uses_in(uses, names.dataset)
        if uses is None or not own:
            return
        of_person = names.of_person(subject, uses.link)
        state = await self._store.subject_state(subject)
        try:
            events = read_ledger(state.ledger, subject=subject, keys=self._keys)
        except UndecryptableError:
            return
        times = Activity(PersonFacts(events, self._versions))
        async for stored in self._store.annotations(subject):
            try:
                kept = Kept.of(stored, self._keys)
            except UndecryptableError:
                continue
            times.learn(kept.facts.conversation_tag, kept.facts.received_at)
        for turn, use in own.items():
            verdict = await self._was_allowed(
                subject, turn, use, manifest, PersonFacts(events[: use.decided_length], self._versions), times
            )
            items = {of_person.item(turn, choice) for choice in use.choices}.intersection(held)
            if verdict is not None:
                (proved if verdict else refused).update(items)

    async def _was_allowed(
        self,
        subject: SubjectTag,
        turn: TurnId,
        use: Use,
        manifest: Manifest,
        then: PersonFacts,
        times: Activity,
    ) -> bool | None:
        """Return whether a turn was allowed when it was delivered; None: it has gone since."""
        stored = await self._store.turn(subject, turn)
        if stored is None:
            return None
        try:
            kept = Kept.of(stored, self._keys)
            policy = await self._policies.get(use.policy)
        except UndecryptableError:
            return None
        decided = kept.to_decide(then, times.times(kept.facts.conversation_tag))
        ground = GROUNDS[manifest.purpose]
        return kept.facts.received_at + manifest.min_age_ms <= manifest.at and any(
            getattr(decision, f"eligible_{manifest.purpose}")
            and decision.grounds.get(ground, 0) > manifest.at
            for group in kept.note.groups
            for decision in [policy.decide_part(decided, part=group.part, now=manifest.at, person=then)]
        )
