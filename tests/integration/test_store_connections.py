"""Deadlines, cancelled callers, servers that misbehave: nobody waits for ever, nobody gets another's answer."""

import asyncio
import contextlib
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from redis.exceptions import ResponseError

from chatproxy.errors import StoreUnavailableError
from chatproxy.store.address import StoreAddress
from chatproxy.store.connections import Command, Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.redis import RedisStore
from integration.store_builders import a_turn

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def a_server(behave: Peer, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A fake store on loopback that does with each connection as it is told."""

    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        serving.add(task)
        try:
            await behave(reader, writer)
        finally:
            serving.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*serving, return_exceptions=True)


async def swallow(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    while await reader.read(65536):
        pass


async def hang_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read(65536)


async def talk_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()


def answering(line: bytes) -> Peer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(line)
            await writer.drain()

    return answer


@pytest.mark.parametrize(
    "peer",
    [
        pytest.param(swallow, id="never answers"),
        pytest.param(hang_up, id="hangs up"),
        pytest.param(talk_nonsense, id="talks nonsense"),
        pytest.param(answering(b"-LOADING reading files\r\n"), id="is loading"),
        pytest.param(answering(b"-READONLY replica\r\n"), id="is a replica"),
        pytest.param(answering(b"-NOAUTH who are you\r\n"), id="wants a password"),
        pytest.param(answering(b"-CLUSTERDOWN no\r\n"), id="is down"),
        pytest.param(answering(b"-MOVED 1 127.0.0.1:1\r\n"), id="points elsewhere"),
        pytest.param(answering(b"-BUSY running a script\r\n"), id="is busy"),
    ],
)
async def test_a_store_that_does_not_serve_is_unavailable_within_the_deadline(peer: Peer) -> None:
    async with a_server(peer) as port:
        address = StoreAddress.parse(f"redis://:s3cret@127.0.0.1:{port}")
        connections = Connections(
            StoreAddress.parse(f"redis://127.0.0.1:{port}"), deadline=0.1, connect_timeout=0.05
        )
        guarded = Connections(address, deadline=0.1, connect_timeout=0.05)
        try:
            with pytest.raises(StoreUnavailableError):
                await RedisStore(connections).ping()
            with pytest.raises(StoreUnavailableError) as caught:
                await RedisStore(guarded).ping()
            assert "s3cret" not in f"{caught.value!r}{caught.value.__cause__!r}{address!r}{address}"
        finally:
            await connections.aclose()
            await guarded.aclose()


async def test_nobody_listening_is_unavailable() -> None:
    async with a_server(hang_up) as port:
        pass
    connections = Connections(StoreAddress.parse(f"redis://127.0.0.1:{port}"), deadline=5)

    with pytest.raises(StoreUnavailableError, match=f"redis://127.0.0.1:{port}/0"):
        await RedisStore(connections).ping()


async def test_a_put_whose_answer_is_lost_is_unknown_and_not_sent_again() -> None:
    seen = bytearray()

    async def listen(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        seen.extend(await reader.read(65536))

    async with a_server(listen) as port:
        connections = Connections(StoreAddress.parse(f"redis://127.0.0.1:{port}"), deadline=5)
        with pytest.raises(StoreUnavailableError):
            await RedisStore(connections).put([a_turn()])

    assert seen.count(b"EVALSHA") == 1


async def test_waiting_for_a_free_connection_counts_against_the_deadline() -> None:
    async with a_server(swallow) as port:
        connections = Connections(StoreAddress.parse(f"redis://127.0.0.1:{port}"), deadline=0.1, most=1)
        outcomes = await asyncio.gather(
            *(RedisStore(connections).ping() for _ in range(20)), return_exceptions=True
        )
        await connections.aclose()

    assert {type(outcome) for outcome in outcomes} == {StoreUnavailableError}


async def test_a_storm_of_cancelled_callers_crosses_no_answers_and_uses_up_no_connection(
    server: EmbeddedServer,
) -> None:
    connections = Connections(StoreAddress.parse(server.url), deadline=10.0, most=4)
    right = wrong = cancelled = 0

    async def ask(number: int) -> None:
        nonlocal right, wrong
        tags: list[Command] = [("ECHO", f"{number}.{part}") for part in range(1 + number % 3)]
        answers = await connections.ask(tags)
        if answers == [str(tag[1]).encode() for tag in tags]:
            right += 1
        else:
            wrong += 1

    for wave in range(60):
        asking = [asyncio.ensure_future(ask(wave * 100 + number)) for number in range(40)]
        for turns, task in enumerate(asking):
            if turns % 3 == 0:
                await asyncio.sleep(0)
            if turns % 2:
                task.cancel()
        for outcome in await asyncio.gather(*asking, return_exceptions=True):
            if isinstance(outcome, asyncio.CancelledError):
                cancelled += 1
            else:
                assert outcome is None

    assert wrong == 0
    assert right > 1000
    assert cancelled > 100
    await asyncio.gather(*(connections.ask([["PING"]]) for _ in range(8)))
    await connections.aclose()


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used(
    connections: Connections, server: EmbeddedServer
) -> None:
    other = Connections(StoreAddress.parse(server.url), deadline=10.0)
    await other.ask([["PING"]])
    await connections.ask([["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]])

    for _ in range(3):
        assert await other.ask([["PING"]]) == [b"PONG"]
    await other.aclose()


async def test_an_error_reply_leaves_the_connection_in_use(connections: Connections) -> None:
    [before] = await connections.ask([["CLIENT", "ID"]])
    [error, after] = await connections.ask([["HGETALL"], ["CLIENT", "ID"]])

    assert isinstance(error, ResponseError)
    assert before == after


def a_certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key, as PEM files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "store")])
    start = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / "store.pem", directory / "store.key"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate_file, key_file


async def test_rediss_accepts_the_certificate_of_its_ca_file_alone(tmp_path: Path) -> None:
    certificate, key = a_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async with a_server(answering(b"+PONG\r\n"), tls=context) as port:
        url = f"rediss://127.0.0.1:{port}"
        trusting = Connections(StoreAddress.parse(url, ca_file=certificate), deadline=10, connect_timeout=10)
        await RedisStore(trusting).ping()
        await trusting.aclose()

        distrusting = Connections(StoreAddress.parse(url), deadline=10, connect_timeout=10)
        with pytest.raises(StoreUnavailableError, match="certificate verify failed"):
            await RedisStore(distrusting).ping()
