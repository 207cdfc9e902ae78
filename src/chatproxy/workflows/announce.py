"""What is said of the decision while the chat runs: start reading the choice at acceptance, state it with the head.

The headers are advice: what is known when the answer's head is sent, never waited for. The decision that counts is
made when the turn is kept. They are worded while the backend works, so that the head need not wait for that either.
"""

from collections.abc import Sequence

from chatproxy.clock import Clock
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.forwarding import Header
from chatproxy.model import Caller, ConversationTag, Origin, SubjectTag, TurnId
from chatproxy.policy.facts import Lookup
from chatproxy.policy.instants import format_instant
from chatproxy.policy.reasons import Reason
from chatproxy.workflows.decide import NOBODY, Policy, TurnToDecide, public_reason
from chatproxy.workflows.record import Recorder
from chatproxy.workflows.subjects import Subjects

DECISION_HEADERS = frozenset(
    {b"x-chat-turn", b"x-training-eligible", b"x-retention-expires", b"x-decision-reason"}
)
"""Response headers that only chatproxy sets."""
_PENDING = ((b"x-decision-reason", b"PENDING"),)
_HOLDS_MS = 1000
"""How long what was worded holds, unless something else is known by then."""


class Announcer:
    """Starts lookups and words decisions."""

    def __init__(
        self,
        subjects: Subjects,
        pseudonyms: Pseudonymizer,
        policy: Policy,
        *,
        clock: Clock,
        with_headers: bool,
    ) -> None:
        self.subjects = subjects
        self.pseudonyms = pseudonyms
        self.policy = policy
        self.clock = clock
        self.with_headers = with_headers

    def begin(self, caller: Caller, opened: Recorder | Reason | None, *, received_at: int) -> "Announcement":
        """Start to read the caller's choice. ``opened`` is what ``Capture.begin`` returned for this exchange."""
        subject = None
        # Until the keyset is known nothing of a person is looked up.
        if isinstance(opened, Recorder) and caller.subject is not None and self.pseudonyms.is_known:
            subject = self.pseudonyms.subject_tag(tenant=caller.tenant, subject=caller.subject)
            self.subjects.prefetch(subject, caller)
        return Announcement(self, caller, opened, subject, received_at=received_at)

    def named_conversation(self, caller: Caller) -> ConversationTag | None:
        """Return the conversation that the identity names."""
        if caller.subject is None or caller.conversation is None:
            return None
        return self.pseudonyms.conversation_tag(
            tenant=caller.tenant, subject=caller.subject, conversation=caller.conversation
        )


class Announcement:
    """What is said of the decision on one chat."""

    def __init__(
        self,
        announcer: Announcer,
        caller: Caller,
        opened: Recorder | Reason | None,
        subject: SubjectTag | None,
        *,
        received_at: int,
    ) -> None:
        self._announcer = announcer
        self._caller = caller
        self._opened = opened
        self._subject = subject
        self._received_at = received_at
        # What was worded last, and what it was worded on.
        self._headers: Sequence[Header] = ()
        self._facts: PersonFacts | None = None
        self._lookup = Lookup.OK
        self._turn: TurnId | None = None
        self._at = 0

    def headers(self) -> Sequence[Header]:
        """Return what is known now. Asked again soon after, and of the same, it takes next to nothing."""
        opened, announcer = self._opened, self._announcer
        if not announcer.with_headers:
            return ()
        if isinstance(opened, Reason):
            return _words(public_reason(opened), eligible=False)
        if opened is None:
            return _words("NOT_KEPT", eligible=False)
        if not announcer.pseudonyms.is_known or (self._subject is None and self._caller.subject is not None):
            # What is decided will be once the keyset is known.
            return _PENDING
        if self._subject is None:
            # Nobody in particular: the handle's pseudonym is not known before the history is.
            facts: PersonFacts | None = NOBODY
            lookup = Lookup.OK
        else:
            person = announcer.subjects.known(self._subject)
            if person is None or (found := announcer.subjects.lookup(self._subject, person)) is None:
                return _PENDING
            facts, lookup = person.facts, found
        turn, at = opened.exchange.turn, announcer.clock()
        holds = 0 <= at - self._at < _HOLDS_MS
        if not holds or facts is not self._facts or lookup is not self._lookup or turn != self._turn:
            self._facts, self._lookup, self._turn, self._at = facts, lookup, turn, at
            self._headers = self._word(opened)
        return self._headers

    def _word(self, opened: Recorder) -> Sequence[Header]:
        announcer, subject, facts = self._announcer, self._subject, self._facts
        turn = TurnToDecide(
            caller=self._caller,
            received_at=self._received_at,
            conversation=announcer.named_conversation(self._caller),
        )
        if turn.conversation is None and facts is not None and facts.has_overrides:
            # Which conversation this is, and so whether it is excluded or shared, only its history tells.
            return _PENDING
        decision = announcer.policy.decide_part(
            turn, part=Origin.TYPED, now=self._at, person=facts, lookup=self._lookup
        )
        if decision.eligible_capability and not opened.request_is_readable():
            # What cannot be read is never eligible, and whether it can is only known when it is kept.
            return _PENDING
        return _words(
            public_reason(decision.reason),
            eligible=decision.eligible_capability,
            handle=announcer.pseudonyms.turn_handle(subject, opened.exchange.turn) if subject else None,
            expires_at=decision.expires_at,
        )


def _words(
    reason: str, *, eligible: bool, handle: str | None = None, expires_at: int | None = None
) -> list[Header]:
    headers = [
        (b"x-training-eligible", b"?1" if eligible else b"?0"),
        (b"x-decision-reason", reason.encode()),
    ]
    if handle is not None:
        headers.append((b"x-chat-turn", handle.encode()))
    if expires_at is not None:
        headers.append((b"x-retention-expires", format_instant(expires_at - expires_at % 1000).encode()))
    return headers
