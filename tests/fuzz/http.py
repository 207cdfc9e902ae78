"""What arrives as HTTP: an upstream's answer, a request's head and target. Refused by a reason, or read in one way.

Of an answer, the first byte of an input says what the request was, the second how long the pieces are.
"""

from contextlib import suppress

from chatproxy.forwarding import RefusedRequestError, request_head, upstream_target
from chatproxy.web.upstream.errors import UpstreamAbortedError, UpstreamProtocolError
from chatproxy.web.upstream.response import ResponseReader
from fuzz.target import Target

LONGEST = 1 << 16
DROP = frozenset({b"x-chat-turn"})
_HEAD = 2


def answer(data: bytes) -> None:
    """Read an answer twice, whole and in pieces."""
    if len(data) <= _HEAD:
        return
    flags, piece, body = data[0], data[1] + 1, data[_HEAD:]
    whole = _read([body], flags)
    in_pieces = _read([body[at : at + piece] for at in range(0, len(body), piece)], flags)
    # Where a longer head is refused depends on how it comes.
    assert in_pieces == whole or len(body) > LONGEST


def _read(pieces: list[bytes], flags: int) -> tuple[object, bytes, bool, bool]:
    reader = ResponseReader(to_head_request=bool(flags & 1), drop=DROP, may_switch=bool(flags & 2))
    is_refused = False
    try:
        for piece in pieces:
            reader.feed(piece)
            if reader.is_complete:
                break
        else:
            reader.finish()
    except (UpstreamProtocolError, UpstreamAbortedError):
        is_refused = True
    return reader.head, b"".join(reader.pieces), reader.is_complete, is_refused


def request(data: bytes) -> None:
    """Read the first line as a target and the others as headers."""
    target, *lines = data.split(b"\n")
    with suppress(RefusedRequestError):
        passed = upstream_target(target, base_path=b"/base")
        assert passed == b"/base" + target
        assert b"/../" not in passed + b"/"
    headers = [
        (name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)
    ]
    with suppress(RefusedRequestError):
        head = request_head(headers, authority=b"chat", drop=DROP)
        names = [name for name, _ in head.headers]
        assert names.count(b"host") == 1
        assert not {name.replace(b"_", b"-") for name in names} & DROP
        assert b"connection" not in names


TARGETS = {
    "answers": Target(
        answer,
        (
            b"\x00\x06HTTP/1.1 200 OK\r\nContent-Length: 3\r\nSet-Cookie: a=1\r\n\r\nabc",
            b"\x00\x03HTTP/1.1 100 A\r\n\r\nHTTP/1.1 200 B\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\n",
            b"\x01\x09HTTP/1.0 204 x\r\nConnection: close, x-a\r\nX-A: 1\r\n\r\n",
            b"\x02\x20HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x01a",
            b"\x00\x10HTTP/1.1 200 OK\r\n\r\nas long as it lasts",
        ),
        head=_HEAD,
    ),
    "requests": Target(
        request,
        (
            b"/v1/chat%2Fx?a=1&b=%20\nconnection: keep-alive, x-a\nx-a: 1\ncontent-length: 5\nauthorization: b",
            b"/a/%2e%2E/b\nx_chat_turn: 1\ntransfer-encoding: chunked\nexpect: 100-continue\nhost: a",
        ),
    ),
}
