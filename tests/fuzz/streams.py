"""Event streams, lines and begun arrays: nothing but UnreadableError, and nothing that was not in the bytes."""

from typing import Any

from chatproxy.errors import UnreadableError
from chatproxy.wire.json_lines import is_json_lines, read_json_lines
from chatproxy.wire.json_reading import JSONReader
from chatproxy.wire.sse import is_event_stream, read_event_stream
from fuzz.target import Target
from unit.wire.bodies import VECTORS

VALUES: JSONReader[Any] = JSONReader(Any)


def events(body: bytes) -> None:
    """Read *body* as an event stream."""
    is_event_stream("", body)
    try:
        stream = read_event_stream(body)
    except UnreadableError:
        return
    assert sum(map(len, stream.data)) <= len(body)
    assert read_event_stream(body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")) == stream


def lines(body: bytes) -> None:
    """Read *body* as one JSON object a line."""
    is_json_lines("", body)
    try:
        values = read_json_lines(body, VALUES)
    except UnreadableError:
        return
    assert len(values) <= body.count(b"\n") + 1


def array(body: bytes) -> None:
    """Read *body* as a JSON array that may have been cut."""
    try:
        VALUES.read_begun(body)
    except UnreadableError:
        return


def _recorded(pattern: str) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(VECTORS.glob(pattern)))


TARGETS = {
    "events": Target(events, (b"data: a\r\n\r\n:c\nid: 1\rdata\n\n", *_recorded("*.sse"))),
    "lines": Target(lines, _recorded("*.ndjson")),
    "array": Target(array, (b'[{"a": "\\ud83d\\ude00"}, 1', *_recorded("*.array"))),
}
