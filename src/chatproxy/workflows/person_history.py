"""What does a person's ledger say to them?

What is told about safety review is only what keeps a copy (R22); a flag, a hold or a finding about the age is no entry
of the history.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from chatproxy.consent.events import Choice, ConsentEvent, FactKind, LedgerEvent
from chatproxy.model import ConversationTag

TOLD = frozenset(
    {
        FactKind.CONVERSATION_DELETED,
        FactKind.ACCOUNT_DELETED,
        FactKind.FEEDBACK_GIVEN,
        FactKind.FEEDBACK_WITHDRAWN,
    }
)
"""What the history tells beside choices."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The proof of one choice, as a file (``chatproxy.consent.receipts``)."""

    receipt_id: str
    file: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One entry of a person's history, a choice or something they did. ``at`` in ms."""

    at: int
    kind: str
    """``choice``, or the word of what was done."""
    choice: Choice | None
    by: str
    method: str
    conversation: str | None
    """The handle of the one conversation that it is about."""
    policy_version: str | None = None
    purposes: Mapping[str, bool] = field(default_factory=dict)
    surfaces: tuple[str, ...] = ()
    receipt_id: str | None = None
    feedback: str | None = None


def entry_of(
    event: LedgerEvent, *, handle_of: Callable[[ConversationTag | None], str | None]
) -> HistoryEntry | None:
    """Return the entry of one event; None: it is not told. ``handle_of``: how a conversation is named to its person."""
    if isinstance(event, ConsentEvent):
        return HistoryEntry(
            at=event.at,
            kind="choice",
            choice=event.choice,
            by=event.by,
            method=event.method,
            conversation=handle_of(event.conversation),
            policy_version=event.policy_version,
            purposes=event.purposes,
            surfaces=event.surfaces,
            receipt_id=event.receipt_id,
        )
    if event.kind not in TOLD:
        return None
    return HistoryEntry(
        at=event.at,
        kind=str(event.kind),
        choice=None,
        by=event.by,
        method=event.method,
        conversation=handle_of(event.scope.conversation),
        feedback=event.details.get("kind"),
    )
