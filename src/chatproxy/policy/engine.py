"""May this part be kept, on which grounds, until when, and who may use it? The evaluation of the rules, in order.

The steps are those of "Evaluation, step by step" in the policy. Choices (step 2) and grounds (steps 3 and 4) have
a module each; what is here puts them together and says why.
"""

from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from chatproxy.model import Age, Origin
from chatproxy.policy.choices import Standing, read_choices
from chatproxy.policy.facts import TRAIN_AI_NO, Facts, Lookup, Override
from chatproxy.policy.grounds import (
    ENDED_BY_DELETION,
    OPEN_TO_CONNECTORS,
    Claim,
    Counted,
    Ground,
    claims,
    count,
    is_unproved_age,
    share_ended_at,
)
from chatproxy.policy.profile import ExemptMode, FlaggedCapability, Periods, Profile
from chatproxy.policy.reasons import Reason

_ELIGIBLE = (
    Reason.ELIGIBLE_CONV_SHARE,
    Reason.ELIGIBLE_CONSENT,
    Reason.ELIGIBLE_RESUMED,
    Reason.ELIGIBLE_PRIOR_VERSION,
)
"""The reasons that make a part eligible for capability training, the first that applies first."""
_CONSENTING = frozenset({"given", "renewed"})
_BY_STATE = {
    "withdrawn": Reason.CONSENT_WITHDRAWN,
    "refused": Reason.CONSENT_REFUSED,
    "deferred": Reason.CONSENT_DEFERRED,
    "expired": Reason.CONSENT_EXPIRED,
    "terminated": Reason.CONSENT_TERMINATED,
    "invalidated": Reason.CONSENT_INVALIDATED,
    "superseded": Reason.CONSENT_STALE_VERSION,
}

_ALSO = (
    (Ground.FEEDBACK, Reason.FEEDBACK_EXPLICIT),
    (Ground.SESSION_SHARE, Reason.SESSION_SHARE_NO_TRAIN),
    (Ground.SAFETY_IO, Reason.SAFETY_FLAG),
)
"""What else keeps a part, in the order told."""


class Decision(Struct, frozen=True, kw_only=True):
    """What may be done with one part. Instants are ms; an end is exclusive: at that instant it is gone (R7)."""

    stored: bool
    grounds: Mapping[Ground, int] = {}
    """The live grounds and their ends; while held, also those that have ended."""
    expires_at: int | None = None
    """The latest end; None: nothing is stored, or it is held."""
    held: bool = False
    """A legal hold suspends erasure: the caller seals to the review date of the hold (R24)."""
    eligible_capability: bool = False
    eligible_safety: bool = False
    eligible_feedback: bool = False
    reason: Reason
    also: tuple[Reason, ...] = ()
    score_expires_at: int | None = None
    """Until when the safety score of a flagged part may be kept, as metadata without content (R19)."""


def decide(facts: Facts, profile: Profile, periods: Periods) -> Decision:
    """Decide about one part. Total: there is an outcome for any facts.

    With a lookup that is not ``ok`` the outcome says how a new turn is first kept; it never re-decides what is
    stored already.
    """
    # Step 1: nothing at all.
    forbidden = _forbidden(facts, profile)
    if forbidden is not None:
        return Decision(stored=False, reason=forbidden)
    facts = facts.as_of_now()

    # Step 2: choices. A deleted account stands as a terminated choice too.
    choices = facts.choices
    if facts.account_deleted_at is not None:
        choices = (*choices, (facts.account_deleted_at, "terminated"))
    standing = read_choices(choices)

    # Steps 3 and 4: what may begin, and what did. The reason of a connector's part is that of the part typed.
    deleted_at = facts.first_deletion()
    offered = claims(facts, profile, periods, standing)
    typed = counted = count(offered, turn_at=facts.turn_at, deleted_at=deleted_at)
    if facts.origin == Origin.CONNECTOR_RAW:
        raw = [claim for claim in offered if claim.ground in OPEN_TO_CONNECTORS]
        counted = count(raw, turn_at=facts.turn_at, deleted_at=deleted_at)

    # Step 5: the reason, and with it whether the part is eligible.
    reason = _reason(facts, profile, standing, typed)
    eligible = reason in _ELIGIBLE
    if eligible and facts.origin == Origin.CONNECTOR_RAW:
        eligible, reason = False, Reason.PART_CONNECTOR_RAW
    elif eligible and _waits_for_review(counted, profile):
        eligible, reason = False, Reason.SAFETY_REVIEW_HOLD

    # Step 6: deleted.
    if deleted_at is not None:
        counted = _cut(counted, periods.deletion_ends_at(deleted_at))
        eligible = False
        if reason != Reason.PLAN_EXEMPT:
            reason = _deletion_reason(facts)

    # Step 7: what is live.
    return _live(facts, periods, counted, reason, eligible=eligible)


def _forbidden(facts: Facts, profile: Profile) -> Reason | None:
    is_exempt = facts.plan in profile.exempt_plans
    if facts.zdr:
        return Reason.ZDR_NO_STORE
    if facts.age == Age.MINOR:
        return Reason.PLAN_EXEMPT if is_exempt else Reason.AGE_INELIGIBLE
    if is_exempt and profile.exempt_mode != ExemptMode.STORE_30D:
        return Reason.PLAN_EXEMPT
    return None


def _reason(facts: Facts, profile: Profile, standing: Standing, counted: Counted) -> Reason:
    return (
        _reason_of_plan(facts, profile)
        or _reason_of_conversation(facts, profile)
        or _reason_of_lookup(facts, standing)
        or _reason_of_choices(standing, counted)
    )


def _reason_of_plan(facts: Facts, profile: Profile) -> Reason | None:
    if facts.plan in profile.exempt_plans:
        return Reason.PLAN_EXEMPT
    if facts.plan not in profile.consumer_plans:
        return Reason.PLAN_UNKNOWN
    return None


def _reason_of_conversation(facts: Facts, profile: Profile) -> Reason | None:
    if facts.incognito:
        return Reason.INCOGNITO
    if facts.override == Override.EXCLUDE:
        return Reason.CONV_EXCLUDED
    if facts.signal == TRAIN_AI_NO:
        return Reason.SIGNAL_OPT_OUT
    if is_unproved_age(facts, profile):
        return Reason.AGE_UNVERIFIED
    return None


def _reason_of_lookup(facts: Facts, standing: Standing) -> Reason | None:
    if facts.lookup == Lookup.OK:
        return None
    if facts.lookup != Lookup.STALE:
        return Reason.CONSENT_LOOKUP_FAILED
    is_shared = facts.override == Override.SHARE and share_ended_at(facts, standing) is None
    if standing.state in _CONSENTING or standing.state == "superseded" or is_shared:
        return Reason.CONSENT_CACHE_STALE
    return None


def _reason_of_choices(standing: Standing, counted: Counted) -> Reason:
    for reason in _ELIGIBLE:
        if reason in counted.yields:
            return reason
    if standing.state in _CONSENTING:
        noted = Reason.PRE_CONSENT_TURN in counted.yields
        return Reason.PRE_CONSENT_TURN if noted else Reason.NOT_RESUMED
    return _BY_STATE.get(standing.state or "unknown", Reason.CONSENT_UNKNOWN)


def _waits_for_review(counted: Counted, profile: Profile) -> bool:
    is_flagged = Ground.SAFETY_IO in [claim.ground for claim in counted.claims]
    return is_flagged and profile.flagged_capability != FlaggedCapability.ALLOW


def _cut(counted: Counted, limit: int) -> Counted:
    return replace(counted, claims=tuple(_cut_claim(claim, limit) for claim in counted.claims))


def _cut_claim(claim: Claim, limit: int) -> Claim:
    return replace(claim, ends_at=min(claim.ends_at, limit)) if claim.ground in ENDED_BY_DELETION else claim


def _deletion_reason(facts: Facts) -> Reason:
    return Reason.ACCOUNT_DELETED if facts.is_account_deleted() else Reason.DELETED


def _live(facts: Facts, periods: Periods, counted: Counted, reason: Reason, *, eligible: bool) -> Decision:
    ends = counted.ends()
    live = {ground: end for ground, end in ends.items() if end > facts.now}
    if eligible and Ground.TRAIN not in live:
        eligible, reason = False, Reason.TRAIN_PERIOD_OVER
    also = [code for ground, code in _ALSO if ground in live]
    held = facts.hold_at is not None and any(
        claim.begins_at <= facts.hold_at < claim.ends_at for claim in counted.claims
    )
    if held:
        also.append(Reason.LEGAL_HOLD)
    if held and not live:
        reason = Reason.LEGAL_HOLD_ONLY
    elif ends and not live and reason != Reason.PLAN_EXEMPT:
        reason = Reason.EXPIRED
    return Decision(
        stored=held or bool(live),
        grounds=ends if held else live,
        expires_at=None if held else max(live.values(), default=None),
        held=held,
        eligible_capability=eligible,
        eligible_safety=Ground.SAFETY_IO in live,
        eligible_feedback=Ground.FEEDBACK in live,
        reason=reason,
        also=tuple(also),
        score_expires_at=_score_expires_at(facts, periods, ends),
    )


def _score_expires_at(facts: Facts, periods: Periods, ends: Mapping[Ground, int]) -> int | None:
    if facts.flagged_at is None or Ground.SAFETY_IO not in ends:
        return None
    end = periods.safety_score.after(facts.flagged_at)
    return end if end > facts.now else None
