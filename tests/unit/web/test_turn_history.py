"""What became of turns is counted in steps of half an hour, and a day of it is kept."""

from chatproxy.telemetry import Metrics, TurnOutcome
from chatproxy.web.turn_history import STEP_MS, STEPS, History, together


class Clock:
    now = 100 * STEP_MS

    def __call__(self) -> int:
        return self.now


def test_what_happens_is_counted_in_its_step_and_once() -> None:
    metrics, clock = Metrics(), Clock()
    history = History(metrics, clock=clock)
    metrics.turns.labels(TurnOutcome.STORED).inc(3)
    history.look()
    history.look()
    clock.now += STEP_MS
    metrics.turns.labels(TurnOutcome.STORED).inc()
    metrics.turns.labels(TurnOutcome.LOST).inc(2)

    assert history.steps[100] == {"stored": 3}
    assert history.steps[101] == {"stored": 1, "lost": 2}


def test_no_more_than_a_day_is_kept() -> None:
    clock = Clock()
    history = History(Metrics(), clock=clock)
    for _ in range(2 * STEPS):
        history.look()
        clock.now += STEP_MS

    assert len(history.steps) == STEPS


def test_several_histories_add_up() -> None:
    assert together([{1: {"stored": 2}}, {1: {"stored": 1, "lost": 1}, 2: {}}]) == {
        1: {"stored": 3, "lost": 1},
        2: {},
    }
