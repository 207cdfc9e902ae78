"""How does a program get the store that its settings name? The same way for ``serve`` and for every command."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from chatproxy.clock import Clock, wall_clock
from chatproxy.disk.directory import private_directory
from chatproxy.store.address import StoreAddress, Topology
from chatproxy.store.cluster import Cluster
from chatproxy.store.connections import Connections, Servers
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.redis import RedisStore
from chatproxy.store.sentinel import Watched

EMBEDDED = "embedded"


@contextlib.asynccontextmanager
async def open_store(
    url: str,
    data_dir: Path,
    *,
    ca_file: Path | None = None,
    deadline: float = 2.0,
    connections: int = 16,
    replicas: int = 0,
    clock: Clock = wall_clock,
    longest_pause: float | None = None,
    may_wait: bool = False,
) -> AsyncIterator[RedisStore]:
    """Open the store at *url*; for ``embedded``, start its server in *data_dir* or use the one that runs.

    Whether the store is a safe one is the question of :mod:`chatproxy.store.preflight`.

    Args:
        url: ``embedded``, or as :meth:`StoreAddress.parse` takes it.
        data_dir: where the embedded server's directory ``store`` lies.
        ca_file: certificate authorities for ``rediss://``.
        deadline: seconds for one operation.
        connections: how many operations run at once, on each server.
        replicas: how many replicas must have what was written before it counts as done.
        clock: what the embedded server's start goes by.
        longest_pause: as for :class:`EmbeddedServer`.
        may_wait: as for :class:`EmbeddedServer`.

    Raises:
        ConfigurationError: the URL cannot be used, or the embedded server cannot run.
        StoreUnavailableError: another process owns the embedded server, which does not answer.
    """
    async with contextlib.AsyncExitStack() as closing:
        if url == EMBEDDED:
            directory = private_directory(data_dir) / "store"
            server = EmbeddedServer(directory, clock=clock, longest_pause=longest_pause, may_wait=may_wait)
            await closing.enter_async_context(server)
            servers: Servers = Connections(
                StoreAddress.parse(server.url),
                deadline=deadline,
                most=connections,
                replicas=replicas,
                why_away=lambda: server.held,
            )
        else:
            address = StoreAddress.parse(url, ca_file=ca_file)
            servers = _servers(address, deadline=deadline, most=connections, replicas=replicas)
        store = RedisStore(servers)
        closing.push_async_callback(store.aclose)
        yield store


def _servers(address: StoreAddress, *, deadline: float, most: int, replicas: int) -> Servers:
    def open_node(one: StoreAddress) -> Connections:
        return Connections(one, deadline=deadline, most=most, replicas=replicas)

    match address.topology:
        case Topology.SINGLE:
            return open_node(address)
        case Topology.CLUSTER:
            return Cluster(address, open_node)
        case Topology.SENTINEL:
            # Sentinels have no databases, and users of their own.
            anonymous = replace(address, username=None, password=None, database=0)
            sentinels = [
                Connections(anonymous.at(*seed), deadline=deadline, most=most) for seed in address.seeds
            ]
            return Watched(address, sentinels, open_node)
