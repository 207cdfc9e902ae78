"""Reading the store, its small values, and the consent ledger."""

import asyncio

import pytest

from chatproxy.errors import StoreUnavailableError, UndecryptableError
from chatproxy.model import ConversationTag, SubjectTag, TurnId
from chatproxy.ports import PutStatus
from chatproxy.store import keys
from chatproxy.store.connections import Connections
from chatproxy.store.redis import RedisStore
from integration.store_builders import ALICE, BOB, CONVERSATION, HOUR, NOW, a_turn

NOBODY = SubjectTag(b"N" * 16)


async def test_an_unknown_subject_is_empty(store: RedisStore) -> None:
    state = await store.subject_state(ALICE)

    assert (state.generation, state.wraps, state.erased_at, state.ledger) == (None, {}, None, ())
    assert await store.turn(ALICE, TurnId(b"t" * 16)) is None
    assert await store.conversation(ALICE, CONVERSATION) == []
    assert await store.find_head(ALICE, b"h" * 16) is None
    assert [row async for row in store.annotations(ALICE)] == []


async def test_the_stores_clock_is_in_milliseconds(store: RedisStore) -> None:
    assert abs(await store.now() - NOW) < 24 * HOUR


async def test_a_conversation_reads_in_the_order_received(store: RedisStore) -> None:
    turns = [a_turn(received_at=NOW - delay) for delay in (5, 900, 30)]
    await store.put([*turns, a_turn(conversation=ConversationTag(b"O" * 16))])

    rows = await store.conversation(ALICE, CONVERSATION)

    assert [row.turn for row in rows] == [turns[1].turn, turns[2].turn, turns[0].turn]


async def test_a_walk_finds_every_turn_of_everybody(store: RedisStore) -> None:
    subjects = [SubjectTag(bytes([number]) * 16) for number in range(20)]
    turns = [a_turn(subject=subject) for subject in subjects for _ in range(40)]
    assert await store.put(turns) == [PutStatus.STORED] * 800

    found = {(row.subject, row.turn) async for row in store.annotations()}

    assert found == {(turn.subject, turn.turn) for turn in turns}


async def test_a_walk_of_one_subject_finds_theirs_alone_in_batches(store: RedisStore) -> None:
    turns = [a_turn() for _ in range(600)]
    await store.put([*turns, a_turn(subject=BOB)])

    rows = [row async for row in store.annotations(ALICE)]

    assert {row.subject for row in rows} == {ALICE}
    assert sorted(row.turn for row in rows) == sorted(turn.turn for turn in turns)
    assert {row.ttl_expires_at for row in rows} == {NOW + HOUR}


async def test_a_walk_may_be_left_in_the_middle(store: RedisStore) -> None:
    await store.put([a_turn() for _ in range(300)])

    async for row in store.annotations():
        assert row.subject == ALICE
        break

    await store.ping()


async def test_turns_that_have_gone_are_left_out_though_the_index_names_them(
    store: RedisStore, connections: Connections
) -> None:
    gone, kept = a_turn(), a_turn()
    await store.put([gone, kept])
    await connections.ask([["DEL", keys.annotation(ALICE, gone.turn)]])

    assert [row.turn async for row in store.annotations(ALICE)] == [kept.turn]
    assert [row.turn for row in await store.conversation(ALICE, CONVERSATION)] == [kept.turn]


async def test_a_walk_passes_over_keys_that_only_look_like_annotations(
    store: RedisStore, connections: Connections
) -> None:
    await connections.ask([["HSET", "cp:{zz}:a:zz", "x", "y"], ["SET", "theirs", "1"]])

    assert [row async for row in store.annotations()] == []


async def test_a_missing_expiry_shows(store: RedisStore, connections: Connections) -> None:
    turn = a_turn()
    await store.put([turn])
    await connections.ask([["PERSIST", keys.annotation(ALICE, turn.turn)]])

    found = await store.turn(ALICE, turn.turn)

    assert found is not None
    assert found.ttl_expires_at == -1


async def test_the_ledger_keeps_its_events_in_order(store: RedisStore) -> None:
    for number, event in enumerate([b"no", b"yes", b"withdrawn"]):
        assert await store.append_event(ALICE, event, expected_length=number, expires_at=NOW + HOUR)

    assert (await store.subject_state(ALICE)).ledger == (b"no", b"yes", b"withdrawn")


async def test_an_event_that_has_not_seen_the_last_one_is_refused(store: RedisStore) -> None:
    await store.append_event(ALICE, b"yes", expected_length=0, expires_at=NOW + HOUR)

    assert not await store.append_event(ALICE, b"no", expected_length=0, expires_at=NOW + HOUR)
    assert (await store.subject_state(ALICE)).ledger == (b"yes",)


async def test_of_many_events_at_once_one_comes_next(store: RedisStore) -> None:
    events = [b"%d" % number for number in range(30)]

    done = await asyncio.gather(
        *(store.append_event(ALICE, event, expected_length=0, expires_at=NOW + HOUR) for event in events)
    )

    assert done.count(True) == 1
    assert (await store.subject_state(ALICE)).ledger == (events[done.index(True)],)


async def test_an_event_never_shortens_the_ledgers_life(store: RedisStore, connections: Connections) -> None:
    await store.append_event(ALICE, b"yes", expected_length=0, expires_at=NOW + 2 * HOUR)
    await store.append_event(ALICE, b"no", expected_length=1, expires_at=NOW + HOUR)

    assert await connections.ask([["PEXPIRETIME", keys.ledger(ALICE)]]) == [NOW + 2 * HOUR]


async def test_a_ledger_that_would_be_gone_at_once_is_refused(store: RedisStore) -> None:
    with pytest.raises(StoreUnavailableError, match="EXPIRED"):
        await store.append_event(ALICE, b"yes", expected_length=0, expires_at=NOW - HOUR)

    assert await store.is_empty()


async def test_control_values_change_only_from_what_was_seen(store: RedisStore) -> None:
    assert await store.read_control("ring") is None
    assert not await store.swap_control("ring", b"old", b"new")
    assert await store.swap_control("ring", None, b"one")
    assert not await store.swap_control("ring", None, b"two")
    assert await store.swap_control("ring", b"one", b"")
    assert not await store.swap_control("ring", None, b"three")
    assert await store.swap_control("ring", b"", b"four")
    assert await store.read_control("ring") == b"four"


async def test_the_first_key_of_a_day_is_the_key_of_that_day(store: RedisStore) -> None:
    assert await store.add_epoch_wrap(20_000, b"first") == b"first"
    assert await store.add_epoch_wrap(20_000, b"second") == b"first"
    await store.add_epoch_wrap(20_001, b"next")

    assert await store.epoch_wraps([20_000, 20_001, 20_002]) == {20_000: b"first", 20_001: b"next"}
    assert await store.epoch_wraps([]) == {}


async def test_a_stray_conversation_is_found_by_any_of_its_heads(store: RedisStore) -> None:
    await store.remember_stray([b"h" * 16, b"i" * 16], NOBODY, NOW + HOUR)

    assert await store.adopt_stray(b"i" * 16) == NOBODY
    assert await store.adopt_stray(b"j" * 16) is None


async def test_of_two_stray_conversations_that_said_the_same_neither_is_continued(store: RedisStore) -> None:
    await store.remember_stray([b"h" * 16], NOBODY, NOW + HOUR)
    await store.remember_stray([b"h" * 16], NOBODY, NOW + HOUR)
    assert await store.adopt_stray(b"h" * 16) == NOBODY

    await store.remember_stray([b"h" * 16], ALICE, NOW + HOUR)

    assert await store.adopt_stray(b"h" * 16) is None


async def test_a_store_with_only_foreign_keys_is_empty(store: RedisStore, connections: Connections) -> None:
    await connections.ask([["SET", "theirs", "1"]])
    assert await store.is_empty()

    await store.add_epoch_wrap(20_000, b"wrap")
    assert not await store.is_empty()


async def test_a_key_of_another_type_is_damage_and_is_not_named(
    store: RedisStore, connections: Connections
) -> None:
    await connections.ask([["SET", keys.subject(ALICE), "not a hash"]])

    with pytest.raises(UndecryptableError) as caught:
        await store.subject_state(ALICE)

    assert caught.value.reason == "store_damaged"
    assert ALICE.hex() not in str(caught.value)
