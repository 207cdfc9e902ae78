"""The pages of the conversations: which are kept, until when, why, what was said, and what to do about each."""

import math
import re

from starlette.responses import Response
from starlette.routing import Route

from chatproxy.errors import AccessRefusedError
from chatproxy.web.pages.conversation_words import SETTINGS, said, shown_conversation, staying
from chatproxy.web.pages.visit import BadFormError, Form, Frame, Visit
from chatproxy.workflows.person import PersonDesk

_A_PAGE = 20
_METHOD = "page"
_PAGE_NUMBER = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)


class ConversationPages:
    """Shows conversations and takes what is decided about one."""

    def __init__(self, desk: PersonDesk, frame: Frame) -> None:
        self._desk = desk
        self._frame = frame

    def routes(self) -> list[Route]:
        """Return where the pages are and where their forms go."""
        one = "conversations/{handle}"
        return [
            self._frame.get("conversations", self._list),
            self._frame.get(one, self._read),
            self._frame.get(f"{one}/delete", self._ask_to_delete),
            self._frame.post(f"{one}/delete", self._delete),
            self._frame.post(f"{one}/setting", self._set),
            self._frame.post(f"{one}/feedback", self._take_feedback_back),
        ]

    async def _list(self, visit: Visit) -> Response:
        views = await self._desk.conversations(visit.session.subject)
        pages = max(1, math.ceil(len(views) / _A_PAGE))
        page = min(_page(visit.request.query_params.get("page", "")), pages)
        shown = [
            shown_conversation(view, visit.words) for view in views[(page - 1) * _A_PAGE : page * _A_PAGE]
        ]
        return self._frame.page(
            visit,
            "conversations.html",
            tab="conversations",
            conversations=shown,
            total=len(views),
            page=page,
            pages=pages,
        )

    async def _read(self, visit: Visit) -> Response:
        subject, handle = visit.session.subject, visit.request.path_params["handle"]
        view = await self._desk.conversation(subject, handle)
        try:
            turns = await self._desk.read_conversation(subject, handle)
        except AccessRefusedError:
            turns = None
        return self._frame.page(
            visit,
            "conversation.html",
            tab="conversations",
            conversation=shown_conversation(view, visit.words),
            is_closed=turns is None,
            said=said(turns or [], visit.words),
            page=None,
        )

    async def _ask_to_delete(self, visit: Visit) -> Response:
        subject, handle = visit.session.subject, visit.request.path_params["handle"]
        view = await self._desk.conversation(subject, handle)
        deletion = await self._desk.deletion_preview(subject, handle)
        return self._frame.page(
            visit,
            "delete.html",
            tab="conversations",
            conversation=shown_conversation(view, visit.words),
            erased_by=deletion.erased_by,
            stays=staying(deletion.stays, visit.words),
        )

    async def _delete(self, visit: Visit, _: Form) -> Response:
        await self._desk.delete_conversation(
            visit.session.subject, visit.request.path_params["handle"], method=_METHOD
        )
        return self._frame.go("conversations", done="deleted")

    async def _set(self, visit: Visit, form: Form) -> Response:
        name, handle = form.get("setting", ""), visit.request.path_params["handle"]
        if name not in SETTINGS:
            raise BadFormError
        await self._desk.set_override(visit.session.subject, handle, SETTINGS[name], method=_METHOD)
        page = form.get("page", "")
        if page:
            return self._frame.go(f"conversations?page={_page(page)}#{handle}", done=name)
        return self._frame.go(f"conversations/{handle}", done=name)

    async def _take_feedback_back(self, visit: Visit, _: Form) -> Response:
        handle = visit.request.path_params["handle"]
        await self._desk.withdraw_feedback(visit.session.subject, handle, method=_METHOD)
        return self._frame.go("conversations", done="feedback_withdrawn")


def _page(text: str) -> int:
    return int(text) if _PAGE_NUMBER.fullmatch(text) else 1
