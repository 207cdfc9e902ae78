"""What goes out of an answer, and what is heard of a request, whoever answers it."""

import asyncio
from typing import Any

import pytest

from chatproxy.forwarding import Header
from chatproxy.web.client_call import ClientCall
from chatproxy.web.framing import HeadLimits, read_head

TYPE: Header = (b"content-type", b"text/plain")


class Client:
    """A connection that remembers."""

    client: tuple[str, int] | None = ("192.0.2.1", 4)
    server: tuple[str, int] | None = ("192.0.2.2", 80)
    scheme = "http"
    certificate: dict[str, Any] | None = None

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.is_write_paused = False
        self.is_paused = False
        self.sent: list[bytes] = []
        self.end = ""

    def write(self, data: bytes) -> None:
        """See Line."""
        self.sent.append(data)

    def pause_reading(self) -> None:
        """See Line."""
        self.is_paused = True

    def resume_reading(self) -> None:
        """See Line."""
        self.is_paused = False

    def answered(self) -> None:
        """See Line."""
        self.end = "answered"

    def cut(self) -> None:
        """See Line."""
        self.end = "cut"


class Backend:
    """A source that remembers."""

    is_paused = False

    def pause_reading(self) -> None:
        """See Source."""
        self.is_paused = True

    def resume_reading(self) -> None:
        """See Source."""
        self.is_paused = False


def a_call(client: Client, *, method: bytes = b"GET", old: bool = False, fields: bytes = b"") -> ClientCall:
    version = b"1.0" if old else b"1.1"
    head = b"%b /a%%20b?c#d HTTP/%b\r\nHost: chat\r\n%b\r\n" % (method, version, fields)
    call = ClientCall(client, read_head(head, HeadLimits()))
    call.keeps_alive = not old
    return call


async def test_head_pieces_and_end_that_come_together_go_out_together() -> None:
    client = Client()
    call = a_call(client)
    call.begin(200, [TYPE], length=None)
    assert client.sent == []
    call.write((b"one", b"", b"three"), more_body=False)

    assert client.sent == [
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n"
            b"3\r\none\r\n5\r\nthree\r\n0\r\n\r\n"
        )
    ]
    assert (client.end, call.is_complete) == ("answered", True)


async def test_a_head_goes_out_without_a_piece_and_a_piece_without_the_end() -> None:
    client = Client()
    call = a_call(client)
    call.begin(404, [], length=2)
    call.write((), more_body=True)
    call.write((b"ab",), more_body=True)
    call.write((), more_body=False)

    assert client.sent == [b"HTTP/1.1 404 Not Found\r\n\r\n", b"ab"]


@pytest.mark.parametrize(
    "method, old, status, length, sent",
    [
        (b"HEAD", False, 200, 3, b"HTTP/1.1 200 OK\r\n\r\n"),
        (b"HEAD", False, 200, None, b"HTTP/1.1 200 OK\r\n\r\n"),
        (b"GET", False, 299, 3, b"HTTP/1.1 299 \r\n\r\nabc"),
        (b"GET", True, 200, 3, b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"),
        (b"GET", True, 200, None, b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"),
    ],
    ids=["HEAD", "HEAD without a length", "an unknown status", "HTTP/1.0", "HTTP/1.0 without a length"],
)
async def test_how_an_answer_ends_is_said_as_its_reader_knows_it(
    method: bytes, old: bool, status: int, length: int | None, sent: bytes
) -> None:
    client = Client()
    call = a_call(client, method=method, old=old)
    call.begin(status, [], length=length)
    call.write((b"abc",), more_body=False)

    assert client.sent == [sent]
    assert call.is_until_closed is (old and length is None)


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_body_has_none(status: int) -> None:
    call = a_call(Client())
    call.begin(status, [], length=None)
    with pytest.raises(ValueError, match="as long as"):
        call.write((b"a",), more_body=False)


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"a\r\nx: b"), (b"x", b"a\nx: b"), (b"x", b"a\0"), (b"x", b"a\x7f"), (b"x\r\ny", b"a"), (b"x:y z", b"a"),
        (b"", b"a"), (b"x y", b"a"), (b"x: a\r\ny", b"b"),
    ],
)  # fmt: skip
async def test_what_is_no_header_is_not_sent(header: Header) -> None:
    client = Client()
    call = a_call(client)
    with pytest.raises(ValueError, match="headers"):
        call.begin(200, [TYPE, header], length=0)
    call.fail()

    assert client.sent[0].startswith(b"HTTP/1.1 500 ")


async def test_an_answer_begins_once_and_nothing_follows_its_end() -> None:
    client = Client()
    call = a_call(client)
    call.begin(200, [], length=0)
    with pytest.raises(ValueError, match="headers"):
        call.begin(200, [], length=0)
    call.write((), more_body=False)
    with pytest.raises(ValueError, match="behind its end"):
        call.write((b"a",), more_body=False)
    assert len(client.sent) == 1


@pytest.mark.parametrize("body, more_body", [(b"abcd", True), (b"ab", False)], ids=["longer", "shorter"])
async def test_an_answer_of_another_length_than_announced_is_cut(body: bytes, more_body: bool) -> None:
    client = Client()
    call = a_call(client)
    call.begin(200, [], length=3)
    with pytest.raises(ValueError, match="as long as"):
        call.write((body,), more_body=more_body)
    call.fail()

    assert client.end == "cut"


async def test_nothing_is_sent_to_who_has_gone() -> None:
    client = Client()
    gone: list[str] = []
    call = a_call(client)
    call.tell_when_gone(lambda: gone.append("told"))
    call.leave()
    call.leave()
    call.tell_when_gone(lambda: gone.append("told at once"))
    call.begin(200, [], length=None)
    call.write((b"a",), more_body=False)
    await call.send({"type": "http.response.body", "body": b"a"})

    assert (client.sent, gone, await call.read()) == ([], ["told", "told at once"], None)


async def test_who_has_gone_is_not_told_to_go_on() -> None:
    client = Client()
    call = a_call(client, method=b"POST", fields=b"Content-Length: 2\r\nExpect: 100-continue\r\n")
    call.leave()

    assert (await call.read(), client.sent) == (None, [])


async def test_who_is_answered_is_not_told_to_have_gone() -> None:
    call = a_call(Client())
    call.tell_when_gone(pytest.fail)
    call.begin(200, [], length=0)
    call.write((), more_body=False)

    assert await call.read() is None


async def test_the_source_waits_while_the_client_takes_nothing() -> None:
    client, source = Client(), Backend()
    client.is_write_paused = True
    call = a_call(client)
    call.draw_from(source)
    found = [source.is_paused]
    call.write_resumed()
    found.append(source.is_paused)
    call.write_paused()
    found.append(source.is_paused)
    call.write_resumed()

    assert [*found, source.is_paused] == [True, False, True, False]


async def test_an_application_waits_while_the_client_takes_nothing() -> None:
    client = Client()
    client.is_write_paused = True
    call = a_call(client)
    sending = asyncio.ensure_future(call.send({"type": "http.response.start", "status": 200, "headers": []}))
    await asyncio.sleep(0)
    assert (sending.done(), client.sent) == (False, [])

    client.is_write_paused = False
    call.write_resumed()
    await sending
    assert client.sent == [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"]


async def test_what_an_application_says_of_the_connection_is_obeyed_and_said_once() -> None:
    client = Client()
    call = a_call(client)
    headers = [(b"Connection", b"Close"), (b"Transfer-Encoding", b"chunked"), TYPE, (b"content-length", b"1")]
    await call.send({"type": "http.response.start", "status": 200, "headers": headers})
    await call.send({"type": "http.response.body", "body": b"a"})

    assert b"".join(client.sent) == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1\r\nconnection: close\r\n\r\na"
    )
    assert not call.keeps_alive


async def test_the_body_is_heard_as_it_comes_and_its_end_once() -> None:
    client = Client()
    call = a_call(client, method=b"POST", fields=b"Content-Length: 3\r\nExpect: 100-continue\r\n")
    reading = asyncio.ensure_future(call.read())
    await asyncio.sleep(0)
    assert client.sent == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    call.hear(b"a")
    call.hear(b"b")
    assert await reading == (b"ab", True)
    call.hear(b"c")
    call.hear_end()
    assert await call.receive() == {"type": "http.request", "body": b"c", "more_body": False}

    reading = asyncio.ensure_future(call.read())
    await asyncio.sleep(0)
    assert not reading.done()
    call.leave()
    assert await reading is None
    assert client.sent == [b"HTTP/1.1 100 Continue\r\n\r\n"]


async def test_who_sends_more_than_is_asked_for_waits() -> None:
    client = Client()
    call = a_call(client, method=b"POST", fields=b"Transfer-Encoding: chunked\r\n")
    waited = []
    for _ in range(2):
        for _ in range(64):
            call.hear(b"x" * 1024)
        waited.append(client.is_paused)
        call.hear(b"x")
        waited.append(client.is_paused)
        await call.read()

    assert waited == [False, True, False, True]
    assert client.is_paused is False


async def test_the_scope_says_what_was_asked() -> None:
    call = a_call(Client(), old=True)
    scope = call.scope

    assert {name: scope[name] for name in ("http_version", "method", "path", "raw_path", "query_string")} == {
        "http_version": "1.0",
        "method": "GET",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"c",
    }
    assert (scope["headers"], scope["client"], call.address) == (
        [(b"host", b"chat")],
        ("192.0.2.1", 4),
        "192.0.2.1",
    )


@pytest.mark.parametrize("pieces", [(), (b"",), (b"", b"")], ids=["none", "one", "two"])
async def test_pieces_without_bytes_do_not_end_an_answer(pieces: tuple[bytes, ...]) -> None:
    client = Client()
    call = a_call(client)
    call.begin(200, [TYPE], length=None)
    call.write((), more_body=True)
    call.write(pieces, more_body=True)
    call.write((b"a", b"", b"b"), more_body=True)
    call.write((b"c",), more_body=False)
    assert b"".join(client.sent).partition(b"\r\n\r\n")[2] == b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n"
