"""Values for the store: valid by default, override what matters."""

import secrets
import time
from collections.abc import Mapping
from typing import Any

from chatproxy.model import ConversationTag, SubjectTag, TurnId
from chatproxy.ports import Attempt, SealedGroup, SealedTurn

HOUR = 3_600_000
NOW = time.time_ns() // 1_000_000
"""Once a run: expiries must lie in the store's own future."""

ALICE = SubjectTag(b"A" * 16)
BOB = SubjectTag(b"B" * 16)
CONVERSATION = ConversationTag(b"C" * 16)
WRAP = b"W" * 64


def a_group(*, number: int = 0, blob: bytes = b"sealed", expires_at: int = NOW + HOUR) -> SealedGroup:
    return SealedGroup(number=number, blob=blob, expires_at=expires_at)


def a_turn(
    *,
    subject: SubjectTag = ALICE,
    turn: bytes | None = None,
    conversation: ConversationTag = CONVERSATION,
    received_at: int = NOW,
    expires_at: int = NOW + HOUR,
    generation: int = 1,
    new_wrap: bytes | None = WRAP,
    ledger_length: int = 0,
    ledger_keep_until: int = 0,
    groups: tuple[SealedGroup, ...] | None = None,
    annotation: Mapping[bytes, bytes] | None = None,
    heads: tuple[bytes, ...] = (),
    after: TurnId | None = None,
    attempt: Attempt | None = None,
    grant_since: int = 0,
) -> SealedTurn:
    return SealedTurn(
        subject=subject,
        turn=TurnId(turn or secrets.token_bytes(16)),
        conversation=conversation,
        received_at=received_at,
        expires_at=expires_at,
        generation=generation,
        new_wrap=new_wrap,
        ledger_length=ledger_length,
        ledger_keep_until=ledger_keep_until,
        groups=(a_group(expires_at=expires_at),) if groups is None else groups,
        annotation={b"reason": b"OK"} if annotation is None else annotation,
        heads=heads,
        after=after,
        attempt=attempt,
        grant_since=grant_since,
    )


ASKED = b"Q" * 16


def an_attempt(
    turn: bytes,
    *,
    completes: bool,
    richness: int = 0,
    asked: bytes = ASKED,
    announced: bytes | None = None,
    waiting: bytes | None = None,
    is_named: bool = False,
    parent: bytes | None = None,
    **facts: Any,
) -> SealedTurn:
    """A turn kept as *turn*, as one of the attempts at a request."""
    attempt = Attempt(
        asked=asked,
        completes=completes,
        richness=richness,
        announced=TurnId(announced or turn),
        waiting=None if waiting is None else TurnId(waiting),
        is_named=is_named,
        parent=parent,
    )
    return a_turn(turn=turn, attempt=attempt, **facts)
