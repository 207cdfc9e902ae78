"""How an answer is read: cut anywhere it is the same, and what could be read in two ways is not read at all."""

from dataclasses import dataclass

import pytest
from hypothesis import given, strategies as st

from chatproxy.forwarding import Framing, ResponseHead
from chatproxy.web.upstream.errors import UpstreamAbortedError, UpstreamError, UpstreamProtocolError
from chatproxy.web.upstream.response import ResponseReader

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass
class Read:
    """What a reader made of some bytes."""

    head: ResponseHead | None
    pieces: list[bytes]
    is_complete: bool
    is_reusable: bool

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


def reader(*, to_head: bool = False) -> ResponseReader:
    return ResponseReader(to_head_request=to_head, drop=frozenset((b"x-chat-turn",)))


def read(*feeds: bytes, to_head: bool = False, ends: bool = False) -> Read:
    response = reader(to_head=to_head)
    for feed in feeds:
        response.feed(feed)
    if ends:
        response.finish()
    return Read(response.head, list(response.pieces), response.is_complete, response.is_reusable)


def refused(*feeds: bytes, to_head: bool = False) -> str:
    with pytest.raises(UpstreamProtocolError) as error:
        read(*feeds, to_head=to_head)
    return str(error.value)


ANSWERS = {
    "length": (
        OK + b"X-A: a\r\nContent-Length: 11\r\nX-Empty:\r\nx-a: b\r\n\r\nhello\r\n\r\nyo",
        b"hello\r\n\r\nyo",
    ),
    "no body": (OK + b"Content-Length: 0\r\n\r\n", b""),
    "chunked": (CHUNKED + b"5\r\nhello\r\n1\r\n\n\r\n00\r\n\r\n", b"hello\n"),
    "events": (
        CHUNKED + '10\r\ndata: {"😀"}\r\n\r\n8\r\n: x\r\n\r\n\n\r\n0\r\n\r\n'.encode(),
        'data: {"😀"}\r\n: x\r\n\r\n\n'.encode(),
    ),
    "extensions and trailers": (
        CHUNKED + b'3;a="b";c\r\nabc\r\n0\r\nX-Trailer: t\r\nX-Chat-Turn: t\r\n\r\n',
        b"abc",
    ),
    "after informational": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
        + OK
        + b"Content-Length: 1\r\n\r\na",
        b"a",
    ),
}


@pytest.mark.parametrize("raw, body", ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_is_the_same_wherever_it_is_cut(raw: bytes, body: bytes) -> None:
    whole = read(raw)

    assert (whole.body, whole.is_complete, whole.is_reusable) == (body, True, True)
    for cut in range(1, len(raw)):
        parts = read(raw[:cut], raw[cut:])
        assert (parts.head, parts.body) == (whole.head, body)
        assert (parts.is_complete, parts.is_reusable) == (True, True)
    bytewise = read(*(raw[at : at + 1] for at in range(len(raw))))
    assert (bytewise.head, bytewise.body, bytewise.is_reusable) == (whole.head, body, True)


@pytest.mark.parametrize("raw, body", ANSWERS.values(), ids=ANSWERS.keys())
def test_an_answer_cut_short_anywhere_is_no_answer(raw: bytes, body: bytes) -> None:
    for cut in range(len(raw)):
        response = reader()
        if cut:
            response.feed(raw[:cut])

        with pytest.raises(UpstreamAbortedError):
            response.finish()
        assert body.startswith(b"".join(response.pieces))
        assert not response.is_complete


def test_head_values_are_as_sent() -> None:
    raw = (
        b"HTTP/1.1 404 Nope \xff\r\nX-A: \xffa  b\r\nset-COOKIE: 1\r\nSet-Cookie: 2\r\nX-Chat-Turn: forged\r\n"
        b"Connection: keep-alive, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 0\r\n\r\n"
    )

    assert read(raw).head == ResponseHead(
        404,
        b"Nope \xff",
        [(b"X-A", b"\xffa  b"), (b"set-COOKIE", b"1"), (b"Set-Cookie", b"2"), (b"Content-Length", b"0")],
        Framing.LENGTH,
        0,
    )


def test_each_chunk_is_a_piece_of_its_own() -> None:
    assert read(CHUNKED + b"2\r\nab\r\n1\r\nc\r\n").pieces == [b"ab", b"c"]


def test_the_end_of_the_connection_ends_a_body_without_length() -> None:
    whole = read(OK + b"\r\n", b"ab", b"c", ends=True)

    assert (whole.pieces, whole.is_complete, whole.is_reusable) == ([b"ab", b"c"], True, False)
    assert whole.head is not None
    assert whole.head.framing is Framing.CLOSE


@pytest.mark.parametrize(
    "raw",
    [
        OK + b"Connection: close\r\nContent-Length: 1\r\n\r\na",
        OK + b"Connection: x, Close\r\nContent-Length: 1\r\n\r\na",
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",
        OK + b"Content-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON",
        OK + b"Content-Length: 1\r\n\r\na ",
        OK + b"Content-Length: 1\r\n\r\naH",
        OK + b"Connection: close\r\nContent-Length: 1\r\n\r\naX",
        CHUNKED + b"1\r\na\r\n0\r\n\r\nx",
        CHUNKED + b"1\r\na\r\n0\r\n\r\n0\r\n\r\n",
    ],
)
def test_after_an_answer_that_is_the_last_or_not_all_the_connection_is_not_used_again(raw: bytes) -> None:
    whole = read(raw)

    assert (whole.body, whole.is_complete, whole.is_reusable) == (b"a", True, False)


@pytest.mark.parametrize(
    "raw, to_head",
    [
        (OK + b"Content-Length: 5\r\n\r\n", True),
        (CHUNKED, True),
        (OK + b"\r\n", True),
        (OK + b"Content-Length: 5\r\n\r\nPOISO", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", False),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nabcde", False),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", False),
        (b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", False),
    ],
)
def test_an_answer_without_body_ends_with_its_head_and_ends_the_connection(raw: bytes, to_head: bool) -> None:
    whole = read(raw, to_head=to_head)

    assert (whole.pieces, whole.is_complete, whole.is_reusable) == ([], True, False)
    assert whole.head is not None
    assert whole.head.framing is Framing.NO_BODY


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 1\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nContent-Length: 1",
        b"Content-Length: 1\r\nContent-Length: 1",
        b"Content-Length: 1\r\nContent-Length: 2",
        b"Content-Length: 1, 1",
        b"Content-Length: +1",
        b"Content-Length: -1",
        b"Content-Length: 0x1",
        b"Content-Length:",
        b"Content-Length: 18446744073709551617",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding:",
        b"Transfer-Encoding\x0b: chunked",
        b"X-A : a",
        b"X A: a",
        b": a",
        b" X-A: a",
        b"X-A: a\r\n folded",
        b"X-A: a\nX-B: b",
        b"X-A: a\rX-B: b",
        b"X-A: a\0b",
        b"X-A: a\x01b",
        b"X-A",
    ],
)
def test_a_head_that_can_be_read_in_two_ways_is_refused(head: bytes) -> None:
    assert "the upstream" in refused(OK + head + b"\r\n\r\na")


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 999 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"ICY 200 OK\r\n\r\n",
        b"\r\n" + OK + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"<html>hello</html>",
        b"\x16\x03\x01\x02\x00",
        b"Hello",
    ],
)
def test_what_is_no_final_answer_of_http_1_is_refused(raw: bytes) -> None:
    refused(raw)


@pytest.mark.parametrize(
    "chunks", [b"zz\r\n", b"+1\r\na\r\n", b"0x1\r\na\r\n", b"1\na\n", b"1\r\nab\r\n", b"-1\r\n"]
)
def test_a_bad_chunk_is_refused_after_what_was_good(chunks: bytes) -> None:
    response = reader()

    with pytest.raises(UpstreamProtocolError):
        response.feed(CHUNKED + b"4\r\ngood\r\n" + chunks)
    assert response.pieces[0] == b"good"
    assert not response.is_complete


def test_ten_informational_answers_pass_and_eleven_do_not() -> None:
    last = OK + b"Content-Length: 0\r\n\r\n"
    interim = b"HTTP/1.1 102 Processing\r\nX-A: a\r\n\r\n"

    assert read(*[interim] * 10, last).head == read(last).head
    assert "informational" in refused(interim * 11 + last)


def test_two_hundred_headers_pass_and_one_more_does_not() -> None:
    headers = b"X-A: a\r\n" * 199 + b"Content-Length: 0\r\n"

    assert read(OK + headers + b"\r\n").is_complete
    assert "200 headers" in refused(OK + headers + b"X: y\r\n\r\n")


@pytest.mark.parametrize("size", [1, 4096, 300_000])
@pytest.mark.parametrize(
    "before, flood",
    [
        (OK + b"X-A: ", b"a" * 70_000),
        (OK + b"X-", b"A" * 70_000),
        (b"HTTP/1.1 200 ", b"O" * 70_000),
        (CHUNKED + b"3;", b"x" * 70_000),
        (CHUNKED + b"0\r\nX-T: ", b"t" * 70_000),
    ],
    ids=["value", "name", "reason", "chunk extension", "trailer"],
)
def test_what_is_not_body_is_bounded(before: bytes, flood: bytes, size: int) -> None:
    raw = before + flood
    feeds = [raw[at : at + size] for at in range(0, len(raw), size)]

    assert "too long" in refused(*feeds)


def test_a_long_head_is_refused_with_its_body_behind_it() -> None:
    assert "too long" in refused(OK + b"X-A: " + b"a" * 70_000 + b"\r\nContent-Length: 1\r\n\r\na")


def test_a_body_is_not_bounded() -> None:
    body = b"a" * 1_000_000

    assert read(OK + b"Content-Length: 1000000\r\n\r\n" + body).body == body
    assert len(read(CHUNKED + b"1\r\na\r\n" * 100_000).pieces) == 100_000


def test_a_message_repeats_nothing_that_was_sent() -> None:
    assert "canary" not in refused(OK + b"canary: canary\r\ncanary\r\n\r\n")


@given(st.lists(st.binary(min_size=1), min_size=1), st.booleans())
def test_garbage_is_refused_or_unfinished(feeds: list[bytes], to_head: bool) -> None:
    _feed_any(feeds, to_head=to_head)


_TOKENS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.0 204 x\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Connection: upgrade\r\nUpgrade: x\r\n",
        b"X: y\r\n",
        b"\r\n",
        b"abc",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"0\r\nX: y\r\n\r\n",
        b" ",
        b"\0",
    ]
)


@given(st.lists(_TOKENS | st.binary(min_size=1, max_size=3), min_size=1, max_size=12), st.booleans())
def test_near_answers_are_refused_or_read(feeds: list[bytes], to_head: bool) -> None:
    _feed_any(feeds, to_head=to_head)
    _feed_any([b"HTTP/1.1 200 OK\r\n", *feeds], to_head=to_head)


def _feed_any(feeds: list[bytes], *, to_head: bool) -> None:
    """Feed as a connection does: until the answer is complete or refused."""
    response = reader(to_head=to_head)
    try:
        for feed in feeds:
            response.feed(feed)
            if response.is_complete:
                break
        else:
            response.finish()
    except UpstreamError:
        assert not response.is_complete
    else:
        assert response.head is not None
        assert 200 <= response.head.status <= 599
