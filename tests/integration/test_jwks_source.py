"""The issuer's keys over real sockets: TLS is verified, the environment does not count, broken answers are survived."""

import ssl

import pytest
import trustme

from chatproxy.identities.jwks import JWKSCache
from simulators.backend import Backend, Peer, answering, backend, ok
from unit.identities.tokens import ALGORITHMS, Time, ed_key, identify, identity, jwk, jwks, token


def cache(
    server: Backend, scheme: str, *, host: str = "127.0.0.1", trusting: ssl.SSLContext | None = None
) -> JWKSCache:
    return JWKSCache(
        f"{scheme}://{host}:{server.address.port}/keys?tenant=1",
        algorithms=ALGORITHMS,
        clock=Time(),
        refresh_seconds=300,
        max_age_seconds=3600,
        ssl_context=trusting or ssl.create_default_context(),
        deadline_seconds=2,
    )


async def test_keys_are_fetched_from_a_server_and_verify_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with backend(answering(ok(jwks(jwk(ed_key()))))) as server:
        keys = cache(server, "http")

        await keys.refresh()

        assert keys.problem is None
        assert identify(token(), by=identity(keys)).caller.subject == "alice"
        request = bytes(server.connections[0].received)
        assert request.startswith(b"GET /keys?tenant=1 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    "name, is_trusted, works",
    [("127.0.0.1", True, True), ("127.0.0.1", False, False), ("login.example.com", True, False)],
    ids=["trusted", "authority not trusted", "name of another"],
)
async def test_the_certificate_is_verified(name: str, is_trusted: bool, works: bool) -> None:
    authority = trustme.CA()
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(serving)
    trusting = ssl.create_default_context()
    if is_trusted:
        authority.configure_trust(trusting)
    async with backend(answering(ok(jwks(jwk(ed_key())))), tls=serving) as server:
        keys = cache(server, "https", trusting=trusting)

        await keys.refresh()

        assert (keys.usable, keys.problem is None) == (int(works), works)


async def stop_inside(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n" + jwks(jwk(ed_key())))
    peer.close()


async def talk_nonsense(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(b"\x00\xff" * 100 + b"\r\n\r\n")
    peer.close()


async def hang_up(peer: Peer) -> None:
    await peer.read_request()
    peer.close()


async def redirect(peer: Peer) -> None:
    await peer.read_request()
    await peer.send(b"HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n")
    peer.close()


@pytest.mark.parametrize("script", [stop_inside, talk_nonsense, hang_up, redirect], ids=lambda s: s.__name__)
async def test_a_broken_server_is_survived(script: object) -> None:
    async with backend(script) as server:  # type: ignore[arg-type]
        keys = cache(server, "http")

        await keys.refresh()

        assert keys.usable == 0
        assert "cannot be fetched" in str(keys.problem)
        assert len(server.connections) == 1


async def test_a_server_that_is_not_there_is_survived() -> None:
    async with backend(hang_up) as server:
        keys = cache(server, "http")

    await keys.refresh()

    assert "ConnectError" in str(keys.problem)
