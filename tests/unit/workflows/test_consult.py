"""The consent service is asked once a person, waited for by whoever keeps, and believed only once it is recorded."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chatproxy.consent.events import ConsentEvent, read_ledger
from chatproxy.crypto.keyset import make_keyset
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.errors import ConsentSourceError, StoreUnavailableError
from chatproxy.model import Caller, SubjectTag
from chatproxy.policy.facts import Lookup
from chatproxy.policy.periods import Period
from chatproxy.ports import StatedChoice, SubjectState
from chatproxy.tasks import Background
from chatproxy.telemetry import Metrics
from chatproxy.workflows.consult import Consultations
from chatproxy.workflows.ledger import Ledger
from chatproxy.workflows.subjects import Subjects

KEYSET = make_keyset(created_at=0)
KEYS = KEYSET.annotation_keys()
ANA = SubjectTag(b"A" * 16)
CALLER = Caller(subject="ana", plan="pro", tenant="t")
YES = StatedChoice("1", "given", 100, ("train.capability",), ("chat",))


class Shelf:
    """A store of ledgers alone."""

    def __init__(self) -> None:
        self.ledger: list[bytes] = []
        self.is_away = False

    async def subject_state(self, subject: SubjectTag) -> SubjectState:
        if self.is_away:
            raise StoreUnavailableError("away")
        return SubjectState(generation=None, wraps={}, erased_at=None, ledger=tuple(self.ledger))

    async def append_event(
        self, subject: SubjectTag, event: bytes, *, expected_length: int, expires_at: int
    ) -> bool:
        self.ledger.append(event)
        return True

    async def mark_due(self, subject: SubjectTag, at: int) -> None:
        pass


class Room:
    """Consultations of a source that answers when it may."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.said: tuple[StatedChoice, ...] = (YES,)
        self.failure: Exception | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.asked: list[tuple[str, str]] = []
        self.changed: list[SubjectTag] = []
        self.shelf = Shelf()
        self.metrics = Metrics()
        self.background = Background(logging.getLogger("test"))
        store: Any = self.shelf
        source: Any = self
        self.consultations = Consultations(
            source,
            Ledger(store, KEYS, training=Period(years=5), new_record_id=lambda: "r", clock=lambda: self.now),
            Pseudonymizer(KEYSET.pseudonyms.key),
            clock=lambda: self.now, metrics=self.metrics, background=self.background, max_staleness_ms=60_000,
        )  # fmt: skip
        self.subjects = Subjects(
            store, KEYS, clock=lambda: self.now, metrics=self.metrics, background=self.background,
            max_staleness_ms=60_000, consultations=self.consultations,
        )  # fmt: skip

    async def choices(self, *, tenant: str, subject: str) -> tuple[StatedChoice, ...]:
        self.asked.append((tenant, subject))
        await self.may_answer.wait()
        if self.failure is not None:
            raise self.failure
        return self.said

    def begin(self) -> None:
        self.consultations.begin(ANA, CALLER, when_changed=self.changed.append)

    async def finish(self) -> bool:
        return await self.consultations.finish(ANA, CALLER, when_changed=self.changed.append)

    @property
    def words(self) -> list[str]:
        return [
            str(event.choice) if isinstance(event, ConsentEvent) else str(event.kind)
            for event in read_ledger(self.shelf.ledger, subject=ANA, keys=KEYS)
        ]

    def counted(self, result: str) -> float:
        name = "chatproxy_consent_service_answers_total"
        return self.metrics.registry.get_sample_value(name, {"result": result}) or 0.0


@pytest.fixture
async def room(anyio_backend: str) -> AsyncIterator[Room]:
    room = Room()
    async with asyncio.timeout(20):
        yield room
    await room.background.aclose()


async def test_a_thousand_requests_at_once_are_one_question(room: Room) -> None:
    room.may_answer.clear()
    for _ in range(1000):
        room.begin()
    assert room.consultations.is_pending(ANA)
    waiting = [asyncio.ensure_future(room.finish()) for _ in range(10)]
    await asyncio.sleep(0)
    room.may_answer.set()
    assert await asyncio.gather(*waiting) == [True] * 10
    assert room.asked == [("t", "ana")]
    assert not room.consultations.is_pending(ANA)


async def test_what_was_copied_is_told_and_what_was_there_is_not(room: Room) -> None:
    assert await room.finish()
    assert (room.words, room.changed) == (["given"], [ANA])
    room.now += 60_001
    assert await room.finish()
    assert (room.words, room.changed) == (["given"], [ANA])


async def test_somebody_who_was_answered_about_within_a_second_is_not_asked_about(room: Room) -> None:
    await room.finish()
    room.now += 1_000
    room.begin()
    assert len(room.asked) == 1
    room.now += 1
    room.begin()
    await room.finish()
    assert len(room.asked) == 2


async def test_an_answer_counts_for_its_time_and_is_asked_for_again_then(room: Room) -> None:
    await room.finish()
    room.now += 60_000
    assert room.consultations.is_fresh(ANA)
    assert await room.finish()
    assert len(room.asked) == 1
    room.now += 1
    assert not room.consultations.is_fresh(ANA)
    assert await room.finish()
    assert len(room.asked) == 2


async def test_an_answer_counts_while_a_younger_question_fails(room: Room) -> None:
    await room.finish()
    room.failure = ConsentSourceError("timeout")
    room.now += 30_000
    room.begin()
    assert await room.finish()
    room.now += 30_001
    assert not await room.finish()
    assert room.counted("timeout") == 2


async def test_whoever_keeps_does_not_ask_again_what_has_just_failed(room: Room) -> None:
    room.failure = ConsentSourceError("timeout")
    assert not await room.finish()
    assert not await room.finish()
    assert len(room.asked) == 1
    room.now += 1_001
    assert not await room.finish()
    assert len(room.asked) == 2


async def test_an_answer_that_cannot_be_recorded_is_none(room: Room) -> None:
    room.shelf.is_away = True
    assert not await room.finish()
    assert room.counted("not_recorded") == 1
    assert not room.consultations.is_fresh(ANA)


async def test_what_is_kept_without_an_answer_is_noted_once_until_there_is_one(room: Room) -> None:
    room.failure = ConsentSourceError("timeout")
    for _ in range(3):
        person, lookup = await room.subjects.to_keep(ANA, CALLER, may_wait=True)
        assert lookup is Lookup.FAILED
        assert person.facts is not None
        assert person.facts.are_choices_unread
    assert room.words == ["choices_unread"]
    room.failure = None
    room.now += 1_001
    person, lookup = await room.subjects.to_keep(ANA, CALLER, may_wait=True)
    assert lookup is Lookup.OK
    assert room.words == ["choices_unread", "given", "choices_read"]
    assert len(person.state.ledger) == 3


async def test_where_there_is_no_time_to_wait_what_is_pending_is_no_answer(room: Room) -> None:
    room.may_answer.clear()
    room.subjects.prefetch(ANA, CALLER)
    _, lookup = await room.subjects.to_keep(ANA, CALLER, may_wait=False)
    assert lookup is Lookup.FAILED
    room.may_answer.set()
    await room.finish()
    _, lookup = await room.subjects.to_keep(ANA, CALLER, may_wait=False)
    assert lookup is Lookup.OK


async def test_nobody_is_not_asked_about(room: Room) -> None:
    _, lookup = await room.subjects.to_keep(ANA, Caller(), may_wait=True)
    assert lookup is Lookup.OK
    assert room.asked == []


async def test_what_the_head_of_an_answer_says_waits_for_no_service(room: Room) -> None:
    person = await room.subjects.read(ANA)
    assert room.subjects.lookup(ANA, person) is Lookup.FAILED
    room.may_answer.clear()
    room.subjects.prefetch(ANA, CALLER)
    assert room.subjects.lookup(ANA, person) is None
    room.may_answer.set()
    await room.finish()
    person = await room.subjects.read(ANA)
    assert room.subjects.lookup(ANA, person) is Lookup.OK
    room.now += 60_001
    assert room.subjects.lookup(ANA, person) is Lookup.STALE
