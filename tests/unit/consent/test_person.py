"""What a ledger comes to, event by event."""

from typing import Any

import pytest

from chatproxy.consent.events import (
    CAPABILITY,
    PURPOSES,
    Choice,
    ConsentEvent,
    FactEvent,
    FactKind,
    LedgerEvent,
    Scope,
)
from chatproxy.consent.person import PersonFacts
from chatproxy.model import ConversationTag, Surface, TurnId
from chatproxy.policy.choices import Grant
from chatproxy.policy.facts import Override
from chatproxy.policy.instants import format_instant
from chatproxy.policy.versions import PolicyVersion

ONE, TWO = ConversationTag(b"1" * 16), ConversationTag(b"2" * 16)
TURN = TurnId(b"t" * 16)
CHAT, CODE = Surface.CHAT, Surface.CODE


def chose(
    at: int,
    choice: Choice | None,
    *,
    about: ConversationTag | None = None,
    purposes: tuple[str, ...] = PURPOSES,
    surfaces: tuple[Surface, ...] = (CHAT, CODE),
    effective_at: int | None = None,
) -> ConsentEvent:
    agreed = choice is not None and choice.permits
    return ConsentEvent(
        at=at, choice=choice, by="t", method="t", surfaces=tuple(map(str, surfaces)), receipt_id="r", digest=str(at),
        purposes={purpose: agreed and purpose in purposes for purpose in PURPOSES}, conversation=about,
        policy_effective_at=effective_at,
    )  # fmt: skip


def happened(
    at: int,
    kind: FactKind,
    /,
    *,
    about: ConversationTag | None = None,
    turn: TurnId | None = None,
    **details: Any,
) -> FactEvent:
    return FactEvent(at, kind, "t", "t", Scope(about, turn), details, str(at))


def person(*events: LedgerEvent, versions: tuple[PolicyVersion, ...] = ()) -> PersonFacts:
    return PersonFacts(events, versions)


def held(at: int, case: str, review: int, about: ConversationTag | None = None) -> FactEvent:
    return happened(at, FactKind.HOLD_PLACED, about=about, case=case, review_at=format_instant(review * 1000))


GIVEN, WITHDRAWN, REFUSED = Choice.GIVEN, Choice.WITHDRAWN, Choice.REFUSED


def test_a_deleted_account_ends_every_consent_before_and_after_it() -> None:
    facts = person(chose(10, GIVEN), happened(20, FactKind.ACCOUNT_DELETED))
    for surface in Surface:
        assert facts.choices(surface)[-1] == (20, "terminated")
    assert facts.grants(CHAT) == (Grant(10, 20, 20),)
    assert facts.open_grant_since(CHAT) is None
    again = person(*facts.events, chose(30, GIVEN))
    assert again.grants(CHAT)[-1] == Grant(30, None, None)
    assert again.open_grant_since(CHAT) == 30


@pytest.mark.parametrize(
    "events, override, at",
    [
        ([chose(10, GIVEN, about=ONE)], Override.SHARE, 10),
        ([chose(10, GIVEN, about=ONE), chose(20, GIVEN, about=ONE)], Override.SHARE, 10),
        (
            [chose(10, GIVEN, about=ONE), chose(15, WITHDRAWN), chose(20, GIVEN, about=ONE)],
            Override.SHARE,
            20,
        ),
        ([chose(10, GIVEN, about=ONE), chose(15, None), chose(20, GIVEN, about=ONE)], Override.SHARE, 20),
        (
            [chose(10, GIVEN, about=ONE), chose(15, Choice.DEFERRED), chose(20, GIVEN, about=ONE)],
            Override.SHARE,
            10,
        ),
        ([chose(10, GIVEN, about=ONE), chose(15, GIVEN), chose(20, GIVEN, about=ONE)], Override.SHARE, 10),
        (
            [
                chose(10, GIVEN, about=ONE),
                chose(15, GIVEN, purposes=("train.safety",)),
                chose(20, GIVEN, about=ONE),
            ],
            Override.SHARE,
            20,
        ),
        (
            [
                chose(10, GIVEN, about=ONE),
                happened(15, FactKind.ACCOUNT_DELETED),
                chose(20, GIVEN, about=ONE),
            ],
            Override.SHARE,
            20,
        ),
        ([chose(10, GIVEN, about=ONE), chose(20, REFUSED, about=ONE)], Override.EXCLUDE, 20),
        ([chose(10, GIVEN, about=ONE), chose(20, None, about=ONE)], Override.EXCLUDE, 20),
        ([chose(10, GIVEN, about=ONE, purposes=("train.safety",))], Override.EXCLUDE, 10),
        ([chose(10, REFUSED, about=ONE), chose(20, WITHDRAWN, about=ONE)], Override.INHERIT, None),
        ([chose(10, GIVEN, about=ONE), chose(20, WITHDRAWN, about=ONE)], Override.INHERIT, None),
        ([chose(10, Choice.DEFERRED, about=ONE)], Override.INHERIT, None),
        ([chose(10, GIVEN, about=TWO)], Override.INHERIT, None),
    ],
)
def test_a_choice_about_a_conversation_is_an_override(
    events: list[LedgerEvent], override: Override, at: int | None
) -> None:
    about = person(*events).about(ONE, TURN, received_at=0)
    assert (about.override, about.override_at) == (override, at)


def test_a_choice_about_a_conversation_is_none_about_the_account() -> None:
    facts = person(chose(10, GIVEN, about=ONE))
    assert facts.choices(CHAT) == ()


def test_the_first_deletion_that_is_not_older_than_the_turn_counts() -> None:
    facts = person(*(happened(at, FactKind.CONVERSATION_DELETED, about=ONE) for at in (10, 20, 30)))
    found = [facts.about(ONE, TURN, received_at=at).deleted_at for at in (5, 10, 11, 30, 31)]
    assert found == [10, 10, 20, 30, None]
    assert facts.about(TWO, TURN, received_at=5).deleted_at is None


def test_a_flag_is_of_one_turn_and_counts_from_its_first_time_until_it_is_lifted() -> None:
    twice = [happened(10, FactKind.FLAGGED, turn=TURN), happened(20, FactKind.FLAGGED, turn=TURN)]
    assert person(*twice).about(ONE, TURN, received_at=0).flagged_at == 10
    assert person(*twice).about(ONE, TurnId(b"u" * 16), received_at=0).flagged_at is None
    lifted = happened(30, FactKind.FLAG_LIFTED, turn=TURN)
    assert person(*twice, lifted).about(ONE, TURN, received_at=0).flagged_at is None


def test_the_first_feedback_that_keeps_for_long_counts_until_all_is_taken_back() -> None:
    given = [
        happened(at, FactKind.FEEDBACK_GIVEN, about=ONE, kind=kind)
        for at, kind in ((10, "rating_only"), (20, "session_share"), (30, "bug"), (40, "thumbs"))
    ]
    facts = person(*given)
    assert facts.about(ONE, TURN, received_at=0).feedback == (30, "bug")
    assert facts.about(ONE, TURN, received_at=35).feedback == (40, "thumbs")
    assert person(*given[:2]).about(ONE, TURN, received_at=0).feedback == (10, "rating_only")
    withdrawn = happened(50, FactKind.FEEDBACK_WITHDRAWN, about=ONE)
    assert person(*given, withdrawn).about(ONE, TURN, received_at=0).feedback is None


def test_a_hold_stands_from_its_first_time_to_its_last_review_and_holds_nothing_newer() -> None:
    facts = person(held(10, "a", 50), held(20, "a", 70), held(30, "b", 60, ONE))
    about = facts.about(ONE, TURN, received_at=5)
    assert (about.hold_at, about.hold_review_at) == (10, 70_000)
    about = facts.about(ONE, TURN, received_at=15)
    assert (about.hold_at, about.hold_review_at) == (30, 60_000)
    assert facts.about(TWO, TURN, received_at=15).hold_at is None
    assert facts.about(ONE, TURN, received_at=31).hold_at is None
    released = person(*facts.events, happened(40, FactKind.HOLD_RELEASED, case="a"))
    assert released.about(TWO, TURN, received_at=5).hold_at is None
    assert released.about(ONE, TURN, received_at=5).hold_at == 30
    assert released.has_holds
    # A release names case and scope: that of the account is not that of the conversation.
    assert person(*released.events, happened(50, FactKind.HOLD_RELEASED, case="b")).has_holds


def test_a_minor_is_one_in_every_conversation() -> None:
    facts = person(happened(10, FactKind.MINOR_FOUND))
    assert facts.about(None, None, received_at=100).is_minor
    assert person(*facts.events, chose(20, GIVEN, about=ONE)).about(ONE, TURN, received_at=0).is_minor


def test_without_permissions_every_no_stays() -> None:
    facts = person(
        chose(10, GIVEN),
        chose(20, WITHDRAWN),
        chose(30, GIVEN, about=ONE),
        chose(40, REFUSED, about=TWO),
        happened(50, FactKind.CONVERSATION_DELETED, about=ONE),
    ).without_permissions
    assert facts.choices(CHAT) == ((20, "withdrawn"),)
    assert facts.about(ONE, TURN, received_at=0).override is Override.INHERIT
    assert facts.about(TWO, TURN, received_at=0).override is Override.EXCLUDE
    assert facts.about(ONE, TURN, received_at=0).deleted_at == 50


def test_the_first_event_of_a_clock_ahead_is_when_the_facts_change() -> None:
    facts = person(chose(10, GIVEN), chose(20, WITHDRAWN), chose(30, GIVEN))
    assert [facts.changes_after(now) for now in (5, 10, 19, 30)] == [10, 20, 20, None]


def test_a_yes_for_safety_alone_is_no_grant() -> None:
    assert person(chose(10, GIVEN, purposes=("train.safety",))).grants(CHAT) == ()
    assert person(chose(10, GIVEN, purposes=(CAPABILITY,))).grants(CHAT) == (Grant(10, None, None),)
    assert person(chose(10, GIVEN, surfaces=(CODE,))).grants(CHAT) == ()


@pytest.mark.parametrize(
    "events, words",
    [
        ([chose(10, GIVEN), chose(20, GIVEN, surfaces=(CHAT,))], ["given", "withdrawn"]),
        ([chose(10, GIVEN), chose(20, Choice.RENEWED, surfaces=(CHAT,))], ["given", "withdrawn"]),
        ([chose(20, GIVEN, surfaces=(CHAT,))], []),
        ([chose(10, REFUSED), chose(20, GIVEN, surfaces=(CHAT,))], ["refused"]),
        ([chose(10, GIVEN), chose(15, WITHDRAWN), chose(20, GIVEN, surfaces=(CHAT,))], ["given", "withdrawn"]),
        (
            [chose(10, GIVEN), happened(15, FactKind.ACCOUNT_DELETED), chose(20, GIVEN, surfaces=(CHAT,))],
            ["given", "terminated"],
        ),
        (
            [chose(10, GIVEN), chose(15, Choice.DEFERRED), chose(20, GIVEN, surfaces=(CHAT,))],
            ["given", "deferred", "withdrawn"],
        ),
        (
            [chose(10, GIVEN), chose(20, GIVEN, surfaces=(CHAT,)), chose(30, GIVEN, surfaces=(CHAT,))],
            ["given", "withdrawn"],
        ),
        ([chose(10, GIVEN), chose(20, GIVEN, about=ONE, surfaces=(CHAT,))], ["given"]),
    ],
    ids=[
        "narrower", "renewed narrower", "the first", "after a no", "after a withdrawal", "after a deletion",
        "put off between", "narrower twice", "of a conversation",
    ],
)  # fmt: skip
def test_a_narrower_yes_ends_a_wider_one_where_it_leaves_it_out(
    events: list[LedgerEvent], words: list[str]
) -> None:
    assert [word for _, word in person(*events).choices(CODE)] == words


def test_what_a_narrower_yes_leaves_in_force_goes_on() -> None:
    facts = person(chose(10, GIVEN), chose(20, GIVEN, surfaces=(CHAT,)))
    assert facts.open_grant_since(CHAT) == 10
    assert facts.grants(CODE) == (Grant(10, 20, 20),)


@pytest.mark.parametrize(
    "narrower, at", [((CHAT,), 20), ((CHAT, CODE), 5)], ids=["narrower", "as wide as before"]
)
def test_a_share_that_a_narrower_yes_has_ended_begins_anew(narrower: tuple[Surface, ...], at: int) -> None:
    facts = person(
        chose(1, GIVEN),
        chose(5, GIVEN, about=ONE),
        chose(10, GIVEN, surfaces=narrower),
        chose(20, GIVEN, about=ONE),
    )
    assert facts.about(ONE, None, received_at=0).override_at == at


def test_a_share_after_the_account_was_deleted_is_not_ended_by_the_first_yes_after_it() -> None:
    facts = person(
        chose(1, GIVEN),
        happened(3, FactKind.ACCOUNT_DELETED),
        chose(5, GIVEN, about=ONE),
        chose(10, GIVEN, surfaces=(CHAT,)),
        chose(20, GIVEN, about=ONE),
    )
    assert facts.about(ONE, None, received_at=0).override_at == 5
