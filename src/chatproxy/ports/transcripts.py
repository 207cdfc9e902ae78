"""What is kept of a turn, and the store that keeps it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, Protocol

from chatproxy.model import ConversationTag, SubjectTag, TurnId
from chatproxy.unshown import Unshown


@dataclass(frozen=True, slots=True)
class SubjectState:
    """All that is needed to decide and seal a subject's turn, read in one round trip."""

    generation: int | None
    """The subject-key generation that new records are sealed under; None: no key yet."""
    wraps: Mapping[int, bytes] = field(repr=False)
    """Wrapped subject keys by generation."""
    erased_at: int | None
    """Nothing received at or before this instant may be stored again (the erase fence)."""
    ledger: tuple[bytes, ...] = field(repr=False)
    """The events of the subject's ledger, oldest first, as written."""
    generation_floor: int = 0
    """Generations up to this one were destroyed: a new key takes a higher one."""
    is_erasing: bool = False
    """Whether an erasure has begun and its keys are not destroyed yet."""
    generation_at: int | None = None
    """When the key of ``generation`` was made, ms of the store's clock; None: before that was written down."""

    def is_fenced(self, received_at: int) -> bool:
        """Whether the person was erased since: nothing that was received by then (ms) is read or kept any more."""
        return self.erased_at is not None and received_at <= self.erased_at


MOST_GROUPS = 3
"""Group numbers within a turn are lower."""


class SealedGroup(Unshown, frozen=True):
    """The parts of one turn that expire together, sealed. Group numbers count from 0 within a turn."""

    number: int
    blob: bytes
    expires_at: int


class Attempt(Unshown, frozen=True, kw_only=True):
    """A turn as one of the attempts at the same request.

    A complete answer takes the place of the attempt that waits; of two that are not complete, the richer stays. Two
    complete answers are two turns. An attempt waits until a turn is kept that continues it, and a day at most.
    """

    asked: bytes
    """What the attempts at one request have in common (``chatproxy.history``)."""
    completes: bool
    """Whether the answer came to its end."""
    richness: int
    """How much was answered, if it was cut: of two such attempts the greater stays (P12)."""
    announced: TurnId
    """The turn id that the client was told. Where the turn is kept under another, this one leads to it."""
    waiting: TurnId | None = None
    """The attempt that is known to wait. If it has the id of the turn, the turn takes its place; if not, it was found
    not to be one of these attempts."""
    is_named: bool = False
    """The client has named the turn, so what is kept under its id is always the same turn."""
    parent: bytes | None = None
    """What was asked in ``SealedTurn.after``, if that is known: an attempt that is continued waits no longer."""


class KnownTurn(NamedTuple):
    """A turn that was found by what it said."""

    conversation: ConversationTag
    turn: TurnId
    asked: bytes | None
    """What the attempts at its request have in common; None where it can have no others, or is known not to wait for one."""


class SealedTurn(Unshown, frozen=True):
    """One turn as the store keeps it, put atomically in the subject's slot."""

    subject: SubjectTag
    turn: TurnId
    conversation: ConversationTag
    received_at: int
    expires_at: int
    """The latest expiry of its groups: that of the annotation and the indexes."""
    generation: int
    new_wrap: bytes | None
    """The wrapped subject key of ``generation``: created by this put if the subject has none, else compared.

    None: the caller knows only the generation."""
    ledger_length: int
    """How many consent events the decision has seen. The store refuses when there are others by now."""
    groups: tuple[SealedGroup, ...]
    annotation: Mapping[bytes, bytes]
    """Fields of the annotation hash."""
    after: TurnId | None = None
    """The turn that this one continues."""
    heads: tuple[bytes, ...] = ()
    """Keyed hashes of the conversation up to and including each answer of this turn, for matching history."""
    ledger_keep_until: int = 0
    """Where the subject has a consent ledger, it lives at least until then (R38)."""
    attempt: Attempt | None = None
    """Of a person who is known: this turn among the attempts at one request. None: there are no others."""
    grant_since: int = 0
    """Since when (ms) the yes stands under which older turns of the conversation may be taken up (R12); 0: none."""


class PutStatus(IntEnum):
    """What became of a put. Anything else (a timeout, an error) is unknown: put again, it is idempotent."""

    STORED = 1
    REPLAYED = 2
    """The same turn was stored before; nothing changed."""
    RESUMED = 3
    """Stored, and a yes may reach older turns of the conversation now (R12): the person is to be decided on again."""
    RESUMED_BEFORE = 4
    """Stored before, in a conversation with turns from before and since the yes: as RESUMED, since nobody knows whether
    that was heard."""
    KEY_CHANGED = -2
    """The subject has another key generation than the caller knows: read the state again."""
    EXPIRED = -3
    """A group's expiry is not after the store's own clock."""
    LEDGER_CHANGED = -4
    """The consent ledger has grown or gone since the decision: read it again and decide again."""
    ERASED = -5
    """The turn was received at or before the subject's erasure."""
    ATTEMPTED = -7
    """Another attempt at the same request waits than the caller knows, or none: look for it and put again."""
    DAMAGED = -6
    """A key of the subject is not of the type it must be; trying again does not help, and others are not concerned."""


@dataclass(frozen=True, slots=True)
class RedecidedTurn:
    """A turn that is kept already, as a later decision wants it: changed atomically, or not at all."""

    subject: SubjectTag
    turn: TurnId
    conversation: ConversationTag
    expected_mac: bytes = field(repr=False)
    """Of the annotation that the decision has seen."""
    ledger_length: int
    """As for SealedTurn: of two decisions the one that has seen more events stands."""
    generation: int
    """The subject-key generation that ``groups`` are sealed under."""
    expires_at: int | None
    """The latest expiry of what is left; None: nothing is, and the turn goes."""
    groups: tuple[SealedGroup, ...] = ()
    """Those that are sealed anew; others stay as they are."""
    dropped: tuple[int, ...] = ()
    """Numbers of the groups that go."""
    annotation: Mapping[bytes, bytes] = field(default_factory=dict, repr=False)
    heads: tuple[bytes, ...] = ()
    ledger_keep_until: int = 0


class RedecideStatus(IntEnum):
    """What became of a decision on a kept turn. Anything else is unknown: read the turn again."""

    CHANGED = 1
    GONE = 2
    """The turn is not kept any more: by this decision, or already."""
    KEY_CHANGED = -2
    LEDGER_CHANGED = -4
    DAMAGED = -6
    """As for PutStatus."""
    OVERTAKEN = -7
    """The annotation is not the one that was seen: somebody else has decided meanwhile."""


@dataclass(frozen=True, slots=True)
class Due:
    """A person whose kept turns are to be decided again."""

    subject: SubjectTag
    token: int
    """Says which mark this is: one that was set later is another."""


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """A row of the store: the annotation's fields as found, not yet authenticated, and the TTL that holds."""

    subject: SubjectTag
    turn: TurnId
    annotation: Mapping[bytes, bytes] = field(repr=False)
    ttl_expires_at: int
    """The store's own PEXPIRETIME of the annotation; -1 if it has none, which is a fault."""


class TranscriptStore(Protocol):
    """The sealed turns, wrapped keys, annotations and consent ledgers. Raises StoreUnavailableError."""

    async def ping(self) -> None: ...
    async def now(self) -> int:
        """The store's own clock, ms."""

    async def subject_state(self, subject: SubjectTag) -> SubjectState: ...
    async def subject_states(self, subjects: Sequence[SubjectTag]) -> list[SubjectState]:
        """Return the same of several, in one round trip."""

    async def put(self, turns: Sequence[SealedTurn]) -> list[PutStatus | None]:
        """Put each turn atomically, in one pipeline; None where the outcome is unknown."""

    async def epoch_wraps(self, days: Sequence[int]) -> dict[int, bytes]: ...
    async def add_epoch_wrap(self, day: int, wrap: bytes) -> bytes:
        """Keep *wrap* as the key of *day* unless there is one; return the one that is kept."""

    async def find_head(self, subject: SubjectTag, head: bytes) -> KnownTurn | None:
        """The turn of *subject* that ended with the history hash *head*."""

    async def find_attempt(self, subject: SubjectTag, asked: bytes) -> TurnId | None:
        """The attempt at a request that did not complete and waits to be tried again."""

    async def adopt_stray(self, head: bytes) -> SubjectTag | None:
        """The pseudonym of the nobody's conversation that ended with *head* (unknown identity)."""

    async def remember_stray(self, heads: Sequence[bytes], subject: SubjectTag, expires_at: int) -> None:
        """Let a nobody's conversation be continued by who sends its history, unless another one said the same."""

    async def annotations(self, subject: SubjectTag | None = None) -> AsyncIterator[StoredTurn]:
        """Every live turn, of one subject or of all, in no order, without loading them all."""
        yield NotImplemented

    async def conversation(self, subject: SubjectTag, conversation: ConversationTag) -> list[StoredTurn]:
        """The live turns of a conversation by time received."""

    async def turn(self, subject: SubjectTag, turn: TurnId) -> StoredTurn | None:
        """One turn, also by the id of an attempt that it took in."""

    async def turns(self, subject: SubjectTag, turns: Sequence[TurnId]) -> list[StoredTurn]:
        """Those of *turns* that are kept under these very ids, in one round trip."""

    async def records(
        self, subject: SubjectTag, turn: TurnId, groups: Sequence[int]
    ) -> list[bytes | None]: ...
    async def records_of_turns(
        self, subject: SubjectTag, wanted: Sequence[tuple[TurnId, int]]
    ) -> list[bytes | None]:
        """The records of many turns in one round trip, by turn and group number."""

    async def append_event(
        self, subject: SubjectTag, event: bytes, *, expected_length: int, expires_at: int
    ) -> bool:
        """Append to the ledger if it has *expected_length* events, and tell every node.

        The ledger lives at least to *expires_at*.
        """

    def changes(self) -> AbstractAsyncContextManager[AsyncIterator[SubjectTag]]:
        """Hear of each person whose ledger grows, on any node, from the moment of entering on.

        The iterator raises StoreUnavailableError when it can hear nothing any more: what was missed is not told.
        """

    async def redecide(self, turns: Sequence[RedecidedTurn]) -> list[RedecideStatus | None]:
        """Change each turn atomically, in one pipeline; None where the outcome is unknown."""

    async def trim(self, subject: SubjectTag, conversations: Sequence[ConversationTag]) -> None:
        """Let a person's key and indexes, and those of *conversations*, go with the last of what they are for."""

    async def mark_due(self, subject: SubjectTag, at: int) -> None:
        """Have a person's turns decided again from *at* (ms) on, by whichever node comes first."""

    async def mark_all_due(self, subjects: Sequence[SubjectTag], at: int) -> None:
        """Have these people's turns decided again, as ``mark_due``, in one round trip."""

    async def claim_due(self, *, now: int, until: int, most: int) -> list[Due]:
        """Take up to *most* people who are due at *now*, not always those who have waited longest.

        They are due again at *until* unless settled before.
        """

    async def put_off_due(self, due: Due, *, until: int) -> Due | None:
        """The person is due again at *until* (ms); None, and due as marked, if they were marked again meanwhile."""

    async def settle_due(self, due: Due) -> bool:
        """The person has been decided on; False, and still due, if they were marked again meanwhile."""

    async def people_due(self, now: int) -> int:
        """How many people are due at *now* (ms)."""

    def subjects(self) -> AsyncIterator[SubjectTag]:
        """Every person of whom something is kept, in no order; one may come twice."""

    async def swap_subject_wraps(self, swaps: Sequence[tuple[SubjectTag, int, bytes, bytes]]) -> list[bool]:
        """Replace each (subject, generation, old, new) that is still *old*, in one round trip; expiries stay."""

    async def subject_wraps(self, subjects: Sequence[SubjectTag]) -> list[dict[int, bytes] | None]:
        """Return the wrapped keys of each of *subjects*, by generation, in one round trip.

        None stands for a person whose entry is not of the type it must be.
        """

    async def all_epoch_wraps(self) -> dict[int, bytes]:
        """Return every wrapped epoch key, by day."""

    async def swap_epoch_wraps(self, swaps: Sequence[tuple[int, bytes, bytes]]) -> list[bool]:
        """Replace each (day, old, new) that is still *old*, in one round trip."""

    async def beat(self, node: str, state: bytes) -> None:
        """Say how a node is."""

    async def nodes(self) -> dict[str, bytes]:
        """Return what each node said last."""

    async def forget_node(self, node: str) -> None:
        """A node has stopped, with nothing left on it."""

    async def read_control(self, name: str) -> bytes | None:
        """A small value of the whole deployment (the key ring, the keyset's check value)."""

    async def swap_control(self, name: str, old: bytes | None, new: bytes) -> bool:
        """Replace a control value if it is still *old* (compare-and-set), and tell every node its name.

        Control values have no TTL.
        """

    def control_changes(self) -> AbstractAsyncContextManager[AsyncIterator[str]]:
        """Hear the name of each control value that is replaced; otherwise as ``changes``."""

    async def is_empty(self) -> bool:
        """Whether no key of chatproxy exists but what says with which keyset, so that a new key ring may be made."""

    async def aclose(self) -> None: ...
