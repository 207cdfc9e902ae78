"""What the scripts of an erasure and of a roll check before they write, and whom they tell."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from chatproxy.model import ConversationTag, TurnId
from chatproxy.ports import (
    Erased,
    EraseRefusal,
    NewKey,
    PutStatus,
    RedecideStatus,
    ResealedTurn,
    SealedGroup,
    SealedTurn,
)
from chatproxy.store import keys
from chatproxy.store.connections import Connections
from chatproxy.store.erasure import CLOCKS_APART_MS, RedisErasure
from chatproxy.store.redis import RedisStore
from integration.proxy_fixtures import PATIENCE, all_keys
from integration.store_builders import ALICE, HOUR, NOW, WRAP, a_group, a_turn, an_attempt

TURN = b"T" * 16
OTHER = b"U" * 16


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


def sealed_under(generation: int, blob: bytes = b"", number: int = 0) -> SealedGroup:
    return a_group(number=number, blob=b"CP\1\1\0\1" + generation.to_bytes(2, "big") + blob)


def tried(turn: bytes, generation: int, **facts: Any) -> SealedTurn:
    """An attempt that was cut, unless it says otherwise."""
    values: dict[str, Any] = {
        "completes": False,
        "generation": generation,
        "groups": (sealed_under(generation),),
        "annotation": {b"mac": b"first"},
    }
    return an_attempt(turn, **(values | facts))


ELSEWHERE = ConversationTag(b"D" * 16)
TWO_ATTEMPTS = [tried(TURN, 1), tried(TURN, 1, announced=OTHER, waiting=TURN, completes=True)]


@pytest.mark.parametrize(
    "before, since, again",
    [
        pytest.param(
            [tried(TURN, 1, completes=True)], [], tried(TURN, 2, is_named=True, completes=True), id="done"
        ),
        pytest.param([tried(TURN, 1)], [], tried(TURN, 2, is_named=True, waiting=TURN), id="cut"),
        pytest.param(
            TWO_ATTEMPTS,
            [tried(b"V" * 16, 2, completes=True, asked=b"R" * 16)],
            tried(OTHER, 2, is_named=True, completes=True),
            id="done under the name of another attempt",
        ),
        pytest.param(
            TWO_ATTEMPTS,
            [],
            tried(OTHER, 2, is_named=True, completes=True, conversation=ELSEWHERE),
            id="the same in another conversation",
        ),
    ],
)
async def test_what_an_erasure_left_for_its_sweep_is_no_turn_that_is_kept_already(
    store: RedisStore,
    erasure: RedisErasure,
    before: list[SealedTurn],
    since: list[SealedTurn],
    again: SealedTurn,
) -> None:
    groups = (sealed_under(1), sealed_under(1, number=1))
    for turn in before:
        assert await store.put([replace(turn, groups=groups)]) == [PutStatus.STORED]
    erased = await erase(erasure, at=0)
    assert isinstance(erased, Erased)
    late = replace(again, received_at=erased.at + 1)
    for turn in (*(replace(turn, received_at=erased.at + 1) for turn in since), late):
        assert await store.put([turn]) == [PutStatus.STORED]
    assert await store.records(ALICE, again.turn, [0, 1]) == [sealed_under(2).blob, None]
    # And from then on it is kept as any other.
    assert await store.put([late]) == [PutStatus.REPLAYED]
    assert await store.records(ALICE, again.turn, [0, 1]) == [sealed_under(2).blob, None]


async def test_a_name_that_was_given_since_an_erasure_leads_to_its_turn(
    store: RedisStore, erasure: RedisErasure
) -> None:
    await keep_one(store)
    erased = await erase(erasure, at=0)
    assert isinstance(erased, Erased)
    since: dict[str, Any] = {"received_at": erased.at + 1, "completes": True, "is_named": True}
    first = tried(TURN, 2, received_at=erased.at + 1)
    retry = tried(TURN, 2, announced=OTHER, waiting=TURN, **since)
    assert await store.put([first, retry]) == [PutStatus.STORED, PutStatus.STORED]
    assert await store.put([tried(OTHER, 2, **since)]) == [PutStatus.REPLAYED]


async def test_what_a_hold_kept_through_an_erasure_is_not_overwritten(
    store: RedisStore, erasure: RedisErasure
) -> None:
    held = tried(TURN, 1, completes=True)
    await store.put([held])
    assert await erasure.renew_key(ALICE, before=1, key=NewKey(2, WRAP), at=NOW, erasing=True)
    [row] = [row async for row in store.annotations(ALICE)]
    [status] = await erasure.reseal(
        [ResealedTurn(ALICE, row.turn, row.annotation[b"mac"], 2, (sealed_under(2, b"held"),))]
    )
    assert status is RedecideStatus.CHANGED
    erased = await erase(erasure, at=0, stays=2)
    assert isinstance(erased, Erased)
    late = tried(TURN, 2, completes=True, received_at=erased.at + 1, is_named=True)
    assert await store.put([late]) == [PutStatus.REPLAYED]
    assert await store.records(ALICE, row.turn, [0]) == [sealed_under(2, b"held").blob]


async def test_what_an_erasure_left_for_its_sweep_is_not_gone_on_with(
    store: RedisStore, erasure: RedisErasure
) -> None:
    head = b"h" * 16
    await store.put([a_turn(turn=TURN, heads=(head,))])
    found = await store.find_head(ALICE, head)
    assert found is not None
    erased = await erase(erasure, at=0)
    assert isinstance(erased, Erased)
    assert await store.find_head(ALICE, head) is None
    await store.put(
        [
            a_turn(
                turn=OTHER, heads=(head,), generation=2, received_at=erased.at + 1, expires_at=NOW + 2 * HOUR
            )
        ]
    )
    found = await store.find_head(ALICE, head)
    assert found is not None
    assert found.turn == OTHER


async def test_a_certificate_is_kept_for_the_erasure_that_was_seen_and_until_it_is_handed_over(
    store: RedisStore, connections: Connections, erasure: RedisErasure
) -> None:
    await keep_one(store)
    assert await erasure.unfinished(ALICE) is None
    first = await erase(erasure, at=0)
    second = await erase(erasure, at=NOW + HOUR)
    assert isinstance(first, Erased)
    assert isinstance(second, Erased)
    assert not await erasure.conclude(ALICE, erased_at=first.at, certificate=b"of the first")
    assert await erasure.certificate(ALICE) is None
    assert await erasure.conclude(ALICE, erased_at=second.at, certificate=b"of both")
    assert not await erasure.conclude(ALICE, erased_at=second.at, certificate=b"of nothing")
    await erasure.forget_certificate(ALICE, b"of the first")
    assert await erasure.certificate(ALICE) == b"of both"
    await erasure.forget_certificate(ALICE, b"of both")
    [fields] = await connections.ask([["HKEYS", keys.subject(ALICE)]])
    assert set(fields) == {b"erased_at", b"gen_floor"}


async def test_whatever_a_sweep_removes_is_counted(
    store: RedisStore, connections: Connections, erasure: RedisErasure
) -> None:
    head = b"h" * 16
    await store.put([tried(TURN, 1, completes=True, heads=(head,))])
    first = await erase(erasure, at=0)
    assert isinstance(first, Erased)
    await connections.ask([["DEL", keys.annotation(ALICE, TurnId(TURN))]])
    removed = await erasure.sweep_rest(ALICE)
    unfinished = await erasure.unfinished(ALICE)
    assert unfinished is not None
    assert unfinished.removed == removed
    # Head, mark of the attempt, place in the conversation, and in the index if it is come upon before the record.
    assert removed in {(0, 1, 3), (0, 1, 4)}
    assert await erasure.sweep_rest(ALICE) == (0, 0, 0)
