"""Rules and edges of the evaluation that the published sample of cases does not show. The turn is on day 0."""

from dataclasses import replace
from typing import Any

import pytest

from chatproxy.model import Age
from chatproxy.policy.facts import Lookup, Override
from chatproxy.policy.periods import DAY_MS, Period
from chatproxy.policy.profile import (
    STANDARD,
    STRICT,
    ExemptMode,
    FlaggedCapability,
    OnWithdraw,
    Periods,
    ResumeScope,
)
from unit.policy.builders import TURN, YEARS_2, YEARS_5, YEARS_7, day, decided, ends

MOMENT = 1 / DAY_MS
"""One millisecond, in days."""

GIVEN = {"choices": [(-40, "given")]}
REFUSED = {"choices": [(-40, "refused")]}
NEW_TURNS_ONLY = replace(STANDARD, resume_scope=ResumeScope.NEW_TURNS_ONLY)
KEEPING = replace(STANDARD, on_withdraw=OnWithdraw.KEEP_QUARANTINED)
STORING_EXEMPT = replace(STANDARD, exempt_mode=ExemptMode.STORE_30D)
SERVICE = {"SERVICE": 30.0}
TRAIN = {"TRAIN": float(YEARS_5)}


def row(
    name: str, reason: str, grounds: dict[str, float], /, *, profile: Any = STANDARD, **given: Any
) -> Any:
    return pytest.param(profile, given, reason, grounds, id=name)


# fmt: off
CASES = [
    # Step 1
    row("zdr beats an exempt plan", "ZDR_NO_STORE", {}, plan="team", zdr=True, profile=STORING_EXEMPT),
    row("zdr beats a minor", "ZDR_NO_STORE", {}, age=Age.MINOR, zdr=True),
    row("nothing of a minor, nor a hold", "AGE_INELIGIBLE", {}, age=Age.MINOR, hold_at=0, flagged_at=0),
    row("a minor on an unknown plan", "AGE_INELIGIBLE", {}, age=Age.MINOR, plan=None),
    row("nothing is held of an exempt plan", "PLAN_EXEMPT", {}, plan="work", hold_at=0, deleted_at=0),
    # Step 2 through to the reason
    row("a choice after now does not exist", "CONSENT_UNKNOWN", SERVICE, choices=[(2, "refused")]),
    row("a choice at now does", "CONSENT_REFUSED", SERVICE, choices=[(1, "refused")]),
    row("requested", "CONSENT_UNKNOWN", SERVICE, choices=[(-1, "requested")]),
    row("an unknown word", "CONSENT_UNKNOWN", SERVICE, choices=[(-2, "given"), (-1, "paused")]),
    row("expired", "CONSENT_EXPIRED", SERVICE, choices=[(-2, "given"), (-1, "expired")]),
    row("invalidated", "CONSENT_INVALIDATED", SERVICE, choices=[(-2, "given"), (-1, "invalidated")]),
    row("superseded without a grant", "CONSENT_STALE_VERSION", SERVICE, choices=[(-1, "superseded")]),
    # Step 3: coverage
    row("given at the turn", "ELIGIBLE_CONSENT", SERVICE | TRAIN, choices=[(0, "given")]),
    row("given a moment later", "NOT_RESUMED", SERVICE, choices=[(MOMENT, "given")]),
    row("withdrawn at the turn", "CONSENT_WITHDRAWN", SERVICE, choices=[(-9, "given"), (0, "withdrawn")]),
    row("withdrawn a moment later", "CONSENT_WITHDRAWN", SERVICE | {"TRAIN_RESIDUE": 30 + MOMENT}, choices=[(-9, "given"), (MOMENT, "withdrawn")]),
    row("superseded at the turn", "CONSENT_STALE_VERSION", SERVICE, choices=[(-9, "given"), (0, "superseded")]),
    row("superseded after the turn", "ELIGIBLE_PRIOR_VERSION", SERVICE | TRAIN, choices=[(-9, "given"), (0.5, "superseded")]),
    row("superseded, then withdrawn", "CONSENT_WITHDRAWN", {"TRAIN_RESIDUE": 230}, choices=[(-9, "given"), (100, "superseded"), (200, "withdrawn")], now=201),
    row("superseded, then refused, years later", "CONSENT_REFUSED", {"TRAIN_RESIDUE": float(YEARS_5)},
        choices=[(-9, "given"), (100, "superseded"), (YEARS_5 - 1, "refused")], now=YEARS_5 - 0.5),
    row("renewed after superseded, turn between: nothing reached it", "NOT_RESUMED", SERVICE, choices=[(-9, "given"), (-1, "superseded"), (0.5, "renewed")]),
    # Step 3: resumed
    row("resumed at the consent", "ELIGIBLE_RESUMED", SERVICE | TRAIN, choices=[(9, "given")], conv_activity=[9], now=10),
    row("activity before the consent", "NOT_RESUMED", SERVICE, choices=[(9, "given")], conv_activity=[8], now=10),
    row("activity after now", "NOT_RESUMED", SERVICE, choices=[(9, "given")], conv_activity=[11], now=10),
    row("activity at the withdrawal resumes nothing", "CONSENT_WITHDRAWN", SERVICE, choices=[(5, "given"), (9, "withdrawn")], conv_activity=[9], now=10),
    row("resumed, then withdrawn", "CONSENT_WITHDRAWN", SERVICE | {"TRAIN_RESIDUE": 39}, choices=[(5, "given"), (9, "withdrawn")], conv_activity=[8, 6], now=10),
    row("the first activity resumes, however they are listed", "ELIGIBLE_RESUMED", TRAIN, choices=[(9, "given")], conv_activity=[40, 20], now=50),
    row("activity under a grant that ended before the turn", "CONSENT_WITHDRAWN", SERVICE, choices=[(-9, "given"), (-3, "withdrawn")], conv_activity=[-5]),
    row("resumed a moment before it was gone", "ELIGIBLE_RESUMED", TRAIN, choices=[(9, "given")], conv_activity=[30 - MOMENT], now=40),
    row("resumed when it was gone", "EXPIRED", {}, choices=[(9, "given")], conv_activity=[30, 31], now=40),
    row("resumed out of the residue", "ELIGIBLE_RESUMED", TRAIN, choices=[(-9, "given"), (100, "withdrawn"), (110, "given")], conv_activity=[129], now=200),
    row("the residue was gone", "EXPIRED", {}, choices=[(-9, "given"), (100, "withdrawn"), (110, "given")], conv_activity=[130], now=200),
    row("the residue had years under quarantine", "ELIGIBLE_RESUMED", TRAIN,
        choices=[(-9, "given"), (100, "withdrawn"), (110, "given")], conv_activity=[1000], now=1001, profile=KEEPING),
    row("feedback alone does not let a turn be resumed", "NOT_RESUMED", {"FEEDBACK": YEARS_5 + 1},
        choices=[(9, "given")], feedback=(1, "thumbs"), conv_activity=[31], now=40),
    row("a flag alone does not let a turn be shared", "CONSENT_UNKNOWN", {"SAFETY_IO": YEARS_2}, flagged_at=1, share=31, now=40),
    # Step 3: new turns only
    row("would have been resumed", "PRE_CONSENT_TURN", SERVICE, choices=[(9, "given")], conv_activity=[10], now=11, profile=NEW_TURNS_ONLY),
    row("not taken up again, strict", "NOT_RESUMED", SERVICE, choices=[(9, "given")], now=11, profile=NEW_TURNS_ONLY),
    row("taken up when it was kept for feedback alone, strict", "NOT_RESUMED", {"FEEDBACK": YEARS_5 + 1},
        choices=[(9, "given")], conv_activity=[31], feedback=(1, "bug"), now=40, profile=NEW_TURNS_ONLY),
    row("of a grant that is closed nothing is noted", "NOT_RESUMED", SERVICE,
        choices=[(3, "given"), (5, "superseded"), (9, "given")], conv_activity=[4], now=10, profile=NEW_TURNS_ONLY),
    row("of a revoked grant nothing is kept, strict", "CONSENT_WITHDRAWN", SERVICE,
        choices=[(3, "given"), (5, "withdrawn")], conv_activity=[4], now=10, profile=NEW_TURNS_ONLY),
    row("history sent again is pre-consent in any case, strict (R13)", "PRE_CONSENT_TURN", SERVICE, origin="history", profile=NEW_TURNS_ONLY, **GIVEN),
    row("history sent again, standard", "ELIGIBLE_CONSENT", SERVICE | TRAIN, origin="history", **GIVEN),
    # Trainable
    row("age unknown, standard", "ELIGIBLE_CONSENT", SERVICE | TRAIN, age=Age.UNKNOWN, **GIVEN),
    row("age unknown, strict", "AGE_UNVERIFIED", SERVICE, age=Age.UNKNOWN, profile=STRICT, **GIVEN),
    row("a plan in both lists is exempt", "PLAN_EXEMPT", SERVICE, **GIVEN, profile=replace(STORING_EXEMPT, exempt_plans=frozenset({"pro"}))),
    row("exempt that stores, with consent", "PLAN_EXEMPT", SERVICE, plan="team", profile=STORING_EXEMPT, **GIVEN),
    row("any other signal grants nothing and takes nothing", "ELIGIBLE_CONSENT", SERVICE | TRAIN, signal="gpc", **GIVEN),
    # Order of the reasons of a conversation
    row("incognito before excluded", "INCOGNITO", SERVICE, incognito=True, override=Override.EXCLUDE),
    row("excluded before signal", "CONV_EXCLUDED", SERVICE, override=Override.EXCLUDE, signal="train-ai=n"),
    row("signal before age", "SIGNAL_OPT_OUT", SERVICE, signal="train-ai=n", age=Age.UNKNOWN, profile=STRICT),
    row("age before lookup", "AGE_UNVERIFIED", SERVICE, age=Age.UNKNOWN, lookup=Lookup.FAILED, profile=STRICT),
    row("unknown plan before incognito", "PLAN_UNKNOWN", SERVICE, plan=None, incognito=True),
    row("exclusion dated after now holds", "CONV_EXCLUDED", SERVICE, override=Override.EXCLUDE, override_at=9, **GIVEN),
    # Lookup
    row("failed, nothing chosen", "CONSENT_LOOKUP_FAILED", SERVICE, lookup=Lookup.FAILED),
    row("failed in an unknown way", "CONSENT_LOOKUP_FAILED", SERVICE, lookup="pending", **GIVEN),
    row("stale, nothing chosen", "CONSENT_UNKNOWN", SERVICE, lookup=Lookup.STALE),
    row("stale, superseded", "CONSENT_CACHE_STALE", SERVICE, lookup=Lookup.STALE, choices=[(-9, "given"), (-1, "superseded")]),
    row("stale, renewed", "CONSENT_CACHE_STALE", SERVICE, lookup=Lookup.STALE, choices=[(-9, "renewed")]),
    row("stale, refused, but shared", "CONSENT_CACHE_STALE", SERVICE, lookup=Lookup.STALE, share=0.5, **REFUSED),
    row("stale, share ended", "CONSENT_REFUSED", SERVICE, lookup=Lookup.STALE, share=0, choices=[(0.5, "refused")]),
    row("stale, share of unknown time ended", "CONSENT_REFUSED", SERVICE, lookup=Lookup.STALE, share=None, **REFUSED),
    row("stale, share after now", "CONSENT_REFUSED", SERVICE, lookup=Lookup.STALE, share=2, **REFUSED),
    # Share
    row("shared before the turn", "ELIGIBLE_CONV_SHARE", SERVICE | TRAIN, share=-1, **REFUSED),
    row("shared, nothing chosen", "ELIGIBLE_CONV_SHARE", SERVICE | TRAIN, share=None),
    row("shared after now is not shared", "CONSENT_REFUSED", SERVICE, share=2, **REFUSED),
    row("share before consent in reason", "ELIGIBLE_CONV_SHARE", SERVICE | TRAIN, share=0, **GIVEN),
    row("shared and refused at one instant", "CONSENT_REFUSED", SERVICE, share=0.5, choices=[(0.5, "refused")]),
    row("share ended at the turn", "CONSENT_REFUSED", SERVICE, share=-1, choices=[(0, "refused")]),
    row("share ended before the turn", "CONSENT_REFUSED", SERVICE, share=-2, choices=[(-1, "refused")]),
    row("share not ended by superseded", "ELIGIBLE_CONV_SHARE", SERVICE | TRAIN, share=0, choices=[(0.5, "superseded")]),
    row("share not ended by deferred", "ELIGIBLE_CONV_SHARE", SERVICE | TRAIN, share=0, choices=[(0.5, "deferred")]),
    row("an ended share stays ended", "NOT_RESUMED", SERVICE | {"TRAIN_RESIDUE": 32}, share=1, choices=[(2, "refused"), (3, "given")], now=4),
    row("ended share, quarantine", "CONSENT_REFUSED", {"TRAIN_RESIDUE": float(YEARS_5)}, share=1, choices=[(2, "refused")], now=40, profile=KEEPING),
    row("share ended after the grant", "CONSENT_REFUSED", {"TRAIN_RESIDUE": 50}, share=10, choices=[(-9, "given"), (5, "withdrawn"), (20, "refused")], now=40),
    row("a share when the turn was gone", "EXPIRED", {}, share=30, now=31),
    row("shared after the grant was superseded", "ELIGIBLE_CONV_SHARE", TRAIN, share=50, choices=[(-9, "given"), (40, "superseded")], now=60),
    row("new turns only does not bind a share", "ELIGIBLE_CONV_SHARE", SERVICE | TRAIN, share=1, now=2, profile=NEW_TURNS_ONLY),
    row("a share and its account deleted before the turn", "CONSENT_TERMINATED", SERVICE, share=-3, account_deleted_at=-2),
    # Flag
    row("flagged before the turn", "CONSENT_UNKNOWN", SERVICE | {"SAFETY_IO": YEARS_2}, flagged_at=-1),
    row("flagged after now", "CONSENT_UNKNOWN", SERVICE, flagged_at=2),
    row("flagged when the turn was gone", "EXPIRED", {}, flagged_at=30, now=31),
    row("flagged after two years of training", "ELIGIBLE_CONSENT", TRAIN, flagged_at=YEARS_2, now=YEARS_2 + 1, **GIVEN),
    row("flagged on an exempt plan that stores", "PLAN_EXEMPT", SERVICE, plan="team", flagged_at=0, profile=STORING_EXEMPT),
    row("flagged on an unknown plan", "PLAN_UNKNOWN", SERVICE | {"SAFETY_IO": YEARS_2}, plan=None, flagged_at=0),
    row("flagged, review over, capability waits still", "SAFETY_REVIEW_HOLD", TRAIN, flagged_at=0, now=YEARS_2, **GIVEN),
    row("flagged, capability allowed", "ELIGIBLE_CONSENT", SERVICE | TRAIN | {"SAFETY_IO": YEARS_2},
        flagged_at=0, profile=replace(STANDARD, flagged_capability=FlaggedCapability.ALLOW), **GIVEN),
    row("incognito unstored, flagged before it was answered", "INCOGNITO", {"SAFETY_IO": YEARS_2}, incognito=True, flagged_at=0, profile=STRICT),
    row("incognito unstored, flagged later", "INCOGNITO", {}, incognito=True, flagged_at=MOMENT, profile=STRICT),
    # Feedback
    row("feedback before the turn", "CONSENT_UNKNOWN", SERVICE, feedback=(-MOMENT, "thumbs")),
    row("feedback at the turn", "CONSENT_UNKNOWN", SERVICE | {"FEEDBACK": YEARS_5}, feedback=(0, "feedback")),
    row("feedback after now", "CONSENT_UNKNOWN", SERVICE, feedback=(2, "thumbs")),
    row("feedback a moment before it was gone", "CONSENT_UNKNOWN", {"FEEDBACK": YEARS_5 + 30 - MOMENT}, feedback=(30 - MOMENT, "share"), now=31),
    row("feedback does not revive", "EXPIRED", {}, feedback=(30, "thumbs"), now=31),
    row("session share, 180 days", "CONSENT_REFUSED", SERVICE | {"SESSION_SHARE": 181}, feedback=(1, "session_share"), now=2, **REFUSED),
    row("feedback of an unknown kind", "CONSENT_UNKNOWN", SERVICE, feedback=(1, "stars"), now=2),
    row("feedback on incognito", "INCOGNITO", SERVICE | {"FEEDBACK": YEARS_5 + 1}, incognito=True, feedback=(1, "bug"), now=2),
    row("incognito unstored, feedback later", "INCOGNITO", {}, incognito=True, feedback=(1, "bug"), now=2, profile=STRICT),
    row("feedback keeps a turn there to be flagged", "CONSENT_UNKNOWN", {"FEEDBACK": YEARS_5 + 1, "SAFETY_IO": YEARS_2}, feedback=(1, "bug"), flagged_at=100, now=101),
    # Connector
    row("connector, not eligible anyway", "CONSENT_REFUSED", SERVICE, origin="connector_raw", **REFUSED),
    row("connector, stale", "CONSENT_CACHE_STALE", SERVICE, origin="connector_raw", lookup=Lookup.STALE, **GIVEN),
    row("connector, flagged", "PART_CONNECTOR_RAW", SERVICE | {"SAFETY_IO": YEARS_2}, origin="connector_raw", flagged_at=0, **GIVEN),
    row("connector, shared", "PART_CONNECTOR_RAW", SERVICE, origin="connector_raw", share=0),
    row("connector, feedback", "CONSENT_UNKNOWN", SERVICE, origin="connector_raw", feedback=(1, "thumbs"), now=2),
    row("connector, resumed when it was gone", "EXPIRED", {},
        origin="connector_raw", now=40, choices=[(-9, "given"), (1, "withdrawn"), (2, "given")], conv_activity=[20]),
    row("connector, flagged when only the typed parts were there", "EXPIRED", {}, origin="connector_raw", flagged_at=40, now=41, **GIVEN),
    row("connector, pre-consent", "PRE_CONSENT_TURN", SERVICE, origin="connector_raw", now=11, choices=[(9, "given")], conv_activity=[10], profile=NEW_TURNS_ONLY),
    row("connector, past the training period", "PART_CONNECTOR_RAW", {"SAFETY_IO": YEARS_2}, origin="connector_raw", flagged_at=0, now=600, **GIVEN),
    # Deletion
    row("deleted before the turn", "CONSENT_UNKNOWN", SERVICE, deleted_at=-MOMENT),
    row("deleted at the turn", "DELETED", SERVICE, deleted_at=0),
    row("deleted after now", "CONSENT_UNKNOWN", SERVICE, deleted_at=2),
    row("account deleted at the turn", "ACCOUNT_DELETED", SERVICE, account_deleted_at=0, **GIVEN),
    row("account deleted revokes", "ACCOUNT_DELETED", {"TRAIN_RESIDUE": 130}, account_deleted_at=100, now=101, **GIVEN),
    row("account deleted under quarantine: the limit is the deletion", "ACCOUNT_DELETED", {"TRAIN_RESIDUE": 130},
        account_deleted_at=100, now=101, profile=KEEPING, **GIVEN),
    row("both deleted: the first counts, the account is named", "ACCOUNT_DELETED", {"TRAIN_RESIDUE": 80}, deleted_at=50, account_deleted_at=60, now=61, **GIVEN),
    row("account deleted before the turn, conversation after", "DELETED", SERVICE, deleted_at=0.5, account_deleted_at=-1),
    row("deleted on an unknown plan", "DELETED", SERVICE, plan=None, deleted_at=0.5),
    row("deleted incognito, unstored", "DELETED", {}, incognito=True, deleted_at=0.5, profile=STRICT),
    row("flagged at the deletion", "DELETED", SERVICE | {"SAFETY_IO": YEARS_2}, flagged_at=1, deleted_at=1),
    row("flagged after the deletion", "DELETED", SERVICE, flagged_at=1 + MOMENT, deleted_at=1, now=2),
    row("feedback after the deletion", "DELETED", SERVICE, feedback=(2, "bug"), deleted_at=1, now=3),
    row("taken up after the deletion", "EXPIRED", {}, deleted_at=5, choices=[(6, "given")], conv_activity=[7], now=36),
    row("shared after the deletion", "DELETED", SERVICE, deleted_at=0.3, share=0.5),
    row("deleted, connector", "DELETED", SERVICE, deleted_at=0.5, origin="connector_raw", **GIVEN),
    row("deleted and gone", "EXPIRED", {}, deleted_at=5, now=35, **GIVEN),
    # What is live
    row("expired at its end", "EXPIRED", {}, now=30),
    row("a moment before its end", "CONSENT_UNKNOWN", SERVICE, now=30 - MOMENT),
    row("training over, feedback live", "TRAIN_PERIOD_OVER", {"FEEDBACK": YEARS_5 + 1}, feedback=(1, "bug"), now=YEARS_5, **GIVEN),
    row("expired on an exempt plan", "PLAN_EXEMPT", {}, plan="team", now=30, profile=STORING_EXEMPT),
    row("expired on an unknown plan", "EXPIRED", {}, plan=None, now=30),
    row("expired for a connector", "EXPIRED", {}, origin="connector_raw", now=30, **GIVEN),
    # Held
    row("held at its last moment", "LEGAL_HOLD_ONLY", SERVICE, hold_at=30 - MOMENT, now=99),
    row("a hold at its end", "EXPIRED", {}, hold_at=30, now=99),
    row("a hold before the turn", "EXPIRED", {}, hold_at=-1, now=99),
    row("a hold before the turn, flagged before that", "EXPIRED", {}, flagged_at=-2, hold_at=-1, now=999),
    row("a hold at the turn", "LEGAL_HOLD_ONLY", SERVICE, hold_at=0, now=99),
    row("a hold after now", "CONSENT_UNKNOWN", SERVICE, hold_at=2),
    row("a hold between service and feedback", "LEGAL_HOLD_ONLY", {"SERVICE": 30.0, "FEEDBACK": YEARS_5 + 1}, feedback=(1, "bug"), hold_at=99, now=3000),
    row("held, and in part ended", "ELIGIBLE_CONSENT", SERVICE | TRAIN, hold_at=1, now=40, **GIVEN),
    row("held, training over", "TRAIN_PERIOD_OVER", SERVICE | TRAIN | {"FEEDBACK": YEARS_5 + 1}, hold_at=1, feedback=(1, "bug"), now=YEARS_5, **GIVEN),
    row("held in the residue that training took over", "ELIGIBLE_RESUMED", SERVICE | TRAIN,
        hold_at=115, choices=[(-9, "given"), (100, "withdrawn"), (110, "given")], conv_activity=[120], now=121),
    row("held beyond the deletion", "LEGAL_HOLD_ONLY", {"SERVICE": 30.0, "TRAIN": 35}, deleted_at=5, hold_at=34, now=99, **GIVEN),
    row("a hold when the deletion was done", "EXPIRED", {}, deleted_at=5, hold_at=35, now=99, **GIVEN),
    row("a hold revives nothing to be flagged", "LEGAL_HOLD_ONLY", SERVICE, hold_at=1, flagged_at=40, now=99),
    row("held on an exempt plan that stores", "LEGAL_HOLD_ONLY", SERVICE, plan="team", hold_at=1, now=99, profile=STORING_EXEMPT),
    row("a hold on incognito, unstored", "INCOGNITO", {}, incognito=True, hold_at=0, profile=STRICT),
]
# fmt: on


@pytest.mark.parametrize("profile, given, reason, grounds", CASES)
def test_facts_have_a_reason_and_grounds(
    profile: Any, given: Any, reason: str, grounds: dict[str, float]
) -> None:
    decision = decided(profile, **given)

    assert (reason, grounds) == (decision.reason, ends(decision))
    assert decision.eligible_capability == reason.startswith("ELIGIBLE_")
    assert decision.held == ("LEGAL_HOLD" in decision.also)
    assert decision.stored == bool(grounds)
    if decision.held:
        assert decision.expires_at is None
    else:
        assert decision.expires_at == max(decision.grounds.values(), default=None)


@pytest.mark.parametrize(
    "event",
    [
        {"choices": [(2, "given")]},
        {"share": 2},
        {"flagged_at": 2},
        {"feedback": (2, "thumbs")},
        {"deleted_at": 2},
        {"account_deleted_at": 2},
        {"hold_at": 2},
    ],
    ids=str,
)
def test_what_is_still_to_come_counts_for_nothing(event: Any) -> None:
    assert decided(now=1) == decided(now=1, **event)


def test_what_else_keeps_a_part_is_told_in_a_fixed_order_and_the_hold_last() -> None:
    decision = decided(feedback=(0.1, "bug"), flagged_at=0.2, hold_at=0.3)

    assert decision.also == ("FEEDBACK_EXPLICIT", "SAFETY_FLAG", "LEGAL_HOLD")
    assert (
        decision.eligible_feedback,
        decision.eligible_safety,
        decision.eligible_capability,
    ) == (True, True, False)


def test_a_session_share_is_told_and_is_eligible_for_nothing() -> None:
    decision = decided(feedback=(0.1, "session_share"), flagged_at=0.2)

    assert decision.also == ("SESSION_SHARE_NO_TRAIN", "SAFETY_FLAG")
    assert not decision.eligible_feedback


def test_what_a_hold_alone_keeps_is_of_no_use() -> None:
    decision = decided(feedback=(0.1, "bug"), flagged_at=0.2, hold_at=0.3, now=4000, **GIVEN)

    assert {"SERVICE", "TRAIN", "FEEDBACK", "SAFETY_IO"} == set(decision.grounds)
    assert decision.also == ("LEGAL_HOLD",)
    assert not decision.eligible_feedback
    assert not decision.eligible_safety


@pytest.mark.parametrize(
    "given, score_end",
    [
        ({"flagged_at": 0.5}, YEARS_7 + 0.5),
        ({"flagged_at": -2}, YEARS_7 - 2),
        ({"flagged_at": 0.5, "now": 100, "deleted_at": 1}, YEARS_7 + 0.5),
        ({"flagged_at": 0.5, "now": YEARS_7}, YEARS_7 + 0.5),
        ({"flagged_at": 0.5, "now": YEARS_7 + 0.5}, None),
        ({"flagged_at": 31, "now": 32}, None),
        ({"flagged_at": 0.5, "plan": "team"}, None),
        ({}, None),
    ],
    ids=[
        "flagged",
        "before the turn",
        "deleted",
        "transcript gone",
        "past",
        "turn was gone",
        "exempt",
        "no flag",
    ],
)
def test_a_score_lives_seven_years_from_the_flag_where_safety_counted(
    given: Any, score_end: float | None
) -> None:
    decision = decided(**given)

    assert decision.score_expires_at == (None if score_end is None else day(score_end))


@pytest.mark.parametrize(
    "incognito_days, periods, end",
    [
        (30, Periods(), 30),
        (7, Periods(), 7),
        (99, Periods(), 30),
        (30, Periods(incognito=Period(ms=3 * DAY_MS)), 3),
        (30, Periods(service=Period(ms=5 * DAY_MS)), 5),
        (60, Periods(service=Period(ms=90 * DAY_MS), incognito=Period(ms=90 * DAY_MS)), 60),
    ],
)
def test_incognito_ends_with_the_shortest_of_its_limits(
    incognito_days: int, periods: Periods, end: int
) -> None:
    decision = decided(replace(STANDARD, incognito_days=incognito_days), periods, incognito=True)

    assert day(end) == decision.expires_at


def test_an_incognito_period_of_none_stores_nothing() -> None:
    assert not decided(STANDARD, Periods(incognito=Period()), incognito=True).stored


@pytest.mark.parametrize(
    "given, ground, end",
    [
        ({}, "SERVICE", 2),
        (GIVEN, "TRAIN", 3),
        ({"flagged_at": 0.5}, "SAFETY_IO", 4),
        ({"feedback": (0.5, "bug")}, "FEEDBACK", 5.5),
        ({"feedback": (0.5, "session_share")}, "SESSION_SHARE", 6.5),
        ({"choices": [(-1, "given"), (0.5, "withdrawn")]}, "TRAIN_RESIDUE", 1.75),
    ],
)
def test_each_ground_has_a_period_of_its_own(given: Any, ground: str, end: float) -> None:
    periods = Periods(
        service=Period(ms=2 * DAY_MS),
        training=Period(ms=3 * DAY_MS),
        safety=Period(ms=4 * DAY_MS),
        feedback=Period(ms=5 * DAY_MS),
        session_share=Period(ms=6 * DAY_MS),
        withdrawn=Period(ms=DAY_MS * 5 // 4),
    )

    assert end == ends(decided(STANDARD, periods, **given))[ground]


def test_a_score_has_a_period_of_its_own() -> None:
    periods = Periods(safety_score=Period(ms=DAY_MS))

    assert day(1.5) == decided(STANDARD, periods, flagged_at=0.5).score_expires_at


@pytest.mark.parametrize("service_days, end", [(30, 130), (90, 130), (7, 107)])
def test_a_deletion_takes_30_days_at_most_and_the_service_period_if_shorter(
    service_days: int, end: int
) -> None:
    periods = Periods(service=Period(ms=service_days * DAY_MS))

    assert day(end) == decided(STANDARD, periods, deleted_at=100, now=101, **GIVEN).expires_at


def test_no_grace_after_a_withdrawal_ends_training_data_at_once() -> None:
    periods = Periods(withdrawn=Period())
    given: Any = {"choices": [(-9, "given"), (100, "withdrawn")]}

    assert day(YEARS_5) == decided(STANDARD, periods, now=100 - MOMENT, **given).expires_at
    assert decided(STANDARD, periods, now=100, **given).reason == "EXPIRED"


def test_a_turn_received_after_now_is_a_turn() -> None:
    assert decided(now=-1).expires_at == TURN + 30 * DAY_MS
