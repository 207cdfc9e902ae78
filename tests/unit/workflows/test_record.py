"""The recorder remembers what passes, within its bounds, and ends once."""

from chatproxy.journal import MemoryJournal
from chatproxy.model import Caller, StreamEnd, TurnId
from chatproxy.telemetry import Metrics
from chatproxy.workflows.record import Capture, Recorder


def a_recorder(journal: MemoryJournal, metrics: Metrics, *, limit: int = 1 << 20) -> Recorder:
    capture = Capture(
        journal, metrics, limit=limit, never_kept=lambda _: None, new_turn_id=lambda: TurnId(b"t" * 16)
    )
    opened = capture.begin(Caller(), dialect="openai_chat", request_encoding="", received_at=0)
    assert isinstance(opened, Recorder)
    return opened


async def test_what_comes_after_the_end_is_not_remembered_and_the_end_comes_once() -> None:
    journal, metrics = MemoryJournal(1 << 20), Metrics()
    recorder = a_recorder(journal, metrics)
    recorder.request(b"ask")
    recorder.finish(StreamEnd.COMPLETE)
    recorder.reply(b"late")
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


def test_a_copy_without_room_is_lost_once_and_frees_what_it_held() -> None:
    journal, metrics = MemoryJournal(10_000), Metrics()
    recorder = a_recorder(journal, metrics)
    recorder.request(b"x" * 1000)
    recorder.reply(b"y" * 20_000)
    recorder.reply(b"z")
    recorder.finish(StreamEnd.COMPLETE)
    assert (journal.held_bytes, journal.is_idle) == (0, True)
    assert metrics.registry.get_sample_value("chatproxy_turns_total", {"outcome": "lost"}) == 1
    assert metrics.registry.get_sample_value("chatproxy_turns_pending") == 0
