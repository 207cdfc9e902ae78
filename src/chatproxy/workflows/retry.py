"""Is this exchange another attempt at a request that did not complete? Then it is the same turn (R13, P12, P13).

1. Attempts at one request have in common: the person; all that was said, to the last word; the conversation, as far as
   something names it; and the facts about the caller that the policy goes by. The store finds the attempt that waits
   as it puts the retry, so an ordinary turn costs no look-up.
2. The retry takes the id of the attempt, its place in the conversation, and its time: what was asked keeps the time
   it was first received. Since that alone could be the looser one, both times are decided on and the stricter outcome
   holds (``policy/stricter.py``). The id that the client was told for the retry leads to the turn.
3. It is no retry if the attempt has been continued or deleted since, if the person was erased since, or, where no history is
   sent that would tell the place, if the conversation has gone on.
4. What the store says about an attempt is not believed before its annotation is authentic.
"""

from msgspec.structs import replace

from chatproxy.crypto.annotation import AnnotationKeys, verify
from chatproxy.errors import UndecryptableError
from chatproxy.model import Exchange, StreamEnd, SubjectTag, TurnId
from chatproxy.policy.reasons import Reason
from chatproxy.ports import TranscriptStore
from chatproxy.workflows.annotate import TurnFacts, read
from chatproxy.workflows.place import Place, Places

_DELETED = frozenset({Reason.DELETED, Reason.ACCOUNT_DELETED})


class Retries:
    """Finds the turn that an exchange is another attempt at."""

    def __init__(self, store: TranscriptStore, places: Places, annotation_keys: AnnotationKeys) -> None:
        self._store = store
        self._places = places
        self._annotation_keys = annotation_keys

    async def find(self, exchange: Exchange, place: Place) -> Place:
        """Return *place*, or that of the attempt that waits for this exchange. Raises StoreUnavailableError."""
        own = replace(place, turn=exchange.named or exchange.turn, waiting=None, first_received_at=None)
        waiting = None if own.asked is None else await self._store.find_attempt(own.subject, own.asked)
        found = own if waiting is None else await self._as_attempt(own, waiting)
        self._places.move(found, exchange)
        return found

    async def _as_attempt(self, place: Place, waiting: TurnId) -> Place:
        """Return the place of the attempt *waiting*, or *place* with the note that it is none."""
        first = await self._facts(place, waiting)
        if first is None:
            return replace(place, waiting=waiting)
        after = TurnId(bytes.fromhex(first.after)) if first.after else None
        return replace(
            place,
            turn=waiting,
            conversation=first.conversation_tag,
            after=after,
            after_asked=place.after_asked if after == place.after else None,
            waiting=waiting,
            first_received_at=first.received_at,
        )

    async def _facts(self, place: Place, turn: TurnId) -> TurnFacts | None:
        """Return the facts of the attempt *turn*, or None if this is no retry of it."""
        stored = await self._store.turn(place.subject, turn)
        if stored is None:
            return None
        try:
            annotation = verify(
                stored.annotation, keys=self._annotation_keys, subject=place.subject, turn=turn
            )
            facts, note = read(annotation)
        except UndecryptableError:
            return None
        if any(group.reason in _DELETED for group in note.groups):
            return None
        if note.end is StreamEnd.COMPLETE or await self._was_erased(place.subject, since=facts.received_at):
            return None
        if place.is_apart and turn != place.turn:
            turns = await self._store.conversation(place.subject, facts.conversation_tag)
            if not turns or turns[-1].turn != turn:
                return None
        return facts

    async def _was_erased(self, subject: SubjectTag, *, since: int) -> bool:
        return (await self._store.subject_state(subject)).is_fenced(since)
