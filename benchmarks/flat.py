"""Does a turn cost the same when many are stored, and what do many open streams hold?

``python benchmarks/flat.py [--turns 200000] [--streams 5000]``

All turns are of one person, whose index is the longest there can be. ``chatproxy serve`` with its embedded store runs on the
first processor; backend and load generator share the second. CPU is user and system time per turn until it is kept. The memory
that a queue of turns has taken stays with the process, so all bursts are of one length, and *waiting* is the longest queue
that was seen after one. Fails if memory grows by more than a twentieth from 10,000 turns on. Then each of so many clients
opens a captured stream that says something every five seconds. Linux only.
"""

import argparse
import asyncio
import os
import re
import resource
import time
from pathlib import Path

from byte_path import Load, a_backend, cpu_seconds, generate
from load import _BODY, _REQUEST
from peers import Running, paced
from whole import WHO, metric, own_cpu, served

PATH = "/v1/chat/completions"
SECONDS = 4.0


def rss_mib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


class Waiting:
    """How many turns waited at most at the end of a burst."""

    most = 0


def settled(admin):
    while pending := metric(admin, "chatproxy_turns_pending"):
        Waiting.most = max(Waiting.most, pending)
        time.sleep(0.05)


def fill(port, admin, turns):
    while (stored := metric(admin, 'chatproxy_turns_total{outcome="stored"}')) < turns:
        generate(port, Load("fill", PATH, 32), min(SECONDS, max(0.5, (turns - stored) / 2000)), WHO)
        settled(admin)


def window(process, port, admin):
    proxy, together = own_cpu(process.pid), cpu_seconds(process.pid)
    total = generate(port, Load("window", PATH, 32), SECONDS, WHO)
    settled(admin)
    own = own_cpu(process.pid) - proxy
    store = cpu_seconds(process.pid) - together - own
    calm = paced(Running(process.pid, port), PATH, SECONDS, WHO)
    count = total["requests"]
    return own / count * 1e6, store / count * 1e6, calm["p50_ms"], calm["p99_ms"]


async def open_streams(port, count, sample):
    extra = "".join(f"{header}\r\n" for header in WHO).encode()
    request = _REQUEST % (b"/slow/chat/completions", extra, len(_BODY)) + _BODY
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=200_000)
    parser.add_argument("--streams", type=int, default=5_000)
    options = parser.parse_args()
    for setting in ("CHATPROXY_CLIENT_CONNECTIONS", "CHATPROXY_CLIENT_CONNECTIONS_PER_ADDRESS"):
        os.environ[setting] = str(options.streams + 100)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with a_backend() as backend_port, served(backend_port) as (process, port, admin):
        print(f"idle: {rss_mib(process.pid):.0f} MiB\n")
        print(
            "| turns stored | proxy CPU µs | store CPU µs | p50 / p99 ms at 200/s | proxy RSS MiB | waiting |"
        )
        print("|--:|--:|--:|--:|--:|--:|", flush=True)
        held = []
        window(process, port, admin)
        for turns in (1_000, 10_000, 50_000, 100_000, 200_000, 500_000, 2_000_000):
            if turns <= options.turns:
                fill(port, admin, turns)
                own, store, p50, p99 = window(process, port, admin)
                rss = rss_mib(process.pid)
                print(
                    f"| {turns:,} | {own:,.0f} | {store:,.0f} | {p50:.2f} / {p99:.2f} | {rss:.1f} | {Waiting.most:,.0f} |",
                    flush=True,
                )
                held += [rss] if turns >= 10_000 else []

        async def sample(what):
            print(f"{what}: {rss_mib(process.pid):.0f} MiB", flush=True)

        print()
        asyncio.run(open_streams(port, options.streams, sample))
        settled(admin)
        print(f"after they have left: {rss_mib(process.pid):.0f} MiB")
        if held and held[-1] > held[0] * 1.05:
            raise SystemExit("memory grows")


if __name__ == "__main__":
    main()
