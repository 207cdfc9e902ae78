"""The page that answers "was I used": which conversation, in which dataset, when, and what of it was recalled (R42, R43)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from starlette.responses import Response
from starlette.routing import Route

from chatproxy.web.pages.paging import cut
from chatproxy.web.pages.visit import Frame, Visit
from chatproxy.web.pages.words import Words
from chatproxy.workflows.person import PersonDesk
from chatproxy.workflows.recall import TakenBack, WasUsed


@dataclass(frozen=True, slots=True)
class ShownUse:
    """One conversation in one dataset, in words. Instants are ms."""

    conversation: str | None
    """The handle of the conversation, where it can be read still."""
    began_at: int
    dataset: str
    at: int
    purpose: Markup
    consumer: str
    went_in: Markup
    state: Markup
    """What was recalled of it since, and whether it is out."""


class UsesPage:
    """Shows what of a person is in datasets."""

    def __init__(self, desk: PersonDesk, frame: Frame) -> None:
        self._desk = desk
        self._frame = frame

    def routes(self) -> list[Route]:
        """Return where the page is."""
        return [self._frame.get("uses", self._show)]

    async def _show(self, visit: Visit) -> Response:
        subject = visit.session.subject
        uses = await self._desk.uses(subject)
        part = cut(uses[::-1], visit.request.query_params.get("page", ""))
        begun = {
            view.handle: view.started_at
            for view in (await self._desk.conversations(subject) if uses else ())
            if not view.is_deleted
        }
        return self._frame.page(
            visit,
            "uses.html",
            tab="uses",
            uses=list(_shown(part.entries, begun, visit.words)),
            page=part.page,
            pages=part.pages,
        )


def _shown(uses: Sequence[tuple[str, WasUsed]], begun: Mapping[str, int], words: Words) -> Iterator[ShownUse]:
    """Yield *uses* in words; *begun*: when the conversations began that can be read, by their handles."""
    for handle, used in uses:
        yield ShownUse(
            conversation=handle if handle in begun else None,
            began_at=begun.get(handle, used.began_at),
            dataset=used.dataset,
            at=used.at,
            purpose=words.say(f"access.uses_{used.purpose}"),
            consumer=used.consumer,
            went_in=words.count("list.turns", used.turns),
            state=_state(used.recall, words),
        )


def _state(recall: TakenBack | None, words: Words) -> Markup:
    """Return what was recalled of a conversation in a dataset, and whether it is out."""
    if recall is None:
        return words.say("uses.unrecalled")
    out = recall.acknowledged_at
    return Markup(" ").join(
        (
            words.count("uses.recalled", recall.turns, at=words.moment(recall.at)),
            words.say("uses.unacknowledged")
            if out is None
            else words.say("uses.acknowledged", at=words.moment(out)),
        )
    )
