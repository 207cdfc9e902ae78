"""Does a turn cost the same when many are stored, or of many people, and what do many open streams hold?

``python benchmarks/flat.py [--turns 100000] [--people 10000] [--rounds 3] [--streams 5000]``

Two times ``chatproxy serve`` with its embedded store, both on the first processor; backend and load generator share the
second. One store holds what the measuring brings, the other is filled, step by step (``filling.py``), and they are measured in
turn, so that what the machine does besides falls on both; not while a store rewrites its file, which is told apart. CPU is user
and system time per turn until it is kept; the *script* is the one that puts a turn, as the store's server times it.

*Turns* are all of one person, whose index is the longest there can be. *People* have a ledger and a turn each, and who chats is
one of them, by chance: of 1,000, whom the process remembers, in both stores; and of all in the one that is filled, whom it has
to look up. The memory that a queue of turns has taken stays with the process, so all bursts are of one length.

Last, each of so many clients opens a captured stream that says something every five seconds. Linux only.
"""

import argparse
import asyncio
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import redis
from byte_path import HERE, REST_CPU, Load, a_backend, cpu_seconds, generate
from load import request_bytes
from peers import Running, paced
from whole import WHO, metric, own_cpu, served_from

PATH = "/v1/chat/completions"
SECONDS = 3.0
REMEMBERED = 1_000
"""People whom the process has all in memory."""
ANYBODY = ("X-Chat-Subject: person-{person}", "X-Chat-Plan: pro")


def rss_mib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def settled(admin):
    while metric(admin, "chatproxy_turns_pending"):
        time.sleep(0.05)


def fill(port, admin, turns):
    """Have chats bring so many turns."""
    while (stored := metric(admin, 'chatproxy_turns_total{outcome="stored"}')) < turns:
        generate(port, Load("fill", PATH, 32), min(SECONDS, max(0.5, (turns - stored) / 2000)), WHO)
        settled(admin)


class Proxy:
    """One that serves, and what it has cost."""

    def __init__(self, directory, process, port, admin):
        self.directory = Path(directory)
        self.process = process
        self.port = port
        self.admin = admin

    def fill(self, what, *counts):
        """Put turns into its store from beside it."""
        words = [f"file:{self.directory}/keyset", f"{self.directory}/data", what, *map(str, counts)]
        with subprocess.Popen([sys.executable, str(HERE / "filling.py"), *words], cwd=HERE) as process:
            os.sched_setaffinity(process.pid, REST_CPU)
        if process.returncode:
            raise SystemExit("the store was not filled")
        time.sleep(1.0)  # until the server has looked whether to rewrite its file, which a window waits for

    def store(self):
        """Return a connection to the store's server."""
        return redis.Redis(unix_socket_path=str(self.directory / "data" / "store" / "s.sock"))

    def window(self, headers, options):
        """Return CPU µs of the proxy and of its store, the script's µs, and p50 and p99 at 200/s."""
        settled(self.admin)
        with self.store() as server:
            while server.info("persistence")["aof_rewrite_in_progress"]:
                time.sleep(0.2)
            server.config_resetstat()
        proxy, together = own_cpu(self.process.pid), cpu_seconds(self.process.pid)
        count = generate(self.port, Load("window", PATH, 32), SECONDS, headers, options=options)["requests"]
        settled(self.admin)
        own = own_cpu(self.process.pid) - proxy
        store = cpu_seconds(self.process.pid) - together - own
        with self.store() as server:
            script = server.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]
        calm = paced(Running(self.process.pid, self.port), PATH, SECONDS, headers, options=options)
        return own / count * 1e6, store / count * 1e6, script, calm["p50_ms"], calm["p99_ms"]


def compare(title, few, many, rounds, headers, options=((), ())):
    """Measure both in turn, and print medians and what the second costs beside the first."""
    runs = ([], [])
    for _ in range(rounds):
        for proxy, done, option in zip((few, many), runs, options, strict=True):
            done.append(proxy.window(headers, option))
    medians = [[statistics.median(values) for values in zip(*done, strict=True)] for done in runs]
    for what, (own, store, script, p50, p99) in zip(("few", title), medians, strict=True):
        print(f"| {what} | {own:,.0f} | {store:,.0f} | {script:.1f} | {p50:.2f} / {p99:.2f} |")
    ratios = [many / few for few, many in zip(*medians, strict=True)]
    print(
        f"| *beside few* | {ratios[0]:.2f} | {ratios[1]:.2f} | {ratios[2]:.2f} | {ratios[3]:.2f} / {ratios[4]:.2f} |",
        flush=True,
    )


def head(what):
    print(f"\n| {what} | proxy CPU µs | store CPU µs | the script, µs | p50 / p99 ms at 200/s |")
    print("|--:|--:|--:|--:|--:|", flush=True)


def with_turns(backend_port, most, rounds):
    with served_from(backend_port) as one, served_from(backend_port) as other:
        few, many = Proxy(*one), Proxy(*other)
        for proxy in (few, many):
            proxy.window(WHO, ())
        head("turns stored, of one person")
        held = 0
        for turns in (10_000, 100_000, 1_000_000, 2_000_000):
            if turns <= most:
                many.fill("turns", turns - held)
                held = turns
                compare(f"{turns:,}", few, many, rounds, WHO)
        print(
            f"\nRSS MiB: {rss_mib(few.process.pid):.0f} with few, {rss_mib(many.process.pid):.0f} with many"
        )
        with many.store() as server:
            found = server.info()
        print(
            f"the store: {found['used_memory'] >> 20:,} MiB, last rewrite of its file "
            f"{found['aof_last_rewrite_time_sec']} s, last fork {found['latest_fork_usec'] / 1000:.0f} ms"
        )


def with_people(backend_port, most, rounds):
    with served_from(backend_port) as one, served_from(backend_port) as other:
        few, many = Proxy(*one), Proxy(*other)
        few.fill("people", 0, REMEMBERED)
        many.fill("people", 0, REMEMBERED)
        some = [f"--people={REMEMBERED}"]
        for proxy in (few, many):
            proxy.window(ANYBODY, some)
        head("people")
        held = REMEMBERED
        for people in (10_000, 100_000, 1_000_000):
            if people <= most:
                many.fill("people", held, people - held)
                held = people
                compare(f"{people:,}, {REMEMBERED:,} chat", few, many, rounds, ANYBODY, (some, some))
                everybody = [f"--people={people}"]
                compare(f"{people:,}, all chat", few, many, rounds, ANYBODY, (some, everybody))
        with many.store() as server:
            print(f"\nthe store: {server.info('memory')['used_memory'] >> 20:,} MiB")


async def open_streams(port, count, sample):
    request = request_bytes("/slow/chat/completions", WHO)
    writers = []
    for number in range(1, count + 1):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        await reader.readuntil(b"\n\n")
        writers.append(writer)
        if number in {count // 5, count}:
            await sample(f"{number:,} open streams")
    await asyncio.sleep(30)
    await sample(f"{count:,} open streams, half a minute later")
    for writer in writers:
        writer.transport.abort()


def with_streams(backend_port, count):
    for setting in ("CHATPROXY_CLIENT_CONNECTIONS", "CHATPROXY_CLIENT_CONNECTIONS_PER_ADDRESS"):
        os.environ[setting] = str(count + 100)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with served_from(backend_port) as served:
        proxy = Proxy(*served)
        print(f"\nidle: {rss_mib(proxy.process.pid):.0f} MiB")

        async def sample(what):
            print(f"{what}: {rss_mib(proxy.process.pid):.0f} MiB", flush=True)

        asyncio.run(open_streams(proxy.port, count, sample))
        settled(proxy.admin)
        print(f"after they have left: {rss_mib(proxy.process.pid):.0f} MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=100_000)
    parser.add_argument("--people", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=5_000)
    options = parser.parse_args()
    with a_backend() as backend_port:
        if options.turns:
            with_turns(backend_port, options.turns, options.rounds)
        if options.people:
            with_people(backend_port, options.people, options.rounds)
        if options.streams:
            with_streams(backend_port, options.streams)


if __name__ == "__main__":
    main()
