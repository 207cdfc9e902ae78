"""What does a conversation take in the store, beside what its client sent for it?

``python benchmarks/stored_bytes.py [--turns 10 50 200]``

A client sends the whole conversation again with each turn, so its request bodies grow with the square of the turns. Each
conversation is of another person, runs through the whole proxy with its embedded store, and is measured when all of it
is kept: ``MEMORY USAGE`` of every key of that person, and the growth of the append-only file. Questions have 40 words
and answers 120, drawn from 2,000 made-up ones, which compress less than people's.
"""

import argparse
import asyncio
import json
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path

import httpx

from chatproxy.clock import wall_clock
from chatproxy.crypto.keyset import make_keyset
from chatproxy.kms.file import KeysetFile
from chatproxy.settings import load_settings
from chatproxy.wiring import running_proxy

CHOICE = random.Random(3)
WORDS = ["".join(CHOICE.choices("abcdefghijklmnoprstuvw", k=CHOICE.randint(2, 10))) for _ in range(2000)]


@dataclass(frozen=True)
class Figures:
    """Bytes of one conversation."""

    turns: int
    sent: int
    said: int
    memory: int
    keys: int
    log: int


def words(count):
    return " ".join(CHOICE.choices(WORDS, k=count))


async def answer(reader, writer):
    """Answer each request of one connection in the OpenAI dialect."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            fields = dict(line.lower().split(b": ", 1) for line in head.strip().split(b"\r\n")[1:])
            await reader.readexactly(int(fields[b"content-length"]))
            message = {"role": "assistant", "content": words(120)}
            body = json.dumps(
                {"model": "m-1", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
            ).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body)
            )
    except asyncio.IncompleteReadError:
        writer.close()


async def measure(proxy, client, directory, turns):
    who = f"person-{turns}"
    log = log_bytes(directory)
    messages, sent = [], 0
    for _ in range(turns):
        messages.append({"role": "user", "content": words(40)})
        body = json.dumps({"model": "m-1", "messages": messages}).encode()
        sent += len(body)
        reply = await client.post(
            "/v1/chat/completions", content=body, headers={"x-chat-subject": who, "x-chat-plan": "pro"}
        )
        messages.append(reply.raise_for_status().json()["choices"][0]["message"])
    if not await proxy.all_kept(within=60):
        raise SystemExit("not all turns were kept")
    vault = proxy.vault
    tag = vault.pseudonyms.subject_tag(tenant="default", subject=who)
    [names] = await vault.store.connections.ask([["KEYS", f"cp:{{{tag.hex()}}}:*"]])
    sizes = await vault.store.connections.ask([["MEMORY", "USAGE", name, "SAMPLES", 0] for name in names])
    said = sum(len(message["content"]) for message in messages)
    return Figures(turns, sent, said, sum(sizes), len(names), log_bytes(directory) - log)


def log_bytes(directory):
    return sum(path.stat().st_size for path in Path(directory, "data").rglob("*.aof"))


async def run(lengths):
    backend = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = backend.sockets[0].getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as directory:
        data, keyset = Path(directory, "data"), Path(directory, "keys", "keyset")
        KeysetFile(keyset, data_dir=data).create(make_keyset(created_at=wall_clock()))
        settings = load_settings(
            {},
            overrides={
                "upstream": f"http://127.0.0.1:{port}",
                "listen": "127.0.0.1:0",
                "admin_listen": "127.0.0.1:0",
                "data_dir": str(data),
                "keyset": f"file:{keyset}",
                "trusted_proxies": "127.0.0.1",
            },
        ).settings
        async with running_proxy(settings) as proxy, httpx.AsyncClient(base_url=proxy.url) as client:
            await measure(proxy, client, directory, 1)  # makes the keys of the day and loads the script
            return [await measure(proxy, client, directory, turns) for turns in lengths]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, nargs="+", default=[10, 50, 200])
    print(
        "| turns | request bodies | words said | store memory | a turn | keys | append-only file | a turn |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for one in asyncio.run(run(parser.parse_args().turns)):
        print(
            f"| {one.turns} | {one.sent:,} | {one.said:,} | {one.memory:,} | {one.memory // one.turns:,} "
            f"| {one.keys} | {one.log:,} | {one.log // one.turns:,} |"
        )


if __name__ == "__main__":
    main()
