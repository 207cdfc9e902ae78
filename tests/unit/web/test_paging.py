"""Long lists in parts: nothing twice, nothing left out, whatever is added meanwhile."""

import pytest

from chatproxy.web.api.paging import MOST, USUAL, page_of
from chatproxy.web.api.problems import RefusedError

Entry = tuple[int, str]


def entries(count: int) -> list[Entry]:
    """Entries of which some have the same instant."""
    return [(number // 3, f"c_{number:04}") for number in range(count)]


def walk(found: list[Entry], *, limit: int) -> list[list[Entry]]:
    pages: list[list[Entry]] = []
    query = {"limit": str(limit)}
    while True:
        page, cursor = page_of(found, query, key=lambda entry: entry)
        pages.append(page)
        if cursor is None:
            return pages
        query["cursor"] = cursor


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 10, 11])
def test_the_parts_are_the_whole_newest_first(limit: int) -> None:
    pages = walk(entries(10), limit=limit)
    assert [entry for page in pages for entry in page] == sorted(entries(10), reverse=True)
    assert all(len(page) == limit for page in pages[:-1])
    assert pages[-1]


def test_of_nothing_there_is_one_empty_part() -> None:
    assert page_of([], {}, key=lambda entry: entry) == ([], None)


def test_without_a_limit_it_is_the_usual_one() -> None:
    page, cursor = page_of(entries(USUAL + 1), {}, key=lambda entry: entry)
    assert len(page) == USUAL
    assert cursor is not None


def test_what_is_added_meanwhile_repeats_nothing_and_hides_nothing() -> None:
    first, cursor = page_of(entries(10), {"limit": "4"}, key=lambda entry: entry)
    grown = [*entries(10), (99, "c_new"), (0, "c_0000-older")]
    rest, _ = page_of(grown, {"limit": "500", "cursor": cursor or ""}, key=lambda entry: entry)
    assert sorted([*first, *rest]) == sorted([*entries(10), (0, "c_0000-older")])


def test_a_cursor_whose_entry_has_gone_still_leads_on() -> None:
    _, cursor = page_of(entries(10), {"limit": "4"}, key=lambda entry: entry)
    left = sorted(entries(10), reverse=True)[4:]
    assert page_of(left, {"cursor": cursor or ""}, key=lambda entry: entry) == (left, None)


@pytest.mark.parametrize("limit", ["0", "-1", "01", "1.5", "", "all", str(MOST + 1), "9" * 30, "\u0663"])
def test_a_limit_that_is_none_is_refused(limit: str) -> None:
    with pytest.raises(RefusedError, match="limit must be"):
        page_of(entries(1), {"limit": limit}, key=lambda entry: entry)


@pytest.mark.parametrize(
    "cursor", ["", "x", "MS5j=", "Li4", "MS5jXzE=", "LTEuYw", "MDEuYw", "\xff", "M" * 5000, "MS5jXzEK"]
)
def test_a_cursor_that_no_answer_gave_is_refused(cursor: str) -> None:
    with pytest.raises(RefusedError, match="cursor must be"):
        page_of(entries(1), {"cursor": cursor}, key=lambda entry: entry)
