"""How is the company's consent service asked? One POST a question, never while a chat waits.

1. TLS is verified, proxies and netrc of the environment do not count, redirects are not followed, compressed answers
   are refused. Size, time and the number of questions at once are bounded.
2. The deadline covers all of it: waiting for a connection, connecting, the answer to its last byte.
3. A connection may be used again: an answer that was meant for another question has another nonce in its signature.
4. Whatever goes wrong is a ConsentSourceError, whose reason is a metric's label. Nothing of the answer is repeated.
"""

import asyncio
import secrets
import ssl
from collections.abc import Sequence

import httpx

from chatproxy.breaker import Breaker
from chatproxy.clock import Clock
from chatproxy.consent.answer import SIGNATURE_HEADER, question, read_answer, require_signature
from chatproxy.errors import ConsentSourceError
from chatproxy.ports import ConsentSource, StatedChoice
from chatproxy.telemetry import Log

LARGEST = 256 << 10
"""Bytes of an answer."""
_MOST_AT_ONCE = 16
_MOST_WAITING = 1024
_NONCE_BYTES = 16

_log = Log("consent-service")


class ConsentService:
    """The service at *url*. Durations in seconds.

    Args:
        url: https, or http on this machine.
        shared_secrets: one that signs answers, or two while it is changed.
        token: sent as a bearer token, if the service wants one.
        clock: for telling a choice of the future from one that has been made.
        connect_timeout: for making a connection, within the deadline.
        deadline: for one question, all told.
        ssl_context: whose certificates are believed.
    """

    def __init__(
        self,
        url: str,
        *,
        shared_secrets: Sequence[str],
        token: str | None,
        clock: Clock,
        connect_timeout: float,
        deadline: float,
        ssl_context: ssl.SSLContext,
    ) -> None:
        self._url = url
        self._secrets = tuple(shared_secrets)
        self._clock = clock
        self._deadline = deadline
        self._free = asyncio.Semaphore(_MOST_AT_ONCE)
        self._asking = 0
        self._breaker = Breaker()
        self._problem: str | None = None
        headers = {
            "accept": "application/json",
            "accept-encoding": "identity",
            "content-type": "application/json",
        }
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        self._client = httpx.AsyncClient(
            verify=ssl_context,
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(deadline, connect=connect_timeout),
            limits=httpx.Limits(max_connections=_MOST_AT_ONCE),
            headers=headers,
        )

    async def choices(self, *, tenant: str, subject: str) -> tuple[StatedChoice, ...]:
        """Ask now for every choice of a person, oldest first. Raises ConsentSourceError."""
        loop = asyncio.get_running_loop()
        if self._asking >= _MOST_WAITING:
            raise ConsentSourceError("busy")
        if not self._breaker.lets_pass(loop.time()):
            raise ConsentSourceError("left_alone")
        self._asking += 1
        try:
            found = await self._ask(tenant, subject)
        except ConsentSourceError as error:
            self._breaker.failed(loop.time())
            self._report(error.reason)
            raise
        finally:
            self._asking -= 1
        self._breaker.succeeded()
        self._report(None)
        return found

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(self, tenant: str, subject: str) -> tuple[StatedChoice, ...]:
        nonce = secrets.token_hex(_NONCE_BYTES)
        content = question(tenant=tenant, subject=subject, nonce=nonce)
        try:
            async with (
                asyncio.timeout(self._deadline),
                self._free,
                self._client.stream("POST", self._url, content=content) as response,
            ):
                body = await _read(response)
                signature = response.headers.get(SIGNATURE_HEADER)
        except (TimeoutError, httpx.TimeoutException):
            raise ConsentSourceError("timeout") from None
        except httpx.HTTPError as error:
            raise ConsentSourceError("unreachable") from error
        require_signature(body, signature, nonce=nonce, secrets=self._secrets)
        return read_answer(body, tenant=tenant, subject=subject, now=self._clock())

    def _report(self, problem: str | None) -> None:
        """Log when the service begins to fail, and when it is back; each failure is counted elsewhere."""
        if (problem is None) == (self._problem is None):
            return
        self._problem = problem
        if problem is not None:
            _log.error("the consent service fails; what is kept meanwhile counts as refused", problem=problem)
        else:
            _log.info("the consent service answers again")


async def _read(response: httpx.Response) -> bytes:
    if response.status_code != httpx.codes.OK:
        raise ConsentSourceError("status")
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise ConsentSourceError("malformed")
    body = bytearray()
    async for piece in response.aiter_raw():
        body += piece
        if len(body) > LARGEST:
            raise ConsentSourceError("too_large")
    return bytes(body)


_: type[ConsentSource] = ConsentService
