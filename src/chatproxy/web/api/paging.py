"""Which part of a long list is asked for? Newest first, by a cursor that stays right while the list grows.

A cursor says after which entry to go on, not how many to leave out: what is added at the top meanwhile neither repeats
nor hides anything.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, TypeVar

import msgspec

from chatproxy.web.api import problems
from chatproxy.web.api.operation import Query
from chatproxy.web.api.problems import RefusedError

USUAL = 100
MOST = 500
PAGING = (
    Query(
        "limit",
        f"How many at most; {USUAL} if it is left out.",
        Annotated[int, msgspec.Meta(ge=1, le=MOST)],
    ),
    Query("cursor", "Go on after the answer whose `next` this is."),
)
_LIMIT = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)
_CURSOR = re.compile(r"(0|[1-9][0-9]{0,15})\.([!-~]{0,200})", re.ASCII)

EntryT = TypeVar("EntryT")
Key = tuple[int, str]


def page_of(
    entries: Sequence[EntryT], query: Mapping[str, str], *, key: Callable[[EntryT], Key]
) -> tuple[list[EntryT], str | None]:
    """Return the part that *query* asks for, and the cursor to the next one; None: it was the last.

    ``key``: what entries are ordered by, highest first, each its own. Raises RefusedError.
    """
    limit = query.get("limit", str(USUAL))
    if not _LIMIT.fullmatch(limit) or int(limit) > MOST:
        raise RefusedError(problems.BAD_REQUEST, f"limit must be a whole number from 1 to {MOST}")
    ordered = sorted(entries, key=key, reverse=True)
    if (cursor := query.get("cursor")) is not None:
        after = _read(cursor)
        ordered = [entry for entry in ordered if key(entry) < after]
    shown = ordered[: int(limit)]
    return shown, _write(key(shown[-1])) if len(shown) < len(ordered) else None


def _write(key: Key) -> str:
    return urlsafe_b64encode(f"{key[0]}.{key[1]}".encode()).decode().rstrip("=")


def _read(cursor: str) -> Key:
    try:
        text = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except ValueError:
        text = ""
    match = _CURSOR.fullmatch(text)
    if match is None or _write((int(match[1]), match[2])) != cursor:
        raise RefusedError(problems.BAD_REQUEST, "cursor must be the `next` of an answer before")
    return int(match[1]), match[2]
