"""What the scripts of an erasure and of a roll check before they write, and whom they tell."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from chatproxy.ports import Erased, EraseRefusal, NewKey, RedecideStatus, ResealedTurn
from chatproxy.store.connections import Connections
from chatproxy.store.erasure import CLOCKS_APART_MS, RedisErasure
from chatproxy.store.redis import RedisStore
from integration.proxy_fixtures import PATIENCE, all_keys
from integration.store_builders import ALICE, HOUR, NOW, WRAP, a_group, a_turn

TURN = b"T" * 16


@pytest.fixture
def erasure(connections: Connections) -> RedisErasure:
    return RedisErasure(connections, horizon_ms=HOUR)


async def erase(erasure: RedisErasure, **changed: Any) -> Erased | EraseRefusal:
    facts: dict[str, Any] = {
        "at": NOW, "ledger_length": 0, "stays": None, "events": (), "ledger_keep_until": 0
    }  # fmt: skip
    return await erasure.erase(ALICE, **(facts | changed))


async def keep_one(store: RedisStore) -> None:
    await store.put([a_turn(turn=TURN, annotation={b"mac": b"first"})])


async def dump(connections: Connections) -> dict[bytes, Any]:
    found = await all_keys(connections)
    return {name: (at, (await connections.ask([["DUMP", name]]))[0]) for name, at in found.items()}


async def test_an_erasure_that_has_not_seen_the_whole_ledger_changes_nothing(
    store: RedisStore, connections: Connections, erasure: RedisErasure
) -> None:
    await keep_one(store)
    await store.append_event(ALICE, b"hold", expected_length=0, expires_at=NOW + HOUR)
    before = await dump(connections)
    assert await erase(erasure) is EraseRefusal.LEDGER_CHANGED
    assert await erase(erasure, ledger_length=1, stays=2) is EraseRefusal.KEY_CHANGED
    assert await dump(connections) == before


async def test_the_fence_is_a_minute_behind_the_later_clock_and_never_goes_back(
    store: RedisStore, erasure: RedisErasure
) -> None:
    await keep_one(store)
    now = await store.now()
    ahead = await erase(erasure, at=now + HOUR)
    assert isinstance(ahead, Erased)
    assert ahead.at == now + HOUR + CLOCKS_APART_MS
    again = await erase(erasure, at=now - HOUR)
    assert isinstance(again, Erased)
    assert again.at == (await store.subject_state(ALICE)).erased_at == ahead.at


async def test_a_node_that_is_behind_goes_by_the_clock_of_the_store(
    store: RedisStore, erasure: RedisErasure
) -> None:
    await keep_one(store)
    now = await store.now()
    erased = await erase(erasure, at=now - HOUR)
    assert isinstance(erased, Erased)
    assert now + CLOCKS_APART_MS <= erased.at < now + HOUR


@pytest.mark.parametrize(
    "act",
    [
        erase,
        lambda erasure: erasure.renew_key(ALICE, before=1, key=NewKey(2, WRAP), at=NOW, erasing=False),
        lambda erasure: erasure.retire_keys(ALICE, stays=1),
    ],
    ids=["erase", "renew", "retire"],
)
async def test_every_node_hears_of_it(
    store: RedisStore, erasure: RedisErasure, act: Callable[[RedisErasure], Awaitable[object]]
) -> None:
    await keep_one(store)
    async with store.changes() as changes, asyncio.timeout(PATIENCE):
        await act(erasure)
        assert await anext(changes) == ALICE


async def test_a_record_is_sealed_anew_only_as_it_was_seen_and_keeps_its_end(
    store: RedisStore, connections: Connections, erasure: RedisErasure
) -> None:
    await keep_one(store)
    assert await erasure.renew_key(ALICE, before=1, key=NewKey(2, WRAP), at=NOW, erasing=False)
    assert not await erasure.renew_key(ALICE, before=1, key=NewKey(2, WRAP), at=NOW, erasing=False)
    before = await dump(connections)
    [stored] = [row async for row in store.annotations(ALICE)]

    def resealed(mac: bytes = b"first", generation: int = 2, turn: Any = stored.turn) -> ResealedTurn:
        return ResealedTurn(ALICE, turn, mac, generation, (a_group(blob=b"anew"),))

    assert await erasure.reseal(
        [resealed(mac=b"older"), resealed(generation=1), resealed(turn=b"U" * 16)]
    ) == [RedecideStatus.OVERTAKEN, RedecideStatus.KEY_CHANGED, RedecideStatus.GONE]
    assert await dump(connections) == before
    times = await all_keys(connections)
    assert await erasure.reseal([resealed()]) == [RedecideStatus.CHANGED]
    assert await store.records(ALICE, stored.turn, [0]) == [b"anew"]
    assert await all_keys(connections) == times


async def test_only_keys_before_the_one_that_stays_are_retired(
    store: RedisStore, erasure: RedisErasure
) -> None:
    await keep_one(store)
    for generation in (1, 2):
        await erasure.renew_key(
            ALICE, before=generation, key=NewKey(generation + 1, WRAP), at=NOW, erasing=False
        )
    assert await erasure.retire_keys(ALICE, stays=2) == ()
    assert await erasure.retire_keys(ALICE, stays=3) == (1, 2)
    state = await store.subject_state(ALICE)
    assert (state.generation, set(state.wraps), state.generation_floor) == (3, {3}, 2)
