"""What a store does to have a person, or a part of what is kept of them, gone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple, Protocol

from chatproxy.model import ConversationTag, SubjectTag, TurnId
from chatproxy.ports.transcripts import Due, RedecideStatus, SealedGroup


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
