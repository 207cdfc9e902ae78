from typing import Any

import pytest

from chatproxy.model import Age
from chatproxy.policy.engine import decide
from chatproxy.policy.facts import Facts, Lookup, Override
from chatproxy.policy.profile import STANDARD, STRICT, Periods
from chatproxy.policy.schema import decision_to_json, facts_from_json, profile_from_json
from unit.policy.builders import TURN, day

TIMES = {"turn_at": "2025-10-10T00:00:00Z", "now": "2025-10-11T00:00:00Z"}


def test_facts_not_stated_did_not_happen_or_are_not_known() -> None:
    assert Facts(turn_at=TURN, now=day(1)) == facts_from_json(TIMES)
    assert facts_from_json(TIMES | dict.fromkeys(("plan", "age", "lookup", "choices", "zdr", "origin"))) == (
        Facts(turn_at=TURN, now=day(1))
    )


def test_facts_not_stated_permit_nothing() -> None:
    decision = decide(facts_from_json(TIMES), STANDARD, Periods())

    assert (decision.stored, decision.reason) == (True, "PLAN_UNKNOWN")


@pytest.mark.parametrize(
    "field, word, meaning",
    [
        ("lookup", "pending", Lookup.FAILED),
        ("lookup", "OK", Lookup.FAILED),
        ("lookup", None, Lookup.FAILED),
        ("age", "adult", Age.ADULT),
        ("age", "17", Age.UNKNOWN),
        ("age", None, Age.UNKNOWN),
        ("override", None, Override.INHERIT),
        ("override", "Share", Override.EXCLUDE),
        ("override", "", Override.EXCLUDE),
    ],
)
def test_an_unknown_word_in_the_facts_falls_to_the_stricter_side(field: str, word: Any, meaning: Any) -> None:
    assert meaning is getattr(facts_from_json(TIMES | {field: word}), field)


def test_instants_are_read_in_any_offset_and_with_fractions() -> None:
    facts = facts_from_json(TIMES | {"turn_at": "2025-10-10T02:00:00.250+02:00"})

    assert facts.turn_at == TURN + 250


@pytest.mark.parametrize(
    "given, problem",
    [
        ([], "facts: must be an object"),
        (None, "facts: must be an object"),
        ({"now": TIMES["now"]}, r"facts\.turn_at: must be an RFC 3339 instant"),
        ({"turn_at": TIMES["now"]}, r"facts\.now: must be an RFC 3339 instant"),
        (TIMES | {"now": 1760054400}, r"facts\.now: must be an RFC 3339 instant"),
        (TIMES | {"now": "2025-02-29T00:00:00Z"}, r"facts\.now: must be an instant that exists"),
        (TIMES | {"flagged_at": True}, r"facts\.flagged_at: must be"),
        (TIMES | {"zdr": "yes"}, r"facts\.zdr: must be true or false"),
        (TIMES | {"incognito": 1}, r"facts\.incognito: must be true or false"),
        (TIMES | {"plan": 7}, r"facts\.plan: must be text or null"),
        (TIMES | {"lookup": False}, r"facts\.lookup: must be text or null"),
        (TIMES | {"choices": {}}, r"facts\.choices: must be a list"),
        (TIMES | {"choices": "given"}, r"facts\.choices: must be a list"),
        (TIMES | {"choices": [[TIMES["now"], "given"], ["given"]]}, r"facts\.choices\[1\]: must be a pair"),
        (TIMES | {"choices": [["given", TIMES["now"]]]}, r"facts\.choices\[0\]: must be an RFC 3339 instant"),
        (TIMES | {"choices": [[TIMES["now"], None]]}, r"facts\.choices\[0\]: must be a pair"),
        (TIMES | {"conv_activity": [TIMES["now"], None]}, r"facts\.conv_activity\[1\]: must be"),
        (TIMES | {"feedback": "thumbs"}, r"facts\.feedback: must be a pair"),
        (TIMES | {"feedback": []}, r"facts\.feedback: must be a pair"),
        (TIMES | {"delete_at": None}, r"facts: has no field 'delete_at'; there are account_deleted_at, "),
    ],
)
def test_malformed_facts_are_refused_by_the_name_of_the_field(given: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}"):
        facts_from_json(given)


@pytest.mark.parametrize(
    "given, expected",
    [
        ("standard", STANDARD),
        ("strict", STRICT),
        ({}, STANDARD),
        ({"name": None}, STANDARD),
        ({"name": "strict"}, STRICT),
    ],
)
def test_a_profile_is_named_and_its_missing_keys_are_of_that_name(given: Any, expected: Any) -> None:
    assert expected == profile_from_json(given)


def test_the_published_defaults_of_the_profiles() -> None:
    assert (
        STANDARD.resume_scope,
        STANDARD.on_withdraw,
        STANDARD.exempt_mode,
        STANDARD.unknown_age,
        STANDARD.flagged_capability,
        STANDARD.incognito_days,
    ) == ("whole_conversation", "shrink", "passthrough", "adult", "exclude", 30)
    assert (
        STRICT.resume_scope,
        STRICT.on_withdraw,
        STRICT.exempt_mode,
        STRICT.unknown_age,
        STRICT.flagged_capability,
        STRICT.incognito_days,
    ) == ("new_turns_only", "shrink", "passthrough", "ineligible", "exclude", 0)


def test_a_profile_of_its_own_name_falls_back_to_the_strict_one() -> None:
    profile = profile_from_json({"name": "acme", "resume_scope": "whole_conversation", "incognito_days": 7})

    assert (
        profile.name,
        profile.resume_scope,
        profile.unknown_age,
        profile.incognito_days,
    ) == ("acme", "whole_conversation", "ineligible", 7)


@pytest.mark.parametrize(
    "parameter, known, stricter",
    [
        ("resume_scope", "whole_conversation", "new_turns_only"),
        ("on_withdraw", "keep_quarantined", "shrink"),
        ("exempt_mode", "store_30d", "passthrough"),
        ("unknown_age", "adult", "ineligible"),
        ("flagged_capability", "allow", "exclude"),
    ],
)
def test_an_unknown_parameter_falls_to_the_stricter_side(parameter: str, known: str, stricter: str) -> None:
    assert known == getattr(profile_from_json({parameter: known}), parameter)
    assert stricter == getattr(profile_from_json({parameter: stricter}), parameter)
    for unknown in ("", "something else", known.upper(), None):
        assert stricter == getattr(profile_from_json({parameter: unknown}), parameter)


@pytest.mark.parametrize(
    "given, problem",
    [
        (None, "profile: must be an object"),
        (5, "profile: must be an object"),
        ("lenient", "profile: must be an object or one of standard, strict"),
        ({"name": 5}, r"profile\.name: must be text or null"),
        ({"resume_scope": 5}, r"profile\.resume_scope: must be text or null"),
        ({"incognito_days": -1}, r"profile\.incognito_days: must be a whole number"),
        ({"incognito_days": 1.5}, r"profile\.incognito_days: must be a whole number"),
        ({"incognito_days": True}, r"profile\.incognito_days: must be a whole number"),
        ({"incognito_days": None}, r"profile\.incognito_days: must be a whole number"),
        ({"consumer_plans": ["team"]}, "profile: has no field 'consumer_plans'"),
    ],
)
def test_a_malformed_profile_is_refused_by_the_name_of_the_field(given: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}"):
        profile_from_json(given)


def test_facts_in_any_year_that_can_be_written_have_an_outcome() -> None:
    for year in ("0001", "1970", "9999"):
        at = f"{year}-12-31T23:59:59Z"
        facts = facts_from_json(
            {"turn_at": at, "now": at, "plan": "pro", "age": "adult", "lookup": "ok"}
            | {"flagged_at": at, "feedback": [at, "bug"], "choices": [[at, "given"]]}
        )

        assert decision_to_json(decide(facts, profile_from_json({"incognito_days": 10**30}), Periods()))
        assert decide(facts, STANDARD, Periods()).stored
