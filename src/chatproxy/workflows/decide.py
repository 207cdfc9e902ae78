"""From a caller and a person's ledger to the policy's decision on each part of a turn.

Here the outside's words become facts; the decision itself is ``chatproxy.policy``'s alone.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property, lru_cache

import msgspec
from msgspec.structs import replace

from chatproxy.consent.person import PersonFacts, TurnEvents
from chatproxy.model import Age, Caller, ConversationTag, Origin, Surface, TurnId
from chatproxy.policy.engine import Decision, decide
from chatproxy.policy.facts import TRAIN_AI_NO, Facts, Lookup
from chatproxy.policy.periods import DAY_MS
from chatproxy.policy.profile import Periods, Profile, shorter_periods, stricter_profile
from chatproxy.policy.reasons import Reason
from chatproxy.policy.schema import policy_from_json, policy_to_json
from chatproxy.policy.stricter import stricter


def part_class(origin: Origin) -> Origin:
    """Return the class of origins that the policy cannot tell apart; parts of one class are sealed together.

    Raw data of a connector and the bytes of what was not understood never train (R25); all else is one.
    """
    return origin if origin is Origin.CONNECTOR_RAW or origin is Origin.RAW else Origin.TYPED


class TurnToDecide(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a turn itself. ``caller`` as far as it is kept."""

    caller: Caller
    received_at: int
    conversation: ConversationTag | None = None
    turn: TurnId | None = None
    """None, and no conversation: not yet known, so only what is about the whole account counts."""
    activity: Sequence[int] = ()
    """When other turns of its conversation were received, ms (R12)."""
    is_nobodys: bool = False
    """Nobody was named with it: nobody can agree to anything, so no choice counts."""
    tried_again_at: int | None = None
    """When its request came last, if more than once: then the stricter of both instants counts."""


_HOLD_STEP_MS = 30 * DAY_MS
"""How long a hold is sealed ahead where its review is overdue."""
HOLD_ROLLED_BEFORE_MS = 7 * DAY_MS
"""How long before its expiry what is held is sealed anew."""


def kept_until(decision: Decision, *, review_at: int | None, now: int, sealed_until: int = 0) -> int | None:
    """Return until when a part is to be sealed; None: it is not kept.

    What is held is sealed to the review of its hold, and rolled forward while the hold stands: nothing is ever
    without an expiry (R24). ``sealed_until``: how it is sealed now, which stays while that is far enough ahead.
    """
    if not decision.held:
        return decision.expires_at
    ahead = now + HOLD_ROLLED_BEFORE_MS
    horizon = review_at if review_at is not None and review_at > ahead else None
    if horizon is None:
        horizon = sealed_until if sealed_until > ahead else now + _HOLD_STEP_MS
    return max(horizon, *decision.grounds.values())


def circumstances(caller: Caller) -> bytes:
    """Return what the policy goes by of *caller*: a request that comes again under others is no retry.

    So no attempt lends its plan or its signals to an answer that was given under others.
    """
    return msgspec.json.encode(
        [
            caller.plan,
            caller.surface,
            caller.age,
            caller.zdr,
            caller.incognito,
            caller.train_ai_no,
            caller.gpc,
        ]
    )


class Policy:
    """A policy: the parameters and periods that decisions are made under."""

    def __init__(self, profile: Profile, periods: Periods) -> None:
        self.profile = profile
        self.periods = periods
        self._never_kept = lru_cache(maxsize=1024)(self._why_never_kept)
        self._would_heed = lru_cache(maxsize=1024)(self._would_train)

    @classmethod
    def from_document(cls, document: bytes) -> "Policy":
        """Undo ``document``. Raises ValueError if it is not one."""
        try:
            return cls(*policy_from_json(msgspec.json.decode(document)))
        except (KeyError, TypeError, AttributeError, msgspec.DecodeError):
            raise ValueError("is not a policy") from None

    @cached_property
    def document(self) -> bytes:
        """Return the policy as canonical JSON."""
        return msgspec.json.encode(policy_to_json(self.profile, self.periods), order="sorted")

    @cached_property
    def digest(self) -> str:
        """Return the name by which a decision says what it was made under: 24 hexadecimal digits of SHA-256."""
        return hashlib.sha256(self.document).hexdigest()[:24]

    def and_as_strict_as(self, other: "Policy") -> "Policy":
        """Return the policy that keeps no longer, and permits no more, than either."""
        return Policy(
            stricter_profile(self.profile, other.profile), shorter_periods(self.periods, other.periods)
        )

    def facts(
        self,
        turn: TurnToDecide,
        *,
        part: Origin,
        now: int,
        person: PersonFacts | None,
        lookup: Lookup = Lookup.OK,
    ) -> Facts:
        """Return the facts on the parts of class *part*, as of *now*.

        ``person`` None: their ledger could not be read, which counts as no (R30). ``lookup``: how it went to ask the
        company's consent service, where there is one.
        """
        caller = turn.caller
        events = _NO_EVENTS
        if person is not None and turn.is_nobodys:
            person = person.without_choices
        if person is not None:
            events = person.about(turn.conversation, turn.turn, received_at=turn.received_at)
        return Facts(
            turn_at=turn.received_at,
            now=now,
            plan=caller.plan,
            age=Age.MINOR if events.is_minor else caller.age,
            conv_activity=(turn.received_at, *turn.activity),
            choices=() if person is None else person.choices(caller.surface),
            lookup=Lookup.FAILED if person is None else lookup,
            incognito=caller.incognito,
            zdr=caller.zdr,
            override=events.override,
            override_at=events.override_at,
            signal=TRAIN_AI_NO if caller.train_ai_no else None,
            flagged_at=events.flagged_at,
            feedback=events.feedback,
            deleted_at=events.deleted_at,
            account_deleted_at=events.account_deleted_at,
            hold_at=events.hold_at,
            # What was not understood is treated as the strictest origin: the service period, never eligible.
            origin=Origin.CONNECTOR_RAW if part is Origin.RAW else part,
        )

    def decide_part(
        self,
        turn: TurnToDecide,
        *,
        part: Origin,
        now: int,
        person: PersonFacts | None,
        lookup: Lookup = Lookup.OK,
    ) -> Decision:
        """Decide on the parts of class *part* of a turn, as of *now*; ``person``, ``lookup`` as for ``facts``."""
        facts = self.facts(turn, part=part, now=now, person=person, lookup=lookup)
        return self.decide_on(facts, tried_again_at=turn.tried_again_at)

    def decide_on(self, facts: Facts, *, tried_again_at: int | None) -> Decision:
        """Decide on *facts* as ``facts`` gives them; ``tried_again_at`` as in ``TurnToDecide``."""
        decision = decide(facts, self.profile, self.periods)
        again = tried_again_at
        if again is None or again == facts.turn_at:
            return decision
        facts = replace(facts, turn_at=again, conv_activity=(again, *facts.conv_activity[1:]))
        return stricter(decision, decide(facts, self.profile, self.periods))

    def never_kept(self, caller: Caller) -> Reason | None:
        """Return why nothing of this caller is kept, whatever was or will be chosen (R2, R4, R5, R16), or None."""
        return self._never_kept(caller.plan, caller.age, zdr=caller.zdr, incognito=caller.incognito)

    def would_heed_a_yes(self, caller: Caller) -> bool:
        """Whether a yes could make what *caller* says eligible at all: if not, there is nothing to ask (R10)."""
        return caller.surface is not Surface.UNKNOWN and self._would_heed(
            caller.plan,
            caller.age,
            zdr=caller.zdr,
            incognito=caller.incognito,
            train_ai_no=caller.train_ai_no,
        )

    def _would_train(
        self, plan: str | None, age: Age, *, zdr: bool, incognito: bool, train_ai_no: bool
    ) -> bool:
        caller = Caller(plan=plan, age=age, zdr=zdr, incognito=incognito, train_ai_no=train_ai_no)
        facts = self.facts(
            TurnToDecide(caller=caller, received_at=0), part=Origin.TYPED, now=0, person=NOBODY
        )
        agreed = replace(facts, choices=((0, "given"),))
        return decide(agreed, self.profile, self.periods).eligible_capability

    def _why_never_kept(self, plan: str | None, age: Age, *, zdr: bool, incognito: bool) -> Reason | None:
        caller = Caller(plan=plan, age=age, zdr=zdr, incognito=incognito)
        turn = TurnToDecide(caller=caller, received_at=0)
        decision = self.decide_part(turn, part=Origin.TYPED, now=0, person=NOBODY)
        return None if decision.stored else decision.reason


NOBODY = PersonFacts(())
"""Nobody in particular has no ledger and no choices."""
_NO_EVENTS = TurnEvents()
_HIDDEN = frozenset({Reason.AGE_INELIGIBLE, Reason.AGE_UNVERIFIED, Reason.SAFETY_REVIEW_HOLD})


def public_reason(reason: Reason) -> str:
    """Return the code that a client may see: what tells about age or safety review is not said."""
    return "NOT_ELIGIBLE" if reason in _HIDDEN else str(reason)
