r"""Which events does an event stream hold? WHATWG HTML "server-sent events", read from a whole body.

1. The body is complete or cut anywhere; it never arrives in pieces here, so a character, a line end or a field
   name that was cut in transit is no special case.
2. ``\r\n``, ``\r`` and ``\n`` end a line; a byte order mark at the very beginning is skipped.
3. An event is dispatched by a blank line. What stands after the last one was never dispatched: no client saw it,
   so it is not an event here either, only ``cut`` tells of it.
4. Only ``data`` is given. In every dialect that streams events the data names its own type, so ``event``, ``id``
   and ``retry`` add nothing.
5. Time and memory grow with the body, which is bounded by the capture limit; a single line and the number of lines
   are bounded besides (security D4), since a list of empty lines takes eight times their bytes.
"""

from dataclasses import dataclass, field

from chatproxy.errors import UnreadableError

LONGEST_LINE = 1 << 20
"""Bytes. A longer line makes the stream unreadable."""
MOST_LINES = 1 << 20
"""More lines make the stream unreadable."""

_BOM = b"\xef\xbb\xbf"
_FIELDS = frozenset({b"event", b"id", b"retry"})
_STREAM_STARTS = (b"data:", b"event:", b"id:", b"retry:", b":")


@dataclass(frozen=True, slots=True)
class EventStream:
    """The events of a body, in order.

    ``cut``: something stood after the last blank line. ``foreign``: there were lines that are no field of an event
    stream, which the standard ignores; a body with these and no event is no event stream.
    """

    data: list[bytes] = field(repr=False)
    cut: bool = False
    foreign: bool = False


def is_event_stream(content_type: str, body: bytes) -> bool:
    """Tell whether *body* is to be read as an event stream: by its type, else by how it begins.

    A body that begins like a JSON object is none, whatever its type says: backends that fail before the first
    event answer so.
    """
    start = body[:64].removeprefix(_BOM).lstrip()
    if start[:1] == b"{":
        return False
    is_declared = content_type.split(";", 1)[0].strip().lower() == "text/event-stream"
    return is_declared or start.startswith(_STREAM_STARTS)


def read_event_stream(body: bytes) -> EventStream:
    """Return the events that *body* dispatches. Raises UnreadableError beyond LONGEST_LINE or MOST_LINES."""
    body = body.removeprefix(_BOM)
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    # The usual stream, nothing but one line of data an event, is split without looking at each line:
    # two line ends an event and no more mean that there is no other line.
    if body.startswith(b"data: ") and body.endswith(b"\n\n") and len(body) <= LONGEST_LINE:
        data = body[6:-2].split(b"\n\ndata: ")
        if body.count(b"\n") == 2 * len(data):
            return EventStream(data)
    return _read_lines(body)


def _read_lines(body: bytes) -> EventStream:
    """Read any stream whose lines end with a line feed."""
    if body.count(b"\n") > MOST_LINES:
        raise UnreadableError(f"the event stream has more than {MOST_LINES} lines")
    lines = body.split(b"\n")
    if len(body) > LONGEST_LINE and max(map(len, lines)) > LONGEST_LINE:
        raise UnreadableError(f"the event stream has a line of more than {LONGEST_LINE} bytes")
    rest = lines.pop()
    events: list[bytes] = []
    data: list[bytes] = []
    open_event = foreign = False
    for line in lines:
        if line[:6] == b"data: ":
            data.append(line[6:])
        elif not line:
            if data:
                events.append(data[0] if len(data) == 1 else b"\n".join(data))
                data = []
            open_event = False
            continue
        elif line[:1] == b":":
            continue
        elif line[:6] != b"event:":
            name, _, value = line.partition(b":")
            if name == b"data":
                data.append(value)
            elif name not in _FIELDS:
                foreign = True
        open_event = True
    return EventStream(events, cut=open_event or (bool(rest) and rest[:1] != b":"), foreign=foreign)
