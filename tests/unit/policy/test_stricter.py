"""Two decisions on one part make one that permits no more than either."""

import pytest

from chatproxy.policy.engine import Decision
from chatproxy.policy.grounds import Ground
from chatproxy.policy.reasons import Reason
from chatproxy.policy.stricter import stricter

YES = Decision(
    stored=True,
    grounds={Ground.SERVICE: 30, Ground.TRAIN: 500},
    expires_at=500,
    eligible_capability=True,
    eligible_safety=True,
    eligible_feedback=True,
    reason=Reason.ELIGIBLE_CONSENT,
)
NO = Decision(stored=True, grounds={Ground.SERVICE: 35}, expires_at=35, reason=Reason.CONSENT_REFUSED)
NOTHING = Decision(stored=False, reason=Reason.ZDR_NO_STORE)


@pytest.mark.parametrize("pair", [(YES, NO), (NO, YES)], ids=["no again", "no first"])
def test_a_no_at_either_time_is_a_no_to_the_earlier_end(pair: tuple[Decision, Decision]) -> None:
    both = stricter(*pair)
    assert both == Decision(
        stored=True, grounds={Ground.SERVICE: 30}, expires_at=30, reason=Reason.CONSENT_REFUSED
    )


@pytest.mark.parametrize("pair", [(YES, NOTHING), (NOTHING, YES), (NOTHING, NOTHING)])
def test_what_may_not_be_kept_at_either_time_is_not_kept(pair: tuple[Decision, Decision]) -> None:
    assert stricter(*pair) == NOTHING


def test_two_that_agree_stay_as_they_are() -> None:
    assert stricter(YES, YES) == YES


def test_without_a_ground_in_common_nothing_is_kept() -> None:
    other = Decision(stored=True, grounds={Ground.SAFETY_IO: 9}, expires_at=9, reason=Reason.CONSENT_REFUSED)
    assert (stricter(NO, other).stored, stricter(NO, other).expires_at) == (False, None)
