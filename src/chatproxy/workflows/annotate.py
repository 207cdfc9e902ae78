"""What is written beside a sealed turn, in clear and authenticated: the facts it was decided on, and the decision.

Nothing of the conversation itself is here, nor any id of the company's: a listing needs no key, and a later change of
the facts can be decided again without opening the records. ``TurnFacts`` never changes and is bound to the records as
their metadata; ``TurnNote`` is the present decision.
"""

import msgspec

from chatproxy.crypto.annotation import Annotation
from chatproxy.errors import UndecryptableError
from chatproxy.model import Age, Caller, ConversationTag, Origin, StreamEnd, Surface

VERSION = 1


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
        """Return what the record of *group* is bound to: the turn's metadata and the group's own number."""
        return msgspec.json.encode({"group": group, "turn": msgspec.Raw(self.metadata())})


class Eligible(msgspec.Struct, frozen=True):
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


class TurnNote(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The mutable part of an annotation."""

    v: int
    end: StreamEnd
    parsed: bool = True
    plan: str | None = None
    surface: Surface = Surface.CHAT
    age: Age = Age.UNKNOWN
    incognito: bool = False
    train_ai_no: bool = False
    gpc: bool = False
    profile: str
    decided_at: int
    consent: str | None = None
    """The hash of the last choice event that the decision has seen."""
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
        return max(group.expires_at for group in self.groups)

    def body(self) -> bytes:
        """Return the canonical JSON that the annotation holds."""
        return msgspec.json.encode(self, order="sorted")


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
