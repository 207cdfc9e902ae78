"""A dataset of what may be used for a purpose, and of nothing else (R26 to R29, R36, R43).

1. People come in an order of the dataset's own, their turns by time. Each turn is decided on again
   (``chatproxy.workflows.export_gate``), opened in memory alone, and redacted.
2. Items are delivered a part at a time. Before a part is written, its turns are noted as used, person by person, in one
   step with the question whether anything has happened to that person since: if so, those turns are decided on anew.
3. At the end everybody is looked at once more. Of whom something has happened since, what is no longer allowed is taken
   out of the parts again, before the manifest is signed. What happens after that is recalled.
4. Parts are written whole, and what is done is noted after each: who is interrupted goes on where they were. The instant
   is fixed at the start, and so is the order: the same instant gives the same bytes.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from chatproxy.crypto.dataset_names import DatasetNames, show_dataset
from chatproxy.datasets.manifest import Manifest, Shard, read_manifest
from chatproxy.datasets.tables import Form
from chatproxy.errors import ConfigurationError, ConflictError, UndecryptableError
from chatproxy.ports import DatasetFiles
from chatproxy.workflows.export_run import ExportRun, Means, Progress
from chatproxy.workflows.export_state import State, read_state, state_name
from chatproxy.workflows.lineage import About, dataset_names


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be exported."""

    purpose: str
    consumer: str
    form: Form
    shard: Shard
    at: int | None
    """The instant, ms; None: that of the export which is gone on with, or now."""


class Exporter:
    """Makes datasets."""

    def __init__(self, means: Means) -> None:
        self._means = means

    async def export(
        self, wish: Wish, files: DatasetFiles, *, told: Callable[[Progress], None] = lambda _: None
    ) -> Manifest:
        """Make one shard of a dataset, or go on with it. Told of progress after each part.

        Raises ConfigurationError, ConflictError where something else is there, StoreUnavailableError,
        AuditUnavailableError.
        """
        files.make()
        if (signed := files.read(wish.shard.manifest)) is not None:
            return await self._signed_already(signed, wish, files)
        state, names = self._begin(wish, files)
        # First, so that nothing is noted where nothing can be written; and so that the instant stands.
        files.write(state_name(wish.shard), state.sign(self._means.signing_key()))
        run = ExportRun(self._means, state, names, files, told)
        details: dict[str, str | int | bool] = {
            "dataset": state.dataset,
            "purpose": state.purpose,
            "consumer": state.consumer,
            "shard": wish.shard.suffix,
            "exported_at": state.at,
        }
        await asyncio.to_thread(self._means.audit.append, "dataset.export", details)
        known = About(
            dataset=state.dataset,
            purpose=state.purpose,
            consumer=state.consumer,
            at=state.at,
            min_age_ms=state.min_age_ms,
            redaction=state.redaction,
        )
        await self._means.lineage.add_dataset(names.dataset, msgspec.json.encode(known))
        manifest = await run.all()
        await self._end(manifest, wish, files)
        return manifest

    async def _end(self, manifest: Manifest, wish: Wish, files: DatasetFiles) -> None:
        details: dict[str, str | int | bool] = {
            "dataset": manifest.dataset,
            "purpose": manifest.purpose,
            "consumer": manifest.consumer,
            "shard": wish.shard.suffix,
            "exported_at": manifest.at,
            "items": manifest.items,
            "turns": manifest.turns,
            "files": manifest.files.sha256,
        }
        await asyncio.to_thread(self._means.audit.append, "dataset.exported", details)
        files.remove(state_name(wish.shard))

    async def _signed_already(self, signed: bytes, wish: Wish, files: DatasetFiles) -> Manifest:
        """End an export that was broken off behind its manifest: from then on nothing is taken out, but recalled."""
        held = ConflictError(f"{files.shown()} holds this shard already; give another place")
        if files.read(state_name(wish.shard)) is None:
            raise held
        try:
            manifest = read_manifest(signed, publics=self._means.signing_publics())
        except (UndecryptableError, ValueError):
            raise held from None
        asked = (wish.purpose, wish.consumer, wish.form, manifest.at if wish.at is None else wish.at)
        if asked != (manifest.purpose, manifest.consumer, manifest.form, manifest.at):
            raise held
        await self._end(manifest, wish, files)
        return manifest

    def _begin(self, wish: Wish, files: DatasetFiles) -> tuple[State, DatasetNames]:
        found = files.read(state_name(wish.shard))
        at = self._means.clock() if wish.at is None else wish.at
        state: State | None = None
        if found is not None:
            try:
                state = read_state(found, self._means.signing_publics())
            except UndecryptableError:
                raise ConflictError(
                    f"{files.shown(state_name(wish.shard))} is not as it was written; begin in another place"
                ) from None
            at = state.at if wish.at is None else wish.at
        if at > self._means.clock():
            raise ConfigurationError("the instant of an export must not lie in the future")
        names = dataset_names(
            self._means.pseudonyms,
            purpose=wish.purpose,
            consumer=wish.consumer,
            at=at,
            redaction=self._means.redactor.profile,
            min_age_ms=self._means.min_age_ms,
        )
        fresh = State(
            dataset=show_dataset(names.dataset),
            purpose=wish.purpose,
            consumer=wish.consumer,
            at=at,
            form=wish.form,
            shard=(wish.shard.number, wish.shard.of),
            redaction=self._means.redactor.profile,
            min_age_ms=self._means.min_age_ms,
        )
        if state is None:
            return fresh, names
        if msgspec.structs.replace(state, parts=(), is_walked=False) != fresh:
            raise ConflictError(
                f"{files.shown()} holds an export that was begun otherwise (purpose, consumer, instant, format or settings); "
                "repeat it as it was begun, or give another place"
            )
        return state, names
