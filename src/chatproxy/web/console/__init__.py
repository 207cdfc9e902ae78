"""The operator's console: one page on the admin listener that shows how it goes, and changes nothing."""

from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from chatproxy.clock import Clock
from chatproxy.crypto.keys import KeyStatus
from chatproxy.errors import ChatproxyError, UndecryptableError
from chatproxy.policy.instants import format_instant
from chatproxy.ports import RootKey, TranscriptStore
from chatproxy.web.console.page import ConsolePage, KeyAge, Keys, View
from chatproxy.web.pages.headers import PAGE_HEADERS
from chatproxy.web.siblings import Report
from chatproxy.workflows.census import Census, read_census
from chatproxy.workflows.horizon import erasure_horizon
from chatproxy.workflows.keys import RecordKeys
from chatproxy.workflows.recall import OpenRecalls

AskRecalls = Callable[[], Awaitable[Mapping[str, OpenRecalls]]]
"""Tells the open recalls by dataset. Raises ChatproxyError."""


class Console:
    """Gathers what the page shows."""

    def __init__(
        self,
        store: TranscriptStore,
        root: RootKey,
        keys: RecordKeys,
        *,
        node: str,
        clock: Clock,
        recalls: AskRecalls,
    ) -> None:
        self._store = store
        self._root = root
        self._keys = keys
        self._node = node
        self._clock = clock
        self._recalls = recalls
        self._page = ConsolePage()
        self._style = files(__package__).joinpath("assets", "console.css").read_bytes()

    async def show(self, report: Report) -> Response:
        """Answer with the page. What store or root do not tell is said to be missing."""
        view = View(
            node=self._node,
            now=self._clock(),
            report=report,
            census=await self._census(),
            keys=await self._key_ages(),
            recalls=await self._open_recalls(),
        )
        return HTMLResponse(self._page.render(view), headers=dict(PAGE_HEADERS))

    async def style(self, _: Request) -> Response:
        """Answer with the style sheet."""
        return Response(
            self._style,
            media_type="text/css; charset=utf-8",
            headers={"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"},
        )

    async def _census(self) -> Census | None:
        try:
            return await read_census(self._store)
        except ChatproxyError:
            return None

    async def _open_recalls(self) -> Mapping[str, OpenRecalls] | None:
        try:
            return await self._recalls()
        except ChatproxyError:
            return None

    async def _key_ages(self) -> Keys | None:
        if self._keys.ring is None:
            return None
        ring = self._keys.ring.manifest
        try:
            versions = await self._root.versions()
            horizon = erasure_horizon(ring, versions, version_of=self._root.version_of).at
        except (ChatproxyError, UndecryptableError):
            return None
        ages = [
            *(KeyAge("KEK", key.version, key.status, key.changed_at or key.created_at) for key in ring.keys),
            *(KeyAge("root", each.version, each.status, each.created_at) for each in versions),
        ]
        return Keys(
            [age for age in ages if age.status != KeyStatus.DESTROYED],
            "Nothing that was erased is out of reach of old backups yet."
            if horizon is None
            else f"What was erased before {format_instant(horizon)} cannot be read from any backup.",
        )
