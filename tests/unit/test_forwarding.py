"""What passes through, byte for byte, and what does not."""

import string

import pytest
from hypothesis import example, given, strategies as st

from chatproxy.errors import ConfigurationError
from chatproxy.forwarding import (
    Framing,
    Header,
    RefusedRequestError,
    RefusedResponseError,
    RequestHead,
    ResponseHead,
    UpstreamAddress,
    request_head,
    response_head,
    upstream_target,
)

OURS = frozenset((b"x-chat-subject", b"x-chat-auth"))


def head_of(*headers: Header, drop: frozenset[bytes] = OURS) -> RequestHead:
    return request_head(headers, authority=b"chat.internal", drop=drop)


def passed(*headers: Header) -> list[Header]:
    """The request headers that go upstream beside Host."""
    head = head_of(*headers)
    assert head.headers[0] == (b"host", b"chat.internal")

    return head.headers[1:]


def answer(*headers: Header, status: int = 200, version: str = "1.1", to_head: bool = False) -> ResponseHead:
    return response_head(
        status,
        b"OK",
        list(headers),
        http_version=version,
        to_head_request=to_head,
        drop=frozenset((b"x-chat-turn",)),
    )


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"/v1/chat/completions",
        b"/v1/chat/completions?",
        b"/a?b=c&d=%0A&e=/../x&f=%2e%2e&g=http://h/@",
        b"/a//b///",
        b"/models/org%2Fname",
        b"/models/org%2fname:generate",
        b"/~user/.well-known/a.b/...",
        b"/a;v=1/b;.;..",
        b"/%E2%82%AC",
        b"/100%",
        b"/%zz",
        b"/a@b:c",
        b"/?",
        b"/%252e%252e/",
    ],
)
@pytest.mark.parametrize("base", [b"", b"/api", b"/a/b.c"])
def test_a_target_passes_byte_for_byte_under_the_base_path(target: bytes, base: bytes) -> None:
    assert upstream_target(target, base_path=base) == base + target


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"*",
        b"http://169.254.169.254/latest",
        b"https://h/",
        b"127.0.0.1:6379",
        b"@evil/x",
        b"//evil/x",
        b"///evil",
        b"v1/chat",
        b"?/v1",
        b"/a b",
        b"/a\tb",
        b"/a\r\nX: y",
        b"/a\nb",
        b"/a\0b",
        b"/a\x7fb",
        b"/a\x80",
        b"/\xc3\xa9",
        b"/a?q=\xc3\xa9",
        b"/a?q=a b",
        b"/a?q=a\nb",
        b"/a#b",
        b"/a?b#c",
        b"/a\\b",
        b"/a?b=\\",
        b"/\\evil",
        b"/.",
        b"/..",
        b"/./a",
        b"/../a",
        b"/a/..",
        b"/a/../b",
        b"/a/./b",
        b"/v1/%2e%2e/admin",
        b"/v1/%2E%2e/admin",
        b"/v1/.%2E/admin",
        b"/v1/%2e",
        b"/v1/..%2fadmin",
        b"/v1/x%2F..%2Fadmin",
        b"/v1/..%5Cadmin",
        b"/v1/..;/admin",
        b"/v1/%2e%2e;x=y/admin",
        b"/a%0d%0ab",
        b"/a%0D",
        b"/a%00b",
        b"/a%1F",
        b"/a%7f",
        b"/%c0%ae%c0%ae/",
        b"/%ff",
        b"/%ed%a0%80",
    ],
)
def test_a_target_that_readers_differ_about_is_refused(target: bytes) -> None:
    with pytest.raises(RefusedRequestError) as refused:
        upstream_target(target, base_path=b"/api")

    assert (refused.value.status, refused.value.code) == (400, "bad_target")


@given(st.binary(max_size=40).map(lambda tail: b"/" + tail))
@example(b"/%2E.")
def test_what_passes_has_no_dot_segment_however_it_is_decoded(target: bytes) -> None:
    try:
        passed_on = upstream_target(target, base_path=b"")
    except RefusedRequestError:
        return

    path = (
        passed_on.partition(b"?")[0].lower().replace(b"%2e", b".").replace(b"%2f", b"/").replace(b"%5c", b"/")
    )
    assert passed_on == target
    assert not {b".", b".."} & set(path.split(b"/"))


@pytest.mark.parametrize(
    "url, host, port, is_tls, authority_and_path",
    [
        ("http://h", "h", 80, False, (b"h", b"")),
        ("http://h/", "h", 80, False, (b"h", b"")),
        ("http://H:80/api/", "h", 80, False, (b"h", b"/api")),
        ("http://h:443", "h", 443, False, (b"h:443", b"")),
        ("https://h", "h", 443, True, (b"h", b"")),
        ("https://h:443/a/b", "h", 443, True, (b"h", b"/a/b")),
        ("https://h:80", "h", 80, True, (b"h:80", b"")),
        ("http://[::1]:8000/v1", "::1", 8000, False, (b"[::1]:8000", b"/v1")),
        ("http://[::1]", "::1", 80, False, (b"[::1]", b"")),
        ("http://bücher.example", "xn--bcher-kva.example", 80, False, (b"xn--bcher-kva.example", b"")),
    ],
)
def test_a_base_url_is_taken_apart(
    url: str, host: str, port: int, is_tls: bool, authority_and_path: tuple[bytes, bytes]
) -> None:
    authority, base_path = authority_and_path
    expected = UpstreamAddress(host=host, port=port, is_tls=is_tls, authority=authority, base_path=base_path)

    assert UpstreamAddress.parse(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h",
        "h:80",
        "//h",
        "ftp://h",
        "unix:///x",
        "http://",
        "http://:80",
        "http://h:0",
        "http://h:65536",
        "http://h:x",
        "http://user@h",
        "http://u:p@h",
        "http://@h",
        "http://h?",
        "http://h/?a",
        "http://h/#",
        "http://h/a b",
        "http://h/a\\b",
        "http://a b/",
        "http://a\nb/",
        "http://h%41/",
        "http://a..b/",
        "http://h/../x",
        "http://h/%2e%2e/x",
        "http://h//x",
        "http://h/é",
    ],
)
def test_what_is_no_base_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="must be a base URL such as https://"):
        UpstreamAddress.parse(url)


def test_an_address_shows_its_origin_alone() -> None:
    assert str(UpstreamAddress.parse("https://h:8443/secret")) == "https://h:8443"


def test_end_to_end_headers_pass_unaltered_in_order_with_duplicates() -> None:
    headers = (
        (b"accept-encoding", b"gzip, br;q=0.5, zstd"),
        (b"x-a", b" \xff\tspaced  "),
        (b"cookie", b"a=1"),
        (b"content-length", b"12"),
        (b"x-a", b""),
        (b"authorization", b"Bearer k"),
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"forwarded", b"for=10.0.0.1"),
        (b"cookie", b"b=2"),
        (b"x_y", b"underscore"),
        (b"content-encoding", b"gzip"),
    )

    assert passed(*headers) == list(headers)


@pytest.mark.parametrize(
    "name",
    [
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
        b"http2-settings",
        b"host",
        b"expect",
        b"x-chat-subject",
        b"x-chat-auth",
        b"x_chat_subject",
        b"x-chat_subject",
        b"x_chat-auth",
    ],
)
def test_what_is_of_one_hop_or_our_own_does_not_go_upstream(name: bytes) -> None:
    assert passed((b"x-a", b"1"), (name, b"x"), (b"x-b", b"2")) == [(b"x-a", b"1"), (b"x-b", b"2")]


@pytest.mark.parametrize("value", [b"x-a", b"close, X-A", b"keep-alive,\tx-a ,x-c"])
def test_nominated_headers_do_not_go_upstream(value: bytes) -> None:
    assert passed((b"x-a", b"1"), (b"connection", value), (b"x-a", b"2"), (b"x-b", b"3")) == [(b"x-b", b"3")]


def test_nominations_of_two_connection_headers_count() -> None:
    headers = ((b"connection", b"x-a"), (b"connection", b"x-b"), (b"x-a", b"1"), (b"x-b", b"2"))

    assert passed(*headers) == []


@pytest.mark.parametrize(
    "name",
    [
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"content-type",
        b"content-encoding",
        b"authorization",
        b"x-api-key",
        b"cookie",
        b"x-chat-subject",
        b"X-Chat-Auth",
        b"x_chat_subject",
    ],
)
def test_a_protected_header_cannot_be_nominated(name: bytes) -> None:
    with pytest.raises(RefusedRequestError) as refused:
        passed((b"connection", b"close, " + name))

    assert refused.value.code == "protected_header"


@pytest.mark.parametrize("name", [b"host", b"authorization", b"content-length", b"transfer-encoding"])
def test_a_header_that_must_be_one_is_refused_twice(name: bytes) -> None:
    with pytest.raises(RefusedRequestError) as refused:
        passed((name, b"1"), (name, b"1"))

    assert refused.value.code == "duplicate_header"
    assert name.decode() in str(refused.value)


@pytest.mark.parametrize(
    "headers, framing, length",
    [
        ((), [], 0),
        (((b"content-length", b"0"),), [(b"content-length", b"0")], 0),
        (((b"content-length", b"007"),), [(b"content-length", b"007")], 7),
        (((b"transfer-encoding", b"chunked"),), [(b"transfer-encoding", b"chunked")], None),
        (((b"transfer-encoding", b"\tChunked "),), [(b"transfer-encoding", b"chunked")], None),
    ],
)
def test_the_body_is_framed_as_it_was(
    headers: tuple[Header, ...], framing: list[Header], length: int | None
) -> None:
    assert head_of(*headers) == RequestHead([(b"host", b"chat.internal"), *framing], length)


@pytest.mark.parametrize(
    "headers",
    [
        ((b"content-length", b"3"), (b"transfer-encoding", b"chunked")),
        ((b"transfer-encoding", b"chunked"), (b"content-length", b"3")),
        ((b"transfer-encoding", b"gzip, chunked"),),
        ((b"transfer-encoding", b"chunked, chunked"),),
        ((b"transfer-encoding", b"identity"),),
        ((b"transfer-encoding", b"xchunked"),),
        ((b"transfer-encoding", b""),),
        *(
            ((b"content-length", value),)
            for value in (b"+3", b"-1", b"0x3", b"3, 3", b"0_3", b"", b"1" * 20, b"3 3")
        ),
    ],
    ids=str,
)
def test_an_ambiguous_length_is_refused(headers: tuple[Header, ...]) -> None:
    with pytest.raises(RefusedRequestError) as refused:
        head_of(*headers)

    assert refused.value.code == "ambiguous_length"


def test_a_refusal_repeats_nothing_of_the_request() -> None:
    with pytest.raises(RefusedRequestError) as refused:
        upstream_target(b"/canary/../x", base_path=b"")

    assert "canary" not in str(refused.value)


def test_response_headers_pass_unaltered_in_order_with_duplicates() -> None:
    headers = (
        (b"Content-Type", b"text/event-stream"),
        (b"set-cookie", b"a=1"),
        (b"X-A", b" \xff "),
        (b"Set-Cookie", b"b=2"),
        (b"Content-Length", b"5"),
        (b"Server", b"s"),
        (b"Date", b"d"),
    )

    assert answer(*headers) == ResponseHead(
        200, b"OK", list(headers), Framing.LENGTH, 5, content_type=b"text/event-stream"
    )


def test_a_response_says_what_it_is_and_of_two_that_say_so_the_first_counts() -> None:
    headers = (
        (b"Content-Type", b"text/event-stream"),
        (b"CONTENT-ENCODING", b"br"),
        (b"content-type", b"text/plain"),
        (b"content-encoding", b"gzip"),
        (b"connection", b"content-type, content-encoding"),
    )
    head = answer(*headers)
    assert (head.headers, head.content_type, head.content_encoding) == (
        list(headers[:-1]),
        b"text/event-stream",
        b"br",
    )


@pytest.mark.parametrize(
    "name",
    [
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Authenticate",
        b"TE",
        b"Trailer",
        b"Upgrade",
        b"X-Chat-Turn",
        b"x-chat-turn",
    ],
)
def test_what_is_of_one_hop_or_ours_to_say_does_not_go_downstream(name: bytes) -> None:
    assert answer((name, b"x"), (b"X-A", b"1")).headers == [(b"X-A", b"1")]


def test_a_response_nominates_headers_but_not_those_that_carry_its_meaning() -> None:
    headers = (
        (b"Connection", b"close, X-A, Content-Type, content-length, content-encoding"),
        (b"x-a", b"1"),
        (b"Content-Type", b"t"),
        (b"Content-Encoding", b"gzip"),
        (b"Content-Length", b"1"),
    )

    assert answer(*headers).headers == list(headers[2:])


@pytest.mark.parametrize(
    "headers, version, framing",
    [
        (((b"Content-Length", b"0"),), "1.1", Framing.LENGTH),
        (((b"Content-Length", b"5 "),), "1.0", Framing.LENGTH),
        (((b"Transfer-Encoding", b"Chunked "),), "1.1", Framing.CHUNKED),
        ((), "1.1", Framing.CLOSE),
        ((), "1.0", Framing.CLOSE),
    ],
)
def test_how_a_response_ends(headers: tuple[Header, ...], version: str, framing: Framing) -> None:
    assert answer(*headers, version=version).framing is framing


@pytest.mark.parametrize(
    "headers, version, why",
    [
        (((b"content-length", b"1"), (b"Content-Length", b"1")), "1.1", "two content-length"),
        (
            ((b"transfer-encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")),
            "1.1",
            "two transfer-encoding",
        ),
        (((b"content-length", b"1"), (b"Transfer-Encoding", b"chunked")), "1.1", "both"),
        (((b"Transfer-Encoding", b"gzip, chunked"),), "1.1", "not chunked"),
        (((b"Transfer-Encoding", b"gzip"),), "1.1", "not chunked"),
        (((b"Transfer-Encoding", b""),), "1.1", "not chunked"),
        (((b"Transfer-Encoding", b"chunked"),), "1.0", "HTTP/1.0"),
        (((b"Content-Length", b"+1"),), "1.1", "not a number"),
        (((b"Content-Length", b"1, 1"),), "1.1", "not a number"),
        (((b"Content-Length", b""),), "1.1", "not a number"),
    ],
    ids=str,
)
@pytest.mark.parametrize("to_head", [False, True])
def test_a_response_that_could_end_in_two_places_is_refused(
    headers: tuple[Header, ...], version: str, why: str, to_head: bool
) -> None:
    with pytest.raises(RefusedResponseError, match=why):
        answer(*headers, version=version, to_head=to_head)


@pytest.mark.parametrize("status", [0, 99, 100, 101, 199, 600, 999])
def test_a_status_that_is_no_answer_is_refused(status: int) -> None:
    with pytest.raises(RefusedResponseError, match="status"):
        answer(status=status)


@pytest.mark.parametrize("status", [200, 204, 304, 418, 529, 599])
def test_any_other_status_passes(status: int) -> None:
    assert answer(status=status).status == status


def test_an_answer_to_head_keeps_its_length_and_has_no_body() -> None:
    assert answer((b"Content-Length", b"7"), to_head=True) == ResponseHead(
        200, b"OK", [(b"Content-Length", b"7")], Framing.NO_BODY, None
    )


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_body_promises_none(status: int) -> None:
    head = answer((b"Content-Length", b"7"), (b"ETag", b"e"), status=status)

    assert head == ResponseHead(status, b"OK", [(b"ETag", b"e")], Framing.NO_BODY, None)


@given(
    st.lists(
        st.tuples(
            st.text(string.ascii_lowercase, min_size=1, max_size=8).map(lambda name: b"x-" + name.encode()),
            st.binary(max_size=20),
        )
    )
)
def test_any_end_to_end_headers_pass_both_ways(headers: list[Header]) -> None:
    assert passed(*headers) == headers
    assert answer(*headers).headers == headers
