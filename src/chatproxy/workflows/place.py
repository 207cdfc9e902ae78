"""Whose turn is it, and where in which conversation? Found by identity, the dialect's own names, or history (R13).

1. A client resends the whole conversation with each request. What matches a kept turn tells which turn the new one
   follows; it is not stored again, and keeps the time it was first received. What matches nothing is not stored
   either: it may have expired here and live on only in the client. An answer that comes back cut short or edited
   is found by its question, where the person is known.
2. Where the backend remembers, the client names the answer that it continues instead, or the conversation. Such names
   are the client's words, so they count within the person only: the same name of two people is two conversations,
   and of nobody's conversations none is found by its own (security D4). An answer of nobody's is, as by its words.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from chatproxy import history
from chatproxy.capture import Understood
from chatproxy.crypto.pseudonyms import Pseudonymizer, stray_tag
from chatproxy.model import Caller, ConversationSource, ConversationTag, Exchange, SubjectTag, TurnId
from chatproxy.ports import TranscriptStore

_BEGINNING = b"chatproxy/conversation/v1"
_MOST_RECENT = 10_000
_MOST_LOOKED_FOR = 64
"""How many positions, two an answer, are looked for where the resent history does not end with a kept turn."""


CONVERSATION_SOURCES = tuple(ConversationSource)
"""The usual order: the first source that names a conversation decides; where none does, it is a new one."""

_Known = tuple[SubjectTag, ConversationTag, TurnId]


@dataclass(frozen=True, slots=True)
class Place:
    """The place of one turn."""

    subject: SubjectTag
    conversation: ConversationTag
    after: TurnId | None
    """The turn whose answer this one follows; None at the beginning, or where that is not known."""
    heads: tuple[bytes, ...] = field(repr=False)
    """Keyed hashes of the conversation up to this turn's question and each answer: how the next turn finds it."""
    unmatched: int
    """Resent messages that match no kept turn."""
    repeated: int
    """Messages at the start of the new input that a kept turn holds already: the client goes on from its answer."""
    is_stray: bool
    """Neither person nor conversation is known: only the history that is sent again continues it."""


class Places:
    """Finds the place of each turn."""

    def __init__(
        self,
        store: TranscriptStore,
        pseudonyms: Pseudonymizer,
        *,
        random: Callable[[int], bytes],
        sources: Sequence[ConversationSource] = CONVERSATION_SOURCES,
    ) -> None:
        """``sources``: which of them name a conversation, the strongest first."""
        self._sources = tuple(sources)
        self._store = store
        self._pseudonyms = pseudonyms
        self._random = random
        # The ends of the conversations seen last, so that the next turn of each needs no look-up.
        self._recent: OrderedDict[bytes, _Known | None] = OrderedDict()

    async def find(self, exchange: Exchange, understood: Understood) -> Place:
        """Find the place of a turn. Raises StoreUnavailableError."""
        caller = exchange.caller
        named_subject = self._named_subject(caller)
        by_dialect = self._conversation_of_dialect(exchange, understood) if named_subject else None
        keyed = self._pseudonyms.history_hasher(named_subject)
        path = history.Path((*understood.history, *understood.transcript.input))
        resent = len(understood.history)

        def positions() -> Iterator[history.Position]:
            if understood.continues is not None:
                yield history.Position(resent, history.name_head(understood.continues, keyed))
            yield from path.positions(keyed, by_question=named_subject is not None)
            if by_dialect is not None:
                yield history.Position(resent, keyed(by_dialect))  # 16 bytes, never one of the 32 of a digest

        known, length = await self._follow(named_subject, positions())
        subject = known[0] if known else named_subject or stray_tag(self._random)
        names = {
            ConversationSource.IDENTITY: self._named_conversation(caller),
            ConversationSource.DIALECT: by_dialect,
            ConversationSource.HISTORY: known[1] if known else None,
        }
        named = next((name for source in self._sources if (name := names[source])), None)
        # The same on every replay and retry of its first turn, which then stay in one conversation.
        conversation = named or ConversationTag(keyed(_BEGINNING + exchange.turn))
        heads = _heads(understood, path, keyed, by_dialect, is_stray=named_subject is None)
        self._remember(heads, (subject, conversation, exchange.turn))
        return Place(
            subject,
            conversation,
            known[2] if known else None,
            heads,
            unmatched=max(0, resent - length),
            repeated=max(0, length - resent),
            is_stray=named_subject is None,
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

    def _conversation_of_dialect(self, exchange: Exchange, understood: Understood) -> ConversationTag | None:
        if understood.conversation is None or ConversationSource.DIALECT not in self._sources:
            return None
        caller = exchange.caller
        # Zero bytes are in no header, so no id that identity gives can be taken for one of a dialect.
        name = f"\0{exchange.dialect}\0{understood.conversation}"
        return self._pseudonyms.conversation_tag(
            tenant=caller.tenant, subject=caller.subject or "", conversation=name
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
        for position in islice(positions, _MOST_LOOKED_FOR):
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


def _heads(
    understood: Understood,
    path: history.Path,
    keyed: history.Keyed,
    conversation: ConversationTag | None,
    *,
    is_stray: bool,
) -> tuple[bytes, ...]:
    """Return all by which a later turn can find this one, each once."""
    if not understood.transcript.parsed:
        return ()
    heads: list[bytes] = []
    # What is said after an answer that is only referred to could be said at any place: alone, it tells nothing.
    if understood.continues is None or any(path.positions(keyed)):
        heads += path.heads(understood.transcript.output, keyed)
        if not is_stray and (question := path.question(keyed)) is not None:
            heads.append(question)
    heads += (history.name_head(name, keyed) for name in understood.reply_ids)
    if conversation is not None:
        heads.append(keyed(conversation))
    return tuple(dict.fromkeys(heads))
