"""The dataset commands, as an operator and a consumer run them."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice
from chatproxy.policy.instants import format_instant
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.dataset_fixtures import an_archive, said
from integration.proxy_fixtures import DAY
from integration.serve_process import WORDS, call, environment


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def filled(directory: Path, store: str, *subjects: str, turns: int = 3) -> None:
    async with an_archive(directory, store) as archive:
        for subject in subjects:
            await archive.choose(subject, Choice.GIVEN, days_ago=40)
            await archive.keep_all(
                subject, [said(f"{subject} {n} a@b.fr") for n in range(turns)], days_ago=10
            )


def wanted(out: Path, *more: str) -> tuple[str, ...]:
    return ("dataset", "export", "--purpose", "capability", "--consumer", "ml team", "--out", str(out), *more)


async def test_a_dataset_is_exported_checked_recalled_and_acknowledged(tmp_path: Path, store: str) -> None:
    await filled(tmp_path, store, "ana", "bea")
    env, out = environment(tmp_path, store=store), tmp_path / "out"
    made = await call(env, *wanted(out, "--json"))
    [summary] = made.rows()
    assert (made.status, summary["items"], summary["redacted"]) == (0, 6, {"EMAIL": 6})
    told = await call(env, *wanted(tmp_path / "told"))
    assert "6 items of 6 turns" in told.out
    checked = await call(env, "dataset", "verify", str(out))
    assert (checked.status, checked.out) == (
        0,
        "6 items in 2 files. 6 were allowed; 0 cannot be led back any more.\n",
    )
    public = tmp_path / "public.json"
    public.write_text((await call(env, "keys", "public")).out)
    offline = {**env, "CHATPROXY_KEYSET": "file:/nowhere", "CHATPROXY_STORE": "unix:///nowhere"}
    alone = await call(offline, "dataset", "verify", str(out), "--offline", "--keys", str(public), "--json")
    assert (alone.status, alone.out, alone.err) == (0, "", "")
    assert (await call(env, "dataset", "recall", str(out))).out == ""
    async with an_archive(tmp_path, store) as archive:
        await archive.choose("ana", Choice.WITHDRAWN)
    recalled = await call(env, "dataset", "recall", str(out), "--json")
    rows = recalled.rows()
    assert (recalled.status, len(rows)) == (0, 3)
    assert {(row["reason"], row["acknowledged_at"], row["overdue"]) for row in rows} == {
        ("CONSENT_WITHDRAWN", None, False)
    }
    assert (await call(env, "dataset", "verify", str(out))).status == 0
    one = await call(
        env, "dataset", "acknowledge", str(out), "--items", "-", "--json", stdin=rows[0]["item"] + "\n"
    )
    assert one.rows() == [{"acknowledged": 1}]
    rest = await call(env, "dataset", "acknowledge", str(out))
    assert rest.out == "2 items acknowledged.\n"
    last = await call(env, "dataset", "recall", str(out))
    assert [line.split()[1:] for line in last.out.splitlines()] == [["CONSENT_WITHDRAWN", "acknowledged"]] * 3
    log = [
        json.loads(line) for line in (tmp_path / "data" / "audit" / "audit.jsonl").read_text().splitlines()
    ]
    actions = [entry["action"] for entry in log if entry["action"].startswith("dataset.")]
    assert actions == [
        "dataset.export", "dataset.exported", "dataset.export", "dataset.exported", "dataset.recall", "dataset.recall",
        "dataset.acknowledge", "dataset.acknowledge", "dataset.recall",
    ]  # fmt: skip
    assert "ana" not in json.dumps(log)


async def test_a_dataset_has_an_address(tmp_path: Path, store: str) -> None:
    await filled(tmp_path, store, "ana")
    env, address = environment(tmp_path, store=store), f"file://{tmp_path}/may%20set"
    assert (await call(env, "dataset", "verify", address)).status == 2
    made = await call(
        env, "dataset", "export", "--purpose", "capability", "--consumer", "ml", "--out", address
    )
    assert (made.status, f"3 items of 3 turns in {tmp_path}/may set" in made.out) == (0, True)
    assert (await call(env, "dataset", "verify", address)).status == 0
    assert (await call(env, "dataset", "recall", address)).out == ""
    assert (await call(env, "dataset", "acknowledge", address)).out == "0 items acknowledged.\n"
    assert (tmp_path / "may set" / "README.md").exists()


@pytest.mark.parametrize("words", [("export",), ("verify",), ("recall",), ("acknowledge",)], ids=" ".join)
async def test_credentials_in_an_address_are_refused_and_not_repeated(
    words: tuple[str, ...], tmp_path: Path, store: str
) -> None:
    address = "s3://AKIAIOSFODNN7EXAMPLE:hunter2@bucket/set"
    where = (
        ("--purpose", "safety", "--consumer", "x", "--out", address) if words == ("export",) else (address,)
    )
    refused = await call(environment(tmp_path, store=store), "dataset", *words, *where)
    assert (refused.status, refused.out) == (1, "")
    assert "Credentials do not belong there" in refused.err
    assert "hunter2" not in refused.err
    assert "AKIA" not in refused.err


async def test_what_is_not_acknowledged_in_time_alarms(tmp_path: Path, store: str) -> None:
    await filled(tmp_path, store, "ana")
    env, out = environment(tmp_path, store=store), tmp_path / "out"
    await call(env, *wanted(out))
    async with an_archive(tmp_path, store) as archive:
        await archive.choose("ana", Choice.WITHDRAWN, days_ago=35)
        archive.clock.ahead = -31 * DAY
        await archive.vault.recalls().look_at_everybody()
    overdue = await call(env, "dataset", "recall", str(out))
    assert (overdue.status, overdue.out.count("OVERDUE")) == (3, 3)
    await call(env, "dataset", "acknowledge", str(out))
    assert (await call(env, "dataset", "recall", str(out))).status == 0


async def test_what_is_not_as_it_was_kept_is_an_exit_code(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    await filled(tmp_path, store, "ana")
    [names] = await connections.ask([["KEYS", "cp:*}:r:*"]])
    await connections.ask([["DEL", names[0]]])
    done = await call(environment(tmp_path, store=store), *wanted(tmp_path / "out"))
    assert (done.status, "2 items of 3 turns" in done.out) == (3, True)
    assert "transcripts verify" in done.err


@pytest.mark.parametrize(
    "words",
    [("--shard", "1/2"), ("--shard", "3/2"), ("--shard", "x"), ("--at", "yesterday"), ("--consumer", "\x1b")],
    ids=["no instant", "beyond", "no shard", "no time", "control"],
)
async def test_what_cannot_be_meant_is_a_usage_error(
    words: tuple[str, ...], tmp_path: Path, store: str
) -> None:
    refused = await call(environment(tmp_path, store=store), *wanted(tmp_path / "out", *words))
    assert refused.status == 2


async def test_shards_are_one_dataset(tmp_path: Path, store: str) -> None:
    await filled(tmp_path, store, *"abcdefgh")
    env, out = environment(tmp_path, store=store), tmp_path / "out"
    at = ("--at", format_instant(wall_clock()))
    for number in (1, 2):
        assert (await call(env, *wanted(out, "--shard", f"{number}/3", *at))).status == 0
    partly = await call(env, "dataset", "verify", str(out), "--json")
    assert (partly.status, partly.rows()) == (3, [{"fault": "shard_missing", "where": "0003-of-0003"}])
    assert (await call(env, *wanted(out, "--shard", "3/3", *at))).status == 0
    assert (await call(env, "dataset", "verify", str(out))).status == 0


def edited(path: Path, before: bytes, after: bytes) -> None:
    data = path.read_bytes()
    assert before in data
    path.write_bytes(data.replace(before, after, 1))


@pytest.mark.parametrize(
    "name, before, after, fault",
    [
        ("data/part-0001-of-0001-00001.jsonl", b"an answer", b"an Answer", "file_hash"),
        ("items/part-0001-of-0001-00001.jsonl", b"ELIGIBLE", b"eligible", "file_hash"),
        ("files-0001-of-0001.jsonl", b"data/", b"Data/", "file_hash"),
        ("manifest-0001-of-0001.json", b"ml team", b"my team", "manifest_signature"),
        ("manifest-0001-of-0001.json", b"{", b"[", "manifest_format"),
        ("data/more.jsonl", None, b"{}", "unlisted_file"),
        ("data/part-0001-of-0001-00001.jsonl", None, None, "file_hash"),
        ("manifest-0001-of-0001.json", None, None, "no_manifest"),
    ],
    ids=["row", "item", "list", "manifest", "no JSON", "one more", "one less", "none"],
)
async def test_what_was_changed_in_a_dataset_is_found(
    name: str, before: bytes | None, after: bytes | None, fault: str, tmp_path: Path, store: str
) -> None:
    await filled(tmp_path, store, "ana")
    env, out = environment(tmp_path, store=store), tmp_path / "out"
    await call(env, *wanted(out))
    if before is not None and after is not None:
        edited(out / name, before, after)
    elif after is not None:
        (out / name).write_bytes(after)
    else:
        (out / name).unlink()
    found = await call(env, "dataset", "verify", str(out), "--offline", "--json")
    assert (found.status, fault in {row["fault"] for row in found.rows()}) == (3, True)
    if fault != "unlisted_file":
        refused = await call(env, "dataset", "recall", str(out))
        assert (refused.status, "dataset verify" in refused.err) == (1, True)


async def test_an_export_that_is_killed_goes_on_to_the_same_bytes(tmp_path: Path, store: str) -> None:
    await filled(tmp_path, store, *(f"p{number}" for number in range(20)), turns=40)
    env = environment(tmp_path, store=store)
    whole, again = tmp_path / "whole", tmp_path / "again"
    made = (await call(env, *wanted(whole, "--json"))).rows()
    at = ("--at", made[0]["exported_at"])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "chatproxy", *wanted(again, *at), env={**WORDS, **env}
    )
    while not list(again.glob("data/.part*")) and process.returncode is None:
        await asyncio.sleep(0.001)
    if process.returncode is None:
        os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    if process.returncode != 0:
        assert (await call(env, *wanted(again, *at))).status == 0
    assert files(again) == files(whole)


def files(top: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in sorted(top.rglob("*"))
        if path.is_file() and not path.name.endswith(".draft")
    }
