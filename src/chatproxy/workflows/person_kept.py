"""What is kept of one person, as they name it?

Who asks is the subject of every query: a handle of somebody else's finds nothing in one's own place in the store, so
unknown and foreign handles look alike.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.errors import NotFoundError
from chatproxy.model import ConversationTag, SubjectTag
from chatproxy.policy.versions import PolicyVersion
from chatproxy.workflows.happenings import NO_CONVERSATION
from chatproxy.workflows.ledger import Ledger
from chatproxy.workflows.person_views import ConversationView, view_of
from chatproxy.workflows.transcripts import KeptTurn, Transcripts


class PersonKept:
    """Finds the turns and the ledger of one person.

    Everything raises StoreUnavailableError, and UndecryptableError where the ledger cannot be authenticated.
    """

    def __init__(
        self,
        ledger: Ledger,
        transcripts: Transcripts,
        pseudonyms: Pseudonymizer,
        *,
        versions: Sequence[PolicyVersion],
    ) -> None:
        """``versions``: of the policy that people choose about."""
        self._ledger = ledger
        self._transcripts = transcripts
        self._pseudonyms = pseudonyms
        self._versions = tuple(versions)

    async def facts(self, subject: SubjectTag) -> PersonFacts:
        """Return what the person's ledger comes to."""
        return PersonFacts(await self._ledger.history(subject), self._versions)

    async def walk(self, subject: SubjectTag) -> AsyncIterator[KeptTurn]:
        """Yield every authentic turn; running chats get their turn between."""
        async for turn in self._transcripts.walk(subject=subject):
            if isinstance(turn, KeptTurn):
                yield turn

    async def conversations(
        self, subject: SubjectTag, *, with_deleted: bool
    ) -> dict[ConversationTag, list[KeptTurn]]:
        """Return every authentic turn by its conversation."""
        found: defaultdict[ConversationTag, list[KeptTurn]] = defaultdict(list)
        async for turn in self.walk(subject):
            if with_deleted or not turn.is_deleted:
                found[turn.facts.conversation_tag].append(turn)
        return found

    async def conversation(self, subject: SubjectTag, conversation: ConversationTag) -> list[KeptTurn]:
        """Return the turns of one of *subject*'s conversations: whose it is and what it is are one query (P39)."""
        walk = self._transcripts.walk(subject=subject, conversation=conversation)
        return [turn async for turn in walk if isinstance(turn, KeptTurn)]

    def named(self, handle: str) -> tuple[SubjectTag, ConversationTag]:
        """Return what a handle names. One that names nothing finds what an unknown one does."""
        try:
            return self._pseudonyms.read_conversation_handle(handle)
        except NotFoundError:
            raise NotFoundError(NO_CONVERSATION) from None

    async def turns(self, subject: SubjectTag, handle: str) -> tuple[ConversationTag, list[KeptTurn]]:
        """Return the turns of a conversation that is there. Raises NotFoundError, also where it is deleted."""
        owner, tag = self.named(handle)
        turns = [turn for turn in await self.conversation(subject, tag) if not turn.is_deleted]
        # The owner that a handle names is not asked for anything: it can only be the one who asks.
        if owner != subject or not turns:
            raise NotFoundError(NO_CONVERSATION)
        return tag, turns

    def view(
        self, subject: SubjectTag, tag: ConversationTag, turns: Sequence[KeptTurn], person: PersonFacts
    ) -> ConversationView:
        """Return how the *turns* of a conversation look to its person."""
        return view_of(tag, turns, person, handle=self._pseudonyms.conversation_handle(subject, tag))

    def handle(self, subject: SubjectTag, conversation: ConversationTag | None) -> str | None:
        """Return how a conversation is named to its person; None: of none."""
        if conversation is None:
            return None
        return self._pseudonyms.conversation_handle(subject, conversation)
