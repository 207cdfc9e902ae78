"""What may become a WebSocket: one handshake in every reader's eyes, and an upstream that agreed to that one."""

import pytest

from chatproxy.forwarding import Framing, Header, RefusedRequestError, RequestHead, ResponseHead
from chatproxy.web.handshake import asks_for_websocket, upgrade_request, upgrade_response
from chatproxy.web.upstream import UpstreamProtocolError

# RFC 6455 1.3.
KEY, ACCEPT = b"dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
GOOD: list[Header] = [
    (b"upgrade", b"WebSocket"),
    (b"connection", b"keep-alive, Upgrade"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", KEY),
]


def with_header(name: bytes, value: bytes | None) -> list[Header]:
    kept = [header for header in GOOD if header[0] != name]
    return kept if value is None else [*kept, (name, value)]


def head_of(headers: list[Header], length: int | None = 0) -> RequestHead:
    return RequestHead([header for header in headers if header[0].startswith(b"sec-")], length)


def test_a_handshake_goes_on_with_the_two_headers_that_ask_for_the_switch() -> None:
    assert upgrade_request("GET", GOOD, head_of(GOOD)) == RequestHead(
        [*GOOD[2:], (b"connection", b"Upgrade"), (b"upgrade", b"websocket")], 0
    )


@pytest.mark.parametrize(
    "headers",
    [
        with_header(b"sec-websocket-key", None),
        with_header(b"sec-websocket-key", b""),
        with_header(b"sec-websocket-key", KEY[:-4]),
        with_header(b"sec-websocket-key", b"QUJD" + KEY),
        with_header(b"sec-websocket-key", b"!" + KEY),
        [*GOOD, GOOD[-1]],
        with_header(b"upgrade", b"websocket, h2c"),
        [*GOOD, (b"upgrade", b"h2c")],
        [*GOOD, (b"upgrade", b"websocket")],
    ],
    ids=[
        "no key", "empty key", "short key", "long key", "bad key", "two keys", "another protocol beside", "another header",
        "the same header again",
    ],
)  # fmt: skip
def test_what_is_not_one_handshake_is_refused(headers: list[Header]) -> None:
    with pytest.raises(RefusedRequestError) as refused:
        upgrade_request("GET", headers, head_of(headers))
    assert (refused.value.status, refused.value.code) == (400, "bad_websocket")


@pytest.mark.parametrize("version", [None, b"8", b"13, 8", b"14", b""])
def test_another_version_is_refused_as_such(version: bytes | None) -> None:
    headers = with_header(b"sec-websocket-version", version)
    with pytest.raises(RefusedRequestError) as refused:
        upgrade_request("GET", headers, head_of(headers))
    assert (refused.value.status, refused.value.code) == (426, "websocket_version")


@pytest.mark.parametrize("method, length", [("POST", 0), ("GET", 3), ("GET", None)])
def test_another_method_or_a_body_is_refused(method: str, length: int | None) -> None:
    with pytest.raises(RefusedRequestError):
        upgrade_request(method, GOOD, head_of(GOOD, length))


@pytest.mark.parametrize(
    "values, asks",
    [
        ([b"websocket"], True),
        ([b"WebSocket"], True),
        ([b"h2c", b"websocket"], True),
        ([b"h2c , websocket"], True),
        ([b"h2c"], False),
        ([b"websocket2"], False),
        ([b"websocket/13"], False),
        ([], False),
    ],
)
def test_who_asks_for_a_websocket_among_others_asks_for_one(values: list[bytes], asks: bool) -> None:
    assert asks_for_websocket([(b"upgrade", value) for value in values]) is asks


def answer(*accepts: bytes) -> ResponseHead:
    headers = [(b"Sec-WebSocket-Accept", accept) for accept in accepts]
    return ResponseHead(101, b"Sure", headers, Framing.NO_BODY, None)


def test_an_answer_to_this_handshake_is_taken() -> None:
    assert upgrade_response(GOOD, answer(ACCEPT)) == [
        (b"Sec-WebSocket-Accept", ACCEPT),
        (b"connection", b"Upgrade"),
        (b"upgrade", b"websocket"),
    ]


@pytest.mark.parametrize("accepts", [(), (b"",), (KEY,), (ACCEPT.lower(),), (ACCEPT, ACCEPT)])
def test_an_answer_to_no_handshake_or_another_one_is_refused(accepts: tuple[bytes, ...]) -> None:
    with pytest.raises(UpstreamProtocolError):
        upgrade_response(GOOD, answer(*accepts))
