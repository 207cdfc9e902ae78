import pytest

from chatproxy.policy.instants import FIRST_INSTANT, LAST_INSTANT, format_instant, parse_instant


@pytest.mark.parametrize(
    "text, at",
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:01z", 1_000),
        ("1970-01-01 00:00:01Z", 1_000),
        ("1970-01-01T00:00:00.5Z", 500),
        ("1970-01-01T00:00:00.001999Z", 1),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1969-12-31T22:30:00-01:30", 0),
        ("1970-01-01T00:00:00-00:00", 0),
        ("1969-12-31T23:59:59.999Z", -1),
        ("0001-01-01T00:00:00Z", FIRST_INSTANT),
        ("9999-12-31T23:59:59.999Z", LAST_INSTANT),
    ],
)
def test_an_rfc_3339_instant_is_read_to_the_millisecond(text: str, at: int) -> None:
    assert at == parse_instant(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024-03-04",
        "2024-03-04T00:00:00",
        "2024-03-04T00:00Z",
        "20251010T000000Z",
        "2025-W41-5T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "2024-03-04T24:00:00Z",
        "2024-03-04T00:00:60Z",
        "2024-03-04T00:00:00.Z",
        "2024-03-04T00:00:00+24:00",
        "2024-03-04T00:00:00+00:60",
        "2024-03-04T00:00:00+0000",
        "2024-03-04T00:00:00Z\n",
        "٢025-10-10T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
        "1760054400000",
    ],
)
def test_anything_else_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must ") as refusal:
        parse_instant(text)

    assert not text or text not in str(refusal.value)


@pytest.mark.parametrize(
    "at, text",
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.001Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (FIRST_INSTANT, "0001-01-01T00:00:00Z"),
        (LAST_INSTANT, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_an_instant_is_written_in_utc_with_milliseconds_only_if_there_are_any(at: int, text: str) -> None:
    assert text == format_instant(at)
