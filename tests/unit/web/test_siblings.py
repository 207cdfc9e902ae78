"""What several workers have counted is put together as one node's."""

from pathlib import Path

import pytest

from chatproxy.telemetry import Metrics, TurnOutcome
from chatproxy.web.siblings import Alone, Siblings, add_up
from chatproxy.web.turn_history import STEP_MS, History


def counted(text: str, sample: str) -> float:
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(sample + " "))


def some_metrics(turns: int, *, listening: int, reach: float) -> str:
    metrics = Metrics()
    metrics.turns.labels(TurnOutcome.STORED).inc(turns)
    metrics.turns_seen.inc(2 * turns)
    metrics.failures.labels(f"code_{turns}").inc()
    metrics.store_seconds.labels("put").observe(0.004)
    metrics.listening.set(listening)
    metrics.backups_reach.set(reach)
    metrics.store_keys.set(7)
    metrics.store_offset.set(-turns)
    metrics.store_days_until_full.set(40 if turns == 2 else float("nan"))
    metrics.store_usable.set(listening)
    return metrics.render().decode()


def test_counters_and_histograms_add_up_and_of_what_all_say_the_worst_counts() -> None:
    text = add_up([some_metrics(1, listening=1, reach=50), some_metrics(2, listening=0, reach=20)])

    assert counted(text, 'chatproxy_turns_total{outcome="stored"}') == 3
    assert counted(text, "chatproxy_turns_pending") == 3
    assert counted(text, 'chatproxy_failures_total{code="code_1"}') == 1
    assert counted(text, 'chatproxy_failures_total{code="code_2"}') == 1
    assert counted(text, 'chatproxy_store_seconds_bucket{le="0.005",operation="put"}') == 2
    assert counted(text, "chatproxy_consent_listening") == 0
    assert counted(text, "chatproxy_backups_reach_seconds") == 50
    assert counted(text, "chatproxy_store_keys") == 7
    assert counted(text, "chatproxy_store_clock_offset_seconds") == -2
    assert counted(text, "chatproxy_store_days_until_full") == 40
    assert counted(text, "chatproxy_store_usable") == 0


def test_each_family_stands_once_with_its_own_samples() -> None:
    one = some_metrics(1, listening=1, reach=0)
    text = add_up([one, some_metrics(2, listening=1, reach=0)])

    assert add_up([one]).count("\n") == one.count("\n")
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [line for line in one.splitlines() if line.startswith("#")]
    family = ""
    for line in text.splitlines():
        family = line.split()[2] if line.startswith("# HELP") else family
        assert line.startswith(("#", family))


async def test_who_is_asked_answers_for_all_and_leaves_out_who_does_not(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.turns_seen.inc(2)
    metrics.turns.labels(TurnOutcome.STORED).inc(2)
    (tmp_path / "gone").touch()
    history = History(metrics, clock=lambda: 5 * STEP_MS)
    siblings = Siblings(tmp_path, Alone(metrics, history, unready=lambda: ["the store is away"]))
    async with siblings.present():
        said = await siblings.ask()
    assert counted(said.metrics, "chatproxy_turns_seen_total") == 2
    assert counted(said.metrics, "chatproxy_workers") == 1
    assert said.reasons == ["the store is away"]
    assert said.history[5]["stored"] == 2


@pytest.mark.parametrize("texts", [[], [""]])
def test_nothing_adds_up_to_nothing(texts: list[str]) -> None:
    assert add_up(texts) == ""
