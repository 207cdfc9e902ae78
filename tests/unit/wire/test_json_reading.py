"""Strict JSON, bounded, and what is done about half characters."""

from typing import Any

import msgspec
import pytest

from chatproxy.errors import UnreadableError
from chatproxy.wire.base import ChatReply
from chatproxy.wire.json_reading import (
    DEEPEST,
    MOST_BRACKETS,
    JSONReader,
    json_text,
    read_object,
    require_shallow,
    well_formed,
)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"[1]", id="no object"),
        pytest.param(b'{"a": 1', id="cut"),
        pytest.param(b'{"a": 1} {}', id="more after the value"),
        pytest.param(b'{"a": NaN}', id="NaN"),
        pytest.param(b'{"a": 1e999}', id="beyond a double"),
        pytest.param(b'{"b": "\\ud83d", "a": 1e999}', id="beyond a double beside half a character"),
        pytest.param(b'{"b": "\\ud83d", "a": -Infinity}', id="infinite beside half a character"),
        pytest.param(b'{"a": "\xff"}', id="not UTF-8"),
        pytest.param(b'{"a": "\xed\xa0\xbd"}', id="a surrogate in UTF-8"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}', id="byte order mark"),
        pytest.param('{"a": 1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"a": "\n"}', id="a raw line end in a string"),
        pytest.param(b'{"a":' + b"[" * 200_000, id="too deep"),
        pytest.param(b'{"a": "\\ud83d", "b":' + b"[" * 200_000, id="too deep beside half a character"),
        pytest.param(b'{"a": [' + b"[]," * MOST_BRACKETS + b"1]}", id="too many values"),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", id="a number of 5000 digits"),
    ],
)
def test_what_is_not_strict_json_is_unreadable(text: bytes) -> None:
    with pytest.raises(UnreadableError) as refused:
        read_object(text)
    assert refused.value.__cause__ is None


def test_of_equal_keys_the_last_counts() -> None:
    assert read_object(b'{"a": 1, "a": 2}') == {"a": 2}


def test_half_a_character_is_read_whole_if_the_other_half_meets_it() -> None:
    source = b'[{"t":"\\uD83D"},{"t":"\\ude00 \\udc00!"}]'
    halves = [text["t"] for text in JSONReader(list[dict[str, str]]).read(source)]
    reply = ChatReply((), model="".join(halves))

    assert well_formed(ChatReply((), model="\ud83d"), ChatReply, source=b'"\\uD83D"').model == "\ufffd"

    assert well_formed(reply, ChatReply, source=source) == ChatReply((), model="\U0001f600 \ufffd!")


def test_half_a_character_is_read_into_the_shape_asked_for() -> None:
    class Shape(msgspec.Struct):
        a: int

    reader = JSONReader(Shape)

    assert reader.read(b'{"b": ["\\ud83d", 0.5], "a": 1}').a == 1
    with pytest.raises(UnreadableError):
        reader.read(b'{"b": "\\ud83d", "a": "1"}')


def test_whole_characters_are_left_alone() -> None:
    reply = ChatReply((), model="\U0001f600")

    assert well_formed(reply, ChatReply, source=b"\\ud83d\\ude00") is reply


def test_one_bad_text_among_many_makes_all_unreadable() -> None:
    reader: JSONReader[dict[str, Any]] = JSONReader(dict[str, Any])

    assert reader.read_all([b'{"a":1}', b'{"a":"\\ud83d"}']) == [{"a": 1}, {"a": "\ud83d"}]
    with pytest.raises(UnreadableError):
        reader.read_all([b'{"a":1}', b"{"])


def nested(levels: int) -> object:
    value: object = 1
    for level in range(levels - 1):
        value = [value] if level % 2 else {"a": value}
    return value


def test_nesting_is_bounded() -> None:
    require_shallow(nested(DEEPEST))
    with pytest.raises(UnreadableError):
        require_shallow(nested(DEEPEST + 1))
    with pytest.raises(UnreadableError):
        json_text(nested(DEEPEST + 1))


def test_json_text_is_compact_and_keeps_characters() -> None:
    assert json_text({"ville": "Nîmes", "n": [1, 2.5, None]}) == '{"ville":"Nîmes","n":[1,2.5,null]}'


@pytest.mark.parametrize(
    "text, expected",
    [
        ("[]", []),
        ("[", []),
        (' [ {"a":1} \n, {"b":2}\n]\n', [{"a": 1}, {"b": 2}]),
        ('[{"a":1},{"b":', [{"a": 1}]),
        ('[{"a":1},{"b":"x', [{"a": 1}]),
        ('[{"a":1}\n', [{"a": 1}]),
        ('[{"a":1},', [{"a": 1}]),
        ('[{"a":"\\ud83d"}, {"b":"\\ud8', [{"a": "\ud83d"}]),
        ('[{"a":"é"},{"b":"é', [{"a": "é"}]),
    ],
)
def test_an_array_is_read_as_far_as_its_elements_came(text: str, expected: list[object]) -> None:
    reader: JSONReader[dict[str, object]] = JSONReader(dict[str, object])

    assert reader.read_begun(text.encode()) == expected
    assert reader.read_begun(text.encode() + b"\xc3") == expected


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b'[{"a":1} {"b":2}]',
        b'[{"a":1}] [{"b":2}]',
        b"[1, 2]",
        b'[{"a":1}, garbage and more of it]',
        b'[{"a":NaN}, {"b":2}]',
        b'[{"a":"\xff"}]',
        b"[" + b"[" * (MOST_BRACKETS + 1),
        b'[{"a":' + b"[" * 100_000,
    ],
    ids=lambda text: text[:20],
)
def test_what_is_not_the_beginning_of_an_array_is_unreadable(text: bytes) -> None:
    reader: JSONReader[dict[str, object]] = JSONReader(dict[str, object])
    with pytest.raises(UnreadableError):
        reader.read_begun(text)
