"""What a company may set: the parameters of the policy, and the periods, which are data and not code."""

from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import TypeVar

from chatproxy.policy.periods import DAY_MS, Period, shorter_period

Word = TypeVar("Word", bound=StrEnum)


class ResumeScope(StrEnum):
    """What a conversation taken up again after a consent brings in (R12)."""

    WHOLE_CONVERSATION = "whole_conversation"
    NEW_TURNS_ONLY = "new_turns_only"


class OnWithdraw(StrEnum):
    """What a withdrawal does to retention (R20)."""

    SHRINK = "shrink"
    KEEP_QUARANTINED = "keep_quarantined"


class ExemptMode(StrEnum):
    """What is kept of exempt plans (R2)."""

    PASSTHROUGH = "passthrough"
    STORE_30D = "store_30d"
    """Kept for the service period, never eligible."""


class UnknownAge(StrEnum):
    """What an age that is not proved counts as (R5)."""

    ADULT = "adult"
    INELIGIBLE = "ineligible"


class FlaggedCapability(StrEnum):
    """Whether capability training waits for the review of a flagged turn (R19)."""

    EXCLUDE = "exclude"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The parameters of one policy. The defaults are those of the standard profile."""

    name: str = "standard"
    resume_scope: ResumeScope = ResumeScope.WHOLE_CONVERSATION
    on_withdraw: OnWithdraw = OnWithdraw.SHRINK
    exempt_mode: ExemptMode = ExemptMode.PASSTHROUGH
    unknown_age: UnknownAge = UnknownAge.ADULT
    flagged_capability: FlaggedCapability = FlaggedCapability.EXCLUDE
    incognito_days: int = 30
    """0: incognito turns are not stored. More than the service or the incognito period has no effect (R16)."""
    consumer_plans: frozenset[str] = frozenset({"free", "pro", "max", "claude_code"})
    """R1."""
    exempt_plans: frozenset[str] = frozenset(
        {"work", "team", "enterprise", "gov", "education", "api", "bedrock", "vertex", "foundry"}
    )
    """R2. A plan in both sets is exempt."""


STANDARD = Profile()
STRICT = Profile(
    name="strict",
    resume_scope=ResumeScope.NEW_TURNS_ONLY,
    unknown_age=UnknownAge.INELIGIBLE,
    incognito_days=0,
)
PROFILES = (STANDARD, STRICT)


_DAYS_30, _DAYS_180 = Period(ms=30 * DAY_MS), Period(ms=180 * DAY_MS)
_YEARS_2, _YEARS_5, _YEARS_7 = Period(years=2), Period(years=5), Period(years=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Periods:
    """The longest that each ground keeps a turn, and the grace after a withdrawal.

    The defaults are the published periods (R11, R14, R15, R16, R19) and, for ``withdrawn``, this project's (R20).
    """

    service: Period = _DAYS_30
    training: Period = _YEARS_5
    safety: Period = _YEARS_2
    safety_score: Period = _YEARS_7
    feedback: Period = _YEARS_5
    session_share: Period = _DAYS_180
    incognito: Period = _DAYS_30
    withdrawn: Period = _DAYS_30

    def incognito_ends_at(self, turn_at: int, profile: Profile) -> int:
        """Return when an incognito turn ends: never later than the same turn would in the open (R16)."""
        by_profile = Period(ms=profile.incognito_days * DAY_MS)
        return min(period.after(turn_at) for period in (by_profile, self.incognito, self.service))

    def deletion_ends_at(self, deleted_at: int) -> int:
        """Return when what was deleted must be gone: 30 days after, or the service period if shorter (R22).

        30 days are the published limit, so that a longer service period does not delay a deletion. A shorter
        one is how long this company says erasing takes, so that deleting never keeps longer than serving.
        """
        return min(period.after(deleted_at) for period in (_DAYS_30, self.service))


def stricter_profile(one: Profile, other: Profile) -> Profile:
    """Return the profile that keeps and permits only what both do.

    Where one of the two is that already it is returned as it is; else the name tells of both, once each.
    """
    names = dict.fromkeys([*one.name.split("+"), *other.name.split("+")])
    both = Profile(
        name="+".join(names),
        resume_scope=_either(ResumeScope.NEW_TURNS_ONLY, one.resume_scope, other.resume_scope),
        on_withdraw=_either(OnWithdraw.SHRINK, one.on_withdraw, other.on_withdraw),
        exempt_mode=_either(ExemptMode.PASSTHROUGH, one.exempt_mode, other.exempt_mode),
        unknown_age=_either(UnknownAge.INELIGIBLE, one.unknown_age, other.unknown_age),
        flagged_capability=_either(
            FlaggedCapability.EXCLUDE, one.flagged_capability, other.flagged_capability
        ),
        incognito_days=min(one.incognito_days, other.incognito_days),
        consumer_plans=one.consumer_plans & other.consumer_plans,
        exempt_plans=one.exempt_plans | other.exempt_plans,
    )
    return next((each for each in (one, other) if replace(each, name=both.name) == both), both)


def shorter_periods(one: Periods, other: Periods) -> Periods:
    """Return each period as short as the shorter of the two."""
    return Periods(
        **{
            field.name: shorter_period(getattr(one, field.name), getattr(other, field.name))
            for field in fields(Periods)
        }
    )


def _either(strict: Word, one: Word, other: Word) -> Word:
    return strict if strict in {one, other} else one
