"""Each step of docs/keys.md is a command that does what the page says, beside a running proxy."""

import asyncio
import re
import shlex
from pathlib import Path

import pytest

from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.workflows.rotate import Step
from integration.proxy_fixtures import World, a_world, chatting
from integration.rotation_fixtures import a_rotation, advance
from integration.serve_process import call, environment

PAGE = (Path(__file__).parents[2] / "docs" / "keys.md").read_text(encoding="utf-8")
RUNBOOKS = {
    name: block.strip().splitlines()
    for name, block in re.findall(r"```sh runbook=(\w+)\n(.*?)```", PAGE, re.DOTALL)
}
STARTS_AT = {"back": Step.RETIRED}
LEAVES_OLD_KEYS_DESTROYED = {"planned", "steps", "leaked"}


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


def test_there_is_a_runbook_for_each_case() -> None:
    assert set(RUNBOOKS) == {
        "planned", "steps", "back", "away", "leaked", "leaked_part", "lost", "restore", "drills"
    }  # fmt: skip
    assert not re.findall(r"```sh(?! runbook=)", PAGE), "a block of commands that no test walks"


@pytest.mark.parametrize("name", RUNBOOKS)
async def test_a_runbook_can_be_walked(tmp_path: Path, store: str, name: str) -> None:
    async with a_world(chatting(), tmp_path, store, key_soak="0s", key_grace="0s") as world:
        await world.chat("before")
        await world.kept()
        if name in STARTS_AT:
            await advance(a_rotation(world.running.vault), STARTS_AT[name])
        for line in RUNBOOKS[name]:
            await walk(world, tmp_path, store, line)
        await world.chat("after")
        rows = await world.kept()
        assert len(rows) == 2
        assert len({row["key_version"] for row in rows}) == 1
        if name in LEAVES_OLD_KEYS_DESTROYED:
            async with asyncio.timeout(20):
                while (state := await a_rotation(world.running.vault).state()) is None or not state.is_over:
                    await walk(world, tmp_path, store, "chatproxy keys rotate")


async def walk(world: World, directory: Path, store: str, line: str) -> None:
    """Do one step of a runbook. What has to wait for a node is done again, as the page says."""
    env = environment(directory, store=store, upstream=world.backend.url, key_soak="0s", key_grace="0s")
    *told, program_and_words = line.split(" | ")
    stdin = shlex.split(told[0])[1] if told else ""
    program, *words = shlex.split(program_and_words)
    assert program == "chatproxy"
    async with asyncio.timeout(20):
        while True:
            done = await call(env, *words, stdin=stdin)
            if done.status == 0 or "waiting until" not in done.err:
                break
            await asyncio.sleep(0.1)
    assert done.status == 0, (line, done)
    assert "Traceback" not in done.err
