"""Evaluation, steps 3 and 4: what keeps a turn, from when, until when?"""

from collections.abc import Iterable
from enum import StrEnum
from operator import attrgetter

from msgspec import Struct

from chatproxy.model import Age, Origin
from chatproxy.policy.choices import Grant, Standing
from chatproxy.policy.facts import TRAIN_AI_NO, Facts, Lookup, Override
from chatproxy.policy.profile import OnWithdraw, Periods, Profile, ResumeScope, UnknownAge
from chatproxy.policy.reasons import Reason


class Ground(StrEnum):
    """Why a turn may be kept."""

    SERVICE = "SERVICE"
    TRAIN = "TRAIN"
    TRAIN_RESIDUE = "TRAIN_RESIDUE"
    """What a consent or share that has ended leaves to be erased in time (R20); of no use meanwhile."""
    SAFETY_IO = "SAFETY_IO"
    FEEDBACK = "FEEDBACK"
    SESSION_SHARE = "SESSION_SHARE"


TRAINING = frozenset({Ground.TRAIN, Ground.TRAIN_RESIDUE})
RESUMABLE = frozenset({Ground.SERVICE, Ground.TRAIN, Ground.TRAIN_RESIDUE})
"""What keeps a turn there for a grant or share to reach it; the other grounds are for their own purpose alone."""
ENDED_BY_DELETION = RESUMABLE | {Ground.SESSION_SHARE}
OPEN_TO_CONNECTORS = frozenset({Ground.SERVICE, Ground.SAFETY_IO})
"""A connector's raw result enters neither a training nor a feedback copy (R25)."""

_KEEPING_FEEDBACK = frozenset({"thumbs", "bug", "feedback", "share"})
_beginning = attrgetter("begins_at")


class Claim(Struct, frozen=True):
    """A ground with a beginning and an end (exclusive), which may or may not find the turn still there."""

    ground: Ground
    begins_at: int
    ends_at: int
    yields: Reason | None = None
    """The reason that it gives where it counts, if it is about training.

    A claim that yields PRE_CONSENT_TURN keeps nothing: it is what would have been, and is only noted.
    """


class Counted(Struct, frozen=True):
    """The claims that did begin, and what they give as reasons."""

    claims: tuple[Claim, ...]
    yields: frozenset[Reason]

    def ends(self) -> dict[Ground, int]:
        """Return the end of each ground: of two with one name the later; no residue beside the thing itself."""
        ends: dict[Ground, int] = {}
        for claim in self.claims:
            if claim.ground not in ends or ends[claim.ground] < claim.ends_at:
                ends[claim.ground] = claim.ends_at
        if Ground.TRAIN in ends and Ground.TRAIN_RESIDUE in ends:
            del ends[Ground.TRAIN_RESIDUE]
        return ends


def is_unproved_age(facts: Facts, profile: Profile) -> bool:
    """Return whether the age keeps the turn from training (R5)."""
    return facts.age != Age.ADULT and profile.unknown_age != UnknownAge.ADULT


def share_ended_at(facts: Facts, standing: Standing) -> int | None:
    """Return when the share of the conversation ended, if it has; for a conversation that is shared."""
    return standing.revoked_from(facts.override_at)


def claims(facts: Facts, profile: Profile, periods: Periods, standing: Standing) -> list[Claim]:
    """Return what may begin for the turn, as if the part were typed, in the order that holds at one instant.

    The plan is neither zero-retention nor exempt from storing, and the person no minor (step 1 comes before).
    """
    turn = facts.turn_at
    if facts.incognito:
        offered = [Claim(Ground.SERVICE, turn, periods.incognito_ends_at(turn, profile))]
    else:
        offered = [Claim(Ground.SERVICE, turn, periods.service.after(turn))]
    if _is_trainable(facts, profile):
        for grant in standing.grants:
            offered += _of_grant(grant, facts, profile, periods)
        if facts.override == Override.SHARE:
            offered += _of_share(facts, profile, periods, standing)
    if facts.flagged_at is not None and facts.plan not in profile.exempt_plans:
        offered += [Claim(Ground.SAFETY_IO, max(turn, facts.flagged_at), periods.safety.after(turn))]
    if facts.feedback is not None and facts.feedback[0] >= turn:
        offered += _of_feedback(*facts.feedback, periods)
    return offered


def count(offered: Iterable[Claim], *, turn_at: int, deleted_at: int | None) -> Counted:
    """Go through claims by beginning and keep those that find the turn still there: gone stays gone.

    *offered* is in the order that holds at one instant; *deleted_at* is the first deletion that counts.
    """
    counted: list[Claim] = []
    yields: set[Reason] = set()
    there_until = resumable_until = turn_at
    for claim in sorted(offered, key=_beginning):
        begins_at, ends_at = claim.begins_at, claim.ends_at
        found_until = resumable_until if claim.ground in TRAINING else there_until
        if begins_at >= ends_at or (deleted_at is not None and begins_at > deleted_at):
            continue
        if begins_at != turn_at and begins_at >= found_until:
            continue
        if claim.yields is not None:
            yields.add(claim.yields)
        if claim.yields is Reason.PRE_CONSENT_TURN:
            continue
        counted.append(claim)
        there_until = max(there_until, ends_at)
        if claim.ground in RESUMABLE:
            resumable_until = max(resumable_until, ends_at)
    return Counted(tuple(counted), frozenset(yields))


def _is_trainable(facts: Facts, profile: Profile) -> bool:
    return (
        facts.plan in profile.consumer_plans
        and facts.plan not in profile.exempt_plans
        and facts.lookup == Lookup.OK
        and not facts.incognito
        and facts.override != Override.EXCLUDE
        and facts.signal != TRAIN_AI_NO
        and not is_unproved_age(facts, profile)
    )


def _of_grant(grant: Grant, facts: Facts, profile: Profile, periods: Periods) -> list[Claim]:
    reached_at = _reached_at(grant, facts)
    if reached_at is None:
        return []
    is_open = grant.covers_until is None
    inside = reached_at == facts.turn_at
    if profile.resume_scope != ResumeScope.WHOLE_CONVERSATION and (
        # What a client sent again and nobody here had seen may be older than it says, so it is not new (R13).
        not inside or facts.origin == Origin.HISTORY
    ):
        return [_training(reached_at, facts, periods, Reason.PRE_CONSENT_TURN)] if is_open else []
    if grant.revoked_at is not None:
        return [_residue(reached_at, grant.revoked_at, facts, profile, periods)]
    reason = Reason.ELIGIBLE_CONSENT if inside else Reason.ELIGIBLE_RESUMED
    return [_training(reached_at, facts, periods, reason if is_open else Reason.ELIGIBLE_PRIOR_VERSION)]


def _reached_at(grant: Grant, facts: Facts) -> int | None:
    """Return when the grant reached the turn: at once, or when the conversation was first taken up under it."""
    if grant.covers(facts.turn_at):
        return facts.turn_at
    if grant.starts_at < facts.turn_at:
        return None
    return min((at for at in facts.conv_activity if grant.covers(at)), default=None)


def _of_share(facts: Facts, profile: Profile, periods: Periods, standing: Standing) -> list[Claim]:
    begins_at = facts.turn_at if facts.override_at is None else max(facts.turn_at, facts.override_at)
    ended_at = share_ended_at(facts, standing)
    if ended_at is None:
        return [_training(begins_at, facts, periods, Reason.ELIGIBLE_CONV_SHARE)]
    if begins_at < ended_at:
        return [_residue(begins_at, ended_at, facts, profile, periods)]
    return []


def _training(begins_at: int, facts: Facts, periods: Periods, yields: Reason) -> Claim:
    return Claim(Ground.TRAIN, begins_at, periods.training.after(facts.turn_at), yields)


def _residue(begins_at: int, revoked_at: int, facts: Facts, profile: Profile, periods: Periods) -> Claim:
    ends_at = periods.training.after(facts.turn_at)
    if profile.on_withdraw != OnWithdraw.KEEP_QUARANTINED:
        ends_at = min(ends_at, periods.withdrawn.after(revoked_at))
    return Claim(Ground.TRAIN_RESIDUE, begins_at, ends_at)


def _of_feedback(at: int, kind: str, periods: Periods) -> list[Claim]:
    if kind in _KEEPING_FEEDBACK:
        return [Claim(Ground.FEEDBACK, at, periods.feedback.after(at))]
    if kind == "session_share":
        return [Claim(Ground.SESSION_SHARE, at, periods.session_share.after(at))]
    return []
