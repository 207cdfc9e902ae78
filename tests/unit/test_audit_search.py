"""The lines of an audit log that name something, whatever the pieces are that it is read in."""

from pathlib import Path

import pytest

from chatproxy.audit.search import lines_naming

MIB = 1 << 20


def a_log(tmp_path: Path, content: bytes) -> Path:
    log = tmp_path / "log"
    log.write_bytes(content)
    return log


@pytest.mark.parametrize(
    "content, found",
    [
        pytest.param(b"", [], id="empty"),
        pytest.param(b"ana 1\nbob\nana 2\n", [b"ana 1\n", b"ana 2\n"], id="each one"),
        pytest.param(b"bob\nana", [b"ana"], id="without an end"),
        pytest.param(b"bob\n" * MIB, [], id="nowhere"),
        pytest.param(b"x" * (MIB - 5) + b" ana\nbob\n", [b"x" * (MIB - 5) + b" ana\n"], id="ends with a piece"),
        pytest.param(b"-" * (MIB - 3) + b"\nana\nbob\n", [b"ana\n"], id="across two pieces"),
        pytest.param(b"ana" + b"y" * 3 * MIB + b"\nbob\n", [b"ana" + b"y" * 3 * MIB + b"\n"], id="longer than a piece"),
    ],
)  # fmt: skip
def test_each_line_with_the_word_is_found(tmp_path: Path, content: bytes, found: list[bytes]) -> None:
    assert list(lines_naming(a_log(tmp_path, content), b"ana")) == found


def test_any_of_the_words_will_do(tmp_path: Path) -> None:
    log = a_log(tmp_path, b"ana\nbob\neve\n")

    assert list(lines_naming(log, b"eve", b"ana")) == [b"ana\n", b"eve\n"]


@pytest.mark.parametrize(
    "length, found", [(0, []), (4, [b"ana\n"]), (6, [b"ana\n", b"an"]), (99, [b"ana\n", b"ana\n"])]
)
def test_what_is_behind_the_length_is_not_read(tmp_path: Path, length: int, found: list[bytes]) -> None:
    assert list(lines_naming(a_log(tmp_path, b"ana\nana\n"), b"an", length=length)) == found
