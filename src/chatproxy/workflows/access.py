"""What is held of one person, all of it, in one record that can be handed to them (R42)?

1. The record is a sequence of objects, each with a ``kind``; docs/access.md has every member. It can be gone through more
   than once, and says the same again of what has not changed meanwhile.
2. It is in the audit log before anything is opened, and its counts are when it is done (R45).
3. Every turn that is kept is told, with the decisions that keep it. What it says is left out where the person has deleted
   it (R22) and where nothing but a legal hold keeps it (R24); the record says so.
4. Of flags, of findings about the age, and of the case behind a hold nothing is told. Where the law forbids to tell of
   holds at all, the record is the one that there would be without them: not even when it was decided last is told.
5. Only the names of the turns and who has read them are in memory together, some 200 bytes each. What is sealed of a few
   turns is fetched together, and one at a time is opened.
6. Of whom nothing is held, there is no record, and nothing is written: who was erased and who never was look alike.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chatproxy.clock import Clock
from chatproxy.consent.events import ConsentEvent, LedgerEvent
from chatproxy.consent.person import PersonFacts
from chatproxy.consent.receipts import receipt_of, sign_receipt
from chatproxy.crypto.keys import SigningSeed
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.model import ConversationTag, Message, SubjectTag, TurnId
from chatproxy.policy.instants import format_instant
from chatproxy.policy.reasons import Reason
from chatproxy.ports import AuditLog, TranscriptStore
from chatproxy.workflows.access_reads import AccessReads, Read
from chatproxy.workflows.annotate import GroupNote
from chatproxy.workflows.annotation_log import LastChange, Turn
from chatproxy.workflows.decide import public_reason
from chatproxy.workflows.ledger import Ledger
from chatproxy.workflows.person_history import HistoryEntry, entry_of
from chatproxy.workflows.recall import WasUsed
from chatproxy.workflows.transcripts import (
    DELETED,
    HELD,
    Disclosed,
    KeptTurn,
    Spurious,
    Transcripts,
    withheld_of,
)

FORMAT = "chatproxy/access/v1"
_AT_ONCE, _BYTES_AT_ONCE = 64, 4 << 20
"""Sealed turns that are in memory together; of one that is larger, that one."""

Line = Mapping[str, Any]
"""One object of the record, JSON-able."""
Explain = Callable[[str], Mapping[str, str]]
"""A reason code in words, by language."""


@dataclass(frozen=True, slots=True)
class _Turns:
    """The turns of one conversation, by time received."""

    tag: ConversationTag
    turns: list[tuple[int, TurnId, int]] = field(repr=False)
    """When each was received, and how many bytes are sealed of it."""

    @property
    def started_at(self) -> int:
        return self.turns[0][0]

    def portions(self) -> Iterator[list[TurnId]]:
        """Yield the names of as many as may be in memory together."""
        portion: list[TurnId] = []
        size = 0
        for _, turn, sealed in self.turns:
            if portion and (len(portion) >= _AT_ONCE or size + sealed > _BYTES_AT_ONCE):
                yield portion
                portion, size = [], 0
            portion.append(turn)
            size += sealed
        yield portion


@dataclass(frozen=True, slots=True)
class _Index:
    """What is kept, by name."""

    conversations: list[_Turns] = field(repr=False)
    """The oldest first."""
    spurious: list[tuple[TurnId, str]] = field(repr=False)
    """Turns that are not as they were kept, and why."""

    @property
    def turns(self) -> int:
        return sum(len(each.turns) for each in self.conversations)


class Access:
    """The record of one person, as of one instant. Everything raises StoreUnavailableError and UndecryptableError."""

    def __init__(
        self,
        desk: "AccessDesk",
        subject: SubjectTag,
        events: Sequence[LedgerEvent],
        index: "_Index",
        changes: Mapping[Turn, LastChange],
        uses: Sequence[WasUsed],
        *,
        reads: Sequence[Read],
        tells_holds: bool,
        now: int,
    ) -> None:
        self._desk = desk
        self.subject = subject
        self._events = events
        self._person = PersonFacts(events)
        self._index = index
        self._changes = changes
        self._uses = uses
        self._reads = reads
        self._tells_holds = tells_holds
        self.at = now
        """The instant that it is of, ms."""
        self.counts: Counter[str] = Counter()
        """How many lines of each kind the record had when it was gone through last."""

    async def lines(self) -> AsyncIterator[Line]:
        """Yield the record, object by object; the last one has the counts of all before it."""
        counts: Counter[str] = Counter()
        async for line in self._lines():
            counts[line["kind"]] += 1
            yield line
        self.counts = counts
        yield {"kind": "end", "counts": dict(sorted(counts.items()))}

    def receipts(self) -> Iterator[tuple[str, bytes]]:
        """Yield the signed receipt of each choice, by its name, as a file."""
        for event in self._events:
            if isinstance(event, ConsentEvent):
                yield event.receipt_id, self._receipt(event)

    async def disclosed(self) -> None:
        """Write down that the record was made, and how much it told. Raises AuditUnavailableError."""
        counts = {f"{kind}s": count for kind, count in self.counts.items() if kind != "about"}
        await self._desk.note("subject.accessed", {"subject": self.subject.hex(), **counts})

    async def _lines(self) -> AsyncIterator[Line]:
        yield {
            "kind": "about",
            "format": FORMAT,
            "at": format_instant(self.at),
            "subject": self.subject.hex(),
            **self._desk.terms,
        }
        for event in self._events:
            if (entry := entry_of(event, handle_of=self._handle)) is not None:
                yield self._entry(entry, event)
        for line in self._holds():
            yield line
        faults = [self._fault(turn, reason) for turn, reason in self._index.spurious]
        for conversation in self._index.conversations:
            yield self._conversation(conversation)
            async for line in self._turns(conversation, faults):
                yield line
        for use in self._uses:
            yield {
                "kind": "dataset",
                "dataset": use.dataset,
                "conversation": self._handle(use.conversation),
                "turns": use.turns,
                "purpose": use.purpose,
                "consumer": use.consumer,
                "at": format_instant(use.at),
                "recall": _recall(use),
            }
        for read in self._reads:
            yield {
                "kind": "read",
                "at": format_instant(read.at),
                "action": read.action,
                "by": read.by,
                "purpose": read.purpose,
                "ground": read.ground,
                "conversation": read.conversation,
                "turn": read.turn,
                "turns": read.turns,
            }
        for fault in faults:
            yield fault

    def _fault(self, turn: TurnId, reason: str) -> Line:
        handle = self._desk.pseudonyms.turn_handle(self.subject, turn)
        return {"kind": "fault", "turn": handle, "reason": reason}

    def _entry(self, entry: HistoryEntry, event: LedgerEvent) -> Line:
        line = {
            "kind": "event",
            "at": format_instant(entry.at),
            "event": entry.kind,
            "by": _who(entry.by),
            "method": entry.method,
            "conversation": entry.conversation,
        }
        if not isinstance(event, ConsentEvent):
            return line | {"feedback": entry.feedback}
        return line | {
            "kind": "choice",
            "event": None if entry.choice is None else str(entry.choice),
            "policy_version": entry.policy_version,
            "purposes": dict(entry.purposes),
            "surfaces": list(entry.surfaces),
            "receipt": json.loads(self._receipt(event)),
        }

    def _receipt(self, event: ConsentEvent) -> bytes:
        content = receipt_of(event, conversation=self._handle(event.conversation))
        return sign_receipt(content, seed=self._desk.signing_key())

    def _holds(self) -> Iterator[Line]:
        for hold in self._person.holds if self._tells_holds else ():
            yield {
                "kind": "hold",
                "placed_at": format_instant(hold.placed_at),
                "review_at": format_instant(hold.review_at),
                "conversation": self._handle(hold.conversation),
            }

    def _conversation(self, conversation: _Turns) -> Line:
        own = self._person.about(conversation.tag, None, received_at=0)
        return {
            "kind": "conversation",
            "conversation": self._handle(conversation.tag),
            "started_at": format_instant(conversation.started_at),
            "turns": len(conversation.turns),
            "setting": str(own.override),
        }

    async def _turns(self, conversation: _Turns, faults: list[Line]) -> AsyncIterator[Line]:
        for some in conversation.portions():
            async for found in self._desk.transcripts.disclose(
                self.subject, some, changes=self._changes, now=self.at
            ):
                if isinstance(found, Spurious):
                    faults.append(self._fault(found.turn, found.reason))
                    continue
                faults += [self._fault(found.kept.turn, reason) for reason in found.damage]
                yield self._turn(found)

    def _turn(self, found: Disclosed) -> Line:
        facts, note = found.kept.facts, found.kept.note
        groups = [
            group for group in found.kept.groups if self._tells_holds or found.withheld.get(group.n) != HELD
        ]
        transcript = found.transcript
        return {
            "kind": "turn",
            "turn": self._desk.pseudonyms.turn_handle(self.subject, found.kept.turn),
            "conversation": self._handle(facts.conversation_tag),
            "received_at": format_instant(facts.received_at),
            "plan": note.plan,
            "surface": str(note.surface),
            "age": str(note.age),
            "incognito": note.incognito,
            "signals": {"train_ai_no": note.train_ai_no, "sec_gpc": note.gpc},
            "dialect": facts.dialect,
            "model": facts.model,
            "end": str(note.end),
            "parsed": note.parsed,
            "deleted": found.kept.is_deleted,
            "decisions": [self._decision(group, found.withheld.get(group.n)) for group in groups],
            "policy": note.policy,
            "messages": [] if transcript is None else _messages((*transcript.input, *transcript.output)),
        }

    def _decision(self, group: GroupNote, withheld: str | None) -> Line:
        also, grounds, until = list(group.also), dict(group.grounds), group.kept_until
        if not self._tells_holds:
            also = [code for code in also if code != Reason.LEGAL_HOLD]
            grounds = {ground: end for ground, end in grounds.items() if end > self.at}
            until = min(until, max(grounds.values(), default=until))
        reason = public_reason(Reason(group.reason)) if group.reason in set(Reason) else group.reason
        return {
            "part": str(group.part),
            "kept_until": format_instant(until),
            "grounds": {ground: format_instant(end) for ground, end in sorted(grounds.items())},
            "eligible": {
                "capability": group.eligible.capability,
                "safety": group.eligible.safety,
                "feedback": group.eligible.feedback,
            },
            "reason": reason,
            "also": also,
            "why": _joined([self._desk.explain(code) for code in (reason, *also)]),
            "withheld": withheld if withheld in {None, DELETED, HELD} else "damaged",
        }

    def _handle(self, conversation: ConversationTag | None) -> str | None:
        if conversation is None:
            return None
        return self._desk.pseudonyms.conversation_handle(self.subject, conversation)


class AccessDesk:
    """Makes records of people."""

    def __init__(
        self,
        store: TranscriptStore,
        ledger: Ledger,
        transcripts: Transcripts,
        pseudonyms: Pseudonymizer,
        *,
        used_of: Callable[[SubjectTag], Awaitable[Sequence[WasUsed]]],
        audit: AuditLog,
        clock: Clock,
        signing_key: Callable[[], SigningSeed],
        terms: Line,
        explain: Explain,
    ) -> None:
        """``used_of``: which conversations of a person are in which datasets.

        ``terms``: what is the same for everybody: who keeps it, how long, who else gets it, whom to complain to.
        """
        self._store = store
        self._ledger = ledger
        self._used_of = used_of
        self._audit = audit
        self._clock = clock
        self.transcripts = transcripts
        self.pseudonyms = pseudonyms
        self.signing_key = signing_key
        self.terms = terms
        self.explain = explain

    async def open(self, subject: SubjectTag, reads: AccessReads, *, tells_holds: bool) -> Access | None:
        """Begin the record of a person, as of now; None: nothing is held.

        ``tells_holds``: the law does not forbid to tell them of legal holds. Raises OSError, StoreUnavailableError,
        AuditUnavailableError, and UndecryptableError where the ledger is not authentic.
        """
        now = self._clock()
        state = await self._store.subject_state(subject)
        events = await self._ledger.history(subject)
        index = await self._index(subject, tells_holds=tells_holds, now=now)
        uses = await self._used_of(subject)
        # Of who is erased under a hold the ledger stays, for the hold alone.
        is_erased = state.erased_at is not None and all(event.at <= state.erased_at for event in events)
        told = any(entry_of(event, handle_of=lambda _: None) is not None for event in events)
        has_events = bool(events) if tells_holds else told and not is_erased
        if not (index.conversations or index.spurious or uses or has_events):
            return None
        await self.note(
            "subject.access",
            {"subject": subject.hex(), "purpose": "access", "turns": index.turns, "holds": tells_holds},
        )
        changes = await self.transcripts.last_changes(subject)
        told_reads = await asyncio.to_thread(lambda: tuple(reads.of(subject)))
        return Access(
            self, subject, events, index, changes, uses, reads=told_reads, tells_holds=tells_holds, now=now
        )

    async def note(self, action: str, details: Mapping[str, str | int | bool]) -> None:
        """Write to the audit log, which waits for the disk. Raises AuditUnavailableError."""
        await asyncio.to_thread(self._audit.append, action, details)

    async def _index(self, subject: SubjectTag, *, tells_holds: bool, now: int) -> _Index:
        found: dict[ConversationTag, dict[TurnId, tuple[int, int]]] = {}
        spurious: dict[TurnId, str] = {}
        async for turn in self.transcripts.walk(subject=subject):
            if isinstance(turn, Spurious):
                spurious[turn.turn] = turn.reason
            elif tells_holds or not _is_only_held(turn, now=now):
                size = sum(group.bytes for group in turn.groups)
                found.setdefault(turn.facts.conversation_tag, {})[turn.turn] = turn.facts.received_at, size
        conversations = [
            _Turns(tag, sorted((at, turn, size) for turn, (at, size) in turns.items()))
            for tag, turns in found.items()
        ]
        return _Index(
            sorted(conversations, key=lambda each: (each.started_at, each.tag)), sorted(spurious.items())
        )


def _is_only_held(turn: KeptTurn, *, now: int) -> bool:
    withheld = withheld_of(turn, now=now)
    return all(withheld.get(group.n) == HELD for group in turn.groups)


def _who(by: str) -> str:
    """Return who said so: of staff not which of them it was."""
    return "staff" if by.startswith("operator:") else by


def _recall(use: WasUsed) -> Line | None:
    if use.recall is None:
        return None
    at, out = use.recall.at, use.recall.acknowledged_at
    return {
        "turns": use.recall.turns,
        "at": format_instant(at),
        "acknowledged_at": None if out is None else format_instant(out),
    }


def _joined(said: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
    """Return the sentences of several codes, by language."""
    return {language: " ".join(each[language] for each in said) for language in said[0]}


def _messages(messages: Sequence[Message]) -> list[Line]:
    return [
        {
            "role": message.role,
            "choice": message.choice,
            "parts": [
                {"kind": str(part.kind), "origin": str(part.origin), "body": dict(part.body)}
                for part in message.parts
            ],
        }
        for message in messages
    ]
