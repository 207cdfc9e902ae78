"""The pages of the conversations: which are kept, until when, why, what was said, and what to do about each."""

from starlette.responses import Response
from starlette.routing import Route

from chatproxy.errors import AccessRefusedError
from chatproxy.web.pages.conversation_words import SETTINGS, said, shown_conversation, staying
from chatproxy.web.pages.paging import cut, page_number
from chatproxy.web.pages.visit import BadFormError, Form, Frame, Visit
from chatproxy.workflows.person import PersonDesk

_METHOD = "page"


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
        part = cut(views, visit.request.query_params.get("page", ""))
        return self._frame.page(
            visit,
            "conversations.html",
            tab="conversations",
            conversations=[shown_conversation(view, visit.words) for view in part.entries],
            total=len(views),
            page=part.page,
            pages=part.pages,
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
            return self._frame.go(f"conversations?page={page_number(page)}#{handle}", done=name)
        return self._frame.go(f"conversations/{handle}", done=name)

    async def _take_feedback_back(self, visit: Visit, _: Form) -> Response:
        handle = visit.request.path_params["handle"]
        await self._desk.withdraw_feedback(visit.session.subject, handle, method=_METHOD)
        return self._frame.go("conversations", done="feedback_withdrawn")
