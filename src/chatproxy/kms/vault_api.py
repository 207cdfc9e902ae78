"""How is a vault asked? What it does not answer in time is asked again a few times, then given up for a while.

1. Nobody waits long on a vault that is down: a try has a deadline, there are three, and after that it is not asked for
   a few seconds. None of this is on the way of a chat.
2. A connection serves one question. Questions are rare, and one that waits would only be found closed, or hold what was
   meant for another.
3. The token is sent to the vault alone: TLS is verified, proxies of the environment do not count, redirects are not
   followed. Messages repeat neither the token nor what the vault says.
4. An answer is bounded, and not decompressed.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import SystemRandom
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from chatproxy.clock import Clock
from chatproxy.errors import RootRefusedError, RootUnavailableError
from chatproxy.kms.transit_address import TransitAddress

LARGEST = 1 << 20
"""Bytes of an answer."""
DEADLINE_SECONDS = 2.0
MOST_TRIES = 3
REST_MS = 5_000
"""How long a vault that did not answer is not asked again."""
_PAUSE_SECONDS = 0.2
_BUSY = frozenset({412, 429, 472, 473, 500, 502, 503, 504})
_CHANCE = SystemRandom()


class NoKeyError(RootRefusedError):
    """The vault has no such key."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the vault answered: with 200 or 204, or with 400."""

    is_refusal: bool
    data: Mapping[str, Any] = field(repr=False)


class VaultAPI:
    """The API of one vault, for one key."""

    def __init__(
        self,
        address: TransitAddress,
        *,
        token: str,
        ssl_context: ssl.SSLContext | None,
        clock: Clock,
        deadline_seconds: float = DEADLINE_SECONDS,
        pause_seconds: float = _PAUSE_SECONDS,
    ) -> None:
        """``ssl_context``: None for http. ``deadline_seconds``: for one try; ``pause_seconds``: before the second."""
        self._address = address
        self._token = token
        self._ssl_context = ssl_context
        self._clock = clock
        self._deadline_seconds = deadline_seconds
        self._pause_seconds = pause_seconds
        self._rests_until = 0
        self._problem = ""

    def __repr__(self) -> str:
        return f"VaultAPI({self._address})"

    async def ask(self, method: str, path: str, body: object = None) -> Answer:
        """Ask below the mount. A question may reach the vault more than once.

        Raises RootRefusedError where the operator must act, NoKeyError among them; RootUnavailableError where the vault
        does not answer.
        """
        # A clock that was set back must not make it rest for longer.
        if 0 < self._rests_until - self._clock() <= REST_MS:
            raise RootUnavailableError(f"{self._problem}; it is asked again in a few seconds")
        problem = ""
        for number in range(MOST_TRIES):
            if number:
                await asyncio.sleep(self._pause_seconds * number * _CHANCE.uniform(0.5, 1.5))
            try:
                status, data = await self._send(method, path, body)
            except TimeoutError:
                problem = f"no answer within {self._deadline_seconds:g} s"
            except httpx.HTTPError as error:
                self._require_trust(error)
                problem = type(error).__name__
            else:
                if status not in _BUSY:
                    return self._read(status, data)
                problem = f"status {status}: it is sealed, standing by, overloaded or starting"
        self._problem = f"{self._address} cannot be asked ({problem})"
        self._rests_until = self._clock() + REST_MS
        raise RootUnavailableError(self._problem)

    async def _send(self, method: str, path: str, body: object) -> tuple[int, bytes]:
        async with (
            asyncio.timeout(self._deadline_seconds),
            httpx.AsyncClient(
                verify=self._ssl_context if self._ssl_context is not None else False,
                trust_env=False,
                follow_redirects=False,
                timeout=self._deadline_seconds,
            ) as client,
            client.stream(
                method,
                f"{self._address.origin}/v1/{quote(self._address.mount)}/{path}",
                json=body,
                headers={
                    "accept-encoding": "identity",
                    "x-vault-token": self._token,
                    "x-vault-request": "true",
                },
            ) as response,
        ):
            if response.headers.get("content-encoding", "identity").lower() != "identity":
                raise RootRefusedError(f"{self._address} is not a vault: its answer is compressed")
            data = bytearray()
            async for piece in response.aiter_raw():
                data += piece
                if len(data) > LARGEST:
                    raise RootRefusedError(
                        f"{self._address} is not a vault: its answer is longer than {LARGEST} bytes"
                    )
            return response.status_code, bytes(data)

    def _require_trust(self, error: BaseException) -> None:
        """Raise RootRefusedError where the certificate is why: waiting does not mend that."""
        seen: BaseException | None = error
        while seen is not None:
            if isinstance(seen, ssl.SSLCertVerificationError):
                raise RootRefusedError(
                    f"{self._address} shows a certificate that is not trusted, or is another host's: set "
                    "CHATPROXY_KEYSET_CA_FILE to its authority"
                ) from None
            seen = seen.__cause__ or seen.__context__

    def _read(self, status: int, data: bytes) -> Answer:
        match status:
            case 200 | 204:
                return Answer(is_refusal=False, data=self._data(data) if data else {})
            case 400:
                return Answer(is_refusal=True, data=self._data(data) if data else {})
            case 401 | 403:
                raise RootRefusedError(
                    f"{self._address} refuses this token (status {status}): CHATPROXY_KEYSET_TOKEN must be valid, and "
                    "its policy must allow what docs/providers.md lists"
                )
            case 404:
                raise NoKeyError(
                    f"{self._address} does not exist: enable the transit engine at {self._address.mount}, then run "
                    "`chatproxy keys init`. If the key was there, restore the vault from its backup: without it "
                    "nothing that is stored can be read"
                )
            case 301 | 302 | 303 | 307 | 308:
                raise RootRefusedError(
                    f"{self._address} sends elsewhere (status {status}), where the token is not sent: name the active "
                    "server, or an address that always leads to it"
                )
            case _:
                raise RootRefusedError(
                    f"{self._address} answers with status {status}: see the vault's own log"
                )

    def _data(self, data: bytes) -> Mapping[str, Any]:
        try:
            found = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found = None
        if not isinstance(found, dict) or not isinstance(found.get("data") or {}, dict):
            raise RootRefusedError(f"{self._address} is not a vault: its answer is not the JSON of one")
        return found.get("data") or {}
