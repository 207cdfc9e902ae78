"""What is whole in a segment is read, what is not is told, and nothing of it can be changed unseen."""

import pytest

from chatproxy.crypto.keys import DataKey
from chatproxy.errors import UndecryptableError
from chatproxy.journal.segment import Frame, Segment, frames, make_header

KEY = DataKey(bytes(range(32)))
HEADER = make_header(b"segment of tests", created_at=1_750_000_000_000)
WRITTEN = [
    Frame(7, is_last=False, content=b"what was asked"),
    Frame(8, is_last=True, content=b""),
    Frame(7, is_last=True, content=b"what was answered" * 20),
]


def a_segment() -> tuple[bytes, list[int]]:
    """Return the bytes of a segment, and where each frame ends."""
    segment = Segment(HEADER, KEY)
    data, ends = HEADER, []
    for place, frame in enumerate(WRITTEN):
        data += segment.seal(frame, place=place)
        ends.append(len(data))
    return data, ends


def read(data: bytes, key: DataKey = KEY) -> list[Frame | str | None]:
    """Return what is in a segment: frames, reasons of those that do not open, None for what is no frame."""
    segment = Segment(data, key)
    found: list[Frame | str | None] = []
    for place in frames(memoryview(data)):
        if place is None:
            found.append(None)
            continue
        try:
            found.append(segment.open(memoryview(data), place))
        except UndecryptableError as error:
            found.append(error.reason)
    return found


def test_what_was_written_is_read() -> None:
    data, _ = a_segment()

    assert read(data) == WRITTEN
    assert Segment(data, KEY).created_at == 1_750_000_000_000


def test_nothing_of_it_is_readable_without_the_key() -> None:
    data, _ = a_segment()

    assert b"what" not in data
    assert read(data, DataKey(bytes(range(1, 33)))) == ["journal_frame"] * 3


def test_wherever_a_crash_cuts_it_the_frames_before_are_whole() -> None:
    data, ends = a_segment()

    for length in range(len(HEADER), len(data)):
        assert read(data[:length]) == WRITTEN[: sum(end <= length for end in ends)]


@pytest.mark.parametrize("length", [0, 1, len(HEADER) - 1])
def test_a_header_that_is_not_whole_is_no_segment(length: int) -> None:
    with pytest.raises(UndecryptableError, match="journal_header"):
        Segment(HEADER[:length], KEY)


def test_whatever_byte_is_changed_only_its_frame_is_lost_and_that_is_told() -> None:
    data, ends = a_segment()

    for place in range(len(HEADER), len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x40
        found = read(bytes(changed))
        touched = sum(end <= place for end in ends)
        assert [frame for frame in found if isinstance(frame, Frame)] == [
            frame for number, frame in enumerate(WRITTEN) if number != touched
        ]
        is_last = touched == len(WRITTEN) - 1
        assert len(found) == len(WRITTEN) or is_last  # what is no frame at the end looks like a crash


def test_whatever_byte_of_the_header_is_changed_nothing_opens() -> None:
    data, _ = a_segment()

    for place in range(len(HEADER)):
        changed = bytearray(data)
        changed[place] ^= 0x01
        try:
            found = read(bytes(changed))
        except UndecryptableError as error:
            assert error.reason == "journal_header"  # noqa: PT017 - or nothing opens
        else:
            assert found == ["journal_frame"] * 3


def test_a_frame_does_not_open_at_another_place() -> None:
    segment = Segment(HEADER, KEY)
    first, second = (segment.seal(frame, place=place) for place, frame in enumerate(WRITTEN[:2]))

    assert read(HEADER + second + first) == [WRITTEN[1]]


def test_a_frame_of_another_segment_does_not_open() -> None:
    other = Segment(make_header(b"another segment!", created_at=1_750_000_000_000), KEY)

    assert read(HEADER + other.seal(WRITTEN[0], place=0)) == ["journal_frame"]
