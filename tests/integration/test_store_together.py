"""Who asks at the same time shares a round trip, and neither the other's replies nor the other's faults."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from chatproxy.errors import StoreUnavailableError, UndecryptableError
from chatproxy.model import SubjectTag
from chatproxy.store import keys
from chatproxy.store.connections import Command, Connections, Reply
from chatproxy.store.redis import RedisStore

PEOPLE = [SubjectTag(bytes([number]) * 16) for number in range(5)]


class Counted:
    """The real connections, which count round trips, and fail when told to."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self.asked: list[int] = []
        self.failure: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connections, name)

    async def ask(self, commands: Sequence[Command], *, confirmed: bool = False) -> list[Reply]:
        self.asked.append(len(commands))
        if self.failure is not None:
            raise self.failure
        return await self._connections.ask(commands, confirmed=confirmed)


@pytest.fixture
def counted(connections: Connections) -> Counted:
    return Counted(connections)


@pytest.fixture
async def store(counted: Counted, connections: Connections) -> RedisStore:
    await connections.ask([["RPUSH", keys.ledger(person), f"{person[0]}"] for person in PEOPLE])
    return RedisStore(counted)


async def test_people_who_are_read_at_once_are_read_in_one_round_trip_and_told_apart(
    store: RedisStore, counted: Counted
) -> None:
    found = await asyncio.gather(*map(store.subject_state, PEOPLE))

    assert [state.ledger for state in found] == [(b"%d" % person[0],) for person in PEOPLE]
    assert counted.asked == [2 * len(PEOPLE)]


async def test_who_comes_later_is_not_late_for_the_next(store: RedisStore, counted: Counted) -> None:
    first = asyncio.create_task(store.subject_state(PEOPLE[0]))
    while not counted.asked:
        await asyncio.sleep(0)
    second, _ = await asyncio.gather(store.subject_state(PEOPLE[1]), first)

    assert second.ledger == (b"1",)
    assert counted.asked == [2, 2]


async def test_of_a_crowd_so_many_go_together(store: RedisStore, counted: Counted) -> None:
    crowd = [SubjectTag(number.to_bytes(16, "big")) for number in range(1_000, 1_600)]

    assert not any(state.ledger for state in await asyncio.gather(*map(store.subject_state, crowd)))
    assert counted.asked == [512, 512, 176]


async def test_what_is_wrong_with_one_is_nobody_elses(store: RedisStore, connections: Connections) -> None:
    await connections.ask([["SET", keys.subject(PEOPLE[2]), "no hash"]])

    found = await asyncio.gather(*map(store.subject_state, PEOPLE), return_exceptions=True)

    assert [type(each) is UndecryptableError for each in found] == [False, False, True, False, False]


@pytest.mark.parametrize("failure", [StoreUnavailableError("away"), RuntimeError("a fault of ours")])
async def test_everybody_hears_that_nobody_answers(
    store: RedisStore, counted: Counted, failure: Exception
) -> None:
    counted.failure = failure

    found = await asyncio.gather(*map(store.subject_state, PEOPLE), return_exceptions=True)

    assert [(type(each), str(each)) for each in found] == [(type(failure), str(failure))] * len(PEOPLE)
    assert isinstance(failure, RuntimeError) or len(set(map(id, found))) == len(PEOPLE)


async def test_who_leaves_takes_nothing_from_the_others(store: RedisStore) -> None:
    leaving, staying = (asyncio.create_task(store.subject_state(person)) for person in PEOPLE[:2])
    await asyncio.sleep(0)
    leaving.cancel()

    assert (await staying).ledger == (b"1",)
    assert leaving.cancelled()
