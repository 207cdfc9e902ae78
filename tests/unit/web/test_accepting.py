"""Who is let in, and what becomes of who is turned away."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from chatproxy.web.accepting import Acceptor
from chatproxy.web.tally import Tally, size

WORDS = b"no room"
PATIENCE = 20.0


class Noted(asyncio.Protocol):
    """Says nothing, and keeps whom it was made for."""

    def __init__(self, made: list[asyncio.BaseTransport]) -> None:
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made.append(transport)


class Door:
    """An acceptor and those whom it has let in."""

    def __init__(
        self, listening: socket.socket, acceptor: Acceptor, inside: list[asyncio.BaseTransport]
    ) -> None:
        self.inside = inside
        self.acceptor = acceptor
        self._address = listening.getsockname()

    def client(self) -> socket.socket:
        """Return a client whom the system has connected."""
        client = socket.create_connection(self._address)
        client.settimeout(0)
        return client


@asynccontextmanager
async def a_door(
    no_room: Callable[[str, int], bytes | None], *, most_told: int = 8, tally: Tally | None = None
) -> AsyncIterator[Door]:
    inside: list[asyncio.BaseTransport] = []
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        listening.settimeout(0)
        acceptor = Acceptor(
            listening,
            lambda: Noted(inside),
            no_room=no_room,
            clients=inside.__len__,
            tally=tally,
            most_told=most_told,
        )
        acceptor.start()
        try:
            async with asyncio.timeout(PATIENCE):
                yield Door(listening, acceptor, inside)
        finally:
            await acceptor.stop()
            listening.close()
            await acceptor.stop()
            for transport in inside:
                transport.close()


async def heard(client: socket.socket) -> bytes:
    said = b""
    while piece := await asyncio.get_running_loop().sock_recv(client, 1024):
        said += piece
    return said


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_who_is_turned_away_reads_why_though_he_has_spoken_and_leaves_nothing_behind() -> None:
    async with a_door(lambda _address, _coming: WORDS) as door:
        before = descriptors()
        with door.client() as client:
            client.sendall(b"x" * 10_000)
            assert await heard(client) == WORDS
            client.sendall(b"and more")
        while descriptors() > before:
            await asyncio.sleep(0.01)
        assert not door.inside


async def test_who_does_not_leave_is_left() -> None:
    async with a_door(lambda _address, _coming: WORDS) as door:
        with door.client() as client:
            assert await heard(client) == WORDS
            before = descriptors()
            while descriptors() == before:
                await asyncio.sleep(0.01)


async def test_of_those_who_do_not_leave_so_many_are_held() -> None:
    async with a_door(lambda _address, _coming: WORDS, most_told=3) as door:
        before = descriptors()
        clients = [door.client() for _ in range(10)]
        for client in clients:
            assert await heard(client) == WORDS
        assert descriptors() - before <= 10 + 3
        for client in clients:
            client.close()


async def test_who_goes_for_one_more_still_reads_why_though_he_had_spoken() -> None:
    async with a_door(lambda _address, _coming: WORDS, most_told=1) as door:
        clients = [door.client() for _ in range(4)]
        for client in clients:
            client.sendall(b"x" * 1_000)
        for client in clients:
            assert await heard(client) == WORDS
            client.close()


async def test_it_is_asked_how_many_are_on_their_way_and_from_where() -> None:
    asked = []

    def no_room(address: str, coming: int) -> bytes | None:
        asked.append((address, coming))
        return WORDS if coming == 2 else None

    async with a_door(no_room) as door:
        clients = [door.client() for _ in range(3)]
        assert await heard(clients[2]) == WORDS
        while len(door.inside) < 2:
            await asyncio.sleep(0)
        assert asked == [("127.0.0.1", 0), ("127.0.0.1", 1), ("127.0.0.1", 2)]
        for client in clients:
            client.close()


async def test_who_has_been_taken_when_it_ends_is_let_in() -> None:
    taken = asyncio.Event()

    def no_room(_address: str, _coming: int) -> bytes | None:
        taken.set()
        return None

    async with a_door(no_room) as door:
        with door.client():
            await taken.wait()
            await door.acceptor.stop()
            assert len(door.inside) == 1


@pytest.mark.parametrize("is_turned_away", [False, True], ids=["let in", "turned away"])
async def test_after_its_end_nobody_is_taken_and_nothing_held(*, is_turned_away: bool) -> None:
    async with a_door(lambda _address, _coming: WORDS if is_turned_away else None) as door:
        before = descriptors()
        with door.client() as first:
            while not (door.inside or (is_turned_away and _has_heard(first))):
                await asyncio.sleep(0)
            await door.acceptor.stop()
            taken = len(door.inside)
            assert descriptors() == before + 1 + taken
            with door.client() as late:
                for _ in range(20):
                    await asyncio.sleep(0)
                assert len(door.inside) == taken
                with pytest.raises(BlockingIOError):
                    late.recv(1)


async def until(count: int, *parties: list[asyncio.BaseTransport]) -> None:
    async with asyncio.timeout(PATIENCE):
        while sum(map(len, parties)) < count:
            await asyncio.sleep(0)


async def test_a_crowd_that_comes_at_once_is_shared_by_those_who_listen() -> None:
    first: list[asyncio.BaseTransport] = []
    second: list[asyncio.BaseTransport] = []
    with (
        socket.create_server(("127.0.0.1", 0), backlog=256) as one,
        one.dup() as other,
        TemporaryFile() as tally,
    ):
        tally.write(bytes(size(2)))
        tally.flush()
        one.settimeout(0)
        other.settimeout(0)
        clients = [socket.create_connection(one.getsockname()) for _ in range(32)]
        acceptors = [
            Acceptor(
                listening,
                partial(Noted, inside),
                no_room=lambda _address, _coming: None,
                clients=inside.__len__,
                tally=Tally(tally.fileno(), worker),
            )
            for worker, (listening, inside) in enumerate(((one, first), (other, second)))
        ]
        try:
            for acceptor in acceptors:
                acceptor.start()
            await until(32, first, second)
        finally:
            for acceptor in acceptors:
                await acceptor.stop()
            for client in clients:
                client.close()
            for transport in (*first, *second):
                transport.close()

    assert min(len(first), len(second)) >= 12


async def test_who_should_go_first_and_does_not_keeps_nobody_waiting() -> None:
    with TemporaryFile() as tally:
        tally.write(bytes(size(2)))
        tally.flush()
        Tally(tally.fileno(), 1).note(0)
        async with a_door(lambda _address, _coming: None, tally=Tally(tally.fileno(), 0)) as door:
            clients = [door.client() for _ in range(32)]
            await until(32, door.inside)
            for client in clients:
                client.close()


async def test_who_has_stopped_lets_the_others_take_all() -> None:
    with TemporaryFile() as tally:
        tally.write(bytes(size(2)))
        tally.flush()
        async with a_door(lambda _address, _coming: None, tally=Tally(tally.fileno(), 0)):
            assert Tally(tally.fileno(), 1).is_ahead(5)
        assert not Tally(tally.fileno(), 1).is_ahead(5)


def _has_heard(client: socket.socket) -> bool:
    try:
        return bool(client.recv(1024, socket.MSG_PEEK))
    except BlockingIOError:
        return False
