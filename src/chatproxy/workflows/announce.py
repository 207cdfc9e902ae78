"""What is said of the decision while the chat runs: start reading the choice at acceptance, state it with the head.

The headers are advice: what is known when the answer's head is sent, never waited for. The decision that counts is
made when the turn is kept.
"""

from collections.abc import Callable

from chatproxy.clock import Clock
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.forwarding import Header
from chatproxy.model import Caller, ConversationTag, Origin
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
        self._subjects = subjects
        self._pseudonyms = pseudonyms
        self._policy = policy
        self._clock = clock
        self._with_headers = with_headers

    def begin(
        self, caller: Caller, opened: Recorder | Reason | None, *, received_at: int
    ) -> Callable[[], list[Header]]:
        """Start to read the caller's choice; return what gives the headers once the answer's head is there.

        ``opened`` is what ``Capture.begin`` returned for this exchange.
        """
        subject = None
        if isinstance(opened, Recorder) and not self._pseudonyms.is_known:
            # What is decided will be once the keyset is known; nothing of the person is looked up before.
            return lambda: [(b"x-decision-reason", b"PENDING")] if self._with_headers else []
        if isinstance(opened, Recorder) and caller.subject is not None:
            subject = self._pseudonyms.subject_tag(tenant=caller.tenant, subject=caller.subject)
            self._subjects.prefetch(subject, caller)

        def headers() -> list[Header]:
            if not self._with_headers:
                return []
            if isinstance(opened, Reason):
                return _worded(public_reason(opened), eligible=False)
            if opened is None:
                return _worded("NOT_KEPT", eligible=False)
            if subject is None:
                # Nobody in particular: the handle's pseudonym is not known before the history is.
                facts: PersonFacts | None = NOBODY
                handle, lookup = None, Lookup.OK
            else:
                person = self._subjects.known(subject)
                if person is None or (lookup_now := self._subjects.lookup(subject, person)) is None:
                    return [(b"x-decision-reason", b"PENDING")]
                lookup = lookup_now
                facts, handle = person.facts, self._pseudonyms.turn_handle(subject, opened.exchange.turn)
            turn = TurnToDecide(
                caller=caller, received_at=received_at, conversation=self._named_conversation(caller)
            )
            if turn.conversation is None and facts is not None and facts.has_overrides:
                # Which conversation this is, and so whether it is excluded or shared, only its history tells.
                return [(b"x-decision-reason", b"PENDING")]
            decision = self._policy.decide_part(
                turn, part=Origin.TYPED, now=self._clock(), person=facts, lookup=lookup
            )
            if decision.eligible_capability and not opened.request_is_readable():
                # What cannot be read is never eligible, and whether it can is only known when it is kept.
                return [(b"x-decision-reason", b"PENDING")]
            return _worded(
                public_reason(decision.reason),
                eligible=decision.eligible_capability,
                handle=handle,
                expires_at=decision.expires_at,
            )

        return headers

    def _named_conversation(self, caller: Caller) -> ConversationTag | None:
        if caller.subject is None or caller.conversation is None:
            return None
        return self._pseudonyms.conversation_tag(
            tenant=caller.tenant, subject=caller.subject, conversation=caller.conversation
        )


def _worded(
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
