"""Does memory stay flat over many streams of which half are aborted, and is each of them kept (P17)?

``python benchmarks/soak.py [--streams 50000] [--samples 10] [--connections 32]``

``chatproxy serve`` with its embedded store, between ``backend.py`` (64 events, 2 ms apart) and clients of 500 people.
Every second client goes away with a reset: in turn after its first byte, in the middle, and with the request just
sent. After each sample it waits until nothing is pending. Fails if a stream that was seen is not stored, if one that
was read to its end is not whole, if memory grows by more than a twentieth in the second half, or if more descriptors
stay open than connections on both sides need. Linux only: it reads ``/proc``.
"""

import argparse
import asyncio
import itertools
import re
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from byte_path import a_backend, family
from whole import serve

PEOPLE = 500
ABORTED_AFTER = (1, 5_000, 0)
"""Bytes of the answer that were read, by turns."""

_BODY = b'{"model":"m","stream":true,"messages":[{"role":"user","content":"%08d ' + b"z" * 500 + b'"}]}'
_REQUEST = (
    b"POST /stream/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nx-chat-subject: person-%d\r\nx-chat-plan: pro\r\n"
    b"content-type: application/json\r\ncontent-length: %d\r\n\r\n"
)
_LAST = b"\r\n0\r\n\r\n"


@dataclass(frozen=True)
class Sample:
    streams: int
    seconds: float
    proxy_mib: float
    store_mib: float
    descriptors: int


def rss_mib(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def metrics(admin):
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics") as answer:
        lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if line[0] != "#"]
    return {name: float(value) for name, _, value in lines}


async def stream(port, number):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = _BODY % number  # what is asked twice after an abort would be a retry
    writer.write(_REQUEST % (number % PEOPLE, len(body)) + body)
    if number % 2:
        if after := ABORTED_AFTER[number // 2 % len(ABORTED_AFTER)]:
            await reader.readexactly(after)
        else:
            await writer.drain()
        writer.transport.abort()
        return
    await reader.readuntil(_LAST)
    writer.close()
    await writer.wait_closed()


async def drive(port, numbers, connections):
    left = iter(numbers)

    async def work():
        for number in left:
            await stream(port, number)

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(work())


def sample(streams, started, process):
    _, store, *_ = family(process.pid)
    return Sample(
        streams,
        time.monotonic() - started,
        rss_mib(process.pid),
        rss_mib(store),
        len(list(Path(f"/proc/{process.pid}/fd").iterdir())),
    )


def settled(admin):
    """Wait until nothing runs or waits, and return the metrics."""
    while True:
        found = metrics(admin)
        if not found["chatproxy_turns_pending"]:
            return found
        time.sleep(0.2)


def run(options, backend_port, directory):
    process, port, admin = serve(directory, backend_port)
    try:
        started = time.monotonic()
        edges = [options.streams * index // options.samples for index in range(options.samples + 1)]
        samples = [sample(0, started, process)]
        for first, last in itertools.pairwise(edges):
            asyncio.run(drive(port, range(first, last), options.connections))
            found = settled(admin)
            samples.append(sample(last, started, process))
            print(samples[-1], file=sys.stderr, flush=True)
        return samples, found
    finally:
        process.terminate()
        process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=50_000)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    with a_backend() as backend_port, tempfile.TemporaryDirectory(prefix="chatproxy-soak-") as directory:
        samples, found = run(options, backend_port, directory)
    print("| streams | seconds | proxy RSS MiB | store RSS MiB | descriptors |")
    print("|--:|--:|--:|--:|--:|")
    for one in samples:
        print(
            f"| {one.streams:,} | {one.seconds:,.0f} | {one.proxy_mib:.1f} | {one.store_mib:.1f} | {one.descriptors} |"
        )
    told = {
        name: value
        for name, value in found.items()
        if re.match(r"chatproxy_(turns|stream_ends).*_total", name)
    }
    print("\n".join(f"{name} {value:,.0f}" for name, value in told.items()))
    kept, seen = found['chatproxy_turns_total{outcome="stored"}'], found["chatproxy_turns_seen_total"]
    whole = found.get('chatproxy_stream_ends_total{end="complete"}', 0)
    if kept != seen or whole < (options.streams + 1) // 2:
        raise SystemExit(f"{seen:,.0f} streams were seen, {kept:,.0f} are stored, {whole:,.0f} are whole")
    if samples[-1].descriptors > samples[0].descriptors + 2 * options.connections:
        raise SystemExit("descriptors stayed open")
    if samples[-1].proxy_mib > 1.05 * samples[len(samples) // 2].proxy_mib:
        raise SystemExit("memory grows")


if __name__ == "__main__":
    main()
