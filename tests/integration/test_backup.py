"""What an old backup still has does not come back: not by restoring it, and not by the keys of today (F1, F-49)."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice, FactKind, Scope
from chatproxy.demo.old_backup import read_old_backup
from chatproxy.errors import StoreRefusedError
from chatproxy.model import ConversationTag, SubjectTag
from chatproxy.policy.instants import format_instant
from chatproxy.settings import load_settings
from chatproxy.store.backup import lay_down
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.telemetry import Metrics
from chatproxy.vault import Vault, open_vault
from chatproxy.workflows.rotate import Step
from integration.proxy_fixtures import DAY, World, a_world, chatting
from integration.rotation_fixtures import a_rotation, advance
from integration.serve_process import Finished, call, environment, run


def who(name: str, conversation: str) -> dict[str, str]:
    return {"x-chat-subject": name, "x-chat-plan": "pro", "x-chat-conversation": conversation}


def named(vault: Vault, name: str, conversation: str) -> tuple[SubjectTag, ConversationTag]:
    return (
        vault.pseudonyms.subject_tag(tenant="default", subject=name),
        vault.pseudonyms.conversation_tag(tenant="default", subject=name, conversation=conversation),
    )


async def delete(vault: Vault, name: str, conversation: str) -> None:
    subject, tag = named(vault, name, conversation)
    await vault.ledger.note(
        subject,
        FactKind.CONVERSATION_DELETED,
        at=wall_clock(),
        by="test",
        method="test",
        scope=Scope(conversation=tag),
    )


@asynccontextmanager
async def four_people(tmp_path: Path) -> AsyncIterator[World]:
    """Who all agreed: Ana (to be erased), Bea (deletes one of two), Carl (withdraws), Dan (nothing happens)."""
    async with a_world(chatting(lambda _: "reply"), tmp_path, "embedded") as world:
        for name in ("ana", "bea", "carl", "dan"):
            await world.choose(Choice.GIVEN, subject=name)
            await world.chat(f"{name} one", who=who(name, "one"))
            await world.chat(f"{name} two", who=who(name, "two"))
        assert len(await world.kept()) == 8
        yield world


async def back_up(tmp_path: Path) -> Path:
    """Back up beside the running proxy."""
    done = await run(environment(tmp_path), "backup", str(tmp_path / "backup"), "--json")
    assert done.status == 0, done.err
    return tmp_path / "backup"


async def said(tmp_path: Path, name: str, conversation: str) -> Finished:
    return await run(
        environment(tmp_path),
        "transcripts", "show", conversation, "--subject", name, "--purpose", "service", "--json",
    )  # fmt: skip


async def test_a_restored_store_knows_who_was_erased_and_what_was_deleted_since(tmp_path: Path) -> None:
    async with four_people(tmp_path) as world:
        vault = world.running.vault
        copy = await back_up(tmp_path)
        assert await vault.eraser.erase(world.tag("ana"), by="test") is not None
        await delete(vault, "bea", "one")
        await world.choose(Choice.WITHDRAWN, subject="carl")
        await world.decided_again()
    shutil.rmtree(tmp_path / "data" / "store")
    restored = await run(environment(tmp_path), "restore", str(copy), "--json")
    assert restored.status == 0, restored.err
    assert {name: restored.rows()[0][name] for name in ("erased", "events")} == {"erased": 1, "events": 2}
    settings = load_settings({}, overrides=_overrides(tmp_path)).settings
    async with open_vault(settings) as vault:
        ana, _ = named(vault, "ana", "one")
        assert [turn async for turn in vault.store.annotations(ana)] == []
        assert (await vault.store.subject_state(ana)).wraps == {}
        carl, _ = named(vault, "carl", "one")
        rows = [turn async for turn in vault.transcripts.walk(subject=carl)]
        assert {group.eligible.capability for turn in rows for group in turn.note.groups} == {False}  # type: ignore[union-attr]
    assert (await said(tmp_path, "ana", "one")).status == 1
    assert (await said(tmp_path, "bea", "one")).status == 1
    assert "bea two" in (await said(tmp_path, "bea", "two")).out
    assert "dan one" in (await said(tmp_path, "dan", "one")).out
    audit = await run(environment(tmp_path), "audit", "verify", "--offline")
    assert audit.status == 0, audit.out
    # What was decided since on what was brought back does not count as put back by somebody.
    log = (tmp_path / "data" / "audit" / "audit.jsonl").read_text()
    assert "annotations.changed" in log
    whole = await run(environment(tmp_path), "transcripts", "verify")
    assert whole.status == 0, whole.out


async def test_nothing_opens_a_restored_store_before_it_is_up_to_date(tmp_path: Path) -> None:
    async with four_people(tmp_path):
        copy = await back_up(tmp_path)
    shutil.rmtree(tmp_path / "data" / "store")
    lay_down(copy, tmp_path / "data" / "store")  # and then the power fails
    settings = load_settings({}, overrides=_overrides(tmp_path)).settings
    with pytest.raises(StoreRefusedError, match="chatproxy restore"):
        async with open_vault(settings):
            pass
    refused = await said(tmp_path, "dan", "one")
    assert (refused.status, "restored from a backup" in refused.err) == (1, True)
    again = await run(environment(tmp_path), "restore", str(copy))
    assert again.status == 0, again.err
    assert "dan one" in (await said(tmp_path, "dan", "one")).out


async def test_a_restore_does_not_overwrite_and_takes_no_damaged_or_forgetful_backup(tmp_path: Path) -> None:
    async with four_people(tmp_path):
        copy = await back_up(tmp_path)
    env = environment(tmp_path)
    assert "move the directory away" in (await run(env, "restore", str(copy))).err
    shutil.rmtree(tmp_path / "data" / "store")
    shutil.move(tmp_path / "data" / "audit", tmp_path / "audit")
    assert "audit log" in (await run(env, "restore", str(copy))).err
    [file] = copy.glob("appendonlydir/*.incr.aof")
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    refused = await run(env, "restore", str(copy), "--log", str(tmp_path / "audit" / "audit.jsonl"))
    assert (refused.status, "not as it was backed up" in refused.err) == (1, True)
    assert not (tmp_path / "data" / "store" / "appendonlydir").exists()
    assert (await run(env, "backup", str(copy))).status == 1


async def test_after_the_horizon_an_old_backup_and_all_keys_of_now_open_nothing_that_is_to_be_gone(
    tmp_path: Path,
) -> None:
    """F1, for an erasure, a deletion, a withdrawal and an expiry, with a rotation of root and KEK to its end."""
    async with four_people(tmp_path) as world:
        vault = world.running.vault
        await world.chat(
            "eve one", who=who("eve", "one")
        )  # has not agreed: ends in 30 days, not in five years
        assert len(await world.kept()) == 9
        copy = await back_up(tmp_path)
        everything = await readable(copy, vault)
        assert len(everything) == 9
        assert await vault.eraser.erase(world.tag("ana"), by="test") is not None
        await delete(vault, "bea", "one")
        await world.choose(Choice.WITHDRAWN, subject="carl")
        await world.decided_again()
        for name in ("bea", "carl"):
            await vault.roller.roll(world.tag(name))
        # Destroying keys of people is not enough: the backup has its own wraps of them, and the ring to open those.
        assert await readable(copy, vault) == everything
        await advance(a_rotation(vault), Step.DESTROYED)
        assert await readable(copy, vault) == {"dan one", "dan two", "eve one"}
        # When a day is over its key goes, and no copy of what ended on it opens.
        reaper, later = vault.reaper(Metrics()), wall_clock() + 34 * DAY
        for hour in range(4):
            await reaper.destroy_epoch(later + hour * 3_600_000)
        assert await readable(copy, vault) == {"dan one", "dan two"}
        # What was to stay goes on in the store of now.
        for name, kept in (("bea", "two"), ("dan", "one")):
            handle = vault.pseudonyms.conversation_handle(*named(vault, name, kept))
            opened = await world.said(handle, purpose="capability")
            assert opened == [f"user: {name} {kept}", "assistant: reply"]


async def test_what_expired_since_is_gone_from_a_backup_only_when_its_own_keys_are(tmp_path: Path) -> None:
    async with four_people(tmp_path) as world:
        vault = world.running.vault
        copy = await back_up(tmp_path)
        everything = await readable(copy, vault)
        await vault.store.connections.ask([["DEL", "cp:{epoch}:k"]])
        assert await readable(copy, vault) == everything
        await advance(a_rotation(vault), Step.DESTROYED)
        assert await readable(copy, vault) == set()


async def readable(copy: Path, today: Vault) -> set[str]:
    """Return whose conversations in a backup open with its own keys and those of *today*."""
    old = await read_old_backup(copy, today, scratch=copy.with_name("scratch"))
    names = {
        named(today, name, conversation): f"{name} {conversation}"
        for name in ("ana", "bea", "carl", "dan", "eve")
        for conversation in ("one", "two")
    }
    return {names[place] for place in old.readable}


def _overrides(tmp_path: Path) -> dict[str, str]:
    env = environment(tmp_path)
    return {name.removeprefix("CHATPROXY_").lower(): value for name, value in env.items()}


async def test_nothing_of_an_erased_person_is_left_in_the_files_of_the_embedded_store(tmp_path: Path) -> None:
    async with four_people(tmp_path) as world:
        vault, tag = world.running.vault, world.tag("ana")
        blobs = [
            blob
            async for row in vault.store.annotations(tag)
            for blob in await vault.store.records(tag, row.turn, [0])
            if blob is not None
        ]
        assert len(blobs) == 2
        assert all(is_in_files(tmp_path, blob) for blob in blobs)
        assert await vault.eraser.erase(tag, by="test") is not None
        assert not any(is_in_files(tmp_path, blob) for blob in blobs)


def is_in_files(tmp_path: Path, blob: bytes) -> bool:
    files = (tmp_path / "data" / "store" / "appendonlydir").iterdir()
    return any(blob[36:60] in path.read_bytes() for path in files)


async def test_a_server_that_was_restored_by_its_own_means_is_brought_up_to_date(
    tmp_path: Path, server: EmbeddedServer, connections: Connections
) -> None:
    env = environment(tmp_path, store=server.url)
    async with a_world(chatting(), tmp_path, server.url) as world:
        await world.choose(Choice.GIVEN)
        await world.chat("hello", who=who("ana", "one"))
        await world.kept()
        [names] = await connections.ask([["KEYS", f"cp:{{{world.tag().hex()}}}:*"]])
        saved = dict(zip(names, await connections.ask([["DUMP", name] for name in names]), strict=True))
        since = format_instant(wall_clock())
        done = await call(env, "subject", "erase", "ana", "--yes")
        assert done.status == 0, done.err
    for name, value in saved.items():
        await connections.ask([["RESTORE", name, wall_clock() + 86_400_000, value, "REPLACE", "ABSTTL"]])
    restored = await call(env, "restore", "--since", since, "--json")
    assert restored.status == 0, restored.err
    assert restored.rows()[0]["erased"] == 1
    assert (await call(env, "transcripts", "list", "--json")).rows() == []
    assert (await call(env, "restore", "--since", "yesterday")).status == 2
    assert (await call(env, "restore")).status == 2
    assert (await call(env, "backup", str(tmp_path / "b"))).status == 2
