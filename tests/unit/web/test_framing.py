"""Where a request ends is read in one way or not at all, however it comes."""

import re

import pytest
from hypothesis import given, strategies as st

from chatproxy.forwarding import RefusedRequestError
from chatproxy.web.framing import ChunkedBody, Head, HeadLimits, check_beginning, read_head

LIMITS = HeadLimits()
PLAIN = b"POST /x?y HTTP/1.1\r\nHost: chat\r\n"


def framing(*fields: bytes) -> Head:
    return read_head(PLAIN + b"".join(field + b"\r\n" for field in fields) + b"\r\n", LIMITS)


@pytest.mark.parametrize(
    "fields, length",
    [((), 0), ((b"Content-Length: 7",), 7), ((b"content-length:7",), 7), ((b"Transfer-Encoding: chunked",), None)],
    ids=["nothing", "a length", "a length in small letters", "chunks"],
)  # fmt: skip
def test_the_length_of_a_body(fields: tuple[bytes, ...], length: int | None) -> None:
    head = framing(*fields)
    assert (head.length, head.expects_continue, head.asks_to_upgrade) == (length, False, False)


def test_fields_are_as_received_but_for_their_names_in_small_letters_and_the_space_before_values() -> None:
    head = framing(b"X-A: \t b:c \xff\t ", b"x-a:", b"X-E: ", b"Cookie:a=1")
    assert head.headers == [
        (b"host", b"chat"), (b"x-a", b"b:c \xff\t "), (b"x-a", b""), (b"x-e", b""), (b"cookie", b"a=1"),
    ]  # fmt: skip
    assert (head.method, head.target, head.is_old) == (b"POST", b"/x?y", False)


def test_an_expectation_and_an_upgrade_are_noticed_and_http_1_0_has_no_expectation() -> None:
    assert framing(b"Expect: 100-Continue", b"Content-Length: 1").expects_continue
    assert framing(b"Upgrade: websocket").asks_to_upgrade
    old = b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    assert not read_head(old, LIMITS).expects_continue


@pytest.mark.parametrize("target", [b"//b/c", b"http://b/c", b"*", b"b"])
def test_a_target_is_a_path_that_begins_with_one_slash(target: bytes) -> None:
    with pytest.raises(RefusedRequestError, match="begins with one slash"):
        read_head(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target, HeadLimits())


def test_a_refusal_repeats_nothing_of_the_request() -> None:
    with pytest.raises(RefusedRequestError) as refusal:
        framing(b"Content-Length: CANARY")
    assert "CANARY" not in str(refusal.value)


@pytest.mark.parametrize(
    "head",
    [
        PLAIN + b"X:" + b" " * 60_000 + b"\r\n\r\n",
        PLAIN + b"Content-Length:" + b"\t " * 30_000 + b"\r\n\r\n",
        PLAIN + b"host:" * 12_000 + b"\r\n\r\n",
        b"A" * 60_000 + b" / HTTP/1.1\r\n\r\n",
        PLAIN + b"a:b\r\n" * 12_000 + b"\r",
    ],
    ids=["spaces", "spaces in a length", "colons", "a long method", "no end"],
)
def test_a_head_made_to_be_slow_to_read_is_refused(head: bytes) -> None:
    with pytest.raises(RefusedRequestError):
        read_head(head, LIMITS)
    with pytest.raises(RefusedRequestError):
        check_beginning(head + b"x" * 65_536, LIMITS)


@pytest.mark.parametrize("bad", [b"\0", b"\n", b"\rx"])
def test_of_a_head_that_comes_in_pieces_what_was_looked_at_is_not_looked_at_again(bad: bytes) -> None:
    head = PLAIN + b"X: y" + bad + b"z" * 100
    check_beginning(head, LIMITS, known=len(head) - 3)
    for known in range(len(PLAIN) + 4 + 1):
        with pytest.raises(RefusedRequestError):
            check_beginning(head, LIMITS, known=known)


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_no_head_passes_that_has_a_line_end_of_another_kind(one: bytes, two: bytes) -> None:
    head = PLAIN + b"X: " + one + b"\r\n" + two + b"\r\n\r\n"
    try:
        read_head(head, LIMITS)
    except RefusedRequestError:
        return
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\0|\n[ \t]", head)


# --- chunks ---


def end_of(body: bytes, pieces: int = 1 << 20) -> int | None:
    """Return where a body ends that comes in pieces of that size."""
    chunked = ChunkedBody(forbidden={b"x-own"})
    for at in range(0, len(body), pieces):
        end = chunked.end_in(body[at : at + pieces])
        if end is not None:
            return at + end
    return None


BODIES = {
    "nothing": b"0\r\n\r\n",
    "one": b"5\r\nhello\r\n0\r\n\r\n",
    "two": b"5\r\nhello\r\nA\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n",
    "extensions": b"5;a=b;c\r\nhello\r\n0;d\r\n\r\n",
    "trailers": b"1\r\na\r\n000\r\nX-Sum: 1\r\nY:\r\n\r\n",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("pieces", [1, 2, 3, 5, 7, 1000])
def test_chunks_end_where_they_end_however_they_come(body: bytes, pieces: int) -> None:
    assert end_of(body + b"GET / HTTP/1.1\r\n\r\n", pieces) == len(body)
    assert end_of(body[:-1], pieces) is None


@pytest.mark.parametrize(
    "body",
    [
        b"5\nhello", b"\r\n", b"g\r\n", b" 5\r\n", b"5 \r\n", b"+5\r\n", b"0x5\r\n", b"123456789\r\n", b"5\r\nhelloX\n", b"5\r\nhello\n",
        b"5;" + b"a" * 256 + b"\r\n", b"5;" + b"a" * 2_000, b"0\r\nX-Own: y\r\n", b"0\r\nX_OWN: y\r\n", b"0\r\nContent-Length: 1\r\n",
        b"0\r\n X: y\r\n", b"0\r\nX y\r\n", b"0\r\nX: \0\r\n", b"0\r\n" + b"X: y\r\n" * 65, b"1\r\na\r\n" * 11_000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("pieces", [1, 1 << 20])
def test_chunks_that_can_be_read_in_another_way_are_refused(body: bytes, pieces: int) -> None:
    with pytest.raises(RefusedRequestError):
        end_of(body, pieces)


def test_many_small_chunks_pass_where_there_are_larger_ones() -> None:
    body = b"1\r\na\r\n" * 9_999 + b"0\r\n\r\n"
    assert end_of(body) == len(body)
    body = (b"40\r\n" + b"a" * 64 + b"\r\n") * 20_000 + b"0\r\n\r\n"
    assert end_of(body) == len(body)


def test_the_size_that_is_counted_is_what_chunks_announce() -> None:
    chunked = ChunkedBody()
    chunked.end_in(b"10\r\n")
    assert chunked.size == 16
