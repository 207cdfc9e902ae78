"""Several processes that are one node: they share what they listen on, and none is missed when it dies."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from integration.left_whole import CANARY
from integration.proxy_fixtures import (
    ANA_LINES,
    OPENAI,
    PATIENCE,
    chat_bytes,
    chatting,
    exchange,
    http_client,
    post,
)
from integration.serve_process import Serving, environment, run, serving
from simulators.backend import backend


def workers_of(process: Serving) -> list[int]:
    """Return the process ids of the workers, without that of the store."""
    children = Path(f"/proc/{process.process.pid}/task/{process.process.pid}/children").read_text().split()
    return [int(child) for child in children if b"--worker" in Path(f"/proc/{child}/cmdline").read_bytes()]


async def metric(process: Serving, sample: str) -> float:
    async with http_client() as client:
        text = (await client.get(f"{process.admin_url}/metrics")).text
    return next(
        (float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(sample + " ")), 0
    )


async def until_kept(process: Serving, count: int) -> None:
    stored = 'chatproxy_turns_total{outcome="stored"}'
    async with asyncio.timeout(PATIENCE):
        while await metric(process, stored) < count:
            await asyncio.sleep(0.05)


async def chat(process: Serving, text: str) -> None:
    answer = await exchange(process.url, post(OPENAI, chat_bytes(f"{CANARY} {text}"), *ANA_LINES))
    assert answer.status == 200


async def test_workers_serve_as_one_node_and_keep_in_one_store(tmp_path: Path) -> None:
    async with backend(chatting()) as behind:
        env = environment(tmp_path, upstream=behind.url, workers="3")
        async with serving(env) as process:
            assert len(workers_of(process)) == 3
            await asyncio.gather(*(chat(process, f"question {number}") for number in range(30)))
            await until_kept(process, 30)
            assert await metric(process, "chatproxy_workers") == 3
            assert await metric(process, "chatproxy_turns_seen_total") == 30
            async with http_client() as client:
                assert (await client.get(f"{process.admin_url}/readyz")).json() == {
                    "ready": True,
                    "reasons": [],
                }
            process.terminate()
            assert await process.ended() == 0
        rows = (await run(env, "transcripts", "list", "--json")).rows()
        assert len(rows) == 30
        assert not list((tmp_path / "data" / "journal").glob("*/*.seg"))


def clients_of(process: Serving) -> dict[int, int]:
    """Return how many clients each worker has, by its process id."""
    port = int(process.url.rpartition(":")[2])
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    accepted = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "01"}
    found = dict.fromkeys(workers_of(process), 0)
    for worker in found:
        for descriptor in Path(f"/proc/{worker}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found[worker] += str(descriptor.readlink()) in accepted
    return found


@contextlib.asynccontextmanager
async def connected(process: Serving) -> AsyncIterator[Callable[[int], Awaitable[dict[int, int]]]]:
    """Yield what connects so many clients at once, who stay and say nothing, and tells how many each worker has then."""
    host, _, port = process.url.removeprefix("http://").rpartition(":")
    async with contextlib.AsyncExitStack() as leaving:

        async def connect(count: int) -> dict[int, int]:
            before = sum(clients_of(process).values())
            for _ in range(count):
                _, writer = await asyncio.open_connection(host, int(port))
                leaving.callback(writer.close)
            async with asyncio.timeout(PATIENCE):
                while sum((clients := clients_of(process)).values()) < before + count:
                    await asyncio.sleep(0.01)
            return clients

        yield connect


async def test_clients_who_come_at_once_and_stay_are_shared_by_the_workers(tmp_path: Path) -> None:
    async with (
        backend(chatting()) as behind,
        serving(environment(tmp_path, upstream=behind.url, workers="2")) as process,
        connected(process) as connect,
    ):
        clients = await connect(32)
        assert min(clients.values()) >= 8

        killed, other = clients
        os.kill(killed, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            while killed in (now := workers_of(process)) or len(now) < 2:
                await asyncio.sleep(0.05)
            while await metric(process, "chatproxy_workers") < 2:
                await asyncio.sleep(0.05)
        more = await connect(12)
        # The new one has none yet.
        assert more[other] <= clients[other] + 3


async def test_a_worker_that_is_killed_is_started_again_and_its_turns_are_kept(tmp_path: Path) -> None:
    async with backend(chatting()) as behind:
        env = environment(tmp_path, upstream=behind.url, workers="2", capture_durability="strict")
        async with serving(env) as process:
            before = workers_of(process)
            for number in range(5):
                await asyncio.gather(*(chat(process, f"question {number} {each}") for each in range(4)))
            os.kill(before[0], signal.SIGKILL)
            for number in range(5):
                await asyncio.gather(*(chat(process, f"later {number} {each}") for each in range(4)))
            async with asyncio.timeout(PATIENCE):
                while len(workers_of(process)) < 2 or await metric(process, "chatproxy_workers") < 2:
                    await asyncio.sleep(0.05)
            process.terminate()
            assert await process.ended() == 0
        assert len((await run(env, "transcripts", "list", "--json")).rows()) == 40


async def test_hangup_replaces_every_worker_and_no_chat_is_refused(tmp_path: Path) -> None:
    async with backend(chatting()) as behind:
        env = environment(tmp_path, upstream=behind.url, workers="2")
        async with serving(env) as process:
            before = workers_of(process)
            chatted = 0
            process.process.send_signal(signal.SIGHUP)
            replaced = asyncio.create_task(process.logged("workers were replaced"))
            while not replaced.done():
                await chat(process, f"question {chatted}")
                chatted += 1
            await replaced
            async with asyncio.timeout(PATIENCE):
                while len(workers_of(process)) > 2:
                    await asyncio.sleep(0.05)
            assert not set(before) & set(workers_of(process))
            await chat(process, "last")
            process.terminate()
            assert await process.ended() == 0
        assert len((await run(env, "transcripts", "list", "--json")).rows()) == chatted + 1


async def test_workers_stop_when_their_parent_is_killed(tmp_path: Path) -> None:
    async with backend(chatting()) as behind:
        env = environment(tmp_path, upstream=behind.url, workers="2", drain_time="1s")
        async with serving(env) as process:
            workers = workers_of(process)
            process.process.kill()
            await process.process.wait()
            async with asyncio.timeout(PATIENCE):
                while any(Path(f"/proc/{worker}").exists() for worker in workers):
                    await asyncio.sleep(0.05)


@pytest.mark.parametrize("change", [{"upstream": ""}, {"keyset": "file:/nowhere/keyset"}])
async def test_what_is_wrong_is_said_once_started_or_not_at_all(
    tmp_path: Path, change: dict[str, str]
) -> None:
    env = environment(tmp_path, workers="2", **{"upstream": "http://127.0.0.1:9", **change})
    finished = await run(env, "serve")

    assert finished.status == 1
    assert "chatproxy: " in finished.err
    assert '"serving"' not in finished.err
