"""The page that answers "was I used": to whom it is about, in their language, and what was recalled of it."""

import re
from pathlib import Path

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice
from chatproxy.datasets.manifest import Manifest, Shard
from chatproxy.datasets.tables import Form
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.workflows.dataset_directory import DatasetDirectory
from chatproxy.workflows.export import Wish
from integration.proxy_fixtures import ANA, World
from integration.test_pages import BEN, FRENCH, visiting

ODD = 'team <b> & "co"'


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def exported(world: World, directory: Path, *, consumer: str = "ml", name: str = "out") -> Manifest:
    await world.kept()
    wish = Wish(purpose="capability", consumer=consumer, form=Form.JSONL, shard=Shard(), at=None)
    exporter = world.running.vault.exporter("capability", [])
    return await exporter.export(wish, DatasetDirectory(directory / name))


async def agreeing(world: World, *subjects: str) -> None:
    for subject in subjects:
        await world.choose(Choice.GIVEN, subject=subject, at=wall_clock() - 60_000)


async def test_each_use_is_told_to_whom_it_is_about_and_to_nobody_else(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store, export_min_age="0") as (world, ana):
        await agreeing(world, "ana")
        await world.chat("hello", who=ANA | {"x-chat-conversation": "one"})
        await world.chat("not used", who=BEN)
        assert "No conversation of yours is known to be in a dataset." in await ana.open("uses")

        manifest = await exported(world, tmp_path, consumer=ODD)
        said = await ana.open("uses")

        assert manifest.dataset in said
        assert ODD in said
        assert "<b>" not in ana.text
        assert "training of models" in said
        assert "1 message" in said
        assert "Nothing of it was recalled." in said
        [view] = await world.running.vault.person_desk.conversations(world.tag())
        assert f'href="/_chatproxy/conversations/{view.handle}"' in ana.text
        answer = await ana.client.get("/_chatproxy/uses", headers=BEN)
        assert answer.status_code == 200
        assert "No conversation of yours is known to be in a dataset." in answer.text
        assert manifest.dataset not in answer.text


async def test_what_was_recalled_is_told_with_whether_it_is_out(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store, language=FRENCH, export_min_age="0") as (world, ana):
        await agreeing(world, "ana", "ben")
        await world.chat("hello")
        await world.chat("hello", who=BEN)
        manifest = await exported(world, tmp_path)
        await world.choose(Choice.WITHDRAWN)
        recalls = world.running.vault.recalls()
        await recalls.look_at_everybody()

        said = await ana.open("uses")
        assert "1 message a été rappelé le" in said
        assert "Il n\N{RIGHT SINGLE QUOTATION MARK}a pas encore été confirmé" in said
        await recalls.acknowledge(bytes.fromhex(manifest.dataset[2:]), None)
        said = await ana.open("uses")
        assert "il a été confirmé que tout ce qui est rappelé est retiré" in said
        other = await ana.client.get("/_chatproxy/uses", headers=BEN)
        assert "Rien n\N{RIGHT SINGLE QUOTATION MARK}en a été rappelé." in other.text


async def test_what_is_deleted_or_gone_is_told_and_leads_nowhere(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store, export_min_age="0") as (world, ana):
        await agreeing(world, "ana")
        await world.chat("hello")
        await exported(world, tmp_path)
        desk = world.running.vault.person_desk
        [view] = await desk.conversations(world.tag())
        await desk.delete_conversation(world.tag(), view.handle, method="test")

        said = await ana.open("uses")

        assert "Conversation of" in said
        assert f"conversations/{view.handle}" not in ana.text


async def test_who_is_erased_is_told_what_somebody_unknown_is(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store, export_min_age="0") as (world, ana):
        await agreeing(world, "ana")
        await world.chat("hello")
        await exported(world, tmp_path)
        await world.running.vault.eraser.erase(world.tag(), by="test")

        erased = await ana.client.get("/_chatproxy/uses")
        unknown = await ana.client.get("/_chatproxy/uses", headers={"x-chat-subject": "nobody"})

        assert erased.text == unknown.text


async def test_the_latest_comes_first_and_many_come_in_pages(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store, export_min_age="0") as (world, ana):
        await agreeing(world, "ana")
        for number in range(11):
            await world.chat("hello", who=ANA | {"x-chat-conversation": f"c{number}"})
        first = await exported(world, tmp_path, name="first")
        second = await exported(world, tmp_path, name="second")

        said = await ana.open("uses")

        assert "Page 1 of 2" in said
        assert ana.text.count("<article") == 20
        assert said.index(second.dataset) < said.index(first.dataset)
        await ana.open("uses?page=2")
        assert ana.text.count("<article") == 2
        assert second.dataset not in ana.text


async def test_a_person_finds_it_where_they_look(tmp_path: Path, store: str) -> None:
    async with visiting(tmp_path, store) as (world, ana):
        await world.chat("hello")
        await world.kept()
        [view] = await world.running.vault.person_desk.conversations(world.tag())
        for path in ("", f"conversations/{view.handle}"):
            await ana.open(path)
            main = ana.text.partition("<main")[2]
            assert re.findall(r'href="/_chatproxy/uses">([^<]+)<', main) == [
                "Was I used? Which conversations went into datasets, and when"
            ]
        for path in ("conversations", "history", "copy"):
            await ana.open(path)
            assert 'href="/_chatproxy/uses"' in ana.text
            assert 'href="/_chatproxy/copy"' in ana.text
