"""Several real servers on this machine: a cluster of three shards with a replica each, or a primary that sentinels watch."""

import asyncio
import os
import shutil
import signal
import socket
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from chatproxy.store.address import StoreAddress
from chatproxy.store.connections import Command, Connections, Reply
from chatproxy.store.engine import carried_binary

PATIENCE = 30.0
_SLOTS = 16384


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Server:
    """One server process; it can be killed, stopped for a while, and started again on the same files."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port, self.bus = free_ports(2)
        self._options = options
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it and wait until it answers."""
        words = [
            "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory), "--logfile", "log",
            *[str(self.bus) if word == "BUS" else word for word in self._options],
        ]  # fmt: skip
        self._process = await asyncio.create_subprocess_exec(
            carried_binary(), *words, stdout=DEVNULL, stderr=DEVNULL
        )
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    if (await self.say(["PING"]))[0] == b"PONG":
                        return
                except OSError:
                    pass
                await asyncio.sleep(0.02)

    async def say(self, *commands: Command) -> list[Reply]:
        """Ask this very server."""
        connections = Connections(StoreAddress.parse(f"redis://127.0.0.1:{self.port}"), deadline=5)
        try:
            return await connections.ask(commands)
        except Exception as error:
            raise OSError(str(error)) from error
        finally:
            await connections.aclose()

    async def info(self, field: str) -> str:
        """Return one field of INFO."""
        [info] = await self.say(["INFO", "everything"])
        return str(info.decode().partition(f"{field}:")[2].split()[0])

    async def kill(self) -> None:
        """End it at once."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None and self._process.returncode is None:
            os.kill(self.pid, signal.SIGCONT)
            await self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Have it hang: connections stay, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        os.kill(self.pid, signal.SIGCONT)

    async def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        await self._process.wait()


_DURABLE = (
    "--appendonly",
    "yes",
    "--appendfsync",
    "everysec",
    "--save",
    "",
    "--maxmemory-policy",
    "noeviction",
)


class ClusterServers:
    """Shards of one primary, and a replica each if there are any."""

    def __init__(self, primaries: Sequence[Server], replicas: Sequence[Server]) -> None:
        self.primaries = list(primaries)
        self.replicas = list(replicas)

    @property
    def url(self) -> str:
        """Name two of the nodes."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{each.port}" for each in self.primaries[:2])

    async def until_whole(self) -> None:
        """Wait until every node that runs says that all slots are served, and replicas are in step."""
        async with asyncio.timeout(PATIENCE):
            for node in [*self.primaries, *self.replicas]:
                while await node.info("cluster_enabled") != "1" or b"cluster_state:ok" not in await _state(
                    node
                ):
                    await asyncio.sleep(0.05)
            for node in self.replicas:
                while await node.info("role") != "slave" or await node.info("master_link_status") != "up":
                    await asyncio.sleep(0.05)

    async def until_promoted(self, replica: Server) -> None:
        """Wait until a replica has taken over."""
        async with asyncio.timeout(PATIENCE):
            while await replica.info("role") != "master" or b"cluster_state:ok" not in await _state(replica):
                await asyncio.sleep(0.05)

    async def move_slot(self, slot: int, source: Server, target: Server) -> None:
        """Move a slot key by key, as tools do."""
        [[source_id], [target_id]] = await asyncio.gather(
            source.say(["CLUSTER", "MYID"]), target.say(["CLUSTER", "MYID"])
        )
        await target.say(["CLUSTER", "SETSLOT", slot, "IMPORTING", source_id])
        await source.say(["CLUSTER", "SETSLOT", slot, "MIGRATING", target_id])
        while True:
            [names] = await source.say(["CLUSTER", "GETKEYSINSLOT", slot, 10])
            if not names:
                break
            await source.say(["MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *names])
        for node in (target, source, *self.primaries):
            await node.say(["CLUSTER", "SETSLOT", slot, "NODE", target_id])


async def _state(node: Server) -> bytes:
    [state] = await node.say(["CLUSTER", "INFO"])
    return bytes(state)


@asynccontextmanager
async def cluster(*, replicas: bool, full_coverage: str = "no") -> AsyncIterator[ClusterServers]:
    """Run three shards for as long as the block runs."""
    top = Path(tempfile.mkdtemp(prefix="chatproxy-cluster-"))
    options = (
        *_DURABLE, "--cluster-enabled", "yes", "--cluster-port", "BUS", "--cluster-node-timeout", "1000",
        "--cluster-require-full-coverage", full_coverage, "--repl-diskless-sync-delay", "0",
        "--cluster-replica-validity-factor", "0",
    )  # fmt: skip
    servers = [Server(top / str(number), *options) for number in range(6 if replicas else 3)]
    try:
        await asyncio.gather(*(server.start() for server in servers))
        primaries, others = servers[:3], servers[3:]
        for number, server in enumerate(primaries):
            first, last = _SLOTS * number // 3, _SLOTS * (number + 1) // 3 - 1
            await server.say(
                ["CLUSTER", "ADDSLOTSRANGE", first, last], ["CLUSTER", "SET-CONFIG-EPOCH", number + 1]
            )
        for server in servers[1:]:
            await server.say(["CLUSTER", "MEET", "127.0.0.1", servers[0].port, servers[0].bus])
        for primary, replica in zip(primaries, others, strict=False):
            [name] = await primary.say(["CLUSTER", "MYID"])
            async with asyncio.timeout(PATIENCE):
                while (await replica.say(["CLUSTER", "REPLICATE", name]))[0] != b"OK":
                    await asyncio.sleep(0.1)
        found = ClusterServers(primaries, others)
        await found.until_whole()
        yield found
    finally:
        await asyncio.gather(*(server.stop() for server in servers))
        shutil.rmtree(top, ignore_errors=True)


class WatchedServers:
    """A primary, a replica, and three sentinels that watch them."""

    def __init__(self, primary: Server, replica: Server, sentinels: Sequence[Server]) -> None:
        self.primary = primary
        self.replica = replica
        self.sentinels = list(sentinels)

    @property
    def url(self) -> str:
        """Name the sentinels."""
        hosts = ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)
        return f"redis+sentinel://{hosts}/chats"

    async def until_promoted(self) -> None:
        """Wait until the sentinels name the replica."""
        async with asyncio.timeout(PATIENCE):
            for sentinel in self.sentinels:
                while (await sentinel.say(["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "chats"]))[0][1] != str(
                    self.replica.port
                ).encode():
                    await asyncio.sleep(0.05)


@asynccontextmanager
async def watched() -> AsyncIterator[WatchedServers]:
    """Run a primary with its replica and sentinels for as long as the block runs."""
    top = Path(tempfile.mkdtemp(prefix="chatproxy-sentinel-"))
    primary = Server(top / "primary", *_DURABLE, "--repl-diskless-sync-delay", "0")
    servers = [primary]
    try:
        await primary.start()
        replica = Server(
            top / "replica",
            *_DURABLE,
            "--replicaof",
            f"127.0.0.1 {primary.port}",
            "--repl-diskless-sync-delay",
            "0",
        )
        servers.append(replica)
        await replica.start()
        async with asyncio.timeout(PATIENCE):
            while await replica.info("master_link_status") != "up":
                await asyncio.sleep(0.05)
        sentinels = []
        for number in range(3):
            directory = top / f"sentinel{number}"
            directory.mkdir()
            config = directory / "sentinel.conf"
            config.write_text(
                f"sentinel monitor chats 127.0.0.1 {primary.port} 2\n"
                "sentinel down-after-milliseconds chats 1000\nsentinel failover-timeout chats 5000\n"
            )
            sentinel = _Sentinel(directory)
            servers.append(sentinel)
            sentinels.append(sentinel)
            await sentinel.start()
        async with asyncio.timeout(PATIENCE):
            for sentinel in sentinels:
                while True:
                    [fields] = await sentinel.say(["SENTINEL", "MASTER", "chats"])
                    known = dict(zip(fields[0::2], fields[1::2], strict=True))
                    if known[b"num-other-sentinels"] == b"2" and known[b"num-slaves"] == b"1":
                        break
                    await asyncio.sleep(0.05)
        yield WatchedServers(primary, replica, sentinels)
    finally:
        await asyncio.gather(*(server.stop() for server in servers))
        shutil.rmtree(top, ignore_errors=True)


class _Sentinel(Server):
    """The same program, which watches; its configuration is a file that it writes itself."""

    async def start(self) -> None:
        config = self.directory / "sentinel.conf"
        if "port " not in config.read_text():
            config.write_text(
                f"port {self.port}\nbind 127.0.0.1\ndir {self.directory}\n" + config.read_text()
            )
        self._process = await asyncio.create_subprocess_exec(
            carried_binary(), config, "--sentinel", stdout=DEVNULL, stderr=DEVNULL
        )
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await self.say(["PING"])
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    return
