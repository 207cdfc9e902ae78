"""Bytes in, events out, as WHATWG HTML says."""

import pytest

from chatproxy.errors import UnreadableError
from chatproxy.wire.sse import LONGEST_LINE, MOST_LINES, EventStream, is_event_stream, read_event_stream


@pytest.mark.parametrize(
    "body, data",
    [
        pytest.param(b"", [], id="nothing"),
        pytest.param(b"data: a\n\ndata: b\n\n", [b"a", b"b"], id="the usual stream"),
        pytest.param(b"data:a\n\n", [b"a"], id="no space after the colon"),
        pytest.param(b"data:  a\n\n", [b" a"], id="only one space is taken off"),
        pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"], id="CRLF"),
        pytest.param(b"data: a\r\rdata: b\r\r", [b"a", b"b"], id="CR"),
        pytest.param(b"data: a\n\rdata: b\r\n\n", [b"a", b"b"], id="line ends mixed"),
        pytest.param(b"\xef\xbb\xbfdata: a\n\n", [b"a"], id="byte order mark"),
        pytest.param(
            b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [b"a"], id="a mark later on is part of a field name"
        ),
        pytest.param(b"data: a\ndata: b\n\n", [b"a\nb"], id="several lines of data"),
        pytest.param(b"data: a\ndata\ndata:\n\n", [b"a\n\n"], id="data without a value"),
        pytest.param(b"data\n\n", [b""], id="an event of nothing"),
        pytest.param(b": hello\ndata: a\n: bye\n\n:\n\n", [b"a"], id="comments"),
        pytest.param(b"event: x\nid: 1\nretry: 5\ndata: a\n\n", [b"a"], id="other fields"),
        pytest.param(b"event: x\n\ndata: a\n\n", [b"a"], id="an event without data is none"),
        pytest.param(b"\n\n\ndata: a\n\n\n\ndata: b\n\n\n", [b"a", b"b"], id="blank lines"),
        pytest.param(b"Data: a\n data: b\n\ndata: c\n\n", [b"c"], id="names are exact"),
        pytest.param(
            b"data: \xe2\x80\xa8 \x00 \x0b\n\n", [b"\xe2\x80\xa8 \x00 \x0b"], id="no other line ends"
        ),
        pytest.param(b"data: a: b\n\ndata::c\n\n", [b"a: b", b":c"], id="colons in the value"),
    ],
)
def test_a_stream_gives_its_events(body: bytes, data: list[bytes]) -> None:
    assert read_event_stream(body).data == data


@pytest.mark.parametrize(
    "body, expected",
    [
        pytest.param(b"data: a\n\ndata: b", EventStream([b"a"], cut=True), id="in a line"),
        pytest.param(b"data: a\n\ndata: b\n", EventStream([b"a"], cut=True), id="before the blank line"),
        pytest.param(
            b"data: a\r\n\r\ndata: b\r\n", EventStream([b"a"], cut=True), id="before a blank CRLF line"
        ),
        pytest.param(b"data: a\n\nevent: x\n", EventStream([b"a"], cut=True), id="after another field"),
        pytest.param(b"data: a\n\n: comm", EventStream([b"a"]), id="in a comment"),
        pytest.param(b"data: a\n\n: comment\n", EventStream([b"a"]), id="after a comment"),
        pytest.param(b"data: a\n\n\n", EventStream([b"a"]), id="not at all"),
    ],
)
def test_an_event_that_was_cut_is_told_of_and_not_dispatched(body: bytes, expected: EventStream) -> None:
    assert read_event_stream(body) == expected


def test_lines_that_are_no_fields_are_told_of() -> None:
    assert read_event_stream(b"<html>\nno stream\n\n") == EventStream([], foreign=True)
    assert not read_event_stream(b": ping\nid: 1\n\nretry: 2\n\n").foreign


def test_a_long_line_is_read_and_a_longer_one_is_refused() -> None:
    fits = b"data: " + b"x" * (LONGEST_LINE - 6)

    assert read_event_stream(fits + b"\n\n").data == [fits[6:]]
    with pytest.raises(UnreadableError):
        read_event_stream(fits + b"x\n\n")


def test_a_stream_of_blank_lines_is_bounded() -> None:
    assert read_event_stream(b"\n" * MOST_LINES).data == []
    with pytest.raises(UnreadableError):
        read_event_stream(b"\n" * (MOST_LINES + 1))


@pytest.mark.parametrize(
    "content_type, body, expected",
    [
        pytest.param("text/event-stream", b"", True, id="by its type"),
        pytest.param("Text/Event-Stream ; charset=UTF-8", b"x", True, id="by its type with parameters"),
        pytest.param("text/event-stream", b' \n{"error": 1}', False, id="JSON under the wrong type"),
        pytest.param("", b"data: {}\n\n", True, id="data without a type"),
        pytest.param(
            "application/json", b"\xef\xbb\xbf\nevent: x\n", True, id="an event under the wrong type"
        ),
        pytest.param("text/plain", b": ping\n\n", True, id="a comment"),
        pytest.param("application/json", b'{"data": 1}', False, id="JSON"),
        pytest.param("application/json", b"", False, id="nothing"),
        pytest.param("text/event-streams", b"x", False, id="another type"),
    ],
)
def test_a_stream_is_known_by_type_or_by_its_beginning(
    content_type: str, body: bytes, expected: bool
) -> None:
    assert is_event_stream(content_type, body) is expected
