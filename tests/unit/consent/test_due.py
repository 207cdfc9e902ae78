"""Who is to be asked, and who may still put it off; never that silence is a yes (R8, R10, R33)."""

import pytest

from chatproxy.consent.due import ChoiceDue, DueState, choice_due
from chatproxy.consent.events import PURPOSES, Choice, ConsentEvent
from chatproxy.consent.notices import NO_TERMS, Terms
from chatproxy.consent.person import PersonFacts
from chatproxy.model import ConversationTag
from chatproxy.policy.versions import PolicyVersion

DEADLINE = 300


def version(name: str, published_at: int, effective_at: int, *, material: bool = True) -> PolicyVersion:
    return PolicyVersion(
        version=name,
        published_at=published_at,
        effective_at=effective_at,
        sha256="0" * 64,
        material=material,
    )


FIRST = version("1", 100, 200, material=False)
SECOND = version("2", 1000, 1200)
SLIGHT = version("3", 2000, 2200, material=False)
TERMS = Terms(versions=(FIRST, SECOND, SLIGHT))


def chose(
    at: int,
    choice: Choice | None,
    about: PolicyVersion | None = FIRST,
    *,
    purposes: tuple[str, ...] = PURPOSES,
    conversation: ConversationTag | None = None,
) -> ConsentEvent:
    return ConsentEvent(
        at=at,
        choice=choice,
        by="test",
        method="test",
        purposes={
            purpose: choice is not None and choice.permits and purpose in purposes for purpose in PURPOSES
        },
        surfaces=("chat", "code"),
        receipt_id="",
        digest="",
        conversation=conversation,
        policy_version=None if about is None else about.version,
        policy_effective_at=None if about is None else about.effective_at,
    )


def due(now: int, *events: ConsentEvent, deadline: int | None = DEADLINE, terms: Terms = TERMS) -> ChoiceDue:
    return choice_due(PersonFacts(events, terms.versions), terms, now=now, deadline=deadline)


YES, NO, LATER = Choice.GIVEN, Choice.REFUSED, Choice.DEFERRED
SETTLED, DUE, DEFERRED, OVERDUE = DueState


@pytest.mark.parametrize(
    "now, events, state",
    [
        pytest.param(150, [], DUE, id="nobody has asked yet"),
        pytest.param(150, [chose(110, Choice.REQUESTED)], DUE, id="asked, and no answer"),
        pytest.param(150, [chose(110, LATER)], DEFERRED, id="put off"),
        pytest.param(150, [chose(110, LATER), chose(120, Choice.REQUESTED)], DEFERRED, id="put off, asked again"),
        pytest.param(150, [chose(50, LATER, None)], DUE, id="put off before there was anything to choose about"),
        pytest.param(299, [chose(110, LATER)], DEFERRED, id="a millisecond before the deadline"),
        pytest.param(300, [chose(110, LATER)], OVERDUE, id="put off until the deadline"),
        pytest.param(300, [], OVERDUE, id="silent until the deadline"),
        pytest.param(150, [chose(110, YES)], SETTLED, id="yes, before it takes effect"),
        pytest.param(999, [chose(110, YES)], SETTLED, id="yes, long ago"),
        pytest.param(999, [chose(110, NO)], SETTLED, id="no, long ago"),
        pytest.param(999, [chose(110, NO), chose(150, LATER)], SETTLED, id="no, whatever dialog was closed since"),
        pytest.param(999, [chose(110, YES), chose(400, Choice.WITHDRAWN)], SETTLED, id="withdrawn"),
        pytest.param(999, [chose(110, None)], SETTLED, id="a word of a later chatproxy"),
        pytest.param(999, [chose(110, YES), chose(400, Choice.EXPIRED)], OVERDUE, id="a yes that expired"),
        pytest.param(999, [chose(110, YES), chose(400, Choice.INVALIDATED)], OVERDUE, id="a yes that was void"),
        pytest.param(299, [chose(110, YES), chose(200, Choice.EXPIRED)], DUE, id="expired before the deadline"),
        pytest.param(999, [chose(110, YES, None)], SETTLED, id="yes, to a version that is not named"),
        pytest.param(
            999, [chose(110, NO, conversation=ConversationTag(b"C" * 16))], OVERDUE, id="one conversation excluded"
        ),
        # A material version is published at 1000 and takes effect at 1200.
        pytest.param(1000, [chose(110, YES)], DUE, id="yes to the first, second published"),
        pytest.param(1000, [chose(110, NO)], DUE, id="no to the first, second published"),
        pytest.param(1000, [chose(110, LATER)], DUE, id="put off the first, second published"),
        pytest.param(1000, [], DUE, id="never chosen, second published"),
        pytest.param(1100, [chose(110, YES), chose(1050, LATER, SECOND)], DEFERRED, id="put off the second"),
        pytest.param(1100, [chose(110, YES), chose(1050, LATER, None)], DEFERRED, id="put off what was shown"),
        pytest.param(1199, [chose(110, YES)], DUE, id="yes to the first, a millisecond before the second"),
        pytest.param(1200, [chose(110, YES)], OVERDUE, id="yes to the first, second in force"),
        pytest.param(1200, [chose(110, YES), chose(1050, LATER, SECOND)], OVERDUE, id="put off the second too long"),
        pytest.param(1200, [chose(110, NO)], SETTLED, id="no to the first stands"),
        pytest.param(1200, [chose(110, YES, purposes=())], SETTLED, id="yes to nothing is a no, and stands"),
        pytest.param(1200, [chose(110, Choice.WITHDRAWN)], SETTLED, id="so does a withdrawal"),
        pytest.param(1200, [chose(110, LATER)], OVERDUE, id="never chosen, second in force"),
        pytest.param(1100, [chose(1050, YES, SECOND)], SETTLED, id="yes to the second, before it takes effect"),
        pytest.param(1300, [chose(1050, YES, SECOND)], SETTLED, id="yes to the second"),
        pytest.param(1300, [chose(1250, YES, FIRST)], OVERDUE, id="yes to the first, on an old screen"),
        pytest.param(1300, [chose(1250, YES, None)], SETTLED, id="yes to what was in force"),
        # Another one at 2000, which is not material.
        pytest.param(2300, [chose(1050, YES, SECOND)], SETTLED, id="nothing material since the yes"),
        pytest.param(2300, [chose(1050, NO, SECOND)], SETTLED, id="nothing material since the no"),
        pytest.param(2100, [], OVERDUE, id="what is not material gives no more time"),
    ],
)  # fmt: skip
def test_how_it_stands(now: int, events: list[ConsentEvent], state: DueState) -> None:
    found = due(now, *events)

    assert found.state is state
    assert found.may_defer is (state in {DUE, DEFERRED})


def test_before_anything_is_published_nobody_is_asked() -> None:
    assert due(99) == ChoiceDue(state=SETTLED)
    assert due(99, deadline=50) == ChoiceDue(state=SETTLED)
    assert due(5000, terms=NO_TERMS) == ChoiceDue(state=SETTLED)


def test_without_a_deadline_the_choice_may_be_put_off_for_ever() -> None:
    assert due(9999, deadline=None).state is DUE
    assert due(9999, chose(1100, LATER, SECOND), deadline=None).state is DEFERRED
    assert due(9999, chose(110, YES), deadline=None).may_defer


def test_nobody_must_choose_about_what_is_not_in_force() -> None:
    assert due(199, deadline=150).state is DUE
    assert due(200, deadline=150).state is OVERDUE


@pytest.mark.parametrize("now, shown", [(150, "1"), (999, "1"), (1000, "2"), (2000, "3")])
def test_what_is_shown_is_the_latest_that_is_published(now: int, shown: str) -> None:
    for events in ([], [chose(110, NO)]):
        version = due(now, *events).version
        assert version is not None
        assert version.version == shown


def test_a_version_that_is_put_off_is_chosen_about_all_the_same() -> None:
    later = version("2", 1000, 1900)
    chosen = chose(1050, YES, SECOND)

    assert due(1950, chosen, terms=Terms(versions=(FIRST, later))).state is SETTLED
