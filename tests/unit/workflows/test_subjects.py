"""What is cached of people is never a stale yes: changes, readings and broken connections in every order."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chatproxy.consent.events import PURPOSES, Choice, write_choice
from chatproxy.crypto.keyset import make_keyset
from chatproxy.errors import StoreUnavailableError
from chatproxy.model import Caller, SubjectTag, Surface
from chatproxy.ports import SubjectState
from chatproxy.tasks import Background
from chatproxy.telemetry import Metrics
from chatproxy.workflows.subjects import Person, Subjects

KEYS = make_keyset(created_at=0).annotation_keys()
ANA, BEA = SubjectTag(b"A" * 16), SubjectTag(b"B" * 16)
CALLER = Caller(subject="ana", plan="pro")


class Gate:
    """A store that holds ledgers, whose answers wait until they are let go, and whose channel is a queue."""

    def __init__(self) -> None:
        self.ledgers: dict[SubjectTag, list[bytes]] = {}
        self.open = asyncio.Event()
        self.reads = 0
        self.failure: Exception | None = None
        self.channel: asyncio.Queue[SubjectTag | Exception] = asyncio.Queue()
        self.heard = asyncio.Event()
        self.refuses: Exception | None = None

    def choose(self, choice: Choice, subject: SubjectTag = ANA) -> None:
        ledger = self.ledgers.setdefault(subject, [])
        ledger.append(
            write_choice(
                subject=subject, choice=choice, at=len(ledger), by="t", method="t", purposes=PURPOSES,
                surfaces=(Surface.CHAT,), record_id="r", previous=ledger[-1] if ledger else None, keys=KEYS,
            )
        )  # fmt: skip

    async def subject_state(self, subject: SubjectTag) -> SubjectState:
        self.reads += 1
        seen = tuple(self.ledgers.get(subject, ()))
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        return SubjectState(generation=None, wraps={}, erased_at=None, ledger=seen)

    @asynccontextmanager
    async def changes(self) -> AsyncIterator[AsyncIterator[SubjectTag]]:
        if self.refuses is not None:
            raise self.refuses
        yield self._told()

    async def _told(self) -> AsyncIterator[SubjectTag]:
        while True:
            self.heard.set()
            item = await self.channel.get()
            if isinstance(item, Exception):
                raise item
            yield item


class Room:
    """Subjects over a gate, and a clock that is set by hand."""

    def __init__(self, *, most_cached: int = 100) -> None:
        self.gate = Gate()
        self.now = 1_000_000
        self.metrics = Metrics()
        self.background = Background(logging.getLogger("test"))
        self.woken = 0
        store: Any = self.gate
        self.subjects = Subjects(
            store, KEYS, clock=lambda: self.now, metrics=self.metrics, background=self.background,
            max_staleness_ms=60_000, most_cached=most_cached,
        )  # fmt: skip

    def wake(self) -> None:
        self.woken += 1

    async def listen(self) -> None:
        self.background.spawn(self.subjects.listen(self.wake), name="listen")
        await self.gate.heard.wait()

    async def tell(self, what: SubjectTag | Exception) -> None:
        self.gate.heard.clear()
        self.gate.channel.put_nowait(what)
        if not isinstance(what, Exception):
            await self.gate.heard.wait()

    async def broken(self) -> None:
        await self.tell(StoreUnavailableError("gone"))
        while self.counted("chatproxy_consent_listening"):
            await asyncio.sleep(0)

    def state(self, person: Person | None) -> str | None:
        if person is None or person.facts is None:
            return None
        choices = person.facts.choices(Surface.CHAT)
        return choices[-1][1] if choices else "unknown"

    def counted(self, sample: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(sample, labels) or 0.0


@pytest.fixture
async def room(anyio_backend: str) -> AsyncIterator[Room]:
    room = Room()
    room.gate.open.set()
    async with asyncio.timeout(20):
        yield room
    await room.background.aclose()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_ten_thousand_requests_of_one_person_are_one_reading(room: Room) -> None:
    room.gate.open.clear()
    for _ in range(10_000):
        room.subjects.prefetch(ANA, CALLER)
    await settle()
    waiting = [asyncio.ensure_future(room.subjects.read(ANA)) for _ in range(100)]
    await settle()
    room.gate.open.set()
    people = await asyncio.gather(*waiting)
    assert room.gate.reads == 1
    assert len({id(person) for person in people}) == 1
    assert room.counted("chatproxy_consent_lookups_total", result="read") == 1
    assert room.counted("chatproxy_consent_lookups_total", result="coalesced") == 9_999
    room.subjects.prefetch(ANA, CALLER)
    assert room.counted("chatproxy_consent_lookups_total", result="cached") == 1


async def test_a_change_that_is_heard_empties_the_place_of_its_person_alone(room: Room) -> None:
    await room.listen()
    await room.subjects.read(ANA)
    await room.subjects.read(BEA)
    woken = room.woken
    await room.tell(ANA)
    assert room.subjects.known(ANA) is None
    assert room.subjects.known(BEA) is not None
    assert room.woken == woken + 1


async def test_a_reading_from_before_a_change_does_not_come_back_after_it(room: Room) -> None:
    await room.listen()
    room.gate.choose(Choice.GIVEN)
    room.gate.open.clear()
    reading = asyncio.ensure_future(room.subjects.read(ANA))
    await settle()
    room.gate.choose(Choice.WITHDRAWN)
    await room.tell(ANA)
    room.gate.open.set()
    assert room.state(await reading) == "withdrawn"
    assert room.state(room.subjects.known(ANA)) == "withdrawn"
    assert room.gate.reads == 2


async def test_somebody_who_keeps_changing_is_read_three_times_and_not_remembered(room: Room) -> None:
    await room.listen()
    original = room.gate.subject_state

    async def changing(subject: SubjectTag) -> SubjectState:
        state = await original(subject)
        room.subjects.forget(subject)
        return state

    room.gate.subject_state = changing  # type: ignore[method-assign]
    assert room.state(await room.subjects.read(ANA)) == "unknown"
    assert room.subjects.known(ANA) is None
    assert room.gate.reads == 3


async def test_a_reading_from_before_hearing_began_is_read_again(room: Room) -> None:
    room.gate.choose(Choice.GIVEN)
    room.gate.open.clear()
    reading = asyncio.ensure_future(room.subjects.read(ANA))
    await settle()
    room.gate.choose(Choice.WITHDRAWN)
    await room.listen()
    room.gate.open.set()
    assert room.state(await reading) == "withdrawn"


async def test_what_was_known_before_hearing_began_does_not_count(room: Room) -> None:
    await room.subjects.read(ANA)
    await room.listen()
    assert room.subjects.known(ANA) is None


async def test_when_the_connection_breaks_nothing_is_known_any_more(room: Room) -> None:
    await room.listen()
    await room.subjects.read(ANA)
    room.gate.refuses = StoreUnavailableError("away")
    await room.broken()
    assert room.subjects.known(ANA) is None
    assert room.counted("chatproxy_consent_cached_people") == 0
    assert room.counted("chatproxy_store_failures_total", operation="listen") == 1


async def test_a_reading_that_runs_while_the_connection_breaks_is_read_again(room: Room) -> None:
    await room.listen()
    room.gate.choose(Choice.GIVEN)
    room.gate.open.clear()
    room.gate.refuses = StoreUnavailableError("away")
    reading = asyncio.ensure_future(room.subjects.read(ANA))
    await settle()
    await room.broken()
    room.gate.choose(Choice.WITHDRAWN)
    room.gate.open.set()
    assert room.state(await reading) == "withdrawn"


async def test_while_nothing_is_heard_what_is_cached_counts_for_half_a_second(room: Room) -> None:
    await room.subjects.read(ANA)
    room.now += 500
    assert room.subjects.known(ANA) is not None
    room.now += 1
    assert room.subjects.known(ANA) is None


async def test_while_changes_are_heard_what_is_cached_counts_for_its_time(room: Room) -> None:
    await room.listen()
    await room.subjects.read(ANA)
    room.now += 60_000
    assert room.subjects.known(ANA) is not None
    room.now += 1
    assert room.subjects.known(ANA) is None


async def test_a_clock_that_goes_back_makes_nothing_young(room: Room) -> None:
    await room.listen()
    await room.subjects.read(ANA)
    room.now -= 60_001
    assert room.subjects.known(ANA) is None


async def test_hearing_begins_again_by_itself_whatever_ended_it(room: Room) -> None:
    await room.listen()
    for end in (StoreUnavailableError("gone"), RuntimeError("unforeseen")):
        await room.tell(end)
        await room.gate.heard.wait()
        assert room.counted("chatproxy_consent_listening") == 1


async def test_no_more_than_so_many_people_are_cached_and_the_least_asked_for_goes(room: Room) -> None:
    small = Room(most_cached=2)
    small.gate.open.set()
    cal = SubjectTag(b"C" * 16)
    await small.subjects.read(ANA)
    await small.subjects.read(BEA)
    assert small.subjects.known(ANA) is not None
    await small.subjects.read(cal)
    assert small.subjects.known(BEA) is None
    assert small.subjects.known(ANA) is not None
    assert small.counted("chatproxy_consent_cached_people") == 2
    await small.background.aclose()


async def test_a_store_that_is_away_fails_whoever_waits_and_the_next_one_tries_again(room: Room) -> None:
    room.gate.failure = StoreUnavailableError("away")
    room.subjects.prefetch(ANA, CALLER)
    with pytest.raises(StoreUnavailableError):
        await room.subjects.read(ANA)
    assert room.counted("chatproxy_consent_lookups_total", result="failed") == 1
    room.gate.failure = None
    assert room.state(await room.subjects.read(ANA)) == "unknown"


async def test_one_who_leaves_does_not_take_the_reading_from_the_others(room: Room) -> None:
    room.gate.open.clear()
    leaving = asyncio.ensure_future(room.subjects.read(ANA))
    staying = asyncio.ensure_future(room.subjects.read(ANA))
    await settle()
    leaving.cancel()
    await settle()
    room.gate.open.set()
    assert room.state(await staying) == "unknown"


async def test_a_key_that_a_put_made_is_not_remembered_with_an_old_ledger(room: Room) -> None:
    await room.listen()
    person = await room.subjects.read(ANA)
    await room.tell(ANA)
    room.subjects.has_key(ANA, person, generation=1, wrap=b"w")
    assert room.subjects.known(ANA) is None
    person = await room.subjects.read(ANA)
    room.subjects.has_key(ANA, person, generation=1, wrap=b"w")
    known = room.subjects.known(ANA)
    assert known is not None
    assert known.state.wraps == {1: b"w"}


async def test_what_a_ledger_comes_to_is_held_once_for_all_who_have_never_chosen(room: Room) -> None:
    room.gate.choose(Choice.GIVEN, SubjectTag(b"C" * 16))
    ana, bea, chose = [await room.subjects.read(SubjectTag(name * 16)) for name in (b"A", b"B", b"C")]
    assert ana.facts is not None
    assert ana.facts is bea.facts
    assert [room.state(person) for person in (ana, bea, chose)] == ["unknown", "unknown", "given"]
    room.gate.choose(Choice.GIVEN)
    room.subjects.forget(ANA)
    again = await room.subjects.read(ANA)
    assert [room.state(person) for person in (again, bea)] == ["given", "unknown"]
