"""What is over cannot be read, before and after it goes; and nobody can make it last longer in the store."""

from pathlib import Path

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice
from chatproxy.errors import NotFoundError, UndecryptableError
from chatproxy.model import SubjectTag
from chatproxy.store import keys
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.erasure import RedisErasure
from chatproxy.store.reaping import RedisReaper
from chatproxy.telemetry import Metrics
from chatproxy.vault import open_vault
from chatproxy.workflows.reap import Reaper
from chatproxy.workflows.transcripts import Spurious
from integration.proxy_fixtures import ANA, DAY, AheadClock, World, a_proxy, a_world, all_keys, chatting

HOUR = 3_600_000


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


def reaper(world: World) -> Reaper:
    return world.running.vault.reaper(Metrics())


async def names(connections: Connections, kind: bytes) -> list[bytes]:
    return sorted(key for key in await all_keys(connections) if b"}:%s" % kind in key)


async def test_a_read_at_the_end_fails_before_anything_was_removed(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    clock = AheadClock()
    async with a_world(chatting(), tmp_path, store, clock=clock) as world:
        vault, tag = world.running.vault, world.tag()
        await world.chat("hello", who=ANA | {"x-chat-conversation": "one"})
        [row] = await world.kept()
        assert await world.said(row["conversation"])
        [stored] = [stored async for stored in vault.store.annotations(tag)]
        clock.ahead = stored.ttl_expires_at - wall_clock() + 1
        rows = await names(connections, b"r:")
        with pytest.raises(NotFoundError):
            await world.said(row["conversation"])
        assert await world.turns() == []
        assert await world.turns() == [turn async for turn in vault.transcripts.walk(subject=tag)]
        assert await names(connections, b"r:") == rows != []  # nothing has removed it


@pytest.mark.parametrize(
    "kind, refused",
    [
        pytest.param(b"r:", "record_missing", id="what was said"),
        pytest.param(b"a:", "nothing is held", id="its annotation"),
    ],
)
async def test_with_one_half_gone_the_other_says_nothing(
    tmp_path: Path, store: str, connections: Connections, kind: bytes, refused: str
) -> None:
    """P28."""
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat("hello", who=ANA | {"x-chat-conversation": "one"})
        [row] = await world.kept()
        for purpose in ("service", "capability"):
            assert await world.said(row["conversation"], purpose=purpose)
        [half] = await names(connections, kind)
        await connections.ask([["DEL", half]])
        for purpose in ("service", "capability"):
            with pytest.raises((NotFoundError, UndecryptableError), match=refused):
                await world.said(row["conversation"], purpose=purpose)
        assert len(await world.turns()) == (kind == b"r:")  # that it was there is listed until it ends


async def test_what_somebody_made_last_longer_gets_its_end_back(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello", who=ANA | {"x-chat-conversation": "one"})
        await world.kept()
        before = await all_keys(connections)
        of_ana = [key for key in before if world.tag().hex().encode() in key and not key.endswith(b":s")]
        assert {key.rsplit(b"}:", 1)[1].split(b":")[0] for key in of_ana} >= {b"r", b"a", b"ix", b"v", b"h"}
        for key in of_ana:
            await connections.ask([["PERSIST", key]])
        [spurious] = await world.turns()
        assert isinstance(spurious, Spurious)
        reaped = await reaper(world).walk(wall_clock())
        assert reaped.repaired == len(of_ana)
        after = await all_keys(connections)
        promised = [key for key in of_ana if b"}:p:" not in key]
        assert {key: after[key] for key in promised} == {key: before[key] for key in promised}
        [record] = await names(connections, b"r:")
        await connections.ask([["PEXPIREAT", record, before[record] + DAY]])
        assert (await reaper(world).walk(wall_clock())).repaired == 1
        assert (await all_keys(connections))[record] == before[record]
        assert (await reaper(world).walk(wall_clock())).repaired == 0


async def test_a_record_past_its_promised_end_is_told_and_removed(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello", who=ANA | {"x-chat-conversation": "one"})
        await world.kept()
        [record] = await names(connections, b"r:")
        await connections.ask([["SETRANGE", record, 12, (wall_clock() - HOUR).to_bytes(8, "big")]])
        metrics = Metrics()
        reaped = await world.running.vault.reaper(metrics).walk(wall_clock())
        assert reaped.expired_but_readable == 1
        assert metrics.registry.get_sample_value("chatproxy_expired_but_readable") == 1
        assert await names(connections, b"r:") == []
        assert (await reaper(world).walk(wall_clock())).expired_but_readable == 0


async def test_a_walk_holds_a_bounded_part_of_many_keys(connections: Connections) -> None:
    """P30."""
    many = {keys.head(SubjectTag(number.to_bytes(16, "big")), b"h" * 16) for number in range(20_000)}
    await connections.ask([["SET", name, "x", "PX", HOUR] for name in many])
    found: set[bytes] = set()
    async for batch in RedisReaper(connections, RedisErasure(connections, horizon_ms=HOUR)).walk():
        assert len(batch) < 2_000
        found |= {key.name for key in batch}
    assert found == many


async def test_keys_of_days_that_are_overdue_are_counted_until_the_last_has_gone(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    """P30."""
    async with open_vault(a_proxy(tmp_path, upstream="http://127.0.0.1:9", store=store)) as vault:
        metrics, now = Metrics(), await vault.store.now()
        for days_ago in (9, 8, 7):
            await connections.ask([["HSET", "cp:{epoch}:k", now // DAY - days_ago, b"W" * 64]])
        counted = []
        for hours in range(5):
            await vault.reaper(metrics).destroy_epoch(now + hours * HOUR)
            counted.append(metrics.registry.get_sample_value("chatproxy_overdue_epoch_keys"))
        assert counted == [2, 1, 0, 0, 0]


async def test_indexes_lose_what_is_gone(tmp_path: Path, store: str, connections: Connections) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("one", who=ANA | {"x-chat-conversation": "c"})
        await world.chat("two", who=ANA | {"x-chat-conversation": "c"})
        await world.kept()
        [gone, _] = await names(connections, b"a:")
        await connections.ask([["DEL", gone]])
        assert (await reaper(world).walk(wall_clock())).trimmed == 2
        [index], [conversation] = await names(connections, b"ix"), await names(connections, b"v:")
        assert await connections.ask([["ZCARD", index], ["ZCARD", conversation]]) == [1, 1]


async def test_the_key_of_a_day_goes_a_grace_after_it_and_one_an_hour(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        vault = world.running.vault
        await world.chat("hello")
        [row] = await world.kept()
        today = wall_clock() // DAY
        wrap = (await vault.store.epoch_wraps(await vault_days(connections)))[today + 30]
        for day in (today - 9, today - 8, today - 3, today - 2, today - 1, today):
            await connections.ask([["HSET", "cp:{epoch}:k", day, wrap]])
        await connections.ask([["DEL", "cp:{ctl}:epochs:next"]])
        now = today * DAY  # not the time itself: some hours later it may be tomorrow
        assert await reaper(world).destroy_epoch(now)
        assert not await reaper(world).destroy_epoch(now + HOUR - 1)
        assert (await vault_days(connections))[:2] == [today - 8, today - 3]
        assert await reaper(world).destroy_epoch(now + HOUR)
        assert await reaper(world).destroy_epoch(now + 2 * HOUR)
        assert (await vault_days(connections))[:2] == [today - 2, today - 1]  # two days of grace
        assert not await reaper(world).destroy_epoch(now + 3 * HOUR)
        log = (tmp_path / "data" / "audit" / "audit.jsonl").read_text()
        assert log.count("epoch.destroy") == 3
        # With the key of its day a record is gone, whatever else is there.
        await connections.ask([["HDEL", "cp:{epoch}:k", today + 30]])
        with pytest.raises(UndecryptableError, match="no_epoch_key"):
            await world.said(row["conversation"])


async def test_nothing_is_destroyed_while_the_clocks_are_apart(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    clock = AheadClock()
    async with a_world(chatting(), tmp_path, store, clock=clock) as world:
        await world.chat("hello")
        await world.kept()
        await connections.ask([["HSET", "cp:{epoch}:k", wall_clock() // DAY - 9, b"W" * 64]])
        clock.ahead = 400 * DAY
        before = await vault_days(connections)
        assert not await reaper(world).take_up()
        assert await vault_days(connections) == before != []


async def vault_days(connections: Connections) -> list[int]:
    [days] = await connections.ask([["HKEYS", "cp:{epoch}:k"]])
    return sorted(map(int, days))
