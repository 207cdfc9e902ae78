"""Annotation and signing keys are renewed beside a running proxy: what was made before is believed, what comes is new."""

import asyncio
import json
from pathlib import Path

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice
from chatproxy.crypto.keys import KeyStatus
from chatproxy.crypto.keyset import Keyset, RenewedPurpose, make_keyset, parse_keyset, write_keyset
from chatproxy.errors import KeysetError
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.vault import audit_directory
from chatproxy.workflows.publish_checkpoint import checkpoint_name, publish_checkpoint
from chatproxy.workflows.renew_keys import RenewalStep
from chatproxy.workflows.rotate import NotYetError
from integration.proxy_fixtures import ANA, PATIENCE, World, a_world, chatting
from integration.serve_process import call, environment

ANNOTATIONS, SIGNING = RenewedPurpose.ANNOTATIONS, RenewedPurpose.SIGNING


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


def keyset_of(world: World) -> Keyset:
    path = Path(world.running.vault.settings.keyset.removeprefix("file:"))
    return parse_keyset(path.read_bytes(), source="test")


async def renewed(world: World, purpose: RenewedPurpose) -> int:
    """Renew a key, waiting for the node to know it and then to use it; return the version."""
    vault = world.running.vault
    renewal = vault.key_renewal(by="test")
    step, version = None, 0
    async with asyncio.timeout(PATIENCE):
        while step is not RenewalStep.PROMOTED:
            try:
                step, version = await renewal.advance(purpose)
            except NotYetError:
                vault.record_keys.news.set()
                await asyncio.sleep(0.02)
        while (
            next(
                entry.version
                for entry in vault.keyset.versioned()[purpose]
                if entry.status is KeyStatus.PRIMARY
            )
            != version
        ):
            vault.record_keys.news.set()
            await asyncio.sleep(0.02)
    return version


async def versions_of(world: World) -> list[bytes]:
    rows = [row async for row in world.running.vault.store.annotations()]
    return sorted(row.annotation[b"kv"] for row in rows)


async def test_a_new_annotation_key_is_used_for_what_comes_and_the_old_one_verifies_on(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat("before", who=ANA | {"x-chat-conversation": "one"})
        await world.kept()
        assert await renewed(world, ANNOTATIONS) == 2
        await world.choose(Choice.WITHDRAWN)
        await world.chat("after", who=ANA | {"x-chat-conversation": "one"})
        rows = await world.kept()
        assert await versions_of(world) in ([b"1", b"2"], [b"2", b"2"])
        await world.decided_again()
        assert await versions_of(world) == [b"2", b"2"]  # what is decided on again is authenticated anew
        assert await world.said(rows[0]["conversation"]) == [
            "user: before", "assistant: reply 0", "user: after", "assistant: reply 1",
        ]  # fmt: skip
        found = [(entry.version, entry.status) for entry in keyset_of(world).annotations]
        assert found == [(1, KeyStatus.DECRYPT), (2, KeyStatus.PRIMARY)]
        env = environment(tmp_path, store=store)
        assert (await call(env, "transcripts", "verify")).status == 0


async def test_nothing_is_made_with_a_key_before_every_live_node_knows_it(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault = world.running.vault
        other = {"at": wall_clock(), "ring": 1, "roots": {}, "policy": "", "keyset": {"annotations": [1]}}
        await vault.store.beat("other", json.dumps(other).encode())
        renewal = vault.key_renewal(by="test")
        assert await renewal.advance(ANNOTATIONS) == (RenewalStep.GENERATED, 2)
        async with asyncio.timeout(PATIENCE):
            while True:
                vault.record_keys.news.set()
                with pytest.raises(NotYetError, match="knows version 2 of the annotations key") as waiting:
                    await renewal.advance(ANNOTATIONS)
                if vault.settings.node not in str(waiting.value) and len(vault.annotation_keys.versions) == 2:
                    break
                await asyncio.sleep(0.02)
        assert vault.annotation_keys.primary_version == 1
        assert sorted(vault.annotation_keys.versions) == [1, 2]
        await vault.store.beat("other", json.dumps({**other, "keyset": {"annotations": [1, 2]}}).encode())
        assert await renewal.advance(ANNOTATIONS) == (RenewalStep.PROMOTED, 2)
        assert keyset_of(world).annotations[-1].status is KeyStatus.PRIMARY


async def test_a_new_signing_key_signs_and_of_the_old_one_only_the_public_half_stays(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault, env = world.running.vault, environment(tmp_path, store=store)
        vault.audit.append("test", {})
        note = vault.audit.latest_checkpoint()
        (tmp_path / "note").write_text(note or "")
        before = vault.keyset.signing_publics()
        name = checkpoint_name(vault.settings.node)
        assert await renewed(world, SIGNING) == 2
        old, new = keyset_of(world).signing
        assert (old.status, old.key, old.public) == (KeyStatus.DESTROYED, None, before[0])
        assert vault.keyset.signing_publics() == (new.public, old.public)
        vault.audit.append("test", {})
        published = (vault.audit.latest_checkpoint() or "").encode()
        async with asyncio.timeout(2 * PATIENCE):
            while await vault.store.read_control(name) != published:
                await asyncio.sleep(0.05)
        # Also what continues a statement that the new key has signed is published.
        vault.audit.append("test", {})
        await publish_checkpoint(vault.store, vault.audit, node=vault.settings.node, keys=vault.audit_keys)
        latest = (vault.audit.latest_checkpoint() or "").encode()
        assert await vault.store.read_control(name) == latest != published
        verified = await call(env, "audit", "verify", "--kept", str(tmp_path / "note"))
        assert verified.status == 0, verified
        assert (audit_directory(vault.settings) / "checkpoints").exists()
        published_keys = json.loads((await call(env, "keys", "public")).out)["keys"]
        assert len(published_keys) == 2


async def test_the_command_says_what_it_waits_for_and_status_what_is_pending(
    tmp_path: Path, store: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        env = environment(tmp_path, store=store)
        lag = {"at": wall_clock() + 20_000, "ring": 1, "roots": {}, "policy": ""}
        await world.running.vault.store.beat("lag", json.dumps(lag).encode())
        first = await call(env, "keys", "renew", "signing")
        assert (first.status, "signing version 2: generated" in first.out) == (0, True)
        assert "Not yet: waiting until each node knows version 2 of the signing key" in first.out
        assert "run `chatproxy keys renew signing`" in (await call(env, "keys", "status")).out
        await world.running.vault.store.forget_node("lag")
        done = await call(env, "keys", "renew", "signing", "--wait", "--json")
        assert done.rows() == [{"purpose": "signing", "version": 2, "step": "promoted"}]
        assert (await call(env, "keys", "renew", "pseudonyms")).status == 2
        assert (await call(env, "audit", "verify")).status == 0
        actions = [
            json.loads(line)["action"]
            for line in (tmp_path / "data" / "audit" / "audit.jsonl").read_text().splitlines()
        ]
        assert [each for each in actions if each.startswith("keys.renew")] == [
            "keys.renew", "keys.renew.promote",
        ]  # fmt: skip


async def test_another_keyset_in_the_place_of_the_one_in_use_is_not_taken(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault = world.running.vault
        path = Path(vault.settings.keyset.removeprefix("file:"))
        kept = path.read_bytes()
        path.write_bytes(write_keyset(make_keyset(created_at=wall_clock())))
        with pytest.raises(KeysetError, match="was made with"):
            await vault.refresh_keyset()
        assert sorted(vault.annotation_keys.versions) == [1]
        path.write_bytes(kept)
        assert await vault.refresh_keyset() == {"annotations": [1], "signing": [1]}
