"""What does a turn take when many are stored, or of many people, in what no other program on the machine can change?

``python benchmarks/flat_counts.py [--turns 1000,10000,100000] [--people 1000,10000,100000]``

Functions called by the proxy for a captured answer until it is kept, the least of 25, and commands that the store's server runs
for it, with so many turns of one person in the store, or so many people who have a ledger and a turn each (``filling.py``). The
proxy runs in a thread that counts its calls (``tests/integration/test_cost.py``). Beside them, for what it is worth, the
server's own µs: for the script that puts a turn, over so many more turns, and for reading a person's keys and ledger.

*Looked up*: who chats is one of the people, by chance, whom the process does not remember; each is asked about once. *Remembered*:
the same people right after.
"""

import argparse
import asyncio
import random
import re
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from filling import fill_people, fill_turns, name_of

from chatproxy.store.embedded import EmbeddedServer
from integration.dataset_fixtures import an_archive
from integration.proxy_fixtures import ANA_LINES, OPENAI, chat_bytes, post, raw_client
from integration.test_cost import REQUESTS, Pace, a_counted_proxy

TIMED = 400
"""Turns over which the server's µs are taken."""
BESIDE = {"config|resetstat", "info", "ping", "zrange"}
"""What the benchmark asks itself, and what every node asks by the clock."""
LOOK_UPS = ("hgetall", "lrange")


class Measured:
    """One proxy, its store, and chats one at a time."""

    def __init__(self, proxy, archive, pace):
        self.vault = archive.vault
        self._proxy = proxy
        self._ask = archive.vault.store.connections.ask
        self._pace = pace
        self._asked = 0

    async def chats(self, people):
        """Have each of *people*, headers each, chat; return functions called, and the calls and µs of each command."""
        await self._ask([["CONFIG", "RESETSTAT"]])
        people = iter(people)

        async def chat():
            self._asked += 1
            said = chat_bytes(f"question {self._asked} " * 60)
            await client.send(post(OPENAI, said, *next(people)))
            await self._pace.read_answer(client)

        async with raw_client(self._proxy.running.url) as client:
            called = await self._proxy.calls_of(chat)
        [info] = await self._ask([["INFO", "commandstats"]])
        rows = re.findall(r"cmdstat_(\S+?):calls=(\d+),usec=(\d+)", info.decode())
        return called, {name: (int(calls), int(usec)) for name, calls, usec in rows if name not in BESIDE}

    async def is_at_rest(self):
        """Wait until the store does not rewrite its file."""
        while True:
            await asyncio.sleep(1.0)  # it looks ten times a second whether it should
            [info] = await self._ask([["INFO", "persistence"]])
            if b"aof_rewrite_in_progress:0" in info and b"aof_rewrite_scheduled:0" in info:
                return

    async def row(self, label, people):
        """Print what chats of *people* take: those of 25, then those of more for the µs."""
        await self.is_at_rest()
        called, stats = await self.chats(people[:REQUESTS])
        # The script itself is a command too.
        count = sum(calls for name, (calls, _) in stats.items() if name != "evalsha") / REQUESTS
        # The least of sixteen means, as the server's clock runs on while others have its processor.
        script, look_up = [], []
        for start in range(REQUESTS, len(people), REQUESTS):
            _, stats = await self.chats(people[start : start + REQUESTS])
            script.append(stats["evalsha"][1] / REQUESTS)
            look_up.append(sum(stats[name][1] for name in LOOK_UPS if name in stats) / REQUESTS)
        [memory] = await self._ask([["INFO", "memory"]])
        used = int(re.search(rb"used_memory:(\d+)", memory)[1]) >> 20
        print(
            f"| {label} | {called:,.0f} | {count:.0f} | {min(script):.0f} | {min(look_up):.0f} | {used:,} |",
            flush=True,
        )


@asynccontextmanager
async def measured(directory):
    (directory / "server").mkdir()
    pace = Pace()
    async with (
        EmbeddedServer(directory / "server", ballast_bytes=0) as server,
        a_counted_proxy(directory, server.url, pace.script) as proxy,
        an_archive(directory, server.url, store_timeout="60s") as archive,
    ):
        yield Measured(proxy, archive, pace)


def head(what):
    print(
        f"\n| {what} | functions called | commands of the store | µs of the script | µs of looking up | store MiB |"
    )
    print("|---|--:|--:|--:|--:|--:|", flush=True)


def lines_of(number):
    return (b"X-Chat-Subject: " + name_of(number).encode(), b"X-Chat-Plan: pro")


async def with_turns(one, sizes):
    head("turns stored, of one person")
    ana = [ANA_LINES] * (REQUESTS + TIMED)
    held = 0
    await one.chats(ana[:REQUESTS])  # until the person has a key
    for turns in sizes:
        await fill_turns(one.vault, turns - held)
        held = turns
        await one.row(f"{turns:,}", ana)


async def with_people(one, sizes):
    head("people")
    held, known = 0, []
    drawn = random.Random(7)
    await one.chats([ANA_LINES] * REQUESTS)
    for people in sizes:
        await fill_people(one.vault, held, people - held)
        some = drawn.sample(range(held, people), min(people - held, REQUESTS + TIMED))
        held = people
        if len(some) > REQUESTS:
            await one.row(f"{people:,}, looked up", [lines_of(number) for number in some])
        known = [lines_of(number) for number in some] * (1 + (REQUESTS + TIMED) // len(some))
        await one.row(f"{people:,}, remembered", known[: REQUESTS + TIMED])


async def run(directory, options):
    for name, sizes, measure in (
        ("turns", options.turns, with_turns),
        ("people", options.people, with_people),
    ):
        if sizes:
            (directory / name).mkdir()
            async with measured(directory / name) as one:
                await measure(one, [int(size) for size in sizes.split(",")])


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", default="1000,10000,100000")
    parser.add_argument("--people", default="1,1000,10000,100000")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-", ignore_cleanup_errors=True) as name:
        asyncio.run(run(Path(name), options))


if __name__ == "__main__":
    main()
