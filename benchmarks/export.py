"""How fast is a dataset exported, in how much memory, and is exactly what is allowed in it?

``python benchmarks/export.py [--turns 100000] [--people 1000] [--format jsonl] [--kills 0]``

People of every kind are planted: those who agreed, withdrew, deleted, were flagged, excluded, never asked, ... each with
the turns that may be used marked in their own words. ``chatproxy dataset export`` runs as a process of its own beside an
embedded store that holds them; with ``--kills`` it is killed so many times and begun again, and the bytes compared with
those of a run that was left alone. Texts are some 1.5 KB a turn, prose, a find or two in each. Linux only.
"""

import argparse
import asyncio
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from chatproxy.consent.events import Choice, FactKind
from chatproxy.datasets.tables import Form, read_rows
from chatproxy.store.embedded import EmbeddedServer
from integration.dataset_fixtures import Archive, an_archive, said
from integration.serve_process import WORDS, environment

PROSE = "Could you explain the difference between the two approaches, with an example that I can follow? "
YES, NO = "MAY BE USED", "MUST NOT BE USED"
BATCH = 50


def text(rng, mark):
    return f"{mark} {PROSE * 7}Write to {rng.randrange(10**6)}@example.org or 06 12 {rng.randrange(10, 99)} 56 78. {PROSE * 7}"


async def fill(archive: Archive, turns, people):
    """Keep the turns of people of every kind in equal parts; return how many may be used."""
    rng = random.Random(1)
    each = turns // people
    allowed = 0
    kinds = [
        "plain", "plain", "plain", "plain", "plain", "withdrew", "unasked", "deleted", "flagged", "young", "excluded",
        "account", "minor", "unread", "refused", "shared",
    ]  # fmt: skip
    for number in range(people):
        kind, who = kinds[number % len(kinds)], f"p{number}"
        may = kind in {"plain", "shared"}
        if kind in {"refused", "shared"}:
            await archive.choose(who, Choice.REFUSED, days_ago=40)
        elif kind != "unasked":
            await archive.choose(who, Choice.GIVEN, days_ago=40)
        for start in range(0, each, BATCH):
            count = min(BATCH, each - start)
            await archive.keep_all(
                who,
                [said(text(rng, YES if may else NO), f"{PROSE} ok") for _ in range(count)],
                days_ago=3 if kind == "young" else 10,
                conversation="c",
                names=[f"{who}/{start + at}" for at in range(count)],
            )
            allowed += count * may
        match kind:
            case "withdrew":
                await archive.choose(who, Choice.WITHDRAWN, days_ago=1)
            case "deleted":
                await archive.note(who, FactKind.CONVERSATION_DELETED, about=f"{who}/c")
            case "flagged":
                for turn in [name for name in archive.turns if name.startswith(f"{who}/")]:
                    await archive.note(who, FactKind.FLAGGED, turn=turn)
            case "excluded":
                await archive.choose(who, Choice.REFUSED, about=f"{who}/c")
            case "account":
                await archive.note(who, FactKind.ACCOUNT_DELETED)
            case "minor":
                await archive.note(who, FactKind.MINOR_FOUND)
            case "unread":
                await archive.note(who, FactKind.CHOICES_UNREAD)
            case "shared":
                await archive.choose(who, Choice.GIVEN, days_ago=8, about=f"{who}/c")
                await archive.decided_again(who)
        archive.turns.clear()
    return allowed


def export(env, out, form, at, *, kill_after=None):
    """Run the export; return its exit code (None: it was killed), seconds, CPU seconds and peak memory in MiB."""
    words = [
        "dataset",
        "export",
        "--purpose",
        "capability",
        "--consumer",
        "bench",
        "--out",
        str(out),
        "--format",
        form,
        "--at",
        at,
    ]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "chatproxy", *words],
        env={**WORDS, **env, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        stdout=subprocess.PIPE,
    )
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(process.pid, signal.SIGKILL)  # not by the object, which would reap it
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    print(process.stdout.read().decode(), file=sys.stderr)
    return (
        process.returncode,
        time.perf_counter() - begun,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 1024,
    )


def digest(out):
    found = hashlib.sha256()
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        found.update(path.relative_to(out).as_posix().encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


async def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--turns", type=int, default=100_000)
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--format", default="jsonl")
    parser.add_argument("--kills", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chatproxy-bench-") as name:
        directory = Path(name)
        (directory / "server").mkdir()
        async with EmbeddedServer(directory / "server", ballast_bytes=0) as server:
            begun = time.perf_counter()
            async with an_archive(directory, server.url, store_timeout="30s") as archive:
                allowed = await fill(archive, options.turns, options.people)
            print(f"filled in {time.perf_counter() - begun:.0f} s; {allowed} may be used", file=sys.stderr)
            env = environment(directory, store=server.url)
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            out = directory / "out"
            code, seconds, cpu, memory = await asyncio.to_thread(export, env, out, options.format, at)
            files = sorted((out / "data").iterdir())
            rows = [row for file in files for row in read_rows(file.read_bytes(), Form(options.format))]
            marks = [row.messages[0].content.startswith(YES) for row in rows]
            size = sum(file.stat().st_size for file in files)
            print(
                f"exit {code}; {len(rows)} items, {marks.count(False)} of them must not be there, {allowed - marks.count(True)} missing"
            )
            print("| turns | items | MB out | s | turns/s | turns/s a core | MB/s a core | peak MiB |")
            print("|--:|--:|--:|--:|--:|--:|--:|--:|")
            print(
                f"| {options.turns} | {len(rows)} | {size / 1e6:.0f} | {seconds:.0f} | {options.turns / seconds:.0f} "
                f"| {options.turns / cpu:.0f} | {size / cpu / 1e6:.1f} | {memory:.0f} |"
            )
            if options.kills:
                again = directory / "again"
                for number in range(options.kills):
                    await asyncio.to_thread(
                        export,
                        env,
                        again,
                        options.format,
                        at,
                        kill_after=1.5 + seconds * number / options.kills,
                    )
                await asyncio.to_thread(export, env, again, options.format, at)
                print(
                    f"after {options.kills} kills: {'the same bytes' if digest(out) == digest(again) else 'OTHER BYTES'}"
                )


if __name__ == "__main__":
    asyncio.run(main())
