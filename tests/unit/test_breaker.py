"""A source that keeps failing is left alone, longer each time, and one question tries whether it is back."""

from chatproxy.breaker import Breaker


def broken(failures: int = 5, *, now: float = 100.0) -> Breaker:
    breaker = Breaker()
    for _ in range(failures):
        assert breaker.lets_pass(now)
        breaker.failed(now)
    return breaker


def test_four_failures_in_a_row_are_put_up_with() -> None:
    assert broken(4).lets_pass(100.0)


def test_after_five_nothing_passes_for_a_second() -> None:
    breaker = broken()
    assert not breaker.lets_pass(100.0)
    assert not breaker.lets_pass(100.999)


def test_a_success_begins_the_count_anew() -> None:
    breaker = broken(4)
    breaker.succeeded()
    breaker.failed(100.0)
    assert breaker.lets_pass(100.0)


def test_one_question_tries_whether_it_is_back() -> None:
    breaker = broken()
    assert breaker.lets_pass(101.0)
    assert not breaker.lets_pass(101.0)
    breaker.succeeded()
    assert breaker.lets_pass(101.0)
    assert breaker.lets_pass(101.0)


def test_a_question_whose_outcome_is_never_told_holds_up_nobody_for_ever() -> None:
    breaker = broken()
    assert breaker.lets_pass(101.0)
    assert breaker.lets_pass(102.0)


def test_each_failed_try_doubles_the_pause_up_to_half_a_minute() -> None:
    breaker = broken()
    now = 101.0
    for pause in (2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        assert breaker.lets_pass(now)
        breaker.failed(now)
        assert not breaker.lets_pass(now + pause - 0.001)
        now += pause
    assert breaker.lets_pass(now)


def test_after_a_success_the_pause_is_short_again() -> None:
    breaker = broken(1)
    for _ in range(8):
        breaker.failed(0.0)
    breaker.succeeded()
    for _ in range(5):
        breaker.failed(200.0)
    assert breaker.lets_pass(201.0)
