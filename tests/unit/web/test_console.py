"""The console says in numbers what its pictures show, and what is missing."""

import re
from html.parser import HTMLParser

import pytest

from chatproxy.policy.periods import DAY_MS
from chatproxy.telemetry import Metrics, TurnOutcome
from chatproxy.web.console.charts import Bar, bar_chart
from chatproxy.web.console.page import ConsolePage, KeyAge, Keys, Numbers, View
from chatproxy.web.siblings import Report
from chatproxy.web.turn_history import STEP_MS
from chatproxy.workflows.census import DAYS, MONTHS, Census, Tally
from chatproxy.workflows.recall import OpenRecalls

NOW = 1_750_000_000_000


def a_view(**changes: object) -> View:
    metrics = Metrics()
    metrics.turns.labels(TurnOutcome.STORED).inc(1234)
    metrics.turns.labels(TurnOutcome.LOST).inc(5)
    metrics.decisions.labels("ELIGIBLE").inc(3)
    metrics.decisions.labels("CONSENT_REFUSED").inc(1)
    metrics.journal_bytes.set(3 << 20)
    values = {
        "node": "node-1",
        "now": NOW,
        "report": Report(metrics.render().decode(), [], {NOW // STEP_MS: {"stored": 7.0, "expired": 2.0}}),
        "census": Census(NOW, 40, (10, *[0] * (DAYS - 1)), (10, 30, *[0] * (MONTHS - 2))),
        "keys": Keys([KeyAge("KEK", 3, "PRIMARY", NOW)], "What was erased before X cannot be read."),
        "recalls": {},
    }
    return View(**{**values, **changes})  # type: ignore[arg-type]


def text_of(page: str) -> str:
    """What a reader without a screen is told."""
    parts: list[str] = []

    class Text(HTMLParser):
        def handle_data(self, data: str) -> None:
            parts.append(data)

    Text().feed(page)
    return " ".join(" ".join(parts).split())


def test_everything_stands_there_in_words_and_numbers() -> None:
    text = text_of(ConsolePage().render(a_view()))

    assert "stored 1,234 99.6 %" in text
    assert "faults 5" in text
    assert "ELIGIBLE 3 75.0 %" in text
    assert "40 turns" in text
    assert "10 end within 30 days" in text
    assert "3 MiB" in text
    assert "KEK 3 PRIMARY" in text
    assert "None is open." in text
    assert "Ready" in text


def test_what_is_wrong_stands_first_and_is_escaped() -> None:
    view = a_view(report=Report("", ["the store <away>"], {}), recalls={"set <1>": OpenRecalls(12, 3)})
    page = ConsolePage().render(view)

    assert "the store &lt;away&gt;" in page
    assert "set &lt;1&gt;" in page
    assert "set <1> 12 3" in text_of(page)
    assert "Ready" not in page


def test_what_cannot_be_told_is_said_to_be_missing() -> None:
    text = text_of(ConsolePage().render(a_view(census=None, keys=None, recalls=None)))

    assert "Not counted yet" in text
    assert "The keys cannot be told" in text
    assert "Open recalls cannot be told" in text


def test_nothing_on_the_page_runs_or_comes_from_elsewhere() -> None:
    page = ConsolePage().render(a_view())

    assert "<script" not in page
    assert " style=" not in page
    assert not re.findall(r"https?://", page)


def test_a_chart_has_a_bar_for_each_value_and_says_it() -> None:
    chart = bar_chart(
        [Bar("a", "a: 4", [("kept", 3), ("fault", 1)]), Bar("", "b: 0", [("kept", 0)])], caption="two"
    )

    assert chart.count("<rect") == 2
    assert "<title>a: 4</title>" in chart
    assert "<title>b: 0</title>" in chart
    heights = [float(height) for height in re.findall(r'height="([\d.]+)"/>', chart)]
    assert heights[0] == pytest.approx(3 * heights[1], rel=0.01)


def test_a_chart_of_nothing_is_empty() -> None:
    assert "<rect" not in bar_chart([], caption="none")


def test_numbers_are_read_as_they_were_written() -> None:
    metrics = Metrics()
    metrics.failures.labels('a"b').inc(2)
    metrics.failures.labels("c").inc(3)
    numbers = Numbers(metrics.render().decode())

    assert numbers.one("chatproxy_failures_total") == 5
    assert list(numbers.by("chatproxy_failures_total", "code").values()) == [3, 2]
    assert numbers.one("chatproxy_nothing") == 0


def test_a_tally_counts_by_day_and_month_what_is_not_over() -> None:
    tally = Tally(NOW)
    for ends_in in (-1, 0, 1, DAY_MS - 1, DAY_MS, 31 * DAY_MS, 4000 * DAY_MS):
        tally.add(NOW + ends_in)
    census = tally.census()

    assert census.turns == 5
    assert census.days[:2] == (2, 1)
    assert sum(census.days) == 3
    assert (census.months[0], census.months[1], census.months[-1]) == (3, 1, 1)
