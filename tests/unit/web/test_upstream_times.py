"""How long the upstream may take for what it has to do next, and when it is another's turn."""

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from chatproxy.forwarding import ResponseHead
from chatproxy.web.upstream import UpstreamTimeoutError
from chatproxy.web.upstream.connection import Connection, UpstreamCall

HEAD_SECONDS, IDLE_SECONDS = 20.0, 50.0
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


class Line(asyncio.Transport):
    """A transport to nowhere."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See asyncio.Transport."""

    def abort(self) -> None:
        """See asyncio.Transport."""

    def pause_reading(self) -> None:
        """See asyncio.Transport."""

    def resume_reading(self) -> None:
        """See asyncio.Transport."""


class Nobody:
    """Who is told an answer and does nothing with it."""

    def begun(self, head: ResponseHead) -> None:
        """See Answered."""

    def body(self, pieces: Sequence[bytes], *, more_body: bool) -> None:
        """See Answered."""


class Clock:
    """A loop whose time stands where it is told."""

    now = 1000.0

    def time(self) -> float:
        """See asyncio.AbstractEventLoop."""
        return self.now

    def create_future(self) -> asyncio.Future[None]:
        """See asyncio.AbstractEventLoop."""
        return asyncio.get_running_loop().create_future()


class Times:
    """A pool that has times only."""

    head_timeout = HEAD_SECONDS
    idle_timeout = IDLE_SECONDS
    idle_expiry = 4.0

    def __init__(self) -> None:
        self.clock = Clock()
        self.loop = cast("asyncio.AbstractEventLoop", self.clock)

    def forget(self, connection: Connection) -> None:
        """See Pool."""

    def give_back(self, connection: Connection) -> None:
        """See Pool."""

    async def connect(self) -> Connection:
        """See Pool."""
        raise NotImplementedError


class Asked:
    """A request that was sent, or its head."""

    def __init__(self, *, more_body: bool = False) -> None:
        self.times = Times()
        self.connection = Connection(self.times)
        self.connection.transport = Line()
        self.call = UpstreamCall(
            self.times,
            self.connection,
            Nobody(),
            is_head_request=False,
            length=None if more_body else 0,
            drop=frozenset(),
            may_switch=True,
            replay=None,
        )
        self.call.send(b"head", b"", more_body=more_body)

    def does(self, *what: str | bytes) -> "Asked":
        """Let things happen, a second after each other; bytes are what the upstream sends."""
        for each in what:
            self.times.clock.now += 1
            match each:
                case bytes():
                    self.connection.data_received(each)
                case "is full":
                    self.connection.pause_writing()
                case "takes again":
                    self.connection.resume_writing()
                case "has to wait":
                    self.call.pause_reading()
                case "may go on":
                    self.call.resume_reading()
                case _:
                    self.call.write(b"rest", more_body=False)
        return self

    async def has_time(self) -> float | None:
        """Return after how many seconds from now it is given up; None: never."""
        for seconds in (HEAD_SECONDS - 1, HEAD_SECONDS, IDLE_SECONDS - 1, IDLE_SECONDS, 1e9):
            self.connection.sweep(self.times.clock.now + seconds)
            if self.connection.call is None:
                with pytest.raises(UpstreamTimeoutError, match=f"{seconds:g} s"):
                    await self.call.whole()
                return seconds
        return None


@pytest.mark.parametrize(
    "what, seconds",
    [
        pytest.param([], HEAD_SECONDS, id="the request is sent"),
        pytest.param([HEAD], IDLE_SECONDS, id="the head is there"),
        pytest.param([HEAD, b"a", b"b"], IDLE_SECONDS, id="pieces come"),
        pytest.param([HEAD, "has to wait"], None, id="the client does not take the answer"),
        pytest.param([HEAD, "has to wait", "may go on"], IDLE_SECONDS, id="the client takes it again"),
        pytest.param(["is full"], IDLE_SECONDS, id="the request is not taken"),
        pytest.param(["is full", "takes again"], HEAD_SECONDS, id="the request is taken at last"),
        pytest.param([SWITCHED], None, id="it is no longer HTTP"),
    ],
)
async def test_the_upstream_has_its_whole_time_for_what_is_next(
    what: Sequence[str | bytes], seconds: float | None
) -> None:
    assert await Asked().does(*what).has_time() == seconds


@pytest.mark.parametrize(
    "what, seconds",
    [
        pytest.param([], None, id="the client sends"),
        pytest.param([HEAD], None, id="an answer has begun"),
        pytest.param(["is full"], IDLE_SECONDS, id="what came is not taken"),
        pytest.param(["is full", "takes again"], None, id="it is taken again"),
        pytest.param(["has all"], HEAD_SECONDS, id="all is sent"),
    ],
)
async def test_while_a_request_is_being_sent_only_taking_it_has_a_time(
    what: Sequence[str | bytes], seconds: float | None
) -> None:
    assert await Asked(more_body=True).does(*what).has_time() == seconds


async def test_who_waits_to_send_hears_that_the_upstream_is_given_up() -> None:
    asked = Asked(more_body=True).does("is full")
    async with asyncio.timeout(5), asyncio.TaskGroup() as tasks:
        sending = tasks.create_task(asked.call.drain())
        await asyncio.sleep(0)
        asked.connection.sweep(asked.times.clock.now + IDLE_SECONDS)
    assert sending.result() is False
