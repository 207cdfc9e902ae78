"""How soon does a choice count on every node, and what does it cost to look one up among a million?

``python benchmarks/consent.py [--tries 1000] [--people 1000000] [--requests 200000] [--directory /tmp]``

*Withdrawal*: two processes on one embedded store, which syncs every write to disk. One records a withdrawal as
``chatproxy consent withdraw`` does; the other has the person cached as eligible and notes when it does not count that
any more. Both read one monotonic clock.

*Look-ups*: a ledger with one choice for each person, in an embedded store. Requests draw people by Zipf's law
(exponent 1), so that a few chat all the time and most once; eight are under way at once. *Added* is what a request waits
for: the call that begins a look-up. *Known* is how long after that the choice is known, for those not in memory.
"""

import argparse
import asyncio
import logging
import multiprocessing
import random
import resource
import statistics
import tempfile
import time
from itertools import accumulate
from pathlib import Path

from chatproxy.clock import wall_clock
from chatproxy.consent.events import PURPOSES, Choice, write_choice
from chatproxy.crypto.keyset import make_keyset
from chatproxy.kms.file import KeysetFile
from chatproxy.model import Caller, SubjectTag, Surface
from chatproxy.policy.periods import Period
from chatproxy.store import keys as names
from chatproxy.store.address import StoreAddress
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.redis import RedisStore
from chatproxy.tasks import Background
from chatproxy.telemetry import Metrics
from chatproxy.workflows.ledger import Ledger
from chatproxy.workflows.subjects import Subjects

SURFACES = (Surface.CHAT, Surface.CODE)
CALLER = Caller(subject="somebody", plan="pro")


def opened(url):
    return RedisStore(Connections(StoreAddress.parse(url), deadline=60.0))


def subjects_over(store, keyset, background, metrics):
    return Subjects(
        store,
        keyset.annotation_keys(),
        clock=wall_clock,
        metrics=metrics,
        background=background,
        max_staleness_ms=60_000,
    )


def percentiles(values):
    cuts = statistics.quantiles(values, n=1000)
    return {"p50": cuts[499], "p90": cuts[899], "p99": cuts[989], "max": max(values)}


def shown(label, values, scale, unit):
    found = percentiles([value * scale for value in values])
    print(f"{label}: " + ", ".join(f"{name} {value:.3g} {unit}" for name, value in found.items()))


# --- withdrawal ---


def keyset_in(directory):
    return KeysetFile(directory / "keyset", data_dir=directory / "data")


def other_node(url, directory, pipe):
    """Keep whoever is named cached, and say when a change has emptied their place."""

    async def main():
        store, metrics = opened(url), Metrics()
        background = Background(logging.getLogger("node"))
        subjects = subjects_over(store, keyset_in(directory).load(), background, metrics)
        changed = asyncio.Event()
        person = None
        told_at = 0

        def wake():
            nonlocal told_at
            if person is not None and subjects.known(person) is None:
                told_at = time.monotonic_ns()
                changed.set()

        background.spawn(subjects.listen(wake), name="listen")
        await listening(metrics)
        while named := await asyncio.to_thread(pipe.recv):
            read = await subjects.read(SubjectTag(named))
            assert read.facts.open_grant_since(Surface.CHAT) is not None
            assert subjects.known(named) is not None
            changed.clear()
            person = named
            pipe.send("cached")
            await changed.wait()
            person = None
            pipe.send(told_at)
        await background.aclose()
        await store.aclose()

    asyncio.run(main())


async def listening(metrics):
    while not metrics.registry.get_sample_value("chatproxy_consent_listening"):  # noqa: ASYNC110 - has no event
        await asyncio.sleep(0.01)


async def withdrawals(url, directory, tries):
    store = opened(url)
    number = iter(range(1 << 60))
    ledger = Ledger(
        store,
        keyset_in(directory).load().annotation_keys(),
        training=Period(years=5),
        new_record_id=lambda: str(next(number)),
        clock=wall_clock,
    )
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=other_node, args=(url, directory, there))
    process.start()
    begun, confirmed = [], []
    for turn in range(tries):
        person = tag(turn // 10)  # ledgers of at most 20 events
        await ledger.record(person, Choice.GIVEN, at=wall_clock(), by="bench", method="bench")
        await asyncio.sleep(0.01)  # the yes has been heard
        here.send(bytes(person))
        assert await asyncio.to_thread(here.recv) == "cached"
        start = time.monotonic_ns()
        await ledger.record(person, Choice.WITHDRAWN, at=wall_clock(), by="bench", method="bench")
        done = time.monotonic_ns()
        told_at = await asyncio.to_thread(here.recv)
        begun.append(told_at - start)
        confirmed.append(told_at - done)
    here.send(b"")
    process.join()
    await store.aclose()
    shown(f"withdrawal, from its first byte, {tries} tries", begun, 1e-6, "ms")
    shown("withdrawal, from its confirmation", confirmed, 1e-6, "ms")


# --- look-ups ---


def tag(number):
    return SubjectTag(number.to_bytes(16, "big"))


async def load(store, keyset, people):
    annotation_keys = keyset.annotation_keys()
    expires_at = wall_clock() + 8 * 366 * 86_400_000
    for start in range(0, people, 1000):
        commands = []
        for number in range(start, min(start + 1000, people)):
            event = write_choice(
                subject=tag(number), choice=Choice.GIVEN, at=1_760_000_000_000, by="bench", method="bench",
                purposes=PURPOSES, surfaces=SURFACES, record_id=str(number), previous=None, keys=annotation_keys,
            )  # fmt: skip
            name = names.ledger(tag(number))
            commands += [["RPUSH", name, event], ["PEXPIREAT", name, expires_at]]
        await store.connections.ask(commands)


async def lookups(store, keyset, people, requests):
    metrics = Metrics()
    background = Background(logging.getLogger("bench"))
    subjects = subjects_over(store, keyset, background, metrics)
    background.spawn(subjects.listen(lambda: None), name="listen")
    await listening(metrics)
    draw = random.Random(7)
    weights = list(accumulate(1 / rank for rank in range(1, people + 1)))
    asked = iter(draw.choices(range(people), cum_weights=weights, k=requests))
    added, known = {True: [], False: []}, []

    async def client():
        for number in asked:
            person = tag(number)
            is_cached = subjects.known(person) is not None
            start = time.perf_counter_ns()
            subjects.prefetch(person, CALLER)
            added[is_cached].append(time.perf_counter_ns() - start)
            if not is_cached:
                found = await subjects.read(person)
                known.append(time.perf_counter_ns() - start)
                assert found.facts.open_grant_since(Surface.CHAT) is not None
            else:
                await asyncio.sleep(0)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(8)))
    seconds = time.perf_counter() - start
    in_memory = metrics.registry.get_sample_value("chatproxy_consent_cached_people")
    counts = {
        result: metrics.registry.get_sample_value("chatproxy_consent_lookups_total", {"result": result}) or 0
        for result in ("cached", "coalesced", "read", "failed")
    }
    print(f"look-ups, {requests} of {people} people: {counts}, hit ratio {counts['cached'] / requests:.1%}")
    print(f"  {requests / seconds:,.0f} a second; people in memory {in_memory:.0f}", end="")
    print(f", which took {(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024:.0f} MiB")
    shown("  added, in memory", added[True], 1e-3, "µs")
    shown("  added, not in memory", added[False], 1e-3, "µs")
    shown("  known, not in memory", known, 1e-6, "ms")
    alone = []
    for number in draw.choices(range(people), k=2000):
        subjects.forget(tag(number))
        begun = time.perf_counter_ns()
        await subjects.read(tag(number))
        alone.append(time.perf_counter_ns() - begun)
    shown("  known, one at a time", alone, 1e-6, "ms")
    await background.aclose()


async def main(options):
    with tempfile.TemporaryDirectory(dir=options.directory, ignore_cleanup_errors=True) as directory:
        keyset_in(Path(directory)).create(make_keyset(created_at=wall_clock()))
        keyset = keyset_in(Path(directory)).load()
        async with EmbeddedServer(Path(directory) / "data", ballast_bytes=0) as server:
            if options.tries:
                await withdrawals(server.url, Path(directory), options.tries)
            store = opened(server.url)
            for people in dict.fromkeys((1000, options.people)):
                await store.connections.ask([["FLUSHALL"]])
                start = time.perf_counter()
                await load(store, keyset, people)
                [info] = await store.connections.ask([["INFO", "memory"]])
                used = next(line for line in info.decode().split("\r\n") if line.startswith("used_memory:"))
                print(
                    f"{people} ledgers: {int(used.split(':')[1]) >> 20} MiB in the store, loaded in ", end=""
                )
                print(f"{time.perf_counter() - start:.0f} s")
                await lookups(store, keyset, people, options.requests)
            await store.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tries", type=int, default=1000)
    parser.add_argument("--people", type=int, default=1_000_000)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--directory", default=None)
    asyncio.run(main(parser.parse_args()))
