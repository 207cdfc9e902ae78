"""What is kept, and what it says: annotations for anyone who may list, content for a purpose that has a ground (R45).

Listing verifies each annotation and decrypts nothing. Showing asks the audit log first, so that what cannot be
recorded is not read. A person may have whatever is kept of them, but what they have deleted (R22) and what nothing but a
legal hold keeps (R24).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from msgspec.structs import replace

from chatproxy import codec
from chatproxy.clock import Clock
from chatproxy.consent.events import read_ledger
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.annotation import AnnotationKeys
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.crypto.record import RecordFlags, open_record, parse_header
from chatproxy.crypto.wrap import wrapped_under
from chatproxy.errors import AccessRefusedError, NotFoundError, UndecryptableError
from chatproxy.model import ConversationTag, SubjectTag, Transcript, TurnId
from chatproxy.policy.grounds import ENDED_BY_DELETION, Ground
from chatproxy.policy.instants import format_instant
from chatproxy.policy.versions import PolicyVersion
from chatproxy.ports import AuditLog, StoredTurn, SubjectState, TranscriptStore
from chatproxy.workflows.annotate import Eligible, GroupNote, TurnFacts, TurnNote
from chatproxy.workflows.annotation_log import LastChange, Turn
from chatproxy.workflows.decide import TurnToDecide
from chatproxy.workflows.keys import RecordKeys
from chatproxy.workflows.policies import Policies
from chatproxy.workflows.verdict import Kept, as_it_stands

_GROUNDS = {
    "service": frozenset({Ground.SERVICE}),
    "capability": frozenset({Ground.TRAIN}),
    "safety": frozenset({Ground.SAFETY_IO}),
    "feedback": frozenset({Ground.FEEDBACK}),
}
PURPOSES = tuple(_GROUNDS)
DELETED, HELD = "deleted", "held"
"""Why a person does not get what is kept of them."""
_TTL_TOLERANCE_MS = 1000
_MOST_OWNERS = 10_000
_STRIDE = 4
"""Turns that are decided on, or opened, before running chats get their turn: about a millisecond."""

AskChanges = Callable[[SubjectTag], Mapping[Turn, LastChange]]
_NO_CHANGES: Mapping[Turn, LastChange] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class KeptTurn:
    """A turn as its authentic annotation describes it."""

    subject: SubjectTag
    turn: TurnId
    facts: TurnFacts
    note: TurnNote
    generation_kek: int | None
    """The KEK version that the subject's key lies under; None: there is no key, so nothing opens."""
    is_deleted: bool = False
    """The conversation or the account was deleted: what is left of it is kept, and not read for service (R22)."""

    @property
    def groups(self) -> tuple[GroupNote, ...]:
        """Return the decisions on the turn's parts."""
        return self.note.groups


@dataclass(frozen=True, slots=True)
class Spurious:
    """A row whose annotation is not authentic, or whose TTL is not the one decided on."""

    subject: SubjectTag
    turn: TurnId
    reason: str


@dataclass(frozen=True, slots=True)
class OpenedTurn:
    """A turn with what was said in it."""

    kept: KeptTurn
    transcript: Transcript = field(repr=False)


@dataclass(frozen=True, slots=True)
class Disclosed:
    """A turn with what its person may have of it."""

    kept: KeptTurn
    transcript: Transcript | None = field(repr=False)
    """None: nothing of it was opened."""
    withheld: Mapping[int, str]
    """Why a group was not opened, by its number: ``deleted``, ``held``, or a code of ``UndecryptableError``."""

    @property
    def damage(self) -> list[str]:
        """Return why groups that should have opened did not."""
        return sorted(set(self.withheld.values()) - {DELETED, HELD})


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose turns are read: their keys, and their ledger, None where it cannot be authenticated."""

    state: SubjectState
    facts: PersonFacts | None


class Transcripts:
    """Reads what is kept."""

    def __init__(
        self,
        store: TranscriptStore,
        keys: RecordKeys,
        annotation_keys: AnnotationKeys,
        pseudonyms: Pseudonymizer,
        policies: Policies,
        *,
        audit: AuditLog,
        clock: Clock,
        versions: Sequence[PolicyVersion] = (),
        last_changes: AskChanges | None = None,
    ) -> None:
        """``versions``: of the policy that people choose about.

        ``last_changes``: what the audit log knows of a person's annotations, so that one that was put back is not shown.
        """
        self._last_changes = last_changes
        self._store = store
        self._keys = keys
        self._annotation_keys = annotation_keys
        self._pseudonyms = pseudonyms
        self._policies = policies
        self._versions = tuple(versions)
        self._audit = audit
        self._clock = clock

    async def walk(
        self, *, subject: SubjectTag | None = None, conversation: ConversationTag | None = None
    ) -> AsyncIterator[KeptTurn | Spurious]:
        """Walk the turns that are kept now, of all, a subject or a conversation. Raises StoreUnavailableError.

        A *conversation* is one of *subject*. Running chats get their turn between.
        """
        if conversation is not None:
            if subject is not None:
                _, found = await self._conversation(subject, conversation)
                for each in found:
                    yield each
            return
        owners: dict[SubjectTag, _Owner] = {}
        number = 0
        async for stored in self._store.annotations(subject):
            number += 1
            if number % _STRIDE == 0:
                await asyncio.sleep(0)
            if stored.subject not in owners:
                if len(owners) >= _MOST_OWNERS:
                    owners.clear()
                owners[stored.subject] = await self._owner(stored.subject)
            turn = await self._verified(stored, owners[stored.subject])
            if turn is not None:
                yield turn

    async def show(
        self, subject: SubjectTag, conversation: ConversationTag, *, purpose: str
    ) -> list[OpenedTurn]:
        """Return a conversation in the order it was received, as far as *purpose* may read it.

        Raises NotFoundError, AccessRefusedError where no part has a live ground for the purpose,
        AuditUnavailableError, StoreUnavailableError, and UndecryptableError where any turn of it is not as it was
        kept: a conversation that was tampered with is not shown as if it were whole.
        """
        changes = await self.last_changes(subject)
        owner, found = await self._conversation(subject, conversation, changes)
        turns: list[KeptTurn] = []
        for turn in found:
            if isinstance(turn, Spurious):
                raise UndecryptableError(turn.reason)
            turns.append(turn)
        if not turns:
            raise NotFoundError("nothing is held of a conversation of that name")
        handle = self._pseudonyms.conversation_handle(subject, conversation)
        named: dict[str, str | int | bool] = {
            "subject": subject.hex(),
            "conversation": handle,
            "purpose": purpose,
        }
        readable = {turn.turn: self._readable(turn, purpose) for turn in turns}
        if not any(readable.values()):
            await self._note("transcripts.refused", named)
            raise AccessRefusedError(
                f"no part of this conversation has a live ground for the purpose {purpose}; "
                "`chatproxy transcripts list` shows the grounds"
            )
        grounds = ",".join(sorted(_GROUNDS[purpose]))
        read = sum(map(bool, readable.values()))
        await self._note("transcripts.read", named | {"ground": grounds, "turns": read})
        return [
            OpenedTurn(turn, await self._open(turn, owner.state, groups))
            for turn in turns
            if (groups := readable[turn.turn])
        ]

    async def last_changes(self, subject: SubjectTag) -> Mapping[Turn, LastChange]:
        """Return what the audit log knows of a person's annotations, as far as it is asked. Raises OSError."""
        return await asyncio.to_thread(self._last_changes, subject) if self._last_changes else _NO_CHANGES

    async def disclose(
        self, subject: SubjectTag, turns: Sequence[TurnId], *, changes: Mapping[Turn, LastChange], now: int
    ) -> AsyncIterator[Disclosed | Spurious]:
        """Yield those of *turns* that are still kept, with what their person may have of them as of *now* (ms; R42).

        What is sealed of all of them is in memory, and what one of them says. *changes*: what ``last_changes`` says, once
        for many turns. Who asks has written to the audit log that it is disclosed. Raises StoreUnavailableError.
        """
        owner = await self._owner(subject)
        found: list[KeptTurn | Spurious] = []
        for row in await self._store.turns(subject, turns):
            turn = await self._verified(row, owner, changes.get((row.subject, row.turn)))
            if turn is not None:
                found.append(turn)
        kept = [turn for turn in found if isinstance(turn, KeptTurn)]
        withheld = {turn.turn: withheld_of(turn, now=now) for turn in kept}
        wanted = [
            (turn.turn, group.n)
            for turn in kept
            for group in turn.groups
            if group.n not in withheld[turn.turn]
        ]
        blobs = dict(zip(wanted, await self._store.records_of_turns(subject, wanted), strict=True))
        for number, turn in enumerate(found, start=1):
            if number % _STRIDE == 0:
                await asyncio.sleep(0)
            yield (
                await self._disclosed(turn, owner.state, withheld[turn.turn], blobs)
                if isinstance(turn, KeptTurn)
                else turn
            )

    async def _disclosed(
        self,
        turn: KeptTurn,
        state: SubjectState,
        withheld: dict[int, str],
        blobs: Mapping[tuple[TurnId, int], bytes | None],
    ) -> Disclosed:
        opened = [group for group in turn.groups if group.n not in withheld]
        if not opened:
            return Disclosed(turn, None, withheld)
        try:
            transcript = await self._unseal(
                turn, state, opened, [blobs[turn.turn, group.n] for group in opened]
            )
        except UndecryptableError as error:
            return Disclosed(turn, None, withheld | {group.n: error.reason for group in opened})
        return Disclosed(turn, transcript, withheld)

    async def _note(self, action: str, details: Mapping[str, str | int | bool]) -> None:
        """Write to the audit log, which waits for the disk, as running chats must not. Raises AuditUnavailableError."""
        await asyncio.to_thread(self._audit.append, action, details)

    async def _conversation(
        self,
        subject: SubjectTag,
        conversation: ConversationTag,
        changes: Mapping[Turn, LastChange] = _NO_CHANGES,
    ) -> tuple[_Owner, list[KeptTurn | Spurious]]:
        """Return what the index lists of a conversation, by time received, what is spurious last."""
        owner = await self._owner(subject)
        kept: list[KeptTurn] = []
        spurious: list[Spurious] = []
        for row in await self._store.conversation(subject, conversation):
            turn = await self._verified(row, owner, changes.get((row.subject, row.turn)))
            if isinstance(turn, KeptTurn) and turn.facts.conversation_tag != conversation:
                turn = Spurious(row.subject, row.turn, "turn_of_another_conversation")
            if isinstance(turn, KeptTurn):
                kept.append(turn)
            elif turn is not None:
                spurious.append(turn)
        # The index is not authenticated, so it is not believed about the order either.
        return owner, [*_in_order(kept), *spurious]

    async def _owner(self, subject: SubjectTag) -> _Owner:
        state = await self._store.subject_state(subject)
        try:
            events = read_ledger(state.ledger, subject=subject, keys=self._annotation_keys)
        except UndecryptableError:
            return _Owner(state, None)
        return _Owner(state, PersonFacts(events, self._versions))

    async def _verified(
        self, stored: StoredTurn, owner: _Owner, last: LastChange | None = None
    ) -> KeptTurn | Spurious | None:
        """Authenticate a row; None where nothing keeps it any more, whatever the store still holds."""
        now = self._clock()
        try:
            kept = Kept.of(stored, self._annotation_keys)
            annotation, facts, note = kept.annotation, kept.facts, kept.note
            if annotation.expires_at <= now or owner.state.is_fenced(facts.received_at):
                return None
            policy = await self._policies.get(note.policy)
            wrap = owner.state.wraps.get(owner.state.generation or 0)
            generation_kek = wrapped_under(wrap) if wrap else None
        except UndecryptableError as error:
            return Spurious(stored.subject, stored.turn, error.reason)
        if abs(stored.ttl_expires_at - annotation.expires_at) > _TTL_TOLERANCE_MS:
            return Spurious(stored.subject, stored.turn, "annotation_ttl")
        if last is not None and last.is_after(kept):
            return Spurious(stored.subject, stored.turn, "annotation_put_back")
        turn = kept.as_noted
        groups = tuple(
            group
            for before in note.groups
            if (group := as_it_stands(before, turn, policy=policy, person=owner.facts, now=now)) is not None
        )
        if not groups:
            return None
        return KeptTurn(
            stored.subject,
            stored.turn,
            facts,
            replace(note, groups=groups),
            generation_kek,
            is_deleted=_is_deleted(turn, owner.facts),
        )

    def _readable(self, turn: KeptTurn, purpose: str) -> list[GroupNote]:
        """Return the groups that have a live ground for *purpose*."""
        if turn.is_deleted and purpose == "service":
            return []
        now = self._clock()
        return [
            group
            for group in turn.groups
            if any(group.grounds.get(ground, 0) > now for ground in _GROUNDS[purpose])
            and _allows(group, purpose)
        ]

    async def _open(self, turn: KeptTurn, state: SubjectState, groups: list[GroupNote]) -> Transcript:
        blobs = await self._store.records(turn.subject, turn.turn, [group.n for group in groups])
        return await self._unseal(turn, state, groups, blobs)

    async def _unseal(
        self, turn: KeptTurn, state: SubjectState, groups: list[GroupNote], blobs: Sequence[bytes | None]
    ) -> Transcript:
        payloads = []
        for group, blob in zip(groups, blobs, strict=True):
            if blob is None:
                raise UndecryptableError("record_missing")
            header = parse_header(blob)
            if header.expires_at != group.expires_at or header.turn != turn.turn:
                raise UndecryptableError("record_of_another_turn")
            data = open_record(
                blob,
                subject_key=self._keys.unwrap_subject_key(turn.subject, state, header.generation),
                epoch_key=await self._keys.existing_epoch_key(header.epoch),
                subject=turn.subject,
                metadata=turn.facts.record_metadata(group.n),
            )
            payloads.append(codec.Payload(data, compressed=bool(header.flags & RecordFlags.ZSTD)))
        return codec.decode_groups(payloads)


def _is_deleted(turn: TurnToDecide, person: PersonFacts | None) -> bool:
    if person is None:
        return False
    events = person.about(turn.conversation, turn.turn, received_at=turn.received_at)
    return events.deleted_at is not None or events.account_deleted_at is not None


def withheld_of(turn: KeptTurn, *, now: int) -> dict[int, str]:
    """Return why its person does not get what some groups of a turn say, by their numbers: DELETED or HELD."""
    why = {group.n: _withheld(turn, group, now=now) for group in turn.groups}
    return {number: reason for number, reason in why.items() if reason is not None}


def _withheld(turn: KeptTurn, group: GroupNote, *, now: int) -> str | None:
    live = {ground for ground, end in group.grounds.items() if end > now}
    if not live:
        return HELD
    return DELETED if turn.is_deleted and live <= ENDED_BY_DELETION else None


def _allows(group: GroupNote, purpose: str) -> bool:
    """Whether the purpose may use the group: training purposes ask for eligibility beside the ground."""
    return purpose == "service" or bool(getattr(group.eligible, purpose))


def summary(turn: KeptTurn, pseudonyms: Pseudonymizer) -> Mapping[str, object]:
    """Return the row of a listing. With parts kept apart: the latest expiry, eligible if any part is."""
    first = turn.groups[0]
    grounds: dict[str, int] = {}
    for group in turn.groups:
        for ground, end in group.grounds.items():
            grounds[ground] = max(end, grounds.get(ground, 0))
    eligible = Eligible(
        *(any(getattr(group.eligible, purpose) for group in turn.groups) for purpose in PURPOSES[1:])
    )
    return {
        "turn": pseudonyms.turn_handle(turn.subject, turn.turn),
        "conversation": pseudonyms.conversation_handle(turn.subject, turn.facts.conversation_tag),
        "subject": turn.subject.hex(),
        "plan": turn.note.plan,
        "received_at": format_instant(turn.facts.received_at),
        "expires_at": format_instant(max(group.kept_until for group in turn.groups)),
        "grounds": {ground: format_instant(end) for ground, end in grounds.items()},
        "eligible": {purpose: getattr(eligible, purpose) for purpose in PURPOSES[1:]},
        "reason": first.reason,
        "also": list(first.also),
        "end": turn.note.end,
        "dialect": turn.facts.dialect,
        "parsed": turn.note.parsed,
        "key_version": turn.generation_kek,
        "bytes": sum(group.bytes for group in turn.groups),
    }


def _in_order(turns: Sequence[KeptTurn]) -> list[KeptTurn]:
    """Return *turns* by time received; of one millisecond, each after the one that it follows."""
    named = {turn.turn.hex(): turn for turn in turns}

    def place(turn: KeptTurn) -> tuple[int, int]:
        received_at, before = turn.facts.received_at, 0
        while (
            turn.facts.after is not None
            and (followed := named.get(turn.facts.after)) is not None
            and followed.facts.received_at == received_at
            and before < len(turns)
        ):
            turn, before = followed, before + 1
        return received_at, before

    return sorted(turns, key=place)
