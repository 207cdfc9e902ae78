"""How does a person download all that is held of them (R42), while chats go on? As the archive grows, and in turn.

1. It is dear, so nobody may often (``CHATPROXY_ACCESS_RATE``), nobody two at once, and only a few at the same time.
2. It is made by who waits for it: what they do not take is not made, so of each only a few turns are in memory. All of them
   together work at most half of the time; the other half belongs to chats, and what is long is done in a thread.
3. It is in the audit log as with the command: before anything is opened, and when it is done. If it cannot be finished, the
   answer ends without its end, so that nobody takes it for whole.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chatproxy.clock import Clock
from chatproxy.crypto.sealed_file import Sealing
from chatproxy.errors import AuditUnavailableError
from chatproxy.model import SubjectTag
from chatproxy.rates import Buckets, TooOftenError
from chatproxy.telemetry import Log, Metrics
from chatproxy.web.access_archive import AccessArchive, sealed
from chatproxy.web.client_call import CALL
from chatproxy.web.pages.access_page import AccessPage
from chatproxy.web.pages.headers import PAGE_HEADERS
from chatproxy.web.pages.words import Words
from chatproxy.workflows.access import Access, AccessDesk
from chatproxy.workflows.access_reads import AccessReads

_log = Log("access")
_AT_ONCE = 8
"""Archives that are sent at the same time."""
_NO_ROOM_MS = 60_000
_SENT_BYTES = 1 << 16
_STRIDE_SECONDS = 0.001
"""How long is worked before chats get as long."""


class AccessDownloads:
    """Makes the archives that people ask for."""

    def __init__(
        self,
        desk: AccessDesk,
        words: Iterable[Words],
        *,
        logs: Callable[[], Sequence[Path]],
        public_keys: Callable[[], str],
        rate: Buckets[SubjectTag],
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """``desk``: one that audits as the person. ``logs``: the audit logs that say who has read what.

        ``public_keys``: those that verify receipts, as a JWK Set.
        """
        self._desk = desk
        self._words = tuple(words)
        self._page = AccessPage()
        self._logs = logs
        self._public_keys = public_keys
        self._rate = rate
        self._clock = clock
        self._metrics = metrics
        self._running: set[SubjectTag] = set()
        self._one = asyncio.Lock()

    async def begin(self, subject: SubjectTag, passphrase: str | None) -> Response | None:
        """Return the answer that has the archive of a person in it, sealed if there is a passphrase; None: nothing is held.

        Raises TooOftenError, AuditUnavailableError, StoreUnavailableError, and UndecryptableError where the ledger is not
        authentic.
        """
        if subject in self._running or len(self._running) >= _AT_ONCE:
            raise self._too_often(_NO_ROOM_MS)
        if wait := self._rate.wait(subject, now=self._clock()):
            raise self._too_often(wait)
        self._running.add(subject)
        try:
            answer = await self._answer(subject, passphrase)
        except BaseException:
            self._running.discard(subject)
            raise
        # Only now: who met a fault of ours is not made to wait a day for that.
        self._rate.take(subject, now=self._clock())
        if answer is None:
            self._running.discard(subject)
        return answer

    def _too_often(self, wait_ms: int) -> TooOftenError:
        self._metrics.rate_limited.labels("access").inc()
        return TooOftenError(wait_ms)

    async def _answer(self, subject: SubjectTag, passphrase: str | None) -> Response | None:
        try:
            access = await self._desk.open(subject, AccessReads(self._logs()), tells_holds=True)
        except OSError as error:
            raise AuditUnavailableError("the audit log cannot be read") from error
        if access is None:
            return None
        archive = AccessArchive(access, self._page, self._words, public_keys=self._public_keys())
        pieces = archive.pieces()
        if passphrase is not None:
            async with self._one:  # it takes 128 MiB
                sealing = await asyncio.to_thread(Sealing, passphrase)
            pieces = sealed(pieces, sealing)
        return _Answer(
            self._in_turn(pieces, access),
            name=archive.name(is_sealed=passphrase is not None),
            media_type="application/zip" if passphrase is None else "application/octet-stream",
            ended=lambda: self._running.discard(subject),
        )

    async def _in_turn(self, pieces: AsyncIterator[bytes], access: Access) -> AsyncGenerator[bytes, None]:
        """Yield the archive stride by stride, at a pace that leaves chats their time."""
        loop = asyncio.get_running_loop()
        is_done = False
        while not is_done:
            stride = bytearray()
            async with self._one:
                began = loop.time()
                while not is_done and loop.time() - began < _STRIDE_SECONDS:
                    piece = await anext(pieces, None)
                    is_done = piece is None
                    stride += piece or b""
                await asyncio.sleep(loop.time() - began)
            yield bytes(stride)
        await access.disclosed()
        if faults := access.counts["fault"]:
            _log.error("turns of a person who asked for theirs are not as they were kept", turns=faults)


class _Answer(Response):
    """An archive on its way."""

    def __init__(
        self, pieces: AsyncGenerator[bytes, None], *, name: str, media_type: str, ended: Callable[[], None]
    ) -> None:
        headers = dict(PAGE_HEADERS) | {"Content-Disposition": f'attachment; filename="{name}"'}
        super().__init__(media_type=media_type, headers=headers)
        del self.headers["content-length"]
        self._pieces = pieces
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send it as far as somebody takes it; what cannot be finished is left without an end."""
        try:
            await self._send(scope, send)
        except Exception as error:  # noqa: BLE001 - the outer edge: the head is sent, so nothing else can be said
            _log.error("what a person asked for was cut short", failure=error)
        finally:
            self._ended()
            await self._pieces.aclose()

    async def _send(self, scope: Scope, send: Send) -> None:
        gone = asyncio.Event()
        scope[CALL].tell_when_gone(gone.set)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        waiting = bytearray()
        async for stride in self._pieces:
            if gone.is_set():
                return
            waiting += stride
            if len(waiting) >= _SENT_BYTES:
                await send({"type": "http.response.body", "body": bytes(waiting), "more_body": True})
                waiting.clear()
        await send({"type": "http.response.body", "body": bytes(waiting)})
