"""What the put script does, against a real server: every status, every expiry, and nothing half done."""

import asyncio
import secrets
from typing import Any

import pytest

from chatproxy.model import TurnId
from chatproxy.ports import PutStatus, SealedGroup, SealedTurn
from chatproxy.store import keys
from chatproxy.store.connections import Command, Connections
from chatproxy.store.redis import RedisStore
from integration.store_builders import (
    ALICE,
    ASKED,
    BOB,
    CONVERSATION,
    HOUR,
    NOW,
    WRAP,
    a_group,
    a_turn,
    an_attempt,
)

FOREVER = (keys.EPOCH_WRAPS, b"cp:{ctl}:")


async def ask(connections: Connections, *command: bytes | int | str) -> Any:
    commands: list[Command] = [command]
    [reply] = await connections.ask(commands)
    return reply


async def put(store: RedisStore, turn: SealedTurn) -> PutStatus | None:
    [status] = await store.put([turn])
    return status


async def dump(connections: Connections) -> dict[bytes, tuple[Any, int]]:
    """Every key with its serialised value and its expiry."""
    names = await ask(connections, "KEYS", "*")
    return {
        name: (await ask(connections, "DUMP", name), await ask(connections, "PEXPIRETIME", name))
        for name in names
    }


async def test_a_stored_turn_can_be_read_back(store: RedisStore) -> None:
    turn = a_turn(
        groups=(a_group(number=0, blob=b"typed"), a_group(number=2, blob=b"connector")),
        annotation={b"reason": b"OK", b"bytes": b"\x00\xff"},
        heads=(b"h" * 16,),
    )

    assert await put(store, turn) is PutStatus.STORED

    assert await store.records(ALICE, turn.turn, [0, 1, 2]) == [b"typed", None, b"connector"]
    found = await store.turn(ALICE, turn.turn)
    assert found is not None
    assert found.annotation == {b"reason": b"OK", b"bytes": b"\x00\xff"}
    assert found.ttl_expires_at == turn.expires_at
    assert await store.find_head(ALICE, b"h" * 16) == (CONVERSATION, turn.turn, None)
    assert [row.turn for row in await store.conversation(ALICE, CONVERSATION)] == [turn.turn]
    state = await store.subject_state(ALICE)
    assert (state.generation, dict(state.wraps), state.erased_at) == (1, {1: WRAP}, None)


async def test_every_key_expires_exactly_when_it_should(store: RedisStore, connections: Connections) -> None:
    soon, late = NOW + HOUR, NOW + 5 * HOUR
    turn = a_turn(
        expires_at=late,
        groups=(a_group(number=0, expires_at=soon), a_group(number=1, expires_at=late)),
        heads=(b"h" * 16,),
    )

    await put(store, turn)

    expiries = {name: expiry for name, (_, expiry) in (await dump(connections)).items()}
    assert expiries == {
        keys.subject(ALICE): late,
        keys.index(ALICE): late,
        keys.conversation(ALICE, CONVERSATION): late,
        keys.annotation(ALICE, turn.turn): late,
        keys.head(ALICE, b"h" * 16): late,
        keys.record(ALICE, turn.turn, 0): soon,
        keys.record(ALICE, turn.turn, 1): late,
    }


async def test_the_second_put_of_a_turn_is_a_replay_and_changes_nothing(
    store: RedisStore, connections: Connections
) -> None:
    turn = a_turn(heads=(b"h" * 16,))
    await put(store, turn)
    before = await dump(connections)

    again = a_turn(turn=turn.turn, expires_at=NOW + 9 * HOUR, groups=(a_group(blob=b"other"),))
    assert await put(store, again) is PutStatus.REPLAYED

    assert await dump(connections) == before


async def test_a_shorter_lived_turn_shortens_nothing(store: RedisStore, connections: Connections) -> None:
    head = b"h" * 16
    long = a_turn(expires_at=NOW + 9 * HOUR, heads=(head,))
    await put(store, long)
    await put(store, a_turn(expires_at=NOW + HOUR, heads=(head,)))

    shared = [
        keys.subject(ALICE),
        keys.index(ALICE),
        keys.conversation(ALICE, CONVERSATION),
        keys.head(ALICE, head),
    ]
    assert {await ask(connections, "PEXPIRETIME", name) for name in shared} == {NOW + 9 * HOUR}
    assert await store.find_head(ALICE, head) == (CONVERSATION, long.turn, None)


async def test_a_longer_lived_turn_takes_the_shared_keys_along(
    store: RedisStore, connections: Connections
) -> None:
    head = b"h" * 16
    await put(store, a_turn(expires_at=NOW + HOUR, heads=(head,)))
    long = a_turn(expires_at=NOW + 9 * HOUR, heads=(head,))
    await put(store, long)

    shared = [keys.subject(ALICE), keys.index(ALICE), keys.conversation(ALICE, CONVERSATION)]
    assert {await ask(connections, "PEXPIRETIME", name) for name in shared} == {NOW + 9 * HOUR}
    assert await store.find_head(ALICE, head) == (CONVERSATION, long.turn, None)


async def test_an_expiry_that_was_taken_away_comes_back_with_the_next_turn(
    store: RedisStore, connections: Connections
) -> None:
    await put(store, a_turn())
    await ask(connections, "PERSIST", keys.subject(ALICE))

    await put(store, a_turn(expires_at=NOW + 2 * HOUR))

    assert await ask(connections, "PEXPIRETIME", keys.subject(ALICE)) == NOW + 2 * HOUR


@pytest.mark.parametrize(
    "turn",
    [
        pytest.param(a_turn(expires_at=NOW - HOUR), id="the whole turn"),
        pytest.param(
            a_turn(groups=(a_group(number=0), a_group(number=1, expires_at=NOW - HOUR))), id="one group"
        ),
        pytest.param(a_turn(expires_at=NOW - HOUR, groups=(a_group(),)), id="the annotation"),
    ],
)
async def test_what_has_expired_is_refused(
    turn: SealedTurn, store: RedisStore, connections: Connections
) -> None:
    assert await put(store, turn) is PutStatus.EXPIRED
    assert await dump(connections) == {}


@pytest.mark.parametrize(
    "turn",
    [
        pytest.param(a_turn(generation=2), id="another generation, with a wrap"),
        pytest.param(a_turn(generation=2, new_wrap=None), id="another generation"),
    ],
)
async def test_another_generation_than_the_store_has_is_refused(turn: SealedTurn, store: RedisStore) -> None:
    await put(store, a_turn())

    assert await put(store, turn) is PutStatus.KEY_CHANGED
    assert (await store.subject_state(ALICE)).wraps == {1: WRAP}


async def test_a_new_subject_without_a_key_is_refused(store: RedisStore, connections: Connections) -> None:
    assert await put(store, a_turn(new_wrap=None)) is PutStatus.KEY_CHANGED
    assert await dump(connections) == {}


async def test_the_known_key_needs_no_wrap(store: RedisStore) -> None:
    await put(store, a_turn())

    assert await put(store, a_turn(new_wrap=None)) is PutStatus.STORED


async def test_a_second_creator_of_a_key_reads_the_first_ones(store: RedisStore) -> None:
    await put(store, a_turn())

    assert await put(store, a_turn(new_wrap=b"X" * 64)) is PutStatus.KEY_CHANGED
    assert (await store.subject_state(ALICE)).wraps == {1: WRAP}


async def test_further_turns_may_carry_the_wrap_that_was_kept(store: RedisStore) -> None:
    assert await store.put([a_turn(), a_turn()]) == [PutStatus.STORED] * 2


async def test_of_many_creators_at_once_one_makes_the_key(store: RedisStore) -> None:
    wraps = [bytes([number]) * 64 for number in range(40)]

    statuses = await asyncio.gather(*(put(store, a_turn(new_wrap=wrap)) for wrap in wraps))

    assert sorted(map(str, statuses)) == ["-2"] * 39 + ["1"]
    winner = wraps[statuses.index(PutStatus.STORED)]
    assert (await store.subject_state(ALICE)).wraps == {1: winner}


async def test_no_key_is_made_over_turns_whose_key_has_vanished(
    store: RedisStore, connections: Connections
) -> None:
    await put(store, a_turn())
    await ask(connections, "DEL", keys.subject(ALICE))

    assert await put(store, a_turn(generation=2)) is PutStatus.KEY_CHANGED
    assert await ask(connections, "EXISTS", keys.subject(ALICE)) == 0


@pytest.mark.parametrize(
    "received_at, expected",
    [
        pytest.param(NOW - 1, PutStatus.ERASED, id="received before the erasure"),
        pytest.param(NOW, PutStatus.ERASED, id="received at the erasure"),
        pytest.param(NOW + 1, PutStatus.STORED, id="received after the erasure"),
    ],
)
async def test_the_erase_fence_is_about_time(
    received_at: int, expected: PutStatus, store: RedisStore, connections: Connections
) -> None:
    await ask(connections, "HSET", keys.subject(ALICE), "erased_at", NOW)

    assert await put(store, a_turn(received_at=received_at)) is expected
    assert ((await store.subject_state(ALICE)).generation is None) == (expected is PutStatus.ERASED)


async def test_after_an_erasure_a_new_key_takes_a_higher_generation(
    store: RedisStore, connections: Connections
) -> None:
    await ask(connections, "HSET", keys.subject(ALICE), "erased_at", NOW, "gen_floor", 3)
    state = await store.subject_state(ALICE)
    assert (state.generation, state.erased_at, state.generation_floor) == (None, NOW, 3)

    later = NOW + 1
    assert await put(store, a_turn(received_at=later, generation=3)) is PutStatus.KEY_CHANGED
    assert await put(store, a_turn(received_at=later, generation=4)) is PutStatus.STORED


async def test_a_new_generation_may_begin_while_erased_turns_are_still_being_removed(
    store: RedisStore, connections: Connections
) -> None:
    await put(store, a_turn())
    await ask(connections, "HDEL", keys.subject(ALICE), "gen", "w1")
    await ask(connections, "HSET", keys.subject(ALICE), "erased_at", NOW, "gen_floor", 1)

    assert await put(store, a_turn(received_at=NOW + 1, generation=2)) is PutStatus.STORED


@pytest.mark.parametrize("seen", [0, 2])
async def test_a_ledger_that_has_changed_since_the_decision_is_refused(seen: int, store: RedisStore) -> None:
    await store.append_event(ALICE, b"yes", expected_length=0, expires_at=NOW + HOUR)

    assert await put(store, a_turn(ledger_length=seen)) is PutStatus.LEDGER_CHANGED
    assert await put(store, a_turn(ledger_length=1)) is PutStatus.STORED


async def test_a_turn_prolongs_the_ledger_and_never_shortens_it(
    store: RedisStore, connections: Connections
) -> None:
    await store.append_event(ALICE, b"yes", expected_length=0, expires_at=NOW + 2 * HOUR)

    await put(store, a_turn(ledger_length=1, ledger_keep_until=NOW + HOUR))
    assert await ask(connections, "PEXPIRETIME", keys.ledger(ALICE)) == NOW + 2 * HOUR

    await put(store, a_turn(ledger_length=1, ledger_keep_until=NOW + 3 * HOUR))
    assert await ask(connections, "PEXPIRETIME", keys.ledger(ALICE)) == NOW + 3 * HOUR


async def test_a_turn_makes_no_ledger(store: RedisStore, connections: Connections) -> None:
    await put(store, a_turn(ledger_keep_until=NOW + HOUR))

    assert await ask(connections, "EXISTS", keys.ledger(ALICE)) == 0


async def test_nothing_of_a_person_lives_for_ever(store: RedisStore, connections: Connections) -> None:
    await store.append_event(ALICE, b"yes", expected_length=0, expires_at=NOW + 2 * HOUR)
    await put(store, a_turn(ledger_length=1, heads=(b"h" * 16, b"i" * 16)))
    await store.remember_stray([b"s" * 16], BOB, NOW + HOUR)
    await store.add_epoch_wrap(20_000, b"wrap")
    await store.swap_control("ring", None, b"ring")

    endless = {name for name, (_, expiry) in (await dump(connections)).items() if expiry == -1}
    assert all(name.startswith(FOREVER) for name in endless)
    assert len(endless) == 2


async def test_a_put_that_broke_off_leaves_only_what_expires_and_is_done_again_in_full(
    store: RedisStore, connections: Connections
) -> None:
    turn = a_turn()
    index = keys.conversation(ALICE, CONVERSATION)
    await ask(connections, "SET", index, "in the way", "PXAT", NOW + HOUR)

    assert await put(store, turn) is PutStatus.DAMAGED
    assert all(expiry > 0 for _, expiry in (await dump(connections)).values())
    assert await store.turn(ALICE, turn.turn) is None

    await ask(connections, "DEL", index)
    assert await put(store, turn) is PutStatus.STORED
    assert await store.turn(ALICE, turn.turn) is not None


async def test_one_bad_turn_does_not_spoil_its_batch(store: RedisStore) -> None:
    bad = a_turn(subject=BOB, annotation={})  # HSET refuses a hash without fields

    statuses = await store.put([a_turn(), bad, a_turn(expires_at=NOW - HOUR), a_turn()])

    assert statuses == [PutStatus.STORED, None, PutStatus.EXPIRED, PutStatus.STORED]


async def test_an_empty_batch_is_nothing(store: RedisStore) -> None:
    assert await store.put([]) == []


async def test_scripts_that_the_server_has_forgotten_are_given_to_it_again(
    store: RedisStore, connections: Connections
) -> None:
    await put(store, a_turn())
    await ask(connections, "SCRIPT", "FLUSH")

    turns = [a_turn(turn=bytes([number]) * 16) for number in range(1, 6)]
    assert await store.put(turns) == [PutStatus.STORED] * 5
    assert {row.turn for row in await store.conversation(ALICE, CONVERSATION)} >= {
        TurnId(bytes([number]) * 16) for number in range(1, 6)
    }


@pytest.mark.parametrize(
    "longer", [pytest.param(0, id="as long as before"), pytest.param(HOUR, id="for longer")]
)
async def test_without_memory_nothing_is_half_stored_and_nothing_evicted(
    store: RedisStore, connections: Connections, longer: int
) -> None:
    kept = a_turn()
    await put(store, kept)
    before = await dump(connections)
    await ask(connections, "CONFIG", "SET", "maxmemory", "1mb")
    try:
        assert await put(store, a_turn(expires_at=NOW + HOUR + longer)) is None
        assert await dump(connections) == before
    finally:
        await ask(connections, "CONFIG", "SET", "maxmemory", "0")


# Retries of one request.

ONE, TWO, THREE = (bytes([number]) * 16 for number in (1, 2, 3))


async def content(store: RedisStore, turn: bytes) -> bytes | None:
    [blob] = await store.records(ALICE, TurnId(turn), [0])
    return blob


async def kept(store: RedisStore) -> set[bytes]:
    return {row.turn async for row in store.annotations(ALICE)}


def saying(blob: bytes) -> tuple[SealedGroup, ...]:
    return (a_group(blob=blob),)


async def test_a_complete_answer_takes_the_place_of_an_attempt_that_was_not(
    store: RedisStore, connections: Connections
) -> None:
    attempt = an_attempt(
        ONE,
        groups=(a_group(number=0, blob=b"cut"), a_group(number=1, blob=b"drive")),
        annotation={b"body": b"cut"},
        heads=(b"c" * 16, b"q" * 16),
        completes=False,
    )
    later = NOW + 2 * HOUR
    whole = an_attempt(
        ONE,
        announced=TWO,
        waiting=ONE,
        expires_at=later,
        groups=(a_group(number=0, blob=b"whole", expires_at=later),),
        annotation={b"body": b"whole"},
        heads=(b"w" * 16, b"q" * 16),
        completes=True,
    )
    unaware = an_attempt(TWO, completes=True)

    assert [await put(store, turn) for turn in (attempt, unaware, whole, whole, attempt)] == [
        PutStatus.STORED, PutStatus.ATTEMPTED, PutStatus.STORED, PutStatus.REPLAYED, PutStatus.REPLAYED,
    ]  # fmt: skip

    assert await store.records(ALICE, whole.turn, [0, 1, 2]) == [b"whole", None, None]
    [found] = await store.conversation(ALICE, CONVERSATION)
    assert (found.annotation, found.ttl_expires_at) == ({b"body": b"whole"}, later)
    assert await kept(store) == {ONE}
    for head, asked in ((b"c", ASKED), (b"q", None), (b"w", None)):
        assert await store.find_head(ALICE, head * 16) == (CONVERSATION, ONE, asked)
    assert await store.find_attempt(ALICE, ASKED) is None


async def test_the_id_that_was_told_for_a_retry_leads_to_its_turn(store: RedisStore) -> None:
    await put(store, an_attempt(ONE, completes=False, richness=5))
    poorer = an_attempt(ONE, announced=TWO, waiting=ONE, completes=False, richness=4)
    whole = an_attempt(ONE, announced=THREE, waiting=ONE, completes=True)

    assert [await put(store, turn) for turn in (poorer, whole)] == [PutStatus.REPLAYED, PutStatus.STORED]

    for told in (ONE, TWO, THREE):
        found = await store.turn(ALICE, TurnId(told))
        assert found is not None
        assert found.turn == ONE


@pytest.mark.parametrize("richness, stays", [((3, 9), 1), ((9, 3), 0), ((3, 3), 0)])
async def test_of_two_attempts_that_were_cut_the_richer_stays(
    richness: tuple[int, int], stays: int, store: RedisStore
) -> None:
    first, second = (
        an_attempt(ONE, announced=own, waiting=known, completes=False, richness=size, groups=saying(blob))
        for own, known, size, blob in zip((ONE, TWO), (None, ONE), richness, (b"0", b"1"), strict=True)
    )
    await put(store, first)

    assert await put(store, second) is (PutStatus.STORED if stays else PutStatus.REPLAYED)
    assert await content(store, ONE) == b"01"[stays : stays + 1]
    assert await kept(store) == {ONE}
    third = an_attempt(ONE, announced=THREE, waiting=ONE, completes=False, richness=max(richness))
    assert await put(store, third) is PutStatus.REPLAYED


async def test_two_complete_answers_to_one_request_are_two_turns(store: RedisStore) -> None:
    turns = [an_attempt(turn, completes=True) for turn in (ONE, TWO)]

    assert [await put(store, turn) for turn in turns] == [PutStatus.STORED] * 2
    assert await kept(store) == {ONE, TWO}


async def test_what_is_cut_after_a_complete_answer_is_another_turn(store: RedisStore) -> None:
    await put(store, an_attempt(ONE, completes=True, received_at=NOW))

    assert await put(store, an_attempt(TWO, completes=False, received_at=NOW + 1)) is PutStatus.STORED
    assert await kept(store) == {ONE, TWO}


async def test_an_attempt_that_its_complete_retry_has_overtaken_is_not_kept(store: RedisStore) -> None:
    await put(store, an_attempt(TWO, completes=True, received_at=NOW + 1))

    late = an_attempt(ONE, completes=False, received_at=NOW, richness=9)
    assert await put(store, late) is PutStatus.REPLAYED
    assert await kept(store) == {TWO}
    found = await store.turn(ALICE, TurnId(ONE))
    assert found is not None
    assert found.turn == TWO


async def test_an_attempt_that_was_continued_is_not_replaced(store: RedisStore) -> None:
    await put(store, an_attempt(ONE, completes=False, groups=saying(b"cut")))
    await put(store, an_attempt(TWO, asked=b"R" * 16, completes=True, after=TurnId(ONE), parent=ASKED))

    for retry in (an_attempt(ONE, announced=THREE, waiting=ONE, completes=True),):
        assert await put(store, retry) is PutStatus.ATTEMPTED
    assert await store.find_attempt(ALICE, ASKED) is None
    assert await put(store, an_attempt(THREE, completes=True)) is PutStatus.STORED
    assert await content(store, ONE) == b"cut"


@pytest.mark.parametrize("completes, asked", [(False, ASKED), (True, None)], ids=["waits", "is complete"])
async def test_only_a_turn_that_waits_is_found_with_what_was_asked(
    store: RedisStore, *, completes: bool, asked: bytes | None
) -> None:
    """Who continues it ends its waiting; a complete one does not wait, so its pointers need not say for what."""
    await put(store, an_attempt(ONE, completes=completes, heads=(b"h" * 16,)))

    assert await store.find_head(ALICE, b"h" * 16) == (CONVERSATION, ONE, asked)


async def test_a_turn_that_continues_another_leaves_the_attempt_alone(store: RedisStore) -> None:
    await put(store, an_attempt(ONE, completes=False))
    await put(store, an_attempt(TWO, asked=b"R" * 16, completes=True, after=TurnId(THREE), parent=ASKED))

    assert await store.find_attempt(ALICE, ASKED) == ONE


async def test_who_found_that_it_is_no_retry_is_kept_beside_the_attempt(store: RedisStore) -> None:
    await put(store, an_attempt(ONE, completes=False, groups=saying(b"cut")))

    assert await put(store, an_attempt(TWO, waiting=ONE, completes=True)) is PutStatus.STORED
    assert await kept(store) == {ONE, TWO}
    assert await content(store, ONE) == b"cut"


async def test_attempts_of_two_people_or_at_two_requests_have_nothing_in_common(store: RedisStore) -> None:
    await put(store, an_attempt(ONE, completes=False))

    assert await put(store, an_attempt(TWO, completes=True, subject=BOB)) is PutStatus.STORED
    assert await put(store, an_attempt(THREE, completes=True, asked=b"R" * 16)) is PutStatus.STORED


async def test_an_attempt_that_has_gone_is_not_taken_for_kept(store: RedisStore) -> None:
    retry = an_attempt(ONE, announced=TWO, waiting=ONE, completes=True)

    assert await put(store, retry) is PutStatus.ATTEMPTED
    assert await kept(store) == set()


async def test_a_put_of_an_attempt_that_is_done_again_changes_nothing(
    store: RedisStore, connections: Connections
) -> None:
    await put(store, an_attempt(ONE, completes=False, richness=3))
    before = await dump(connections)

    assert await put(store, an_attempt(ONE, completes=False, richness=3)) is PutStatus.ATTEMPTED
    assert await put(store, an_attempt(ONE, completes=False, richness=3, waiting=ONE)) is PutStatus.REPLAYED
    assert await dump(connections) == before


async def test_a_retry_that_was_put_and_is_put_again_finds_itself_though_another_waits(
    store: RedisStore,
) -> None:
    await put(store, an_attempt(ONE, completes=False, received_at=NOW))
    retry = an_attempt(ONE, announced=TWO, waiting=ONE, completes=True, received_at=NOW)
    await put(store, retry)
    await put(store, an_attempt(THREE, completes=False, received_at=NOW + 5))

    assert await put(store, retry) is PutStatus.REPLAYED
    assert await put(store, an_attempt(ONE, completes=True)) is PutStatus.REPLAYED
    assert await kept(store) == {ONE, THREE}


@pytest.mark.parametrize(
    "first, second",
    [(True, True), (True, False), (False, False)],
    ids=["both complete", "then cut", "both cut"],
)
async def test_else_the_first_attempt_under_one_name_stays(
    first: bool, second: bool, store: RedisStore, connections: Connections
) -> None:
    waiting = None if first else ONE
    await put(store, an_attempt(ONE, completes=first, groups=saying(b"first"), is_named=True))
    before = await dump(connections)

    later = an_attempt(
        ONE, completes=second, groups=saying(b"second"), waiting=waiting, is_named=True, received_at=NOW + 1
    )
    assert await put(store, later) is PutStatus.REPLAYED
    assert await dump(connections) == before


async def test_a_name_whose_attempt_was_taken_in_by_another_turn_is_that_turn(store: RedisStore) -> None:
    await put(store, an_attempt(ONE, completes=False))
    await put(store, an_attempt(ONE, announced=TWO, waiting=ONE, completes=True))

    assert await put(store, an_attempt(TWO, is_named=True, completes=True)) is PutStatus.REPLAYED
    assert await kept(store) == {ONE}


async def test_a_turn_whose_name_came_late_is_found_by_both(store: RedisStore) -> None:
    late = an_attempt(ONE, announced=TWO, is_named=True, completes=True)
    again = an_attempt(ONE, announced=THREE, is_named=True, completes=True)

    assert [await put(store, turn) for turn in (late, again)] == [PutStatus.STORED, PutStatus.REPLAYED]
    assert await kept(store) == {ONE}
    for told in (ONE, TWO, THREE):
        assert await store.turn(ALICE, TurnId(told)) is not None


@pytest.mark.parametrize(
    "completes, lasts", [(False, 86_400_000), (True, 600_000)], ids=["a day", "ten minutes"]
)
async def test_the_mark_of_an_attempt_expires_with_it_or_soon(
    completes: bool, lasts: int, store: RedisStore, connections: Connections
) -> None:
    await put(store, an_attempt(ONE, completes=completes, expires_at=NOW + 100 * HOUR))
    now = await store.now()
    assert now < await ask(connections, "PEXPIRETIME", keys.attempt(ALICE, ASKED)) <= now + lasts

    soon = now + 60_000
    await put(store, an_attempt(TWO, completes=completes, asked=b"R" * 16, expires_at=soon))
    assert await ask(connections, "PEXPIRETIME", keys.attempt(ALICE, b"R" * 16)) == soon


async def test_the_other_name_of_a_turn_expires_with_it(store: RedisStore, connections: Connections) -> None:
    await put(store, an_attempt(ONE, announced=TWO, is_named=True, completes=True))

    assert await ask(connections, "PEXPIRETIME", keys.other_name(ALICE, TurnId(TWO))) == NOW + HOUR


async def test_a_retry_that_may_not_be_kept_leaves_the_attempt(
    store: RedisStore, connections: Connections
) -> None:
    await put(store, an_attempt(ONE, completes=False))
    before = await dump(connections)
    retry: dict[str, Any] = {"announced": TWO, "waiting": ONE, "completes": True}

    assert await put(store, an_attempt(ONE, **retry, ledger_length=1)) is PutStatus.LEDGER_CHANGED
    assert await put(store, an_attempt(ONE, **retry, expires_at=1)) is PutStatus.EXPIRED
    assert await dump(connections) == before


async def test_a_mark_that_somebody_else_has_written_harms_nothing(
    store: RedisStore, connections: Connections
) -> None:
    for mark in (b"", b"x", ONE + b"o", ONE + b"dx", ONE + b"?9"):
        await ask(connections, "SET", keys.attempt(ALICE, ASKED), mark, "PX", 60_000)
        status = await put(store, an_attempt(secrets.token_bytes(16), completes=False, waiting=ONE))
        assert status is PutStatus.STORED, mark


async def test_a_damaged_key_of_one_person_is_told_and_stops_nobody_else(
    store: RedisStore, connections: Connections
) -> None:
    await ask(connections, "SET", keys.conversation(ALICE, CONVERSATION), "not a sorted set", "EX", 60)
    damaged, whole = a_turn(), a_turn(subject=BOB)

    assert await store.put([damaged, whole]) == [PutStatus.DAMAGED, PutStatus.STORED]
