"""Run the tests of every row of the fault matrix in docs/reliability.md, and say of each row whether it was survived.

Exit code 1 if a row was not. A row whose tests were all skipped here, or that another target runs, is said to be so.
"""

import logging
import os
import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent
_ELSEWHERE = {"tests/vault/": "make vault"}


class Invariants(logging.Handler):
    """Which invariants of the matrix were checked in each test, by its file and name."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.found: dict[str, set[str]] = defaultdict(set)
        logger = logging.getLogger("invariants")
        logger.setLevel(logging.INFO)
        logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Note what a test says that it has checked."""
        test = os.environ.get("PYTEST_CURRENT_TEST", "").partition(" (")[0].partition("[")[0]
        self.found[test] |= set(record.getMessage().split())


class Outcomes:
    """A pytest plugin: what became of each test, by its file and name."""

    def __init__(self) -> None:
        self.found: dict[str, set[str]] = defaultdict(set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a result; a test that was skipped in its set-up has no call."""
        if report.when == "call" or not report.passed:
            self.found[report.nodeid.partition("[")[0]].add(report.outcome)


def rows() -> list[tuple[str, str, list[str]]]:
    """Return the rows that have tests: their names, what goes wrong, and the tests."""
    found = []
    for line in (TOP / "docs" / "reliability.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if cells and re.match(r"F-\d", cells[0]):
            found.append((cells[0], cells[1], re.findall(r"`(tests/[\w/]+\.py::\w+)`", cells[-1])))
    return found


def verdict(tests: list[str], outcomes: Outcomes) -> str:
    """Say in a word or two what became of a row."""
    if not tests:
        return "no test"
    elsewhere = [target for test in tests for start, target in _ELSEWHERE.items() if test.startswith(start)]
    if elsewhere:
        return f"run by `{elsewhere[0]}`"
    became = [outcomes.found.get(test, {"not run"}) for test in tests]
    if any(each & {"failed", "not run"} for each in became):
        return "FAILED"
    return "skipped here" if any("skipped" in each for each in became) else "survived"


def main(arguments: list[str]) -> int:
    """Run everything and print the table."""
    matrix = rows()
    tests = sorted({test for _, _, each in matrix for test in each if not test.startswith(tuple(_ELSEWHERE))})
    outcomes, invariants = Outcomes(), Invariants()
    pytest.main(["-q", "--timeout=180", *arguments, *tests], plugins=[outcomes])
    counts: dict[str, int] = defaultdict(int)
    with_invariants = 0
    print()
    for name, what, each in matrix:
        said = verdict(each, outcomes)
        counts[said] += name.count("F-")
        held = sorted({held for test in each for held in invariants.found.get(test, ())})
        with_invariants += name.count("F-") if held else 0
        print(f"{name:9} {said:20} {' '.join(held):18} {what}")
    print(
        "\n"
        + ", ".join(f"{count} {said}" for said, count in sorted(counts.items(), key=lambda item: -item[1]))
        + f"; invariants were checked after {with_invariants}"
    )
    return 1 if counts["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
