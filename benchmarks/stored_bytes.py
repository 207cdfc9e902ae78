"""What does a conversation take in the store, beside what its client sent for it?

``python benchmarks/stored_bytes.py [--turns 10 50 200]``

A client sends the whole conversation again with each turn, so its request bodies grow with the square of the turns. Each
conversation is of another person, runs through the whole proxy with its embedded store, and is measured when all of it
is kept: ``MEMORY USAGE`` of every key of that person, and the growth of the append-only file. Questions have 40 words
and answers 120, drawn from 2,000 made-up ones, which compress less than people's. Of the last conversation it tells what each
byte is.
"""

import argparse
import asyncio
import json
import random
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx
import msgspec

from chatproxy.clock import wall_clock
from chatproxy.crypto import record
from chatproxy.crypto.keyset import make_keyset
from chatproxy.kms.file import KeysetFile
from chatproxy.settings import load_settings
from chatproxy.store import keys
from chatproxy.wiring import running_proxy
from chatproxy.workflows.annotate import TurnFacts, TurnNote

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


def person_of(turns):
    return f"person-{turns}"


def tag_of(vault, turns):
    return vault.pseudonyms.subject_tag(tenant="default", subject=person_of(turns))


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
    who = person_of(turns)
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
    tag = tag_of(vault, turns)
    [names] = await vault.store.connections.ask([["KEYS", f"cp:{{{tag.hex()}}}:*"]])
    sizes = await vault.store.connections.ask([["MEMORY", "USAGE", name, "SAMPLES", 0] for name in names])
    said = sum(len(message["content"]) for message in messages)
    return Figures(turns, sent, said, sum(sizes), len(names), log_bytes(directory) - log)


KINDS = {
    "r": "the sealed record",
    "a": "the annotation",
    "h": "two history heads",
    "p": "the mark of an attempt, for ten minutes",
    "ix": "in the person's index",
    "v": "in the conversation's index",
    "s": "the person's wrapped key, once",
}


async def size_of(ask, name):
    """Return the bytes that a key holds: its value, or names and values, or members and their scores."""
    [kind] = await ask([["TYPE", name]])
    if kind == b"string":
        return (await ask([["STRLEN", name]]))[0]
    if kind == b"hash":
        return sum(map(len, (await ask([["HGETALL", name]]))[0]))
    return (await ask([["ZCARD", name]]))[0] * 24


async def tell_keys(ask, tag, turns):
    """Print what a turn's keys take, by kind."""
    [names] = await ask([["KEYS", keys.any_of(tag)]])
    rows = {kind: Counter() for kind in KINDS}
    for name in names:
        [memory] = await ask([["MEMORY", "USAGE", name, "SAMPLES", 0]])
        row = rows[keys.parse_own(tag, name)[0].decode()]
        row.update(keys=1, name=len(name), content=await size_of(ask, name), memory=memory)
    print("\n| of a turn | keys | their names | content | the server's | in all |\n|---|--:|--:|--:|--:|--:|")
    for kind, row in rows.items():
        servers = row["memory"] - row["name"] - row["content"]
        cells = [row["name"], row["content"], servers, row["memory"]]
        print(
            f"| {KINDS[kind]} | {row['keys'] / turns:.2f} | "
            + " | ".join(f"{cell / turns:,.0f}" for cell in cells)
            + " |"
        )
    whole = sum(rows.values(), Counter())
    cells = [
        whole["name"],
        whole["content"],
        whole["memory"] - whole["name"] - whole["content"],
        whole["memory"],
    ]
    print(
        f"| **all** | {whole['keys'] / turns:.2f} | "
        + " | ".join(f"{cell / turns:,.0f}" for cell in cells)
        + " |"
    )


async def tell_content(vault, tag, turns):
    """Print what a turn's record and annotation are made of."""
    state = await vault.store.subject_state(tag)
    found = Counter()
    async for stored in vault.store.annotations(tag):
        fields = stored.annotation
        facts = msgspec.json.decode(fields[b"meta"], type=TurnFacts)
        note = msgspec.json.decode(fields[b"body"], type=TurnNote)
        [blob] = await vault.store.records(tag, stored.turn, [0])
        header = record.parse_header(blob)
        payload = record.open_record(
            blob,
            subject_key=vault.record_keys.unwrap_subject_key(tag, state, header.generation),
            epoch_key=await vault.record_keys.existing_epoch_key(header.epoch),
            subject=tag,
            metadata=facts.record_metadata(0),
        )
        body, heads = fields[b"body"], sum(map(len, note.heads)) + 3 * len(note.heads)
        groups = len(msgspec.json.encode(note.groups))
        found.update(
            {
                "record: header, 60": 60,
                "record: commitment and tag, 48": 48,
                "record: what was said, compressed": len(payload),
                "record: its length, 4, and padding": len(blob) - record.OVERHEAD - len(payload),
                "annotation: `mac`": len(fields[b"mac"]),
                "annotation: `kv`, `seq`, `exp`, `prev`": sum(
                    len(fields[name]) for name in (b"kv", b"seq", b"exp", b"prev")
                ),
                "annotation: names of the fields": sum(map(len, fields)),
                "annotation: `meta`, the facts": len(fields[b"meta"]),
                "annotation: `body`, groups, their grounds and ends": groups,
                "annotation: `body`, history heads": heads,
                "annotation: `body`, digests of policy and consent": len(note.policy)
                + len(note.consent or ""),
                "annotation: `body`, the rest": len(body)
                - heads
                - groups
                - len(note.policy)
                - len(note.consent or ""),
            }
        )
    print("\n| of a turn | bytes |\n|---|--:|")
    for what, count in found.items():
        print(f"| {what} | {count / turns:,.0f} |")
    print(f"\none annotation: {fields[b'meta'].decode()}\n{fields[b'body'].decode()}")


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
            found = [await measure(proxy, client, directory, turns) for turns in lengths]
            tell(found)
            tag = tag_of(proxy.vault, lengths[-1])
            await tell_keys(proxy.vault.store.connections.ask, tag, lengths[-1])
            await tell_content(proxy.vault, tag, lengths[-1])


def tell(found):
    print(
        "| turns | request bodies | words said | store memory | a turn | keys | append-only file | a turn |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for one in found:
        print(
            f"| {one.turns} | {one.sent:,} | {one.said:,} | {one.memory:,} | {one.memory // one.turns:,} "
            f"| {one.keys} | {one.log:,} | {one.log // one.turns:,} |"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, nargs="+", default=[10, 50, 200])
    asyncio.run(run(parser.parse_args().turns))


if __name__ == "__main__":
    main()
