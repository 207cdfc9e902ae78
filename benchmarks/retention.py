"""How long does ``chatproxy retention report`` take, and in how much memory?

``python benchmarks/retention.py [--turns 50000,200000] [--people 5000]``

Turns of some 100 bytes are sealed and put as the archive does it, half of them of people who have agreed. The report then
runs as a process of its own beside the embedded store: once as they were kept, and once after a twentieth of the people has
refused and nobody has followed yet, so that what they have is decided on again. Linux only.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from chatproxy.consent.events import Choice
from chatproxy.store.embedded import EmbeddedServer
from integration.dataset_fixtures import an_archive, said
from integration.serve_process import WORDS, environment

BATCH = 50
EVERY = 20
"""One person of so many refuses."""


def report(env):
    """Run the report; return the last line that it says, seconds, CPU seconds and peak memory in MiB."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "chatproxy", "retention", "report"],
        env={**WORDS, **env, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        stdout=subprocess.PIPE,
    )
    said_last = process.stdout.read().decode().strip().splitlines()[-1]
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    spent = usage.ru_utime + usage.ru_stime
    return said_last, time.perf_counter() - begun, spent, usage.ru_maxrss / 1024


def show(turns, what, env):
    last, seconds, spent, memory = report(env)
    print(
        f"| {turns:,} | {what} | {seconds:.1f} | {turns / seconds:,.0f} | {spent:.1f} | {memory:.0f} | {last} |",
        flush=True,
    )


async def measure(archive, env, sizes, people):
    for number in range(0, people, 2):
        await archive.choose(f"p{number}", Choice.GIVEN, days_ago=40)
    kept = 0
    print("| turns | what | s | turns/s | CPU s | peak MiB | said |")
    print("|--:|---|--:|--:|--:|--:|---|", flush=True)
    for turns in sizes:
        begun = time.perf_counter()
        while kept < turns:
            await archive.keep_all(
                f"p{kept // BATCH % people}",
                [said("hello") for _ in range(BATCH)],
                days_ago=10,
                conversation=str(kept),
            )
            archive.conversations.clear()
            kept += BATCH
        print(f"filled to {kept:,} in {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
        await asyncio.to_thread(show, kept, "as kept", env)
    for number in range(1, people, EVERY):
        await archive.choose(f"p{number}", Choice.REFUSED, days_ago=1)
    await asyncio.to_thread(show, kept, "a twentieth of the people has refused since", env)


async def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", default="50000,200000")
    parser.add_argument("--people", type=int, default=5_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as name:
        directory = Path(name)
        (directory / "server").mkdir()
        async with EmbeddedServer(directory / "server", ballast_bytes=0) as server:
            env = environment(directory, store=server.url)
            async with an_archive(directory, server.url, store_timeout="30s") as archive:
                await measure(archive, env, list(map(int, options.turns.split(","))), options.people)


if __name__ == "__main__":
    asyncio.run(main())
