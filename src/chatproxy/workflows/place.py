"""Whose turn is it, and where in which conversation? Found by identity, else by the history that is sent again (R13).

A client resends the whole conversation with each request. What matches a kept turn tells which turn the new one
follows; it is not stored again, and keeps the time it was first received. What matches nothing is not stored either:
it may have expired here and live on only in the client.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice

from chatproxy import history
from chatproxy.capture import Understood
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.model import Caller, ConversationTag, Exchange, SubjectTag, TurnId
from chatproxy.ports import TranscriptStore

_MOST_RECENT = 10_000
_DEEPEST_BRANCH = 32
"""How many answers back a branch is looked for, where the resent history does not end with a kept turn."""

_Known = tuple[SubjectTag, ConversationTag, TurnId]


@dataclass(frozen=True, slots=True)
class Place:
    """The place of one turn."""

    subject: SubjectTag
    conversation: ConversationTag
    after: TurnId | None
    """The turn whose answer this one follows; None at the beginning, or where that is not known."""
    heads: tuple[bytes, ...] = field(repr=False)
    """Keyed hashes of the conversation up to each answer of this turn: how the next turn finds it."""
    unmatched: int
    """Resent messages that match no kept turn."""
    repeated: int
    """Messages at the start of the new input that a kept turn holds already: the client goes on from its answer."""
    is_stray: bool
    """Neither person nor conversation is known: only the history that is sent again continues it."""


class Places:
    """Finds the place of each turn."""

    def __init__(
        self, store: TranscriptStore, pseudonyms: Pseudonymizer, *, random: Callable[[int], bytes]
    ) -> None:
        self._store = store
        self._pseudonyms = pseudonyms
        self._random = random
        # The ends of the conversations seen last, so that the next turn of each needs no look-up.
        self._recent: OrderedDict[bytes, _Known | None] = OrderedDict()

    async def find(self, exchange: Exchange, understood: Understood) -> Place:
        """Find the place of a turn. Raises StoreUnavailableError."""
        caller = exchange.caller
        subject = self._named_subject(caller)
        named = self._named_conversation(caller)
        keyed = self._pseudonyms.history_hasher(subject)
        path = history.Path((*understood.history, *understood.transcript.input))
        known, length = await self._follow(subject, path.positions(keyed))
        if known is not None:
            subject, conversation, after = known
        else:
            subject = subject or SubjectTag(self._random(16))
            conversation, after = ConversationTag(self._random(16)), None
        conversation = named or conversation
        heads = path.heads(understood.transcript.output, keyed) if understood.transcript.parsed else ()
        self._remember(heads, (subject, conversation, exchange.turn))
        resent = len(understood.history)
        return Place(
            subject,
            conversation,
            after,
            heads,
            unmatched=max(0, resent - length),
            repeated=max(0, length - resent),
            is_stray=self._named_subject(caller) is None,
        )

    def _named_subject(self, caller: Caller) -> SubjectTag | None:
        """Return the pseudonym of a caller who is known, or of a conversation that is known though nobody is."""
        if caller.subject is not None:
            return self._pseudonyms.subject_tag(tenant=caller.tenant, subject=caller.subject)
        conversation = self._named_conversation(caller)
        return SubjectTag(conversation) if conversation else None

    def _named_conversation(self, caller: Caller) -> ConversationTag | None:
        if caller.conversation is None:
            return None
        return self._pseudonyms.conversation_tag(
            tenant=caller.tenant, subject=caller.subject or "", conversation=caller.conversation
        )

    def forget(self, place: Place) -> None:
        """The turn of *place* was not kept after all, so what follows it does not continue it."""
        for head in place.heads:
            self._recent.pop(head, None)

    async def _follow(
        self, subject: SubjectTag | None, positions: Iterable[history.Position]
    ) -> tuple[_Known | None, int]:
        """Find the turn that the resent history ends with, or else the deepest one that it shares.

        Returns it with the number of messages up to its answer. ``subject`` None: nobody's conversation, which who
        resends its history continues.
        """
        for position in islice(positions, _DEEPEST_BRANCH):
            if position.head in self._recent:
                known = self._recent[position.head]
            else:
                known = await self._look_up(subject, position.head)
            if known is not None:
                return known, position.length
        return None, 0

    async def _look_up(self, subject: SubjectTag | None, head: bytes) -> _Known | None:
        owner = subject or await self._store.adopt_stray(head)
        if owner is None:
            return None
        found = await self._store.find_head(owner, head)
        return (owner, *found) if found else None

    def _remember(self, heads: Sequence[bytes], known: _Known) -> None:
        subject = known[0]
        for head in heads:
            before = self._recent.get(head, known)
            # Two conversations of nobody that said the same cannot be told apart: neither is continued.
            self._recent[head] = known if before is not None and before[0] == subject else None
        while len(self._recent) > _MOST_RECENT:
            self._recent.popitem(last=False)
