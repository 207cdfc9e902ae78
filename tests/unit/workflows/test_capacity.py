import math

import pytest

from chatproxy.workflows.capacity import Sample, days_until_full, read_samples, write_samples

HOUR, DAY = 3_600_000, 86_400_000


@pytest.mark.parametrize(
    "samples, days",
    [
        pytest.param([Sample(0, 0.1), Sample(DAY, 0.2)], 8.0, id="a tenth a day"),
        pytest.param([Sample(0, 0.1), Sample(HOUR, 0.9), Sample(2 * DAY, 0.3)], 7.0, id="from first to last"),
        pytest.param([Sample(0, 0.5), Sample(DAY, 0.4)], math.inf, id="it shrinks"),
        pytest.param([Sample(0, 0.9), Sample(DAY, 1.1)], 0.0, id="full already"),
    ],
)
def test_growth_goes_on_as_it_was(samples: list[Sample], days: float) -> None:
    assert days_until_full(samples) == pytest.approx(days)


@pytest.mark.parametrize("samples", [[], [Sample(0, 0.1)], [Sample(0, 0.1), Sample(6 * HOUR - 1, 0.9)]])
def test_of_a_few_hours_nothing_is_foretold(samples: list[Sample]) -> None:
    assert math.isnan(days_until_full(samples))


def test_samples_are_read_as_written_and_no_more_than_a_week_of_them_is_kept() -> None:
    samples = [Sample(number * HOUR, number / 1000) for number in range(200)]
    assert read_samples(write_samples(samples)) == samples[-168:]


@pytest.mark.parametrize("value", [None, b"", b"1\n", b"a b\n", b"\xff"])
def test_what_is_not_readable_is_nothing(value: bytes | None) -> None:
    assert read_samples(value) == []
