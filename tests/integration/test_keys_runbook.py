"""Each step of docs/keys.md and docs/providers.md is a command that does what the page says."""

import asyncio
import shutil
from pathlib import Path

import pytest

from chatproxy.clock import wall_clock
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.workflows.rotate import Step
from integration.proxy_fixtures import World, a_world, chatting
from integration.rotation_fixtures import QUICK, a_quick_world, a_rotation, advance
from integration.runbooks import runbooks_of, walk
from integration.serve_process import environment, run
from integration.test_proxy_vault import TOKEN, a_vault
from simulators.backend import backend

RUNBOOKS = runbooks_of("keys.md")
STOPPED = "restore_embedded"
STARTS_AT = {"back": Step.RETIRED}
LEAVES_OLD_KEYS_DESTROYED = {"planned", "steps", "leaked"}
PROVIDERS = runbooks_of("providers.md")


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


def test_there_is_a_runbook_for_each_case() -> None:
    assert set(RUNBOOKS) == {
        "planned", "steps", "back", "away", "leaked", "leaked_part", "renew", "lost", "restore", "restore_embedded",
        "drills",
    }  # fmt: skip
    assert set(PROVIDERS) == {"to_vault", "to_file"}


@pytest.mark.parametrize("name", sorted(set(RUNBOOKS) - {STOPPED}))
async def test_a_runbook_can_be_walked(tmp_path: Path, store: str, name: str) -> None:
    async with a_quick_world(tmp_path, store) as world:
        await world.chat("before")
        await world.kept()
        if name in STARTS_AT:
            await advance(a_rotation(world.running.vault), STARTS_AT[name])
        env = environment(tmp_path, store=store, upstream=world.backend.url, **QUICK)
        for line in RUNBOOKS[name]:
            await walk(env, line)
        await world.chat("after")
        rows = await world.kept()
        assert len(rows) == 2
        assert len({row["key_version"] for row in rows}) == 1
        if name in LEAVES_OLD_KEYS_DESTROYED:
            async with asyncio.timeout(20):
                while (state := await a_rotation(world.running.vault).state()) is None or not state.is_over:
                    await walk(env, "chatproxy keys rotate")
        await everything_is_read(world, ["user: before", "assistant: reply 0"])


async def everything_is_read(world: World, *expected: list[str]) -> None:
    said = [await world.said(row["conversation"]) for row in await world.kept()]
    assert all(each in said for each in expected)


async def test_a_store_is_restored_by_its_runbook(tmp_path: Path) -> None:
    async with a_world(chatting(), tmp_path, "embedded") as world:
        await world.chat("before")
        await world.kept()
        world.running.vault.audit.append("test", {})
        assert (await run(environment(tmp_path), "backup", str(tmp_path / "backup"))).status == 0
    shutil.rmtree(tmp_path / "data" / "store")
    async with backend(chatting()) as behind:
        env = environment(tmp_path, upstream=behind.url, **QUICK)
        instead = {"/var/backups/chatproxy": str(tmp_path / "backup")}
        for line in RUNBOOKS[STOPPED]:
            await walk(env, line, instead=instead, in_process=False)
    async with a_world(chatting(), tmp_path, "embedded") as world:
        await everything_is_read(world, ["user: before", "assistant: reply 0"])


async def test_the_keyset_moves_to_a_vault_and_back_by_its_runbooks(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_vault(tmp_path, store) as (_, settings), backend(chatting()) as behind:
        await connections.ask([["FLUSHALL"]])
        env = environment(tmp_path, store=store, keyset_token=TOKEN, upstream=behind.url, **QUICK)
        instead = {
            "transit:https://vault.internal:8200/transit/chatproxy": settings["keyset"],
            "/etc/chatproxy/new/keyset": str(tmp_path / "new" / "keyset"),
        }
        async with a_world(chatting(), tmp_path, store) as world:
            await world.chat("before")
            await world.kept()
            for line in PROVIDERS["to_vault"]:
                await walk(env, line, instead=instead)
        async with a_world(chatting(), tmp_path, store, clock=wall_clock, **settings, **QUICK) as world:
            await everything_is_read(world, ["user: before", "assistant: reply 0"])
            await advance(a_rotation(world.running.vault), Step.DESTROYED)
        in_vault = environment(tmp_path, store=store, upstream=behind.url, **settings, **QUICK)
        for line in PROVIDERS["to_file"]:
            await walk(in_vault, line, instead=instead)
        keyset = f"file:{tmp_path / 'new' / 'keyset'}"
        async with a_world(chatting(), tmp_path, store, clock=wall_clock, keyset=keyset, **QUICK) as world:
            await advance(a_rotation(world.running.vault), Step.DESTROYED)
            await everything_is_read(world, ["user: before", "assistant: reply 0"])
