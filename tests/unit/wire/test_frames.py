"""Frames of RFC 6455 and 7692: what is read, what is cut, what is given up."""

import tracemalloc
import zlib

import pytest

from chatproxy.wire.frames import Agreed, Fault, FrameMessage, FrameReader, read_agreed

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
MASK = bytes.fromhex("37fa213d")


def frame(
    payload: bytes, opcode: int = TEXT, *, mask: bytes = b"", fin: bool = True, flags: int = 0, form: int = 0
) -> bytes:
    """One frame; *form* 126 or 127 writes the length longer than need be."""
    size = len(payload)
    form = form or (size if size < 126 else 126 if size < 1 << 16 else 127)
    length = size.to_bytes({126: 2, 127: 8}[form]) if form >= 126 else b""
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if mask else payload
    head = bytes([(0x80 if fin else 0) | flags | opcode, (0x80 if mask else 0) | form])
    return head + length + mask + masked


def deflated(payload: bytes, deflater: "zlib._Compress | None" = None) -> bytes:
    """The payload of a compressed message."""
    deflater = deflater or zlib.compressobj(wbits=-15)
    return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


def reader(*, compressed: bool = False, keeps_context: bool = True, longest: int = 1 << 20) -> FrameReader:
    return FrameReader(compressed=compressed, keeps_context=keeps_context, longest=longest)


def whole(*payloads: bytes) -> list[FrameMessage]:
    return [FrameMessage(payload, is_whole=True) for payload in payloads]


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 65_535, 65_536, 100_003])
@pytest.mark.parametrize("mask", [b"", MASK], ids=["plain", "masked"])
def test_a_message_of_any_length_is_read(size: int, mask: bytes) -> None:
    payload = bytes(at % 251 for at in range(size))
    assert reader().feed(frame(payload, mask=mask)) == whole(payload)


def test_the_masked_frame_of_the_specification_is_hello() -> None:
    assert reader().feed(bytes.fromhex("818537fa213d7f9f4d5158")) == whole(b"Hello")


@pytest.mark.parametrize("form", [126, 127])
def test_a_length_written_too_long_is_read(form: int) -> None:
    assert reader().feed(frame(b"hi", form=form)) == whole(b"hi")


def test_fragments_make_one_message_with_control_frames_between_them() -> None:
    data = (
        frame(b"a", fin=False, mask=MASK) + frame(b"x", PING, mask=MASK) + frame(b"b", CONTINUATION, fin=False)
        + frame(b"y", PONG) + frame(b"", CONTINUATION) + frame(b"c", BINARY)
    )  # fmt: skip
    assert reader().feed(data) == whole(b"ab", b"c")


def test_nothing_is_read_behind_a_close_frame() -> None:
    found = reader()
    assert found.feed(frame(b"a") + frame(b"\x03\xe8", CLOSE) + frame(b"b")) == whole(b"a")
    assert found.feed(frame(b"c")) == []
    assert (found.is_closed, found.fault) == (True, None)


@pytest.mark.parametrize(
    "data",
    [
        frame(b"a", 0x3),
        frame(b"a", 0xB),
        frame(b"a", flags=0x20),
        frame(b"a", flags=0x10),
        frame(b"a", flags=0x40),
        frame(b"a", PING, fin=False),
        frame(b"a" * 126, PONG),
        frame(b"a", CONTINUATION),
        frame(b"a", fin=False) + frame(b"b"),
        b"\x81\x7f" + b"\xff" * 8,
        b"HTTP/1.1 200 OK\r\n",
    ],
    ids=[
        "a reserved opcode", "a reserved control opcode", "rsv2", "rsv3", "compression not agreed on", "a fragment of a ping",
        "a long pong", "a continuation of nothing", "a message within a message", "a length of 64 bits", "http",
    ],
)  # fmt: skip
def test_what_are_no_frames_is_given_up(data: bytes) -> None:
    found = reader()
    assert found.feed(frame(b"before") + data) == whole(b"before")
    assert found.fault is Fault.NOT_FRAMES
    assert found.feed(frame(b"after")) == []
    assert found.buffered == 0


@pytest.mark.parametrize("keeps_context", [True, False], ids=["one context", "a context each"])
def test_compressed_messages_are_inflated(keeps_context: bool) -> None:
    found = reader(compressed=True, keeps_context=keeps_context)
    deflater = zlib.compressobj(wbits=-15)
    for text in (b"hello hello hello", b"hello again", b""):
        payload = deflated(text, deflater if keeps_context else None)
        assert found.feed(frame(payload, flags=0x40, mask=MASK)) == whole(text)
    assert found.feed(frame(b"plain")) == whole(b"plain")


def test_a_context_that_is_not_kept_is_not_used() -> None:
    deflater = zlib.compressobj(wbits=-15)
    first, second = deflated(b"hello hello", deflater), deflated(b"hello hello", deflater)
    found = reader(compressed=True, keeps_context=False)
    assert found.feed(frame(first, flags=0x40)) == whole(b"hello hello")
    assert found.feed(frame(second, flags=0x40)) == []
    assert found.fault is Fault.NOT_DEFLATE


def test_a_compressed_message_comes_in_fragments_of_which_only_the_first_is_marked() -> None:
    payload = deflated(b"hello hello hello")
    found = reader(compressed=True)
    data = frame(payload[:4], flags=0x40, fin=False) + frame(b"", PING) + frame(payload[4:], CONTINUATION)
    assert found.feed(data) == whole(b"hello hello hello")
    found = reader(compressed=True)
    found.feed(frame(payload[:4], flags=0x40, fin=False) + frame(payload[4:], CONTINUATION, flags=0x40))
    assert found.fault is Fault.NOT_FRAMES


@pytest.mark.parametrize(
    "payload", ["f348cdc9c90700", "f248cdc9c90700", "f348cdc9c9070000", "000500faff48656c6c6f00"]
)
def test_the_compressed_messages_of_the_specification_are_hello(payload: str) -> None:
    assert reader(compressed=True).feed(frame(bytes.fromhex(payload), flags=0x40)) == whole(b"Hello")


def test_final_blocks_without_end_are_given_up() -> None:
    found = reader(compressed=True)
    assert found.feed(frame(b"\x03\x00" * 1000, flags=0x40)) == []
    assert found.fault is Fault.NOT_DEFLATE


def test_a_message_that_is_too_long_is_cut_and_the_next_is_read() -> None:
    found = reader(longest=4)
    data = frame(b"abc", fin=False) + frame(b"def", CONTINUATION, fin=False) + frame(b"", CONTINUATION)
    assert found.feed(data + frame(b"four")) == [FrameMessage(b"abcd", is_whole=False), *whole(b"four")]


def test_a_compressed_message_of_the_longest_length_is_read_and_a_longer_one_is_given_up() -> None:
    found = reader(compressed=True, longest=1000)
    assert found.feed(frame(deflated(bytes(1000)), flags=0x40)) == whole(bytes(1000))
    assert found.feed(frame(deflated(bytes(1001)), flags=0x40)) == []
    assert (found.fault, found.buffered) == (Fault.TOO_LARGE, 0)


def test_a_bomb_is_never_inflated_beyond_the_longest_message() -> None:
    found = reader(compressed=True, longest=1000)
    bomb = frame(deflated(bytes(50_000_000)), flags=0x40)
    tracemalloc.start()
    found.feed(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    assert (found.fault, found.buffered) == (Fault.TOO_LARGE, 0)


@pytest.mark.parametrize(
    "values, agreed",
    [
        ([], Agreed()),
        ([b" , "], Agreed()),
        ([b"permessage-deflate"], Agreed(is_compressed=True)),
        (
            [b"Permessage-Deflate; server_no_context_takeover ;client_max_window_bits=12"],
            Agreed(is_compressed=True, server_keeps_context=False),
        ),
        (
            [b"permessage-deflate;client_no_context_takeover"],
            Agreed(is_compressed=True, client_keeps_context=False),
        ),
        ([b"x-webkit-deflate-frame"], None),
        ([b"permessage-deflate, other"], None),
        ([b"permessage-deflate", b"permessage-deflate"], None),
    ],
    ids=["none", "empty", "deflate", "server forgets", "client forgets", "unknown", "one more", "twice"],
)
def test_what_was_agreed_on_is_read(values: list[bytes], agreed: Agreed | None) -> None:
    assert read_agreed(values) == agreed
