"""One object a line, whole or cut."""

from typing import Any

import pytest

from chatproxy.errors import UnreadableError
from chatproxy.wire.json_lines import is_json_lines, read_json_lines
from chatproxy.wire.json_reading import JSONReader
from chatproxy.wire.sse import LONGEST_LINE, MOST_LINES

OBJECTS: JSONReader[dict[str, Any]] = JSONReader(dict[str, Any])


@pytest.mark.parametrize(
    "body, expected",
    [
        (b"", []),
        (b'{"a":1}\n{"b":2}\n', [{"a": 1}, {"b": 2}]),
        (b'{"a":1}\r\n\r\n \n{"b":2}', [{"a": 1}, {"b": 2}]),
        (b'{"a":1}\n{"b":', [{"a": 1}]),
        (b'{"a":1}\n{"b":{}', [{"a": 1}]),
        (b'{"a":"\\ud83d"}\n', [{"a": "\ud83d"}]),
    ],
)
def test_each_whole_line_is_an_object(body: bytes, expected: list[Any]) -> None:
    assert read_json_lines(body, OBJECTS) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b'{"a":1}\n<html>',
        b'{"a":\n',
        b"[]\n",
        b"\n" * (MOST_LINES + 1),
        b'{"a":"' + b"a" * LONGEST_LINE + b'"}\n',
    ],
    ids=["text", "text at the end", "half a line", "no object", "lines", "a line"],
)
def test_what_is_not_one_object_a_line_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        read_json_lines(body, OBJECTS)


@pytest.mark.parametrize(
    "content_type, body, expected",
    [
        ("application/x-ndjson", b"", True),
        ("Application/JSONL; charset=utf-8", b"", True),
        ("", b'{"a":1}\n{"b":2}\n', True),
        ("application/json", b'{"a":1}\r\n{"b":2}\n', True),
        ("application/json", b'{"a":1}\n', False),
        ("", b'[{"a":1}\n{"b":2}]', False),
    ],
)
def test_lines_are_known_by_type_or_by_how_they_meet(content_type: str, body: bytes, expected: bool) -> None:
    assert is_json_lines(content_type, body) is expected
