"""What the company's servers may say has happened to turns, conversations and people, beside the choice of the account.

By pseudonym and handle; a handle of somebody else finds nothing. Each is in the audit log before it is done, as by a
command (``chatproxy.workflows.happenings``). The case of a hold may be secret, so it stands in bodies alone.
"""

from collections.abc import Sequence
from typing import Annotated

import msgspec

from chatproxy.clock import Clock
from chatproxy.consent.events import FactEvent
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.errors import NotFoundError
from chatproxy.identities.operators import Operator
from chatproxy.model import ConversationTag, SubjectTag, TurnId
from chatproxy.policy.instants import format_instant, parse_instant
from chatproxy.unshown import Unshown
from chatproxy.web.api import problems
from chatproxy.web.api.admin import METHOD, PERSON, of_subject, subject_of
from chatproxy.web.api.operation import Call, Operation
from chatproxy.web.api.problems import RefusedError
from chatproxy.workflows.happenings import NO_CONVERSATION, NO_TURN, Actor, Happenings, StandingHold
from chatproxy.workflows.import_choices import IMPORTED_BY
from chatproxy.workflows.person import PersonDesk

_COMPANY = Actor(by=IMPORTED_BY, method=METHOD)
_ABOUT = {
    "deleteConversation": "The person deletes one conversation. The first deletion counts.",
    "shareConversation": "The person lets this one be used; refused where nobody was named in it.",
    "excludeConversation": "The person keeps this one out.",
    "followAccount": "The person leaves this one to the choice about the account again.",
    "giveFeedback": "The person sends feedback, which keeps the conversation for that purpose.",
    "withdrawFeedback": "The person takes back all feedback on a conversation.",
}
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Happened(msgspec.Struct, frozen=True, kw_only=True):
    """Whether something was written: not what was so already."""

    recorded: bool
    at: str | None


class HeldCase(Unshown, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A legal hold: of all that is held of the person, or of one conversation."""

    case: _Text
    conversation: str | None = None


class NewHold(Unshown, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A legal hold that is placed, or whose review is moved."""

    case: _Text
    authority: _Text
    """Who asks for it: a court, a regulator, counsel."""
    review_at: str
    """When it is to be looked at again, RFC 3339."""
    conversation: str | None = None


class HoldItem(Unshown, frozen=True, kw_only=True):
    """A legal hold that stands."""

    subject: str
    conversation: str | None
    case: str
    authority: str
    placed_at: str
    review_at: str
    is_overdue: bool


class Holds(msgspec.Struct, frozen=True, kw_only=True):
    """The holds that stand."""

    holds: tuple[HoldItem, ...]
    unreadable: int
    """Ledgers that are not authentic, whose holds are not known."""


class HappenedOperations:
    """The operations, and what they work with."""

    def __init__(
        self, happenings: Happenings, desk: PersonDesk, pseudonyms: Pseudonymizer, *, clock: Clock
    ) -> None:
        self._happenings = happenings
        self._of_subject = of_subject(desk)
        self._pseudonyms = pseudonyms
        self._clock = clock

    def operations(self) -> Sequence[Operation[Operator]]:
        """Return the table."""
        return [
            *self._of_turns_and_people(),
            *self._of_holds(),
            *self._of_subject.of_conversations(_ABOUT, fails_to_share=(409,)),
        ]

    def _of_turns_and_people(self) -> list[Operation[Operator]]:
        flag = PERSON + "/turns/{turn}/flag"
        return [
            Operation(
                name="flagTurn",
                method="POST",
                path=flag,
                about="A turn is flagged for safety, and kept for that.",
                handler=self._flag,
                gives=Happened,
            ),
            Operation(
                name="liftFlag",
                method="DELETE",
                path=flag,
                about="The flag of a turn was wrong, or its review is done.",
                handler=self._lift_flag,
                gives=Happened,
            ),
            Operation(
                name="findMinor",
                method="POST",
                path=PERSON + "/minor",
                about="The person turns out to be a minor: nothing of them is kept, now or later.",
                handler=self._find_minor,
                gives=Happened,
            ),
        ]

    def _of_holds(self) -> list[Operation[Operator]]:
        holds = PERSON + "/holds"
        return [
            Operation(
                name="getAllHolds",
                method="GET",
                path="/holds",
                about="The legal holds that stand, of everybody.",
                handler=self._all_holds,
                gives=Holds,
            ),
            Operation(
                name="getHolds",
                method="GET",
                path=holds,
                about="The legal holds that stand, of one person.",
                handler=self._holds,
                gives=Holds,
            ),
            Operation(
                name="placeHold",
                method="POST",
                path=holds,
                about="Suspend erasure until the review. The same case again moves the review.",
                handler=self._place_hold,
                takes=NewHold,
                gives=Happened,
            ),
            Operation(
                name="releaseHold",
                method="POST",
                path=holds + "/release",
                about="A hold is over: what is overdue goes.",
                handler=self._release_hold,
                takes=HeldCase,
                gives=Happened,
            ),
        ]

    async def _flag(self, call: Call[Operator]) -> Happened:
        return _happened(await self._verbs(call).flag(*self._turn(call), actor=_COMPANY))

    async def _lift_flag(self, call: Call[Operator]) -> Happened:
        return _happened(await self._verbs(call).lift_flag(*self._turn(call), actor=_COMPANY))

    async def _find_minor(self, call: Call[Operator]) -> Happened:
        return _happened(await self._verbs(call).find_minor(subject_of(call), actor=_COMPANY))

    async def _all_holds(self, call: Call[Operator]) -> Holds:
        del call
        return await self._standing(None)

    async def _holds(self, call: Call[Operator]) -> Holds:
        return await self._standing(subject_of(call))

    async def _standing(self, subject: SubjectTag | None) -> Holds:
        holds: list[HoldItem] = []
        unreadable = 0
        async for found in self._happenings.holds(subject):
            if isinstance(found, StandingHold):
                holds.append(self._hold_item(found))
            else:
                unreadable += 1
        return Holds(holds=tuple(holds), unreadable=unreadable)

    async def _place_hold(self, call: Call[Operator]) -> Happened:
        subject, wanted = subject_of(call), call.body
        try:
            event = await self._verbs(call).place_hold(
                subject,
                self._conversation(subject, wanted.conversation),
                case=wanted.case,
                authority=wanted.authority,
                review_at=_review_at(wanted.review_at),
                actor=_COMPANY,
            )
        except ValueError as error:
            raise RefusedError(problems.INVALID, str(error)) from None
        return _happened(event)

    async def _release_hold(self, call: Call[Operator]) -> Happened:
        subject, wanted = subject_of(call), call.body
        conversation = self._conversation(subject, wanted.conversation)
        return _happened(
            await self._verbs(call).release_hold(subject, conversation, case=wanted.case, actor=_COMPANY)
        )

    def _verbs(self, call: Call[Operator]) -> Happenings:
        return self._happenings.audited_as(call.who.audited_as)

    def _turn(self, call: Call[Operator]) -> tuple[SubjectTag, TurnId]:
        """Return the turn that a path names. Raises NotFoundError, alike for unknown and foreign ones."""
        subject = subject_of(call)
        try:
            owner, turn = self._pseudonyms.read_turn_handle(call.path["turn"])
        except NotFoundError:
            raise NotFoundError(NO_TURN) from None
        if owner != subject:
            raise NotFoundError(NO_TURN)
        return subject, turn

    def _conversation(self, subject: SubjectTag, handle: str | None) -> ConversationTag | None:
        """Return the conversation that a hold is of; None: of all. Raises NotFoundError, as for turns."""
        if handle is None:
            return None
        try:
            owner, conversation = self._pseudonyms.read_conversation_handle(handle)
        except NotFoundError:
            raise NotFoundError(NO_CONVERSATION) from None
        if owner != subject:
            raise NotFoundError(NO_CONVERSATION)
        return conversation

    def _hold_item(self, found: StandingHold) -> HoldItem:
        hold, handle = found.hold, None
        if hold.conversation is not None:
            handle = self._pseudonyms.conversation_handle(found.subject, hold.conversation)
        return HoldItem(
            subject=found.subject.hex(),
            conversation=handle,
            case=hold.case,
            authority=hold.authority,
            placed_at=format_instant(hold.placed_at),
            review_at=format_instant(hold.review_at),
            is_overdue=hold.review_at <= self._clock(),
        )


def _review_at(written: str) -> int:
    try:
        return parse_instant(written)
    except ValueError as error:
        raise ValueError(f"review_at {error}") from None


def _happened(event: FactEvent | None) -> Happened:
    return Happened(recorded=event is not None, at=None if event is None else format_instant(event.at))
