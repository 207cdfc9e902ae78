"""From a caller and a choice to the policy's decision on each part of a turn.

Here the outside's words become facts; the decision itself is ``chatproxy.policy``'s alone.
"""

from collections.abc import Sequence
from functools import lru_cache

from chatproxy.consent.events import ConsentEvent, choices
from chatproxy.model import Age, Caller, Origin
from chatproxy.policy.engine import Decision, decide
from chatproxy.policy.facts import TRAIN_AI_NO, Facts, Lookup
from chatproxy.policy.profile import Periods, Profile
from chatproxy.policy.reasons import Reason


def part_class(origin: Origin) -> Origin:
    """Return the class of origins that the policy cannot tell apart; parts of one class are sealed together.

    Raw data of a connector and the bytes of what was not understood never train (R25); all else is one.
    """
    return origin if origin is Origin.CONNECTOR_RAW or origin is Origin.RAW else Origin.TYPED


class Policy:
    """The policy as this deployment has set it."""

    def __init__(self, profile: Profile, periods: Periods) -> None:
        self.profile = profile
        self.periods = periods
        self._never_kept = lru_cache(maxsize=1024)(self._why_never_kept)

    def decide_part(
        self,
        caller: Caller,
        *,
        part: Origin,
        received_at: int,
        now: int,
        events: Sequence[ConsentEvent] | None,
    ) -> Decision:
        """Decide on the parts of class *part* of a turn received at *received_at*, as of *now*.

        ``events`` is the person's ledger; None where it could not be read, which counts as no (R30). Nobody in
        particular (no subject) has no ledger and no choices.
        """
        facts = Facts(
            turn_at=received_at,
            now=now,
            plan=caller.plan,
            age=caller.age,
            conv_activity=(received_at,),
            choices=choices(events, surface=caller.surface) if events else (),
            lookup=Lookup.FAILED if events is None else Lookup.OK,
            incognito=caller.incognito,
            zdr=caller.zdr,
            signal=TRAIN_AI_NO if caller.train_ai_no else None,
            # What was not understood is treated as the strictest origin: the service period, never eligible.
            origin=Origin.CONNECTOR_RAW if part is Origin.RAW else part,
        )
        return decide(facts, self.profile, self.periods)

    def never_kept(self, caller: Caller) -> Reason | None:
        """Return why nothing of this caller is kept, whatever was or will be chosen (R2, R4, R5, R16), or None."""
        return self._never_kept(caller.plan, caller.age, zdr=caller.zdr, incognito=caller.incognito)

    def _why_never_kept(self, plan: str | None, age: Age, *, zdr: bool, incognito: bool) -> Reason | None:
        caller = Caller(plan=plan, age=age, zdr=zdr, incognito=incognito)
        decision = self.decide_part(caller, part=Origin.TYPED, received_at=0, now=0, events=())
        return None if decision.stored else decision.reason


_HIDDEN = frozenset({Reason.AGE_INELIGIBLE, Reason.AGE_UNVERIFIED, Reason.SAFETY_REVIEW_HOLD})


def public_reason(reason: Reason) -> str:
    """Return the code that a client may see: what tells about age or safety review is not said."""
    return "NOT_ELIGIBLE" if reason in _HIDDEN else str(reason)
