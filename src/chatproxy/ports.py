"""What the outside world does for chatproxy, on one page. Workflows know these, never what stands behind them."""

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple, Protocol

from chatproxy.crypto.keys import KeyStatus
from chatproxy.crypto.keyset import Keyset
from chatproxy.model import ConversationTag, Exchange, SubjectTag, TurnId


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


@dataclass(frozen=True, slots=True)
class SealedGroup:
    """The parts of one turn that expire together, sealed. Group numbers count from 0 within a turn."""

    number: int
    blob: bytes = field(repr=False)
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A turn as one of the attempts at the same request.

    A complete answer takes the place of the attempt that waits; of two that are not complete, the richer stays. Two
    complete answers are two turns. An attempt waits until a turn is kept that continues it, and a day at most.
    """

    asked: bytes = field(repr=False)
    """What the attempts at one request have in common (``chatproxy.history``)."""
    completes: bool
    """Whether the answer came to its end."""
    richness: int
    """How much was answered: of two attempts that were cut, the greater stays (P12)."""
    announced: TurnId
    """The turn id that the client was told. Where the turn is kept under another, this one leads to it."""
    waiting: TurnId | None = None
    """The attempt that is known to wait. If it has the id of the turn, the turn takes its place; if not, it was found
    not to be one of these attempts."""
    is_named: bool = False
    """The client has named the turn, so what is kept under its id is always the same turn."""
    parent: bytes | None = field(default=None, repr=False)
    """What was asked in ``SealedTurn.after``, if that is known: an attempt that is continued waits no longer."""


class KnownTurn(NamedTuple):
    """A turn that was found by what it said."""

    conversation: ConversationTag
    turn: TurnId
    asked: bytes | None
    """What the attempts at its request have in common; None where it can have no others."""


@dataclass(frozen=True, slots=True)
class SealedTurn:
    """One turn as the store keeps it, put atomically in the subject's slot."""

    subject: SubjectTag
    turn: TurnId
    conversation: ConversationTag
    received_at: int
    expires_at: int
    """The latest expiry of its groups: that of the annotation and the indexes."""
    generation: int
    new_wrap: bytes | None = field(repr=False)
    """The wrapped subject key of ``generation``: created by this put if the subject has none, else compared.

    None: the caller knows only the generation."""
    ledger_length: int
    """How many consent events the decision has seen. The store refuses when there are others by now."""
    groups: tuple[SealedGroup, ...]
    annotation: Mapping[bytes, bytes] = field(repr=False)
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


@dataclass(frozen=True, slots=True)
class StatedChoice:
    """A choice about the account, as the company's consent service states it. ``at`` in ms."""

    ident: str = field(repr=False)
    """The service's own name of it. It may tell about the person, so it is never stored as it is."""
    state: str
    """A word of R8 that can be recorded."""
    at: int
    purposes: tuple[str, ...]
    surfaces: tuple[str, ...]
    policy_version: str | None = None
    receipt: str | None = None
    """By which the company finds its own record; tells nothing about the person."""


class ConsentSource(Protocol):
    """The company's own consent service, where people choose there."""

    async def choices(self, *, tenant: str, subject: str) -> tuple[StatedChoice, ...]:
        """Ask now for every choice of a person, oldest first. Raises ConsentSourceError."""

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class NewKey:
    """The wrapped key of a person's next generation."""

    generation: int
    wrap: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure has destroyed, in the instant in which it did."""

    at: int
    """The fence: nothing received until then (ms) is kept or opened any more."""
    generations: tuple[int, ...]
    turns: int
    events: int


class EraseRefusal(IntEnum):
    """Why nothing was erased."""

    NOTHING = 0
    """Nothing is held of such a person."""
    KEY_CHANGED = -2
    LEDGER_CHANGED = -4


@dataclass(frozen=True, slots=True)
class ResealedTurn:
    """A turn whose records are sealed anew under the person's present key; nothing else about it changes."""

    subject: SubjectTag
    turn: TurnId
    expected_mac: bytes = field(repr=False)
    generation: int
    groups: tuple[SealedGroup, ...]


@dataclass(frozen=True, slots=True)
class Doomed:
    """A turn that is to be removed if its key is gone, with what its annotation says of where it is named."""

    turn: TurnId
    conversation: ConversationTag | None = None
    """None: there is no annotation that says it; what names the turn is found by itself."""
    heads: tuple[bytes, ...] = ()


class Removed(NamedTuple):
    """How many keys of the store went, by kind."""

    annotations: int = 0
    records: int = 0
    names: int = 0
    """Heads of conversations, attempts, other names and places in an index."""

    def and_more(self, annotations: int, records: int, names: int) -> "Removed":
        """Return the sum."""
        return Removed(self.annotations + annotations, self.records + records, self.names + names)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """What an erasure has done so far, as the store has written it down in the steps that did it."""

    erased: Erased
    kek_versions: tuple[int, ...]
    """Under which the destroyed keys lay wrapped."""
    removed: Removed


class Chore(StrEnum):
    """Work on one person that any node may take up."""

    ERASE = "erase"
    """Remove what an erasure has left behind."""
    ROLL = "roll"
    """Seal anew under another key what is left of a person, and destroy the key before."""


class ErasureStore(Protocol):
    """What makes a person, or an old key of theirs, unreadable for good. Raises StoreUnavailableError."""

    async def erase(
        self,
        subject: SubjectTag,
        *,
        at: int,
        ledger_length: int,
        stays: int | None,
        events: Sequence[bytes],
        ledger_keep_until: int,
    ) -> Erased | EraseRefusal:
        """Destroy the keys and the ledger of a person, set the fence, and tell every node.

        Where generation *stays*, since a legal hold covers what is under it, the ledger does too; *events* are added.
        """

    async def renew_key(
        self, subject: SubjectTag, *, before: int, key: NewKey, at: int, erasing: bool
    ) -> bool:
        """Have *key* take the place of generation *before* for what is sealed from now on.

        ``erasing``: set the fence too, since an erasure begins. False: the person has another generation.
        """

    async def reseal(self, turns: Sequence[ResealedTurn]) -> list[RedecideStatus | None]:
        """Replace the records of each turn atomically, in one pipeline; None where the outcome is unknown."""

    async def retire_keys(self, subject: SubjectTag, *, stays: int) -> tuple[int, ...]:
        """Destroy a person's keys before generation *stays*; return which there were."""

    async def is_erasing(self, subject: SubjectTag) -> bool:
        """Whether an erasure has begun and its keys are not destroyed yet."""

    async def rolled_at(self, subject: SubjectTag) -> int | None:
        """When keys of the person were last retired, ms."""

    async def unfinished(self, subject: SubjectTag) -> Unfinished | None:
        """What an erasure has done so far whose certificate is not made yet; None: there is no such one."""

    async def conclude(self, subject: SubjectTag, *, erased_at: int, certificate: bytes) -> bool:
        """Keep the certificate of an erasure until it is handed over; False if another one has begun since."""

    async def certificate(self, subject: SubjectTag) -> bytes | None:
        """The certificate of a person's erasure that was not handed over yet."""

    async def forget_certificate(self, subject: SubjectTag, certificate: bytes) -> None:
        """The certificate was handed over."""

    async def sweep(self, subject: SubjectTag, turns: Sequence[Doomed]) -> Removed:
        """Remove those of *turns* whose keys are gone."""

    async def sweep_rest(self, subject: SubjectTag) -> Removed:
        """Remove what is left of turns that are not kept, wherever it lies in the store, in bounded steps."""

    async def rewrite_log(self) -> None:
        """Have the store write its append-only file anew, without what was removed."""

    async def mark_chore(self, chore: Chore, subject: SubjectTag, at: int) -> Due:
        """Have a chore done from *at* (ms) on, by whichever node comes first; until then it is the caller's."""

    async def claim_chores(self, chore: Chore, *, now: int, until: int, most: int) -> list[Due]:
        """Take up to *most* people whose chore is due at *now*; it is again at *until* unless settled before."""

    async def put_off_chore(self, chore: Chore, due: Due, *, until: int) -> Due | None:
        """The chore is due again at *until* (ms); None, and due as marked, if it was marked again meanwhile."""

    async def settle_chore(self, chore: Chore, due: Due) -> bool:
        """The chore is done; False, and still due, if it was marked again meanwhile."""


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A key of a person as a walk over the store finds it."""

    subject: SubjectTag
    name: bytes
    kind: str
    """The letter that its name has after the person's (``chatproxy.store.keys``)."""
    ttl_expires_at: int
    """-1: it has no expiry, which is a fault."""
    promised: int | None = None
    """When a record or an annotation says itself that it ends; None for other kinds, and where it cannot be read."""
    turn: TurnId | None = None
    """The turn that a record or an annotation is of."""
    epoch: int | None = None
    """The number of the epoch key that a record is under."""


class ReapStore(Protocol):
    """What removes what is over. Raises StoreUnavailableError."""

    def walk(self) -> AsyncIterator[list[FoundKey]]:
        """Walk over the keys of all people in bounded steps; what has expired goes by being looked at."""

    async def last_expiry(self, subject: SubjectTag) -> int | None:
        """When the last of a person's turns ends, by their index."""

    async def end(self, name: bytes, at: int) -> None:
        """Have a key expire at *at* (ms), which removes it if that is past."""

    async def trim_index(self, subject: SubjectTag, name: bytes) -> int:
        """Take out of an index what is not kept; return how many members."""

    async def epochs(self) -> list[int]:
        """The numbers of the epoch keys that there are, ascending."""

    async def destroy_epochs(self, epochs: Sequence[int]) -> None:
        """Destroy epoch keys."""


@dataclass(frozen=True, slots=True)
class Uses:
    """Which of a person's turns are in which datasets."""

    link: bytes = field(repr=False)
    """What the names of the person's things in datasets depend on; it goes when the person is erased."""
    entries: Mapping[bytes, bytes] = field(repr=False)
    """By dataset and turn, 16 bytes each."""


class DatasetFiles(Protocol):
    """Where a dataset lies: files by names such as ``data/part-….jsonl``. Raises ConfigurationError."""

    def shown(self, name: str = "") -> str:
        """Return a file, or all of it, as a message names it: without credentials."""

    def make(self) -> None:
        """Make what must be there before the first file."""

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all, in the place of what is there."""

    def read(self, name: str) -> bytes | None: ...
    def remove(self, name: str) -> None:
        """Remove a file that may not be there."""

    def keep_only(self, names: Collection[str], *, of: str) -> None:
        """Remove items that are not in *names*, and drafts, of the shard that ends in *of*."""

    def names(self) -> Iterator[str]:
        """Yield the names of all files but hidden ones, in order."""


class LineageStore(Protocol):
    """What of whom is in which dataset, and what of it is recalled. Raises StoreUnavailableError."""

    async def use(
        self,
        subject: SubjectTag,
        entries: Mapping[bytes, bytes],
        *,
        ledger_length: int,
        erased_at: int | None,
        keep_until: int,
    ) -> bytes | None:
        """Note that turns go into a dataset, if ledger and fence are those that the decision has seen.

        Return the person's link, which is made with the first; None: decide again. Kept at least to *keep_until*.
        """

    async def uses(self, subject: SubjectTag) -> Uses | None: ...
    def used(self) -> AsyncIterator[SubjectTag]:
        """Everybody of whom something is in a dataset, in no order; one may come twice."""

    async def forget_uses(self, subject: SubjectTag, entries: Sequence[bytes]) -> None:
        """Take entries out; the link goes with the last."""

    async def recall(self, dataset: bytes, items: Mapping[bytes, bytes]) -> int:
        """Put items that are not there yet on the recall list; return how many."""

    async def settle_recalls(self, dataset: bytes, items: Mapping[bytes, bytes | None]) -> None:
        """Replace what the recall list says of items; None takes one off."""

    async def recalled(self, dataset: bytes, items: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return what the recall list says of those *items* that are on it."""

    def recalls(self, dataset: bytes) -> AsyncIterator[tuple[bytes, bytes]]:
        """The recall list, in no order; one may come twice."""

    async def datasets(self) -> dict[bytes, bytes]: ...
    async def add_dataset(self, dataset: bytes, about: bytes) -> None:
        """Note a dataset, unless it is known."""


@dataclass(frozen=True, slots=True)
class RootVersion:
    """One version of the root, as its provider has it. ``created_at`` in ms."""

    version: int
    status: KeyStatus
    created_at: int
    check: str = ""
    """Tells whether two nodes have the same key under this number, where each has a copy of its own."""


class RootKey(Protocol):
    """The provider that holds the root: a keyset file, OpenBao/Vault transit, a cloud KMS.

    It is asked at the start, for rotation, and by each node now and then for its versions; never for a chat. Raises
    KeysetError where the operator must act, and RootUnavailableError where it does not answer.
    """

    async def wrap(self, purpose: str, keys: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        """Wrap (ident, key) pairs under the primary root version. Ident and purpose are authenticated."""

    async def unwrap(self, purpose: str, wraps: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        """Unwrap (ident, wrapped) pairs. Raises UndecryptableError too."""

    def version_of(self, wrapped: bytes) -> int:
        """Return the root version that a wrap names. Raises UndecryptableError."""

    async def versions(self) -> list[RootVersion]:
        """Return every version, the oldest first."""

    async def add_version(self, *, now: int) -> int:
        """Make a version that opens and does not wrap yet; return its number. *now* in ms."""

    async def set_status(self, version: int, status: KeyStatus) -> None:
        """Promote, retire, bring back or destroy a version, in the order of ``KeyStatus``."""


class KeysetSource(Protocol):
    """Where the keyset comes from, and its root with it.

    Either both are here, in a file, or a provider keeps the root and the rest lies in the store, sealed by it. Raises
    KeysetError where the operator must act, StoreUnavailableError where store or provider do not answer.
    """

    @property
    def name(self) -> str:
        """As the setting names it, for messages."""

    @property
    def root(self) -> RootKey: ...
    def local(self) -> Keyset | None:
        """The keyset, where that can be told without store and network; None where it lies in the store."""

    async def load(self, store: TranscriptStore) -> Keyset:
        """The keyset, wherever it lies."""

    async def change(self, store: TranscriptStore, step: Callable[[Keyset], Keyset]) -> Keyset:
        """Replace what is not the root by what *step* makes of it, whole or not at all; return that."""

    async def take(self, store: TranscriptStore, keyset: Keyset, *, now: int) -> bool:
        """Hold *keyset* under this root from now on; return whether the root was made for it. *now* in ms.

        What is held already must be the same keyset.
        """

    async def follow_root(self, store: TranscriptStore) -> None:
        """Put what lies in the store under the primary root version, since older ones are about to be retired."""


class Journal(Protocol):
    """What stands between capture and store, so that a store that is away costs nothing at once.

    An exchange is opened at acceptance, grows while it streams, is closed when it ended, and is released only
    when the store has confirmed its turn.
    """

    @property
    def held_bytes(self) -> int:
        """Bytes in memory now."""

    @property
    def is_full(self) -> bool:
        """Whether no more than a twentieth of the memory is free."""

    @property
    def is_filling(self) -> bool:
        """Whether copies come faster than they are kept: a quarter of the memory is taken."""

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, waits or is being kept."""

    @property
    def problem(self) -> str | None:
        """Why what is captured now does not survive a crash though it should, in words; None: it does."""

    def open(self, exchange: Exchange) -> bool:
        """Begin to keep *exchange*; False if there is no room, and then it is lost and counted."""

    def grow(self, exchange: Exchange, size: int) -> bool:
        """Account for *size* more bytes, which are then appended; False if there is no room for them."""

    def abandon(self, exchange: Exchange) -> None:
        """Forget a running exchange."""

    def close(self, exchange: Exchange) -> None:
        """The exchange has ended: it may be kept now."""

    async def is_safe(self, exchange: Exchange) -> bool:
        """Wait until an exchange that has ended survives a crash; False if it does not, or that takes too long."""

    async def take(self, most: int) -> list[Exchange]:
        """Wait for ended exchanges and return up to *most* of them, oldest first."""

    def release(self, exchange: Exchange, *, is_kept: bool = False) -> None:
        """The exchange has met its fate; forget it. ``is_kept``: the store has it, as far as that can be known."""

    async def set_aside(self, exchange: Exchange) -> bool:
        """Release what cannot be kept, for the next start to try again; False: it is lost."""

    def follow_root(self, primary: int) -> int | None:
        """Have what is sealed on disk need no root version older than *primary*, as soon as that can be.

        Return the oldest that it needs now; None: nothing is sealed, 0: that is not known yet.
        """

    @property
    def leaves_nothing(self) -> bool:
        """Whether nothing lies on disk that the next start must be able to open."""


class AuditLog(Protocol):
    """Append-only record of who read what for which purpose. No content and no personal data."""

    def append(self, action: str, details: Mapping[str, str | int | bool], *, by: str | None = None) -> None:
        """Write one entry durably; ``by``: who did it, if not who the log takes for that by itself.

        Raises AuditUnavailableError, and then the action must not happen.
        """
