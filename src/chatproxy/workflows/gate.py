"""May this chat pass, or must its person first choose? Only where a missing choice closes the gate (R10).

1. Who is known to have chosen, or still may put it off, passes at once. The store is asked only of who is not known, or
   would be refused; so nobody is refused for what this process has not heard yet.
2. That takes a quarter of a second at most. Whoever does not answer in time, or answers what cannot be relied on, lets
   the chat pass: it is kept as refused.
3. Only those are asked to choose for whom it would make a difference, and both answers open the gate.
"""

import asyncio

from chatproxy.clock import Clock
from chatproxy.consent.due import DueState, choice_due
from chatproxy.consent.notices import Terms
from chatproxy.consent.person import PersonFacts
from chatproxy.crypto.pseudonyms import Pseudonymizer
from chatproxy.errors import StoreUnavailableError, UndecryptableError
from chatproxy.model import Caller, SubjectTag
from chatproxy.telemetry import GateAnswer, Log, Metrics
from chatproxy.workflows.decide import Policy
from chatproxy.workflows.subjects import Subjects

_log = Log("gate")
CHOICE_REQUIRED = "CHOICE_REQUIRED"
LONGEST_WAIT_SECONDS = 0.25


class Gate:
    """Holds up who has not chosen by the deadline."""

    def __init__(
        self,
        subjects: Subjects,
        pseudonyms: Pseudonymizer,
        policy: Policy,
        terms: Terms,
        *,
        deadline: int,
        address: str,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        """``deadline`` in ms; ``address`` of the choice page, for people."""
        self._subjects = subjects
        self._pseudonyms = pseudonyms
        self._policy = policy
        self._terms = terms
        self._deadline = deadline
        # Not every dialect has a place for the code beside the message.
        self._words = (
            f"{CHOICE_REQUIRED}: say first whether your conversations may be used for training, "
            f"yes or no, at {address}"
        )
        self._clock = clock
        self._metrics = metrics

    async def refusal(self, caller: Caller) -> str | None:
        """Return the words for a chat that must not pass before *caller* has chosen; None: it passes."""
        if caller.subject is None or not self._policy.would_heed_a_yes(caller):
            return None
        if not self._pseudonyms.is_known:
            # Nobody's choice can be looked up before the keyset is known.
            self._metrics.gate.labels(GateAnswer.UNANSWERED).inc()
            return None
        subject = self._pseudonyms.subject_tag(tenant=caller.tenant, subject=caller.subject)
        answer = GateAnswer.PASSED
        known = self._subjects.known(subject)
        if known is None or known.facts is None or self._must_choose(known.facts):
            answer = await self._ask(subject, caller)
        self._metrics.gate.labels(answer).inc()
        return self._words if answer is GateAnswer.REFUSED else None

    async def _ask(self, subject: SubjectTag, caller: Caller) -> GateAnswer:
        """Return what the store says of a person now, or the company's service where people choose there."""
        try:
            async with asyncio.timeout(LONGEST_WAIT_SECONDS):
                person = await self._subjects.ask(subject, caller)
        except (TimeoutError, StoreUnavailableError, UndecryptableError):
            return GateAnswer.UNANSWERED
        except Exception as error:  # noqa: BLE001 - whatever is wrong with what is stored, the chat goes on
            _log.error("it cannot be told whether a person has chosen; the chat passes", failure=error)
            return GateAnswer.UNANSWERED
        if person is None or person.facts is None:
            return GateAnswer.UNANSWERED
        return GateAnswer.REFUSED if self._must_choose(person.facts) else GateAnswer.PASSED

    def _must_choose(self, person: PersonFacts) -> bool:
        due = choice_due(person, self._terms, now=self._clock(), deadline=self._deadline)
        return due.state is DueState.OVERDUE and not person.is_minor
