"""Every code has a sentence and a rule, and they are those that the codes themselves name."""

import ast
import inspect
import re

import pytest

from chatproxy.policy import reasons
from chatproxy.policy.grounds import Ground
from chatproxy.policy.reasons import Reason
from chatproxy.policy.rules import GROUNDS, REASONS
from chatproxy.workflows.annotate import UNPARSED


def documented() -> dict[str, str]:
    """Return what is written below each member of Reason."""
    [enum] = [node for node in ast.parse(inspect.getsource(reasons)).body if isinstance(node, ast.ClassDef)]
    found = {}
    for member, text in zip(enum.body, enum.body[1:], strict=False):
        if isinstance(member, ast.Assign) and isinstance(member.targets[0], ast.Name):
            assert isinstance(text, ast.Expr)
            found[member.targets[0].id] = ast.literal_eval(text.value)
    return found


def test_every_reason_and_every_ground_has_a_meaning_and_no_other() -> None:
    assert set(REASONS) == {*Reason, UNPARSED}
    assert set(GROUNDS) == set(Ground)


@pytest.mark.parametrize("code", REASONS)
def test_a_meaning_is_a_sentence_with_rules(code: str) -> None:
    meaning = REASONS[code]
    assert re.fullmatch(r"[A-Z].*\.", meaning.sentence)
    assert meaning.rules
    assert all(re.fullmatch(r"R\d+", rule) for rule in meaning.rules)


@pytest.mark.parametrize("code", Reason)
def test_the_rules_are_those_that_the_code_is_documented_with(code: Reason) -> None:
    named = re.findall(r"R\d+", documented()[code])
    assert set(named) <= set(REASONS[code].rules)
