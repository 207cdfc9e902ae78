"""`chatproxy transcripts verify` finds what somebody has changed in the store, and nothing where nobody has."""

import dataclasses
from pathlib import Path
from typing import Any

import httpx
import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice, FactKind, Scope
from chatproxy.errors import UndecryptableError
from chatproxy.settings import load_settings
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.vault import open_vault
from chatproxy.workflows.annotation_log import read_last_changes
from chatproxy.workflows.tombstones import read_tombstones
from integration.proxy_fixtures import (
    ANA,
    DAY,
    STREAM_HEAD,
    AheadClock,
    a_world,
    answer_to,
    chatting,
    chunk,
    openai_events,
)
from integration.serve_process import call, environment
from simulators.backend import Peer

LONG_AGO = 120_000


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def keys(connections: Connections, kind: str) -> list[bytes]:
    [names] = await connections.ask([["KEYS", f"cp:{{{'?' * 32}}}:{kind}*"]])
    return sorted(names)


async def snapshot(connections: Connections, kind: str) -> dict[bytes, bytes]:
    names = await keys(connections, kind)
    return dict(zip(names, await connections.ask([["DUMP", name] for name in names]), strict=True))


async def put_back(connections: Connections, before: dict[bytes, bytes]) -> None:
    for name, value in before.items():
        [end] = await connections.ask([["PEXPIRETIME", name]])
        await connections.ask([["RESTORE", name, max(end, 0), value, "REPLACE", "ABSTTL"]])


async def faults(directory: Path, store: str, *words: str) -> list[str]:
    done = await call(environment(directory, store=store), "transcripts", "verify", "--json", *words)
    found = [row["fault"] for row in done.rows()]
    assert done.status == (3 if found else 0), done.err
    return found


async def test_what_is_as_it_was_kept_has_no_fault(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat("hello", who=ANA | {"x-chat-conversation": "c"})
        await world.chat("hello", who={"x-chat-subject": "bea", "x-chat-plan": "pro"})
        await world.kept()
        await world.choose(Choice.WITHDRAWN)
        await world.decided_again()
        assert await faults(tmp_path, store) == []
        assert await world.running.vault.eraser.erase(world.tag("bea"), by="test") is not None
        assert await faults(tmp_path, store, "--headers-only") == []


@pytest.mark.parametrize(
    "command, expected",
    [
        (["HSET", "a:", "seq", "7"], {"annotation_mac"}),
        (["HDEL", "a:", "body"], {"annotation_fields"}),
        (["PERSIST", "a:"], {"annotation_ttl", "no_expiry_a"}),
        (["PERSIST", "r:"], {"no_expiry_r"}),
        (["PERSIST", "ix"], {"no_expiry_ix"}),
        (["PERSIST", "s"], {"no_expiry_s"}),
        (["PEXPIREAT", "r:", wall_clock() + 400 * DAY], {"record_ttl"}),
        (["SETRANGE", "r:", "120", "\x00\x01\x02"], {"record_tag"}),
        (["SETRANGE", "r:", "20", "\x00\x01\x02"], {"record_of_another_turn"}),
        (["DEL", "r:"], {"record_missing"}),
        (["DEL", "a:"], {"record_without_annotation"}),
        (["HDEL", "s", "w1"], {"no_subject_key"}),
        (["LSET", "c", "0", "forged"], {"ledger"}),
    ],
    ids=lambda value: " ".join(map(str, value[:3])).replace("\0", "") if isinstance(value, list) else "",
)
async def test_what_somebody_has_changed_is_found(
    tmp_path: Path, store: str, connections: Connections, command: list[Any], expected: set[str]
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat("hello", who=ANA | {"x-chat-conversation": "c"})
        await world.kept()
        await world.decided_again()
        verb, kind, *rest = command
        [name] = await keys(connections, kind)
        await connections.ask([[verb, name, *rest]])
        assert set(await faults(tmp_path, store)) == expected


async def test_an_annotation_that_was_put_back_contradicts_the_ledger(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    clock = AheadClock()
    clock.ahead = -50_000
    async with a_world(chatting(), tmp_path, store, clock=clock) as world:
        await world.choose(Choice.GIVEN, at=clock() - DAY)
        await world.chat("hello", who=ANA | {"x-chat-conversation": "c"})
        [row] = await world.kept()
        before = await snapshot(connections, "a:")
        records = await snapshot(connections, "r:")
        await world.choose(Choice.WITHDRAWN, at=clock())
        await world.decided_again()
        await put_back(connections, before)
        await put_back(connections, records)
        with pytest.raises(Exception, match=r"cannot be opened|no part"):
            await world.said(row["conversation"], purpose="capability")
    clock.ahead = 0
    found = await faults_at(tmp_path, store, ahead=LONG_AGO)
    assert "annotation_against_ledger" in found


async def test_a_flag_that_was_lifted_does_not_come_back_unseen(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault, tag = world.running.vault, world.tag()
        await world.chat("hello", who=ANA | {"x-chat-conversation": "c"})
        await world.kept()
        [row] = [row async for row in vault.store.annotations(tag)]
        scope = Scope(turn=row.turn)
        await vault.ledger.note(tag, FactKind.FLAGGED, at=wall_clock(), by="test", method="test", scope=scope)
        await world.decided_again()
        before = {kind: await snapshot(connections, kind) for kind in ("a:", "r:")}
        ends = {
            kind: await connections.ask([["PEXPIRETIME", name] for name in before[kind]]) for kind in before
        }
        await vault.ledger.note(
            tag, FactKind.FLAG_LIFTED, at=wall_clock(), by="test", method="test", scope=scope
        )
        await world.decided_again()
        for kind, saved in before.items():
            for (name, value), end in zip(saved.items(), ends[kind], strict=True):
                await connections.ask([["RESTORE", name, end, value, "REPLACE", "ABSTTL"]])
        conversation = (await world.kept())[0]["conversation"]
        with pytest.raises(UndecryptableError, match="annotation_put_back"):
            await world.said(conversation)
    assert await faults_at(tmp_path, store, ahead=LONG_AGO) == [
        "annotation_put_back",
        "annotation_against_ledger",
    ]
    assert await faults(tmp_path, store) == ["annotation_put_back"]  # also when it has just happened


async def test_an_earlier_annotation_that_permits_nothing_more_is_found_too(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault, tag = world.running.vault, world.tag()
        await world.chat("hello", who=ANA | {"x-chat-conversation": "c"})
        await world.kept()
        before = {kind: await snapshot(connections, kind) for kind in ("a:", "r:")}
        ends = {
            kind: await connections.ask([["PEXPIRETIME", name] for name in before[kind]]) for kind in before
        }
        [row] = [row async for row in vault.store.annotations(tag)]
        await vault.ledger.note(
            tag, FactKind.FLAGGED, at=wall_clock(), by="test", method="test", scope=Scope(turn=row.turn)
        )
        await world.decided_again()
        assert await faults(tmp_path, store) == []
        for kind, saved in before.items():
            for (name, value), end in zip(saved.items(), ends[kind], strict=True):
                await connections.ask([["RESTORE", name, end, value, "REPLACE", "ABSTTL"]])
        assert await faults(tmp_path, store) == ["annotation_put_back"]


async def test_a_retry_of_a_turn_that_was_decided_on_again_is_no_older_annotation(
    tmp_path: Path, store: str
) -> None:
    cut = True

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.read_request()
            if cut:
                await peer.send(STREAM_HEAD + chunk(openai_events("half")[0]))
                peer.close()
                return
            await peer.send(answer_to(request, "whole"))

    async with a_world(script, tmp_path, store) as world:
        vault, tag = world.running.vault, world.tag()
        with pytest.raises(httpx.HTTPError):
            await world.chat("hello", stream=True)
        await world.kept()
        [row] = [row async for row in vault.store.annotations(tag)]
        await vault.ledger.note(
            tag, FactKind.FLAGGED, at=wall_clock(), by="test", method="test", scope=Scope(turn=row.turn)
        )
        await world.decided_again()
        [row] = [row async for row in vault.store.annotations(tag)]
        assert row.annotation[b"seq"] == b"2"
        cut = False
        await world.chat("hello", stream=True)
        await world.kept()
        [row] = [row async for row in vault.store.annotations(tag)]
        assert row.annotation[b"seq"] == b"1"
        assert await faults(tmp_path, store) == []


async def test_a_ledger_that_was_cut_short_contradicts_the_audit_log(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat("hello", who=ANA | {"x-chat-conversation": "c"})
        await world.kept()
        before = {kind: await snapshot(connections, kind) for kind in ("a:", "r:", "c", "s")}
        await world.choose(Choice.WITHDRAWN)
        await world.decided_again()
        for saved in before.values():
            await put_back(connections, saved)
    assert set(await faults_at(tmp_path, store, ahead=LONG_AGO)) >= {"ledger_cut"}


async def test_a_person_who_was_brought_back_contradicts_the_audit_log(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello", who=ANA | {"x-chat-conversation": "c"})
        await world.kept()
        [names] = await connections.ask([["KEYS", f"cp:{{{world.tag().hex()}}}:*"]])
        saved = dict(zip(names, await connections.ask([["DUMP", name] for name in names]), strict=True))
        assert await world.running.vault.eraser.erase(world.tag(), by="test") is not None
        for name, value in saved.items():
            await connections.ask([["RESTORE", name, wall_clock() + 30 * DAY, value, "REPLACE", "ABSTTL"]])
    assert "erasure_undone" in await faults_at(tmp_path, store, ahead=LONG_AGO)


async def faults_at(directory: Path, store: str, *, ahead: int) -> list[str]:
    """Verify as if it were later: what is recent is not held against anybody."""
    clock = AheadClock()
    clock.ahead = ahead
    settings = load_settings(
        {},
        overrides={
            k.removeprefix("CHATPROXY_").lower(): v for k, v in environment(directory, store=store).items()
        },
    ).settings
    logs = [directory / "data" / "audit" / "audit.jsonl"]
    stones, changes = read_tombstones(logs, since=0), read_last_changes(logs)
    async with open_vault(settings) as vault:
        verifier = dataclasses.replace(vault, clock=clock).kept_verifier
        return [fault.reason async for fault in verifier.faults(stones, changes, opens=True)]
