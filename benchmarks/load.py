"""A load generator: each connection sends its next request when the last answer is whole, or when it is its turn.

``python load.py [--rate=N] [--people=N] PORT PATH CONNECTIONS SECONDS [HEADER ...]`` prints JSON: requests, seconds,
reads, errors, and p50 and p99 of the time to the first byte of an answer and to its end. With a rate, N requests begin
each second, whatever the answers do. ``{person}`` in a header is somebody else's number each time, of N people.
"""

import asyncio
import collections
import json
import math
import random
import sys
import time

import httptools
import uvloop

_BODY = b'{"model":"m","messages":[{"role":"user","content":"' + b"z" * 950 + b'"}]}'
_REQUEST = (
    b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: */*\r\naccept-encoding: gzip, deflate\r\n"
    b"user-agent: load\r\nauthorization: Bearer 0123456789abcdef0123456789abcdef\r\n"
    b"content-type: application/json\r\n%bcontent-length: %d\r\n\r\n"
)


def request_bytes(path, headers):
    extra = "".join(f"{header}\r\n" for header in headers).encode()
    return _REQUEST % (path.encode(), extra, len(_BODY)) + _BODY


class Client(asyncio.Protocol):
    def __init__(self, request, total, done, idle=None):
        """``idle``: whose turn is to come; None: each sends at once."""
        self.idle = idle
        self.request = request
        self.total = total
        self.done = done

    def connection_made(self, transport):
        self.transport = transport
        self.go_on()

    def go_on(self):
        if self.idle is None:
            self.send()
        else:
            self.idle.append(self)

    def send(self):
        self.parser = httptools.HttpResponseParser(self)
        self.sent_at = self.begun_at = time.perf_counter()
        self.transport.write(self.request())

    def data_received(self, data):
        self.total["reads"] += 1
        if self.sent_at is not None:
            self.total["first_bytes"].append(time.perf_counter() - self.sent_at)
            self.sent_at = None
        self.parser.feed_data(data)

    def on_headers_complete(self):
        if self.parser.get_status_code() != 200:
            self.total["errors"] += 1

    def on_message_complete(self):
        self.total["requests"] += 1
        self.total["whole"].append(time.perf_counter() - self.begun_at)
        # Not from within the parser that has just called.
        asyncio.get_running_loop().call_soon(self.go_on)

    def connection_lost(self, exc):  # noqa: ARG002 - asyncio.Protocol's
        self.total["errors"] += 1
        if not self.done.done():
            self.done.set_result(None)


def requests(path, headers, people):
    """Return what makes the requests; somebody's number has seven digits."""
    whole = request_bytes(path, headers)
    if people is None:
        return lambda: whole
    before, _, behind = whole.partition(b"{person}")
    return lambda: b"%b%07d%b" % (before, random.randrange(people), behind)


async def pace(rate, idle, total):
    """Begin a request *rate* times a second, on whichever connection is free."""
    begun, number = time.monotonic(), 0
    while True:
        number += 1
        await asyncio.sleep(max(0, begun + number / rate - time.monotonic()))
        if idle:
            idle.popleft().send()
        else:
            total["errors"] += 1


def percentiles(name, seconds):
    """Return p50 and p99 in ms, under *name*."""
    ordered = sorted(seconds) or [math.nan]
    return {f"{name}p{part}_ms": ordered[len(ordered) * part // 100] * 1000 for part in (50, 99)}


async def main():
    arguments = sys.argv[1:]
    rate, people = (
        int(arguments.pop(0).partition("=")[2]) if arguments[0].startswith(option) else None
        for option in ("--rate=", "--people=")
    )
    port, path, connections, seconds, *headers = arguments
    idle = None if rate is None else collections.deque()
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    total = {"requests": 0, "reads": 0, "errors": 0, "first_bytes": [], "whole": []}
    request = requests(path, headers, people)
    for _ in range(int(connections)):
        await loop.create_connection(lambda: Client(request, total, done, idle), "127.0.0.1", int(port))
    started = time.monotonic()
    pacing = loop.create_task(pace(rate, idle, total)) if rate else None
    await asyncio.wait((done,), timeout=float(seconds))
    seconds = time.monotonic() - started
    if pacing:
        pacing.cancel()
    found = {name: total[name] for name in ("requests", "reads", "errors")}
    took = percentiles("", total["whole"]) | percentiles("first_byte_", total["first_bytes"])
    print(json.dumps(found | took | {"seconds": seconds}), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
