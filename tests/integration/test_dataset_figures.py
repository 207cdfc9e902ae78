"""What the controller's records and a person's archive say of datasets is what was exported. Against a real store."""

from pathlib import Path

import pytest

from chatproxy.consent.events import Choice
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.workflows.access_reads import AccessReads
from chatproxy.workflows.dataset_figures import dataset_figures
from integration.dataset_fixtures import Archive, an_archive, said


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def a_town(archive: Archive) -> None:
    """Ana has said three things in two conversations, one with two answers, and Ben one; both have agreed."""
    for name in ("ana", "ben"):
        await archive.choose(name, Choice.GIVEN, days_ago=20)
    await archive.keep("ana", said("one"), days_ago=12)
    await archive.keep("ana", said("two", ["this", "that"]), days_ago=11)
    await archive.keep("ana", said("three"), days_ago=10, conversation="d")
    await archive.keep("ben", said("four"), days_ago=9)


async def test_the_figures_of_a_dataset_are_what_went_into_it(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        await a_town(archive)
        exported = await archive.export(consumer="team-a")
        lineage = archive.vault.lineage
        [before] = await dataset_figures(lineage)
        await archive.vault.eraser.erase(archive.tag("ben"), by="test")
        await archive.choose("ana", Choice.WITHDRAWN)
        await archive.vault.recalls().look_at_everybody()
        [after] = await dataset_figures(lineage)

    manifest = exported.manifest
    assert (before.dataset, before.purpose, before.consumer, before.at, before.redaction) == (
        manifest.dataset, "capability", "team-a", manifest.at, manifest.redaction,
    )  # fmt: skip
    assert before.items == manifest.items == 5
    assert (before.turns, before.people, before.conversations, before.recalled) == (4, 2, 3, 0)
    assert before.first_received_at is not None
    assert before.last_received_at is not None
    days = (before.last_received_at - before.first_received_at) / 86_400_000
    assert days == pytest.approx(3, abs=0.01)
    assert (after.items, after.turns, after.people, after.recalled) == (5, 3, 1, 5)


async def test_a_person_is_told_which_conversations_of_theirs_were_used(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        await a_town(archive)
        exported = await archive.export(consumer="team-a")
        desk = archive.vault.access_desk(lambda code: {"en": code})
        access = await desk.open(archive.tag("ana"), AccessReads([]), tells_holds=True)
        assert access is not None
        lines = [line async for line in access.lines()]

    turns = {line["conversation"]: line["turns"] for line in lines if line["kind"] == "conversation"}
    used = [line for line in lines if line["kind"] == "dataset"]
    assert {line["conversation"]: line["turns"] for line in used} == turns
    assert sorted(turns.values()) == [1, 2]
    assert {(line["dataset"], line["consumer"]) for line in used} == {(exported.manifest.dataset, "team-a")}


async def test_without_datasets_there_are_no_figures(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        assert list(await dataset_figures(archive.vault.lineage)) == []
