"""Step 2: what the choices come to. Instants are small numbers here; only their order matters."""

import itertools

import pytest

from chatproxy.policy.choices import Choices, Grant, Standing, read_choices

ALL_WORDS = (
    "given",
    "superseded",
    "expired",
    "refused",
    "withdrawn",
    "invalidated",
    "terminated",
    "something else",
)


@pytest.mark.parametrize(
    "choices, state, grants, revocations",
    [
        pytest.param([], None, [], [], id="none"),
        pytest.param(
            [(1, "requested"), (2, "deferred")], "deferred", [], [], id="undecided: the last says it"
        ),
        pytest.param(
            [(1, "deferred"), (2, "unknown")], "unknown", [], [], id="unknown matters while undecided"
        ),
        pytest.param([(1, "given")], "given", [Grant(1, None, None)], [], id="given opens"),
        pytest.param([(1, "renewed")], "renewed", [Grant(1, None, None)], [], id="renewed opens"),
        pytest.param(
            [(1, "given"), (2, "deferred")],
            "given",
            [Grant(1, None, None)],
            [],
            id="deferred after a decision",
        ),
        pytest.param([(1, "refused"), (2, "requested")], "refused", [], [1], id="requested after a no"),
        pytest.param(
            [(1, "superseded"), (2, "unknown")], "superseded", [], [], id="superseded is a decision"
        ),
        pytest.param(
            [(1, "given"), (2, "renewed")],
            "renewed",
            [Grant(1, None, None)],
            [],
            id="renewed inside changes nothing",
        ),
        pytest.param(
            [(1, "given"), (5, "withdrawn")], "withdrawn", [Grant(1, 5, 5)], [5], id="withdrawn revokes"
        ),
        pytest.param(
            [(1, "given"), (5, "superseded")],
            "superseded",
            [Grant(1, 5, None)],
            [],
            id="superseded does not revoke",
        ),
        pytest.param(
            [(1, "given"), (5, "superseded"), (9, "withdrawn")],
            "withdrawn",
            [Grant(1, 5, 9)],
            [9],
            id="superseded, then withdrawn",
        ),
        pytest.param(
            [
                (1, "given"),
                (3, "superseded"),
                (5, "given"),
                (7, "superseded"),
                (9, "renewed"),
                (11, "expired"),
            ],
            "expired",
            [Grant(1, 3, 11), Grant(5, 7, 11), Grant(9, 11, 11)],
            [11],
            id="a no revokes all versions",
        ),
        pytest.param(
            [(1, "given"), (5, "withdrawn"), (9, "given"), (12, "refused")],
            "refused",
            [Grant(1, 5, 5), Grant(9, 12, 12)],
            [5, 12],
            id="revoked once, from the first",
        ),
        pytest.param(
            [(1, "given"), (5, "withdrawn"), (9, "given")],
            "given",
            [Grant(1, 5, 5), Grant(9, None, None)],
            [5],
            id="a new yes leaves the old grant revoked",
        ),
        pytest.param([(1, "given"), (5, "???")], "???", [Grant(1, 5, 5)], [5], id="an unknown word revokes"),
        pytest.param(
            [(1, "given"), (1, "withdrawn")], "withdrawn", [], [1], id="an empty coverage is no grant"
        ),
        pytest.param(
            [(1, "given"), (1, "superseded")], "superseded", [], [], id="superseded as it was given"
        ),
        pytest.param(
            [(1, "given"), (5, "withdrawn"), (5, "renewed")],
            "withdrawn",
            [Grant(1, 5, 5)],
            [5],
            id="no beats yes at one instant",
        ),
        pytest.param(
            [(1, "given"), (5, "superseded"), (5, "renewed")],
            "superseded",
            [Grant(1, 5, None)],
            [],
            id="renewed at the instant of the new version is of the old one",
        ),
        pytest.param(
            [(1, "given"), (5, "refused"), (5, "superseded")],
            "refused",
            [Grant(1, 5, 5)],
            [5],
            id="superseded and refused at one instant",
        ),
    ],
)
def test_choices_come_to_a_standing(
    choices: list[tuple[int, str]], state: str | None, grants: list[Grant], revocations: list[int]
) -> None:
    for ordering in itertools.permutations(choices) if len(choices) < 5 else [choices, choices[::-1]]:
        assert Standing(state, tuple(grants), tuple(revocations)) == read_choices(ordering)


def test_a_persons_choices_are_read_once() -> None:
    choices = Choices([(1, "given"), (5, "withdrawn")])

    assert read_choices(list(choices)) == read_choices(choices)
    assert read_choices(choices) is read_choices(choices)


@pytest.mark.parametrize("earlier, later", list(itertools.pairwise(ALL_WORDS)))
def test_at_one_instant_the_stricter_word_has_the_last_say(earlier: str, later: str) -> None:
    assert later == read_choices([(1, later), (1, earlier)]).state
    assert later == read_choices([(1, earlier), (1, later)]).state


def test_coverage_has_its_beginning_and_not_its_end() -> None:
    grant = Grant(5, 9, None)

    assert [grant.covers(at) for at in (4, 5, 8, 9)] == [False, True, True, False]
    assert Grant(5, None, None).covers(10**15)
