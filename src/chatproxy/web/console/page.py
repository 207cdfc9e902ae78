"""What the console shows: gathered from the workers' numbers, the last walk over the store, and the keys.

Nothing personal is among it, and nothing can be changed here. What cannot be had at the moment is said to be missing;
the rest of the page stands.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from chatproxy.policy.instants import format_instant
from chatproxy.policy.periods import DAY_MS
from chatproxy.web.console.charts import Bar, bar_chart
from chatproxy.web.siblings import Report
from chatproxy.web.turn_history import STEP_MS, STEPS, Steps
from chatproxy.workflows.census import MONTH_MS, Census
from chatproxy.workflows.recall import OpenRecalls

_SAMPLE = re.compile(r"^(?P<name>[a-z_]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_KEPT = ("stored", "unparsed", "replayed")
_FAULTS = ("set_aside", "lost")
_SIX_HOURS = 12
_YEAR_MONTHS = 12


@dataclass(frozen=True, slots=True)
class KeyAge:
    """One version of a key that is not destroyed. Instants in ms."""

    purpose: str
    version: int
    status: str
    since: int


@dataclass(frozen=True, slots=True)
class Keys:
    """How old keys are, and the horizon in words."""

    ages: Sequence[KeyAge]
    horizon: str


@dataclass(frozen=True, slots=True)
class View:
    """Everything that one page is made of."""

    node: str
    now: int
    report: Report
    census: Census | None
    keys: Keys | None
    recalls: Mapping[str, OpenRecalls] | None
    """By dataset; None: that cannot be told."""


class Numbers:
    """Samples of a Prometheus text."""

    def __init__(self, text: str) -> None:
        self._samples: list[tuple[str, Mapping[str, str], float]] = [
            (found["name"], dict(_LABEL.findall(found["labels"] or "")), float(found["value"]))
            for found in _SAMPLE.finditer(text)
        ]

    def one(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        return sum(value for sample, _, value in self._samples if sample == name)

    def by(self, name: str, label: str) -> dict[str, float]:
        """Return a metric by one label, the largest first, without zeros."""
        found: dict[str, float] = {}
        for sample, labels, value in self._samples:
            if sample == name and value:
                found[labels[label]] = found.get(labels[label], 0) + value
        return dict(sorted(found.items(), key=lambda item: -item[1]))


class ConsolePage:
    """Renders views."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=PackageLoader("chatproxy.web.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(
            instant=format_instant, size=_size, count=lambda number: f"{number:,.0f}", share=_share
        )

    def render(self, view: View) -> str:
        """Return the page."""
        numbers = Numbers(view.report.metrics)
        turns = numbers.by("chatproxy_turns_total", "outcome")
        decisions = numbers.by("chatproxy_decisions_total", "reason")
        return self._environment.get_template("console.html").render(
            view=view,
            numbers=numbers,
            turns=turns,
            kept=sum(turns.get(outcome, 0) for outcome in _KEPT),
            faults=sum(turns.get(outcome, 0) for outcome in _FAULTS),
            decisions=decisions,
            decided=sum(decisions.values()),
            day_chart=bar_chart(
                list(_day_bars(view.report.history, view.now)),
                caption="Turns of the last day by outcome, by half hour",
            ),
            days_chart=view.census
            and bar_chart(
                list(_ends_by_day(view.census)), caption="Turns that end in each of the next 30 days"
            ),
            months_chart=view.census
            and bar_chart(
                list(_ends_by_month(view.census)), caption="Turns that end in each month of five years"
            ),
        )


def _day_bars(history: Steps, now: int) -> Iterator[Bar]:
    last = now // STEP_MS
    for number in range(last - STEPS + 1, last + 1):
        outcomes = history.get(number, {})
        kept = sum(outcomes.get(outcome, 0) for outcome in _KEPT)
        faults = sum(outcomes.get(outcome, 0) for outcome in _FAULTS)
        other = sum(outcomes.values()) - kept - faults
        at = format_instant(number * STEP_MS)[:16]
        yield Bar(
            at[11:] if number % _SIX_HOURS == 0 else "",
            f"{at}: {kept:,.0f} kept, {other:,.0f} not to be kept, {faults:,.0f} faults",
            [("kept", kept), ("other", other), ("fault", faults)],
        )


def _ends_by_day(census: Census) -> Iterator[Bar]:
    for day, turns in enumerate(census.days):
        date = format_instant(census.at + day * DAY_MS)[:10]
        yield Bar(date[5:] if day % 5 == 0 else "", f"from {date}: {turns:,} turns end", [("kept", turns)])


def _ends_by_month(census: Census) -> Iterator[Bar]:
    for month, turns in enumerate(census.months):
        date = format_instant(census.at + month * MONTH_MS)[:7]
        yield Bar(
            date[:4] if month % _YEAR_MONTHS == 0 else "",
            f"from {date}: {turns:,} turns end",
            [("kept", turns)],
        )


def _size(number: float) -> str:
    """Return bytes in words."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:  # noqa: PLR2004 - of a binary unit
            return f"{number:,.0f} {unit}"
        number /= 1024
    return f"{number:,.1f} TiB"


def _share(part: float, whole: float) -> str:
    """Return a share in percent."""
    return f"{100 * part / whole:.1f} %" if whole else "-"
