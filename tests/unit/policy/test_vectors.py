"""The published sample of cases."""

import json
from pathlib import Path
from typing import Any

import pytest

from chatproxy.policy.engine import decide
from chatproxy.policy.profile import Periods
from chatproxy.policy.schema import (
    decision_to_json,
    facts_from_json,
    facts_to_json,
    profile_from_json,
    profile_to_json,
)

VECTORS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parents[2] / "vectors" / "policy_vectors.json").read_bytes()
)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['id']} {vector['what']}")
def test_a_vector_has_the_outcome_it_expects(vector: dict[str, Any]) -> None:
    decision = decide(facts_from_json(vector["facts"]), profile_from_json(vector["profile"]), Periods())

    assert vector["expect"] == decision_to_json(decision)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_facts_and_profile_of_a_vector_are_written_as_they_were_read(vector: dict[str, Any]) -> None:
    assert vector["facts"] == facts_to_json(facts_from_json(vector["facts"]))
    assert vector["profile"] == profile_to_json(profile_from_json(vector["profile"]))
