import pytest

from chatproxy.policy.instants import LAST_INSTANT, format_instant, parse_instant
from chatproxy.policy.periods import DAY_MS, Period, format_duration, parse_duration


@pytest.mark.parametrize(
    "begin, duration, end",
    [
        ("2025-10-10T00:00:00Z", "30d", "2025-11-09T00:00:00Z"),
        ("2025-10-10T12:34:56.789Z", "5y", "2030-10-10T12:34:56.789Z"),
        ("2028-02-29T23:59:59Z", "5y", "2033-02-28T23:59:59Z"),
        ("2028-02-29T00:00:00Z", "4y", "2032-02-29T00:00:00Z"),
        ("2096-02-29T00:00:00Z", "4y", "2100-02-28T00:00:00Z"),
        ("1996-02-29T00:00:00Z", "4y", "2000-02-29T00:00:00Z"),
        ("2027-02-28T00:00:00Z", "1y", "2028-02-28T00:00:00Z"),
        ("2027-03-01T00:00:00Z", "1y", "2028-03-01T00:00:00Z"),
        ("2025-12-31T23:59:59.999Z", "1y", "2026-12-31T23:59:59.999Z"),
        ("1969-12-31T23:59:59.999Z", "1y", "1970-12-31T23:59:59.999Z"),
        ("2025-03-29T12:00:00Z", "1d", "2025-03-30T12:00:00Z"),
        ("2025-10-10T00:00:00Z", "0d", "2025-10-10T00:00:00Z"),
        ("2025-10-10T00:00:00Z", "0y", "2025-10-10T00:00:00Z"),
    ],
)
def test_days_are_exact_and_years_keep_the_date(begin: str, duration: str, end: str) -> None:
    assert end == format_instant(parse_duration(duration).after(parse_instant(begin)))


@pytest.mark.parametrize("duration", ["5y", "9999y", "9999999999d"])
def test_no_period_ends_after_the_last_instant_that_can_be_written(duration: str) -> None:
    begin = parse_instant("9997-06-01T00:00:00Z")

    assert parse_duration(duration).after(begin) == LAST_INSTANT


@pytest.mark.parametrize(
    "text, period",
    [
        ("5y", Period(years=5)),
        ("2w", Period(ms=14 * DAY_MS)),
        ("30d", Period(ms=30 * DAY_MS)),
        ("12h", Period(ms=DAY_MS // 2)),
        ("90m", Period(ms=90 * 60_000)),
        ("60s", Period(ms=60_000)),
        ("0d", Period()),
    ],
)
def test_a_duration_is_a_number_and_a_unit(text: str, period: Period) -> None:
    assert period == parse_duration(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "30",
        "d",
        "30 d",
        " 30d",
        "30d ",
        "30d\n",
        "-1d",
        "+1d",
        "1.5d",
        "030d",
        "30D",
        "30days",
        "1y6m",
        "٣d",
        "1e3d",
        "99999999999d",
    ],
)
def test_a_duration_in_any_other_form_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="such as 30d, 12h or 5y"):
        parse_duration(text)


@pytest.mark.parametrize(
    "text, canonical",
    [
        ("5y", "5y"),
        ("2w", "14d"),
        ("48h", "2d"),
        ("36h", "36h"),
        ("90m", "90m"),
        ("61s", "61s"),
        ("0s", "0d"),
    ],
)
def test_a_period_is_written_in_the_largest_exact_unit(text: str, canonical: str) -> None:
    assert canonical == format_duration(parse_duration(text))


def test_a_fraction_of_a_second_cannot_be_written_as_a_duration() -> None:
    with pytest.raises(ValueError, match="whole number of seconds"):
        format_duration(Period(ms=1))


@pytest.mark.parametrize("parts", [{"ms": -1}, {"years": -1}, {"ms": 1, "years": 1}])
def test_a_period_is_either_time_or_years_and_not_negative(parts: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="not negative"):
        Period(**parts)
