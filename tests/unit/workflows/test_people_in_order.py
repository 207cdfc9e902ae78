"""Everybody comes once, in one order, however few are held at a time and wherever it goes on."""

import random
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from chatproxy.crypto.primitives import sha256
from chatproxy.model import SubjectTag
from chatproxy.workflows.people_in_order import PeopleInOrder, Smallest

TAGS = [SubjectTag(sha256(b"%d" % number)[:16]) for number in range(50)]


class Anywhere:
    """A store whose walk has no order, and repeats itself."""

    def __init__(self) -> None:
        self.walks = 0

    async def subjects(self) -> AsyncIterator[SubjectTag]:
        self.walks += 1
        for tag in random.sample(TAGS, len(TAGS)) + TAGS[:7]:
            yield tag


def place(tag: SubjectTag) -> bytes:
    return sha256(tag)[:16]


def in_order(store: Anywhere, most: int) -> PeopleInOrder:
    return PeopleInOrder(cast("Any", store), place, lambda tag: tag != TAGS[0], most=most)


EXPECTED = sorted((place(tag), tag) for tag in TAGS[1:])


@pytest.mark.parametrize("most", [1, 3, 7, 49, 50, 1000])
async def test_everybody_comes_once_and_in_order(most: int) -> None:
    store = Anywhere()
    found = [each async for each in in_order(store, most).after(None, inclusive=True)]
    assert found == EXPECTED
    assert store.walks == max(1, -(-49 // most))


@pytest.mark.parametrize("most", [1, 7, 1000])
@pytest.mark.parametrize("inclusive", [True, False])
async def test_it_goes_on_from_any_place(inclusive: bool, most: int) -> None:
    people = in_order(Anywhere(), most)
    for number in (0, 5, 48, 17, 18, 3):
        found = [each async for each in people.after(EXPECTED[number][0], inclusive=inclusive)]
        assert found == EXPECTED[number if inclusive else number + 1 :]


async def test_going_on_where_it_was_takes_no_walk_of_its_own() -> None:
    store = Anywhere()
    people = in_order(store, 1000)
    for at, _ in EXPECTED:
        async for _ in people.after(at, inclusive=True):
            break
    assert store.walks <= 2


def test_the_smallest_are_kept_and_what_lies_above_is_known_to_be_there() -> None:
    smallest: Smallest[bytes, int] = Smallest(3, b"b")
    for number, key in enumerate([b"z", b"c", b"a", b"b", b"e", b"d", b"f", b"y", b"c"]):
        smallest.offer(key, number)
    assert [key for key, _ in smallest.in_order()] == [b"c", b"d", b"e"]
    assert not smallest.is_all
