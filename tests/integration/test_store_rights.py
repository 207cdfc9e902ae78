"""With the rights that the docs name, and no others, everything works on a server store, and nothing else is allowed."""

import dataclasses
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from chatproxy.cli.doctor import examine_rights
from chatproxy.consent.events import Choice
from chatproxy.policy.facts import Override
from chatproxy.store import keys
from chatproxy.store.address import StoreAddress
from chatproxy.store.connections import Command, Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.rights import COMMANDS, RULES, Rights, read_rights
from chatproxy.workflows.happenings import Actor, FeedbackKind
from chatproxy.workflows.rotate import Step
from integration.proxy_fixtures import ANA, a_world, chatting
from integration.rotation_fixtures import a_rotation, advance
from integration.serve_process import call, environment

TOP = Path(__file__).parents[2]
EMBEDDED_ALONE = {"bgrewriteaof", "config"}
"""What is sent to the server of one's own only: after an erasure, and for a backup."""
ACTOR = Actor(by="test", method="test")


@pytest.fixture
async def restricted(server: EmbeddedServer, connections: Connections) -> AsyncIterator[str]:
    """The URL of a user with the rights that are needed."""
    await connections.ask(
        [["ACL", "SETUSER", "cp", "reset", "on", ">app-password", *RULES], ["ACL", "LOG", "RESET"]]
    )
    yield server.url.replace("unix://", "unix://cp:app-password@")
    await connections.ask([["ACL", "DELUSER", "cp"]])


async def as_user(url: str, *commands: Command) -> list[object]:
    """Send commands as that user and return the replies."""
    connections = Connections(StoreAddress.parse(url), deadline=10.0)
    try:
        return [reply for command in commands for reply in await connections.ask([command])]
    finally:
        await connections.aclose()


async def denied(connections: Connections) -> list[object]:
    """Return what was refused since the log was emptied, but for what is asked only to warn of it."""
    [entries] = await connections.ask([["ACL", "LOG"]])
    found = [dict(zip(entry[::2], entry[1::2], strict=True))[b"object"] for entry in entries]
    return [name for name in found if name != b"config|get"]


async def test_a_whole_life_of_conversations_needs_no_other_rights(
    tmp_path: Path, restricted: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, restricted, key_soak="0s", key_grace="0s") as world:
        vault = world.running.vault
        await world.choose(Choice.GIVEN)
        for number in range(3):
            await world.chat(f"hello {number}", who=ANA | {"x-chat-conversation": f"c{number}"})
        await world.chat("nobody", who={})
        rows = await world.kept()
        assert [row["reason"] for row in rows[:3]] == ["ELIGIBLE_CONSENT"] * 3
        assert await world.said(rows[0]["conversation"])
        tag, desk = world.tag(), vault.person_desk
        [*_, newest] = await desk.conversations(tag)
        await desk.set_override(tag, newest.handle, Override.EXCLUDE, method="test")
        await desk.give_feedback(tag, newest.handle, FeedbackKind.BUG, method="test")
        await desk.delete_conversation(tag, newest.handle, method="test")
        [turn] = [turn async for turn in vault.store.annotations(tag)][:1]
        await vault.happenings.flag(tag, turn.turn, actor=ACTOR)
        await vault.happenings.place_hold(
            tag, None, case="A-1", authority="court", review_at=vault.clock() + 10**9, actor=ACTOR
        )
        await vault.happenings.release_hold(tag, None, case="A-1", actor=ACTOR)
        await world.choose(Choice.WITHDRAWN)
        await world.decided_again()
        assert not any(row["eligible"]["capability"] for row in await world.kept())
        await advance(a_rotation(vault), Step.DESTROYED)
        await vault.reaper(world.running.metrics).take_up()
        await vault.roller.take_up()
        assert not [fault async for fault in vault.kept_verifier.faults([], {}, opens=True)]
        assert await vault.eraser.erase(tag, by="test") is not None
        await vault.eraser.take_up()
        assert not [turn async for turn in vault.store.annotations(tag)]
        await world.chat("again", who=ANA)
        await world.kept()
        assert not world.running.vault.health.problem
    assert await denied(connections) == []


@pytest.mark.parametrize(
    "words",
    [("doctor",), ("transcripts", "list"), ("transcripts", "verify"), ("consent", "give", "-"), ("keys", "status"),
     ("keys", "rotate"), ("policy", "preview"), ("policy", "apply", "--yes"), ("hold", "list"), ("subject", "erase", "-", "--yes")],
    ids=" ".join,
)  # fmt: skip
async def test_commands_need_no_other_rights(
    tmp_path: Path, restricted: str, connections: Connections, words: tuple[str, ...]
) -> None:
    async with a_world(chatting(), tmp_path, restricted) as world:
        await world.chat("hello")
        await world.kept()
        env = environment(tmp_path, store=restricted, upstream=world.running.upstream)
        done = await call(env, *words, stdin="ana\n")
    assert done.status in {0, 1} if words == ("keys", "rotate") else done.status == 0, done.out + done.err
    assert "NOPERM" not in done.out + done.err
    if words == ("doctor",):
        assert "ok    store rights" in done.out
    else:
        assert await denied(connections) == []


@pytest.mark.parametrize(
    "command",
    [
        ["FLUSHALL"], ["FLUSHDB"], ["KEYS", "*"], ["CONFIG", "SET", "appendonly", "no"], ["CONFIG", "GET", "*"],
        ["DEBUG", "HELP"], ["SHUTDOWN", "NOSAVE"], ["ACL", "SETUSER", "cp", "+@all"], ["ACL", "LIST"], ["MONITOR"],
        ["EVAL", "return 1", 0], ["FUNCTION", "LIST"], ["SCRIPT", "FLUSH"], ["MODULE", "LIST"], ["REPLICAOF", "NO", "ONE"],
        ["CLIENT", "LIST"], ["CLIENT", "KILL", "ID", "1"], ["SLOWLOG", "GET"], ["DUMP", "cp:x"], ["RESTORE", "cp:x", 0, "x"],
        ["RENAME", "cp:x", "cp:y"], ["SAVE"], ["BGSAVE"], ["BGREWRITEAOF"], ["SWAPDB", 0, 1], ["RANDOMKEY"], ["PERSIST", "cp:x"],
        ["GET", "other"], ["SET", "other", "x"], ["PUBLISH", "other", "x"], ["SUBSCRIBE", "other"], ["PSUBSCRIBE", "*"],
    ],
    ids=lambda command: " ".join(map(str, command)),
)  # fmt: skip
async def test_nothing_else_is_allowed(restricted: str, command: Command) -> None:
    [reply] = await as_user(restricted, command)
    assert isinstance(reply, ResponseError)
    # The embedded server knows no DEBUG from the start.
    assert "permission" in str(reply).lower() or command[0] == "DEBUG"


def test_every_command_in_the_source_is_among_the_rights_and_no_other() -> None:
    sent: set[str] = set()
    for module in (TOP / "src" / "chatproxy" / "store").glob("*.py"):
        text = module.read_text(encoding="utf-8")
        if module.name in {"rights.py", "sentinel.py"}:  # the one only asks about them, the other asks others
            continue
        sent |= {name.lower() for name in re.findall(r"redis\.p?call\('([A-Z]+)'", text)}
        sent |= {name.lower() for name in re.findall(r"\[b?\"([A-Z]{3,})\"", text)}
        sent |= {"subscribe"} if b'b"SUBSCRIBE"'.decode() in text else set()
    assert sent - EMBEDDED_ALONE == {name.partition("|")[0] for name in COMMANDS}


def test_the_docs_have_the_rules() -> None:
    page = (TOP / "docs" / "operations.md").read_text(encoding="utf-8")
    [block] = re.findall(r"ACL SETUSER chatproxy on >PASSWORD\s+([^`]*)```", page)
    assert block.split() == list(RULES)


# --- doctor ---


async def rights_of(server: EmbeddedServer, connections: Connections, *rules: str) -> Rights:
    """Return what is found of a user with these rules."""
    await connections.ask([["ACL", "SETUSER", "cp", "reset", "on", ">app-password", *rules]])
    address = dataclasses.replace(StoreAddress.parse(server.url), username="cp", password="app-password")
    user = Connections(address, deadline=10.0)
    try:
        return await read_rights(user)
    finally:
        await user.aclose()
        await connections.ask([["ACL", "DELUSER", "cp"]])


async def test_of_exactly_what_is_needed_nothing_is_said(
    server: EmbeddedServer, connections: Connections
) -> None:
    found = await rights_of(server, connections, *RULES)
    assert found == Rights(None, (), ())
    assert examine_rights(found).state == "ok"


async def test_a_user_that_may_all_is_told_what_that_is(
    server: EmbeddedServer, connections: Connections
) -> None:
    await connections.ask([["SET", keys.control("probe"), "still here"]])
    found = await rights_of(server, connections, "~*", "&*", "+@all")
    assert found.user == "cp"
    assert {"ACL", "FLUSHALL", "CONFIG SET", "KEYS", "DEBUG", "SHUTDOWN", "EVAL"} <= set(found.excess)
    assert found.missing == ()
    assert await connections.ask([["GET", keys.control("probe")]]) == [b"still here"]
    finding = examine_rights(found)
    assert finding.state == "warning"
    assert "the user cp may more than is needed: ACL, FLUSHALL" in finding.what


@pytest.mark.parametrize(
    "rule, said",
    [("+config|get", "CONFIG GET"), ("+eval", "EVAL"), ("+@admin", "LASTSAVE"), ("~*", "keys that do not begin with cp:")],
)  # fmt: skip
async def test_one_right_too_many_is_found(
    server: EmbeddedServer, connections: Connections, rule: str, said: str
) -> None:
    found = await rights_of(server, connections, *RULES, rule)
    assert said in found.excess


async def test_a_right_that_is_missing_is_named_where_it_can_be_asked(
    server: EmbeddedServer, connections: Connections
) -> None:
    found = await rights_of(server, connections, *RULES, "-zadd", "+acl|whoami", "+acl|dryrun")
    assert found.missing == ("zadd",)
    finding = examine_rights(found)
    assert (finding.state, "zadd" in finding.what) == ("fatal", True)
