"""The power goes: what was not synced is not there any more, and everything that was promised is."""

import asyncio
import signal
from pathlib import Path

from chatproxy.store.address import StoreAddress
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.engine import carried_binary
from chatproxy.store.probe import Presence, probe
from chatproxy.store.process import arguments
from chatproxy.vault import open_vault
from integration.invariants import questions_kept
from integration.left_whole import CANARY, assert_nothing_readable
from integration.proxy_fixtures import (
    ANA_LINES,
    OPENAI,
    PATIENCE,
    a_proxy,
    chat_bytes,
    chatting,
    post,
    raw_client,
)
from integration.serve_process import environment, serving
from integration.test_journal_kills import all_kept
from simulators.backend import backend
from simulators.disks import PowerCut


async def test_what_strict_has_answered_outlives_a_power_cut(
    tmp_path: Path, server: EmbeddedServer, connections: Connections
) -> None:
    """F-8."""
    journal = tmp_path / "data" / "journal"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    cut = PowerCut(journal, scratch)
    answered: list[str] = []
    async with backend(chatting()) as behind:
        env = environment(
            tmp_path,
            store="redis://127.0.0.1:9",
            upstream=behind.url,
            capture_durability="strict",
            store_timeout="1s",
        )

        async def chat(number: int) -> None:
            async with raw_client(process.url) as client:
                await client.send(
                    post(OPENAI, chat_bytes(f"{CANARY} {number}", stream=bool(number % 2)), *ANA_LINES)
                )
                answer = await client.answer()
                if answer.status == 200 and answer.is_whole:
                    answered.append(f"{CANARY} {number}")

        async with serving({**env, **cut.environment}) as process:
            for wave in range(6):
                async with asyncio.TaskGroup() as group:
                    for number in range(8):
                        group.create_task(chat(8 * wave + number))
            process.process.kill()
            await process.ended()
        assert cut.syncs() > 3
        assert_nothing_readable(tmp_path / "data", scratch / "kept")
        cut.happen()
        async with serving(env | {"CHATPROXY_STORE": server.url}) as process:
            await all_kept(process)
    assert len(answered) == 48
    async with open_vault(a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=server.url)) as vault:
        said = await questions_kept(vault)
    assert said == dict.fromkeys(answered, 1)


async def test_what_the_embedded_store_has_confirmed_outlives_a_power_cut(tmp_path: Path) -> None:
    """F-9."""
    directory, scratch = tmp_path / "store", tmp_path / "scratch"
    scratch.mkdir()
    cut = PowerCut(directory, scratch)
    async with EmbeddedServer(directory, ballast_bytes=0):
        pass  # which leaves its marker, as a store that has served before has
    cut.begin()
    socket = directory / "s.sock"
    process = await asyncio.create_subprocess_exec(
        carried_binary(),
        *arguments(directory, socket),
        env=cut.environment,
        stdout=asyncio.subprocess.DEVNULL,
    )
    connections = Connections(StoreAddress.parse(f"unix://{socket}"), deadline=10.0)
    async with asyncio.timeout(PATIENCE):
        while await probe(socket) is not Presence.READY:
            await asyncio.sleep(0.01)
    confirmed: list[str] = []

    async def write(writer: int) -> None:
        for number in range(200):
            name = f"cp:{writer}:{number}"
            assert (await connections.ask([["SET", name, name * 20]]))[0] == b"OK"
            confirmed.append(name)

    writing = [asyncio.ensure_future(write(writer)) for writer in range(4)]
    async with asyncio.timeout(2 * PATIENCE):
        while len(confirmed) < 150:
            await asyncio.sleep(0.005)
    promised = list(confirmed)
    process.send_signal(signal.SIGKILL)
    await process.wait()
    await asyncio.gather(*writing, return_exceptions=True)
    await connections.aclose()
    socket.unlink(missing_ok=True)
    cut.happen()

    async with EmbeddedServer(directory, ballast_bytes=0) as server:
        connections = Connections(StoreAddress.parse(server.url), deadline=10.0)
        values = await connections.ask([["GET", name] for name in promised])
        await connections.aclose()
    assert values == [(name * 20).encode() for name in promised]
