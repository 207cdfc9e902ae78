"""Whose turn is it, and where in which conversation? Found by identity, the client's own names, or history (R13).

1. A client resends the whole conversation with each request. What matches a kept turn tells which turn the new one
   follows; it is not stored again, and keeps the time it was first received. What matches nothing is not stored
   either: it may have expired here and live on only in the client. An answer that comes back cut short or edited
   is found by its question, where the person is known, and so is a question whose answer was stopped before a word.
2. Where the backend remembers, the client names the answer that it continues instead, or the conversation. Some
   clients name the conversation in a header, beside the history. Such names are the client's words, so they count within the person only: the same name of two people is two conversations,
   and of nobody's conversations none is found by its own (security D4). An answer of nobody's is, as by its words.
3. What was received before the person was erased is at no place any more, also where this process remembers it.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import islice

import msgspec

from chatproxy import history
from chatproxy.capture import Understood
from chatproxy.crypto.pseudonyms import Pseudonymizer, stray_tag
from chatproxy.model import Caller, ConversationSource, ConversationTag, Exchange, SubjectTag, TurnId
from chatproxy.ports import KnownTurn, TranscriptStore
from chatproxy.unshown import Unshown
from chatproxy.workflows.decide import circumstances

_BEGINNING = b"chatproxy/conversation/v1"
_NAMED = b"chatproxy/named/v1"
_MOST_RECENT = 10_000
_MOST_LOOKED_FOR = 64
"""How many positions, two an answer, are looked for where the resent history does not end with a kept turn."""


CONVERSATION_SOURCES = tuple(ConversationSource)
"""The usual order: the first source that names a conversation decides; where none does, it is a new one."""


class _Known(msgspec.Struct, frozen=True):
    """A turn that is known to be kept, or about to be."""

    subject: SubjectTag
    turn: KnownTurn
    received_at: int = 0
    """When it was, ms, at the latest; 0 where the store has looked at that."""


class Place(Unshown, frozen=True):
    """The place of one turn."""

    subject: SubjectTag
    turn: TurnId
    """The id under which it is kept."""
    conversation: ConversationTag
    after: TurnId | None
    """The turn whose answer this one follows; None at the beginning, or where that is not known."""
    heads: tuple[bytes, ...]
    """Keyed hashes of the conversation up to this turn's question and each answer: how the next turn finds it."""
    unmatched: int
    """Resent messages that match no kept turn."""
    repeated: int
    """Messages at the start of the new input that a kept turn holds already: the client goes on from its answer."""
    is_stray: bool
    """Neither person nor conversation is known: only the history that is sent again continues it."""
    asked: bytes | None = None
    """What all attempts at this request have in common; None where there can be no others."""
    after_asked: bytes | None = None
    """The same of the turn that this one follows, if it is known."""
    is_apart: bool = False
    """Nothing was sent again, so that what is asked does not tell after what."""
    waiting: TurnId | None = None
    """The attempt that was found to wait; this turn takes its place if that is ``turn``."""
    first_received_at: int | None = None
    """When the attempt whose place this turn takes was received (R13)."""


class Places:
    """Finds the place of each turn."""

    def __init__(
        self,
        store: TranscriptStore,
        pseudonyms: Pseudonymizer,
        *,
        random: Callable[[int], bytes],
        erased_at: Callable[[SubjectTag], Awaitable[int | None]],
        sources: Sequence[ConversationSource] = CONVERSATION_SOURCES,
    ) -> None:
        """``erased_at``: the fence of a person's erasure, in ms; None: there is none.

        ``sources``: which of them name a conversation, the strongest first.
        """
        self._erased_at = erased_at
        self._sources = tuple(sources)
        self._store = store
        self._pseudonyms = pseudonyms
        self._random = random
        # The ends of the conversations seen last, so that the next turn of each needs no look-up.
        self._recent: OrderedDict[bytes, _Known | None] = OrderedDict()

    async def find(self, exchange: Exchange, understood: Understood) -> Place:
        """Find the place of a turn. Raises StoreUnavailableError, UndecryptableError."""
        caller = exchange.caller
        named_subject = self._named_subject(caller)
        by_dialect = self._conversation_of_dialect(exchange, understood) if named_subject else None
        by_header = self._conversation_of_header(exchange) if named_subject else None
        keyed = self._pseudonyms.history_hasher(named_subject)
        path = history.Path((*understood.history, *understood.transcript.input))
        resent = len(understood.history)
        turn = exchange.named or exchange.turn

        def positions() -> Iterator[history.Position]:
            if understood.continues is not None:
                yield history.Position(resent, history.name_head(understood.continues, keyed))
            yield from path.positions(keyed, by_question=named_subject is not None)
            if by_dialect is not None:
                yield history.Position(resent, keyed(by_dialect))  # 16 bytes, never one of the 32 of a digest

        known, length = await self._follow(named_subject, positions())
        parent = known.turn if known else None
        subject = known.subject if known else named_subject or stray_tag(self._random)
        names = {
            ConversationSource.IDENTITY: self._named_conversation(caller),
            ConversationSource.DIALECT: by_dialect,
            ConversationSource.HEADER: by_header,
            ConversationSource.HISTORY: parent.conversation if parent else None,
        }
        named = next((name for source in self._sources if (name := names[source])), None)
        # The same on every replay and retry of its first turn, which then stay in one conversation.
        conversation = named or ConversationTag(keyed(_BEGINNING + turn))
        asked = None
        if caller.subject is not None:
            context = (named or b"", (understood.continues or "").encode("utf-8", "surrogatepass"))
            asked = path.asked(keyed, *context, circumstances(caller))
            if asked is None and exchange.named is not None:
                asked = keyed(_NAMED + exchange.named)
        place = Place(
            subject,
            turn,
            conversation,
            parent.turn if parent else None,
            _heads(understood, path, keyed, by_dialect, is_stray=named_subject is None),
            unmatched=max(0, resent - length),
            repeated=max(0, length - resent),
            is_stray=named_subject is None,
            asked=asked,
            after_asked=parent.asked if parent else None,
            is_apart=not resent and understood.continues is None,
        )
        self._remember(place, exchange)
        return place

    def move(self, place: Place, exchange: Exchange) -> None:
        """What follows the turn of *place*, which *exchange* is, is to find it there."""
        self.forget(place)
        self._remember(place, exchange)

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
        return self._clients_name(exchange.caller, f"\0{exchange.dialect}\0{understood.conversation}")

    def _conversation_of_header(self, exchange: Exchange) -> ConversationTag | None:
        if exchange.conversation is None or ConversationSource.HEADER not in self._sources:
            return None
        # Not one of a dialect either: no dialect is named "header:" and something.
        return self._clients_name(exchange.caller, f"\0header:{exchange.conversation}")

    def _clients_name(self, caller: Caller, name: str) -> ConversationTag:
        """Return the pseudonym of what only the client says.

        *name* begins with a zero byte. None is in a header, so no id that identity gives can be taken for it.
        """
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
            if await self._remembers(position.head):
                known = self._recent[position.head]
            else:
                known = await self._look_up(subject, position.head)
            if known is not None:
                return known, position.length
        return None, 0

    async def _remembers(self, head: bytes) -> bool:
        """Whether *head* is remembered; what was received of somebody until they were erased is forgotten (3)."""
        known = self._recent.get(head)
        if known is not None:
            erased_at = await self._erased_at(known.subject)
            if erased_at is not None and known.received_at <= erased_at:
                self._recent.pop(head, None)
        return head in self._recent

    async def _look_up(self, subject: SubjectTag | None, head: bytes) -> _Known | None:
        owner = subject or await self._store.adopt_stray(head)
        if owner is None:
            return None
        found = await self._store.find_head(owner, head)
        return _Known(owner, found) if found else None

    def _remember(self, place: Place, exchange: Exchange) -> None:
        turn = KnownTurn(place.conversation, place.turn, place.asked)
        known = _Known(place.subject, turn, exchange.received_at)
        for head in place.heads:
            before = self._recent.get(head, known)
            # Two conversations of nobody that said the same cannot be told apart: neither is continued.
            self._recent[head] = known if before is not None and before.subject == place.subject else None
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
