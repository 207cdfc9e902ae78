"""A real cluster, three shards on one machine: what is kept is found wherever it lies, and moves and failovers lose nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.crc import key_slot

from chatproxy.consent.events import Choice
from chatproxy.errors import StoreUnavailableError
from chatproxy.model import SubjectTag
from chatproxy.ports import Due, PutStatus
from chatproxy.store import keys
from chatproxy.store.erasure import RedisErasure
from chatproxy.store.opening import open_store
from chatproxy.store.reaping import RedisReaper
from chatproxy.store.redis import RedisStore
from integration.proxy_fixtures import DAY, PATIENCE, World, a_world, chatting
from integration.serve_process import call, environment
from integration.store_builders import HOUR, NOW, a_turn
from simulators.servers import ClusterServers, Server, cluster

PEOPLE = [SubjectTag(bytes([number]) * 16) for number in range(60)]


@pytest.fixture(scope="module")
async def shared(anyio_backend: str) -> AsyncIterator[ClusterServers]:
    async with cluster(replicas=False) as found:
        yield found


@pytest.fixture
async def servers(shared: ClusterServers) -> ClusterServers:
    for server in shared.primaries:
        await server.say(["FLUSHALL"], ["SCRIPT", "FLUSH"])
    return shared


@pytest.fixture
async def store(servers: ClusterServers, tmp_path: Path) -> AsyncIterator[RedisStore]:
    async with open_store(servers.url, tmp_path, deadline=5.0) as store:
        yield store


async def keep(store: RedisStore) -> None:
    statuses = await store.put([a_turn(subject=person, heads=(b"H" * 16,)) for person in PEOPLE])
    assert statuses == [PutStatus.STORED] * len(PEOPLE)


def who(number: int) -> dict[str, str]:
    return {"x-chat-subject": f"person {number}", "x-chat-plan": "pro"}


async def owner_of(servers: ClusterServers, key: bytes) -> Server:
    """The primary that has a key's slot, by what the cluster says."""
    [ranges] = await servers.primaries[0].say(["CLUSTER", "SLOTS"])
    for first, last, primary, *_ in ranges:
        if first <= key_slot(key) <= last:
            return next(each for each in [*servers.primaries, *servers.replicas] if each.port == primary[1])
    raise AssertionError


async def test_what_one_call_asks_of_many_is_divided_and_comes_back_in_its_order(
    store: RedisStore, servers: ClusterServers
) -> None:
    await keep(store)

    counts = [(await server.say(["DBSIZE"]))[0] for server in servers.primaries]
    assert all(counts)
    for number, person in enumerate(PEOPLE):
        assert (await store.subject_state(person)).generation == 1
        assert await store.append_event(
            person, b"event %d" % number, expected_length=0, expires_at=NOW + HOUR
        )
    wraps = await store.subject_wraps(PEOPLE)
    assert [sorted(found or {}) for found in wraps] == [[1]] * len(PEOPLE)
    ledgers = [(await store.subject_state(person)).ledger for person in PEOPLE]
    assert ledgers == [(b"event %d" % number,) for number in range(len(PEOPLE))]


async def test_walks_go_over_every_shard(store: RedisStore) -> None:
    assert await store.is_empty()
    await keep(store)

    assert not await store.is_empty()
    assert {turn.subject async for turn in store.annotations()} == set(PEOPLE)
    assert {person async for person in store.subjects()} == set(PEOPLE)
    erasure = RedisErasure(store.connections, horizon_ms=30 * DAY)
    found = [key async for batch in RedisReaper(store.connections, erasure).walk() for key in batch]
    assert {key.subject for key in found} == set(PEOPLE)
    assert len({key.name for key in found}) == len(found)


async def test_lists_control_values_and_day_keys_work_wherever_they_lie(store: RedisStore) -> None:
    await store.mark_all_due(PEOPLE, NOW)
    assert await store.people_due(NOW + 1) == len(PEOPLE)
    claimed: list[Due] = []
    async with asyncio.timeout(PATIENCE):
        while len(claimed) < len(PEOPLE):
            claimed += await store.claim_due(now=NOW + 1, until=NOW + HOUR, most=64)
    assert {due.subject for due in claimed} == set(PEOPLE)
    assert all([await store.settle_due(due) for due in claimed])
    assert await store.swap_control("ring", None, b"one")
    assert not await store.swap_control("ring", None, b"two")
    assert await store.read_control("ring") == b"one"
    assert await store.add_epoch_wrap(20_000, b"wrap") == b"wrap"
    assert await store.all_epoch_wraps() == {20_000: b"wrap"}
    await store.beat("node", b"state")
    assert await store.nodes() == {"node": b"state"}


async def test_what_is_told_on_one_shard_is_heard_on_another(store: RedisStore, tmp_path: Path) -> None:
    async with asyncio.timeout(PATIENCE), store.changes() as heard, store.control_changes() as controls:
        for person in PEOPLE[:12]:
            assert await store.append_event(person, b"event", expected_length=0, expires_at=NOW + HOUR)
        told = set()
        async for person in heard:
            told.add(person)
            if len(told) == 12:
                break
        await store.swap_control("ring", None, b"new")
        assert await anext(controls) == "ring"
    assert told == set(PEOPLE[:12])


async def test_an_erasure_sweeps_what_no_index_knows(store: RedisStore) -> None:
    await keep(store)
    person = PEOPLE[7]
    erasure = RedisErasure(store.connections, horizon_ms=30 * DAY)
    await erasure.erase(person, at=NOW, ledger_length=0, stays=None, events=(), ledger_keep_until=0)
    await erasure.sweep_rest(person)
    left = [name async for batch in RedisReaper(store.connections, erasure).walk() for name in batch]
    assert {key.kind for key in left if key.subject == person} == {"s"}
    assert {key.subject for key in left} == set(PEOPLE)


async def test_doctor_looks_at_every_shard(tmp_path: Path, servers: ClusterServers) -> None:
    env = environment(tmp_path, store=servers.url, upstream="http://127.0.0.1:9", store_replicas="1")
    await servers.primaries[1].say(["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
    try:
        found = await call(env, "doctor")
    finally:
        await servers.primaries[1].say(["CONFIG", "SET", "maxmemory-policy", "noeviction"])
    assert found.status == 3
    assert f"FAIL  store: 127.0.0.1:{servers.primaries[1].port}: maxmemory-policy is allkeys-lru" in found.out
    assert found.out.count("the store has 0 replicas and CHATPROXY_STORE_REPLICAS is 1") == 3


async def test_a_slot_that_moves_under_load_loses_nothing(tmp_path: Path, servers: ClusterServers) -> None:
    async with a_world(chatting(), tmp_path, servers.url, store_timeout="5s") as world:
        for number in range(10):
            await world.chat("before", who=who(number))
        await world.kept()
        moved = 0
        stop = asyncio.Event()

        async def talk() -> int:
            count = 0
            while not stop.is_set():
                assert (await world.chat(f"turn {count}", who=who(count % 10))).status_code == 200
                count += 1
            return count

        talking = asyncio.ensure_future(talk())
        for number in range(10):
            key = keys.subject(world.tag(f"person {number}"))
            source = await owner_of(servers, key)
            target = next(each for each in servers.primaries if each is not source)
            await servers.move_slot(key_slot(key), source, target)
            assert await owner_of(servers, key) is target
            moved += 1
        stop.set()
        said = await talking
        assert moved == 10
        assert len(await world.kept()) == 10 + said
        assert world.outcomes().get("stored", 0) + world.outcomes().get("replayed", 0) == 10 + said
        world.assert_outcomes_add_up()


async def test_while_a_slot_is_in_two_halves_its_turns_wait_and_no_walk_ends(
    store: RedisStore, servers: ClusterServers
) -> None:
    await keep(store)
    person, other = PEOPLE[3], PEOPLE[4]
    slot = key_slot(keys.subject(person))
    source = await owner_of(servers, keys.subject(person))
    target = next(each for each in servers.primaries if each is not source)
    [[source_id], [target_id]] = await asyncio.gather(
        source.say(["CLUSTER", "MYID"]), target.say(["CLUSTER", "MYID"])
    )
    await target.say(["CLUSTER", "SETSLOT", slot, "IMPORTING", source_id])
    await source.say(["CLUSTER", "SETSLOT", slot, "MIGRATING", target_id])
    try:
        with pytest.raises(StoreUnavailableError, match="divided anew"):
            _ = [turn async for turn in store.annotations()]
        [names] = await source.say(["CLUSTER", "GETKEYSINSLOT", slot, 100])
        half = names[: len(names) // 2]
        await source.say(["MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *half])
        turns = [a_turn(subject=person), a_turn(subject=other)]
        assert await store.put(turns) == [None, PutStatus.STORED]
        # Single keys are found on either side.
        assert (await store.subject_state(person)).generation == 1
        await source.say(["MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *names[len(half) :]])
        assert (await store.subject_state(person)).generation == 1
    finally:
        for node in (target, source, *servers.primaries):
            await node.say(["CLUSTER", "SETSLOT", slot, "NODE", target_id])
    assert await store.put(turns) == [PutStatus.STORED, PutStatus.REPLAYED]
    assert sum([turn.subject == person async for turn in store.annotations(person)]) == 2
    assert {turn.subject async for turn in store.annotations()} == set(PEOPLE)


async def test_a_shard_that_is_down_holds_up_its_own_people_alone(tmp_path: Path) -> None:
    async with cluster(replicas=False) as servers, a_world(chatting(), tmp_path, servers.url) as world:
        for number in range(12):
            await world.chat("before", who=who(number))
        await world.kept()
        ring = await owner_of(servers, keys.control("ring"))
        day = await owner_of(servers, keys.EPOCH_WRAPS)
        down = next(each for each in servers.primaries if each not in (ring, day))
        [theirs, others] = await divide(world, servers, down, 12)
        assert theirs
        assert others
        await down.kill()
        for _ in range(2):
            for number in range(12):
                assert (await world.chat("meanwhile", who=who(number))).status_code == 200
        async with asyncio.timeout(PATIENCE):
            while world.outcomes()["stored"] < 12 + 2 * len(others):
                await asyncio.sleep(0.05)
        assert world.counted("chatproxy_turns_pending") == 2 * len(theirs)
        await down.start()
        assert len(await world.kept()) == 36
        assert "lost" not in world.outcomes()
        world.assert_outcomes_add_up()


async def divide(
    world: World, servers: ClusterServers, down: Server, people: int
) -> tuple[list[int], list[int]]:
    theirs: list[int] = []
    others: list[int] = []
    for number in range(people):
        owner = await owner_of(servers, keys.subject(world.tag(f"person {number}")))
        (theirs if owner is down else others).append(number)
    return theirs, others


async def test_a_failover_loses_nothing_that_was_confirmed(tmp_path: Path) -> None:
    async with (
        cluster(replicas=True) as servers,
        a_world(chatting(), tmp_path, servers.url, store_replicas="1") as world,
    ):
        for number in range(12):
            await world.choose(Choice.GIVEN, subject=f"person {number}")
            await world.chat("before", who=who(number))
        await world.kept()
        said = 0
        stop = asyncio.Event()

        async def talk() -> None:
            nonlocal said
            while not stop.is_set():
                assert (await world.chat(f"turn {said}", who=who(said % 12))).status_code == 200
                said += 1

        talking = asyncio.ensure_future(talk())
        for primary, replica in zip(servers.primaries, servers.replicas, strict=True):
            await primary.kill()
            await servers.until_promoted(replica)
            await primary.start()
            async with asyncio.timeout(PATIENCE):
                while (
                    await primary.info("role") != "slave" or await primary.info("master_link_status") != "up"
                ):
                    await asyncio.sleep(0.05)
        stop.set()
        await talking
        assert len(await world.kept()) == 12 + said
        assert "lost" not in world.outcomes()
        # A promotion may be noticed only now, and has what was kept put again.
        world.assert_none_is_unaccounted_for()
        for number in range(12):
            state = await world.running.vault.store.subject_state(world.tag(f"person {number}"))
            assert len(state.ledger) == 1
