"""A backup does not know what happened after it: whom to erase, what was deleted, who has taken back a yes (F-49).

So each such thing is also an entry of the audit log, which lies outside the store: pseudonyms, the kind and the instant.
Before a restored store serves anybody, what the log has since the backup is done again. Doing it twice changes nothing.
"""

import asyncio
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from chatproxy.consent.events import (
    ACCOUNT,
    UNDECIDED,
    Choice,
    ConsentEvent,
    FactEvent,
    FactKind,
    LedgerEvent,
    Scope,
)
from chatproxy.errors import AuditUnavailableError
from chatproxy.model import ConversationTag, SubjectTag, TurnId
from chatproxy.ports import AuditLog
from chatproxy.telemetry import Log
from chatproxy.workflows.erase import ERASE_ACTION, Eraser
from chatproxy.workflows.ledger import Ledger

_log = Log("tombstones")
_TIGHTENED = "ledger.tightened"
_MARGIN_MS = 60_000
"""What clocks may be apart: what was written a moment before a backup may be missing in it."""
_FACTS = frozenset(
    {
        FactKind.CONVERSATION_DELETED,
        FactKind.ACCOUNT_DELETED,
        FactKind.FEEDBACK_WITHDRAWN,
        FactKind.FLAG_LIFTED,
        FactKind.MINOR_FOUND,
    }
)
_CHOICES = {str(choice): choice for choice in Choice}


@dataclass(frozen=True, slots=True)
class Tombstone:
    """Something that must not be forgotten. ``kind``: ``erased``, a choice, or a fact."""

    at: int
    subject: SubjectTag
    kind: str
    scope: Scope = ACCOUNT


class Tombstones:
    """Writes down in the audit log what tightens a ledger."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit

    async def note(self, subject: SubjectTag, event: LedgerEvent) -> None:
        """Write *event* down if it tightens. A log that cannot be written never stops a person from saying no."""
        if not _tightens(event):
            return
        scope = Scope(event.conversation) if isinstance(event, ConsentEvent) else event.scope
        entry: dict[str, str | int | bool] = {
            "subject": subject.hex(),
            "kind": str(event.choice or Choice.WITHDRAWN)
            if isinstance(event, ConsentEvent)
            else str(event.kind),
            "event_at": event.at,
        }
        if scope.conversation is not None:
            entry["conversation"] = scope.conversation.hex()
        if scope.turn is not None:
            entry["turn"] = scope.turn.hex()
        try:
            await asyncio.to_thread(self._audit.append, _TIGHTENED, entry)
        except AuditUnavailableError:
            _log.error(
                "the audit log cannot be written: a restore from a backup would not know of this event"
            )


def _tightens(event: LedgerEvent) -> bool:
    if isinstance(event, FactEvent):
        return event.kind in _FACTS
    return event.choice is None or not (event.choice.permits or event.choice in UNDECIDED)


def read_tombstones(logs: Iterable[Path], *, since: int) -> list[Tombstone]:
    """Return what the audit logs have since the instant *since* (ms), oldest first. Raises OSError."""
    found = [stone for log in logs for stone in _in_log(log) if stone.at >= since - _MARGIN_MS]
    return sorted(found, key=lambda stone: stone.at)


def _in_log(log: Path) -> Iterator[Tombstone]:
    with log.open("rb") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
                action, subject = entry["action"], SubjectTag(bytes.fromhex(entry["subject"]))
                if action == ERASE_ACTION:
                    yield Tombstone(entry["at"], subject, "erased")
                elif action == _TIGHTENED:
                    yield Tombstone(entry["event_at"], subject, entry["kind"], _scope(entry))
            except (ValueError, KeyError, TypeError):
                continue  # an entry about something else, or half a line


def _scope(entry: dict[str, str]) -> Scope:
    conversation, turn = entry.get("conversation"), entry.get("turn")
    return Scope(
        conversation=ConversationTag(bytes.fromhex(conversation)) if conversation else None,
        turn=TurnId(bytes.fromhex(turn)) if turn else None,
    )


@dataclass(slots=True)
class Replayed:
    """What was done again."""

    erased: int = 0
    events: int = 0


async def replay(stones: Iterable[Tombstone], *, eraser: Eraser, ledger: Ledger, by: str) -> Replayed:
    """Do again what a restored store does not know.

    Raises StoreUnavailableError, AuditUnavailableError, UndecryptableError.
    """
    done = Replayed()
    for stone in stones:
        if stone.kind == "erased":
            done.erased += await eraser.erase(stone.subject, by=by) is not None
        elif not any(is_of(event, stone) for event in await ledger.history(stone.subject)):
            await _write(stone, ledger, by=by)
            done.events += 1
    return done


def is_of(event: LedgerEvent, stone: Tombstone) -> bool:
    """Whether *event* is what *stone* stands for."""
    kind = event.choice if isinstance(event, ConsentEvent) else event.kind
    return event.at == stone.at and str(kind) == stone.kind


async def _write(stone: Tombstone, ledger: Ledger, *, by: str) -> None:
    if stone.kind in set(FactKind):
        await ledger.note(
            stone.subject, FactKind(stone.kind), at=stone.at, by=by, method="restore", scope=stone.scope
        )
    else:
        await ledger.record(
            stone.subject,
            _CHOICES[stone.kind],
            at=stone.at,
            by=by,
            method="restore",
            conversation=stone.scope.conversation,
        )
