"""What of whom is in which dataset is noted only as long as nothing has happened to that person."""

import pytest

from chatproxy.ports import Uses
from chatproxy.store import keys
from chatproxy.store.connections import Connections
from chatproxy.store.lineage import RedisLineage
from integration.store_builders import ALICE, BOB, HOUR, NOW

DATASET = b"D" * 16
ENTRY = DATASET + b"T" * 16


@pytest.fixture
def lineage(connections: Connections) -> RedisLineage:
    return RedisLineage(connections)


async def test_the_link_is_made_once_and_goes_with_the_last_entry(
    lineage: RedisLineage, connections: Connections
) -> None:
    first = await lineage.use(ALICE, {}, ledger_length=0, erased_at=None, keep_until=NOW + HOUR)
    again = await lineage.use(
        ALICE, {ENTRY: b"x"}, ledger_length=0, erased_at=None, keep_until=NOW + 2 * HOUR
    )
    other = await lineage.use(BOB, {ENTRY: b"y"}, ledger_length=0, erased_at=None, keep_until=NOW + HOUR)
    assert first is not None
    assert first == again != other
    assert await lineage.uses(ALICE) == Uses(first, {ENTRY: b"x"})
    assert await connections.ask([["PEXPIRETIME", keys.uses(ALICE)]]) == [NOW + 2 * HOUR]
    assert sorted([subject async for subject in lineage.used()]) == [ALICE, BOB]
    await lineage.forget_uses(ALICE, [ENTRY])
    assert await lineage.uses(ALICE) is None
    assert await connections.ask([["EXISTS", keys.uses(ALICE)]]) == [0]


async def test_of_items_it_is_told_which_are_recalled(lineage: RedisLineage) -> None:
    many = {b"%016d" % number: b"%d" % number for number in range(1_001)}
    await lineage.recall(DATASET, many)
    await lineage.recall(b"E" * 16, {b"x" * 16: b"elsewhere"})

    assert await lineage.recalled(DATASET, [*many, b"x" * 16]) == many
    assert await lineage.recalled(DATASET, []) == {}


@pytest.mark.parametrize(
    "fields, ledger, seen, noted",
    [
        ({}, 1, (1, None), True),
        ({}, 2, (1, None), False),
        ({}, 0, (1, None), False),
        ({"erased_at": "5"}, 1, (1, 5), True),
        ({"erased_at": "5"}, 1, (1, None), False),
        ({"erased_at": "6"}, 1, (1, 5), False),
        ({"erased_at": "5", "erasing": "1"}, 1, (1, 5), False),
    ],
    ids=["as seen", "one more event", "ledger gone", "same fence", "fence", "another fence", "being erased"],
)
async def test_nothing_is_noted_that_was_decided_on_something_else(
    fields: dict[str, str], ledger: int, seen: tuple[int, int | None], noted: bool,
    lineage: RedisLineage, connections: Connections,
) -> None:  # fmt: skip
    for name, value in fields.items():
        await connections.ask([["HSET", keys.subject(ALICE), name, value]])
    for _ in range(ledger):
        await connections.ask([["RPUSH", keys.ledger(ALICE), "event"]])
    link = await lineage.use(
        ALICE, {ENTRY: b"x"}, ledger_length=seen[0], erased_at=seen[1], keep_until=NOW + HOUR
    )
    assert (link is not None, await lineage.uses(ALICE) is not None) == (noted, noted)


async def test_a_recall_stands_as_it_was_first_and_can_be_settled(lineage: RedisLineage) -> None:
    many = {b"%016d" % number: b"why" for number in range(1500)}
    assert await lineage.recall(DATASET, many) == 1500
    assert await lineage.recall(DATASET, {b"%016d" % 1: b"other"}) == 0
    found = {item: why async for item, why in lineage.recalls(DATASET)}
    assert found == many
    await lineage.settle_recalls(DATASET, {b"%016d" % 1: b"done", b"%016d" % 2: None})
    found = {item: why async for item, why in lineage.recalls(DATASET)}
    assert (len(found), found[b"%016d" % 1]) == (1499, b"done")
    assert [each async for each in lineage.recalls(b"E" * 16)] == []


async def test_what_is_noted_of_a_dataset_stays_as_it_was_first(lineage: RedisLineage) -> None:
    await lineage.add_dataset(DATASET, b"one")
    await lineage.add_dataset(DATASET, b"two")
    assert await lineage.datasets() == {DATASET: b"one"}
