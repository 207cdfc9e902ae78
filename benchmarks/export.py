"""How fast is a dataset exported, in how much memory, and is exactly what is allowed in it?

``python benchmarks/export.py [--turns 100000] [--people 1000] [--format jsonl] [--kills 0]``

People of every kind are planted (``KINDS``), each with the turns that may be used marked in their own words and the reason why
the others may not: whom the policy forbids, who is too young, whose annotation, record or ledger somebody has changed, and so on.
``chatproxy dataset export`` runs as a process of its own beside an embedded store that holds them, and what it left out is compared
by reason. With ``--kills`` another one is killed so many times and begun again, and its bytes compared with those of the run that was
left alone. Texts are some 1.5 KB a turn, prose, a find or two in each. Linux only.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from msgspec.structs import replace

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from chatproxy.consent.events import Choice, FactKind
from chatproxy.datasets.tables import Form, read_rows
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.workflows.erase import ERASE_ACTION
from integration.dataset_fixtures import PLAIN, Archive, an_archive, said
from integration.serve_process import WORDS, environment

PROSE = "Could you explain the difference between the two approaches, with an example that I can follow? "
YES, NO = "MAY BE USED", "MUST NOT BE USED"
BATCH = 50


SETTINGS = {"policy_exempt_mode": "store_30d"}
"""So that turns of exempt plans are kept at all."""
USABLE = ("plain", "shared", "resumed")
KINDS = {
    "withdrew": "CONSENT_WITHDRAWN", "unasked": "CONSENT_UNKNOWN", "refused": "CONSENT_REFUSED", "deferred": "CONSENT_DEFERRED",
    "expired": "CONSENT_EXPIRED", "invalidated": "CONSENT_INVALIDATED", "not resumed": "NOT_RESUMED", "deleted": "DELETED",
    "account": "ACCOUNT_DELETED", "minor": "AGE_INELIGIBLE", "flagged": "SAFETY_REVIEW_HOLD", "excluded": "CONV_EXCLUDED",
    "incognito": "INCOGNITO", "signal": "SIGNAL_OPT_OUT", "exempt": "PLAN_EXEMPT", "unknown plan": "PLAN_UNKNOWN",
    "held": "LEGAL_HOLD_ONLY", "young": "cooling_off", "unread": "choices_unread", "behind": "annotation_behind",
    "unanswered": "no_answer", "erased in the log": "erased", "edited": "annotation", "longer": "annotation_ttl", "missing": "record",
    "forged": "ledger", "cut": "ledger_against_log",
}  # fmt: skip
"""Of each kind of people, why their turns may not be used."""
CALLERS = {
    "incognito": replace(PLAIN, incognito=True),
    "signal": replace(PLAIN, train_ai_no=True),
    "exempt": replace(PLAIN, plan="enterprise"),
    "unknown plan": replace(PLAIN, plan="nobody knows"),
}
FIRST_CHOICE = {"unasked": None, "deferred": Choice.DEFERRED} | dict.fromkeys(
    ("refused", "shared", "resumed", "not resumed", "behind"), Choice.REFUSED
)
LATER_CHOICE = {
    "withdrew": Choice.WITHDRAWN, "cut": Choice.WITHDRAWN, "expired": Choice.EXPIRED,
    "invalidated": Choice.INVALIDATED,
}  # fmt: skip
FACTS = {
    "account": FactKind.ACCOUNT_DELETED,
    "minor": FactKind.MINOR_FOUND,
    "unread": FactKind.CHOICES_UNREAD,
}
TAMPERED = {
    "edited": ("a:", "HSET", "exp", "1999999999999"), "longer": ("a:", "PEXPIRE", 10**11), "missing": ("r:", "DEL"),
    "forged": ("c", "LSET", 0, "x"), "cut": ("c", "LTRIM", 0, 0),
}  # fmt: skip


def text(rng, mark):
    return f"{mark} {PROSE * 7}Write to {rng.randrange(10**6)}@example.org or 06 12 {rng.randrange(10, 99)} 56 78. {PROSE * 7}"


async def fill(archive: Archive, turns, people):
    """Keep the turns of people of every kind; return how many are left out for which reason, None for those that may be used."""
    rng = random.Random(1)
    each = turns // people
    kinds = [*KINDS, *USABLE, *["plain"] * (len(KINDS) // 2)]
    expected = Counter()
    for number in range(people):
        kind, who = kinds[number % len(kinds)], f"p{number}"
        expected[KINDS.get(kind)] += each
        held = kind == "held"
        if (first := FIRST_CHOICE.get(kind, Choice.GIVEN)) is not None:
            await archive.choose(who, first, days_ago=80 if held else 40)
        for start in range(0, each, BATCH):
            count = min(BATCH, each - start)
            mark = NO if kind in KINDS else YES
            await archive.keep_all(
                who,
                [said(text(rng, mark), [] if kind == "unanswered" else f"{PROSE} ok") for _ in range(count)],
                days_ago=70 if held else 3 if kind == "young" else 10,
                names=[f"{who}/{start + at}" for at in range(count)],
                caller=CALLERS.get(kind, PLAIN),
            )
        await happen(archive, kind, who)
        expected[None] += kind == "resumed"
        archive.turns.clear()
    return expected


async def happen(archive: Archive, kind, who):
    """Have happen to a person what makes them of their kind."""
    if kind in LATER_CHOICE:
        await archive.choose(who, LATER_CHOICE[kind], days_ago=1)
    if kind in FACTS:
        await archive.note(who, FACTS[kind])
    match kind:
        case "deleted":
            await archive.note(who, FactKind.CONVERSATION_DELETED, about=f"{who}/c")
        case "flagged":
            for turn in archive.turns:
                await archive.note(who, FactKind.FLAGGED, turn=turn)
        case "excluded":
            await archive.choose(who, Choice.REFUSED, about=f"{who}/c")
        case "shared" | "behind":
            await archive.choose(who, Choice.GIVEN, days_ago=8, about=f"{who}/c")
        case "not resumed":
            await archive.choose(who, Choice.GIVEN, days_ago=8)
        case "resumed":
            await archive.choose(who, Choice.GIVEN, days_ago=9)
            await archive.keep(who, said(f"{YES} again"), days_ago=8)
        case "held":
            hold = {"case": "1", "authority": "a", "review_at": "2030-01-01T00:00:00Z"}
            await archive.note(who, FactKind.HOLD_PLACED, days_ago=60, **hold)
            await archive.choose(who, Choice.WITHDRAWN, days_ago=50)
        case "erased in the log":
            archive.vault.audit.append(ERASE_ACTION, {"subject": archive.tag(who).hex()})
    if kind in {"shared", "resumed", "not resumed"}:
        await archive.decided_again(who)
    if kind in TAMPERED:
        what, command, *words = TAMPERED[kind]
        [names] = await archive.vault.store.connections.ask(
            [["KEYS", f"cp:*{archive.tag(who).hex()}}}:{what}*"]]
        )
        assert names
        for name in names:
            await archive.vault.store.connections.ask([[command, name, *words]])


def export(env, out, form, at, *, kill_after=None):
    """Run the export; return its exit code, seconds, CPU seconds and peak memory in MiB."""
    words = [
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
        "--json",
    ]
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "chatproxy", "dataset", "export", *words],
        env={**WORDS, **env, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(process.pid, signal.SIGKILL)  # not by the object, which would reap it
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
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


def compare(out, form, expected):
    """Say what is in the dataset and should not be, the other way round, and what was left out for another reason; return the items."""
    files = sorted((out / "data").iterdir())
    marks = Counter(
        row.messages[0].content.startswith(YES)
        for file in files
        for row in read_rows(file.read_bytes(), Form(form))
    )
    [manifest] = [json.loads(path.read_bytes()) for path in out.glob("manifest-*.json")]
    wanted = {reason: count for reason, count in expected.items() if reason is not None}
    differ = {
        reason: (wanted.get(reason, 0), manifest["left_out"].get(reason, 0))
        for reason in wanted.keys() | manifest["left_out"].keys()
        if wanted.get(reason, 0) != manifest["left_out"].get(reason, 0)
    }
    print(
        f"{marks.total()} items, {marks[False]} of them must not be there, {expected[None] - marks[True]} missing; "
        f"left out for {len(wanted)} reasons, "
        + (
            f"OTHERWISE (planted, found): {differ}"
            if differ
            else f"as planted: {dict(sorted(wanted.items()))}"
        )
    )
    return marks.total()


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
            async with an_archive(directory, server.url, store_timeout="30s", **SETTINGS) as archive:
                expected = await fill(archive, options.turns, options.people)
            print(
                f"filled in {time.perf_counter() - begun:.0f} s; {expected[None]} may be used",
                file=sys.stderr,
            )
            env = environment(directory, store=server.url, **SETTINGS)
            at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            out = directory / "out"
            code, seconds, cpu, memory = await asyncio.to_thread(export, env, out, options.format, at)
            print(f"exit {code}; ", end="")
            items = compare(out, options.format, expected)
            size = sum(file.stat().st_size for file in (out / "data").iterdir())
            turns = expected.total()
            print("| turns | items | MB out | s | turns/s | turns/s a core | MB/s a core | peak MiB |")
            print("|--:|--:|--:|--:|--:|--:|--:|--:|")
            print(
                f"| {turns} | {items} | {size / 1e6:.0f} | {seconds:.0f} | {turns / seconds:.0f} "
                f"| {turns / cpu:.0f} | {size / cpu / 1e6:.1f} | {memory:.0f} |"
            )
            if options.kills:
                again, killed = directory / "again", 0
                for _ in range(options.kills):
                    # Each gets on by a part of the whole, beside what it takes to start.
                    after = 1.5 + 0.9 * seconds / (options.kills + 1)
                    code, *_ = await asyncio.to_thread(
                        export, env, again, options.format, at, kill_after=after
                    )
                    killed += code == -signal.SIGKILL
                    if list(again.glob("manifest-*")):
                        break
                if not list(again.glob("manifest-*")):
                    await asyncio.to_thread(export, env, again, options.format, at)
                print(
                    f"after {killed} kills: {'the same bytes' if digest(out) == digest(again) else 'OTHER BYTES'}"
                )


if __name__ == "__main__":
    asyncio.run(main())
