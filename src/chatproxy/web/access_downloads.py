"""How does a person download all that is held of them (R42), while chats go on? As the archive grows, and in turn.

1. It is dear, so nobody may often (``CHATPROXY_ACCESS_RATE``), nobody two at once, and only a few at the same time.
2. It is made by who waits for it: what they do not take is not made, so of each only a few turns are in memory. All of them
   together work at most half of the time; the other half belongs to chats, and what is long is done in a thread.
3. Who takes theirs slowly has the time for it, as long as nobody else waits: then the slowest of those who have let us wait
   for ``CHATPROXY_CLIENT_TAKE_TIMEOUT`` in all gives way. So a few who take it by the byte keep nobody from theirs.
4. It is in the audit log as with the command: before anything is opened, and when it is done. If it cannot be finished, the
   answer ends without its end, so that nobody takes it for whole.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
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


class _Taking:
    """How one person takes their archive."""

    def __init__(self) -> None:
        self._taken = 0
        self._waited = 0.0
        self._since: float | None = None
        self.limit = asyncio.timeout(None)
        """Ends the answer when it is rescheduled."""

    @contextmanager
    def offered(self, size: int) -> Iterator[None]:
        """Measure how long it takes until so many bytes are taken."""
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        try:
            yield
        finally:
            self._waited += loop.time() - self._since
            self._since = None
        self._taken += size

    def waited(self, now: float) -> float:
        """Return for how many seconds it had to be waited for them, in all."""
        return self._waited + (0.0 if self._since is None else now - self._since)

    def rate(self, now: float) -> float:
        """Return how many bytes a second they took of what they were offered; they must have been waited for."""
        return self._taken / self.waited(now)


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
        take_timeout: float,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """``desk``: one that audits as the person. ``logs``: the audit logs that say who has read what.

        ``public_keys``: those that verify receipts, as a JWK Set. ``take_timeout``: for how many seconds in all a person may let
        us wait, if others ask.
        """
        self._desk = desk
        self._words = tuple(words)
        self._page = AccessPage()
        self._logs = logs
        self._public_keys = public_keys
        self._rate = rate
        self._take_timeout = take_timeout
        self._clock = clock
        self._metrics = metrics
        self._running: dict[SubjectTag, _Taking] = {}
        self._one = asyncio.Lock()

    async def begin(self, subject: SubjectTag, passphrase: str | None) -> Response | None:
        """Return the answer that has the archive of a person in it, sealed if there is a passphrase; None: nothing is held.

        Raises TooOftenError, AuditUnavailableError, StoreUnavailableError, and UndecryptableError where the ledger is not
        authentic.
        """
        if subject in self._running or not self._has_room():
            raise self._too_often(_NO_ROOM_MS)
        if wait := self._rate.wait(subject, now=self._clock()):
            raise self._too_often(wait)
        taking = self._running[subject] = _Taking()
        try:
            answer = await self._answer(subject, passphrase, taking)
        except BaseException:
            self._ended(subject, taking)
            raise
        # Only now: who met a fault of ours is not made to wait a day for that.
        self._rate.take(subject, now=self._clock())
        if answer is None:
            self._ended(subject, taking)
        return answer

    def _has_room(self) -> bool:
        """Whether one more can be sent, now that whoever is slow has given way."""
        if len(self._running) < _AT_ONCE:
            return True
        now = asyncio.get_running_loop().time()
        slow = [item for item in self._running.items() if item[1].waited(now) >= self._take_timeout]
        if not slow:
            return False
        subject, taking = min(slow, key=lambda item: item[1].rate(now))
        taking.limit.reschedule(now)
        self._ended(subject, taking)
        self._metrics.client_cuts.labels("slow_reader").inc()
        return True

    def _ended(self, subject: SubjectTag, taking: _Taking) -> None:
        # Who has given way may have asked again.
        if self._running.get(subject) is taking:
            del self._running[subject]

    def _too_often(self, wait_ms: int) -> TooOftenError:
        self._metrics.rate_limited.labels("access").inc()
        return TooOftenError(wait_ms)

    async def _answer(self, subject: SubjectTag, passphrase: str | None, taking: _Taking) -> Response | None:
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
            taking=taking,
            ended=lambda: self._ended(subject, taking),
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
        self,
        pieces: AsyncGenerator[bytes, None],
        *,
        name: str,
        media_type: str,
        taking: _Taking,
        ended: Callable[[], None],
    ) -> None:
        headers = dict(PAGE_HEADERS) | {"Content-Disposition": f'attachment; filename="{name}"'}
        super().__init__(media_type=media_type, headers=headers)
        del self.headers["content-length"]
        self._pieces = pieces
        self._taking = taking
        self._ended = ended

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Send it as far as somebody takes it; what cannot be finished is left without an end."""
        try:
            async with self._taking.limit:
                await self._send(scope, send)
        except TimeoutError:
            _log.warning("what a person asked for was cut short: they took it slowly, and others wait")
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
                with self._taking.offered(len(waiting)):
                    await send({"type": "http.response.body", "body": bytes(waiting), "more_body": True})
                waiting.clear()
        await send({"type": "http.response.body", "body": bytes(waiting)})
