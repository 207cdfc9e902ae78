"""The embedded server's supervisor: one owner, nothing lost, nothing left behind."""

import asyncio
import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from chatproxy.disk.directory import FileLock
from chatproxy.errors import StoreRefusedError, StoreUnavailableError
from chatproxy.ports import PutStatus
from chatproxy.store import keys
from chatproxy.store.address import StoreAddress
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.engine import carried_binary
from chatproxy.store.opening import open_store
from chatproxy.store.process import ServerProcess
from chatproxy.store.redis import RedisStore
from chatproxy.store.socketpath import socket_path
from integration.store_builders import a_turn

linux_only = pytest.mark.skipif(
    sys.platform != "linux", reason="other systems do not end a child with its parent"
)
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "store"


@contextlib.asynccontextmanager
async def client_of(server: EmbeddedServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(Connections(StoreAddress.parse(server.url), deadline=10.0))
    try:
        yield store
    finally:
        await store.aclose()


async def remember(server: EmbeddedServer, value: bytes) -> None:
    async with client_of(server) as store:
        assert await store.swap_control("value", await store.read_control("value"), value)


async def recall(server: EmbeddedServer) -> bytes | None:
    async with client_of(server) as store:
        return await store.read_control("value")


async def eventually(happens: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await happens():
            await asyncio.sleep(0.01)


async def serves(server: EmbeddedServer) -> bool:
    try:
        async with client_of(server) as store:
            await store.ping()
    except StoreUnavailableError:
        return False
    return True


def append_only_file(directory: Path) -> Path:
    [file] = (directory / "appendonlydir").glob("*.incr.aof")
    return file


def open_to_others(directory: Path) -> list[Path]:
    return [path for path in [directory, *directory.rglob("*")] if path.lstat().st_mode & 0o077]


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def environment_of(pid: int | None) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_it_starts_serves_and_leaves_nothing_running(directory: Path) -> None:
    async with EmbeddedServer(directory) as server:
        assert server.owned
        assert await serves(server)
        pid = server.pid

    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not (directory / "s.sock").exists()


async def test_what_was_stored_is_there_after_a_restart(directory: Path) -> None:
    async with EmbeddedServer(directory) as server:
        await remember(server, b"kept")

    async with EmbeddedServer(directory) as server:
        assert await recall(server) == b"kept"


@pytest.mark.parametrize(
    "size, encoding",
    [
        pytest.param(4096, b"listpack", id="as large as they are"),
        pytest.param(4097, b"hashtable", id="larger than any"),
    ],
)
async def test_an_annotation_lies_in_one_piece_of_memory(directory: Path, size: int, encoding: bytes) -> None:
    """As a table of its own it took 290 bytes more, a tenth of a turn; one piece of any length would be slow to change."""
    turn = a_turn(annotation={b"meta": b"m" * 200, b"body": b"b" * size})
    async with EmbeddedServer(directory) as server, client_of(server) as store:
        assert await store.put([turn]) == [PutStatus.STORED]

        name = keys.annotation(turn.subject, turn.turn)
        assert await store.connections.ask([["OBJECT", "ENCODING", name]]) == [encoding]


async def test_everything_in_its_directory_is_for_its_user_alone(directory: Path) -> None:
    async with EmbeddedServer(directory, ballast_bytes=4096) as server:
        await remember(server, b"x")
        assert open_to_others(directory) == []
        assert allocated(directory / "ballast") >= 4096


@linux_only
async def test_the_server_gets_no_environment_and_no_interrupt_from_the_terminal(directory: Path) -> None:
    async with EmbeddedServer(directory, ballast_bytes=0) as server:
        assert server.pid is not None
        assert environment_of(server.pid) == b""
        assert os.getpgid(server.pid) != os.getpgid(0)


async def test_a_killed_server_comes_back_with_everything(directory: Path) -> None:
    async with EmbeddedServer(directory) as server:
        async with client_of(server) as store:
            turns = [a_turn() for _ in range(50)]
            assert await store.put(turns) == [PutStatus.STORED] * 50
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)

        await eventually(lambda: serves(server))

        async with client_of(server) as store:
            assert {row.turn async for row in store.annotations()} == {turn.turn for turn in turns}


async def test_a_second_one_uses_the_firsts_server_and_takes_over_when_it_stops(directory: Path) -> None:
    first = EmbeddedServer(directory)
    await first.start()
    await remember(first, b"kept")
    async with EmbeddedServer(directory) as second:
        before = second.owned
        assert second.url == first.url
        assert await recall(second) == b"kept"

        await first.stop()

        await eventually(lambda: serves(second))
        assert (before, second.owned) == (False, True)
        assert await recall(second) == b"kept"


async def test_a_second_one_that_stops_leaves_the_firsts_server_alone(directory: Path) -> None:
    async with EmbeddedServer(directory) as first:
        async with EmbeddedServer(directory):
            pass
        assert await serves(first)


async def test_of_many_started_at_once_one_owns_the_server(directory: Path) -> None:
    servers = [EmbeddedServer(directory) for _ in range(5)]
    async with contextlib.AsyncExitStack() as stopping:
        await asyncio.gather(*(stopping.enter_async_context(server) for server in servers))
        assert [server.owned for server in servers].count(True) == 1
        assert all([await serves(server) for server in servers])


async def test_an_owner_whose_server_never_answers_is_reported(directory: Path) -> None:
    server = EmbeddedServer(directory, patience=0.1)
    lock = FileLock(directory / "lock")
    assert lock.acquire()

    with pytest.raises(StoreUnavailableError, match="another chatproxy"):
        await server.start()
    lock.close()


OWNER = """
import asyncio, sys
from pathlib import Path
from chatproxy.store.embedded import EmbeddedServer

async def main():
    async with EmbeddedServer(Path(sys.argv[1])) as server:
        print(server.pid, flush=True)
        await asyncio.sleep(600)

asyncio.run(main())
"""


@linux_only
async def test_when_its_owner_is_killed_the_server_ends_and_the_next_owner_has_everything(
    directory: Path,
) -> None:
    alive = FileLock(directory / "alive")

    async def has_ended() -> bool:
        return alive.acquire()

    with subprocess.Popen([sys.executable, "-c", OWNER, directory], stdout=subprocess.PIPE) as owner:  # noqa: ASYNC220
        assert owner.stdout is not None
        await asyncio.to_thread(owner.stdout.readline)
        await remember(EmbeddedServer(directory), b"kept")
        owner.kill()
    await eventually(has_ended)
    alive.close()

    async with EmbeddedServer(directory) as next_owner:
        assert next_owner.owned
        assert await recall(next_owner) == b"kept"


async def test_a_server_that_outlived_its_owner_is_ended_before_another_starts(directory: Path) -> None:
    server = EmbeddedServer(directory)
    alive = FileLock(directory / "alive")
    assert alive.acquire()
    orphan = await ServerProcess.start(
        carried_binary(), directory, socket_path(directory), inherit=alive.descriptor
    )
    alive.close()
    assert await orphan.answers(socket_path(directory))
    (directory / "ENGINE").write_text(json.dumps({"engine": "valkey", "version": "9.0", "started": True}))
    await remember(server, b"kept")

    async with server:
        assert await orphan.wait() == 0
        assert await recall(server) == b"kept"


async def test_a_server_without_owner_that_does_not_end_is_reported_and_no_second_one_starts(
    directory: Path,
) -> None:
    server = EmbeddedServer(directory, patience=0.1)
    alive = FileLock(directory / "alive")
    assert alive.acquire()

    with pytest.raises(StoreRefusedError, match="alive"):
        await server.start()
    assert not server.owned
    alive.close()


async def test_a_torn_end_of_the_file_costs_only_what_was_not_confirmed(directory: Path) -> None:
    async with EmbeddedServer(directory) as server:
        await remember(server, b"confirmed")
        await remember(server, b"torn")
    file = append_only_file(directory)
    os.truncate(file, file.stat().st_size - 7)

    async with EmbeddedServer(directory) as server:
        assert await recall(server) == b"confirmed"


async def test_a_damaged_file_is_refused_in_the_servers_own_words_and_kept(directory: Path) -> None:
    async with EmbeddedServer(directory) as server:
        await remember(server, b"v" * 300)
        await remember(server, b"w" * 300)
    file = append_only_file(directory)
    damaged = file.read_bytes().replace(b"$300\r\n", b"$299\r\n", 1)
    file.write_bytes(damaged)

    with pytest.raises(StoreRefusedError, match=r"(?s)Bad file format.*backup"):
        await EmbeddedServer(directory).start()

    assert file.read_bytes() == damaged
    assert FileLock(directory / "lock").acquire()


@pytest.mark.parametrize(
    "marker, said",
    [
        pytest.param(
            {"engine": "redis", "version": "7.2.0", "started": True}, "redis 7.2.0", id="other engine"
        ),
        pytest.param(
            {"engine": "valkey", "version": "99.0.0", "started": True}, "99.0.0", id="newer version"
        ),
        pytest.param({"engine": "valkey"}, "not readable", id="a torn marker"),
        pytest.param(
            {"engine": "valkey", "version": "nine", "started": True}, "not readable", id="a strange version"
        ),
        pytest.param(None, "without its ENGINE", id="no marker"),
    ],
)
async def test_files_that_this_server_may_not_touch_are_refused(
    marker: dict[str, object] | None, said: str, directory: Path
) -> None:
    async with EmbeddedServer(directory) as server:
        await remember(server, b"kept")
    before = append_only_file(directory).read_bytes()
    if marker is None:
        (directory / "ENGINE").unlink()
    else:
        (directory / "ENGINE").write_text(json.dumps(marker))

    with pytest.raises(StoreRefusedError, match=said):
        await EmbeddedServer(directory).start()

    assert append_only_file(directory).read_bytes() == before


async def test_an_older_version_is_taken_over_and_the_marker_says_so(directory: Path) -> None:
    async with EmbeddedServer(directory) as server:
        await remember(server, b"kept")
    current = (directory / "ENGINE").read_text()
    (directory / "ENGINE").write_text(json.dumps({"engine": "valkey", "version": "8.0.1", "started": True}))

    async with EmbeddedServer(directory) as server:
        assert await recall(server) == b"kept"
    assert (directory / "ENGINE").read_text() == current


async def test_files_that_have_gone_are_missed(directory: Path) -> None:
    async with EmbeddedServer(directory) as server:
        await remember(server, b"kept")
    (directory / "appendonlydir").rename(directory / "elsewhere")

    with pytest.raises(StoreRefusedError, match="has lost its files"):
        await EmbeddedServer(directory).start()


async def test_a_deep_directory_just_works_for_each_who_names_it(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["a-rather-long-name"] * 8)
    async with EmbeddedServer(deep) as first, EmbeddedServer(deep) as second:
        await remember(first, b"kept")
        assert await recall(second) == b"kept"
        runtime = socket_path(deep).parent
        assert stat.S_IMODE(runtime.stat().st_mode) == 0o700

    assert not runtime.exists()


def test_a_program_that_is_no_server_is_refused(directory: Path) -> None:
    with pytest.raises(StoreRefusedError, match="version"):
        asyncio.run(EmbeddedServer(directory, binary=Path("/bin/echo")).start())


async def test_a_store_opened_by_a_command_beside_serve_is_the_same_one(tmp_path: Path) -> None:
    async with open_store("embedded", tmp_path / "data") as serve:
        await serve.swap_control("value", None, b"kept")
        async with open_store("embedded", tmp_path / "data") as command:
            assert await command.read_control("value") == b"kept"
        await serve.ping()

    async with open_store("embedded", tmp_path / "data") as alone:
        assert await alone.read_control("value") == b"kept"


async def test_a_store_is_opened_by_url(server: EmbeddedServer, store: RedisStore, tmp_path: Path) -> None:
    await store.swap_control("value", None, b"there")

    async with open_store(server.url, tmp_path / "data") as opened:
        assert await opened.read_control("value") == b"there"
    assert not (tmp_path / "data").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "chatproxy-test", disk], check=False
    )
    if mounted.returncode != 0:
        pytest.skip("may not mount a small disk here")
    yield disk
    subprocess.run(["/bin/umount", disk], check=True)


@linux_only
@root_only
async def test_after_a_full_disk_the_reserve_lets_it_serve_again_with_all_that_was_confirmed(
    small_disk: Path,
) -> None:
    confirmed: set[bytes] = set()
    async with EmbeddedServer(small_disk / "store", ballast_bytes=512 * 1024) as server:
        async with client_of(server) as store:
            with contextlib.suppress(StoreUnavailableError):
                while len(confirmed) < 100:
                    turn = a_turn(annotation={b"filler": os.urandom(50_000)})
                    await store.put([turn])
                    confirmed.add(turn.turn)

        await eventually(lambda: serves(server))

        assert not (small_disk / "store" / "ballast").exists()
        async with client_of(server) as store:
            assert {row.turn async for row in store.annotations()} >= confirmed
            assert await store.put([a_turn()]) == [PutStatus.STORED]
    assert 10 < len(confirmed) < 100
