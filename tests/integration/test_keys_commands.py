"""``chatproxy keys …`` beside a running proxy, as an operator runs them; and none of them shows a byte of a key."""

import asyncio
import base64
import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from chatproxy.clock import wall_clock
from chatproxy.crypto.keyring import RING_PURPOSE, parse_manifest
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.workflows.rotate import Step
from chatproxy.workflows.watch_ring import LIVE_MS, list_nodes
from integration.proxy_fixtures import World, a_world, chatting
from integration.rotation_fixtures import QUICK, a_quick_world, a_rotation, advance
from integration.serve_process import Finished, call, environment


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def until_done(env: dict[str, str], *words: str, status: int = 0) -> Finished:
    """Call a command until it does not have to wait for a node any more."""
    async with asyncio.timeout(20):
        while True:
            done = await call(env, *words)
            if done.status == status and '"waiting"' not in done.out:
                return done
            assert "wait" in done.err + done.out, done
            await asyncio.sleep(0.1)


async def secrets_of(world: World) -> list[bytes]:
    """Return every secret that there is: of the keyset, of the ring, of people."""
    vault = world.running.vault
    path = Path(vault.settings.keyset.removeprefix("file:"))
    stored = json.loads(path.read_bytes())["keyset"]
    entries = [*stored["root"], *stored["annotations"], *stored["signing"], stored["pseudonyms"]]
    secrets = [base64.b64decode(entry["key"]) for entry in entries if entry["key"]]
    data = await vault.store.read_control("ring")
    assert data is not None
    secrets += await vault.root.unwrap(RING_PURPOSE, parse_manifest(data).wrapped_secrets())
    ring = await a_rotation(vault).ring()
    async for subject in vault.store.subjects():
        [wraps] = await vault.store.subject_wraps([subject])
        secrets += [
            ring.unwrap_subject_key(wrap, subject=subject, generation=generation).reveal()
            for generation, wrap in (wraps or {}).items()
        ]
    return secrets


def forms(secret: bytes) -> list[str]:
    """Return how a secret could be shown; half of it is enough."""
    half = secret[:12]
    return [
        half.decode("latin-1"), half.hex(), half.hex().upper(), repr(half)[2:-1],
        base64.b64encode(half).decode(), base64.urlsafe_b64encode(half).decode(),
    ]  # fmt: skip


async def test_a_rotation_step_by_step_with_no_byte_of_a_key_on_any_output(
    tmp_path: Path, store: str
) -> None:
    async with a_quick_world(tmp_path, store) as world:
        await world.chat("before")
        await world.kept()
        env = environment(tmp_path, store=store, **QUICK)
        outputs: list[Finished] = []
        secrets = await secrets_of(world)

        async def step(*words: str, status: int = 0) -> Finished:
            for form in ((), ("--json",)):
                if words[0] not in {"status", "rotate", "verify"} and form:
                    continue
                outputs.append(await until_done(env, "keys", *words, *form, status=status))
            return outputs[-1]

        await step("status")
        await step("rotate", "--dry-run")
        outputs.append(await call(env, "keys", "promote"))
        assert "Next comes `chatproxy keys generate`" in outputs[-1].err
        await step("generate")
        secrets += await secrets_of(world)
        outputs.append(await call(env, "keys", "destroy", "--yes"))
        assert "Next comes `chatproxy keys promote`" in outputs[-1].err
        await step("promote")
        assert '"1": 2' in (await call(env, "keys", "rewrap", "--dry-run", "--json")).out
        await step("rewrap")
        assert "Rewrapped 2 keys from version 1." in outputs[-1].out
        await step("verify")
        await step("retire")
        await step("status")
        await step("unretire")
        await step("retire")
        await step("destroy", "--dry-run")
        shown = outputs[-1].out
        assert "kek version 1" in shown
        assert "root version 1" in shown
        assert "become unreadable: 0." in shown
        outputs.append(await call(env, "keys", "destroy", stdin="n\n"))
        assert outputs[-1].status == 130
        await step("destroy", "--yes")
        await step("status")
        assert "cannot be read from any backup" in outputs[-1].out
        await step("generate")
        await step("abort", "--yes")
        outputs.append(await call(env, "keys", "abort", "--yes"))
        assert "no rotation is under way" in outputs[-1].err
        outputs.append(await call(env, "doctor"))
        assert "holds until" in outputs[-1].out
        secrets += await secrets_of(world)

        for done in outputs:
            text = done.out + done.err
            assert "Traceback" not in text
            for secret in secrets:
                assert not any(form in text for form in forms(secret))
        log = (tmp_path / "data" / "audit").rglob("audit.jsonl")
        actions = [json.loads(line)["action"] for path in log for line in path.read_text().splitlines()]
        # What had to wait for a node was written down again when it was tried again.
        assert [each for each, _ in groupby(actions) if each.startswith("keys.")] == [
            "keys.rotate.begin", "keys.promote_root", "keys.generate", "keys.promote", "keys.rewrap", "keys.retire",
            "keys.unretire", "keys.rewrap", "keys.retire", "keys.destroy", "keys.rotate.begin", "keys.promote_root",
            "keys.generate", "keys.rotate.abort",
        ]  # fmt: skip


async def test_rotate_with_wait_does_all_of_it(tmp_path: Path, store: str) -> None:
    async with a_quick_world(tmp_path, store) as world:
        await world.chat("before")
        await world.kept()
        env = environment(tmp_path, store=store, **QUICK)

        done = await call(env, "keys", "rotate", "--wait", "--json")

        assert [row["step"] for row in done.rows()] == [
            step.value for step in Step if step is not Step.ABORTED
        ]
        assert (await call(env, "keys", "verify")).status == 0


async def test_rotate_says_what_it_waits_for_and_is_done_for_now(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await advance(a_rotation(world.running.vault), Step.REWRAPPED)
        env = environment(tmp_path, store=store)

        done = await call(env, "keys", "rotate")

        assert done.status == 0
        assert "Not yet: version 1 still opens for a while" in done.out
        [state] = [row for row in (await call(env, "keys", "status", "--json")).rows() if "rotation" in row]
        assert any("the old version still opens for" in each for each in state["a_retirement_waits_for"])


async def test_status_knows_the_nodes_and_one_that_vanished_can_be_forgotten(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        gone: dict[str, Any] = {"at": wall_clock() - LIVE_MS - 1, "ring": 1, "roots": {}, "policy": ""}
        await world.running.vault.store.beat("lost", json.dumps(gone).encode())
        env = environment(tmp_path, store=store)
        shown = (await call(env, "keys", "status")).out
        assert "lost (gone, ring 1)" in shown
        assert "node-1 (live, ring 1)" in shown

        assert (await call(env, "keys", "forget-node", "node-1", "--yes")).status == 1
        assert (await call(env, "keys", "forget-node", "nobody", "--yes")).status == 1
        assert (await call(env, "keys", "forget-node", "lost", "--yes")).status == 0

        assert "lost" not in (await call(env, "keys", "status")).out


async def test_a_key_that_does_not_open_is_counted_and_is_exit_code_3(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("before")
        await world.kept()
        await connections.ask(
            [["HSET", b"cp:{%b}:s" % world.tag().hex().encode(), "w1", b"\1\1\0\1" + bytes(60)]]
        )
        env = environment(tmp_path, store=store)
        verified = await call(env, "keys", "verify", "--json")
        assert verified.status == 3
        assert verified.rows() == [{"opened": 1, "faulty": 1}]
        assert (await call(env, "keys", "rewrap")).status == 0
        await until_done(env, "keys", "generate")
        await until_done(env, "keys", "promote")

        done = await call(env, "keys", "rewrap", "--json")

        assert done.status == 3
        assert done.rows() == [{"dry_run": False, "rewrapped": {"1": 1}, "damaged": {"1": 1}}]


async def test_doctor_and_status_say_that_a_rotation_is_overdue(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault = world.running.vault
        ring = await a_rotation(vault).ring()
        [key] = ring.manifest.keys
        aged = replace(key, created_at=wall_clock() - 31 * 86_400_000)
        old = ring.signed(replace(ring.manifest, counter=2, keys=(aged,)))
        assert await vault.store.swap_control("ring", ring.data, old)
        env = environment(tmp_path, store=store)

        findings = {row["check"]: row for row in (await call(env, "doctor", "--json")).rows()}
        shown = (await call(env, "keys", "status")).out

        assert findings["erasure horizon"]["state"] == "warning"
        assert "a rotation is overdue" in findings["erasure horizon"]["what"]
        assert "a rotation is overdue: run `chatproxy keys rotate`" in shown
        async with asyncio.timeout(20):
            while not world.counted("chatproxy_key_rotation_overdue"):
                await asyncio.sleep(0.01)
        assert world.counted("chatproxy_backups_reach_seconds") > 30 * 86_400


async def test_a_keyset_in_a_variable_is_read_warned_of_and_not_rotated(tmp_path: Path, store: str) -> None:
    env = environment(tmp_path, store=store)
    value = base64.b64encode((tmp_path / "keys" / "keyset").read_bytes()).decode()
    env |= {"CHATPROXY_KEYSET": "env:CHAT_KEYSET", "CHAT_KEYSET": value}

    findings = {row["check"]: row for row in (await call(env, "doctor", "--json")).rows()}
    rotated = await call(env, "keys", "rotate")

    assert findings["keyset"]["state"] == "warning"
    assert "/proc" in findings["keyset"]["what"]
    assert (await call(env, "keys", "status")).status == 0
    assert rotated.status == 1
    assert "CHATPROXY_KEYSET=file:PATH" in rotated.err
    assert value[:40] not in rotated.err + json.dumps(findings)


async def test_sealing_anew_says_what_it_does_and_shows_no_byte_of_a_key(tmp_path: Path, store: str) -> None:
    async with a_quick_world(tmp_path, store) as world:
        await world.chat("before")
        [row] = await world.kept()
        env = environment(tmp_path, store=store, **QUICK)
        secrets = await secrets_of(world)
        outputs: list[Finished] = []

        async def reseal(*words: str, stdin: str = "", status: int = 0) -> Finished:
            outputs.append(await call(env, "keys", "reseal", *words, stdin=stdin))
            assert outputs[-1].status == status, outputs[-1]
            return outputs[-1]

        assert (await reseal("--scope", "all", "--dry-run", "--json")).rows() == [
            {"people": 1, "records": 1, "seconds": 0.0}
        ]
        assert "1 people get a new key, and 1 records" in (await reseal("--scope", "all", "--dry-run")).out
        one = ("--scope", "subject", "--subject", "-")
        assert (await reseal(*one, "--dry-run", "--json", stdin="ana")).rows()[0]["records"] == 1
        assert "Sealed 1 records anew" in (await reseal(*one, stdin="ana\n")).out
        assert (await reseal(*one, "--json", stdin="nobody")).rows() == [
            {"records": 0, "damaged": 0, "generations_destroyed": []}
        ]
        assert "is PRIMARY" in (await reseal("--scope", "kek:1", status=1)).err
        assert (
            "nothing is being sealed anew"
            in (await reseal("--scope", "all", "--abort", "--yes", status=1)).err
        )
        steps = (await reseal("--scope", "all", "--wait", "--json")).rows()
        assert [step["step"] for step in steps] == ["series_added", "handed_out", "resealed", "destroyed"]
        assert [step["records"] for step in steps] == [0, 0, 1, 1]
        secrets += await secrets_of(world)
        assert (await world.said(row["conversation"]))[0] == "user: before"
        said = await reseal("--scope", "days:2020-01-01..2020-01-02", "--rate", "5", "--wait")
        assert "destroyed" in said.out
        for wrong in (
            "everything",
            "kek:x",
            "day:2020-13-01",
            "days:2020-01-02..2020-01-01",
            "tenant:default",
        ):
            assert "must be all, kek:VERSION" in (await reseal("--scope", wrong, status=1)).err
        assert "go together" in (await reseal("--scope", "subject", status=2)).err
        assert "go together" in (await reseal("--scope", "all", "--subject", "ana", status=2)).err
        for done in outputs:
            assert "Traceback" not in done.out + done.err
            for secret in secrets:
                assert not any(form in done.out + done.err for form in forms(secret))


async def test_sealing_anew_that_has_to_wait_says_so_and_can_be_given_up(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("before")
        await world.kept()
        gone: dict[str, Any] = {"at": wall_clock() - LIVE_MS - 1, "ring": 1, "roots": {}, "policy": ""}
        await world.running.vault.store.beat("lost", json.dumps(gone).encode())
        env = environment(tmp_path, store=store)

        waits = await call(env, "keys", "reseal", "--scope", "all")
        assert (waits.status, "Not yet: " in waits.out, "vanished" in waits.out) == (0, True, True)
        assert (await call(env, "keys", "reseal", "--scope", "all", "--abort", stdin="n\n")).status == 130
        done = await call(env, "keys", "reseal", "--scope", "all", "--abort", "--yes", "--json")

        assert done.rows() == [{"step": "aborted"}]


async def test_a_rotation_waits_for_who_seals_anew_and_neither_costs_anything(
    tmp_path: Path, store: str
) -> None:
    async with a_quick_world(tmp_path, store) as world:
        for number in range(12):
            await world.chat(f"{number}", who={"x-chat-subject": f"p{number}", "x-chat-plan": "pro"})
        rows = await world.kept()
        env = environment(tmp_path, store=store, **QUICK)
        vault = world.running.vault
        resealing = asyncio.create_task(
            call(env, "keys", "reseal", "--scope", "all", "--wait", "--rate", "6", "--json")
        )
        async with asyncio.timeout(20):
            while "node-1-reseal" not in {node.name for node in await list_nodes(vault.store)}:
                await asyncio.sleep(0.01)
        await advance(a_rotation(vault), Step.DESTROYED)
        done = await resealing

        assert (done.status, done.rows()[-1]["step"]) == (0, "destroyed")
        assert {node.name for node in await list_nodes(vault.store)} == {"node-1"}
        assert await a_rotation(vault).verify() == (12 + len(await vault.store.all_epoch_wraps()), 0)
        for row in rows:
            assert len(await world.said(row["conversation"])) == 2
