"""What is read of an image, a sound or a file: its type, size and digest, never its content (pitfall P14).

The digest is SHA-256 of the content itself, so that the same picture is the same part however it was sent. Of what
is only referred to, the URL may hold a secret or a name, so its digest stands for it; an id that the backend gave to
an upload stays.
"""

import binascii
import hashlib
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from chatproxy.wire.json_reading import require_shallow

_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{1024,}={0,2}")
"""Text of this length without a single space is no text."""


def from_bytes(content: bytes, mime: str) -> dict[str, Any]:
    """Describe *content*."""
    return {"mime": mime, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def from_base64(pieces: Iterable[str], mime: str) -> dict[str, Any]:
    """Describe the content that each of *pieces* holds a stretch of, in base64.

    What is not base64 is described as the text that it is.
    """
    texts = [piece.encode("utf-8", "surrogatepass") for piece in pieces]
    try:
        return from_bytes(b"".join(binascii.a2b_base64(text, strict_mode=True) for text in texts), mime)
    except binascii.Error:
        return from_bytes(b"".join(texts), mime)


def from_url(url: str, mime: str) -> dict[str, Any]:
    """Describe what *url* holds (``data:``) or points to; *mime* is what is known where the URL does not say."""
    if url[:5].lower() != "data:":
        return {"mime": mime, "url_sha256": hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()}
    head, _, content = url[5:].partition(",")
    declared, _, parameters = head.partition(";")
    if parameters.lower().endswith("base64"):
        return from_base64([content], declared or mime)
    return from_bytes(unquote_to_bytes(content.encode("utf-8", "surrogatepass")), declared or mime)


def without_content(block: object) -> Any:
    """Return *block*, JSON of a kind that no dialect knows, with media in it described and hints for caches left out.

    Raises UnreadableError if it is nested too deeply.
    """
    require_shallow(block)
    return _described(block)


def _described(value: object) -> object:
    if isinstance(value, str):
        if _is_data_url(value):
            return from_url(value, "")
        return from_base64([value], "") if _BASE64.fullmatch(value) else value
    if isinstance(value, list):
        return [_described(item) for item in value]
    if not isinstance(value, dict):
        return value
    data = value.get("data")
    if value.get("type") == "base64" and isinstance(data, str):
        return from_base64([data], str(value.get("media_type") or ""))
    return {key: _described(item) for key, item in value.items() if key != "cache_control"}


def _is_data_url(text: str) -> bool:
    return text[:5].lower() == "data:" and ";base64," in text[:256]
