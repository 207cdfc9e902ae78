"""So many at once or evenly, for each name, in bounded memory."""

import pytest

from chatproxy.rates import Buckets, Rate

MINUTE = 60_000


def taken(buckets: Buckets[str], *, now: int, tries: int, name: str = "ana") -> int:
    return sum(buckets.take(name, now=now) == 0 for _ in range(tries))


@pytest.mark.parametrize(
    "text, rate",
    [("120/1m", Rate(120, MINUTE)), ("1/1d", Rate(1, 86_400_000)), ("999999/1s", Rate(999_999, 1000))],
)
def test_a_rate_is_a_number_and_a_duration(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate
    assert str(rate) == text


@pytest.mark.parametrize(
    "text", ["", "120", "0/1m", "1/0s", "1/2d", "1/1y", "-1/1m", "1.5/1m", "1/m", "1 / 1m"]
)
def test_anything_else_is_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        Rate.parse(text)


@pytest.mark.parametrize("count", [1, 3, 7, 120, 999_983])
def test_a_full_bucket_gives_all_at_once_and_no_more(count: int) -> None:
    assert taken(Buckets(Rate(count, MINUTE)), now=10**13, tries=min(count, 1000) + 5) == min(count, 1000) + (
        5 if count > 1000 else 0
    )


def test_an_empty_bucket_says_when_there_is_one_again_and_then_there_is() -> None:
    buckets = Buckets[str](Rate(4, MINUTE))
    assert taken(buckets, now=0, tries=9) == 4
    wait = buckets.take("ana", now=5_000)
    assert wait == 10_000
    assert buckets.take("ana", now=5_000 + wait - 1) > 0
    assert buckets.take("ana", now=5_000 + wait) == 0
    assert buckets.take("ana", now=5_000 + wait) > 0


def test_who_asks_how_long_to_wait_takes_nothing() -> None:
    buckets = Buckets[str](Rate(4, MINUTE))
    assert [buckets.wait("ana", now=0) for _ in range(9)] == [0] * 9
    assert len(buckets) == 0
    assert taken(buckets, now=0, tries=9) == 4
    assert buckets.wait("ana", now=5_000) == 10_000 == buckets.take("ana", now=5_000)
    assert buckets.wait("ben", now=5_000) == 0
    assert buckets.wait("ana", now=15_000) == 0


def test_it_fills_evenly_and_never_over_its_size() -> None:
    buckets = Buckets[str](Rate(4, MINUTE))
    assert taken(buckets, now=0, tries=9) == 4
    assert taken(buckets, now=MINUTE // 2, tries=9) == 2
    assert taken(buckets, now=100 * MINUTE, tries=9) == 4


def test_one_does_not_use_what_is_anothers() -> None:
    buckets = Buckets[str](Rate(2, MINUTE))
    assert taken(buckets, now=0, tries=9) == 2
    assert taken(buckets, now=0, tries=9, name="ben") == 2


def test_a_clock_that_was_set_back_locks_nobody_out_for_longer_than_an_empty_bucket() -> None:
    buckets = Buckets[str](Rate(2, MINUTE))
    assert taken(buckets, now=100 * MINUTE, tries=2) == 2
    assert buckets.take("ana", now=0) <= MINUTE // 2
    assert taken(buckets, now=MINUTE, tries=9) >= 1


def test_memory_is_bounded_and_who_was_seen_last_is_kept() -> None:
    buckets = Buckets[str](Rate(1, 100 * MINUTE), most=10)
    for number in range(100):
        assert buckets.take(f"n{number}", now=number) == 0
        assert len(buckets) <= 10
    assert buckets.take("n99", now=100) > 0
    assert buckets.take("n0", now=100) == 0


def test_who_goes_on_asking_is_not_forgotten_for_who_came_later() -> None:
    buckets = Buckets[str](Rate(2, 100 * MINUTE), most=10)
    assert buckets.take("ana", now=0) == 0
    for number in range(9):
        assert buckets.take(f"n{number}", now=1) == 0
    assert buckets.take("ana", now=2) == 0
    for number in range(5):
        assert buckets.take(f"m{number}", now=3) == 0
    assert buckets.take("ana", now=4) > 0


def test_whose_bucket_is_full_again_is_forgotten() -> None:
    buckets = Buckets[str](Rate(10, MINUTE))
    for number in range(1000):
        buckets.take(f"n{number}", now=number * MINUTE)
    assert len(buckets) <= 2
