"""Rows of the fault matrix that no other test is about (docs/reliability.md, The fault matrix)."""

import asyncio
import errno
import resource
import shutil
from pathlib import Path

import pytest

from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.vault import open_vault
from integration.invariants import assert_invariants, questions_kept
from integration.left_whole import CANARY, assert_nothing_readable
from integration.proxy_fixtures import (
    ANA_LINES,
    OPENAI,
    PATIENCE,
    AheadClock,
    a_proxy,
    a_world,
    chat_bytes,
    chatting,
    exchange,
    http_client,
    post,
)
from integration.serve_process import Serving, environment, serving
from integration.test_journal_kills import all_kept
from simulators.backend import backend
from simulators.disks import enlarge, failing, slow, small_disk
from simulators.store_front import store_front

AWAY = "redis://127.0.0.1:9"
NO_FAILURES = "chatproxy_journal_failures_total 0.0"


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def reasons(admin_url: str) -> str:
    async with http_client() as client:
        return " ".join((await client.get(f"{admin_url}/readyz")).json().get("reasons", []))


async def metrics_of(process: Serving) -> str:
    async with http_client() as client:
        return (await client.get(f"{process.admin_url}/metrics")).text


async def until_reason(admin_url: str, said: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while said not in await reasons(admin_url):
            await asyncio.sleep(0.05)


async def chats(process: Serving, count: int, *, first: int = 0) -> list[str]:
    """Chat *count* times; return what was said where the answer came whole."""
    answered = []
    for number in range(first, first + count):
        said = f"{CANARY} {number}"
        try:
            answer = await exchange(process.url, post(OPENAI, chat_bytes(said), *ANA_LINES))
        except (OSError, asyncio.IncompleteReadError):
            continue
        if answer.status == 200 and answer.is_whole:
            answered.append(said)
    return answered


async def kept_of(directory: Path, store: str, answered: list[str]) -> tuple[int, int]:
    """Return how many turns are kept, and how many of those that were answered are not."""
    async with open_vault(a_proxy(directory, upstream="http://127.0.0.1:9", store=store)) as vault:
        said = await questions_kept(vault)
    assert max(said.values()) == 1
    return len(said), len(set(answered) - set(said))


async def test_what_a_crash_left_of_turns_that_the_store_has_is_not_kept_twice(
    tmp_path: Path, store: str
) -> None:
    """F-5, F-6."""
    journal = tmp_path / "data" / "journal"
    async with (
        store_front(store) as front,
        a_world(chatting(), tmp_path, front.url, capture_durability="strict") as world,
    ):
        front.hangs = True
        for number in range(5):
            await world.chat(f"{CANARY} {number}")
        crash = tmp_path / "crash"
        shutil.copytree(journal, crash)
        front.hangs = False
        await assert_invariants(world, tmp_path, answered=5)
        url = front.url
        port = front.port
    shutil.rmtree(journal)
    crash.rename(journal)
    async with store_front(store) as front:
        await front.shut()
        front.port = port
        await front.open()
        assert front.url == url
        async with a_world(chatting(), tmp_path, front.url) as world:
            assert len(await world.kept()) == 5
            assert world.outcomes() == {"replayed": 5}
            assert world.counted("chatproxy_turns_recovered_total") == 5


async def test_an_erasure_reaches_what_waits_in_the_journal_of_another_node(
    tmp_path: Path, store: str
) -> None:
    """F-47."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    async with (
        store_front(store) as front,
        a_world(chatting(), tmp_path / "one", front.url) as one,
    ):
        shutil.copytree(tmp_path / "one" / "keys", tmp_path / "two" / "keys")
        async with a_world(chatting(), tmp_path / "two", store) as two:
            await two.chat(f"{CANARY} before")
            await two.kept()
            front.hangs = True
            await one.chat(f"{CANARY} waits")
            assert await two.running.vault.eraser.erase(two.tag(), by="test") is not None
            front.hangs = False
            assert await one.kept() == []
            assert one.outcomes() == {"erased": 1}
            assert_nothing_readable(tmp_path)


async def test_a_clock_that_steps_back_an_hour_and_is_mended_costs_nothing(
    tmp_path: Path, store: str
) -> None:
    """F-43."""
    clock = AheadClock()
    async with a_world(chatting(), tmp_path, store, clock=clock) as world:
        for number in range(3):
            await world.chat(f"{CANARY} {number}")
        await world.kept()
        clock.ahead = -3_600_000
        for number in range(3, 6):
            await world.chat(f"{CANARY} {number}")
        await until_reason(world.running.admin_url, "apart, and expiry")
        clock.ahead = 0
        await assert_invariants(world, tmp_path, answered=6)


# --- Disks ---


async def test_a_journal_whose_disk_is_full_serves_says_so_and_heals(tmp_path: Path, store: str) -> None:
    """F-17, F-21 (inodes)."""
    with small_disk(tmp_path / "data" / "journal", "size=600k", "nr_inodes=40") as disk:
        (tmp_path / "data").chmod(0o700)
        async with (
            store_front(store) as front,
            a_world(chatting(), tmp_path, front.url, store_timeout="1s") as world,
        ):
            front.hangs = True
            number = 0
            async with asyncio.timeout(2 * PATIENCE):
                while "journal" not in await reasons(world.running.admin_url):
                    answer = await world.chat(f"{CANARY} {number} " + "x" * 20_000)
                    assert answer.status_code == 200
                    number += 1
            enlarge(disk, "64m")
            front.hangs = False
            await assert_invariants(world, tmp_path, answered=number)
            assert "lost" not in world.outcomes()
            async with asyncio.timeout(PATIENCE):
                while await reasons(world.running.admin_url):
                    await asyncio.sleep(0.05)


async def test_a_disk_that_has_become_read_only_is_no_matter_to_the_chat(tmp_path: Path, store: str) -> None:
    """F-24."""
    async with backend(chatting()) as behind:
        env = environment(tmp_path, store=store, upstream=behind.url)
        journal = tmp_path / "data" / "journal"
        broken = failing(journal, tmp_path, thousandths=1000, error=errno.EROFS)
        async with serving({**env, **broken}) as process:
            answered = await chats(process, 10)
            await all_kept(process)
    assert len(answered) == 10
    assert await kept_of(tmp_path, store, answered) == (10, 0)
    assert_nothing_readable(tmp_path / "data")


async def test_a_disk_that_takes_two_seconds_for_a_sync_delays_no_chat(tmp_path: Path, store: str) -> None:
    """F-23."""
    async with backend(chatting()) as behind:
        env = environment(tmp_path, store=AWAY, upstream=behind.url, store_timeout="1s")
        loop = asyncio.get_running_loop()
        async with serving({**env, **slow(tmp_path / "data" / "journal", tmp_path, seconds=2)}) as process:
            before = loop.time()
            answered = await chats(process, 30)
            assert loop.time() - before < 10  # thirty syncs would take a minute
        assert len(answered) == 30
        async with serving(env | {"CHATPROXY_STORE": store}) as process:
            await all_kept(process)
    assert await kept_of(tmp_path, store, answered) == (30, 0)
    assert_nothing_readable(tmp_path / "data")


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT], ids=errno.errorcode.get)
async def test_a_disk_that_fails_now_and_then_costs_no_answer_that_was_safe(
    tmp_path: Path, store: str, error: int
) -> None:
    """F-22."""
    async with backend(chatting()) as behind:
        env = environment(
            tmp_path, store=AWAY, upstream=behind.url, capture_durability="strict", store_timeout="1s"
        )
        broken = failing(tmp_path / "data" / "journal", tmp_path, thousandths=50, error=error)
        answered: list[str] = []
        async with serving({**env, **broken}) as process:
            tried = 0
            async with asyncio.timeout(2 * PATIENCE):
                while len(answered) < 40 or NO_FAILURES in await metrics_of(process):
                    if not (more := await chats(process, 1, first=tried)):
                        await asyncio.sleep(0.1)  # the journal waits a moment, too, after a write that failed
                    answered += more
                    tried += 1
            process.process.kill()
            await process.ended()
        async with serving(env | {"CHATPROXY_STORE": store}) as process:
            await all_kept(process)
    kept, lost = await kept_of(tmp_path, store, answered)
    assert lost == 0
    assert len(answered) <= kept <= tried


# --- What the system gives ---


async def test_without_file_descriptors_nothing_crashes_and_all_goes_on_when_there_are_some(
    tmp_path: Path, store: str
) -> None:
    """F-21 (descriptors)."""
    async with backend(chatting()) as behind:
        env = environment(tmp_path, store=store, upstream=behind.url)
        async with serving(env) as process:
            pid = process.process.pid
            answered = await chats(process, 3)
            used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 8, used + 8))
            idle = []
            for _ in range(40):
                try:
                    idle.append(
                        await asyncio.wait_for(
                            asyncio.open_connection(*process.url[7:].split(":")), timeout=1
                        )
                    )
                except (TimeoutError, OSError):
                    break
            refused = await chats(process, 1, first=50)
            assert process.process.returncode is None
            for _, writer in idle:
                writer.transport.abort()
            async with asyncio.timeout(PATIENCE):
                while not (more := await chats(process, 1, first=100)):
                    await asyncio.sleep(0.1)
            answered += refused + more
            await all_kept(process)
    kept, lost = await kept_of(tmp_path, store, answered)
    assert lost == 0
    assert kept >= 4


async def test_memory_that_runs_out_ends_no_process_and_loses_nothing_in_silence(
    tmp_path: Path, store: str
) -> None:
    """F-63."""
    async with backend(chatting()) as behind:
        env = environment(tmp_path, store=store, upstream=behind.url, capture_queue="32MiB")
        async with serving(env) as process:
            pid = process.process.pid
            await chats(process, 1)
            held = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
            resource.prlimit(pid, resource.RLIMIT_AS, (held + (256 << 20), held + (256 << 20)))
            body = chat_bytes("y" * (5 << 20))

            async def send() -> int:
                try:
                    return (await exchange(process.url, post(OPENAI, body, *ANA_LINES))).status
                except (OSError, asyncio.IncompleteReadError):
                    return 0

            async with asyncio.timeout(2 * PATIENCE):
                statuses = await asyncio.gather(*(send() for _ in range(40)))
            assert process.process.returncode is None
            assert set(statuses) <= {0, 200, 413, 500, 502, 503}
            answered = await chats(process, 3, first=1000)
            assert len(answered) == 3
            await all_kept(process)


async def test_a_log_that_nobody_reads_holds_up_no_chat(tmp_path: Path, store: str) -> None:
    """F-66."""
    async with backend(chatting()) as behind:
        env = environment(tmp_path, store=store, upstream=behind.url, log_level="debug")
        async with serving(env) as process:  # its log is read up to its start, and not any more
            refused = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nHost: b\r\nContent-Length: 0\r\n\r\n"
            async with asyncio.timeout(4 * PATIENCE):
                for _ in range(1500):
                    assert (await exchange(process.url, refused)).status == 400
            assert len(await chats(process, 3)) == 3
            await all_kept(process)
            process.terminate()
            await process.ended()
        assert any("lines left out" in line for line in process.log)
