"""The page on which a person asks for all that is held of them, and the file that they get (R42)."""

from collections.abc import Awaitable, Callable

from starlette.responses import Response
from starlette.routing import Route

from chatproxy.crypto.sealed_file import SHORTEST_PASSPHRASE
from chatproxy.model import SubjectTag
from chatproxy.web.pages.visit import Form, Frame, Visit

_OPEN_COMMAND = "chatproxy subject open-archive access-….zip.sealed"


Download = Callable[[SubjectTag, str | None], Awaitable[Response | None]]
"""Returns the answer that has the file of a person in it, sealed to a passphrase; None: nothing is held."""


class CopyPage:
    """Asks whether it is to be sealed, and sends it."""

    def __init__(self, download: Download, frame: Frame) -> None:
        self._download = download
        self._frame = frame

    def routes(self) -> list[Route]:
        """Return where the page is and where its form goes."""
        return [self._frame.get("copy", self._show), self._frame.post("copy", self._send)]

    async def _show(self, visit: Visit) -> Response:
        return self._page(visit, is_too_short=False)

    async def _send(self, visit: Visit, form: Form) -> Response:
        passphrase = form.get("passphrase") or None
        if passphrase is not None and len(passphrase) < SHORTEST_PASSPHRASE:
            return self._page(visit, is_too_short=True)
        answer = await self._download(visit.session.subject, passphrase)
        return self._frame.go("copy", done="nothing_held") if answer is None else answer

    def _page(self, visit: Visit, *, is_too_short: bool) -> Response:
        return self._frame.page(
            visit,
            "copy.html",
            status=422 if is_too_short else 200,
            tab="copy",
            least=SHORTEST_PASSPHRASE,
            is_too_short=is_too_short,
            open_command=_OPEN_COMMAND,
        )
