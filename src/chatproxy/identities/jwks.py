"""Which keys does the issuer sign with, as of now? Fetched in the background, never while a request waits.

Rules of this file:

1. What the issuer's last good answer holds counts, all of it and nothing else: a key that it leaves out stops
   verifying with the next refresh, and an empty set is an answer.
2. A source that is down, or answers what is no JWK Set, changes nothing until ``max_age`` after the last good
   answer; then no key is known, so everybody is nobody, and the chats pass.
3. A key id that is not known asks for a refresh ahead of time. There is one fetch at a time, and never two within
   ``least_seconds``, however many unknown ids are presented.
4. TLS is verified, proxies and netrc of the environment do not count, redirects are not followed, compressed answers
   are refused; size and time are bounded. The content type is not looked at: the strict reading of the body decides.
"""

import asyncio
import ssl
from collections.abc import Collection

import httpx

from chatproxy.clock import Clock
from chatproxy.errors import ChatproxyError
from chatproxy.identities.address import require_key_source
from chatproxy.identities.jwk import KeySet, UnreadableKeySetError, VerifyingKey, read_key_set
from chatproxy.telemetry import Log

LARGEST = 1 << 20
"""Bytes of an answer."""

_log = Log("jwks")
_HEADERS = {"accept": "application/jwk-set+json, application/json", "accept-encoding": "identity"}
_EMPTY = KeySet({}, 0)


class KeySourceError(ChatproxyError):
    """The issuer's keys could not be fetched."""


class JWKSCache:
    """The keys at *url*. Durations in seconds.

    Raises ConfigurationError if keys may not be fetched from there.
    """

    def __init__(
        self,
        url: str,
        *,
        algorithms: Collection[str],
        clock: Clock,
        refresh_seconds: float,
        max_age_seconds: float,
        ssl_context: ssl.SSLContext,
        least_seconds: float = 10.0,
        deadline_seconds: float = 10.0,
    ) -> None:
        """``least_seconds``: also the wait before a fetch that failed is tried again."""
        require_key_source(url)
        self._url = url
        self._algorithms = frozenset(algorithms)
        self._clock = clock
        self._refresh_seconds = refresh_seconds
        self._max_age_ms = int(max_age_seconds * 1000)
        self._ssl_context = ssl_context
        self._least_seconds = least_seconds
        self._deadline_seconds = deadline_seconds
        self._set = _EMPTY
        self._answered_at: int | None = None
        self._wanted = asyncio.Event()
        self.problem: str | None = "the keys have not been fetched yet"
        """What is wrong with the source, in words, or None."""

    @property
    def are_current(self) -> bool:
        """Whether the last good answer is young enough to be believed."""
        return self._answered_at is not None and self._clock() - self._answered_at <= self._max_age_ms

    @property
    def usable(self) -> int:
        """Pairs of key id and algorithm that verify."""
        return len(self._set.keys) if self.are_current else 0

    @property
    def skipped(self) -> int:
        """Keys of the last good answer that are not used."""
        return self._set.skipped

    def find(self, kid: str, algorithm: str) -> VerifyingKey | None:
        """Return the issuer's key of that id for *algorithm*, None if there is none or all are too old."""
        found = self._set.keys.get((kid, algorithm)) if self.are_current else None
        if found is None:
            self._wanted.set()
        return found

    async def refresh(self) -> None:
        """Fetch once; where that fails, ``problem`` says why, and what was known stays known for its time."""
        asked_at = self._clock()
        self._wanted.clear()
        try:
            found = read_key_set(await self._fetch(), algorithms=self._algorithms)
        except (KeySourceError, UnreadableKeySetError) as error:
            self._report(f"the keys that verify tokens cannot be fetched: {error}")
            return
        if found != self._set or self._answered_at is None:
            _log.info("keys that verify tokens are fetched", usable=len(found.keys), skipped=found.skipped)
        self._set = found
        self._answered_at = asked_at
        self._report(
            None if found.keys else "the issuer's key set has no usable key, so no token is believed"
        )

    async def watch(self) -> None:
        """Refresh now and then, sooner when a key id is not known or the last try failed, for ever."""
        while True:
            await asyncio.sleep(self._least_seconds)
            if self.problem is None:
                try:
                    async with asyncio.timeout(self._refresh_seconds - self._least_seconds):
                        await self._wanted.wait()
                except TimeoutError:
                    pass
            await self.refresh()

    def _report(self, problem: str | None) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        if problem is not None:
            _log.error("keys that verify tokens are not refreshed", problem=problem)

    async def _fetch(self) -> bytes:
        try:
            async with (
                asyncio.timeout(self._deadline_seconds),
                httpx.AsyncClient(
                    verify=self._ssl_context,
                    trust_env=False,
                    follow_redirects=False,
                    timeout=self._deadline_seconds,
                ) as client,
                client.stream("GET", self._url, headers=_HEADERS) as response,
            ):
                return await _read(response)
        except TimeoutError:
            raise KeySourceError(f"no whole answer within {self._deadline_seconds:g} s") from None
        except httpx.HTTPError as error:
            raise KeySourceError(type(error).__name__) from error


async def _read(response: httpx.Response) -> bytes:
    if response.status_code != httpx.codes.OK:
        raise KeySourceError(f"the answer has status {response.status_code}")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise KeySourceError("the answer is compressed")
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > LARGEST:
            raise KeySourceError(f"the answer is longer than {LARGEST} bytes")
    return bytes(body)
