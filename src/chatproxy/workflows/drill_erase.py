"""Would an erasure hold today? A person who does not exist is kept, read, erased, and tried to be read again.

It is the real way, in the real store, under a pseudonym that is drawn by chance; nothing of it is left but the fence.
"""

from dataclasses import dataclass

from chatproxy.clock import Clock
from chatproxy.crypto.annotation import Annotation, AnnotationKeys, authenticate
from chatproxy.crypto.primitives import random_bytes
from chatproxy.crypto.record import Grounds, RecordFlags, RecordHeader, epoch_day, open_record, seal_record
from chatproxy.errors import UndecryptableError
from chatproxy.model import ConversationTag, Origin, StreamEnd, SubjectTag, TurnId
from chatproxy.ports import PutStatus, SealedGroup, SealedTurn, TranscriptStore
from chatproxy.workflows.annotate import VERSION, Eligible, GroupNote, TurnFacts, TurnNote
from chatproxy.workflows.decide import Policy
from chatproxy.workflows.erase import Eraser
from chatproxy.workflows.keys import RecordKeys

_PAYLOAD = b"chatproxy erase drill"
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Drilled:
    """What was seen."""

    opened_before: bool
    tried_after: int
    opened_after: int
    rows_left: int

    @property
    def holds(self) -> bool:
        """Whether it was as it must be."""
        return self.opened_before and self.tried_after > 0 and not self.opened_after and not self.rows_left


async def drill_erase(
    store: TranscriptStore,
    keys: RecordKeys,
    annotation_keys: AnnotationKeys,
    eraser: Eraser,
    policy: Policy,
    *,
    clock: Clock,
    by: str,
) -> Drilled:
    """Keep, erase and try a person who does not exist; *by*: who asked for it.

    Raises StoreUnavailableError, AuditUnavailableError, UndecryptableError.
    """
    subject, turn = SubjectTag(random_bytes(16)), TurnId(random_bytes(16))
    now = clock()
    expires_at = now + _DAY_MS
    facts = TurnFacts(
        v=VERSION,
        conversation=ConversationTag(random_bytes(16)).hex(),
        dialect="drill",
        received_at=now,
        node="drill",
    )
    with keys.wrapping():
        key, wrap = keys.new_subject_key(subject, generation=1)
        day_key = await keys.epoch_key(epoch_day(expires_at))
        blob = seal_record(
            RecordHeader(
                flags=RecordFlags.PADDED,
                grounds=Grounds.SERVICE,
                generation=1,
                expires_at=expires_at,
                turn=turn,
            ),
            subject_key=key,
            epoch_key=day_key,
            subject=subject,
            metadata=facts.record_metadata(0),
            payload=_PAYLOAD,
        )
        note = TurnNote(
            v=VERSION,
            end=StreamEnd.COMPLETE,
            policy=policy.digest,
            decided_at=now,
            groups=(
                GroupNote(
                    n=0,
                    part=Origin.TYPED,
                    grounds={"SERVICE": expires_at},
                    expires_at=expires_at,
                    eligible=Eligible(),
                    reason="CONSENT_UNKNOWN",
                    bytes=len(_PAYLOAD),
                ),
            ),
        )
        annotation = Annotation(seq=1, expires_at=expires_at, metadata=facts.metadata(), body=note.body())
        [status] = await store.put(
            [
                SealedTurn(
                    subject=subject,
                    turn=turn,
                    conversation=facts.conversation_tag,
                    received_at=now,
                    expires_at=expires_at,
                    generation=1,
                    new_wrap=wrap,
                    ledger_length=0,
                    groups=(SealedGroup(0, blob, expires_at),),
                    annotation=authenticate(annotation, keys=annotation_keys, subject=subject, turn=turn),
                )
            ]
        )
    state = await store.subject_state(subject)
    try:
        opened = (
            open_record(
                blob,
                subject_key=keys.unwrap_subject_key(subject, state, 1),
                epoch_key=await keys.existing_epoch_key(epoch_day(expires_at)),
                subject=subject,
                metadata=facts.record_metadata(0),
            )
            == _PAYLOAD
        )
    except UndecryptableError:
        opened = False
    erasure = await eraser.erase(subject, by=by)
    left = 0
    async for _ in store.annotations(subject):
        left += 1
    left += sum(blob is not None for blob in await store.records(subject, turn, [0]))
    return Drilled(
        opened_before=opened and status is PutStatus.STORED,
        tried_after=0 if erasure is None else erasure.proof.tried,
        opened_after=0 if erasure is None else erasure.proof.opened,
        rows_left=left,
    )
