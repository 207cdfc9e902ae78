"""Is this the head of one request, whose end every reader finds at the same place? No I/O.

What is asked here is asked before the parser sees a byte, which is lenient in places where the backend, or what stands
in front, may be lenient in another way. Rules of this file:

1. What two readers could understand differently is refused, never repaired (security D1, D3).
2. The parser still reads what passes, and whatever it does not like is refused, too.
3. Of what is refused nothing is repeated.
"""

import re
from collections.abc import Callable, Collection
from typing import NamedTuple

import msgspec

from chatproxy.forwarding import Header, RefusedRequestError, require_path

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_FIELD = _TOKEN + rb":[^\x00-\x08\x0a-\x1f\x7f]*+\r\n"
_FIRST_LINE = rb"(" + _TOKEN + rb") ([!-~]++) HTTP/([0-9])\.([0-9])\r\n"
_BEGINNING = re.compile(_FIRST_LINE)
_HEAD = re.compile(_FIRST_LINE + rb"((?:" + _FIELD + rb")*+)\r\n")
_FIELD_LINE = re.compile(_FIELD)
_FIELDS = re.compile(rb"([^:]++):[ \t]*+([^\r]*+)\r\n")
"""Name and value of each field of what ``_HEAD`` has found good."""
_TELLING = frozenset((b"content-length", b"transfer-encoding", b"host", b"expect", b"upgrade"))
"""The fields that say where a request ends and where it goes."""
_NOT_IN_A_HEAD = re.compile(rb"(?<!\r)\n|\r(?![\n])(?!\Z)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._~-]{1,255})(?::[0-9]{1,5})?")
_CODINGS = frozenset((b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress"))
_FORBIDDEN_METHODS = frozenset((b"CONNECT", b"TRACE", b"TRACK"))
_BODILESS_METHODS = frozenset((b"GET", b"HEAD"))
_MOST_DIGITS = 19
_LONGEST_METHOD = 32

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})(;[^\x00-\x08\x0a-\x1f\x7f]*+)?\r\n")
_LONGEST_EXTENSION = 256
_LONGEST_CHUNK_LINE = 1_024
_FREE_CHUNKS = 10_000
_LEAST_MEAN_CHUNK = 64
"""Bytes that chunks have on average where they are more than the free ones."""
_MOST_TRAILERS = 64
_NOT_IN_TRAILERS = frozenset(
    (
        b"authorization", b"connection", b"content-encoding", b"content-length", b"content-type", b"cookie", b"expect",
        b"forwarded", b"host", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"x-api-key",
    )
)  # fmt: skip


class HeadLimits(NamedTuple):
    """How large the head of a request may be, in bytes and fields."""

    head: int = 65_536
    field: int = 16_384
    fields: int = 100
    target: int = 8_192
    body: int | None = None
    """Longest body; None: there is no limit."""
    hosts: frozenset[bytes] = frozenset()
    """Lower-case names, without port, under which the listener may be asked; empty: under any."""


class Head(msgspec.Struct, frozen=True):
    """The head of a request."""

    method: bytes
    target: bytes
    """Byte for byte as received."""
    is_old: bool
    """Whether it is of HTTP/1.0."""
    headers: list[Header]
    """In the order received, names in lower case, values without the space before them."""
    length: int | None
    """Bytes of the body that follows; None: chunks tell."""
    expects_continue: bool
    asks_to_upgrade: bool


def read_head(head: bytes, limits: HeadLimits) -> Head:
    """Return what *head* says, a request's up to its empty line. Raises RefusedRequestError."""
    whole = _HEAD.fullmatch(head)
    first = whole or _BEGINNING.match(head)
    if first is None:
        raise not_http()
    method, target, is_old = _first_line(first, limits)
    if whole is None:
        raise not_http()
    if len(head) > limits.head:
        raise _too_large("all headers together", limits.head)
    if head.count(b"\r\n") - 2 > limits.fields:
        raise RefusedRequestError(
            "too_many_headers",
            f"the request has more than {limits.fields} headers; send fewer",
            status=431,
        )
    if len(head) > limits.field and max(map(len, head.split(b"\r\n")[1:])) > limits.field:
        raise _too_large("one header", limits.field)
    headers = [(name.lower(), value) for name, value in _FIELDS.findall(whole[5])]
    seen = _telling(headers)
    _check_host(seen.get(b"host"), limits, is_old=is_old)
    length = _length(seen, limits, is_old=is_old)
    if length != 0 and method in _BODILESS_METHODS:
        raise RefusedRequestError(
            "unexpected_body", "a GET or HEAD request has no body; send it with POST, or without the body"
        )
    expects = b"expect" in seen
    if expects and seen[b"expect"].lower() != b"100-continue":
        raise RefusedRequestError(
            "expectation_failed", "the only Expect that is known is 100-continue; leave it out", status=417
        )
    asks_to_upgrade = b"upgrade" in seen
    if asks_to_upgrade and length != 0:
        raise RefusedRequestError(
            "upgrade_with_body", "the request asks for another protocol and has a body; send one of the two"
        )
    return Head(method, target, is_old, headers, length, expects and not is_old, asks_to_upgrade)


def check_beginning(beginning: bytes, limits: HeadLimits, *, known: int = 0) -> None:
    """Refuse a head that is not whole yet where it cannot become one that is good. Raises RefusedRequestError.

    ``known``: bytes that were looked at before, so that a head which comes byte by byte is not read anew with each.
    """
    first, end, _ = beginning[: limits.target + _LONGEST_METHOD].partition(b"\n")
    if beginning[0] <= 0x20 or beginning[0] >= 0x7F or _NOT_IN_A_HEAD.search(beginning, known):  # noqa: PLR2004 - ASCII
        raise not_http()
    if not end and len(first) >= limits.target + _LONGEST_METHOD:
        raise _target_too_long(limits)
    if len(beginning) > limits.head:
        raise _too_large("all headers together", limits.head)


def _first_line(first: re.Match[bytes], limits: HeadLimits) -> tuple[bytes, bytes, bool]:
    """Return method, target, and whether it is HTTP/1.0."""
    method, target, major, minor = first.group(1, 2, 3, 4)
    if len(target) > limits.target:
        raise _target_too_long(limits)
    if major != b"1" or minor not in b"01":
        if method == b"PRI":
            raise not_http()
        raise RefusedRequestError(
            "http_version", "chatproxy speaks HTTP/1.1 and HTTP/1.0 on this address", status=505
        )
    if method in _FORBIDDEN_METHODS:
        raise RefusedRequestError(
            "method_not_allowed", "CONNECT, TRACE and TRACK do not pass through chatproxy", status=405
        )
    require_path(target)
    return method, target, minor == b"0"


def _telling(headers: list[Header]) -> dict[bytes, bytes]:
    seen: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _TELLING:
            if name in seen and name != b"upgrade":
                raise RefusedRequestError(
                    "duplicate_header", f"the request has two {name.decode()} headers; send one"
                )
            seen[name] = value.strip(b" \t")
    return seen


def _check_host(host: bytes | None, limits: HeadLimits, *, is_old: bool) -> None:
    if host is None:
        if not is_old:
            raise RefusedRequestError(
                "missing_host", "the request has no Host header, which HTTP/1.1 asks for"
            )
        return
    if not _HOST.fullmatch(host):
        raise RefusedRequestError("bad_host", "the Host header is not one name with or without a port")
    if limits.hosts and re.sub(rb":[0-9]+\Z", b"", host.lower()) not in limits.hosts:
        raise RefusedRequestError(
            "unknown_host", "this is not a host that chatproxy serves; ask under its own name", status=421
        )


def _length(seen: dict[bytes, bytes], limits: HeadLimits, *, is_old: bool) -> int | None:
    length = seen.get(b"content-length")
    coding = seen.get(b"transfer-encoding")
    if coding is not None:
        if length is not None or is_old:
            raise _ambiguous()
        if coding.lower() != b"chunked":
            *others, last = (name.strip(b" \t") for name in coding.lower().split(b","))
            if last == b"chunked" and _CODINGS.issuperset(others):
                raise RefusedRequestError(
                    "unsupported_coding",
                    "of transfer codings only chunked is known; say with Content-Encoding that a body is compressed",
                    status=501,
                )
            raise _ambiguous()
        return None
    if length is None:
        return 0
    if not length.isdigit() or len(length) > _MOST_DIGITS:
        raise RefusedRequestError("ambiguous_length", "the request's Content-Length is not a number")
    size = int(length)
    if limits.body is not None and size > limits.body:
        raise body_too_large(limits.body)
    return size


def not_http() -> RefusedRequestError:
    """Return the refusal of what has no better name."""
    return RefusedRequestError(
        "invalid_request", "this is not a valid HTTP/1.1 request, or its method is not one of HTTP's"
    )


def _ambiguous() -> RefusedRequestError:
    return RefusedRequestError(
        "ambiguous_length", "the length of the request's body is ambiguous; send Content-Length or chunks"
    )


def body_too_large(limit: int) -> RefusedRequestError:
    """Return the refusal of a body of more than *limit* bytes."""
    return RefusedRequestError(
        "body_too_large", f"the request body has more than {limit} bytes, the most that is taken", status=413
    )


def _target_too_long(limits: HeadLimits) -> RefusedRequestError:
    return RefusedRequestError(
        "target_too_long",
        f"the request target has more than {limits.target} bytes; send what is long in the body",
        status=414,
    )


def _too_large(what: str, limit: int) -> RefusedRequestError:
    return RefusedRequestError(
        "headers_too_large", f"{what} of the request may have {limit} bytes; send less", status=431
    )


class ChunkedBody:
    """Where does a chunked body end? Told its bytes in order, as they come, it looks at all but the data of chunks."""

    __slots__ = ("_chunks", "_forbidden", "_is_last", "_left", "_line", "_next", "_trailers", "size")

    def __init__(self, *, forbidden: Collection[bytes] = ()) -> None:
        """``forbidden``: lower-case names that a trailer may not have, beside those of framing."""
        self.size = 0
        """Bytes of data that chunks have announced."""
        self._forbidden = forbidden
        self._chunks = 0
        self._trailers = 0
        self._left = 0
        self._line = bytearray()
        self._is_last = False
        self._next: Callable[[bytes], None] = self._size_line

    def end_in(self, data: bytes) -> int | None:
        """Return the offset in *data* at which the body ends, or None if it goes on. Raises RefusedRequestError."""
        at = 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            stop = data.find(b"\n", at) + 1
            self._line += data[at : stop or len(data)]
            if len(self._line) > _LONGEST_CHUNK_LINE:
                raise _bad_chunk()
            if not stop:
                return None
            at = stop
            line = bytes(self._line)
            self._line.clear()
            if self._is_last and line == b"\r\n":
                return at
            self._next(line)
        return None

    def _size_line(self, line: bytes) -> None:
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None or len(match[2] or b"") > _LONGEST_EXTENSION:
            raise _bad_chunk()
        size = int(match[1], 16)
        self._chunks += 1
        self.size += size
        if self._chunks > _FREE_CHUNKS + self.size // _LEAST_MEAN_CHUNK:
            raise RefusedRequestError(
                "too_many_chunks", "the request's body comes in too many small chunks; send larger ones"
            )
        self._is_last = size == 0
        self._left = size
        self._next = self._trailer if self._is_last else self._data_end

    def _data_end(self, line: bytes) -> None:
        if line != b"\r\n":
            raise _bad_chunk()
        self._next = self._size_line

    def _trailer(self, line: bytes) -> None:
        name = line.partition(b":")[0].lower().replace(b"_", b"-")
        self._trailers += 1
        if self._trailers > _MOST_TRAILERS or not _FIELD_LINE.fullmatch(line):
            raise _bad_chunk()
        if name in _NOT_IN_TRAILERS or name in self._forbidden:
            raise RefusedRequestError(
                "bad_trailer", "a header that says how or for whom a request is read may not be a trailer"
            )


def _bad_chunk() -> RefusedRequestError:
    return RefusedRequestError(
        "bad_chunk", "the chunks of the request's body are not as HTTP/1.1 has them (RFC 9112 7.1)"
    )
