"""The recorder remembers what passes, within its bounds, and ends once."""

from typing import Any

import pytest

from chatproxy.journal.memory import MemoryJournal
from chatproxy.model import Caller, StreamEnd, TurnId
from chatproxy.telemetry import Metrics
from chatproxy.workflows.record import Capture, Recorder

ANA = Caller(subject="ana")


def named(*pieces: bytes, key: bytes = b"k", **facts: Any) -> TurnId | None:
    """Return the name of the turn of a request in *pieces*, None where it has none."""
    recorder = a_recorder(MemoryJournal(1 << 20), Metrics(), key=key, **facts)
    for piece in pieces:
        recorder.request(piece)
    recorder.request_ended()
    return recorder.exchange.named


def a_recorder(
    journal: MemoryJournal,
    metrics: Metrics,
    *,
    limit: int = 1 << 20,
    caller: Caller = ANA,
    dialect: str = "openai_chat",
    key: bytes = b"",
) -> Recorder:
    capture = Capture(
        journal,
        metrics,
        limit=limit,
        never_kept=lambda _: None,
        new_turn_id=lambda: TurnId(b"t" * 16),
        name_turn=lambda caller, key, request: TurnId(repr((caller, key, request)).encode()),
    )
    opened = capture.begin(caller, dialect=dialect, request_encoding="", received_at=0, request_key=key)
    assert isinstance(opened, Recorder)
    return opened


async def test_what_comes_after_the_end_is_not_remembered_and_the_end_comes_once() -> None:
    journal, metrics = MemoryJournal(1 << 20), Metrics()
    recorder = a_recorder(journal, metrics)
    recorder.request(b"ask")
    recorder.finish(StreamEnd.COMPLETE)
    recorder.reply([b"late"], 4)
    recorder.finish(StreamEnd.INTERRUPTED)
    [exchange] = await journal.take(9)
    assert (exchange.request, exchange.reply, exchange.end) == ([b"ask"], [], StreamEnd.COMPLETE)
    journal.release(exchange)
    assert journal.is_idle
    assert journal.held_bytes == 0


async def test_a_copy_beyond_its_limit_is_marked_and_keeps_what_it_had() -> None:
    journal, metrics = MemoryJournal(1 << 20), Metrics()
    recorder = a_recorder(journal, metrics, limit=5)
    for piece in (b"abc", b"def", b"g"):
        recorder.request(piece)
    recorder.finish(StreamEnd.COMPLETE)
    [exchange] = await journal.take(9)
    assert (exchange.truncated, exchange.request) == (True, [b"abc"])


async def test_of_a_reading_that_goes_beyond_the_limit_the_pieces_before_it_are_kept() -> None:
    journal, metrics = MemoryJournal(1 << 20), Metrics()
    recorder = a_recorder(journal, metrics, limit=5)
    recorder.reply([b"ab", b"cd", b"ef", b"g"], 7)
    recorder.finish(StreamEnd.COMPLETE)
    [exchange] = await journal.take(9)
    assert (exchange.truncated, exchange.reply, exchange.size) == (True, [b"ab", b"cd"], 4)


def test_pieces_that_come_together_take_as_much_room_as_one_by_one() -> None:
    held = []
    for readings in ([[b"one", b"two", b"three"]], [[b"one"], [b"two"], [b"three"]]):
        journal = MemoryJournal(1 << 20)
        recorder = a_recorder(journal, Metrics())
        for pieces in readings:
            recorder.reply(pieces, len(b"".join(pieces)))
        held.append((journal.held_bytes, recorder.exchange.size, recorder.exchange.reply))
        recorder.finish(StreamEnd.COMPLETE)
        [exchange] = journal.take_now(1)
        journal.release(exchange)
        assert journal.held_bytes == 0
    assert held[0] == held[1]


def test_a_copy_without_room_is_lost_once_and_frees_what_it_held() -> None:
    journal, metrics = MemoryJournal(10_000), Metrics()
    recorder = a_recorder(journal, metrics)
    recorder.request(b"x" * 1000)
    recorder.reply([b"y" * 20_000], 20_000)
    recorder.reply([b"z"], 1)
    recorder.finish(StreamEnd.COMPLETE)
    assert (journal.held_bytes, journal.is_idle) == (0, True)
    assert metrics.registry.get_sample_value("chatproxy_turns_total", {"outcome": "lost"}) == 1
    assert metrics.registry.get_sample_value("chatproxy_turns_pending") == 0


def test_a_request_with_a_key_is_named_by_key_and_bytes_however_they_came() -> None:
    assert named(b"ask") == named(b"as", b"", b"k")
    assert named(b"ask") == named(b"ask", limit=1)
    assert len({named(b"ask"), named(b"other"), named(b"ask", key=b"l"), named(b"ask", dialect="x")}) == 4


@pytest.mark.parametrize(
    "facts", [{"key": b""}, {"key": b"k" * 256}, {"caller": Caller()}], ids=["none", "too long", "nobody"]
)
def test_what_has_no_key_of_a_person_is_a_turn_of_its_own(facts: dict[str, Any]) -> None:
    assert named(b"ask", **facts) is None
    assert named(b"ask", key=b"k" * 255) is not None


def test_a_turn_keeps_the_id_that_was_told_though_it_is_named_later() -> None:
    recorder = a_recorder(MemoryJournal(1 << 20), Metrics(), key=b"k")
    recorder.request(b"ask")
    recorder.head(200, "application/json", "")
    recorder.request_ended()
    assert (recorder.exchange.turn, recorder.exchange.named) == (b"t" * 16, named(b"ask"))


def test_a_request_that_never_came_whole_has_no_name() -> None:
    recorder = a_recorder(MemoryJournal(1 << 20), Metrics(), key=b"k")
    recorder.request(b"as")
    assert (recorder.exchange.turn, recorder.exchange.named) == (b"t" * 16, None)


def test_the_same_request_under_another_signal_or_plan_has_another_name() -> None:
    callers = [
        ANA,
        Caller(subject="ana", plan="pro"),
        Caller(subject="ana", incognito=True),
        Caller(subject="ana", train_ai_no=True),
    ]
    digests = set()
    for caller in callers:
        name = named(b"ask", caller=caller)
        assert name is not None
        digests.add(name.removeprefix(f"({caller!r}".encode()))
    assert len(digests) == len(callers)
