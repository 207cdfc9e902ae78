"""The outside's words become facts: what is unknown or failed falls to the stricter side."""

import msgspec
import pytest

from chatproxy.model import Age, Caller, Origin, Surface
from chatproxy.policy.engine import Decision
from chatproxy.policy.reasons import Reason
from chatproxy.settings import load_settings
from chatproxy.workflows.decide import NOBODY, Policy, TurnToDecide, circumstances, part_class, public_reason

SETTINGS = load_settings({}).settings
POLICY = Policy(SETTINGS.profile, SETTINGS.periods)
NOW = 1_760_000_000_000


@pytest.mark.parametrize(
    "caller, reason",
    [
        (Caller(subject="s", plan="pro"), None),
        (Caller(), None),
        (Caller(subject="s", plan="team"), Reason.PLAN_EXEMPT),
        (Caller(subject="s", plan="pro", zdr=True), Reason.ZDR_NO_STORE),
        (Caller(subject="s", plan="pro", age=Age.MINOR), Reason.AGE_INELIGIBLE),
        (Caller(subject="s", plan="pro", incognito=True), None),
    ],
)
def test_what_is_never_kept_is_known_before_a_choice_is_read(caller: Caller, reason: Reason | None) -> None:
    assert POLICY.never_kept(caller) is reason


def test_incognito_for_no_time_is_never_kept() -> None:
    periods = load_settings({"CHATPROXY_RETENTION_INCOGNITO": "0"}).settings.periods
    assert Policy(SETTINGS.profile, periods).never_kept(Caller(subject="s", plan="pro", incognito=True))


def test_a_ledger_that_cannot_be_read_counts_as_failed() -> None:
    decision = POLICY.decide_part(
        TurnToDecide(caller=Caller(subject="s", plan="pro"), received_at=NOW),
        part=Origin.TYPED,
        now=NOW,
        person=None,
    )
    assert (decision.reason, decision.eligible_capability) == (Reason.CONSENT_LOOKUP_FAILED, False)


@pytest.mark.parametrize("origin", Origin)
def test_only_raw_parts_are_sealed_apart(origin: Origin) -> None:
    apart = {Origin.CONNECTOR_RAW, Origin.RAW}
    assert part_class(origin) is (origin if origin in apart else Origin.TYPED)


@pytest.mark.parametrize("reason", [Reason.AGE_INELIGIBLE, Reason.AGE_UNVERIFIED, Reason.SAFETY_REVIEW_HOLD])
def test_reasons_of_age_and_safety_are_not_told(reason: Reason) -> None:
    assert public_reason(reason) == "NOT_ELIGIBLE"
    assert public_reason(Reason.CONSENT_REFUSED) == "CONSENT_REFUSED"


def test_a_caller_is_asked_about_by_value_and_not_by_who_it_is() -> None:
    caller = Caller(subject="s", plan="team")
    assert POLICY.never_kept(msgspec.structs.replace(caller, subject="t")) is Reason.PLAN_EXEMPT


def test_what_is_tried_again_is_decided_for_both_times() -> None:
    def decided(*, received_at: int, tried_again_at: int | None = None) -> Decision:
        caller = Caller(subject="s", plan="pro")
        turn = TurnToDecide(caller=caller, received_at=received_at, tried_again_at=tried_again_at)
        return POLICY.decide_part(turn, part=Origin.TYPED, now=NOW, person=NOBODY)

    once, later = decided(received_at=NOW - 5), decided(received_at=NOW)
    assert decided(received_at=NOW - 5, tried_again_at=NOW).expires_at == once.expires_at
    assert decided(received_at=NOW, tried_again_at=NOW - 5).expires_at == once.expires_at
    assert later.expires_at != once.expires_at


def test_whatever_the_policy_goes_by_of_a_caller_is_among_the_circumstances() -> None:
    callers = [
        Caller(),
        Caller(plan="pro"),
        Caller(surface=Surface.CODE),
        Caller(age=Age.ADULT),
        Caller(zdr=True),
        Caller(incognito=True),
        Caller(train_ai_no=True),
        Caller(gpc=True),
    ]
    assert len(set(map(circumstances, callers))) == len(callers)
    assert circumstances(Caller(subject="ana", tenant="t", conversation="c")) == circumstances(Caller())
