"""A block of text, as several dialects have it: the words, and what they cite."""

from collections.abc import Mapping
from typing import Any

from chatproxy.model import Part, PartKind
from chatproxy.wire import media
from chatproxy.wire.origins import of_role


def text_block(block: Mapping[str, Any], role: str, *, cited: str) -> list[Part]:
    """Return the part that *block* is, whose ``text`` is a string; none if it was begun, and cut before the first word.

    *cited* names the member that holds its citations.
    """
    if not block["text"]:
        return []
    body = {"text": block["text"]}
    if block.get(cited):
        body["citations"] = media.without_content(block[cited])
    return [Part(PartKind.TEXT, of_role(role), body)]
