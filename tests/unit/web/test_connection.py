"""Where the parser and what is read before it (``framing``) do not find one and the same request, nothing is answered."""

import asyncio
from typing import Any

import pytest

from chatproxy.forwarding import RefusedRequestError
from chatproxy.web.client_call import ClientCall
from chatproxy.web.connection import ClientConnection, ClientLimits, House, _Stage
from chatproxy.web.crowd import Crowd
from chatproxy.web.framing import HeadLimits, read_head

HEAD = b"POST / HTTP/1.1\r\nHost: chat\r\nContent-Length: 3\r\n\r\n"


class Socket(asyncio.Transport):
    """A client's connection."""

    def write(self, data: Any) -> None:
        """See asyncio.WriteTransport."""

    def close(self) -> None:
        """See asyncio.BaseTransport."""

    def is_closing(self) -> bool:
        """See asyncio.BaseTransport."""
        return True

    def can_write_eof(self) -> bool:
        """See asyncio.WriteTransport."""
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """See asyncio.BaseTransport."""
        return {"peername": ("192.0.2.1", 4), "sockname": ("192.0.2.2", 80)}.get(name, default)


async def never(_: ClientCall) -> None:
    """Answer nothing."""
    await asyncio.Event().wait()


def a_connection() -> ClientConnection:
    house = House(
        never,
        is_tls=False,
        limits=ClientLimits(),
        crowd=Crowd(1, 1),
        words=lambda _: (b"", []),
        cut=lambda _: None,
        not_in_trailers=(),
        connections=set(),
        tasks={},
    )
    connection = ClientConnection(house)
    connection.connection_made(Socket())
    connection._head = read_head(HEAD, HeadLimits())
    return connection


@pytest.mark.parametrize(
    "stage, said",
    [
        (_Stage.ANSWER, HEAD + b"ab"),
        (_Stage.BODY, HEAD + b"abc"),
        (_Stage.BODY, HEAD[:-2]),
        (_Stage.ANSWER, HEAD + b"abc" + HEAD + b"abc"),
        (_Stage.BODY, HEAD + b"abc" + HEAD + b"a"),
    ],
    ids=["ends later", "ends earlier", "has no end of its head", "two", "two of which one is not whole"],
)
async def test_a_request_that_the_parser_ends_elsewhere_is_refused(stage: _Stage, said: bytes) -> None:
    connection = a_connection()
    connection._stage = stage
    with pytest.raises(RefusedRequestError):
        connection._tell(said)


@pytest.mark.timeout(20)
async def test_a_head_that_comes_byte_by_byte_costs_what_it_does_whole() -> None:
    """Not its square: that would be a minute."""
    connection = a_connection()
    head = b"GET /x HTTP/1.1\r\nHost: chat\r\n" + b"X: %b\r\n" % (b"y" * 700) * 85
    for at in range(len(head)):
        connection.data_received(head[at : at + 1])
    assert not connection._house.tasks
    connection.data_received(b"\r\n")
    [call] = connection._house.tasks
    assert len(call.head.headers) == 86


@pytest.mark.parametrize("stage, said", [(_Stage.ANSWER, HEAD + b"abc"), (_Stage.BODY, HEAD + b"ab")])
async def test_a_request_that_both_end_alike_is_one(stage: _Stage, said: bytes) -> None:
    connection = a_connection()
    connection._stage = stage
    call = connection._tell(said)

    assert call.more_body is (stage is _Stage.BODY)
