"""What the scripts behind a later decision do, against a real server: all of it or nothing, and nothing late."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from chatproxy.model import ConversationTag, SubjectTag, TurnId
from chatproxy.ports import PutStatus, RedecidedTurn, RedecideStatus, SealedTurn
from chatproxy.store import keys
from chatproxy.store.connections import Connections
from chatproxy.store.redis import RedisStore
from integration.proxy_fixtures import all_keys
from integration.store_builders import ALICE, CONVERSATION, HOUR, NOW, a_group, a_turn

HEAD, OTHER_HEAD = b"h" * 16, b"o" * 16
LATE = NOW + 5 * HOUR


def kept(**overrides: Any) -> SealedTurn:
    values: dict[str, Any] = {
        "expires_at": LATE,
        "groups": (a_group(number=0, expires_at=LATE), a_group(number=1, expires_at=LATE)),
        "annotation": {b"mac": b"first", b"body": b"b"},
        "heads": (HEAD, OTHER_HEAD),
    }
    return a_turn(**(values | overrides))


def decided(turn: SealedTurn, /, **overrides: Any) -> RedecidedTurn:
    soon = NOW + 2 * HOUR
    change = RedecidedTurn(
        subject=turn.subject, turn=turn.turn, conversation=turn.conversation, expected_mac=b"first",
        ledger_length=0, generation=1, expires_at=soon, groups=(a_group(blob=b"anew", expires_at=soon),),
        dropped=(1,), annotation={b"mac": b"second", b"body": b"c"}, heads=turn.heads, ledger_keep_until=LATE,
    )  # fmt: skip
    return replace(change, **overrides)


async def redecide(store: RedisStore, change: RedecidedTurn) -> RedecideStatus | None:
    [status] = await store.redecide([change])
    return status


async def dump(connections: Connections) -> dict[bytes, Any]:
    names = await all_keys(connections)
    values = await connections.ask([["DUMP", name] for name in names])
    return dict(zip(names.items(), values, strict=True))  # type: ignore[arg-type]


async def test_a_decision_changes_record_annotation_index_and_heads_in_one_step(
    store: RedisStore, connections: Connections
) -> None:
    turn = kept()
    await store.put([turn])
    assert await redecide(store, decided(turn)) is RedecideStatus.CHANGED
    soon = NOW + 2 * HOUR
    assert await store.records(ALICE, turn.turn, [0, 1]) == [b"anew", None]
    found = await store.turn(ALICE, turn.turn)
    assert found is not None
    assert (found.annotation, found.ttl_expires_at) == ({b"mac": b"second", b"body": b"c"}, soon)
    ttl = await all_keys(connections)
    assert {ttl[keys.record(ALICE, turn.turn, 0)], ttl[keys.head(ALICE, HEAD)]} == {soon}
    [score] = await connections.ask([["ZSCORE", keys.index(ALICE), turn.turn]])
    assert int(float(score)) == soon


async def test_a_decision_may_lengthen_what_an_event_lengthens(
    store: RedisStore, connections: Connections
) -> None:
    turn = kept()
    await store.put([turn])
    later = NOW + 9 * HOUR
    change = decided(turn, expires_at=later, groups=(a_group(expires_at=later),))
    assert await redecide(store, change) is RedecideStatus.CHANGED
    ttl = await all_keys(connections)
    for name in (keys.subject(ALICE), keys.index(ALICE), keys.conversation(ALICE, CONVERSATION)):
        assert ttl[name] == later


@pytest.mark.parametrize(
    "overrides, status",
    [
        ({"expected_mac": b"another"}, RedecideStatus.OVERTAKEN),
        ({"ledger_length": 1}, RedecideStatus.LEDGER_CHANGED),
        ({"generation": 2}, RedecideStatus.KEY_CHANGED),
        ({"turn": TurnId(b"?" * 16)}, RedecideStatus.GONE),
    ],
)
async def test_a_decision_on_what_is_no_longer_so_changes_nothing(
    store: RedisStore, connections: Connections, overrides: dict[str, Any], status: RedecideStatus
) -> None:
    turn = kept()
    await store.put([turn])
    before = await dump(connections)
    assert await redecide(store, decided(turn, **overrides)) is status
    assert await dump(connections) == before


async def test_what_is_over_by_the_clock_of_the_store_goes(
    store: RedisStore, connections: Connections
) -> None:
    turn = kept()
    await store.put([turn])
    past = NOW - 1
    change = decided(turn, expires_at=past, groups=(a_group(expires_at=past),))
    assert await redecide(store, change) is RedecideStatus.GONE
    assert set(await all_keys(connections)) == {keys.subject(ALICE)}


async def test_a_group_that_is_over_by_the_clock_of_the_store_goes_alone(store: RedisStore) -> None:
    turn = kept()
    await store.put([turn])
    change = decided(turn, groups=(a_group(expires_at=NOW - 1),), dropped=())
    assert await redecide(store, change) is RedecideStatus.CHANGED
    assert await store.records(ALICE, turn.turn, [0, 1]) == [None, b"sealed"]


async def test_what_nothing_keeps_goes_with_all_that_points_to_it(
    store: RedisStore, connections: Connections
) -> None:
    turn = kept()
    await store.put([turn])
    gone = decided(turn, expires_at=None, groups=(), dropped=(0, 1), annotation={})
    assert await redecide(store, gone) is RedecideStatus.GONE
    assert set(await all_keys(connections)) == {keys.subject(ALICE)}


async def test_the_key_of_a_person_goes_with_the_last_of_what_it_is_for(
    store: RedisStore, connections: Connections
) -> None:
    turn = kept()
    await store.put([turn])
    await redecide(store, decided(turn, expires_at=None, groups=(), dropped=(0, 1), annotation={}))
    await store.trim(ALICE, [CONVERSATION])
    assert await all_keys(connections) == {}
    # What was under way meanwhile under that key is kept all the same.
    assert await store.put([kept()]) == [PutStatus.STORED]


async def test_the_head_of_another_turn_that_ended_alike_stays(store: RedisStore) -> None:
    first, second = kept(), kept(expires_at=LATE + HOUR, heads=(HEAD,))
    await store.put([first, second])
    await redecide(store, decided(first, expires_at=None, groups=(), dropped=(0, 1), annotation={}))
    found = await store.find_head(ALICE, HEAD)
    assert found is not None
    assert found.turn == second.turn
    assert await store.find_head(ALICE, OTHER_HEAD) is None


async def test_a_head_whose_turn_has_gone_finds_nothing(store: RedisStore, connections: Connections) -> None:
    turn = kept()
    await store.put([turn])
    await connections.ask([["DEL", keys.annotation(ALICE, turn.turn)]])
    assert await store.find_head(ALICE, HEAD) is None


async def test_a_key_of_another_type_is_damage_and_no_outage(
    store: RedisStore, connections: Connections
) -> None:
    turn = kept()
    await store.put([turn])
    await connections.ask([["DEL", keys.ledger(ALICE)], ["SET", keys.ledger(ALICE), b"x"]])
    assert await redecide(store, decided(turn)) is RedecideStatus.DAMAGED


async def test_indexes_go_with_the_last_of_what_they_are_for(
    store: RedisStore, connections: Connections
) -> None:
    other = ConversationTag(b"D" * 16)
    turn, elsewhere = kept(), kept(conversation=other, expires_at=NOW + 3 * HOUR, heads=())
    await store.put([turn, elsewhere])
    await redecide(store, decided(turn))
    await store.trim(ALICE, [CONVERSATION])
    ttl = await all_keys(connections)
    assert ttl[keys.conversation(ALICE, CONVERSATION)] == NOW + 2 * HOUR
    assert ttl[keys.conversation(ALICE, other)] == NOW + 3 * HOUR
    assert ttl[keys.index(ALICE)] == ttl[keys.subject(ALICE)] == NOW + 3 * HOUR


async def test_a_turn_that_came_meanwhile_keeps_its_indexes(
    store: RedisStore, connections: Connections
) -> None:
    turn = kept()
    await store.put([turn])
    await redecide(store, decided(turn))
    await store.put([kept(expires_at=LATE + HOUR, heads=())])
    await store.trim(ALICE, [CONVERSATION])
    ttl = await all_keys(connections)
    assert ttl[keys.conversation(ALICE, CONVERSATION)] == ttl[keys.index(ALICE)] == LATE + HOUR


async def test_trimming_takes_out_what_is_not_kept_any_more(
    store: RedisStore, connections: Connections
) -> None:
    turn = kept()
    await store.put([turn])
    await connections.ask([["ZADD", keys.conversation(ALICE, CONVERSATION), NOW, b"gone"]])
    await store.trim(ALICE, [CONVERSATION])
    [members] = await connections.ask([["ZRANGE", keys.conversation(ALICE, CONVERSATION), 0, -1]])
    assert members == [turn.turn]


async def test_the_fence_of_an_erasure_is_not_shortened(store: RedisStore, connections: Connections) -> None:
    turn = kept()
    await store.put([turn])
    fence = keys.subject(ALICE)
    await connections.ask([["HSET", fence, "erased_at", NOW - HOUR], ["PEXPIREAT", fence, LATE + HOUR]])
    await redecide(store, decided(turn))
    await store.trim(ALICE, [CONVERSATION])
    assert (await all_keys(connections))[fence] == LATE + HOUR


SINCE = NOW - 10 * HOUR
BEFORE, AFTER = SINCE - HOUR, SINCE + HOUR


@pytest.mark.parametrize(
    "there, received_at, grant_since, status",
    [
        ([], AFTER, SINCE, PutStatus.STORED),
        ([BEFORE], AFTER, SINCE, PutStatus.RESUMED),
        ([BEFORE], SINCE, SINCE, PutStatus.RESUMED),
        ([BEFORE, AFTER], AFTER + 1, SINCE, PutStatus.STORED),
        ([AFTER], BEFORE, SINCE, PutStatus.RESUMED),
        ([SINCE], BEFORE, SINCE, PutStatus.RESUMED),
        ([BEFORE], BEFORE + 1, SINCE, PutStatus.STORED),
        ([BEFORE], AFTER, 0, PutStatus.STORED),
    ],
)
async def test_a_put_tells_that_it_takes_a_conversation_up(
    store: RedisStore, there: list[int], received_at: int, grant_since: int, status: PutStatus
) -> None:
    await store.put([a_turn(received_at=at) for at in there])
    elsewhere = a_turn(received_at=AFTER, conversation=ConversationTag(b"D" * 16), grant_since=grant_since)
    await store.put([elsewhere])
    assert await store.put([a_turn(received_at=received_at, grant_since=grant_since)]) == [status]


@pytest.mark.parametrize(
    "there, received_at, grant_since, status",
    [
        pytest.param([], AFTER, SINCE, PutStatus.REPLAYED, id="alone"),
        pytest.param([AFTER], AFTER + 1, SINCE, PutStatus.REPLAYED, id="all since"),
        pytest.param([SINCE], AFTER, SINCE, PutStatus.REPLAYED, id="all since, one at the grant"),
        pytest.param([BEFORE], BEFORE + 1, SINCE, PutStatus.REPLAYED, id="all before"),
        pytest.param([BEFORE], SINCE, SINCE, PutStatus.RESUMED_BEFORE, id="first since"),
        pytest.param([BEFORE, AFTER], AFTER + 1, SINCE, PutStatus.RESUMED_BEFORE, id="one more since"),
        pytest.param([AFTER], BEFORE, SINCE, PutStatus.RESUMED_BEFORE, id="one from before"),
        pytest.param([BEFORE], AFTER, 0, PutStatus.REPLAYED, id="no grant"),
    ],
)
async def test_a_put_of_what_is_kept_already_tells_whether_its_conversation_lies_on_both_sides_of_a_yes(
    store: RedisStore, there: list[int], received_at: int, grant_since: int, status: PutStatus
) -> None:
    await store.put([a_turn(received_at=at) for at in there])
    turn = a_turn(received_at=received_at, grant_since=grant_since)
    await store.put([turn])
    assert await store.put([turn]) == [status]
    assert await store.put([turn]) == [status]


async def test_a_put_of_what_is_kept_elsewhere_is_not_sure(store: RedisStore) -> None:
    turn = a_turn(received_at=AFTER, grant_since=SINCE)
    await store.put([msgspec.structs.replace(turn, conversation=ConversationTag(b"D" * 16))])
    assert await store.put([turn]) == [PutStatus.RESUMED_BEFORE]


async def test_who_is_claimed_is_due_again_when_the_claim_lapses(store: RedisStore) -> None:
    people = [SubjectTag(bytes([number]) * 16) for number in range(40)]
    await store.mark_all_due(people, NOW)
    assert await store.people_due(NOW + 1) == 40
    assert await store.claim_due(now=NOW - 1, until=NOW + 20_000, most=16) == []
    found = set()
    while claimed := await store.claim_due(now=NOW + 1, until=NOW + 20_000, most=16):
        assert len(claimed) <= 16
        found |= {due.subject for due in claimed}
    # Lists are drawn by chance, so an empty answer alone does not say that nobody is left.
    for _ in range(100):
        found |= {due.subject for due in await store.claim_due(now=NOW + 1, until=NOW + 20_000, most=16)}
    assert found == set(people)
    assert await store.people_due(NOW + 1) == 0
    assert await store.people_due(NOW + 20_001) == 40


async def test_a_mark_that_comes_meanwhile_is_not_settled(store: RedisStore) -> None:
    await store.mark_due(ALICE, NOW)
    [due] = await store.claim_due(now=NOW + 1, until=NOW + 20_000, most=16)
    await store.mark_due(ALICE, NOW + 5)
    assert await store.put_off_due(due, until=NOW + 90_000) is None
    assert not await store.settle_due(due)
    assert await store.people_due(NOW + 6) == 1
    [due] = await store.claim_due(now=NOW + 6, until=NOW + 20_000, most=16)
    later = await store.put_off_due(due, until=NOW + 90_000)
    assert later is not None
    assert not await store.settle_due(due)
    assert await store.settle_due(later)
    assert await store.people_due(NOW + 900_000) == 0


async def test_a_walk_over_one_person_finds_everything_while_expiries_change(store: RedisStore) -> None:
    turns = [kept(heads=()) for _ in range(400)]
    await store.put(turns)
    found = set()
    async for stored in store.annotations(ALICE):
        found.add(stored.turn)
        if stored.annotation[b"mac"] == b"first":
            [turn] = [turn for turn in turns if turn.turn == stored.turn]
            await redecide(store, decided(turn))
    assert found == {turn.turn for turn in turns}
