"""A node hears at once whose ledger has grown, and knows within a second when it hears nothing any more."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from chatproxy.errors import StoreUnavailableError
from chatproxy.model import SubjectTag
from chatproxy.store.address import StoreAddress
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.redis import RedisStore
from integration.store_builders import ALICE, BOB, HOUR, NOW
from integration.test_store_connections import Peer, a_server, answering, hang_up, swallow, talk_nonsense

PATIENCE = 20.0
SUBSCRIBED = b"*3\r\n$9\r\nsubscribe\r\n$10\r\ncp:changed\r\n:1\r\n"


def told(subject: bytes) -> bytes:
    return b"*3\r\n$7\r\nmessage\r\n$10\r\ncp:changed\r\n$%d\r\n%b\r\n" % (len(subject), subject)


@pytest.fixture(autouse=True)
async def patience(anyio_backend: str) -> AsyncIterator[None]:
    async with asyncio.timeout(PATIENCE):
        yield


async def append(store: RedisStore, subject: SubjectTag, length: int = 0) -> bool:
    return await store.append_event(subject, b"event", expected_length=length, expires_at=NOW + HOUR)


async def test_every_node_hears_of_each_change_in_order(store: RedisStore, server: EmbeddedServer) -> None:
    other = RedisStore(Connections(StoreAddress.parse(server.url), deadline=10.0))
    async with store.changes() as here, other.changes() as there:
        await append(store, ALICE)
        await append(store, BOB)
        await append(other, ALICE, 1)
        for heard in (here, there):
            assert [await anext(heard) for _ in range(3)] == [ALICE, BOB, ALICE]
    await other.aclose()


async def test_what_is_not_written_is_not_told(store: RedisStore) -> None:
    async with store.changes() as changes:
        assert not await append(store, ALICE, 7)
        await append(store, BOB)
        assert await anext(changes) == BOB


async def test_silence_is_no_failure(store: RedisStore) -> None:
    async with store.changes() as changes:
        hearing = asyncio.ensure_future(anext(changes))
        await asyncio.wait([hearing], timeout=1.5)
        assert not hearing.done()
        await append(store, ALICE)
        assert await hearing == ALICE


async def test_a_process_that_is_slow_itself_does_not_take_that_for_silence(store: RedisStore) -> None:
    async with store.changes() as changes:
        hearing = asyncio.ensure_future(anext(changes))
        for _ in range(8):
            time.sleep(0.5)  # noqa: ASYNC251 - holds up this loop, as too much work would
            for _ in range(3):
                await asyncio.sleep(0)
        await append(store, ALICE)
        assert await hearing == ALICE


async def test_a_listener_that_is_cancelled_leaves_nothing_behind(
    store: RedisStore, connections: Connections
) -> None:
    async def subscribers() -> int:
        [[_, count]] = await connections.ask([["PUBSUB", "NUMSUB", "cp:changed"]])
        return int(count)

    async def listen(begun: asyncio.Event) -> None:
        async with store.changes() as changes:
            begun.set()
            await anext(changes)

    begun = asyncio.Event()
    task = asyncio.ensure_future(listen(begun))
    await begun.wait()
    assert await subscribers() == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    while await subscribers():
        await asyncio.sleep(0.01)


async def test_a_server_that_cuts_the_connection_is_noticed(
    store: RedisStore, connections: Connections
) -> None:
    async with store.changes() as changes:
        await connections.ask([["CLIENT", "KILL", "TYPE", "pubsub"]])
        with pytest.raises(StoreUnavailableError):
            await anext(changes)


async def test_a_user_who_may_not_hear_the_channel_is_told_so(
    server: EmbeddedServer, connections: Connections
) -> None:
    await connections.ask([["ACL", "SETUSER", "deaf", "on", ">secret", "~*", "+@all", "resetchannels"]])
    address = StoreAddress.parse(server.url.replace("://", "://deaf:secret@"))
    deaf = Connections(address, deadline=10.0)
    with pytest.raises(StoreUnavailableError, match="NOPERM"):
        async with RedisStore(deaf).changes():
            pass
    await deaf.aclose()
    await connections.ask([["ACL", "DELUSER", "deaf"]])


def after_subscribing(*pieces: bytes, pause: float = 0.0) -> Peer:
    """A server that confirms the channel, says *pieces*, and is silent then, whatever it is asked."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        for piece in (SUBSCRIBED, *pieces):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)
        while await reader.read(65_536):
            pass

    return behave


async def hear(port: int, number: int) -> list[bytes]:
    connections = Connections(StoreAddress.parse(f"redis://127.0.0.1:{port}"), deadline=0.5)
    found: list[bytes] = []
    async with RedisStore(connections).changes() as changes:
        async for subject in changes:
            found.append(subject)
            if len(found) == number:
                return found
    raise AssertionError


@pytest.mark.parametrize(
    "peer",
    [
        pytest.param(swallow, id="never confirms"),
        pytest.param(hang_up, id="hangs up"),
        pytest.param(talk_nonsense, id="talks nonsense"),
        pytest.param(answering(b"-LOADING reading files\r\n"), id="is loading"),
        pytest.param(answering(b"+OK\r\n"), id="says OK"),
        pytest.param(answering(b"$-1\r\n"), id="says nothing in words"),
        pytest.param(answering(b"*0\r\n"), id="says an empty list"),
        pytest.param(answering(told(ALICE)), id="tells before it confirms"),
        pytest.param(after_subscribing(), id="vanishes after it has confirmed"),
        pytest.param(after_subscribing(b"*3\r\n$7\r\nmess"), id="vanishes inside a word"),
        pytest.param(after_subscribing(b"-ERR no\r\n"), id="answers an error"),
        pytest.param(after_subscribing(b"?what\r\n"), id="leaves the protocol"),
        pytest.param(after_subscribing(b"*2\r\n$7\r\nmessage\r\n:1\r\n"), id="tells half"),
        pytest.param(after_subscribing(b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n:1\r\n"), id="tells a number"),
        pytest.param(after_subscribing(b"*1\r\n*0\r\n"), id="nests"),
        pytest.param(after_subscribing(b":1\r\n"), id="counts"),
        pytest.param(
            after_subscribing(b"*3\r\n$11\r\nunsubscribe\r\n$10\r\ncp:changed\r\n:0\r\n"),
            id="ends the channel",
        ),
    ],
)
async def test_whoever_does_not_tell_is_unavailable(peer: Peer) -> None:
    async with a_server(peer) as port:
        with pytest.raises(StoreUnavailableError, match=f"127.0.0.1:{port}"):
            await hear(port, 1)


async def test_a_message_that_comes_in_pieces_over_a_pause_is_heard_whole() -> None:
    message = told(ALICE) + told(BOB)
    pieces = [message[:11], message[11:30], message[30:70], message[70:]]
    async with a_server(after_subscribing(*pieces, pause=0.15)) as port:
        assert await hear(port, 2) == [ALICE, BOB]


async def test_a_server_that_takes_connections_and_says_nothing_is_given_up_while_connecting() -> None:
    async with a_server(swallow) as port:
        connections = Connections(StoreAddress.parse(f"redis://u:p@127.0.0.1:{port}"), deadline=0.2)
        with pytest.raises(StoreUnavailableError, match=r"did not answer within 0\.2 s"):
            async with RedisStore(connections).changes():
                pass


async def test_iterating_may_end_at_any_time(store: RedisStore) -> None:
    async with store.changes() as changes:
        await append(store, ALICE)
        async with aclosing(changes) as closing:  # type: ignore[type-var]
            assert await anext(closing) == ALICE
