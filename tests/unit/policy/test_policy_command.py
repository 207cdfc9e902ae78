"""``chatproxy policy evaluate``: JSON lines in, JSON lines out."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from chatproxy.cli.policy import policy

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "policy_vectors.json").read_bytes()
)
CASE = VECTORS[0]


def evaluate(*lines: str | bytes) -> Result:
    given = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines)
    return CliRunner().invoke(policy, ["evaluate"], input=given)


def outcomes(result: Result) -> list[Any]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_every_vector_is_answered_in_order() -> None:
    result = evaluate(*(json.dumps(vector) for vector in VECTORS))

    assert [vector["expect"] for vector in VECTORS] == outcomes(result)
    assert (result.exit_code, result.stderr) == (0, "")


def test_no_input_is_no_output() -> None:
    result = evaluate()

    assert (result.exit_code, result.output) == (0, "")


def test_empty_lines_are_passed_over() -> None:
    result = evaluate("", json.dumps(CASE), "  ", json.dumps(CASE))

    assert [CASE["expect"]] * 2 == outcomes(result)


@pytest.mark.parametrize("profile", [{}, {"profile": None}, {"profile": {}}, {"profile": "standard"}])
def test_without_a_profile_the_standard_one_holds(profile: dict[str, Any]) -> None:
    given = next(vector for vector in VECTORS if vector["id"] == "V18")

    assert [given["expect"]] == outcomes(evaluate(json.dumps({"facts": given["facts"], **profile})))


def test_a_profile_can_be_named() -> None:
    given = next(vector for vector in VECTORS if vector["id"] == "V18")

    (outcome,) = outcomes(evaluate(json.dumps({"facts": given["facts"], "profile": "strict"})))
    assert not outcome["store"]


@pytest.mark.parametrize(
    "line, problem",
    [
        ("{", "not JSON"),
        (b"\xff", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "must be an object"),
        ("{}", "facts: must be an object"),
        (json.dumps({"facts": CASE["facts"] | {"now": "secret-canary"}}), "facts.now: must be"),
        (json.dumps({"facts": CASE["facts"], "profile": "lenient"}), "profile: must be"),
        (
            json.dumps({"facts": CASE["facts"], "profile": {"incognito_days": "7"}}),
            "profile.incognito_days: must be",
        ),
    ],
    ids=["cut", "not UTF-8", "deep", "a list", "no facts", "a field", "a name", "a parameter"],
)
def test_the_first_bad_line_ends_the_command_and_is_named(line: str | bytes, problem: str) -> None:
    result = evaluate(json.dumps(CASE), "", line, json.dumps(CASE))

    assert result.exit_code == 2
    assert [CASE["expect"]] == outcomes(result)
    assert f"line 3: {problem}" in result.stderr
    assert "secret-canary" not in result.output
