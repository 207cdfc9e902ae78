"""The reader of event streams equals the standard's own algorithm, taken line by line."""

import re

from hypothesis import given, settings, strategies as st

from chatproxy.wire.sse import read_event_stream

PIECES = st.sampled_from(
    [
        b"data",
        b": ",
        b":",
        b" ",
        b"\n",
        b"\r",
        b"\r\n",
        b"\n\n",
        b"event: x",
        b"id",
        b"a",
        b"data: b",
        b"\xef\xbb\xbf",
    ]
)
BODIES = st.lists(PIECES, max_size=30).map(b"".join)


def by_the_standard(body: bytes) -> list[bytes]:
    """Interpret an event stream step by step: https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    body = body.removeprefix(b"\xef\xbb\xbf")
    lines = re.split(rb"\r\n|\r|\n", body)[:-1]
    events: list[bytes] = []
    buffer = b""
    for line in lines:
        if line == b"":
            if buffer:
                events.append(buffer.removesuffix(b"\n"))
            buffer = b""
        elif not line.startswith(b":"):
            name, _, value = line.partition(b":")
            if name == b"data":
                buffer += (value[1:] if value.startswith(b" ") else value) + b"\n"
    return events


@settings(max_examples=600, deadline=None)
@given(BODIES)
def test_the_events_are_those_of_the_standard(body: bytes) -> None:
    assert read_event_stream(body).data == by_the_standard(body)


@settings(max_examples=200, deadline=None)
@given(BODIES, st.data())
def test_a_cut_stream_gives_a_prefix_of_its_events(body: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(body)))
    events = read_event_stream(body).data
    cut = read_event_stream(body[:at]).data

    assert events[: len(cut)] == cut


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=20).filter(lambda data: not set(data) & set(b"\r\n"))))
def test_what_is_sent_as_events_is_read_as_events(events: list[bytes]) -> None:
    body = b"".join(b"data: " + event + b"\n\n" for event in events)
    stream = read_event_stream(body)

    assert (stream.data, stream.cut, stream.foreign) == (events, False, False)
