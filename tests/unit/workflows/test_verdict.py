"""How a kept turn is shown before it is sealed anew: as decided now, and never looser than it is noted."""

from collections.abc import Mapping
from typing import Any

import pytest

from chatproxy.consent.events import (
    PURPOSES,
    SURFACES,
    Choice,
    ConsentEvent,
    FactEvent,
    FactKind,
    LedgerEvent,
    Scope,
)
from chatproxy.consent.person import PersonFacts
from chatproxy.model import Age, Caller, ConversationTag, Origin, TurnId
from chatproxy.policy.instants import format_instant
from chatproxy.policy.periods import DAY_MS
from chatproxy.settings import load_settings
from chatproxy.workflows.annotate import Eligible, GroupNote, group_note
from chatproxy.workflows.decide import Policy, TurnToDecide
from chatproxy.workflows.verdict import as_it_stands

SETTINGS = load_settings({}).settings
POLICY = Policy(SETTINGS.profile, SETTINGS.periods)
AT = 1_760_000_000_000
DAY, MONTH = DAY_MS, 30 * DAY_MS
CONVERSATION, TURN = ConversationTag(b"c" * 16), TurnId(b"t" * 16)
REVIEW = format_instant(AT + 4000 * DAY)


def chose(at: int, choice: Choice, *, about: ConversationTag | None = None) -> ConsentEvent:
    return ConsentEvent(
        at=at, choice=choice, by="t", method="t", surfaces=tuple(map(str, SURFACES)), receipt_id="r", digest=str(at),
        purposes=dict.fromkeys(PURPOSES, choice.permits), conversation=about,
    )  # fmt: skip


def happened(at: int, kind: FactKind, /, *, scope: Scope = Scope(), **details: Any) -> FactEvent:  # noqa: B008 - a value
    return FactEvent(at, kind, "t", "t", scope, details, str(at))


def a_turn(**caller: Any) -> TurnToDecide:
    return TurnToDecide(
        caller=Caller(subject="s", **{"plan": "pro", "age": Age.ADULT} | caller), received_at=AT,
        conversation=CONVERSATION, turn=TURN,
    )  # fmt: skip


def noted(*events: LedgerEvent, at: int = AT, part: Origin = Origin.TYPED) -> GroupNote:
    """How a turn is noted that was decided on at *at*, when these events had happened."""
    decision = POLICY.decide_part(a_turn(), part=part, now=at, person=PersonFacts(events))
    ends = max(decision.grounds.values())
    return group_note(decision, number=0, part=part, expires_at=ends, size=1)


def shown(before: GroupNote, *events: LedgerEvent, now: int) -> GroupNote:
    """How it is shown at *now*, when these have."""
    group = as_it_stands(before, a_turn(), policy=POLICY, person=PersonFacts(events), now=now)
    assert group is not None
    return group


YES, NO = chose(AT - 1, Choice.GIVEN), chose(AT + DAY, Choice.WITHDRAWN)
FLAG = happened(AT + 1, FactKind.FLAGGED, scope=Scope(turn=TURN))
LIFTED = happened(AT + DAY, FactKind.FLAG_LIFTED, scope=Scope(turn=TURN))
HOLD = happened(AT + 2, FactKind.HOLD_PLACED, case="c", authority="a", review_at=REVIEW)
RELEASED = happened(AT + DAY, FactKind.HOLD_RELEASED, case="c")
FEEDBACK = happened(AT + 1, FactKind.FEEDBACK_GIVEN, scope=Scope(CONVERSATION), kind="thumbs")
TAKEN_BACK = happened(AT + DAY, FactKind.FEEDBACK_WITHDRAWN, scope=Scope(CONVERSATION))
DELETED = happened(AT + DAY, FactKind.CONVERSATION_DELETED, scope=Scope(CONVERSATION))
EXCLUDED = chose(AT + 1, Choice.REFUSED, about=CONVERSATION)
INCLUDED = chose(AT + DAY, Choice.WITHDRAWN, about=CONVERSATION)


@pytest.mark.parametrize(
    "before, events, now, reason, also",
    [
        pytest.param(
            noted(HOLD, at=AT + 2), [HOLD], AT + 2 * MONTH, "LEGAL_HOLD_ONLY", ("LEGAL_HOLD",),
            id="only a hold keeps it by now",
        ),
        pytest.param(
            noted(YES, HOLD, at=AT + 2), [YES, HOLD], AT + 2 * MONTH, "ELIGIBLE_CONSENT", ("LEGAL_HOLD",),
            id="held and trained on",
        ),
        pytest.param(noted(), [HOLD], AT + DAY, "CONSENT_UNKNOWN", ("LEGAL_HOLD",), id="held since"),
        pytest.param(noted(HOLD, at=AT + 2), [HOLD, RELEASED], AT + 2 * DAY, "CONSENT_UNKNOWN", (), id="released since"),
        pytest.param(noted(), [chose(AT + 1, Choice.REFUSED)], AT + DAY, "CONSENT_REFUSED", (), id="refused since"),
        pytest.param(noted(), [chose(AT + 1, Choice.GIVEN)], AT + DAY, "NOT_RESUMED", (), id="agreed since"),
        pytest.param(noted(YES), [YES, NO], AT + 2 * DAY, "CONSENT_WITHDRAWN", (), id="withdrawn since"),
        pytest.param(noted(YES), [YES, DELETED], AT + 2 * DAY, "DELETED", (), id="deleted since"),
        pytest.param(
            noted(YES, FEEDBACK, at=AT + 1), [YES, FEEDBACK, TAKEN_BACK], AT + 2 * DAY, "ELIGIBLE_CONSENT", (),
            id="feedback taken back since",
        ),
        pytest.param(
            noted(FEEDBACK, at=AT + 1), [FEEDBACK], AT + 2 * MONTH, "CONSENT_UNKNOWN", ("FEEDBACK_EXPLICIT",),
            id="only feedback keeps it by now",
        ),
        pytest.param(noted(YES, FLAG), [YES, FLAG], AT + DAY, "SAFETY_REVIEW_HOLD", (), id="flagged since"),
        pytest.param(
            noted(FLAG, YES, at=AT + 1), [YES, FLAG], AT + 800 * DAY, "SAFETY_REVIEW_HOLD", (), id="safety period over"
        ),
    ],
)  # fmt: skip
def test_the_reason_is_the_one_of_now(
    before: GroupNote, events: list[LedgerEvent], now: int, reason: str, also: tuple[str, ...]
) -> None:
    group = shown(before, *events, now=now)

    assert (group.reason, group.also) == (reason, also)


@pytest.mark.parametrize(
    "before, events",
    [
        pytest.param(noted(YES, EXCLUDED, at=AT + 1), [YES, EXCLUDED, INCLUDED], id="included again"),
        pytest.param(noted(YES, FLAG, at=AT + 1), [YES, FLAG, LIFTED], id="flag lifted"),
        pytest.param(noted(), [chose(AT + DAY, Choice.GIVEN, about=CONVERSATION)], id="shared since"),
    ],
)
def test_what_would_be_brought_in_keeps_its_reason_until_it_is_noted(
    before: GroupNote, events: list[LedgerEvent]
) -> None:
    group = shown(before, *events, now=AT + 2 * DAY)

    assert (group.reason, group.eligible.capability) == (before.reason, False)
    assert set(group.grounds) <= set(before.grounds)


def test_nothing_that_happened_since_is_added() -> None:
    before = noted()
    group = shown(before, FEEDBACK, FLAG, now=AT + DAY)

    assert (group.grounds, group.eligible, group.also) == (before.grounds, Eligible(), ())


def test_a_yes_that_is_recorded_with_an_earlier_time_brings_nothing_in() -> None:
    assert shown(noted(), chose(AT - 1, Choice.GIVEN), now=AT + DAY).reason == "CONSENT_UNKNOWN"


def test_what_a_withdrawal_leaves_is_kept_as_what_it_leaves() -> None:
    group = shown(noted(YES), YES, NO, now=AT + 2 * DAY)

    assert group.grounds == {"SERVICE": AT + MONTH, "TRAIN_RESIDUE": AT + DAY + MONTH}


def test_no_ground_is_kept_for_longer_than_it_is_noted() -> None:
    before: Mapping[str, Any] = {
        "n": 0,
        "part": Origin.TYPED,
        "eligible": Eligible(),
        "reason": "CONSENT_UNKNOWN",
    }
    group = shown(
        GroupNote(**before, grounds={"SERVICE": AT + 5, "TRAIN": AT + 7}, expires_at=AT + 7, bytes=1),
        YES, NO, now=AT + 1,
    )  # fmt: skip

    assert group.grounds == {"SERVICE": AT + 5, "TRAIN": AT + 7}
    left = shown(
        GroupNote(**before, grounds={"TRAIN": AT + 2 * DAY}, expires_at=AT + 2 * DAY, bytes=1),
        YES, NO, now=AT + DAY,
    )  # fmt: skip
    assert left.grounds == {"TRAIN_RESIDUE": AT + 2 * DAY}


def test_a_choice_that_could_not_be_read_is_told_until_it_could() -> None:
    unread = happened(AT - 1, FactKind.CHOICES_UNREAD)
    decision = POLICY.decide_part(a_turn(), part=Origin.TYPED, now=AT, person=None)
    before = group_note(decision, number=0, part=Origin.TYPED, expires_at=AT + MONTH, size=1)

    assert before.reason == "CONSENT_LOOKUP_FAILED"
    assert shown(before, unread, now=AT + DAY).reason == "CONSENT_LOOKUP_FAILED"
    read = happened(AT + 1, FactKind.CHOICES_READ)
    assert shown(before, unread, read, now=AT + DAY).reason == "CONSENT_UNKNOWN"


def test_bytes_that_were_not_understood_are_no_connectors_data() -> None:
    before = noted(YES, part=Origin.RAW)

    assert (before.reason, shown(before, YES, now=AT + DAY).reason) == ("UNPARSED", "UNPARSED")


def test_what_nothing_keeps_is_not_shown() -> None:
    assert as_it_stands(noted(), a_turn(), policy=POLICY, person=PersonFacts(()), now=AT + MONTH) is None


def test_of_a_ledger_that_cannot_be_read_nothing_is_granted_and_nothing_erased() -> None:
    before = noted(YES)
    group = as_it_stands(before, a_turn(), policy=POLICY, person=None, now=AT + DAY)

    assert group is not None
    assert (group.grounds, group.eligible, group.reason) == (
        before.grounds,
        Eligible(),
        "CONSENT_LOOKUP_FAILED",
    )
    assert (withheld := as_it_stands(noted(), a_turn(), policy=POLICY, person=None, now=AT + DAY)) is not None
    assert withheld.reason == "CONSENT_UNKNOWN"
