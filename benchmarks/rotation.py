"""Rotations under traffic, and what rewrapping costs. ``python benchmarks/rotation.py [rotations] [requests/s] [keys]``.

Three ``chatproxy serve`` on one embedded store and one keyset file; the process that rotates is killed with SIGKILL after
each of its writes, and another goes on. Afterwards every turn is opened, every wrap looked at, every expiry compared.
"""

import asyncio
import dataclasses
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from chatproxy.model import SubjectTag
from chatproxy.settings import load_settings
from chatproxy.store.address import StoreAddress
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.vault import open_vault
from chatproxy.workflows.rotate import NotYetError
from integration.rotation_fixtures import a_rotation
from integration.rotation_under_load import examine, loaded, rotate, three_nodes


def percentiles(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
    return f"p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, longest {ordered[-1] * 1000:.0f} ms"


async def rewrap_rate(nodes, connections, keys: int) -> None:
    """Fill the store with keys of people, and rewrap them under a new version."""
    async with open_vault(load_settings(nodes.env).settings) as vault:
        for start in range(0, keys, 1000):
            commands = []
            for number in range(start, min(start + 1000, keys)):
                subject = SubjectTag(b"bench" + number.to_bytes(11, "big"))
                _, wrap = vault.record_keys.new_subject_key(subject, generation=1)
                name = b"cp:{%b}:s" % subject.hex().encode()
                commands += [["HSET", name, "gen", 1, "w1", wrap], ["EXPIRE", name, 3600]]
            await connections.ask(commands)
        began = time.perf_counter()
        await a_rotation(vault).count_wraps()
        counted = time.perf_counter() - began
        rotation = a_rotation(vault)
        while (await rotation.ring()).primary_version == vault.record_keys.ring.primary_version:
            try:
                await rotation.advance()
            except NotYetError as waiting:
                print("  waits:", waiting)
                await asyncio.sleep(0.5)
        began = time.perf_counter()
        moved = sum((await rotation.rewrap()).moved.values())
        took = time.perf_counter() - began
        print(
            f"rewrap: {moved} keys in {took:.2f} s, {moved / took:.0f} keys/s; counted {keys / counted:.0f} keys/s"
        )


async def main() -> None:
    rotations, rate, keys = (
        int(each) for each in (sys.argv[1:] + ["20", "200", "100000"][len(sys.argv) - 1 :])
    )
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as name:
        directory = Path(name)
        (directory / "store").mkdir(mode=0o700)
        async with EmbeddedServer(directory / "store", ballast_bytes=0) as server:
            connections = Connections(StoreAddress.parse(server.url), deadline=60.0)
            async with three_nodes(directory, server.url) as nodes:
                async with loaded(nodes, rate=rate) as load:
                    await asyncio.sleep(10)
                    before = len(load.seconds)
                    began, killed = time.perf_counter(), 0
                    for number in range(rotations):
                        killed += await rotate(nodes, kill_after=1, kills=100)
                        print(f"  {number + 1}: killed {killed} times, {load.sent} chats", flush=True)
                    took = time.perf_counter() - began
                outcomes = await nodes.outcomes()
                print(f"{rotations} rotations in {took:.0f} s, killed {killed} times")
                print(
                    f"{load.sent} chats: {dict(load.statuses)}, {len(load.failures)} broke off; {dict(outcomes)}"
                )
                print("  before:", percentiles(load.seconds[:before]))
                print("  during:", percentiles(load.seconds[before:]))
                print(dataclasses.asdict(await examine(nodes, connections)))
                if keys:
                    await rewrap_rate(nodes, connections, keys)
            await connections.aclose()


asyncio.run(main())
