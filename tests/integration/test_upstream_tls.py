"""TLS to the upstream is verified, always; the only choice is which authority is trusted."""

import ssl
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
import trustme

from chatproxy.forwarding import UpstreamAddress
from chatproxy.web.upstream import Upstream, UpstreamUnreachableError
from simulators.backend import Backend, Peer, answering, backend, ok
from simulators.reader import start


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@asynccontextmanager
async def tls_backend(authority: trustme.CA, name: str, *answers: bytes) -> AsyncIterator[Backend]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    async with backend(answering(*answers), tls=context) as server:
        yield server


async def fetch(client: Upstream) -> bytes:
    try:
        call = await start(client, b"GET", b"/", [(b"host", b"h")], length=0)
        await call.head()
        return (await call.read())[0]
    finally:
        await client.aclose()


def client_of(server: Backend, context: ssl.SSLContext | None) -> Upstream:
    return Upstream(server.address, connect_timeout=5, head_timeout=5, idle_timeout=5, ssl_context=context)


async def test_an_upstream_with_a_trusted_certificate_is_reached(authority: trustme.CA) -> None:
    async with tls_backend(authority, "127.0.0.1", ok(b"sealed")) as server:
        assert await fetch(client_of(server, trusting(authority))) == b"sealed"


async def test_a_tls_connection_is_used_again(authority: trustme.CA) -> None:
    async with tls_backend(authority, "127.0.0.1", ok(b"1"), ok(b"2")) as server:
        client = client_of(server, trusting(authority))
        for expected in (b"1", b"2"):
            call = await start(client, b"GET", b"/", [(b"host", b"h")], length=0)
            await call.head()
            assert await call.read() == (expected, False)
        await client.aclose()

        assert len(server.connections) == 1


async def test_a_large_body_passes_through_tls_both_ways(authority: trustme.CA) -> None:
    body = bytes(range(256)) * 8192

    async def script(peer: Peer) -> None:
        request = await peer.read_request()
        await peer.send(ok(request[-len(body) :]))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with backend(script, tls=context) as server:
        client = client_of(server, trusting(authority))
        headers = [(b"host", b"h"), (b"content-length", b"%d" % len(body))]
        call = await start(client, b"POST", b"/", headers, length=len(body), body=body)
        await call.head()
        pieces = []
        more = True
        while more:
            piece, more = await call.read()
            pieces.append(piece)
        await client.aclose()

    assert b"".join(pieces) == body


async def test_an_unknown_authority_is_not_trusted(authority: trustme.CA) -> None:
    async with tls_backend(authority, "127.0.0.1") as server:
        with pytest.raises(UpstreamUnreachableError, match="certificate that is not trusted"):
            await fetch(client_of(server, None))


async def test_a_certificate_for_another_name_is_not_trusted(authority: trustme.CA) -> None:
    async with tls_backend(authority, "other.example") as server:
        with pytest.raises(UpstreamUnreachableError, match="certificate that is not trusted"):
            await fetch(client_of(server, trusting(authority)))


async def test_an_expired_certificate_is_not_trusted(authority: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(
        "127.0.0.1", not_before=datetime(2019, 1, 1, tzinfo=UTC), not_after=datetime(2020, 1, 1, tzinfo=UTC)
    ).configure_cert(context)
    async with backend(answering(), tls=context) as server:
        with pytest.raises(UpstreamUnreachableError, match=r"certificate that is not trusted.*expired"):
            await fetch(client_of(server, trusting(authority)))


async def test_an_old_version_of_tls_is_not_spoken(authority: trustme.CA) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with backend(answering(), tls=context) as server:
        with pytest.raises(UpstreamUnreachableError, match="cannot be reached"):
            await fetch(client_of(server, trusting(authority)))


async def test_a_plain_upstream_is_not_spoken_to_in_tls(authority: trustme.CA) -> None:
    async def script(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with backend(script) as server:
        address = UpstreamAddress.parse(server.url.replace("http:", "https:"))
        client = Upstream(
            address, connect_timeout=5, head_timeout=5, idle_timeout=5, ssl_context=trusting(authority)
        )

        with pytest.raises(UpstreamUnreachableError):
            await fetch(client)
