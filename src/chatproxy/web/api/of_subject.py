"""What can be asked about one person through either API, by themselves or by the company for them?

Each API says whom a call is about, on whose word it is recorded, and in its own words what is asked.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Generic

from chatproxy.model import Age, SubjectTag, Surface
from chatproxy.policy.facts import Override
from chatproxy.web.api import forms
from chatproxy.web.api.operation import Call, Operation, WhoT
from chatproxy.web.api.paging import PAGING
from chatproxy.workflows.person import PersonDesk

_SETTINGS = (
    ("shareConversation", "/share", Override.SHARE),
    ("excludeConversation", "/exclude", Override.EXCLUDE),
    ("followAccount", "/follow", Override.INHERIT),
)


class SubjectOperations(Generic[WhoT]):
    """The operations about one person, and what they work with."""

    def __init__(
        self,
        desk_of: Callable[[Call[WhoT]], PersonDesk],
        *,
        path: str,
        subject_of: Callable[[Call[WhoT]], SubjectTag],
        by: str,
        method: str,
    ) -> None:
        """``desk_of``: for who asks. ``path``: of the person. ``by`` and ``method``: the words of the ledger for what is done here."""
        self._desk_of = desk_of
        self._path = path
        self._subject_of = subject_of
        self._by = by
        self._method = method

    def of_choice(self, put: Operation[WhoT]) -> list[Operation[WhoT]]:
        """Return those about the choice of the account. ``put`` records one, in the form that each API takes."""
        return [
            Operation(
                name="getChoice",
                method="GET",
                path=self._path + "/choice",
                about="The choice that stands, and whether one is due.",
                handler=self._choice,
                gives=forms.ChoiceAnswer,
            ),
            put,
            Operation(
                name="getHistory",
                method="GET",
                path=self._path + "/history",
                about="Every choice, and what the person did to conversations, newest first.",
                handler=self._history,
                gives=forms.History,
                queries=PAGING,
            ),
            Operation(
                name="getReceipt",
                method="GET",
                path=self._path + "/receipts/{receipt_id}",
                about="The signed receipt of one choice, as a file.",
                handler=self._receipt,
                gives=forms.ReceiptFile,
            ),
        ]

    def of_conversations(
        self, about: Mapping[str, str], *, fails_to_share: tuple[int, ...] = ()
    ) -> list[Operation[WhoT]]:
        """Return what can be done to one conversation. ``about``: what each operation does, by its name."""
        handle = self._path + "/conversations/{handle}"
        return [
            Operation(
                name="deleteConversation",
                method="DELETE",
                path=handle,
                about=about["deleteConversation"],
                handler=self._delete,
                gives=forms.Deleted,
            ),
            *(
                Operation(
                    name=name,
                    method="POST",
                    path=handle + path,
                    about=about[name],
                    handler=partial(self._set, override),
                    gives=forms.Conversation,
                    fails=fails_to_share if override is Override.SHARE else (),
                )
                for name, path, override in _SETTINGS
            ),
            Operation(
                name="giveFeedback",
                method="POST",
                path=handle + "/feedback",
                about=about["giveFeedback"],
                handler=self._give_feedback,
                takes=forms.GivenFeedback,
                gives=forms.FeedbackAnswer,
                fails=(409,),
            ),
            Operation(
                name="withdrawFeedback",
                method="DELETE",
                path=handle + "/feedback",
                about=about["withdrawFeedback"],
                handler=self._withdraw_feedback,
                gives=forms.FeedbackAnswer,
            ),
        ]

    async def choose(
        self, call: Call[WhoT], *, plan: str | None, age: Age, gpc: bool
    ) -> forms.RecordedChoice:
        """Record the choice that a body says was made just now. Raises as ``PersonDesk.choose``."""
        given = call.body
        event = await self._desk_of(call).choose(
            self._subject_of(call),
            given.choice.choice,
            by=self._by,
            method=given.method,
            language=given.language,
            screen=given.screen,
            plan=plan,
            age=age,
            gpc=gpc,
            surfaces=[Surface(surface) for surface in given.surfaces],
            purposes=[str(purpose) for purpose in given.purposes],
        )
        return forms.recorded(event)

    async def _choice(self, call: Call[WhoT]) -> forms.ChoiceAnswer:
        return forms.choice_answer(await self._desk_of(call).standing(self._subject_of(call)))

    async def _history(self, call: Call[WhoT]) -> forms.History:
        return forms.history_of(await self._desk_of(call).history(self._subject_of(call)), call.query)

    async def _receipt(self, call: Call[WhoT]) -> bytes:
        return (await self._desk_of(call).receipt(self._subject_of(call), call.path["receipt_id"])).file

    async def _delete(self, call: Call[WhoT]) -> forms.Deleted:
        deletion = await self._desk_of(call).delete_conversation(
            self._subject_of(call), call.path["handle"], by=self._by, method=self._method
        )
        return forms.deleted(deletion)

    async def _set(self, override: Override, call: Call[WhoT]) -> forms.Conversation:
        view = await self._desk_of(call).set_override(
            self._subject_of(call), call.path["handle"], override, by=self._by, method=self._method
        )
        return forms.conversation_of(view)

    async def _give_feedback(self, call: Call[WhoT]) -> forms.FeedbackAnswer:
        view = await self._desk_of(call).give_feedback(
            self._subject_of(call),
            call.path["handle"],
            call.body.kind,
            by=self._by,
            method=self._method,
            is_confirmed=call.body.confirmed,
        )
        return forms.FeedbackAnswer(conversation=forms.conversation_of(view))

    async def _withdraw_feedback(self, call: Call[WhoT]) -> forms.FeedbackAnswer:
        view = await self._desk_of(call).withdraw_feedback(
            self._subject_of(call), call.path["handle"], by=self._by, method=self._method
        )
        return forms.FeedbackAnswer(conversation=None if view is None else forms.conversation_of(view))
