"""What two policies both allow: never longer and never more than either, whatever the facts (`policy apply`)."""

from dataclasses import fields, replace

import hypothesis.strategies as st
from hypothesis import example, given

from chatproxy.policy.engine import decide
from chatproxy.policy.facts import Facts
from chatproxy.policy.periods import DAY_MS, Period, parse_duration, shorter_period
from chatproxy.policy.profile import STANDARD, Periods, Profile, shorter_periods, stricter_profile
from chatproxy.workflows.decide import Policy
from properties.test_policy_invariants import facts_of, instants, kept_until, profiles

PLANS = ["pro", "free", "team", "api", "???"]
DAYS = ["0d", "1d", "29d", "30d", "31d", "365d", "366d", "730d", "731d", "1825d", "1826d", "1827d", "2557d"]
written = st.sampled_from([*DAYS, "1y", "2y", "5y", "7y"]).map(parse_duration)
any_periods = st.builds(Periods, **{field.name: written for field in fields(Periods)})
any_profiles = st.builds(
    lambda profile, consumer, exempt, name: replace(
        profile, consumer_plans=consumer, exempt_plans=exempt, name=name
    ),
    profiles,
    st.frozensets(st.sampled_from(PLANS)),
    st.frozensets(st.sampled_from(PLANS)),
    st.sampled_from(["standard", "strict", "ours", "a+b"]),
)
policies = st.builds(Policy, any_profiles | profiles, any_periods | st.just(Periods()))
starts = st.integers(0, 200 * 366).map(lambda days: days * DAY_MS) | instants


@given(facts_of(), policies, policies)
def test_both_together_keep_no_longer_and_grant_no_more_than_either(
    facts: Facts, one: Policy, other: Policy
) -> None:
    both = one.and_as_strict_as(other)
    merged = decide(facts, both.profile, both.periods)

    for policy in (one, other):
        alone = decide(facts, policy.profile, policy.periods)
        assert kept_until(merged) <= kept_until(alone)
        assert merged.stored <= alone.stored
        assert merged.eligible_capability <= alone.eligible_capability
        assert merged.eligible_safety <= alone.eligible_safety
        assert merged.eligible_feedback <= alone.eligible_feedback
        assert (merged.score_expires_at or 0) <= (alone.score_expires_at or 0)


@given(policies, policies)
def test_what_was_applied_once_is_not_changed_by_applying_it_again(one: Policy, other: Policy) -> None:
    both = one.and_as_strict_as(other)

    assert both.and_as_strict_as(other).digest == both.digest
    assert both.and_as_strict_as(one).digest == both.digest
    assert Policy.from_document(both.document).digest == both.digest


@given(written | st.builds(Period, years=st.integers(0, 9)), written, starts)
@example(Period(years=5), Period(ms=1826 * DAY_MS), 1_677_628_800_000)
@example(Period(years=5), Period(ms=1827 * DAY_MS), 0)
@example(Period(years=1), Period(ms=365 * DAY_MS), 1_704_067_200_000)
def test_the_shorter_period_is_so_whenever_it_begins(one: Period, other: Period, at: int) -> None:
    for shorter in (shorter_period(one, other), shorter_period(other, one)):
        assert shorter.after(at) <= min(one.after(at), other.after(at))
        assert (
            min(one.length, other.length) - shorter.length <= (max(one.years, other.years) // 4 + 1) * DAY_MS
        )


@given(policies)
def test_a_policy_is_as_strict_as_itself(policy: Policy) -> None:
    assert policy.and_as_strict_as(policy).digest == policy.digest


def test_a_policy_that_is_the_stricter_already_keeps_its_name() -> None:
    looser = Profile(name="ours", incognito_days=31)

    assert stricter_profile(STANDARD, looser) == STANDARD
    assert stricter_profile(looser, STANDARD) == STANDARD


def test_a_policy_made_of_two_is_named_after_both_once() -> None:
    one = Profile(name="a", incognito_days=3)
    other = Profile(name="b", consumer_plans=frozenset({"pro"}))
    both = stricter_profile(one, other)

    assert (both.name, stricter_profile(both, other).name) == ("a+b", "a+b")
    assert stricter_profile(both, Profile(name="b", exempt_plans=frozenset({"x"}))).name == "a+b"


def test_each_period_is_merged() -> None:
    days = [Period(ms=number * DAY_MS) for number in range(1, 9)]
    one = Periods(**{field.name: day for field, day in zip(fields(Periods), days, strict=True)})

    assert shorter_periods(one, Periods()) == one
    assert shorter_periods(Periods(), one) == one
