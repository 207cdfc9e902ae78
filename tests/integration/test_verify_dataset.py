"""A dataset is checked to the content of each item, and led back to what permitted it, even where a key was misused."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from chatproxy.consent.events import Choice
from chatproxy.datasets.manifest import File, Item, about, lines
from chatproxy.datasets.rows import Row
from chatproxy.datasets.tables import Form, read_rows, write_rows
from chatproxy.policy.instants import format_instant
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.workflows.lineage import Use
from chatproxy.workflows.verify_dataset import FilesVerifier
from integration.dataset_fixtures import Archive, Exported, an_archive, said

DATA, ITEMS = "data/part-0001-of-0001-00001.jsonl", "items/part-0001-of-0001-00001.jsonl"


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def an_export(archive: Archive) -> Exported:
    await archive.choose("ana", Choice.GIVEN, days_ago=40)
    await archive.keep_all("ana", [said("one"), said("two")], days_ago=10)
    return await archive.export()


def forge(
    archive: Archive, exported: Exported, rows: list[Row], items: list[Item], *, count: int = 2
) -> None:
    """Write a dataset anew, as who has the key could."""
    write = exported.directory.write
    write(DATA, write_rows(rows, Form.JSONL))
    write(ITEMS, lines(items))
    files: list[File] = [
        about(name, exported.directory.read(name) or b"", items=len(rows)) for name in (DATA, ITEMS)
    ]
    listed = lines(files)
    manifest = exported.manifest
    write(manifest.shard.files, listed)
    forged = replace(manifest, files=about(manifest.shard.files, listed, items=count), items=count)
    write(manifest.shard.manifest, forged.sign(archive.vault.keyset.signing_key()))


def found(archive: Archive, exported: Exported) -> set[str]:
    verifier = FilesVerifier(exported.directory, archive.vault.keyset.signing_publics())
    return {fault.reason for fault in verifier.faults()}


@pytest.mark.parametrize(
    "what, fault",
    [
        ("nothing", None),
        ("content", "content_hash"),
        ("twice", "item_twice"),
        ("order", "items_differ"),
        ("no receipt", "item_unfounded"),
        ("over", "item_unfounded"),
        ("just over", "item_unfounded"),
        ("never over", "item_unfounded"),
        ("policy", "item_unfounded"),
        ("count", "items_missing"),
    ],
    ids=str,
)
async def test_what_does_not_fit_is_found_though_it_is_signed(
    what: str, fault: str | None, tmp_path: Path, store: str
) -> None:
    async with an_archive(tmp_path, store) as archive:
        exported = await an_export(archive)
        rows, items = read_rows(exported.directory.read(DATA) or b"", Form.JSONL), exported.items()
        change = msgspec.structs.replace
        match what:
            case "content":
                rows[0] = change(rows[0], model="another")
            case "twice":
                rows[1], items[1] = rows[0], items[0]
            case "order":
                items.reverse()
            case "no receipt":
                items[0] = change(items[0], receipt=None)
            case "over":
                items[0] = change(items[0], until="2020-01-01T00:00:00Z")
            case "just over":
                at = exported.manifest.at
                items[0] = change(items[0], until=format_instant(at - at % 1000))
            case "never over":
                items[0] = change(items[0], until="never")
            case "policy":
                items[0] = change(items[0], policy="x")
        forge(archive, exported, rows, items, count=3 if what == "count" else 2)
        assert found(archive, exported) == (set() if fault is None else {fault})


async def test_an_item_that_was_not_allowed_is_found(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        exported = await an_export(archive)
        verifier = FilesVerifier(exported.directory, archive.vault.keyset.signing_publics())
        assert list(verifier.faults()) == []
        lineage, ana = archive.vault.lineage, archive.tag("ana")
        assert await archive.vault.lineage_verifier.faults(exported.manifest, verifier.looked) == []
        assert (verifier.looked.proved, verifier.looked.unproved) == (2, 0)
        uses = await lineage.uses(ana)
        assert uses is not None
        [(entry, what), *_] = uses.entries.items()
        forged = msgspec.structs.replace(Use.decode(what), decided_length=0)
        await lineage.use(ana, {entry: forged.encode()}, ledger_length=1, erased_at=None, keep_until=0)
        faults = await archive.vault.lineage_verifier.faults(exported.manifest, verifier.looked)
        assert [fault.reason for fault in faults] == ["not_allowed"]
        assert verifier.looked.proved == 1


async def test_a_withdrawal_since_does_not_make_the_past_wrong(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        exported = await an_export(archive)
        await archive.choose("ana", Choice.WITHDRAWN)
        await archive.decided_again("ana")
        verifier = FilesVerifier(exported.directory, archive.vault.keyset.signing_publics())
        assert list(verifier.faults()) == []
        assert await archive.vault.lineage_verifier.faults(exported.manifest, verifier.looked) == []
        assert verifier.looked.proved == 2
        await archive.vault.eraser.erase(archive.tag("ana"), by="test")
        assert await archive.vault.lineage_verifier.faults(exported.manifest, verifier.looked) == []
        assert (verifier.looked.proved, verifier.looked.unproved) == (0, 2)
