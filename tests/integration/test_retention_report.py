"""The report of what is kept counts every turn, and names what should be gone. Against a real store."""

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from chatproxy.consent.events import Choice
from chatproxy.crypto.record import epoch_number
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.reaping import RedisReaper
from chatproxy.workflows.retention_report import (
    CLASSES,
    DAYS,
    ERASED,
    HELD,
    INDEXES,
    UNREADABLE,
    Retained,
    RetentionReporter,
)
from integration.dataset_fixtures import an_archive, said
from integration.proxy_fixtures import ANA, DAY, AheadClock, World, a_world, chatting
from integration.serve_process import call, environment

HOUR = 3_600_000
EVE = {"x-chat-subject": "eve", "x-chat-plan": "pro"}


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


@asynccontextmanager
async def people(tmp_path: Path, store: str) -> AsyncIterator[World]:
    """Ana has agreed and chatted twice, Eve has not and once."""
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat("one")
        await world.chat("two", who=ANA | {"x-chat-conversation": "second"})
        await world.chat("three", who=EVE)
        await world.kept()
        yield world


async def report(world: World, *, ahead: int = 0) -> dict[str, Retained]:
    clock = AheadClock()
    clock.ahead = ahead
    vault = dataclasses.replace(world.running.vault, clock=clock)
    return dict(await vault.retention_reporter.report())


def overdue(found: dict[str, Retained]) -> dict[str, int]:
    return {name: what.overdue for name, what in found.items() if what.overdue}


async def test_each_turn_counts_in_each_class_that_keeps_it(tmp_path: Path, store: str) -> None:
    async with people(tmp_path, store) as world:
        rows = await world.kept()
        found = await report(world)

    assert set(found) == set(CLASSES)
    assert (found["SERVICE"].count, found["TRAIN"].count, found["records"].count) == (3, 2, 3)
    assert (found["ledgers"].count, found["keys of people"].count) == (1, 2)
    assert found[INDEXES].count > 3
    assert found[DAYS].count == 2
    assert overdue(found) == {}
    assert found["SERVICE"].next_due is not None
    first = min(row["grounds"]["SERVICE"] for row in rows)
    from_listing = min(row["received_at"] for row in rows)
    done = await call(environment(tmp_path, store=store), "retention", "report", "--json")
    said = {row["class"]: row for row in done.rows()}
    assert done.status == 0
    assert (said["SERVICE"]["next_due"], said["SERVICE"]["oldest"]) == (first, from_listing)
    assert (said["FEEDBACK"]["count"], said["FEEDBACK"]["oldest"]) == (0, None)


@pytest.mark.parametrize(
    "ahead, due, late",
    [
        pytest.param(30 * DAY - HOUR, 0, 0, id="an hour before the end"),
        pytest.param(30 * DAY + HOUR // 2, 1, 0, id="half an hour after it"),
        pytest.param(30 * DAY + 2 * HOUR, 0, 1, id="two hours after it"),
    ],
)
async def test_what_is_there_though_its_time_is_over_is_overdue(
    tmp_path: Path, store: str, ahead: int, due: int, late: int
) -> None:
    async with people(tmp_path, store) as world:
        found = await report(world, ahead=ahead)

    # Of Ana's turns the service ground is over as well, but they are kept for training.
    assert (found["SERVICE"].due, found["SERVICE"].overdue, found["TRAIN"].overdue) == (due, late, 0)
    assert (found["records"].overdue > 0) is bool(late)


async def test_a_withdrawal_that_was_not_followed_is_overdue(tmp_path: Path, store: str) -> None:
    """The annotations still permit what the ledger does not any more."""
    async with people(tmp_path, store) as world:
        vault, tag = world.running.vault, world.tag()
        keys = [
            f"cp:{{{tag.hex()}}}:a:{turn.turn.hex()}" for turn in await world.turns() if turn.subject == tag
        ]
        before = [(await vault.store.connections.ask([["DUMP", key]]))[0] for key in keys]
        await world.choose(Choice.WITHDRAWN)
        await world.decided_again()
        for key, dump in zip(keys, before, strict=True):
            await vault.store.connections.ask([["RESTORE", key, 0, dump, "REPLACE"]])
            await vault.store.connections.ask([["PEXPIREAT", key, 4_000_000_000_000]])
        soon = await report(world, ahead=2 * HOUR)
        later = await report(world, ahead=31 * DAY)

    assert soon["TRAIN"].overdue == 0
    assert later["TRAIN"].overdue == 2


async def test_a_withdrawal_of_a_moment_ago_is_being_followed(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store, retention_service="1h", retention_withdrawn="0") as world:
        await world.choose(Choice.GIVEN)
        await world.chat("one")
        [_] = await world.kept()
        await world.choose(Choice.WITHDRAWN, at=world.running.vault.clock() + 2 * HOUR)
        soon = await report(world, ahead=2 * HOUR + HOUR // 2)
        later = await report(world, ahead=3 * HOUR + HOUR // 2)

    assert (soon["TRAIN"].overdue, later["TRAIN"].overdue) == (0, 1)


async def test_a_key_that_never_ends_is_overdue(tmp_path: Path, store: str, connections: Connections) -> None:
    async with people(tmp_path, store) as world:
        for kind in ("a", "r", "ix", "c"):
            [[name, *_]] = await connections.ask([["KEYS", f"cp:{{{world.tag().hex()}}}:{kind}*"]])
            await connections.ask([["PERSIST", name]])
        found = await report(world)
        done = await call(environment(tmp_path, store=store), "retention", "report")

    assert overdue(found) == {"SERVICE": 1, "TRAIN": 1, "records": 1, "ledgers": 1, INDEXES: 1}
    assert (done.status, "Overdue: 5." in done.out) == (3, True)


async def test_what_is_held_is_not_overdue(tmp_path: Path, store: str) -> None:
    env = environment(tmp_path, store=store)
    async with people(tmp_path, store) as world:
        done = await call(
            env,
            "hold",
            "place",
            "--subject",
            "eve",
            "--case",
            "c",
            "--authority",
            "a",
            "--review",
            "2099-01-31",
        )
        assert done.status == 0, done.err
        await world.decided_again()
        found = await report(world, ahead=60 * DAY)

    assert (found[HELD].count, found[HELD].overdue, found["SERVICE"].overdue) == (1, 0, 0)
    assert found[HELD].next_due == 4_073_500_800_000


async def test_what_an_erasure_left_and_what_was_altered_has_a_class_of_its_own(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with people(tmp_path, store) as world:
        rows = [turn for turn in await world.turns() if turn.subject == world.tag()]
        name = f"cp:{{{rows[0].subject.hex()}}}:a:{rows[0].turn.hex()}"
        await connections.ask([["HSET", name, "exp", "1"]])
        altered = await report(world)
        done = await call(environment(tmp_path, store=store), "retention", "report", "--json")
        key = f"cp:{{{world.tag().hex()}}}:s"
        fence = str(world.running.vault.clock())
        await connections.ask([["HSET", key, "erased_at", fence]])
        erased = await report(world, ahead=HOUR)
        later = await report(world, ahead=2 * DAY)

    assert (altered[UNREADABLE].count, done.status) == (1, 3)
    assert (erased[ERASED].count, erased[ERASED].due, erased[ERASED].overdue) == (1, 1, 0)
    assert later[ERASED].overdue == 1


async def test_the_key_of_a_day_is_overdue_a_day_after_its_grace(tmp_path: Path, store: str) -> None:
    async with people(tmp_path, store) as world:
        days = await world.running.vault.store.all_epoch_wraps()
        # Another series of keys for the same day is the same day.
        await world.running.vault.store.add_epoch_wrap(epoch_number(min(days), series=1), b"wrapped")
        end = (min(days) + 1) * DAY + 2 * DAY  # the grace is 48 hours
        now = world.running.vault.clock()
        just = await report(world, ahead=end - now + HOUR)
        late = await report(world, ahead=end - now + DAY + HOUR)

    assert just[DAYS].count == len(days)
    assert (just[DAYS].due, just[DAYS].overdue) == (1, 0)
    assert (late[DAYS].due, late[DAYS].overdue) == (0, 1)


async def test_of_more_people_than_are_remembered_each_turn_counts_once(tmp_path: Path, store: str) -> None:
    async with an_archive(tmp_path, store) as archive:
        for number in range(60):
            await archive.choose(f"p{number}", Choice.GIVEN, days_ago=200)
            await archive.keep_all(f"p{number}", [said("hello")] * 9, days_ago=100)
        await archive.keep("p7", said("of today"), days_ago=0)
        for who in ("p7", "p8"):  # and nobody has followed
            await archive.choose(who, Choice.WITHDRAWN, days_ago=40)
        vault = archive.vault
        reporters = [
            RetentionReporter(
                vault.store,
                RedisReaper(vault.store.connections, vault.erasure),
                vault.annotation_keys,
                vault.policies,
                clock=vault.clock,
                day_grace_ms=DAY,
                most_remembered=remembered,
            )
            for remembered in (1, 10, 50_000)
        ]
        found = [dict(await reporter.report()) for reporter in reporters]

    assert len(reporters[0]._seen) < len(reporters[2]._seen) == 60
    assert found[0] == found[1] == found[2]
    assert (found[0]["TRAIN"].count, found[0]["SERVICE"].count) == (60 * 9 + 1, 1)
    assert overdue(found[0]) == {"TRAIN": 18}
