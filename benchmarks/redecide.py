"""A person with many kept turns withdraws: how long until the last is decided again, and what do chats feel meanwhile?

``python benchmarks/redecide.py [--turns 10000] [--rounds 3]``

``chatproxy serve`` with its embedded store runs on the first processor, backend and clients on the second. Somebody
else chats all the while, one short chat after the other, a pause of 5 ms between: their latency is taken before the
withdrawal and while it is carried out. The time is from when the withdrawal is in the ledger until every turn is
sealed anew. Turns are 1 KB each way, some hundred a conversation. Linux only.
"""

import argparse
import asyncio
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

from byte_path import REST_CPU, Load, a_backend, generate
from whole import metric, own_cpu, serve

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice
from chatproxy.settings import load_settings
from chatproxy.vault import open_vault

PATH = "/v1/chat/completions"
ANA = ("X-Chat-Subject: ana", "X-Chat-Plan: pro")
BODY = b'{"model":"m","messages":[{"role":"user","content":"' + b"z" * 200 + b'"}]}'
CHANGED = 'chatproxy_redecided_turns_total{outcome="changed"}'


class Chatter:
    """Somebody who chats without end and notes how long each answer took."""

    def __init__(self, port):
        self.port = port
        self.took = []

    async def run(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        head = (
            f"POST {PATH} HTTP/1.1\r\nhost: a\r\nx-chat-subject: bea\r\nx-chat-plan: pro\r\n"
            f"content-type: application/json\r\ncontent-length: {len(BODY)}\r\n\r\n"
        )
        while True:
            begun = time.perf_counter()
            writer.write(head.encode() + BODY)
            answer = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.search(rb"(?i)content-length: (\d+)", answer)[1]))
            self.took.append(time.perf_counter() - begun)
            await asyncio.sleep(0.005)

    def figures(self):
        """Return p50 and p99 in ms of what was noted, and forget it."""
        took, self.took = sorted(self.took), []
        return statistics.median(took) * 1000, took[int(len(took) * 0.99)] * 1000


def memory(pid):
    """Return the resident memory of a process in MiB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


def fill(port, admin, turns):
    """Have Ana chat until she has some so many turns; retries of what was cut off are one turn with it."""
    kept = 'chatproxy_turns_total{outcome="stored"}'
    number = 0
    while metric(admin, kept) < turns:
        name = f"X-Chat-Conversation: {number}"
        generate(port, Load("fill", PATH, 8), 0.5, (*ANA, name))
        while metric(admin, "chatproxy_turns_pending"):
            time.sleep(0.02)
        number += 1


async def run(backend_port, turns):
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as directory:
        process, port, admin = serve(directory, backend_port)
        try:
            await asyncio.to_thread(fill, port, admin, turns)
            settings = load_settings(
                {}, overrides={"data_dir": f"{directory}/data", "keyset": f"file:{directory}/keyset"}
            ).settings
            async with open_vault(settings) as vault, asyncio.TaskGroup() as tasks:
                tag = vault.pseudonyms.subject_tag(tenant="default", subject="ana")
                count = len([turn async for turn in vault.store.annotations(tag)])
                chatter = Chatter(port)
                chatting = tasks.create_task(chatter.run())
                await asyncio.sleep(0.5)
                chatter.figures()
                await asyncio.sleep(5)
                before = chatter.figures()
                done = metric(admin, CHANGED)
                used = own_cpu(process.pid)
                await vault.ledger.record(
                    tag, Choice.WITHDRAWN, at=wall_clock(), by="benchmark", method="benchmark"
                )
                begun = time.perf_counter()
                while metric(admin, CHANGED) - done < count:  # noqa: ASYNC110 - of another process
                    await asyncio.sleep(0.02)
                seconds = time.perf_counter() - begun
                used = own_cpu(process.pid) - used
                meanwhile = chatter.figures()
                chatting.cancel()
            rss = memory(process.pid)
        finally:
            process.terminate()
            process.wait()
    return count, seconds, count / seconds, used / count * 1e6, *before, *meanwhile, rss


async def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    os.sched_setaffinity(0, REST_CPU)
    with a_backend() as backend_port:
        runs = []
        for _ in range(options.rounds):
            runs.append(await run(backend_port, options.turns))
            print(*(f"{figure:.2f}" for figure in runs[-1]), file=sys.stderr)
    print("| turns | s | turns/s | CPU µs a turn | p50 ms before | p99 | p50 ms meanwhile | p99 | RSS MiB |")
    print("|--:|--:|--:|--:|--:|--:|--:|--:|--:|")
    print("|", " | ".join(f"{statistics.median(column):,.1f}" for column in zip(*runs, strict=True)), "|")


if __name__ == "__main__":
    asyncio.run(main())
