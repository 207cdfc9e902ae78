"""Does a real ``chatproxy serve`` stand a million requests that are nearly right, or not at all?

``python benchmarks/hostile.py [--requests 1000000] [--connections 1024] [--seed 1] [--samples 10] [--minutes 600]``

Chats of each dialect, and the corpus of requests that try to be two (``tests/corpus``), each mutated one to four times,
are sent over loopback in up to four pieces, half of them on connections that have served others. The backend reads
strictly, and counts what it cannot read. Before that, each of 20,000 people chats once: of so many, and of 10,000 things
that were said, something is remembered in memory, and nothing else may grow. Fails if the process ends, if a request
is neither answered nor its connection closed within a minute, if there is a 5xx answer that no row of the catalogue asks
for, if anything is logged as an error, if the backend got what is not HTTP, if an ordinary chat meanwhile is not answered,
or if memory grows by more than a twentieth in the second half. Linux only: it reads ``/proc``.
"""

import argparse
import asyncio
import collections
import itertools
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import httptools
import uvloop
from byte_path import free_port, wait_for

TESTS = Path(__file__).parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from integration.desync import hostile_requests  # noqa: E402

HANG_SECONDS = 60.0
"""A request may be slow where the machine has much else to do, but it ends."""
REQUIRED_5XX = {501, 505}
GROWTH = 1.05
PEOPLE = 20_000
"""As many as are remembered: conversations of nobody, who count as one each, would take their places sooner or later."""
LENGTH = re.compile(rb"content-length: (\d+)")

_REPLY = b'{"choices":[{"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}]}'
_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(_REPLY),
    _REPLY,
)

_WHO = b"X-Chat-Subject: person-7\r\nX-Chat-Plan: pro\r\n"
_CHATS = [
    (b"/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "hello"}]}),
    (b"/v1/messages", {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]}),
    (b"/v1/responses", {"model": "m", "input": "hello"}),
    (b"/api/chat", {"model": "m", "messages": [{"role": "user", "content": "hello"}]}),
    (b"/v1beta/models/m:generateContent", {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}),
]
_PLAIN = [
    b"GET /v1/models HTTP/1.1\r\nHost: chat\r\nAccept: */*\r\n\r\n",
    b"HEAD /v1/models?x=%20 HTTP/1.1\r\nHost: chat:80\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS /v1/chat HTTP/1.1\r\nHost: chat\r\nOrigin: https://a\r\n\r\n",
    b"GET /_chatproxy/ HTTP/1.1\r\nHost: chat\r\n" + _WHO + b"\r\n",
    b"GET /_chatproxy/api/v1/choice HTTP/1.1\r\nHost: chat\r\n" + _WHO + b"\r\n",
    b"POST /_chatproxy/api/v1/choice HTTP/1.1\r\nHost: chat\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/x HTTP/1.1\r\nHost: chat\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"POST /v1/x HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
]
_TOKENS = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"\x0b", b"\x7f", b"\xff", b"%00", b"%2e%2e/",
    b"../", b"//", b"\\", b"#", b"?", b"@", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"GET ", b"POST ", b"CONNECT ",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"content-length:99999999\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n", b"Connection: close\r\n", b"Connection: x-chat-subject\r\n", b"Host: b\r\n",
    b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\n", b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"0\r\n\r\n",
    b"5\r\nhello\r\n", b"ffffffff\r\n", b"1;a=b\r\n", b"X-Chat-Subject: eve\r\n", b"X_Chat_Subject: eve\r\n",
    b"Trailer: X\r\n", b"Content-Encoding: gzip\r\n", b"Authorization: Bearer x\r\n", b"X: " + b"y" * 20_000 + b"\r\n",
]  # fmt: skip


def seeds():
    """Return what is mutated: ordinary requests as often as hostile ones."""
    ordinary = list(_PLAIN)
    for path, body in _CHATS:
        data = json.dumps(body).encode()
        head = b"POST %b HTTP/1.1\r\nHost: chat\r\nContent-Type: application/json\r\n%b" % (path, _WHO)
        ordinary.append(b"%bContent-Length: %d\r\n\r\n%b" % (head, len(data), data))
        pieces = (data[:9], data[9:])
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        ordinary.append(b"%bTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % (head, chunks))
    return ordinary, [case.raw for case in hostile_requests()]


class Mutations:
    """Requests without end, the same for the same seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.ordinary, self.hostile = seeds()

    def next(self):
        chance = self.random
        found = bytearray(chance.choice(self.ordinary if chance.random() < 0.5 else self.hostile))
        for _ in range(chance.choice((1, 1, 1, 2, 2, 3, 4))):
            at = chance.randrange(len(found) + 1)
            what = chance.randrange(9)
            if what == 0:
                found[at:at] = chance.choice(_TOKENS)
            elif what == 1 and at < len(found):
                found[at] = chance.randrange(256)
            elif what == 2:
                del found[at : at + chance.randint(1, 12)]
            elif what == 3:
                found[at:at] = found[at : at + chance.randint(1, 40)]
            elif what == 4:
                other = chance.choice(self.hostile)
                found[at:] = other[chance.randrange(len(other) + 1) :]
            elif what == 5:
                lines = bytes(found).split(b"\r\n")
                lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
                found = bytearray(b"\r\n".join(lines))
            elif what == 6:
                lines = bytes(found).split(b"\r\n")
                one, two = chance.randrange(len(lines)), chance.randrange(len(lines))
                lines[one], lines[two] = lines[two], lines[one]
                found = bytearray(b"\r\n".join(lines))
            elif what == 7 and at < len(found):
                found[at] ^= 1 << chance.randrange(8)
            elif chance.random() < 0.02:
                found[at:at] = chance.choice(_TOKENS) * chance.randint(2, 300)
        return bytes(found).replace(b"person-7", b"person-%d" % chance.randrange(PEOPLE)) or b"\r\n"


class Chats:
    """Chats of everybody, in turn."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.number = 0

    def next(self):
        self.number += 1
        body = json.dumps(
            {"model": "m", "messages": [{"role": "user", "content": f"hello {self.number}"}]}
        ).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: chat\r\nContent-Type: application/json\r\n"
        who = _WHO.replace(b"person-7", b"person-%d" % (self.number % PEOPLE))
        return b"%b%bContent-Length: %d\r\n\r\n%b" % (head, who, len(body), body)


class Backend(asyncio.Protocol):
    """Answers what it can read, and counts what it cannot."""

    bad = 0

    def connection_made(self, transport):
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data):
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError:
            Backend.bad += 1
            self.transport.close()

    def on_message_complete(self):
        head = self.parser.get_method() == b"HEAD"
        self.transport.write(_OK[: -len(_REPLY)] if head else _OK)


class Client(asyncio.Protocol):
    """One connection, on which an answer, or the end, is waited for."""

    def __init__(self):
        self.done = asyncio.get_running_loop().create_future()
        self.is_open = True
        self.is_head = False
        self.is_new = True
        self.received = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += data
        if self.received.startswith(b"HTTP/1.1 100 ") and b"\r\n\r\n" in self.received:
            self.received = self.received.partition(b"\r\n\r\n")[2]
        if not self.done.done() and self.has_answer():
            self.done.set_result(None)

    def has_answer(self):
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end or b"connection: close" in head:
            return False
        if length := LENGTH.search(head):
            return self.is_head or len(body) >= int(length[1])
        return self.is_head or body.endswith(b"0\r\n\r\n") or b"chunked" not in head

    def connection_lost(self, _):
        self.is_open = False
        if not self.done.done():
            self.done.set_result(None)


class Run:
    def __init__(self, port, options):
        self.port = port
        self.options = options
        self.statuses = collections.Counter()
        self.hangs = []
        self.wrong = []
        self.chat_seconds = []
        self.sent = 0

    async def drive(self, numbers, mutations):
        async def work():
            client = None
            for _ in numbers:
                raw = mutations.next()
                chance = mutations.random.random()
                cuts = sorted(mutations.random.randrange(len(raw)) for _ in range(3)) if chance < 0.3 else []
                if client is None or not client.is_open:
                    client = await self.connect()
                    if client is None:
                        continue
                await self.one(client, raw, cuts)
                if chance > 0.5:
                    client.transport.abort()
                    client = None
            if client is not None:
                client.transport.abort()

        async with asyncio.TaskGroup() as group:
            for _ in range(self.options.connections):
                group.create_task(work())

    async def connect(self):
        loop = asyncio.get_running_loop()
        try:
            return (await loop.create_connection(Client, "127.0.0.1", self.port))[1]
        except OSError as error:
            self.wrong.append((b"", repr(error)))
            return None

    async def one(self, client, raw, cuts):
        client.is_new = not client.received
        client.received = b""
        client.is_head = raw.lstrip().startswith(b"HEAD")
        client.done = asyncio.get_running_loop().create_future()
        for start, stop in itertools.pairwise([0, *cuts, len(raw)]):
            if not client.is_open:
                break
            client.transport.write(raw[start:stop])
            if cuts:
                await asyncio.sleep(0)
        self.sent += 1
        if not client.is_open:
            return
        try:
            async with asyncio.timeout(HANG_SECONDS):
                await client.done
        except TimeoutError:
            self.hangs.append(raw)
            client.transport.abort()
            return
        status = int(client.received[9:12]) if client.received.startswith(b"HTTP/1.1 ") else 0
        self.statuses[status] += 1
        if status >= 500 and status not in REQUIRED_5XX:
            self.wrong.append((raw, client.received[:300]))
        # On a connection that is used again it may be the rest of one of several answers to the one before.
        if client.is_new and client.received and not client.received.startswith(b"HTTP/1.1 "):
            self.wrong.append((raw, client.received[:300]))

    async def chat(self, until):
        """Chat as others do, from another address, once in a while."""
        body = json.dumps(_CHATS[0][1]).encode()
        request = b"POST /v1/chat/completions HTTP/1.1\r\nHost: chat\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
        while not until.is_set():
            began = time.perf_counter()
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.port, local_addr=("127.0.0.2", 0)
            )
            writer.write(request % (len(body), body))
            try:
                answer = await asyncio.wait_for(reader.read(), HANG_SECONDS)
            except TimeoutError:
                answer = b""
            writer.close()
            self.chat_seconds.append(time.perf_counter() - began)
            if not answer.startswith(b"HTTP/1.1 200 ") or not answer.endswith(_REPLY):
                self.wrong.append((b"an ordinary chat", answer[:300]))
            await asyncio.sleep(0.2)


def serve(directory, backend_port, log):
    port, admin = free_port(), free_port()
    environment = os.environ | {
        "CHATPROXY_UPSTREAM": f"http://127.0.0.1:{backend_port}",
        "CHATPROXY_LISTEN": f"127.0.0.1:{port}",
        "CHATPROXY_ADMIN_LISTEN": f"127.0.0.1:{admin}",
        "CHATPROXY_DATA_DIR": f"{directory}/data",
        "CHATPROXY_KEYSET": f"file:{directory}/keys/keyset",
        "CHATPROXY_TRUSTED_PROXIES": "127.0.0.1",
        "CHATPROXY_CLIENT_HEAD_TIMEOUT": "1s",
        "CHATPROXY_CLIENT_BODY_TIMEOUT": "1s",
        "CHATPROXY_LOG_LEVEL": "error",
    }
    chatproxy = [sys.executable, "-m", "chatproxy"]
    subprocess.run([*chatproxy, "keys", "init"], env=environment, check=True, capture_output=True)
    process = subprocess.Popen([*chatproxy, "serve"], env=environment, stderr=log, stdout=log)
    wait_for(admin, process)
    wait_for(port, process)
    return process, port, admin


def memory(pid):
    rss = next(
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")
    )
    return int(rss.split()[1]) / 1024, len(list(Path(f"/proc/{pid}/fd").iterdir()))


def metrics(admin):
    with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics") as answer:
        return answer.read().decode().splitlines()


def settled(admin):
    """Wait until what was captured is kept; return of how many people something is in memory."""
    while True:
        found = dict(line.rsplit(" ", 1) for line in metrics(admin) if line[0] != "#")
        if not float(found["chatproxy_turns_pending"]):
            return int(float(found["chatproxy_consent_cached_people"]))
        time.sleep(0.2)


def of_interest(lines):
    """Return those of the metrics that tell what became of requests and turns."""
    begins = ("chatproxy_failures_total", "chatproxy_client", "chatproxy_turns")
    return [line for line in lines if line.startswith(begins) and "_created" not in line]


async def main_async(options, directory, log):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Backend, "127.0.0.1", 0)
    behind = server.sockets[0].getsockname()[1]
    process, port, admin = await asyncio.to_thread(serve, directory, behind, log)
    run, mutations, over = Run(port, options), Mutations(options.seed), asyncio.Event()
    samples = []
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(run.chat(over))
            edges = [options.requests * index // options.samples for index in range(options.samples + 1)]
            await run.drive(iter(range(PEOPLE)), Chats(options.seed))
            people = await asyncio.to_thread(settled, admin)
            samples.append((0, 0.0, *memory(process.pid), people))
            run.sent = 0
            run.statuses.clear()
            began = time.monotonic()
            for first, last in itertools.pairwise(edges):
                await run.drive(iter(range(first, last)), mutations)
                people = await asyncio.to_thread(settled, admin)
                samples.append((run.sent, time.monotonic() - began, *memory(process.pid), people))
                print(
                    *samples[-1],
                    dict(run.statuses),
                    len(run.hangs),
                    len(run.wrong),
                    file=sys.stderr,
                    flush=True,
                )
                if time.monotonic() - began > options.minutes * 60:
                    break
            over.set()
        has_ended = process.poll() is not None
        told = of_interest(await asyncio.to_thread(metrics, admin))
    finally:
        over.set()
        process.terminate()
        await asyncio.to_thread(process.wait)
    return run, samples, told, has_ended


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=int, default=10)
    parser.add_argument(
        "--minutes", type=float, default=600.0, help="stop after the sample in which they end"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chatproxy-hostile-") as directory:
        path = Path(directory, "log")
        with path.open("w") as file:
            run, samples, told, has_ended = uvloop.run(main_async(options, directory, file))
        log = path.read_text()
    print("| requests | seconds | proxy RSS MiB | descriptors | people in memory |\n|--:|--:|--:|--:|--:|")
    for sent, seconds, rss, descriptors, people in samples:
        print(f"| {sent:,} | {seconds:.0f} | {rss:.1f} | {descriptors} | {people:,} |")
    print("answers:", dict(sorted(run.statuses.items())), "(0: closed without one)")
    chats = sorted(run.chat_seconds)
    print(
        f"{len(chats)} ordinary chats meanwhile: median {chats[len(chats) // 2] * 1000:.0f} ms, "
        f"slowest {chats[-1] * 1000:.0f} ms"
    )
    print("\n".join(told))
    half = [rss for _, _, rss, *_ in samples[len(samples) // 2 :]]
    problems = []
    for found, what in (
        (has_ended, "the process has ended"),
        (run.hangs, f"{len(run.hangs)} hung, such as {run.hangs[:3]}"),
        (run.wrong, f"{len(run.wrong)} wrong answers, such as {run.wrong[:3]}"),
        (log.strip(), f"errors in the log: {log[:2000]}"),
        (Backend.bad, f"{Backend.bad} times the backend could not read what it got"),
        (half[-1] > half[0] * GROWTH, "memory grew"),
    ):
        if found:
            problems.append(what)
    print("\n".join(problems) or "no crash, no hang, no answer that must not be, memory level")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
