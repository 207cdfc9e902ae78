"""Where a deployment keeps pictures, sounds and files whole: which bytes of the bodies are they?

Dialects describe media by type, size and digest, and know nothing of this. Here the strings of the same bodies are
looked through for content of that size and digest, in base64, as ``data:`` URL or as text, and the description is
given the content. So it makes no difference to anything that is decided or matched by the description.

What is not in one string stays a digest: sound that is streamed in pieces, and what is only referred to. So do media
inside results of tools and blocks of unknown types, which are no parts of their own.
"""

import binascii
import hashlib
from base64 import b64encode
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec.structs import replace

from chatproxy.model import Message, Part, PartKind

_EVENT_FIELD = b"data:"


def with_content(messages: Sequence[Message], body: bytes, *, room: int) -> tuple[tuple[Message, ...], int]:
    """Give the media parts of *messages* the content that *body* holds, as ``base64``.

    *room*: bytes that may be given in all; a part that does not fit stays as it is. Returns the messages and the room
    that is left. Never raises.
    """
    sizes = {
        part.body["bytes"]
        for message in messages
        for part in message.parts
        if part.kind is PartKind.MEDIA and "sha256" in part.body and part.body["bytes"] <= room
    }
    found = _find(body, sizes) if sizes else {}
    filled = []
    for message in messages:
        parts = []
        for part in message.parts:
            content = found.get(part.body["sha256"]) if "sha256" in part.body else None
            if part.kind is PartKind.MEDIA and content is not None and len(content) <= room:
                room -= len(content)
                parts.append(
                    Part(part.kind, part.origin, {**part.body, "base64": b64encode(content).decode()})
                )
            else:
                parts.append(part)
        filled.append(replace(message, parts=tuple(parts)))
    return tuple(filled), room


def _find(body: bytes, sizes: set[int]) -> dict[str, bytes]:
    """Return what may be content of one of *sizes*, by its digest."""
    found = {}
    for text in _strings(body):
        for content in _readings(text):
            if len(content) in sizes:
                found[hashlib.sha256(content).hexdigest()] = content
    return found


def _strings(body: bytes) -> Iterator[str]:
    """Yield every string of a JSON body, or of a stream of JSON lines or events."""
    waiting: list[Any] = list(_documents(body))
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _documents(body: bytes) -> Iterator[object]:
    try:
        yield msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        for line in body.splitlines():
            try:
                yield msgspec.json.decode(line.removeprefix(_EVENT_FIELD))
            except (msgspec.MsgspecError, ValueError, RecursionError):
                continue


def _readings(text: str) -> Iterator[bytes]:
    """Yield what *text* may stand for: base64, alone or as ``data:`` URL; else itself."""
    as_bytes = text.encode("utf-8", "surrogatepass")
    if text[:5].lower() == "data:":
        as_bytes = as_bytes.partition(b",")[2]
        yield unquote_to_bytes(as_bytes)
    try:
        yield binascii.a2b_base64(as_bytes, strict_mode=True)
    except binascii.Error:
        yield as_bytes
