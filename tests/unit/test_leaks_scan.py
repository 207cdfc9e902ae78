"""The scanner finds a canary in every form in which one may leak, names it, and shows nothing of what is around it."""

import base64
import gzip
import json
import random
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from chatproxy.leaks.canaries import make_canaries
from chatproxy.leaks.scan import Scanner

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def seeded(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - the same each time


NAMES = ("prompt", "completion", "subject")
CANARIES = make_canaries(NAMES, random=seeded(7).randbytes)
NOISE = seeded(8).randbytes(3000)
PROMPT = CANARIES["prompt"]


def raw_deflate(data: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-15)
    return encoder.compress(data) + encoder.flush()


def said(text: str = PROMPT) -> bytes:
    return f'my "secret" is\n{text}, do not tell'.encode()


FORMS: dict[str, Callable[[], bytes]] = {
    "as it is": said,
    "in JSON": lambda: json.dumps({"text": said().decode()}).encode(),
    "in JSON in JSON": lambda: json.dumps(json.dumps({"text": said().decode()})).encode(),
    "escaped to the last letter": lambda: "".join(f"\\u{ord(c):04x}" for c in said().decode()).encode(),
    "a repr of bytes": lambda: "".join(f"\\x{byte:02x}" for byte in said()).encode(),
    "URL-encoded": lambda: quote(said().decode()).encode(),
    "URL-encoded to the last letter": lambda: "".join(f"%{byte:02X}" for byte in said()).encode(),
    "hex": lambda: said().hex().encode(),
    "hex in capitals": lambda: said().hex().upper().encode(),
    "a dump": lambda: said().hex(" ").encode(),
    "a list of numbers": lambda: str(list(said())).encode(),
    "capitals": lambda: said().upper(),
    "backwards": lambda: said()[::-1],
    "UTF-16": lambda: said().decode().encode("utf-16"),
    "UTF-16, big end first": lambda: said().decode().encode("utf-16-be"),
    "UTF-32": lambda: said().decode().encode("utf-32"),
    "base64, phase 0": lambda: base64.b64encode(said()),
    "base64, phase 1": lambda: base64.b64encode(b"1" + said()),
    "base64, phase 2": lambda: base64.b64encode(b"12" + said()),
    "base64 for URLs": lambda: base64.urlsafe_b64encode(b"\xff\xfe" + said()),
    "base32": lambda: base64.b32encode(said()),
    "base32, phase 3": lambda: base64.b32encode(b"123" + said()),
    "gzip": lambda: gzip.compress(said() * 5),
    "zstd": lambda: zstd.compress(said() * 5),
    "zlib": lambda: zlib.compress(said() * 5),
    "zlib, stored": lambda: zlib.compress(said() * 5, 0),
    "zlib, best": lambda: zlib.compress(said() * 5, 9),
    "gzip in base64": lambda: base64.b64encode(gzip.compress(said() * 5)),
    "zlib in base64 for URLs": lambda: base64.urlsafe_b64encode(zlib.compress(said() * 5)),
    "zstd in hex": lambda: zstd.compress(said() * 5).hex().encode(),
    "zstd in gzip": lambda: gzip.compress(zstd.compress(said() * 5)),
    "base64 in gzip": lambda: gzip.compress(base64.b64encode(said()) * 5),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "before, behind", [(b"", b""), (NOISE, NOISE), (b"key=", b"\n")], ids=["alone", "noise", "line"]
)
def test_a_canary_is_found_in_every_form(form: str, before: bytes, behind: bytes) -> None:
    hits = Scanner(CANARIES).scan("here", before + FORMS[form]() + behind)
    assert {(hit.where, hit.name) for hit in hits} == {("here", "prompt")}


@pytest.mark.parametrize("cut", [gzip.compress, zlib.compress, zstd.compress], ids=["gzip", "zlib", "zstd"])
def test_a_stream_that_is_cut_is_opened_as_far_as_it_goes(cut: Callable[[bytes], bytes]) -> None:
    whole = cut(said() + NOISE * 100)
    assert Scanner(CANARIES).scan("here", whole[: len(whole) * 9 // 10])


def test_a_stream_without_a_head_is_found_where_a_file_begins() -> None:
    [hit] = Scanner(CANARIES).scan("here", raw_deflate(said() * 5))
    assert (hit.name, hit.form) == ("prompt", "as it is, in deflate")


def test_a_part_of_a_canary_is_found_too() -> None:
    [hit] = Scanner(CANARIES).scan("here", CANARIES.mark.encode() + b"...")
    assert hit.name == "one of them, cut"


def test_where_nothing_is_nothing_is_found() -> None:
    for data in (
        b"",
        NOISE,
        gzip.compress(NOISE),
        base64.b64encode(NOISE),
        NOISE.hex().encode(),
        bytes(1 << 20),
    ):
        assert Scanner(CANARIES).scan("here", data) == []


def test_a_bomb_is_opened_only_so_far() -> None:
    scanner = Scanner(CANARIES)
    assert scanner.scan("here", zlib.compress(bytes(200 << 20))) == []
    assert scanner.looked.streams < 20


def test_a_tree_is_looked_at_with_its_names_and_links(tmp_path: Path) -> None:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "log").write_bytes(b"x" + said())
    (tmp_path / "data" / CANARIES["subject"]).write_bytes(b"")
    (tmp_path / "data" / "link").symlink_to(CANARIES["completion"])
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "keyset").write_bytes(said())
    scanner = Scanner(CANARIES)
    hits = scanner.scan_tree(tmp_path, but=[tmp_path / "keys"])
    assert {(hit.where, hit.name) for hit in hits} == {
        ("data/deep/log", "prompt"),
        ("the name of a file", "subject"),
        ("data/link (link)", "completion"),
    }
    assert scanner.looked.places == 3


def test_a_hit_shows_neither_the_word_nor_what_is_around_it() -> None:
    [hit] = Scanner(CANARIES).scan("here", said())
    assert PROMPT not in repr(hit)
    assert "secret" not in repr(hit)
    assert PROMPT not in repr(CANARIES)


def test_no_two_runs_and_no_two_words_are_alike() -> None:
    other = make_canaries(NAMES, random=seeded(9).randbytes)
    assert len({*CANARIES.words.values(), *other.words.values()}) == 2 * len(NAMES)
    assert Scanner(other).scan("here", said()) == []
