"""What is remembered of a turn that went into a dataset, so that it can be shown, checked and taken back (R43).

It lies with the person's other things and holds no word of theirs: which answers, when, what permitted it, and how much of the
ledger the decision had seen.
"""

import msgspec

from chatproxy.crypto.dataset_names import NAME_SIZE, DatasetNames
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.model import ConversationTag, TurnId
from chatproxy.ports import Uses
from chatproxy.workflows.export_gate import Allowed, Person


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """One turn in one dataset."""

    choices: tuple[int, ...]
    at: int
    """The instant of the export, ms."""
    conversation: str
    received_at: int
    ledger_length: int
    """How many events the last decision on it had seen."""
    decided_length: int
    """How many the decision had seen that it was delivered on."""
    receipt: str | None
    policy: str
    reason: str
    until: int

    @classmethod
    def of(cls, allowed: Allowed, person: Person, choices: list[int], *, at: int) -> "Use":
        """Return what is to be remembered."""
        return cls(
            choices=tuple(choices),
            at=at,
            conversation=allowed.kept.facts.conversation,
            received_at=allowed.kept.facts.received_at,
            ledger_length=person.ledger_length,
            decided_length=person.ledger_length,
            receipt=allowed.receipt,
            policy=allowed.kept.note.policy,
            reason=allowed.reason,
            until=allowed.until,
        )

    @classmethod
    def decode(cls, stored: bytes) -> "Use":
        """Undo ``encode``. Raises msgspec.MsgspecError."""
        return msgspec.json.decode(stored, type=cls)

    def encode(self) -> bytes:
        """Return it as the store keeps it."""
        return msgspec.json.encode(self)

    def seen(self, ledger_length: int) -> "Use":
        """Return the same, looked at again with so many events."""
        return msgspec.structs.replace(self, ledger_length=ledger_length)

    @property
    def conversation_tag(self) -> ConversationTag:
        """Return the pseudonym of its conversation."""
        return ConversationTag(bytes.fromhex(self.conversation))


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What is noted of a dataset."""

    dataset: str
    purpose: str
    consumer: str
    at: int
    """The instant of the export, ms."""
    min_age_ms: int
    redaction: str

    def names(self, pseudonyms: Pseudonymizer) -> DatasetNames:
        """Return what makes the names in it."""
        return dataset_names(
            pseudonyms,
            purpose=self.purpose,
            consumer=self.consumer,
            at=self.at,
            redaction=self.redaction,
            min_age_ms=self.min_age_ms,
        )


def dataset_names(
    pseudonyms: Pseudonymizer, *, purpose: str, consumer: str, at: int, redaction: str, min_age_ms: int
) -> DatasetNames:
    """Return what makes the names in the dataset of these circumstances: the same export is the same dataset."""
    return pseudonyms.dataset_names(msgspec.json.encode([purpose, consumer, at, redaction, min_age_ms]))


def entry_name(dataset: bytes, turn: TurnId) -> bytes:
    """Return under which name the use of a turn is noted."""
    return dataset + turn


def uses_in(uses: Uses, dataset: bytes) -> dict[TurnId, Use]:
    """Return what of a person is in one dataset, by turn."""
    return {
        turn: Use.decode(what)
        for name, what in uses.entries.items()
        for of, turn in [read_entry_name(name)]
        if of == dataset
    }


def read_entry_name(name: bytes) -> tuple[bytes, TurnId]:
    """Undo ``entry_name``."""
    return name[:NAME_SIZE], TurnId(name[NAME_SIZE:])
