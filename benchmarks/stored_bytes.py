"""What does a conversation take in the store, beside what its client sent for it?

``python benchmarks/stored_bytes.py [--turns 10 50 200]``

A client sends the whole conversation again with each turn, so its request bodies grow with the square of the turns. Each
conversation is of another person, runs through the whole proxy with its embedded store, and is measured when all of it
is kept: ``MEMORY USAGE`` of every key of that person and the places of these keys in the server's tables (``MEMORY STATS``),
and the growth of the append-only file. *Later* is ten minutes later, when the marks of attempts have gone, and the file has
been rewritten by the server. Of the longest conversation it tells what each byte is.

Two kinds of turns. *Prose*: questions of 1,000 characters and answers of 1,200, passages of ``docs/``, which is English as
people write it. *Made up*: questions of 40 words and answers of 120, drawn from 2,000 that are no words, which
compress less than people's.
"""

import argparse
import asyncio
import json
import random
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import msgspec

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice
from chatproxy.crypto import record
from chatproxy.crypto.keyset import make_keyset
from chatproxy.kms.file import KeysetFile
from chatproxy.settings import load_settings
from chatproxy.store import keys
from chatproxy.wiring import running_proxy
from chatproxy.workflows.annotate import TurnFacts, TurnNote

CHOICE = random.Random(3)
WORDS = ["".join(CHOICE.choices("abcdefghijklmnoprstuvw", k=CHOICE.randint(2, 10))) for _ in range(2000)]
OBJECT_BYTES = 16
"""What ``MEMORY STATS`` counts to the table of keys, and ``MEMORY USAGE`` to the key."""
NO_PROSE = ("|", "#", "<", "```")
"""What a paragraph of a document begins with that nobody would say."""


@dataclass(frozen=True)
class Kind:
    """What is said in the turns of a conversation."""

    name: str
    model: str
    """What requests ask for, by which the backend knows the kind."""
    question: Callable[[], str]
    answer: Callable[[], str]
    choice: Choice | None = None
    """What the person chooses before; None: nothing."""


@dataclass(frozen=True)
class Figures:
    """Bytes of one conversation."""

    turns: int
    sent: int
    said: int
    memory: float
    later: float
    written: int
    rewritten: int


def made_up(count):
    return " ".join(CHOICE.choices(WORDS, k=count))


def prose():
    """Return the words of the documents, without tables, headings, commands and marks."""
    documents = sorted(Path(__file__).parent.parent.joinpath("docs").rglob("*.md"))
    paragraphs = "\n\n".join(path.read_text() for path in documents).split("\n\n")
    said = " ".join(each for each in paragraphs if not each.lstrip().startswith(NO_PROSE))
    return re.sub(r"\s+", " ", re.sub(r"\]\([^)]*\)|[`*\[\]]", "", said))


def passages(text, size):
    """Return what gives one passage after another, of so many characters, from anywhere in *text*."""

    def passage():
        start = text.index(" ", CHOICE.randrange(len(text) - 2 * size)) + 1
        return text[start : start + size]

    return passage


def person_of(kind, turns):
    return f"{kind.model}-{turns}"


def tag_of(vault, kind, turns):
    return vault.pseudonyms.subject_tag(tenant="default", subject=person_of(kind, turns))


async def answer(kinds, reader, writer):
    """Answer each request of one connection in the OpenAI dialect. The model that it asks for tells the kind of turn."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            fields = dict(line.lower().split(b": ", 1) for line in head.strip().split(b"\r\n")[1:])
            model = json.loads(await reader.readexactly(int(fields[b"content-length"])))["model"]
            message = {"role": "assistant", "content": kinds[model].answer()}
            body = json.dumps(
                {"model": model, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
            ).encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(body), body)
            )
    except asyncio.IncompleteReadError:
        writer.close()


async def measure(proxy, client, directory, kind, turns):
    vault = proxy.vault
    tag, ask = tag_of(vault, kind, turns), vault.store.connections.ask
    rewritten = await rewrite(ask, directory)
    if kind.choice is not None:
        await vault.ledger.record(tag, kind.choice, at=wall_clock(), by="bench", method="bench")
    messages, sent = [], 0
    for _ in range(turns):
        messages.append({"role": "user", "content": kind.question()})
        body = json.dumps({"model": kind.model, "messages": messages}).encode()
        sent += len(body)
        reply = await client.post(
            "/v1/chat/completions",
            content=body,
            headers={"x-chat-subject": person_of(kind, turns), "x-chat-plan": "pro"},
        )
        messages.append(reply.raise_for_status().json()["choices"][0]["message"])
    if not await proxy.all_kept(within=60):
        raise SystemExit("not all turns were kept")
    place = await bytes_of_a_place(ask)
    [names] = await ask([["KEYS", keys.any_of(tag)]])
    sizes = await ask([["MEMORY", "USAGE", name, "SAMPLES", 0] for name in names])
    taken = {name: size + place for name, size in zip(names, sizes, strict=True)}
    marks = [name for name in names if keys.parse_own(tag, name)[0] == b"p"]
    written = log_bytes(directory) - rewritten
    await ask([["DEL", *marks]])
    memory = sum(taken.values())
    return Figures(
        turns,
        sent,
        sum(len(message["content"]) for message in messages),
        memory,
        memory - sum(map(taken.__getitem__, marks)),
        written,
        await rewrite(ask, directory) - rewritten,
    )


async def bytes_of_a_place(ask):
    """Return what the server's tables of keys and of expiries take for each key; they double now and then."""
    fields = (await ask([["MEMORY", "STATS"]]))[0]
    stats = dict(zip(fields[0::2], fields[1::2], strict=True))
    tables = dict(zip(stats[b"db.0"][0::2], stats[b"db.0"][1::2], strict=True))
    return sum(tables.values()) / stats[b"keys.count"] - OBJECT_BYTES


KINDS = {
    "r": "the sealed record",
    "a": "the annotation",
    "h": "two history heads",
    "ix": "in the person's index",
    "v": "in the conversation's index",
    "s": "the person's wrapped key, once",
    "c": "the person's choices, once",
}


async def size_of(ask, name):
    """Return the bytes that a key holds: its value, or names and values, or members and their scores."""
    [kind] = await ask([["TYPE", name]])
    if kind == b"string":
        return (await ask([["STRLEN", name]]))[0]
    if kind == b"hash":
        return sum(map(len, (await ask([["HGETALL", name]]))[0]))
    if kind == b"list":
        return sum(map(len, (await ask([["LRANGE", name, 0, -1]]))[0]))
    return (await ask([["ZCARD", name]]))[0] * 24


async def tell_keys(ask, tag, turns):
    """Print what a turn's keys take, by kind."""
    [names] = await ask([["KEYS", keys.any_of(tag)]])
    rows = {kind: Counter() for kind in KINDS}
    place = await bytes_of_a_place(ask)
    for name in names:
        memory = (await ask([["MEMORY", "USAGE", name, "SAMPLES", 0]]))[0] + place
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
    return sum(path.stat().st_size for path in Path(directory, "data").rglob("appendonlydir/*"))


async def rewrite(ask, directory):
    """Have the server rewrite its append-only file, and return the bytes it has then."""
    await ask([["BGREWRITEAOF"]])
    while b"aof_rewrite_in_progress:1" in (await ask([["INFO", "persistence"]]))[0]:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    return log_bytes(directory)


async def run(lengths):
    text = prose()
    asks, answers = passages(text, 1000), passages(text, 1200)
    kinds = [
        Kind("prose", "m-1", asks, answers),
        Kind("prose, of who has said yes", "m-2", asks, answers, Choice.GIVEN),
        Kind("made up", "m-3", partial(made_up, 40), partial(made_up, 120)),
    ]
    backend = await asyncio.start_server(
        partial(answer, {kind.model: kind for kind in kinds}), "127.0.0.1", 0
    )
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
            for kind in kinds:
                await measure(
                    proxy, client, directory, kind, 1
                )  # makes the keys of the day and loads the script
                tell(kind, [await measure(proxy, client, directory, kind, turns) for turns in lengths])
                tag = tag_of(proxy.vault, kind, max(lengths))
                await tell_keys(proxy.vault.store.connections.ask, tag, max(lengths))
                await tell_content(proxy.vault, tag, max(lengths))


def tell(kind, found):
    sizes = ("memory at once", "memory later", "file as written", "file later")
    print(f"\n{kind.name}\n\n| turns | request bodies | words said | {' | | '.join(sizes)} | |")
    print("|--:" * 11 + "|")
    for one in found:
        sizes = (one.memory, one.later, one.written, one.rewritten)
        cells = [f"{size / one.turns:,.0f} a turn | {one.sent / size:.1f} times less" for size in sizes]
        print(f"| {one.turns} | {one.sent:,} | {one.said:,} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, nargs="+", default=[10, 50, 200])
    asyncio.run(run(parser.parse_args().turns))


if __name__ == "__main__":
    main()
