"""What does a turn take when many are stored, in what no other program on the machine can change?

``python benchmarks/flat_counts.py [--turns 1000,10000,100000]``

Functions called by the proxy for a captured answer until it is kept, commands that the store's server runs for it, and the
memory of the store, with so many turns of the same person in it (``filling.py``). The proxy runs in a thread that counts its
calls (``tests/integration/test_cost.py``). Beside them, for what it is worth, the server's own µs for the two commands
that touch the person's indexes, which are all that could grow.
"""

import argparse
import asyncio
import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from filling import fill_turns

from chatproxy.store.embedded import EmbeddedServer
from integration.dataset_fixtures import an_archive
from integration.proxy_fixtures import ANA_LINES, OPENAI, chat_bytes, post, raw_client
from integration.test_cost import REQUESTS, Pace, a_counted_proxy

NOT_OF_A_PUT = {"evalsha", "config|resetstat", "info", "ping", "zrange"}


async def commands(ask):
    """Return the calls and µs of each command since the last reset."""
    [info] = await ask([["INFO", "commandstats"]])
    rows = re.findall(r"cmdstat_(\S+?):calls=(\d+),usec=(\d+)", info.decode())
    return {name: (int(calls), int(usec)) for name, calls, usec in rows}


async def measure(directory, sizes):
    pace = Pace()
    async with (
        EmbeddedServer(directory / "server", ballast_bytes=0) as server,
        a_counted_proxy(directory, server.url, pace.script) as proxy,
        an_archive(directory, server.url, store_timeout="60s") as archive,
    ):
        asked, held = 0, 0
        ask = archive.vault.store.connections.ask

        async def calls():
            async def chat():
                nonlocal asked
                asked += 1
                await client.send(post(OPENAI, chat_bytes(f"question {asked} " * 60), *ANA_LINES))
                await pace.read_answer(client)

            async with raw_client(proxy.running.url) as client:
                return await proxy.calls_of(chat)

        await calls()  # until the person has a key
        print("| turns stored | functions called | commands of the store | µs of both `ZADD` | store MiB |")
        print("|--:|--:|--:|--:|--:|", flush=True)
        for turns in sizes:
            await fill_turns(archive.vault, turns - held)
            held = turns
            await ask([["CONFIG", "RESETSTAT"]])
            called = await calls()
            stats = await commands(ask)
            count = sum(calls for name, (calls, _) in stats.items() if name not in NOT_OF_A_PUT)
            [memory] = await ask([["INFO", "memory"]])
            used = int(re.search(rb"used_memory:(\d+)", memory)[1]) >> 20
            zadd = stats["zadd"][1] / REQUESTS
            print(
                f"| {turns:,} | {called:,.0f} | {count / REQUESTS:.1f} | {zadd:.1f} | {used:,} |", flush=True
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", default="1000,10000,100000")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        (directory / "server").mkdir()
        asyncio.run(measure(directory, list(map(int, options.turns.split(",")))))


if __name__ == "__main__":
    main()
