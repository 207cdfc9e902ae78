"""The page of the history: every choice on record, with its receipt to keep and how to check it."""

from collections.abc import Callable, Iterator

from markupsafe import Markup
from starlette.responses import Response
from starlette.routing import Route

from chatproxy.consent.events import DATA_SUBJECT, Choice
from chatproxy.web.pages.headers import PAGE_HEADERS
from chatproxy.web.pages.visit import Frame, Visit
from chatproxy.web.pages.words import Words
from chatproxy.workflows.person import PersonDesk
from chatproxy.workflows.person_history import HistoryEntry

_KEYS = "receipt-keys.json"
_VERIFY_COMMAND = f"chatproxy consent verify receipt.json --key {_KEYS}"


class HistoryPages:
    """Shows what the person has chosen and done, and hands out receipts."""

    def __init__(self, desk: PersonDesk, frame: Frame, *, public_keys: Callable[[], str]) -> None:
        """``public_keys``: those that verify receipts, as a JWK Set."""
        self._desk = desk
        self._frame = frame
        self._public_keys = public_keys

    def routes(self) -> list[Route]:
        """Return where the page and the receipts are."""
        return [
            self._frame.get("history", self._show),
            self._frame.get("history/{receipt}", self._receipt),
            self._frame.get(_KEYS, self._keys),
        ]

    async def _show(self, visit: Visit) -> Response:
        entries = await self._desk.history(visit.session.subject)
        return self._frame.page(
            visit,
            "history.html",
            tab="history",
            entries=[
                {
                    "at": entry.at,
                    "what": visit.words.say(f"history.{_what(entry)}"),
                    "details": list(_details(entry, visit.words)),
                    "conversation": entry.conversation,
                    "receipt": entry.receipt_id,
                }
                for entry in entries
            ],
            keys=_KEYS,
            verify_command=_VERIFY_COMMAND,
        )

    async def _receipt(self, visit: Visit) -> Response:
        receipt = await self._desk.receipt(visit.session.subject, visit.request.path_params["receipt"])
        return _download(receipt.file, f"{receipt.receipt_id}.json")

    async def _keys(self, _: Visit) -> Response:
        return _download(self._public_keys().encode(), _KEYS)


def _download(content: bytes, name: str) -> Response:
    headers = dict(PAGE_HEADERS) | {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type="application/json", headers=headers)


def _what(entry: HistoryEntry) -> str:
    return name_of(entry.kind, entry.choice, is_of_conversation=entry.conversation is not None)


def name_of(kind: str, choice: Choice | None, *, is_of_conversation: bool) -> str:
    """Return the name of the words for an entry of the history."""
    if kind != "choice":
        return kind
    if choice is None:
        return "unrecognised"
    if not is_of_conversation:
        return str(choice)
    if choice.permits:
        return "shared"
    return "follows" if choice is Choice.WITHDRAWN else "excluded"


def _details(entry: HistoryEntry, words: Words) -> Iterator[Markup]:
    if entry.kind == "choice":
        yield words.say("history.account" if entry.conversation is None else "history.conversation")
    if entry.policy_version is not None:
        yield words.say("history.version", version=entry.policy_version)
    if entry.by != DATA_SUBJECT:
        yield words.say("history.by_operator")
