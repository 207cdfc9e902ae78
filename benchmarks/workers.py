"""Do more workers bring more, does an answer come in time near capacity, and what becomes of more than that?

``python benchmarks/workers.py [--seconds 4] [--rounds 3] [--connections 512]``

1. *Capacity*: as many captured answers as go until they are kept, since keeping gives way to chats, of one worker on the first processor with its store, and of two on both.
   Load and backend are on the second processor, so two workers cannot have twice one's; what can be said of them is CPU
   per request, and how evenly they share. Runs alternate; the table has medians.
2. *Near capacity*: one worker is offered a part of what it can do, by a load that does not wait for answers.
3. *Overload*: it is offered three times that, over new connections where none is free, so that there is no room
   (``CHATPROXY_CLIENT_CONNECTIONS`` is the third option). Beside it somebody asks twenty times a second, from before until
   after. Fails where a client saw anything but a whole answer or 503 (but for one in a hundred whose kept connection was
   closed just as it was used), where a whole answer was neither kept nor counted lost, or where who asks beside it is not
   served as before within ten seconds of the end.

Linux only.
"""

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from byte_path import HERE, PROXY_CPU, REST_CPU, Load, a_backend, family, generate, start_load
from flat import PATH, rss_mib
from whole import WHO, metric, served

ANSWERS = Load("answer", PATH, 64)
PARTS = (0.2, 0.5, 0.8)
OVERLOAD = 3.0
CALM, BUSY, AFTER = 4.0, 8.0, 12.0
"""Seconds before, during and after the overload."""
BESIDE_RATE = 20
SLOW_MS = 100.0
"""An answer that takes longer, and twice as long as before, is not as usual."""
MOST = 8_000
"""Connections that the load opens at a time."""
NOT_OURS = {"unsent", "waiting", "refused"}
"""What becomes of requests that never got a connection."""


def members(pid):
    """Return the processes of chatproxy that serve, and those of its store."""
    names = {member: Path(f"/proc/{member}/comm").read_text().strip() for member in family(pid)}
    store = [member for member, name in names.items() if name.startswith("valkey")]
    return [member for member in names if member not in store], store


def own(member):
    fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def used(pid):
    serving, store = members(pid)
    return {member: own(member) for member in serving}, sum(map(own, store))


def settled(admin):
    while metric(admin, "chatproxy_turns_pending"):
        time.sleep(0.05)


def begin(backend_port, workers):
    os.environ["CHATPROXY_WORKERS"] = str(workers)
    return served(backend_port)


def spread(process, admin, workers):
    """Wait until all workers serve, and let them have both processors if they are several."""
    while workers > 1 and metric(admin, "chatproxy_workers") < workers:
        time.sleep(0.1)
    for member in family(process.pid):
        os.sched_setaffinity(member, PROXY_CPU if workers == 1 else PROXY_CPU | REST_CPU)


def capacity(backend_port, workers, seconds):
    with begin(backend_port, workers) as (process, port, admin):
        spread(process, admin, workers)
        generate(port, ANSWERS, 1, WHO)
        settled(admin)
        before, store_before = used(process.pid)
        begun = time.monotonic()
        total = generate(port, ANSWERS, seconds, WHO)
        settled(admin)
        took = time.monotonic() - begun
        after, store_after = used(process.pid)
        count = total["requests"]
        if total["errors"] or metric(admin, 'chatproxy_turns_total{outcome="lost"}'):
            raise SystemExit(f"{workers} workers: turns or requests were lost: {total}")
        each = sorted((after[member] - before.get(member, 0.0) for member in after), reverse=True)[:workers]
        return {
            "rate": count / took,
            "proxy": (sum(after.values()) - sum(before.values())) / count * 1e6,
            "store": (store_after - store_before) / count * 1e6,
            "least": min(each) / sum(each),
        }


def offer(port, rate, most, seconds):
    words = [str(HERE / "offered.py"), str(rate), str(port), PATH, str(most), str(seconds), *WHO]
    return start_load(words)


def told(process):
    with process:
        output, _ = process.communicate()
    return json.loads(output)


def outcomes(rows):
    return sum((Counter(row["outcomes"]) for row in rows), Counter())


def level(rows, name):
    found = [row[name] for row in rows if row["outcomes"].get("200")]
    return statistics.median(found) if found else float("nan")


class Watch:
    """The most memory that the proxy has had, in MiB."""

    def __init__(self, pid):
        self.most = 0.0
        self.is_over = False
        self.thread = threading.Thread(target=self.look, args=(pid,))
        self.thread.start()

    def look(self, pid):
        while not self.is_over:
            self.most = max(self.most, rss_mib(pid))
            time.sleep(0.1)

    def end(self):
        self.is_over = True
        self.thread.join()
        return self.most


def stored(admin):
    return {
        outcome: metric(admin, f'chatproxy_turns_total{{outcome="{outcome}"}}')
        for outcome in ("stored", "lost", "set_aside", "unparsed", "replayed")
    }


def near(port, rate, seconds):
    print("\n| offered | a second | p50 ms | p99 ms |\n|--:|--:|--:|--:|")
    for part in PARTS:
        rows = told(offer(port, rate * part, MOST, seconds))
        if set(outcomes(rows)) != {"200"}:
            raise SystemExit(f"at {part:.0%}: {outcomes(rows)}")
        print(
            f"| {part:.0%} | {rate * part:,.0f} | {level(rows, 'p50_ms'):.2f} | {level(rows, 'p99_ms'):.2f} |",
            flush=True,
        )


def overload(process, port, admin, rate):
    settled(admin)
    before, idle = stored(admin), rss_mib(process.pid)
    watch = Watch(process.pid)
    beside = offer(port, BESIDE_RATE, MOST, CALM + BUSY + AFTER)
    time.sleep(CALM)
    begun = time.monotonic()
    rows = told(offer(port, rate * OVERLOAD, MOST, BUSY))
    over = begun + BUSY
    ended = time.monotonic()
    settled(admin)
    kept = time.monotonic() - ended
    asked = told(beside)
    settled(admin)
    most = watch.end()
    for row in rows:
        answered = row["outcomes"].get("200", 0)
        print(
            f"second {row['begun'] - rows[0]['begun']:.0f}: {row['outcomes']}, {answered} answered, "
            f"p50 {row['p50_ms']:.0f} ms, p99 {row['p99_ms']:.0f} ms",
            file=sys.stderr,
        )
    for row in asked:
        print(
            f"beside, {row['begun'] - begun:+.1f} s: {row['outcomes']}, p50 {row['p50_ms']:.1f} ms, p99 {row['p99_ms']:.1f} ms",
            file=sys.stderr,
        )
    seen = outcomes(rows) + outcomes(asked)
    after = stored(admin)
    more = {outcome: after[outcome] - before[outcome] for outcome in after}
    calm = [row for row in asked if row["begun"] + 1 < begun]
    usual = max(row["p99_ms"] for row in calm)
    slow = max(2 * usual, SLOW_MS)
    late = [row["begun"] + 1 - over for row in asked if row["begun"] >= over and row["p99_ms"] > slow]
    print(f"\noverload: {dict(seen)}, turns {more}, all kept {kept:.1f} s after the last answer")
    print(f"RSS MiB: {idle:.0f} before, {most:.0f} at most, {rss_mib(process.pid):.0f} after")
    print(f"beside it, p99 ms: {usual:.1f} before, back after {max(late, default=0.0):.1f} s")
    wrong = set(seen) - NOT_OURS - {"200", "503", "closed"}
    if wrong or seen["closed"] > seen.total() / 100:
        raise SystemExit("clients saw what they should not see")
    if sum(more.values()) < seen["200"]:
        raise SystemExit("turns were lost uncounted")
    if late and max(late) >= AFTER - 1:
        raise SystemExit("it does not recover")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=512)
    options = parser.parse_args()
    with a_backend() as backend_port:
        runs = {1: [], 2: []}
        for _ in range(options.rounds):
            for workers, done in runs.items():
                done.append(capacity(backend_port, workers, options.seconds))
                print(f"{workers}: {done[-1]}", file=sys.stderr)
        print("| workers | requests/s | CPU µs an answer | and of the store | the least busy worker's part |")
        print("|--:|--:|--:|--:|--:|")
        cost = {}
        for workers, done in runs.items():
            rate, proxy, store, least = (
                statistics.median(run[figure] for run in done)
                for figure in ("rate", "proxy", "store", "least")
            )
            cost[workers] = proxy + store
            print(f"| {workers} | {rate:,.0f} | {proxy:,.0f} | {store:,.0f} | {least:.0%} |", flush=True)
        print(f"\ntwo with two processors to themselves, reckoned: {2 * cost[1] / cost[2]:.1f} times one")
        rate = statistics.median(run["rate"] for run in runs[1])
        os.environ["CHATPROXY_CLIENT_CONNECTIONS"] = str(options.connections)
        with begin(backend_port, 1) as (process, port, admin):
            generate(port, ANSWERS, 1, WHO)
            near(port, rate, options.seconds)
            overload(process, port, admin, rate)


if __name__ == "__main__":
    main()
