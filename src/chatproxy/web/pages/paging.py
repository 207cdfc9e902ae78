"""Which part of a long list does a page show? Whole pages, by a number in the address; one beyond the last is the last."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

_A_PAGE = 20
_NUMBER = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)

EntryT = TypeVar("EntryT")


@dataclass(frozen=True, slots=True)
class Part(Generic[EntryT]):
    """One page of several."""

    entries: Sequence[EntryT]
    page: int
    pages: int


def page_number(text: str) -> int:
    """Return the page that *text* names; what names none is the first."""
    return int(text) if _NUMBER.fullmatch(text) else 1


def cut(entries: Sequence[EntryT], text: str) -> Part[EntryT]:
    """Return the page of *entries* that *text* names."""
    pages = max(1, math.ceil(len(entries) / _A_PAGE))
    page = min(page_number(text), pages)
    return Part(entries[(page - 1) * _A_PAGE : page * _A_PAGE], page, pages)
