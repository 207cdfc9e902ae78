"""The invariants of the policy (I1 to I8, M1/M2, T1), over arbitrary facts.

Instants are drawn from a few days that matter, and moments around them, so that events meet at one instant often.
"""

from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
from hypothesis import event, given
from msgspec.structs import replace

from chatproxy.model import Age
from chatproxy.policy.engine import Decision, decide
from chatproxy.policy.facts import TRAIN_AI_NO, Facts, Lookup, Override
from chatproxy.policy.grounds import Ground
from chatproxy.policy.periods import DAY_MS, Period
from chatproxy.policy.profile import (
    STANDARD,
    STRICT,
    ExemptMode,
    FlaggedCapability,
    OnWithdraw,
    Periods,
    Profile,
    ResumeScope,
    UnknownAge,
)
from chatproxy.policy.reasons import Reason

TURN = 1_709_208_000_000
"""2024-02-29T12:00:00Z, so that years and leap days matter."""
NEAR_DAYS = [-31, -30, -2, -1, 0, 1, 2, 5, 29, 30, 31, 35, 60, 61]
FAR_DAYS = [-400, 180, 200, 730, 731, 800, 1825, 1826, 1827, 2557, 4000]
FOREVER = 2**63
EVER = Periods()


def instants_on(days: Sequence[int]) -> st.SearchStrategy[int]:
    moments = st.sampled_from([0, 0, 0, -1, 1])
    return st.builds(lambda day, moment: TURN + day * DAY_MS + moment, st.sampled_from(days), moments)


instants = instants_on(NEAR_DAYS + FAR_DAYS)
near_instants = instants | instants_on(NEAR_DAYS)
maybe = st.none() | instants
since_turn = instants.map(lambda at: max(at, TURN))
words = st.sampled_from(
    [
        "given",
        "given",
        "given",
        "renewed",
        "superseded",
        "superseded",
        "withdrawn",
        "withdrawn",
        "refused",
        "expired",
        "terminated",
        "invalidated",
        "deferred",
        "requested",
        "unknown",
        "paused",
    ]
)
profiles = st.sampled_from([STANDARD, STRICT]) | st.builds(
    Profile,
    resume_scope=st.sampled_from(ResumeScope),
    on_withdraw=st.sampled_from(OnWithdraw),
    exempt_mode=st.sampled_from(ExemptMode),
    unknown_age=st.sampled_from(UnknownAge),
    flagged_capability=st.sampled_from(FlaggedCapability),
    incognito_days=st.sampled_from([0, 1, 29, 30, 31]),
)


def facts_of(**narrowed: st.SearchStrategy[Any]) -> st.SearchStrategy[Facts]:
    """Return facts that often lead somewhere: mostly adults on consumer plans with a good lookup."""
    strategies: dict[str, st.SearchStrategy[Any]] = {
        "turn_at": st.just(TURN),
        "now": instants,
        "plan": st.sampled_from(["pro", "pro", "pro", "free", "team", "api", "???", None]),
        "age": st.sampled_from([Age.ADULT, Age.ADULT, Age.ADULT, Age.UNKNOWN, Age.MINOR]),
        "conv_activity": st.lists(near_instants, max_size=3).map(tuple),
        "choices": st.lists(st.tuples(near_instants, words), max_size=6).map(tuple),
        "lookup": st.sampled_from([Lookup.OK, Lookup.OK, Lookup.OK, Lookup.STALE, Lookup.FAILED]),
        "incognito": st.sampled_from([False, False, False, True]),
        "zdr": st.sampled_from([False] * 7 + [True]),
        "override": st.sampled_from([Override.INHERIT, Override.INHERIT, Override.SHARE, Override.EXCLUDE]),
        "override_at": maybe,
        "signal": st.sampled_from([None, None, None, TRAIN_AI_NO, "gpc"]),
        "flagged_at": st.none() | maybe,
        "feedback": st.none()
        | st.tuples(instants, st.sampled_from(["thumbs", "bug", "session_share", "rating_only", "stars"])),
        "deleted_at": st.none() | st.none() | maybe,
        "account_deleted_at": st.none() | st.none() | maybe,
        "hold_at": st.none() | st.none() | maybe,
        "origin": st.sampled_from(["typed", "typed", "connector_raw", "connector_pasted", "history"]),
    }
    return st.builds(Facts, **(strategies | narrowed))


NOTHING = st.none()


def kept_until(decision: Decision) -> int:
    """Return when the part is gone as far as is known now; forever while it is held."""
    if decision.held:
        return FOREVER
    return decision.expires_at or 0


def deletions_so_far(facts: Facts) -> list[int]:
    return [
        at
        for at in (facts.deleted_at, facts.account_deleted_at)
        if at is not None and TURN <= at <= facts.now
    ]


@given(facts_of(), profiles)
def test_i1_i2_what_is_eligible_may_be(facts: Facts, profile: Profile) -> None:
    decision = decide(facts, profile, EVER)

    event(decision.reason)
    assert decision.eligible_capability == decision.reason.startswith("ELIGIBLE_")
    if decision.eligible_capability:
        assert facts.plan in profile.consumer_plans
        assert facts.age != Age.MINOR
        assert not facts.incognito
        assert not facts.zdr
        assert not deletions_so_far(facts)
        assert facts.origin != "connector_raw"
        assert decision.stored
        assert decision.grounds[Ground.TRAIN] > facts.now


@given(facts_of(), profiles)
def test_i3_eligible_by_account_is_by_a_consent_that_stands(facts: Facts, profile: Profile) -> None:
    decision = decide(facts, profile, EVER)

    if decision.eligible_capability:
        assert facts.lookup == Lookup.OK
        if decision.reason != Reason.ELIGIBLE_CONV_SHARE:
            decided = [
                (at, word)
                for at, word in facts.choices
                if at <= facts.now and word not in {"deferred", "requested", "unknown"}
            ]
            last_at = max(at for at, _ in decided)
            assert {word for at, word in decided if at == last_at} <= {"given", "renewed", "superseded"}


@given(facts_of(), profiles)
def test_i4_a_no_for_this_conversation_or_request_is_a_no(facts: Facts, profile: Profile) -> None:
    if facts.override == Override.EXCLUDE or facts.signal == TRAIN_AI_NO:
        assert not decide(facts, profile, EVER).eligible_capability


@given(
    facts_of(
        choices=st.lists(
            st.tuples(instants, words.filter(lambda word: word not in {"given", "renewed"}))
        ).map(tuple),
        override=st.sampled_from([Override.INHERIT, Override.EXCLUDE]),
        flagged_at=NOTHING,
        feedback=NOTHING,
        hold_at=NOTHING,
    ),
    profiles,
)
def test_i5_without_consent_a_turn_is_gone_in_30_days(facts: Facts, profile: Profile) -> None:
    assert kept_until(decide(facts, profile, EVER)) <= TURN + 30 * DAY_MS


@given(facts_of(feedback=NOTHING, hold_at=NOTHING), profiles)
def test_i6_a_turn_is_gone_in_5_years(facts: Facts, profile: Profile) -> None:
    assert kept_until(decide(facts, profile, EVER)) <= Period(years=5).after(TURN)


@given(
    facts_of(deleted_at=since_turn, flagged_at=NOTHING, feedback=NOTHING, hold_at=NOTHING, now=since_turn),
    profiles,
)
def test_i7_what_is_deleted_is_gone_in_30_days(facts: Facts, profile: Profile) -> None:
    deletions = deletions_so_far(facts)

    if deletions:
        assert kept_until(decide(facts, profile, EVER)) <= min(deletions) + 30 * DAY_MS


@given(facts_of(), profiles)
def test_i8_what_is_stored_has_not_expired(facts: Facts, profile: Profile) -> None:
    decision = decide(facts, profile, EVER)

    assert decision.stored == (kept_until(decision) > facts.now)
    assert decision.stored == bool(decision.grounds)
    if not decision.held:
        assert all(end > facts.now for end in decision.grounds.values())
        assert decision.expires_at == max(decision.grounds.values(), default=None)


def restrictions(facts: Facts, at: int) -> list[Facts]:
    """Return *facts* with one thing more that speaks against keeping or using."""
    restricted = [
        replace(facts, incognito=True),
        replace(facts, override=Override.EXCLUDE),
        replace(facts, signal=TRAIN_AI_NO),
        replace(facts, lookup=Lookup.FAILED),
        replace(facts, lookup=Lookup.STALE),
        replace(facts, age=Age.MINOR),
        replace(facts, origin="connector_raw"),
    ]
    if facts.deleted_at is None:
        restricted.append(replace(facts, deleted_at=at))
    if facts.account_deleted_at is None:
        restricted.append(replace(facts, account_deleted_at=at))
    return restricted


@given(facts_of(), profiles, instants)
def test_m1_m2_a_restriction_grants_nothing_and_lengthens_nothing(
    facts: Facts, profile: Profile, at: int
) -> None:
    before = decide(facts, profile, EVER)

    for restricted in restrictions(facts, at):
        after = decide(restricted, profile, EVER)
        assert kept_until(after) <= kept_until(before)
        assert after.eligible_capability <= before.eligible_capability
        assert after.eligible_safety <= before.eligible_safety
        assert after.eligible_feedback <= before.eligible_feedback


@given(facts_of(lookup=st.just(Lookup.OK)), profiles, since_turn, since_turn)
def test_t1_gone_stays_gone(facts: Facts, profile: Profile, one: int, other: int) -> None:
    # Events between the two instants are among the facts: they do not exist yet at the first one.
    first, second = sorted((one, other))

    if not decide(replace(facts, now=first), profile, EVER).stored:
        assert not decide(replace(facts, now=second), profile, EVER).stored


@given(facts_of(), profiles, st.randoms(use_true_random=False))
def test_the_order_in_which_events_are_listed_does_not_matter(
    facts: Facts, profile: Profile, random: Any
) -> None:
    # Words that share a rank at one instant are told apart by nothing but their order as recorded.
    ranked = dict(facts.choices)
    choices = list(ranked.items())
    activity = list(facts.conv_activity)
    recorded = replace(facts, choices=tuple(choices))
    random.shuffle(choices)
    random.shuffle(activity)

    assert decide(recorded, profile, EVER) == decide(
        replace(facts, choices=tuple(choices), conv_activity=tuple(activity)), profile, EVER
    )


@given(facts_of(), profiles)
def test_what_comes_after_now_changes_nothing(facts: Facts, profile: Profile) -> None:
    assert decide(facts, profile, EVER) == decide(facts.as_of_now(), profile, EVER)


@given(facts_of(), profiles)
def test_a_connector_part_has_the_reason_of_the_part_typed(facts: Facts, profile: Profile) -> None:
    raw = decide(replace(facts, origin="connector_raw"), profile, EVER)
    typed = decide(replace(facts, origin="typed"), profile, EVER)

    if raw.stored and not raw.held and raw.reason != typed.reason:
        assert raw.reason == Reason.PART_CONNECTOR_RAW
        assert typed.reason.startswith("ELIGIBLE_") or typed.reason == Reason.SAFETY_REVIEW_HOLD
