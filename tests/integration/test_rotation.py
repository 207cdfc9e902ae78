"""Keys rotate while chats go on: nothing becomes unreadable, no expiry moves, and what is destroyed opens nothing."""

import asyncio
from pathlib import Path

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice
from chatproxy.crypto.wrap import wrapped_under
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.vault import Vault
from chatproxy.workflows.rotate import NotYetError, Rotation, Step
from integration.proxy_fixtures import World, a_world, all_keys, chatting

PATIENCE = 20.0


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


def a_rotation(vault: Vault) -> Rotation:
    return vault.rotation(by="test")


async def advance(rotation: Rotation, target: Step) -> None:
    """Take steps until *target*, waiting for the nodes."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                state = await rotation.advance()
            except NotYetError:
                await asyncio.sleep(0.05)
                continue
            if state.step is target:
                return


async def versions_in_use(world: World) -> set[int]:
    vault = world.running.vault
    subjects = [subject async for subject in vault.store.subjects()]
    wraps = [wrap for found in await vault.store.subject_wraps(subjects) for wrap in (found or {}).values()]
    return {wrapped_under(wrap) for wrap in [*wraps, *(await vault.store.all_epoch_wraps()).values()]}


async def test_a_whole_rotation_leaves_everything_readable(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store, key_soak="0s", key_grace="0s") as world:
        await world.choose(Choice.GIVEN)
        await world.chat("before")
        [before] = await world.kept()
        expiries = {
            key: at for key, at in (await all_keys(connections)).items() if b":r:" in key or b":s" in key
        }
        rotation = a_rotation(world.running.vault)
        await advance(rotation, Step.REWRAPPED)
        assert await versions_in_use(world) == {2}
        await world.chat("meanwhile")
        await world.kept()
        await advance(rotation, Step.DESTROYED)
        await world.chat("after")
        rows = await world.kept()
        assert [row["key_version"] for row in rows] == [2, 2, 2]
        assert await world.said(before["conversation"]) == ["user: before", "assistant: reply 0"]
        after = await all_keys(connections)
        assert {key: after[key] for key in expiries if b":r:" in key} == {
            key: at for key, at in expiries.items() if b":r:" in key
        }
        ring = (await rotation.ring()).manifest
        assert [(key.version, key.status.value) for key in ring.keys] == [(1, "DESTROYED"), (2, "PRIMARY")]
        opened, faulty = await rotation.verify()
        assert opened >= 2
        assert faulty == 0


async def test_a_step_waits_for_a_node_that_lags(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault = world.running.vault
        await vault.store.beat("laggard", b'{"at":%d,"ring":1,"roots":{"1":""},"policy":""}' % wall_clock())
        rotation = a_rotation(vault)
        assert (await rotation.advance()).step is Step.ROOT_ADDED
        with pytest.raises(NotYetError, match="laggard"):
            await rotation.advance()
        await vault.store.forget_node("laggard")
        await advance(rotation, Step.PROMOTED)


async def test_a_rotation_that_is_not_promoted_can_be_given_up(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        rotation = a_rotation(world.running.vault)
        await advance(rotation, Step.KEK_ADDED)
        await rotation.abort()
        state = await rotation.state()
        assert state is not None
        assert state.is_over
        assert (await rotation.ring()).primary_version == 1
        await world.chat("after")
        assert len(await world.kept()) == 1
