"""The cache of the issuer's keys: what it believes of a source that lies, stalls or is away, and for how long."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import respx

from chatproxy.errors import ConfigurationError
from chatproxy.identities.jwks import LARGEST, JWKSCache
from chatproxy.identity import Rejected
from unit.identities.tokens import (
    ALGORITHMS,
    NOW,
    SECOND,
    Time,
    ed_key,
    identity,
    jwk,
    jwks,
    token,
    why,
)

URL = "https://login.example.com/jwks.json"
OLD, NEW = jwk(ed_key(0), "old"), jwk(ed_key(1), "new")
AGE = 3600


@pytest.fixture
def source() -> Iterator[respx.MockRouter]:
    with respx.mock(assert_all_called=False) as router:
        yield router


def cache(clock: Time | None = None, **changes: Any) -> JWKSCache:
    options: dict[str, Any] = {
        "algorithms": ALGORITHMS,
        "clock": clock or Time(),
        "refresh_seconds": 300,
        "max_age_seconds": AGE,
        "ssl_context": ssl.create_default_context(),
        **changes,
    }
    return JWKSCache(
        changes.pop("url", URL), **{name: value for name, value in options.items() if name != "url"}
    )


def answers(source: respx.MockRouter, *keys: object, **response: Any) -> None:
    source.get(URL).mock(return_value=httpx.Response(200, **({"content": jwks(*keys)} | response)))


def known(keys: JWKSCache) -> set[str]:
    return {kid for kid in ("old", "new") if keys.find(kid, "EdDSA")}


def test_a_source_that_is_not_safe_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        cache(url="http://login.example.com/jwks.json")


async def test_before_the_first_answer_no_key_is_known() -> None:
    keys = cache()

    assert (known(keys), keys.are_current, keys.usable) == (set(), False, 0)
    assert keys.problem is not None


async def test_keys_are_fetched(source: respx.MockRouter) -> None:
    answers(source, OLD, NEW, {"kty": "oct"})
    keys = cache()

    await keys.refresh()

    assert (known(keys), keys.usable, keys.skipped, keys.problem) == ({"old", "new"}, 2, 1, None)


async def test_only_the_algorithms_that_are_allowed_are_known(source: respx.MockRouter) -> None:
    answers(source, OLD)
    keys = cache(algorithms=frozenset(("ES256",)))

    await keys.refresh()

    assert known(keys) == set()


async def test_a_key_that_is_left_out_stops_verifying_with_the_next_refresh(source: respx.MockRouter) -> None:
    keys = cache()
    by = identity(keys)
    of_old, of_new = token(kid="old"), token(key=ed_key(1), kid="new")
    answers(source, OLD, NEW)
    await keys.refresh()
    assert [why(text, by=by) for text in (of_old, of_new)] == [None, None]

    answers(source, NEW)
    await keys.refresh()

    assert [why(text, by=by) for text in (of_old, of_new)] == [Rejected.UNKNOWN_KEY, None]


async def test_an_empty_set_revokes_every_key(source: respx.MockRouter) -> None:
    keys = cache()
    answers(source, OLD)
    await keys.refresh()

    answers(source)
    await keys.refresh()

    assert known(keys) == set()
    assert "no usable key" in str(keys.problem)


async def drip() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(0.001)


async def never() -> AsyncIterator[bytes]:
    yield b"{"
    await asyncio.Event().wait()


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b" " * 65_536


def failing(error: type[httpx.TransportError]) -> dict[str, Any]:
    return {"side_effect": error("https://secret.example is away")}


def answering(status: int = 200, **response: Any) -> dict[str, Any]:
    return {"return_value": httpx.Response(status, **({"content": jwks(NEW)} | response))}


BAD_SOURCES: dict[str, tuple[dict[str, Any], str]] = {
    "away": (failing(httpx.ConnectError), "ConnectError"),
    "slow to connect": (failing(httpx.ConnectTimeout), "ConnectTimeout"),
    "silent": (failing(httpx.ReadTimeout), "ReadTimeout"),
    "cut short": (failing(httpx.RemoteProtocolError), "RemoteProtocolError"),
    "stalled": (answering(content=never()), "no whole answer within 0.05 s"),
    "dripping": (answering(content=drip()), "no whole answer within 0.05 s"),
    "endless": (answering(content=endless()), f"longer than {LARGEST} bytes"),
    "huge": (answering(content=jwks(NEW, "x" * LARGEST)), f"longer than {LARGEST} bytes"),
    "moved": (answering(302, headers={"location": "https://evil.example/"}), "status 302"),
    "moved for good": (answering(308, headers={"location": "http://127.0.0.1/"}), "status 308"),
    "not found": (answering(404), "status 404"),
    "broken": (answering(503), "status 503"),
    "without content": (answering(204), "status 204"),
    "not changed": (answering(304), "status 304"),
    "partial": (answering(206), "status 206"),
    "a page": (answering(content=b"<html>", headers={"content-type": "text/html"}), "not a JWK Set"),
    "a page that lies": (
        answering(content=b"<html>", headers={"content-type": "application/jwk-set+json"}),
        "not a JWK Set",
    ),
    "an error in JSON": (answering(content=b'{"error": "busy"}'), "not a JWK Set"),
    "compressed": (answering(headers={"content-encoding": "gzip"}, content=never()), "compressed"),
    "compressed with something new": (answering(headers={"content-encoding": "zip, Zip"}), "compressed"),
}


@pytest.mark.parametrize("behaviour, problem", BAD_SOURCES.values(), ids=BAD_SOURCES.keys())
async def test_a_bad_source_changes_nothing(
    source: respx.MockRouter, behaviour: dict[str, Any], problem: str
) -> None:
    keys = cache(deadline_seconds=0.05)
    answers(source, OLD)
    await keys.refresh()

    source.get(URL).mock(**behaviour)
    await keys.refresh()

    assert known(keys) == {"old"}
    assert problem in str(keys.problem)
    assert "secret.example" not in str(keys.problem)
    assert [call.request.url.host for call in source.calls] == ["login.example.com"] * 2


async def test_the_content_type_does_not_matter(source: respx.MockRouter) -> None:
    answers(source, OLD, headers={"content-type": "text/html"})
    keys = cache()

    await keys.refresh()

    assert known(keys) == {"old"}


async def test_keys_of_a_source_that_is_away_count_for_their_time_and_no_longer(
    source: respx.MockRouter,
) -> None:
    clock = Time()
    keys = cache(clock)
    by = identity(keys, clock=clock, leeway_ms=2 * AGE * SECOND)
    answers(source, OLD)
    await keys.refresh()
    assert why(token(kid="old"), by=by) is None

    source.get(URL).mock(side_effect=httpx.ConnectError("away"))
    clock.now = NOW + AGE * SECOND
    await keys.refresh()
    assert (known(keys), keys.usable) == ({"old"}, 1)
    assert why(token(kid="old"), by=by) is None

    clock.now += 1
    assert (known(keys), keys.are_current, keys.usable) == (set(), False, 0)
    assert why(token(kid="old"), by=by) == Rejected.KEYS_UNAVAILABLE

    answers(source, OLD)
    await keys.refresh()
    assert why(token(kid="old"), by=by) is None


async def test_age_counts_from_when_the_source_was_asked(source: respx.MockRouter) -> None:
    clock = Time()
    keys = cache(clock)

    def answer(_request: httpx.Request) -> httpx.Response:
        clock.now += 5 * SECOND
        return httpx.Response(200, content=jwks(OLD))

    source.get(URL).mock(side_effect=answer)
    await keys.refresh()

    clock.now = NOW + AGE * SECOND + 1
    assert not keys.are_current


async def test_no_compressed_answer_is_asked_for_and_nothing_tells_who_asks(source: respx.MockRouter) -> None:
    answers(source, OLD)

    await cache().refresh()

    headers = source.calls[0].request.headers
    assert headers["accept-encoding"] == "identity"
    assert {"authorization", "cookie"}.isdisjoint(headers)


class Fetches:
    """Counts fetches, and lets a test wait for the next."""

    def __init__(self, *keys: object) -> None:
        self.keys = keys
        self.count = 0
        self.running = 0
        self.at_once = 0
        self._arrived = asyncio.Condition()

    async def __call__(self, _request: httpx.Request) -> httpx.Response:
        self.running += 1
        self.at_once = max(self.at_once, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        async with self._arrived:
            self.count += 1
            self._arrived.notify_all()
        return httpx.Response(200, content=jwks(*self.keys))

    async def reach(self, count: int) -> None:
        async with self._arrived:
            await self._arrived.wait_for(lambda: self.count >= count)


async def test_keys_are_refreshed_now_and_then(source: respx.MockRouter) -> None:
    fetches = Fetches(OLD)
    source.get(URL).mock(side_effect=fetches)
    watching = asyncio.ensure_future(cache(refresh_seconds=0.002, least_seconds=0.001).watch())

    await fetches.reach(5)

    watching.cancel()


async def test_an_unknown_key_id_brings_the_next_refresh_forward(source: respx.MockRouter) -> None:
    fetches = Fetches(OLD)
    source.get(URL).mock(side_effect=fetches)
    keys = cache(refresh_seconds=10**6, least_seconds=0.001)
    await keys.refresh()
    watching = asyncio.ensure_future(keys.watch())

    fetches.keys = (OLD, NEW)
    assert known(keys) == {"old"}
    await fetches.reach(2)
    while known(keys) != {"old", "new"}:
        await asyncio.sleep(0)

    watching.cancel()


async def test_an_unknown_key_id_brings_one_refresh_forward_and_not_all_that_follow(
    source: respx.MockRouter,
) -> None:
    fetches = Fetches(OLD)
    source.get(URL).mock(side_effect=fetches)
    keys = cache(refresh_seconds=10**6, least_seconds=0)
    await keys.refresh()
    watching = asyncio.ensure_future(keys.watch())

    keys.find("new", "EdDSA")
    await fetches.reach(2)
    for _ in range(1000):
        await asyncio.sleep(0)

    assert fetches.count == 2
    watching.cancel()


async def test_a_known_key_id_does_not(source: respx.MockRouter) -> None:
    fetches = Fetches(OLD)
    source.get(URL).mock(side_effect=fetches)
    keys = cache(refresh_seconds=10**6, least_seconds=0)
    await keys.refresh()
    watching = asyncio.ensure_future(keys.watch())

    for _ in range(100):
        assert keys.find("old", "EdDSA") is not None
        await asyncio.sleep(0)

    assert fetches.count == 1
    watching.cancel()


async def test_however_many_unknown_key_ids_come_fetches_are_one_at_a_time_and_seldom(
    source: respx.MockRouter,
) -> None:
    fetches = Fetches(OLD)
    source.get(URL).mock(side_effect=fetches)
    keys = cache(refresh_seconds=10**6, least_seconds=10**5)
    await keys.refresh()
    watching = asyncio.ensure_future(keys.watch())

    for number in range(1000):
        assert keys.find(f"guess-{number}", "EdDSA") is None
        await asyncio.sleep(0)

    assert (fetches.count, fetches.at_once) == (1, 1)
    watching.cancel()


async def test_a_fetch_that_failed_is_tried_again_soon(source: respx.MockRouter) -> None:
    source.get(URL).mock(side_effect=[httpx.ConnectError("away"), httpx.Response(200, content=jwks(OLD))])
    keys = cache(refresh_seconds=10**6, least_seconds=0.001)
    await keys.refresh()
    watching = asyncio.ensure_future(keys.watch())

    while keys.problem is not None:
        await asyncio.sleep(0)

    assert known(keys) == {"old"}
    watching.cancel()
