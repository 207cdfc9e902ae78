"""Logs and metrics have no place for content."""

import json
import logging
from collections.abc import Iterator

import pytest

from chatproxy.telemetry import JSONFormatter, Log, Metrics, TurnOutcome, configure_logging


def line_of(record: logging.LogRecord) -> dict[str, object]:
    found: dict[str, object] = json.loads(JSONFormatter().format(record))
    return found


def a_record(name: str, message: str, *args: object, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord(name, logging.ERROR, __file__, 1, message, args, info)


def test_an_event_of_our_own_is_shown_with_its_fields() -> None:
    record = a_record("chatproxy.store", "the store ended with status %d", 3)
    record.fields = {"count": 2}
    line = line_of(record)
    assert line["event"] == "the store ended with status 3"
    assert line["count"] == 2
    assert line["level"] == "error"


FOREIGN = {
    "a task": "Task exception was never retrieved\nfuture: <Task exception=RuntimeError('canary')>",
    "a callback": "Exception in callback handle('canary')",
    "a URL": "GET https://x/?q=canary",
    "a value": "bad value: canary",
}


@pytest.mark.parametrize("message", FOREIGN.values(), ids=FOREIGN)
def test_of_another_librarys_message_only_the_beginning_is_shown(message: str) -> None:
    line = line_of(a_record("asyncio", message))
    assert "canary" not in json.dumps(line)
    assert str(line["event"]).split()[0] == message.split(maxsplit=1)[0]


def test_arguments_of_another_librarys_message_are_not_shown() -> None:
    assert "canary" not in json.dumps(line_of(a_record("redis", "sent %s", "canary")))


def test_of_an_exception_only_its_type_and_place_are_shown() -> None:
    with pytest.raises(ValueError, match="canary") as raised:
        int("canary")
    line = line_of(a_record("chatproxy.x", "failed", error=raised.value))
    assert line["exception"] == "ValueError"
    assert "test_of_an_exception" in str(line["where"])
    assert "canary" not in json.dumps(line)


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    root.handlers = []
    yield root
    root.handlers = handlers
    root.setLevel(level)


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_libraries_that_would_log_requests_are_held_at_warning(
    level: str, root_logger: logging.Logger
) -> None:
    configure_logging(level)
    assert root_logger.level == getattr(logging, level.upper())
    for name in ("httpx", "httpcore", "redis", "asyncio"):
        assert logging.getLogger(name).getEffectiveLevel() >= logging.WARNING


def test_every_outcome_is_there_from_the_start_and_settling_counts_one() -> None:
    metrics = Metrics()
    text = metrics.render().decode()
    for outcome in TurnOutcome:
        assert f'chatproxy_turns_total{{outcome="{outcome}"}} 0.0' in text
    metrics.turns_seen.inc(3)
    metrics.settle(TurnOutcome.LOST)
    assert metrics.registry.get_sample_value("chatproxy_turns_pending") == 2
    assert metrics.registry.get_sample_value("chatproxy_turns_total", {"outcome": "lost"}) == 1


def test_a_log_has_no_place_for_text_but_its_fields(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        log = Log("x")
        log.debug("one", n=1)
        log.info("two")
        log.warning("three")
        log.error("four", failure=ValueError("canary"))
    assert [record.levelname for record in caplog.records] == ["DEBUG", "INFO", "WARNING", "ERROR"]
    assert "canary" not in "".join(JSONFormatter().format(record) for record in caplog.records)
