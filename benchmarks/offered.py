"""A load that does not wait: requests begin when it is their turn, whatever has become of those before.

``python offered.py RATE PORT PATH MOST SECONDS [HEADER ...]`` offers RATE requests a second over connections that are
kept, and over a new one where none is free, of which MOST are open at a time. It prints JSON, a list of seconds: when it
began, what became of the requests that were due in it, and how long the whole answers took that had status 200, from when
they were due. An outcome is the status of a whole answer; ``broken``: the connection ended within the answer; ``closed``:
before its first byte; ``refused``: there was none to be had; ``unsent``: MOST were open; ``waiting``: no answer 10 s after the
last was due.
"""

import asyncio
import collections
import json
import sys
import time

import httptools
import uvloop
from load import request_bytes

_PATIENCE_SECONDS = 10.0


class Client(asyncio.Protocol):
    def __init__(self, crowd, due):
        self.crowd = crowd
        self.due = due
        self.is_gone = False

    def connection_made(self, transport):
        self.transport = transport
        self.send(self.due)

    def send(self, due):
        self.due = due
        self.has_begun = False
        self.parser = httptools.HttpResponseParser(self)
        self.transport.write(self.crowd.request)

    def data_received(self, data):
        self.has_begun = True
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.note("broken")
            self.transport.abort()

    def on_message_complete(self):
        keeps = self.parser.should_keep_alive()
        self.note(str(self.parser.get_status_code()))
        if keeps:
            # Not from within the parser, which is another one for the next answer.
            asyncio.get_running_loop().call_soon(self.crowd.idle.append, self)
        else:
            self.transport.close()

    def note(self, outcome):
        if self.due is not None:
            self.crowd.note(self.due, outcome)
            self.due = None

    def connection_lost(self, exc):  # noqa: ARG002 - asyncio.Protocol's
        self.is_gone = True
        self.crowd.open -= 1
        self.note("broken" if self.has_begun else "closed")


class Crowd:
    def __init__(self, port, request, most):
        self.port = port
        self.request = request
        self.most = most
        self.open = 0
        self.idle = []
        self.under_way = set()
        self.begun = time.monotonic()
        self.outcomes = collections.defaultdict(collections.Counter)
        self.took = collections.defaultdict(list)

    def note(self, due, outcome):
        second = int(due - self.begun)
        self.outcomes[second][outcome] += 1
        self.under_way.discard(due)
        if outcome == "200":
            self.took[second].append((time.monotonic() - due) * 1000)

    def begin(self, due):
        self.under_way.add(due)
        while self.idle:
            client = self.idle.pop()
            if not client.is_gone and not client.transport.is_closing():
                client.send(due)
                return None
        if self.open >= self.most:
            self.note(due, "unsent")
            return None
        self.open += 1
        return asyncio.get_running_loop().create_task(self.connect(due))

    async def connect(self, due):
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: Client(self, due), "127.0.0.1", self.port
            )
        except OSError:
            self.open -= 1
            self.note(due, "refused")

    async def offer(self, rate, seconds):
        connecting = set()
        for number in range(int(rate * seconds)):
            due = self.begun + number / rate
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if task := self.begin(due):
                connecting.add(task)
                task.add_done_callback(connecting.discard)
        give_up = time.monotonic() + _PATIENCE_SECONDS
        while self.under_way and time.monotonic() < give_up:  # noqa: ASYNC110 - for a load, near enough
            await asyncio.sleep(0.01)
        for due in tuple(self.under_way):
            self.note(due, "waiting")

    def seconds(self):
        rows = []
        for second in sorted(self.outcomes):
            took = sorted(self.took[second]) or [float("nan")]
            quantiles = {"p50_ms": took[len(took) // 2], "p99_ms": took[len(took) * 99 // 100]}
            rows.append({"begun": self.begun + second, "outcomes": self.outcomes[second]} | quantiles)
        return rows


async def main():
    rate, port, path, most, seconds, *headers = sys.argv[1:]
    crowd = Crowd(int(port), request_bytes(path, headers), int(most))
    await crowd.offer(float(rate), float(seconds))
    print(json.dumps(crowd.seconds()), flush=True)


if __name__ == "__main__":
    uvloop.run(main())
