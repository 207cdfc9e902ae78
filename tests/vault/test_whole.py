"""The whole proxy with its root in a real vault: made, served, rotated to the end, away at the start and in between."""

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice
from chatproxy.crypto.keyring import RING_NAME, parse_manifest
from chatproxy.crypto.sealed_keyset import SEALED_NAME, parse_sealed
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.redis import RedisStore
from integration.proxy_fixtures import PATIENCE, World, a_world, chatting
from integration.serve_process import call, environment
from vault.server import Bao, running_bao
from vault.test_transit import ROTATING, a_root


@pytest.fixture
def store_url(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


def env(directory: Path, store: str, bao: Bao, name: str, *, token: str = "", **more: str) -> dict[str, str]:
    """The environment of a command."""
    (directory / "token").write_text((token or bao.token) + "\n")
    return environment(directory, store=store, keyset=bao.url(name), **more) | {
        "CHATPROXY_KEYSET_TOKEN_FILE": str(directory / "token")
    }


async def done(environ: Mapping[str, str], *words: str) -> str:
    """Do a command that must succeed; return what it says."""
    finished = await call(environ, *words)
    assert finished.status == 0, finished.err
    return finished.out


async def readiness(world: World) -> tuple[int, str]:
    response = await world.client.get(f"{world.running.admin_url}/readyz")
    return response.status_code, response.text


async def until_ready(world: World) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await readiness(world))[0] != 200:
            await asyncio.sleep(0.05)


async def test_a_keyset_is_made_used_and_rotated_to_the_end(
    tmp_path: Path, store_url: str, store: RedisStore, bao: Bao
) -> None:
    name = "whole"
    await a_root(bao, name).create()
    token = await bao.token_for(name, *ROTATING)
    commands = env(tmp_path, store_url, bao, name, token=token, key_soak="0s", key_grace="0s")
    assert "sealed under" in await done(commands, "keys", "init")
    again = await call(commands, "keys", "init")
    assert (again.status, "has a sealed keyset already" in again.err) == (1, True)

    settings = {"keyset": bao.url(name), "keyset_token": token, "key_soak": "0s", "key_grace": "0s"}
    async with a_world(chatting(), tmp_path, store_url, clock=wall_clock, **settings) as world:
        await world.choose(Choice.GIVEN)
        await world.chat("before")
        [before] = await world.kept()
        made = [line async for line in _lines(commands, "keys", "rotate", "--wait", "--json")]
        assert [line["step"] for line in made][-1] == "destroyed"
        await world.chat("after")
        rows = await world.kept()

        assert await world.said(str(before["conversation"])) == ["user: before", "assistant: reply 0"]
        assert len(rows) == 2
        root = a_root(bao, name)
        sealed, ring = await store.read_control(SEALED_NAME), await store.read_control(RING_NAME)
        assert sealed is not None
        assert ring is not None
        for _, wrapped in [*parse_sealed(sealed).wrapped_secrets(), *parse_manifest(ring).wrapped_secrets()]:
            assert root.version_of(wrapped) == 2
        assert [each.status for each in await root.versions()] == ["DESTROYED", "PRIMARY"]

    async with a_world(chatting(), tmp_path, store_url, clock=wall_clock, **settings) as world:
        assert await world.said(str(before["conversation"])) == ["user: before", "assistant: reply 0"]
    assert json.loads((await done(commands, "keys", "verify", "--json")).splitlines()[-1])["faulty"] == 0
    assert "PRIMARY" in await done(commands, "keys", "status")
    assert "Whole" in await done(commands, "audit", "verify")
    assert (await call(commands, "keys", "status", "--offline")).status == 1
    examined = await call(commands, "doctor")
    assert "in the store opens with" in examined.out
    assert token not in examined.out + examined.err


async def _lines(environ: Mapping[str, str], *words: str):  # type: ignore[no-untyped-def]
    for line in (await done(environ, *words)).splitlines():
        yield json.loads(line)


async def test_nothing_starts_without_a_keyset_or_with_a_token_that_is_refused(
    tmp_path: Path, store_url: str, bao: Bao
) -> None:
    await a_root(bao, "refused").create()

    missing = await call(env(tmp_path, store_url, bao, "refused"), "keys", "status")
    assert (missing.status, "chatproxy keys init" in missing.err) == (1, True)

    await done(env(tmp_path, store_url, bao, "refused"), "keys", "init")
    revoked = await call(env(tmp_path, store_url, bao, "refused", token="hvs.nonsense"), "keys", "status")
    assert (revoked.status, "refuses this token" in revoked.err, "nonsense" in revoked.err) == (
        1,
        True,
        False,
    )

    await a_root(bao, "other").create()
    other = await call(env(tmp_path, store_url, bao, "other"), "keys", "status")
    assert (other.status, "cannot be opened with" in other.err) == (1, True)


async def test_chats_go_on_while_the_vault_is_sealed_at_the_start_and_are_kept_once_it_is_not(
    program: Path, tmp_path: Path, store_url: str
) -> None:
    async with running_bao(program, tmp_path / "bao") as bao:
        await done(env(tmp_path, store_url, bao, "late"), "keys", "init")
        settings = {"keyset": bao.url("late"), "keyset_token": bao.token}
        await bao.seal()

        async with a_world(chatting(), tmp_path, store_url, clock=wall_clock, **settings) as world:
            answer = await world.chat("hello")
            keyed = await world.client.post(
                "/v1/chat/completions",
                json={"model": "m", "messages": [{"role": "user", "content": "keyed"}]},
                headers={"x-chat-subject": "ana", "x-chat-plan": "pro", "idempotency-key": "k"},
            )
            assert (answer.status_code, keyed.status_code) == (200, 200)
            assert answer.headers["x-decision-reason"] == "PENDING"
            status, why = await readiness(world)
            assert (status, "status 503: it is sealed" in why) == (503, True)
            assert bao.token not in why

            await bao.unseal()
            assert len(await world.kept()) == 2
            await until_ready(world)
            assert (await world.chat("later")).headers["x-chat-turn"]
            await world.kept()
            world.assert_outcomes_add_up()


async def test_a_vault_that_dies_at_run_time_is_not_missed(
    program: Path, tmp_path: Path, store_url: str
) -> None:
    async with running_bao(program, tmp_path / "bao") as bao:
        await done(env(tmp_path, store_url, bao, "gone"), "keys", "init")
        settings = {"keyset": bao.url("gone"), "keyset_token": bao.token}
        async with a_world(chatting(), tmp_path, store_url, clock=wall_clock, **settings) as world:
            await until_ready(world)
            watch = world.running.vault.ring_watch(world.running.metrics)
            await watch.look()
            await bao.stop()

            await watch.look()
            await world.running.vault.health.check()

            await world.chat("hello", who={"x-chat-subject": "new", "x-chat-plan": "pro"})
            assert len(await world.kept()) == 1
            assert (await readiness(world))[0] == 200
            rotating = await call(env(tmp_path, store_url, bao, "gone"), "keys", "rotate")
            assert (rotating.status, "cannot be asked" in rotating.err) == (1, True)


async def test_a_keyset_moves_from_its_file_to_a_vault(tmp_path: Path, store_url: str, bao: Bao) -> None:
    files = environment(tmp_path, store=store_url)
    async with a_world(chatting(), tmp_path, store_url) as world:
        await world.choose(Choice.GIVEN)
        await world.chat("before")
        [before] = await world.kept()

    (tmp_path / "token").write_text(bao.token)
    files["CHATPROXY_KEYSET_TOKEN_FILE"] = str(tmp_path / "token")
    taken = await call(env(tmp_path, store_url, bao, "moved"), "keys", "init")
    assert (taken.status, "keys move" in taken.err) == (1, True)
    assert "destroy what held the root before" in await done(
        files, "keys", "move", "--to", bao.url("moved"), "--yes"
    )

    settings = {"keyset": bao.url("moved"), "keyset_token": bao.token}
    async with a_world(chatting(), tmp_path, store_url, clock=wall_clock, **settings) as world:
        await world.chat("after")
        assert len(await world.kept()) == 2
        assert await world.said(str(before["conversation"])) == ["user: before", "assistant: reply 0"]
    stale = await call(files, "keys", "status")
    assert (stale.status, "key ring in the store cannot be opened" in stale.err) == (1, True)
    assert (await call(env(tmp_path, store_url, bao, "moved"), "keys", "verify")).status == 0


async def test_under_a_root_in_a_vault_keys_are_replaced_and_renewed_and_the_keyset_moves_to_a_file(
    tmp_path: Path, store_url: str, bao: Bao
) -> None:
    quick = {"key_soak": "0s", "key_grace": "0s"}
    commands = env(tmp_path, store_url, bao, "back", **quick)
    await done(commands, "keys", "init")
    settings = {"keyset": bao.url("back"), "keyset_token": bao.token, **quick}
    async with a_world(chatting(), tmp_path, store_url, clock=wall_clock, **settings) as world:
        await world.chat("before")
        [before] = await world.kept()
        await done(commands, "keys", "rotate", "--wait")
        steps = [
            line async for line in _lines(commands, "keys", "reseal", "--scope", "kek:1", "--wait", "--json")
        ]
        assert [step["step"] for step in steps][-1] == "destroyed"
        for purpose in ("annotations", "signing"):
            await done(commands, "keys", "renew", purpose, "--wait")
        await world.chat("after")
        assert len(await world.kept()) == 2
        assert await world.said(str(before["conversation"])) == ["user: before", "assistant: reply 0"]
        assert sorted(world.running.vault.annotation_keys.versions) == [1, 2]

    back = f"file:{tmp_path / 'back' / 'keyset'}"
    assert "rotate once" in await done(commands, "keys", "move", "--to", back, "--yes")
    async with a_world(chatting(), tmp_path, store_url, clock=wall_clock, keyset=back, **quick) as world:
        assert len(await world.kept()) == 2
        assert await world.said(str(before["conversation"])) == ["user: before", "assistant: reply 0"]
        files = environment(tmp_path, store=store_url, keyset=back, **quick)
        assert (await call(files, "keys", "rotate", "--wait")).status == 0
        assert (await call(files, "keys", "verify")).status == 0
    await done(commands | {"CHATPROXY_KEYSET": back}, "keys", "move", "--to", bao.url("back"), "--yes")
    await done(commands, "keys", "verify")
    assert "Whole" in await done(commands, "audit", "verify")
