"""What is written beside a sealed turn, in clear and authenticated: the facts it was decided on, and the decision.

Nothing of the conversation itself is here, nor any id of the company's: a listing needs no key, and a later change of
the facts can be decided again without opening the records. ``TurnFacts`` never changes and is bound to the records as
their metadata; ``TurnNote`` is the present decision.
"""

import msgspec

from chatproxy.crypto.annotation import Annotation
from chatproxy.crypto.record import Grounds
from chatproxy.errors import UndecryptableError
from chatproxy.model import Age, Caller, ConversationTag, Origin, StreamEnd, Surface
from chatproxy.policy.engine import Decision
from chatproxy.policy.grounds import Ground
from chatproxy.policy.reasons import Reason

VERSION = 1
_GROUND_BITS = {ground: int(Grounds[str(ground)]) for ground in Ground}
_GROUNDS = [Grounds(bits) for bits in range(1 << len(Ground))]
UNPARSED = "UNPARSED"
"""Reason of a turn that would be eligible, had it been understood."""


class TurnFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The immutable metadata of a turn. Ids are hexadecimal."""

    v: int
    conversation: str
    dialect: str
    received_at: int
    node: str
    model: str | None = None
    after: str | None = None
    """The turn whose answer this one follows, if it is known: what orders a conversation and its branches."""

    @property
    def conversation_tag(self) -> ConversationTag:
        """Return the conversation's pseudonym."""
        return ConversationTag(bytes.fromhex(self.conversation))

    def metadata(self) -> bytes:
        """Return the canonical JSON that the annotation holds."""
        return msgspec.json.encode(self, order="sorted")

    def record_metadata(self, group: int) -> bytes:
        """Return what the record of *group* is bound to; see ``record_metadata``."""
        return record_metadata(self.metadata(), group)


def record_metadata(metadata: bytes, group: int) -> bytes:
    """Return what the record of *group* is bound to: the turn's metadata and the group's own number, as canonical JSON."""
    return b'{"group":%d,"turn":%b}' % (group, metadata)


class Eligible(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which purposes may use a group."""

    capability: bool = False
    safety: bool = False
    feedback: bool = False


class GroupNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The decision on the parts of one class of origins, which are sealed together."""

    n: int
    part: Origin
    grounds: dict[str, int]
    expires_at: int
    eligible: Eligible
    reason: str
    also: tuple[str, ...] = ()
    bytes: int

    @property
    def kept_until(self) -> int:
        """Return until when the group is kept, also where it is sealed for longer still; under a hold, how it is sealed."""
        if str(Reason.LEGAL_HOLD) in self.also:
            return self.expires_at
        return min(self.expires_at, max(self.grounds.values(), default=self.expires_at))


class TurnNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The mutable part of an annotation."""

    v: int
    end: StreamEnd
    parsed: bool = True
    plan: str | None = None
    nobody: bool = False
    """Nobody was named with the request, so no choice bears on the turn, whoever has written one since."""
    surface: Surface = Surface.CHAT
    age: Age = Age.UNKNOWN
    incognito: bool = False
    train_ai_no: bool = False
    gpc: bool = False
    policy: str
    """The digest of the policy that the turn is kept under: a changed one is not retroactive by itself."""
    decided_at: int
    consent: str | None = None
    """The hash of the last event of the person's ledger that the decision has seen."""
    heads: tuple[str, ...] = ()
    """By which later turns find this one, so that they go when it goes."""
    activity: tuple[int, ...] = ()
    """When the conversation was taken up again under a consent (R12): turns that told so may go before this one."""
    tried_again_at: int | None = None
    """When the request of this turn came last, ms, if it came more than once: the stricter of both instants counts."""
    unmatched: int = 0
    """Messages of the resent history that match no stored turn; they are not stored (R13)."""
    groups: tuple[GroupNote, ...]

    @property
    def caller(self) -> Caller:
        """Return the caller as far as it is kept: what the policy needs to decide again."""
        return Caller(
            plan=self.plan,
            surface=self.surface,
            age=self.age,
            incognito=self.incognito,
            train_ai_no=self.train_ai_no,
            gpc=self.gpc,
        )

    @property
    def expires_at(self) -> int:
        """Return the latest expiry of the groups."""
        return max([group.expires_at for group in self.groups])

    def body(self) -> bytes:
        """Return the canonical JSON that the annotation holds."""
        return msgspec.json.encode(self, order="sorted")


def group_note(decision: Decision, *, number: int, part: Origin, expires_at: int, size: int) -> GroupNote:
    """Return the note of one group: *decision*, sealed until *expires_at* (ms) in *size* bytes."""
    return GroupNote(
        n=number,
        part=part,
        grounds={str(ground): end for ground, end in decision.grounds.items()},
        expires_at=expires_at,
        eligible=Eligible(decision.eligible_capability, decision.eligible_safety, decision.eligible_feedback),
        reason=shown_reason(part, decision.reason),
        also=tuple(map(str, decision.also)),
        bytes=size,
    )


def shown_reason(part: Origin, reason: Reason) -> str:
    """Return the reason as annotation and metrics have it: bytes that were not understood are no connector's data."""
    return UNPARSED if part is Origin.RAW and reason is Reason.PART_CONNECTOR_RAW else str(reason)


def grounds_in_record(decision: Decision) -> Grounds:
    """Return the grounds of a decision as the header of a record has them."""
    return _GROUNDS[sum([_GROUND_BITS[ground] for ground in decision.grounds])]


def read(annotation: Annotation) -> tuple[TurnFacts, TurnNote]:
    """Read an authentic annotation. Raises UndecryptableError for a version that this chatproxy does not know."""
    try:
        facts = msgspec.json.decode(annotation.metadata, type=TurnFacts)
        note = msgspec.json.decode(annotation.body, type=TurnNote)
    except msgspec.DecodeError:
        raise UndecryptableError("annotation_format") from None
    if (facts.v, note.v) != (VERSION, VERSION):
        raise UndecryptableError("annotation_version")
    return facts, note
