"""Of media a digest is kept, and never the content (P14)."""

import base64
import hashlib
import json

import pytest

from chatproxy.errors import UnreadableError
from chatproxy.wire import media
from unit.wire.bodies import PNG

PNG_BASE64 = "iVBORw0KGgo="


@pytest.mark.parametrize(
    "url",
    [
        f"data:image/png;base64,{PNG_BASE64}",
        f"DATA:image/png;name=x.png;BASE64,{PNG_BASE64}",
        "data:image/png,%89PNG%0D%0A%1A%0A",
        f"data:;base64,{PNG_BASE64}",
    ],
)
def test_the_same_picture_is_the_same_part_however_it_was_sent(url: str) -> None:
    assert media.from_url(url, "image/png") == PNG


@pytest.mark.parametrize("url", ["https://example.org/p.png?token=secret", "", "https://example.org/\ud83d"])
def test_a_url_is_kept_as_its_digest(url: str) -> None:
    digest = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()

    assert media.from_url(url, "image/*") == {"mime": "image/*", "url_sha256": digest}


@pytest.mark.parametrize("text", ["a", "no base64!", "é", "\ud83d"])
def test_what_is_not_base64_is_described_as_text(text: str) -> None:
    kept = media.from_base64([text], "audio/wav")

    assert kept == media.from_bytes(text.encode("utf-8", "surrogatepass"), "audio/wav")


def test_pieces_of_base64_are_one_content() -> None:
    pieces = [base64.b64encode(part).decode() for part in (b"a", b"bc", b"")]

    assert media.from_base64(pieces, "") == media.from_bytes(b"abc", "")


def test_a_block_of_an_unknown_type_keeps_no_content_either() -> None:
    payload = base64.b64encode(bytes(range(256)) * 50).decode()
    block = {
        "type": "hologram",
        "title": "mine",
        "source": {"type": "base64", "media_type": "image/png", "data": PNG_BASE64},
        "frames": [f"data:image/png;base64,{PNG_BASE64}", {"pixels": payload}],
        "cache_control": {"type": "ephemeral"},
        "nothing": None,
    }

    kept = media.without_content(block)

    assert kept["title"] == "mine"
    assert kept["source"] == PNG
    assert kept["frames"][0] == PNG
    assert kept["frames"][1]["pixels"]["bytes"] == 12_800
    assert "cache_control" not in kept
    assert "nothing" in kept
    assert payload not in json.dumps(kept)


def test_long_text_of_an_unknown_block_is_kept() -> None:
    text = "word " * 1000

    assert media.without_content({"type": "note", "words": text}) == {"type": "note", "words": text}


def test_a_block_nested_without_end_is_unreadable() -> None:
    block: object = {}
    for _ in range(500):
        block = {"inner": block}
    with pytest.raises(UnreadableError):
        media.without_content(block)
