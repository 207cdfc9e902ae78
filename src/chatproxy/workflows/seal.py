"""Decide on each class of parts of a turn and seal what may be kept, under the person's key and the expiry day's."""

from collections.abc import Sequence
from functools import partial

import msgspec

from chatproxy import codec
from chatproxy.capture import Understood
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.annotation import Annotation, AnnotationKeys, authenticate
from chatproxy.crypto.keys import DataKey
from chatproxy.crypto.record import RecordFlags, RecordHeader, epoch_day, seal_record
from chatproxy.model import Exchange, Origin, StreamEnd, SubjectTag, Transcript
from chatproxy.policy.engine import Decision
from chatproxy.policy.facts import Lookup
from chatproxy.policy.reasons import Reason
from chatproxy.ports import Attempt, SealedGroup, SealedTurn
from chatproxy.tasks import aside, is_long
from chatproxy.telemetry import Metrics
from chatproxy.workflows.annotate import (
    VERSION,
    GroupNote,
    TurnFacts,
    TurnNote,
    grounds_in_record,
    group_note,
    record_metadata,
    shown_reason,
)
from chatproxy.workflows.decide import Policy, TurnToDecide, kept_until, part_class
from chatproxy.workflows.keys import EpochKey, RecordKeys
from chatproxy.workflows.ledger import LEDGER_OUTLIVES_MS
from chatproxy.workflows.place import Place
from chatproxy.workflows.subjects import Person

_GROUP_NUMBERS = {Origin.TYPED: 0, Origin.CONNECTOR_RAW: 1, Origin.RAW: 2}
"""Each below ``ports.MOST_GROUPS``."""
_ORIGINS = {
    part: frozenset(origin for origin in Origin if part_class(origin) is part) for part in _GROUP_NUMBERS
}
"""The origins that are of each class."""
_FLAGS = {
    (is_compressed, is_interrupted): RecordFlags.PADDED
    | (RecordFlags.ZSTD if is_compressed else 0)
    | (RecordFlags.INTERRUPTED if is_interrupted else 0)
    for is_compressed in (False, True)
    for is_interrupted in (False, True)
}


class FirstKeys:
    """Keys drawn for people who have none yet, one each for all the turns of a batch."""

    def __init__(self, keys: RecordKeys) -> None:
        self._keys = keys
        self._drawn: dict[SubjectTag, tuple[DataKey, bytes, int]] = {}

    def of(self, subject: SubjectTag, person: Person) -> tuple[DataKey, bytes, int]:
        """Return the key to seal under, its wrap, which the put keeps or compares, and its generation."""
        generation = person.state.generation
        if generation is not None:
            key = person.opened.get(generation)
            if key is None:
                key = self._keys.unwrap_subject_key(subject, person.state, generation)
                person.opened[generation] = key
            return key, person.state.wraps[generation], generation
        if subject not in self._drawn:
            new = person.state.generation_floor + 1
            self._drawn[subject] = (*self._keys.new_subject_key(subject, generation=new), new)
        return self._drawn[subject]


class Group(msgspec.Struct, frozen=True):
    """What may be kept of one class of parts."""

    number: int
    part: Origin
    decision: Decision
    expires_at: int


class _Keys(msgspec.Struct, frozen=True):
    """What one group is sealed under."""

    subject: DataKey
    generation: int
    epoch: EpochKey


class Sealer:
    """Turns an understood exchange into what the store keeps."""

    def __init__(
        self,
        *,
        policy: Policy,
        keys: RecordKeys,
        annotation_keys: AnnotationKeys,
        metrics: Metrics,
        node: str,
    ) -> None:
        self._metrics = metrics
        self._policy = policy
        self._keys = keys
        self._annotation_keys = annotation_keys
        self._node = node
        self._encoder = codec.Encoder()

    def decide(
        self,
        exchange: Exchange,
        understood: Understood,
        place: Place,
        person: PersonFacts | None,
        *,
        now: int,
        lookup: Lookup = Lookup.OK,
    ) -> list[Group] | Reason:
        """Return what may be kept of a turn, or the reason why nothing of it may.

        ``lookup``: how it went to ask the company's consent service about the person.
        """
        turn = TurnToDecide(
            caller=exchange.caller,
            received_at=_received_at(exchange, place),
            conversation=place.conversation,
            turn=place.turn,
            is_nobodys=exchange.caller.subject is None,
            tried_again_at=_tried_again_at(exchange, place),
        )
        review_at = None
        if person is not None:
            events = person.about(place.conversation, place.turn, received_at=turn.received_at)
            review_at = events.hold_review_at
        groups = []
        reason = Reason.EXPIRED
        for part in _classes(understood.transcript):
            decision = self._policy.decide_part(turn, part=part, now=now, person=person, lookup=lookup)
            reason = decision.reason
            self._metrics.decisions.labels(shown_reason(part, reason)).inc()
            until = kept_until(decision, review_at=review_at, now=now)
            if until is not None:
                groups.append(Group(_GROUP_NUMBERS[part], part, decision, until))
        return groups or reason

    async def seal(
        self,
        exchange: Exchange,
        understood: Understood,
        place: Place,
        person: Person,
        *,
        groups: Sequence[Group],
        first: FirstKeys,
        now: int,
    ) -> SealedTurn:
        """Return the sealed turn. Raises UndecryptableError, StoreUnavailableError."""
        facts = person.facts
        about = TurnFacts(
            v=VERSION,
            conversation=place.conversation.hex(),
            dialect=exchange.dialect.partition(":")[0],  # which of the described chats is not told
            received_at=_received_at(exchange, place),
            node=self._node,
            model=understood.transcript.model,
            after=place.after.hex() if place.after else None,
        )
        metadata = about.metadata()
        key, wrap, generation = first.of(place.subject, person)
        encoder = codec.Encoder() if is_long(exchange.size) else self._encoder
        sealed = []
        notes = []
        for group in groups:
            seal = partial(
                _seal_group,
                group,
                understood,
                place,
                encoder=encoder,
                keys=_Keys(key, generation, await self._keys.epoch_key(epoch_day(group.expires_at))),
                metadata=record_metadata(metadata, group.number),
            )
            blob = await aside(seal, size=exchange.size)
            sealed.append(SealedGroup(group.number, blob, group.expires_at))
            notes.append(
                group_note(
                    group.decision,
                    number=group.number,
                    part=group.part,
                    expires_at=group.expires_at,
                    size=len(blob),
                )
            )
        note = self._turn_note(exchange, understood, place, notes, facts, now=now)
        expires_at = note.expires_at
        annotation = Annotation(seq=1, expires_at=expires_at, metadata=metadata, body=note.body())
        return SealedTurn(
            subject=place.subject,
            turn=place.turn,
            conversation=place.conversation,
            received_at=about.received_at,
            expires_at=expires_at,
            generation=generation,
            new_wrap=wrap,
            ledger_length=len(person.state.ledger),
            groups=tuple(sealed),
            annotation=authenticate(
                annotation, keys=self._annotation_keys, subject=place.subject, turn=place.turn
            ),
            after=place.after,
            heads=place.heads,
            attempt=_attempt(exchange, understood, place),
            grant_since=_grant_since(facts, exchange),
            ledger_keep_until=expires_at + LEDGER_OUTLIVES_MS,
        )

    def _turn_note(
        self,
        exchange: Exchange,
        understood: Understood,
        place: Place,
        notes: Sequence[GroupNote],
        person: PersonFacts | None,
        *,
        now: int,
    ) -> TurnNote:
        caller = exchange.caller
        return TurnNote(
            v=VERSION,
            end=understood.end,
            parsed=understood.transcript.parsed,
            plan=caller.plan,
            nobody=caller.subject is None,
            surface=caller.surface,
            age=caller.age,
            incognito=caller.incognito,
            train_ai_no=caller.train_ai_no,
            gpc=caller.gpc,
            policy=self._policy.digest,
            decided_at=now,
            consent=person.last_digest if person is not None else None,
            heads=tuple(map(bytes.hex, place.heads)),
            tried_again_at=_tried_again_at(exchange, place),
            unmatched=place.unmatched,
            groups=tuple(notes),
        )


def _grant_since(person: PersonFacts | None, exchange: Exchange) -> int:
    """Return since when there is a yes that this turn may bring older ones of its conversation under, or 0 (R12)."""
    if person is None or exchange.caller.subject is None:
        return 0
    for grant in reversed(person.grants(exchange.caller.surface)):
        if grant.revoked_at is None:
            return grant.starts_at
    return 0


def _seal_group(
    group: Group,
    understood: Understood,
    place: Place,
    *,
    encoder: codec.Encoder,
    keys: _Keys,
    metadata: bytes,
) -> bytes:
    """Serialise, compress and seal the parts of a group."""
    payload = encoder.encode_group(understood.transcript, _ORIGINS[group.part])
    header = RecordHeader(
        flags=_flags(understood.end, payload),
        grounds=grounds_in_record(group.decision),
        generation=keys.generation,
        expires_at=group.expires_at,
        turn=place.turn,
        series=keys.epoch.series,
    )
    return seal_record(
        header,
        subject_key=keys.subject,
        epoch_key=keys.epoch.key,
        subject=place.subject,
        metadata=metadata,
        payload=payload.data,
    )


def _classes(transcript: Transcript) -> list[Origin]:
    """Return the classes of origins in a turn, each sealed on its own."""
    messages = (*transcript.input, *transcript.output)
    found = {part_class(part.origin) for message in messages for part in message.parts}
    return [part for part in _GROUP_NUMBERS if part in found] or [Origin.TYPED]


def _received_at(exchange: Exchange, place: Place) -> int:
    """Return when the turn was first received: a retry keeps the time of the attempt before it (R13)."""
    first = place.first_received_at
    return exchange.received_at if first is None else min(first, exchange.received_at)


def _tried_again_at(exchange: Exchange, place: Place) -> int | None:
    """Return when its request came last; None if that was the first time."""
    first = place.first_received_at
    return None if first is None or first == exchange.received_at else max(first, exchange.received_at)


def _attempt(exchange: Exchange, understood: Understood, place: Place) -> Attempt | None:
    if place.asked is None:
        return None
    completes = understood.end is StreamEnd.COMPLETE
    return Attempt(
        asked=place.asked,
        completes=completes,
        richness=0 if completes else _richness(understood.transcript),
        announced=exchange.turn,
        waiting=place.waiting,
        is_named=place.turn == exchange.named,
        parent=place.after_asked,
    )


def _richness(transcript: Transcript) -> int:
    return sum(len(msgspec.json.encode(part.body)) for message in transcript.output for part in message.parts)


def _flags(end: StreamEnd, payload: codec.Payload) -> RecordFlags:
    return _FLAGS[payload.compressed, end is StreamEnd.INTERRUPTED]
