"""`chatproxy subject erase` and what can be checked of its certificate. Against a real store."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from chatproxy.consent.events import Choice
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.proxy_fixtures import ANA, PATIENCE, a_world, all_keys, chatting
from integration.serve_process import WORDS, call, environment


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def test_a_certificate_says_what_was_done_and_can_be_verified_by_anybody(
    tmp_path: Path, store: str
) -> None:
    env = environment(tmp_path, store=store)
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("a canary said this", who=ANA)
        await world.kept()
        tag = world.tag().hex()
    path = tmp_path / "certificate.json"
    done = await call(
        env, "subject", "erase", "-", "--yes", "--certificate", str(path), "--json", stdin="ana\n"
    )
    assert done.status == 0, done.err
    [said] = done.rows()
    certificate = said["certificate"]
    assert (certificate["subject"], certificate["scope"], certificate["kept"]) == (tag, "account", [])
    assert certificate["removed"]["records"] == certificate["removed"]["turns"] == 1
    assert certificate["keys"] == {"subject_generations": [1], "kek_versions": [1]}
    assert certificate["proof"] == {"tried": 1, "opened": 0, "codes": {"no_subject_key": 1}}
    assert certificate["audit"]["size"] == 2
    assert certificate["backups"]["readable_until"] > certificate["erased_at"]
    file = path.read_bytes()
    assert b"canary" not in file
    assert b'"ana"' not in file
    assert path.stat().st_mode & 0o777 == 0o600
    valid = await call(env, "subject", "verify-certificate", str(path), "--json")
    assert (valid.status, valid.rows()[0]["certificate"]) == (0, certificate)
    audit = await call(env, "audit", "verify", "--json")
    assert audit.status == 0
    lines = (tmp_path / "data" / "audit" / "audit.jsonl").read_text().splitlines()
    assert [json.loads(line)["action"] for line in lines] == ["subject.erase", "subject.erased"]


async def test_an_altered_certificate_is_told(tmp_path: Path, store: str) -> None:
    env = environment(tmp_path, store=store)
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello")
        await world.kept()
    path = tmp_path / "certificate.json"
    await call(env, "subject", "erase", "ana", "--yes", "--certificate", str(path))
    altered = tmp_path / "altered.json"
    altered.write_bytes(path.read_bytes().replace(b'"turns":1', b'"turns":2'))
    refused = await call(env, "subject", "verify-certificate", str(altered), "--json")
    assert (refused.status, refused.rows()) == (3, [{"valid": False, "reason": "certificate_signature"}])
    elsewhere = environment(tmp_path / "elsewhere", store=store)
    refused = await call(elsewhere, "subject", "verify-certificate", str(path))
    assert (refused.status, "certificate_unknown_key" in refused.out) == (3, True)


async def test_nothing_found_says_no_more_and_writes_no_certificate(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    env = environment(tmp_path, store=store)
    await call(env, "consent", "show", "ana")  # makes the key ring
    before = await all_keys(connections)
    path = tmp_path / "certificate.json"
    done = await call(env, "subject", "erase", "ana", "--yes", "--certificate", str(path))
    assert (done.status, done.out, done.err) == (0, "Nothing found.\n", "")
    assert not path.exists()
    assert await all_keys(connections) == before
    assert not (tmp_path / "data" / "audit" / "audit.jsonl").exists()


async def test_erasing_asks_first_and_never_overwrites(tmp_path: Path, store: str) -> None:
    env = environment(tmp_path, store=store)
    assert (await call(env, "subject", "erase", "ana")).status == 2
    (tmp_path / "there").write_text("kept")
    refused = await call(env, "subject", "erase", "ana", "--yes", "--certificate", str(tmp_path / "there"))
    assert refused.status == 2
    assert (tmp_path / "there").read_text() == "kept"


async def test_a_certificate_waits_until_it_is_taken(tmp_path: Path, store: str) -> None:
    env = environment(tmp_path, store=store)
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello")
        await world.kept()
    first = await call(env, "subject", "erase", "ana", "--yes")
    assert first.out.startswith("Erased, at ")
    assert (await call(env, "subject", "erase", "ana", "--yes")).out == first.out
    path = tmp_path / "certificate.json"
    assert (await call(env, "subject", "erase", "ana", "--yes", "--certificate", str(path))).out == first.out
    assert (await call(env, "subject", "verify-certificate", str(path))).status == 0
    assert (await call(env, "subject", "erase", "ana", "--yes")).out == "Nothing found.\n"


@pytest.mark.parametrize("who", ["another node", "the command again"])
async def test_the_certificate_of_an_erasure_that_was_killed_is_made_and_says_the_whole(
    tmp_path: Path, store: str, connections: Connections, who: str
) -> None:
    env = environment(tmp_path, store=store)
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        for number in range(250):
            await world.chat(f"number {number}", who=ANA | {"x-chat-conversation": f"c {number}"})
        assert len(await world.kept()) == 250
        await world.decided_again()
        tag = world.tag()
    fence = f"cp:{{{tag.hex()}}}:s"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "chatproxy", "subject", "erase", "ana", "--yes",
        env={**WORDS, **env}, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        while (await connections.ask([["HEXISTS", fence, "gone"]])) != [1]:
            await asyncio.sleep(0)
    process.kill()
    assert await process.wait() == -9
    [left] = await connections.ask([["ZCARD", f"cp:{{{tag.hex()}}}:ix"]])
    path = tmp_path / "certificate.json"
    if who == "another node":
        [[chore, _]] = await connections.ask([["ZRANGE", "cp:{chore:erase}", 0, 0, "WITHSCORES"]])
        assert chore == tag
        await connections.ask([["ZADD", "cp:{chore:erase}", 0, tag]])  # its claim lapses
        async with a_world(chatting(), tmp_path, store) as world, asyncio.timeout(PATIENCE):
            while await world.running.vault.eraser.certificate(tag) is None:
                await asyncio.sleep(0.01)
    done = await call(env, "subject", "erase", "ana", "--yes", "--certificate", str(path), "--json")
    assert done.status == 0, done.err
    certificate = done.rows()[0]["certificate"]
    assert certificate["removed"]["turns"] == certificate["removed"]["records"] == 250
    assert certificate["removed"]["ledger_events"] == 1
    assert certificate["keys"] == {"subject_generations": [1], "kek_versions": [1]}
    assert (certificate["proof"]["tried"] > 0) == (left > 0)
    assert certificate["proof"]["opened"] == 0
    assert (await call(env, "subject", "verify-certificate", str(path))).status == 0
    [fields] = await connections.ask([["HKEYS", fence]])
    assert set(fields) == {b"erased_at", b"gen_floor"}
    assert (await call(env, "subject", "erase", "ana", "--yes")).out == "Nothing found.\n"
