"""For any frames, any bytes and any cuts: the reader of frames says the same, and nothing raises."""

import zlib
from itertools import pairwise

from hypothesis import example, given, strategies as st

from chatproxy.wire.frames import FrameMessage, FrameReader
from unit.wire.test_frames import BINARY, CONTINUATION, PING, TEXT, deflated, frame


def read(
    pieces: list[bytes], *, compressed: bool, longest: int = 300
) -> tuple[list[FrameMessage], object, bool]:
    reader = FrameReader(compressed=compressed, keeps_context=True, longest=longest)
    messages = [message for piece in pieces for message in reader.feed(piece)]
    assert reader.buffered <= longest
    return messages, reader.fault, reader.is_closed


def cut(data: bytes, at: list[int]) -> list[bytes]:
    places = sorted({place % (len(data) + 1) for place in at} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(places)]


messages = st.tuples(
    st.binary(max_size=400),
    st.booleans(),
    st.lists(st.integers(0, 400), max_size=3),
    st.sampled_from([b"", b"\x01\x02\x03\x04"]),
)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Messages as frames, in fragments and compressed as it comes, and what they say."""
    deflater = zlib.compressobj(wbits=-15)
    data, payloads = b"", []
    for payload, is_compressed, at, mask in draw(st.lists(messages, max_size=5)):
        payloads.append(payload)
        body = deflated(payload, deflater) if is_compressed else payload
        pieces = cut(body, at) or [b""]
        for number, piece in enumerate(pieces):
            first, last = number == 0, number == len(pieces) - 1
            opcode = draw(st.sampled_from([TEXT, BINARY])) if first else CONTINUATION
            flags = 0x40 if is_compressed and first else 0
            data += frame(piece, opcode, mask=mask, fin=last, flags=flags)
            if draw(st.booleans()):
                data += frame(b"ping", PING, mask=mask)
    return data, payloads


cuts = st.lists(st.integers(0, 1 << 16), max_size=20)


@given(streams(), cuts)
def test_messages_come_out_as_they_went_in_however_they_are_cut(
    stream: tuple[bytes, list[bytes]], at: list[int]
) -> None:
    data, payloads = stream
    found, fault, _ = read(cut(data, at), compressed=True, longest=400)
    assert fault is None
    assert found == [FrameMessage(payload, is_whole=True) for payload in payloads]


@given(st.binary(max_size=600), cuts, st.booleans())
@example(b"\xc1\x04\x03\x00\x03\x00", [], True)
def test_any_bytes_say_the_same_however_they_are_cut(data: bytes, at: list[int], compressed: bool) -> None:
    whole = read([data], compressed=compressed)
    assert read(cut(data, at), compressed=compressed) == whole
    assert read([data[place : place + 1] for place in range(len(data))], compressed=compressed) == whole


@given(streams(), st.integers(0), st.integers(1, 255), cuts)
def test_a_flipped_byte_raises_nothing_and_says_the_same_however_it_is_cut(
    stream: tuple[bytes, list[bytes]], place: int, flip: int, at: list[int]
) -> None:
    data = bytearray(stream[0])
    if data:
        data[place % len(data)] ^= flip
    assert read(cut(bytes(data), at), compressed=True) == read([bytes(data)], compressed=True)
