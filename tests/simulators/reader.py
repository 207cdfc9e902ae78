"""Whoever reads the answer to a call to the upstream piece by piece, as slowly as a test likes."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any

from chatproxy.forwarding import Header, ResponseHead
from chatproxy.web.upstream import Upstream, UpstreamCall

_MOST_UNREAD_BYTES = 65_536


class Reader:
    """A call, and what has arrived of its answer. All that is not said here is the call's."""

    def __init__(self) -> None:
        self.call: UpstreamCall
        self._whole: asyncio.Task[None]
        self._head: ResponseHead | None = None
        self._pieces: deque[bytes] = deque()
        self._more_body = True
        self._has_arrived = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.call, name)

    def begun(self, head: ResponseHead) -> None:
        """See Answered."""
        assert self._head is None
        self._head = head

    def body(self, pieces: Sequence[bytes], *, more_body: bool) -> None:
        """See Answered."""
        assert self._head is not None
        assert self._more_body
        self._pieces += pieces
        self._more_body = more_body
        self._has_arrived.set()
        if sum(map(len, self._pieces)) > _MOST_UNREAD_BYTES:
            self.call.pause_reading()

    async def head(self) -> ResponseHead:
        """Wait for the head. Raises UpstreamError."""
        while self._head is None:
            await self._wait()
        return self._head

    async def read(self) -> tuple[bytes, bool]:
        """Return the next piece, and whether anything may follow. Raises UpstreamError after the last that arrived."""
        while not self._pieces:
            if not self._more_body:
                return b"", False
            self.call.resume_reading()
            await self._wait()
        piece = self._pieces.popleft()
        return piece, bool(self._pieces) or self._more_body

    def begin(self, call: UpstreamCall) -> None:
        """Read the answer to *call*."""
        self.call = call
        self._whole = asyncio.ensure_future(call.whole())
        self._whole.add_done_callback(lambda whole: whole.cancelled() or whole.exception())

    async def _wait(self) -> None:
        self._has_arrived.clear()
        arrival = asyncio.ensure_future(self._has_arrived.wait())
        try:
            await asyncio.wait((arrival, self._whole), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            self._whole.cancel()
            raise
        finally:
            arrival.cancel()
        if not self._has_arrived.is_set():
            self._whole.result()


async def start(
    upstream: Upstream, method: bytes, target: bytes, headers: list[Header], **options: Any
) -> Reader:
    """As ``Upstream.start``, for somebody who reads."""
    reader = Reader()
    reader.begin(await upstream.start(method, target, headers, reader, **options))
    return reader
