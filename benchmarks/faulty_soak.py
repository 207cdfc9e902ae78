"""Twenty minutes of chats with a fault a minute: is memory flat, and is every answer kept once (F-73)?

``python benchmarks/faulty_soak.py [--minutes 20] [--rate 50]``

``chatproxy serve`` with its embedded store. People chat *rate* times a second, every second chat streamed; of fifty clients one
goes away inside the answer. Of a person who is not known yet an answer has no name of its turn, so that its being kept is
only counted. Each minute brings one fault, in turn: the store's server is killed, the server stands still
for ten seconds, the proxy is killed and started again, the backend is killed and started again. Fails if an answer that
came whole is not kept, or more turns are kept than were asked for, or if the proxy holds more memory or descriptors in
the last third than in the second by more than a tenth. Answers of the last second before the proxy is killed are left out
of the count, as ``CHATPROXY_CAPTURE_DURABILITY=journal`` does not promise them. Linux only: it reads ``/proc``.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from byte_path import REST_CPU, family, free_port, start, wait_for
from whole import PROXY_CPU, metric

from chatproxy.settings import load_settings
from chatproxy.vault import open_vault

PLAIN, STREAMED = "/v1/chat/completions", "/stream/chat/completions"
PROMISED_AFTER = 1.0


class Chats:
    """What was asked for, and what came whole: the handle of its turn, and when."""

    def __init__(self, port):
        self.port = port
        self.asked = self.failed = self.left = self.unnamed = 0
        self.answered = {}

    async def one(self, number):
        """Chat once."""
        self.asked += 1
        streamed = number % 2 == 1
        body = b'{"model":"m","stream":%s,"messages":[{"role":"user","content":"%09d %s"}]}' % (
            b"true" if streamed else b"false",
            number,
            b"z" * 300,
        )
        head = (
            f"POST {STREAMED if streamed else PLAIN} HTTP/1.1\r\nhost: a\r\nx-chat-subject: p{number % 500}\r\nx-chat-plan: pro\r\n"
            f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        try:
            async with asyncio.timeout(30):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    writer.write(head.encode() + body)
                    if number % 50 == 0:
                        await reader.read(100)
                        self.left += 1
                        writer.transport.abort()
                        return
                    answer = await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            self.failed += 1
            return
        handle = re.search(rb"(?i)x-chat-turn: (\S+)", answer)
        head, _, body = answer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        is_whole = len(body) == int(length[1]) if length else answer.endswith(b"0\r\n\r\n")
        if not (is_whole and answer.startswith(b"HTTP/1.1 200")):
            self.failed += 1
        elif handle:
            self.answered[handle[1].decode()] = time.monotonic()
        else:
            self.unnamed += 1

    async def run(self, rate):
        """Chat so many times a second, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for number in itertools.count(1):
                tasks.create_task(self.one(number))
                await asyncio.sleep(1 / rate)


class Node:
    """The proxy and the backend, which can be killed and started again."""

    def __init__(self, directory):
        self.backend_port, self.port, self.admin = free_port(), free_port(), free_port()
        self.environment = os.environ | {
            "CHATPROXY_UPSTREAM": f"http://127.0.0.1:{self.backend_port}",
            "CHATPROXY_LISTEN": f"127.0.0.1:{self.port}",
            "CHATPROXY_ADMIN_LISTEN": f"127.0.0.1:{self.admin}",
            "CHATPROXY_DATA_DIR": f"{directory}/data",
            "CHATPROXY_KEYSET": f"file:{directory}/keyset",
            "CHATPROXY_TRUSTED_PROXIES": "127.0.0.1",
            "CHATPROXY_LOG_LEVEL": "error",
        }
        self.killed_at = []
        self.log = Path(directory, "log").open("ab")  # noqa: SIM115 - as long as the script

    async def begin(self):
        """Start both."""
        keys = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "chatproxy",
            "keys",
            "init",
            env=self.environment,
            stdout=asyncio.subprocess.DEVNULL,
        )
        await keys.wait()
        await self.begin_backend()
        await self.begin_proxy()

    async def begin_backend(self):
        self.backend = await asyncio.to_thread(start, "backend.py", str(self.backend_port), cpus=REST_CPU)
        await asyncio.to_thread(wait_for, self.backend_port, self.backend)

    async def begin_proxy(self):
        self.proxy = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "chatproxy", "serve", env=self.environment, stderr=self.log
        )
        while True:
            with contextlib.suppress(OSError):
                await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{self.admin}/healthz")
                break
            await asyncio.sleep(0.1)
        for member in family(self.proxy.pid):
            os.sched_setaffinity(member, PROXY_CPU)

    def server(self):
        """Return the process id of the store's server."""
        return next(
            pid for pid in family(self.proxy.pid) if b"valkey" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )

    async def kill_server(self):
        os.kill(self.server(), signal.SIGKILL)

    async def stop_server(self):
        server = self.server()
        os.kill(server, signal.SIGSTOP)
        await asyncio.sleep(10)
        os.kill(server, signal.SIGCONT)

    async def kill_proxy(self):
        self.killed_at.append(time.monotonic())
        self.proxy.kill()
        await self.proxy.wait()
        await self.begin_proxy()

    async def kill_backend(self):
        self.backend.kill()
        await asyncio.to_thread(self.backend.wait)
        await self.begin_backend()

    def memory(self):
        """Return resident MiB and open descriptors of the proxy."""
        pid = self.proxy.pid
        rss = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024
        return rss, len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def run(minutes, rate):
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as directory:
        node = Node(directory)
        await node.begin()
        chats = Chats(node.port)
        chatting = asyncio.create_task(chats.run(rate))
        faults = [node.kill_server, node.stop_server, node.kill_proxy, node.kill_backend]
        samples = []
        chance = random.Random(3)
        for minute in range(minutes):
            await asyncio.sleep(30 + chance.uniform(-5, 5))
            fault = faults[minute % len(faults)]
            await fault()
            await asyncio.sleep(30 - chance.uniform(0, 5))
            rss, descriptors = node.memory()
            samples.append((rss, descriptors))
            print(
                f"{minute + 1:3} min after {fault.__name__:13} {rss:6.1f} MiB {descriptors:4} descriptors, "
                f"{chats.asked} asked, {len(chats.answered)} whole and named, "
                f"{chats.unnamed} unnamed, {chats.failed} failed, {chats.left} left",
                file=sys.stderr,
            )
        chatting.cancel()
        await asyncio.gather(chatting, return_exceptions=True)
        while metric(node.admin, "chatproxy_turns_pending"):  # noqa: ASYNC110 - of another process
            await asyncio.sleep(0.2)
        settings = load_settings(
            {}, overrides={"data_dir": f"{directory}/data", "keyset": f"file:{directory}/keyset"}
        ).settings
        async with open_vault(settings) as vault:
            kept = {turn.turn async for turn in vault.store.annotations()}
            lost = [
                at
                for handle, at in chats.answered.items()
                if vault.pseudonyms.read_turn_handle(handle)[1] not in kept
            ]
        node.proxy.terminate()
        await node.proxy.wait()
        node.backend.kill()
    excused = [at for at in lost if any(0 <= killed - at < PROMISED_AFTER for killed in node.killed_at)]
    print(
        f"{chats.asked} asked, {len(chats.answered)} whole and named, {chats.unnamed} unnamed, {chats.failed} failed, "
        f"{chats.left} left, {len(kept)} kept; "
        f"{len(lost)} whole but not kept, {len(excused)} of them within {PROMISED_AFTER:.0f} s of a kill"
    )
    third = max(1, len(samples) // 3)
    middle, last = samples[-2 * third : -third] or samples, samples[-third:]
    for name, column in (("MiB", 0), ("descriptors", 1)):
        before, after = (statistics.median(sample[column] for sample in part) for part in (middle, last))
        print(f"{name}: {before:.1f} in the second third, {after:.1f} in the last")
        if after > before * 1.1 + 1:
            sys.exit(f"{name} grow")
    if len(lost) > len(excused) or len(kept) > chats.asked:
        sys.exit("answers are lost, or kept twice")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=int, default=20)
    parser.add_argument("--rate", type=float, default=50)
    options = parser.parse_args()
    os.sched_setaffinity(0, REST_CPU)
    asyncio.run(run(options.minutes, options.rate))


if __name__ == "__main__":
    main()
