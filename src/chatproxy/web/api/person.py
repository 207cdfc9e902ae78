"""What a person, or the front end that they use, may ask for: about themselves alone, and with nobody else's name.

Nothing here takes the name of a person: who asks is whom it is about.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.routing import Route

from chatproxy.clock import Clock
from chatproxy.consent.due import ChoiceDue
from chatproxy.consent.events import DATA_SUBJECT
from chatproxy.consent.notices import Terms
from chatproxy.errors import ConflictError, NotFoundError
from chatproxy.policy.instants import format_instant
from chatproxy.web.api import forms
from chatproxy.web.api.describe import describe, description_route
from chatproxy.web.api.forms import Answer
from chatproxy.web.api.of_subject import SubjectOperations
from chatproxy.web.api.operation import API, Call, Operation, Query
from chatproxy.web.api.paging import PAGING
from chatproxy.web.person_session import COOKIE, PREFIX, TOKEN_HEADER, PersonSession, PersonSessions
from chatproxy.workflows.person import PersonDesk

BASE = PREFIX + "api/v1"
DESCRIPTION = PREFIX + "api/openapi.json"
METHOD = "api"
_PATH_NAMES = {
    "handle": "The handle of a conversation, as `conversations` gives it.",
    "receipt_id": "The name of a receipt, as `choice` and `history` give it.",
}
_ABOUT = {
    "deleteConversation": "Delete one conversation. The first deletion counts; another one changes nothing.",
    "shareConversation": "Let this one be used, whatever was chosen about the account.",
    "excludeConversation": "Keep this one out, whatever was chosen about the account.",
    "followAccount": "Leave this one to the choice about the account again.",
    "giveFeedback": "Send feedback, which keeps the conversation for that purpose.",
    "withdrawFeedback": "Take back all feedback on a conversation.",
}
_SECURITY = {
    "front": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Chat-Subject",
        "description": "Identity as for chats: headers of a trusted front, or what CHATPROXY_IDENTITY says instead.",
    },
    "bearer": {"type": "http", "scheme": "bearer", "description": "Where CHATPROXY_IDENTITY is jwt."},
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": f"Begun by a signed link. A change needs {TOKEN_HEADER} too, as `session` gives it.",
    },
}


class GivenChoice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A choice about the account, made now."""

    choice: Answer
    method: forms.Label = METHOD
    """What was pressed, such as ``button:yes``; never how long it took."""
    screen: forms.Screen
    """Where it was asked."""
    language: forms.Language
    """Of the notice that was shown, as ``notice`` gives it."""
    purposes: forms.Purposes = tuple(forms.Purpose)
    """What a yes is about."""
    surfaces: forms.Surfaces = tuple(forms.ChosenSurface)
    """Where a yes holds."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """How the person is known here."""

    by: str
    """``identity`` or ``link``."""
    csrf: str
    """To be sent as ``X-Chat-CSRF`` with whatever changes something."""
    can_manage: bool
    """Whether there is a choice to make."""
    language: str | None


class NoticeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The words that are to be shown before a choice, and how it stands with it. Plain text throughout."""

    due: forms.Due
    published_at: str
    effective_at: str
    material: bool
    policy_sha256: str
    sha256: str
    language: str
    title: str
    paragraphs: tuple[str, ...]
    question: str
    yes: str
    no: str
    later: str
    if_yes: str
    if_no: str


class PersonAPI:
    """The operations, and what they work with."""

    def __init__(
        self,
        desk: PersonDesk,
        sessions: PersonSessions,
        terms: Terms,
        *,
        clock: Clock,
        new_request_id: Callable[[], str],
    ) -> None:
        self._desk = desk
        self._sessions = sessions
        self._terms = terms
        self._clock = clock
        self._own: SubjectOperations[PersonSession] = SubjectOperations(
            lambda _: desk,
            path="",
            subject_of=lambda call: call.who.subject,
            by=DATA_SUBJECT,
            method=METHOD,
        )
        self.api = API(
            self._operations(),
            base=BASE,
            authenticate=self._authenticate,
            new_request_id=new_request_id,
            allows_origin=sessions.allows_origin,
        )

    def description(self) -> dict[str, Any]:
        """Return the API as OpenAPI."""
        return describe(
            self.api.operations,
            base=BASE,
            title="chatproxy: what is kept of me",
            about="What a person may see and do about their own choice and conversations.",
            security=_SECURITY,
            path_names=_PATH_NAMES,
        )

    def routes(self) -> list[Route]:
        """Return the routes under the prefix of chatproxy's own."""
        return [description_route(DESCRIPTION, self.description()), *self.api.routes()]

    def _operations(self) -> list[Operation[PersonSession]]:
        return [
            Operation(
                name="getSession",
                method="GET",
                path="/session",
                about="How the person is known, and the token for changes.",
                handler=self._session,
                gives=Session,
            ),
            *self._own.of_choice(
                Operation(
                    name="putChoice",
                    method="PUT",
                    path="/choice",
                    about="Say yes, no or later. Recorded as what it is beside the choice that stands.",
                    handler=self._choose,
                    takes=GivenChoice,
                    gives=forms.RecordedChoice,
                    fails=(409,),
                ),
            ),
            Operation(
                name="getPreview",
                method="GET",
                path="/preview",
                about="What a yes or a no would do, as the policy computes it. Nothing is written.",
                handler=self._preview,
                gives=forms.PreviewAnswer,
            ),
            Operation(
                name="getNotice",
                method="GET",
                path="/notice",
                about="The words to show before a choice.",
                handler=self._notice,
                gives=NoticeAnswer,
                queries=(Query("language", "BCP 47, such as fr-CA; the nearest there is comes."),),
            ),
            Operation(
                name="getConversations",
                method="GET",
                path="/conversations",
                about="Every conversation of which something is kept, newest first.",
                handler=self._conversations,
                gives=forms.Conversations,
                queries=PAGING,
            ),
            Operation(
                name="getConversation",
                method="GET",
                path="/conversations/{handle}",
                about="One conversation.",
                handler=self._conversation,
                gives=forms.Conversation,
            ),
            Operation(
                name="getUses",
                method="GET",
                path="/uses",
                about="Was I used: which conversations went into which datasets, when, and what of it was recalled.",
                handler=self._uses,
                gives=forms.Uses,
            ),
            *self._own.of_conversations(_ABOUT),
        ]

    async def _authenticate(self, request: Request, operation: Operation[PersonSession]) -> PersonSession:
        session = await self._sessions.identify_person(request)
        if operation.changes_something:
            token = request.headers.get(TOKEN_HEADER)
            self._sessions.require_own_request(request, session, token=token)
        return session

    async def _session(self, call: Call[PersonSession]) -> Session:
        who = call.who
        return Session(
            by="link" if who.is_by_cookie else "identity",
            csrf=who.csrf,
            can_manage=who.can_manage,
            language=who.language,
        )

    async def _choose(self, call: Call[PersonSession]) -> forms.RecordedChoice:
        who = call.who
        if not who.can_manage:
            raise ConflictError("there is no choice to make: what is said on this account is never used")
        return await self._own.choose(call, plan=who.plan, age=who.age, gpc=who.gpc)

    async def _preview(self, call: Call[PersonSession]) -> forms.PreviewAnswer:
        who = call.who
        return forms.preview_of(await self._desk.preview(who.subject, plan=who.plan, age=who.age))

    async def _notice(self, call: Call[PersonSession]) -> NoticeAnswer:
        due: ChoiceDue = (await self._desk.standing(call.who.subject)).due
        version = due.version or self._terms.to_choose_about(self._clock())
        language = call.query.get("language") or call.who.language or self._terms.fallback_language
        notice = self._terms.notice(version.version, language) if version else None
        if version is None or notice is None:
            raise NotFoundError("there is no notice; nothing is asked here")
        return NoticeAnswer(
            due=forms.due_answer(due),
            published_at=format_instant(version.published_at),
            effective_at=format_instant(version.effective_at),
            material=version.material,
            policy_sha256=version.sha256,
            sha256=notice.sha256,
            language=notice.language,
            title=notice.title,
            paragraphs=notice.paragraphs,
            question=notice.question,
            yes=notice.yes,
            no=notice.no,
            later=notice.later,
            if_yes=notice.if_yes,
            if_no=notice.if_no,
        )

    async def _conversations(self, call: Call[PersonSession]) -> forms.Conversations:
        return forms.conversations_of(await self._desk.conversations(call.who.subject), call.query)

    async def _uses(self, call: Call[PersonSession]) -> forms.Uses:
        return forms.Uses(
            tuple(forms.use_of(handle, used) for handle, used in await self._desk.uses(call.who.subject))
        )

    async def _conversation(self, call: Call[PersonSession]) -> forms.Conversation:
        view = await self._desk.conversation(call.who.subject, call.path["handle"])
        return forms.conversation_of(view)
