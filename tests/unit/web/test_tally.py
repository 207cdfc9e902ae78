"""Whose turn it is to take a client, of several workers."""

import os
import tempfile
from collections.abc import Iterator

import pytest

from chatproxy.web.tally import Tally, size


@pytest.fixture
def file() -> Iterator[int]:
    with tempfile.TemporaryFile() as zeros:
        zeros.write(bytes(size(2)))
        zeros.flush()
        yield zeros.fileno()


def test_who_is_alone_is_never_ahead(file: int) -> None:
    own = Tally(file, 0)
    own.note(7)

    assert not own.is_ahead(7)


@pytest.mark.parametrize(
    "own, other, is_ahead",
    [
        (0, 0, False),
        (1, 0, True),
        (7, 7, False),
        (8, 7, True),
        (9, 8, False),
        (10, 8, True),
        (900, 800, False),
    ],
)
def test_who_has_more_than_another_is_ahead_but_for_an_eighth(
    file: int, *, own: int, other: int, is_ahead: bool
) -> None:
    Tally(file, 3).note(other)

    assert Tally(file, 0).is_ahead(own) == is_ahead


def test_the_one_with_the_fewest_counts(file: int) -> None:
    Tally(file, 1).note(9)
    Tally(file, 2).note(2)

    assert Tally(file, 0).is_ahead(5)


def test_who_has_left_does_not_count(file: int) -> None:
    gone = Tally(file, 1)
    gone.note(0)
    gone.leave()

    assert not Tally(file, 0).is_ahead(5)


def test_where_nothing_can_be_noted_or_read_nobody_is_ahead() -> None:
    reading, writing = os.pipe()
    os.close(writing)
    unusable = Tally(reading, 0)

    unusable.note(5)
    unusable.leave()
    assert not unusable.is_ahead(5)
    os.close(reading)
