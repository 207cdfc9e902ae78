"""Decide on each class of parts of a turn and seal what may be kept, under the person's key and the expiry day's."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from chatproxy import codec
from chatproxy.capture import Understood
from chatproxy.consent.events import ConsentEvent
from chatproxy.crypto.annotation import Annotation, AnnotationKeys, authenticate
from chatproxy.crypto.keys import DataKey
from chatproxy.crypto.record import Grounds, RecordFlags, RecordHeader, epoch_day, seal_record
from chatproxy.model import Exchange, Origin, Part, StreamEnd, SubjectTag, Transcript
from chatproxy.policy.engine import Decision
from chatproxy.policy.reasons import Reason
from chatproxy.ports import SealedGroup, SealedTurn
from chatproxy.tasks import aside
from chatproxy.telemetry import Metrics
from chatproxy.workflows.annotate import VERSION, Eligible, GroupNote, TurnFacts, TurnNote
from chatproxy.workflows.decide import Policy, part_class
from chatproxy.workflows.keys import RecordKeys
from chatproxy.workflows.place import Place
from chatproxy.workflows.subjects import Person

LEDGER_OUTLIVES_MS = 3 * 366 * 86_400_000
"""Choice events outlive the data by three years (R38)."""
UNPARSED = "UNPARSED"
"""Reason of a turn that would be eligible, had it been understood."""

_GROUP_NUMBERS = {Origin.TYPED: 0, Origin.CONNECTOR_RAW: 1, Origin.RAW: 2}
"""Each below ``ports.MOST_GROUPS``."""


class FirstKeys:
    """Keys drawn for people who have none yet, one each for all the turns of a batch."""

    def __init__(self, keys: RecordKeys) -> None:
        self._keys = keys
        self._drawn: dict[SubjectTag, tuple[DataKey, bytes, int]] = {}

    def of(self, subject: SubjectTag, person: Person) -> tuple[DataKey, bytes, int]:
        """Return the key to seal under, its wrap, which the put keeps or compares, and its generation."""
        generation = person.state.generation
        if generation is not None:
            key = self._keys.unwrap_subject_key(subject, person.state, generation)
            return key, person.state.wraps[generation], generation
        if subject not in self._drawn:
            new = person.state.generation_floor + 1
            self._drawn[subject] = (*self._keys.new_subject_key(subject, generation=new), new)
        return self._drawn[subject]


@dataclass(frozen=True, slots=True)
class _Group:
    """What may be kept of one class of parts."""

    number: int
    part: Origin
    decision: Decision
    expires_at: int


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

    async def seal(
        self,
        exchange: Exchange,
        understood: Understood,
        place: Place,
        person: Person,
        *,
        first: FirstKeys,
        now: int,
    ) -> SealedTurn | Reason:
        """Return the sealed turn, or the reason why nothing of it may be kept.

        Raises UndecryptableError, StoreUnavailableError.
        """
        # Nobody has no ledger: whatever lies beside a pseudonym made for one conversation is not a choice.
        events = () if exchange.caller.subject is None else person.events
        groups, reason = self._decide(exchange, understood, events, now=now)
        if not groups:
            return reason
        facts = TurnFacts(
            v=VERSION,
            conversation=place.conversation.hex(),
            dialect=exchange.dialect.partition(":")[0],  # which of the described chats is not told
            received_at=exchange.received_at,
            node=self._node,
            model=understood.transcript.model,
            after=place.after.hex() if place.after else None,
        )
        key, wrap, generation = first.of(place.subject, person)
        sealed = []
        notes = []
        for group in groups:
            seal = partial(
                _seal_group,
                group,
                exchange,
                understood,
                subject=place.subject,
                keys=_Keys(key, await self._keys.epoch_key(epoch_day(group.expires_at)), generation),
                metadata=facts.record_metadata(group.number),
            )
            blob = await aside(seal, size=exchange.size)
            sealed.append(SealedGroup(group.number, blob, group.expires_at))
            notes.append(_note(group, size=len(blob)))
        note = self._turn_note(exchange, understood, place, notes, events, now=now)
        annotation = Annotation(
            seq=1, expires_at=note.expires_at, metadata=facts.metadata(), body=note.body()
        )
        return SealedTurn(
            subject=place.subject,
            turn=exchange.turn,
            conversation=place.conversation,
            received_at=exchange.received_at,
            expires_at=note.expires_at,
            generation=generation,
            new_wrap=wrap,
            ledger_length=len(person.state.ledger),
            groups=tuple(sealed),
            annotation=authenticate(
                annotation, keys=self._annotation_keys, subject=place.subject, turn=exchange.turn
            ),
            heads=place.heads,
            completes=understood.end is StreamEnd.COMPLETE if exchange.is_named else None,
            ledger_keep_until=note.expires_at + LEDGER_OUTLIVES_MS,
        )

    def _decide(
        self, exchange: Exchange, understood: Understood, events: Sequence[ConsentEvent] | None, *, now: int
    ) -> tuple[list[_Group], Reason]:
        groups = []
        reason = Reason.EXPIRED
        for part in _classes(understood.transcript):
            decision = self._policy.decide_part(
                exchange.caller, part=part, received_at=exchange.received_at, now=now, events=events
            )
            reason = decision.reason
            self._metrics.decisions.labels(_shown_reason(part, reason)).inc()
            if decision.expires_at is not None:
                groups.append(_Group(_GROUP_NUMBERS[part], part, decision, decision.expires_at))
        return groups, reason

    def _turn_note(
        self,
        exchange: Exchange,
        understood: Understood,
        place: Place,
        notes: Sequence[GroupNote],
        events: Sequence[ConsentEvent] | None,
        *,
        now: int,
    ) -> TurnNote:
        caller = exchange.caller
        return TurnNote(
            v=VERSION,
            end=understood.end,
            parsed=understood.transcript.parsed,
            plan=caller.plan,
            surface=caller.surface,
            age=caller.age,
            incognito=caller.incognito,
            train_ai_no=caller.train_ai_no,
            gpc=caller.gpc,
            profile=self._policy.profile.name,
            decided_at=now,
            consent=events[-1].digest if events else None,
            unmatched=place.unmatched,
            groups=tuple(notes),
        )


@dataclass(frozen=True, slots=True)
class _Keys:
    """What one group is sealed under."""

    subject: DataKey
    epoch: DataKey
    generation: int


def _seal_group(
    group: _Group,
    exchange: Exchange,
    understood: Understood,
    *,
    subject: SubjectTag,
    keys: _Keys,
    metadata: bytes,
) -> bytes:
    """Serialise, compress and seal the parts of a group."""
    payload = codec.encode_group(understood.transcript, _of_class(group.part))
    header = RecordHeader(
        flags=_flags(understood.end, payload),
        grounds=_grounds(group.decision),
        generation=keys.generation,
        expires_at=group.expires_at,
        turn=exchange.turn,
    )
    return seal_record(
        header,
        subject_key=keys.subject,
        epoch_key=keys.epoch,
        subject=subject,
        metadata=metadata,
        payload=payload.data,
    )


def _classes(transcript: Transcript) -> list[Origin]:
    """Return the classes of origins in a turn, each sealed on its own."""
    messages = (*transcript.input, *transcript.output)
    found = {part_class(part.origin) for message in messages for part in message.parts}
    return [part for part in _GROUP_NUMBERS if part in found] or [Origin.TYPED]


def _shown_reason(part: Origin, reason: Reason) -> str:
    """Return the reason as annotation and metrics have it: bytes that were not understood are no connector's data."""
    return UNPARSED if part is Origin.RAW and reason is Reason.PART_CONNECTOR_RAW else str(reason)


def _note(group: _Group, *, size: int) -> GroupNote:
    decision = group.decision
    return GroupNote(
        n=group.number,
        part=group.part,
        grounds={str(ground): end for ground, end in decision.grounds.items()},
        expires_at=group.expires_at,
        eligible=Eligible(decision.eligible_capability, decision.eligible_safety, decision.eligible_feedback),
        reason=_shown_reason(group.part, decision.reason),
        also=tuple(str(reason) for reason in decision.also),
        bytes=size,
    )


def _of_class(part: Origin) -> Callable[[Part], bool]:
    return lambda candidate: part_class(candidate.origin) is part


def _flags(end: StreamEnd, payload: codec.Payload) -> RecordFlags:
    flags = RecordFlags.PADDED
    if payload.compressed:
        flags |= RecordFlags.ZSTD
    if end is StreamEnd.INTERRUPTED:
        flags |= RecordFlags.INTERRUPTED
    return flags


def _grounds(decision: Decision) -> Grounds:
    grounds = Grounds(0)
    for ground in decision.grounds:
        grounds |= Grounds[str(ground)]
    return grounds
