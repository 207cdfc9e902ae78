"""The rules of config/alerts.yml name metrics that exist, with labels and values that they have, and hold together."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from chatproxy.telemetry import Metrics, TurnOutcome

FILE = Path(__file__).parent.parent.parent / "config" / "alerts.yml"
TEXT = FILE.read_text(encoding="utf-8")
RULES = TEXT.split("      - alert: ")[1:]


def fields(rule: str) -> dict[str, str]:
    """Return the fields of a rule, as this file writes them: one a line."""
    return dict(re.findall(r"(?m)^ +(expr|for|labels|summary|action): (.+)$", rule))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.splitlines()[0])
def test_a_rule_says_what_is_wrong_how_bad_it_is_and_what_to_do(rule: str) -> None:
    found = fields(rule)

    assert set(found) - {"for"} == {"expr", "labels", "summary", "action"}
    assert re.fullmatch(r"\{severity: (page|ticket)\}", found["labels"])
    assert re.fullmatch(r"[0-9]+[smhd]", found.get("for", "1m"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.splitlines()[0])
def test_a_rule_asks_for_metrics_that_there_are(rule: str) -> None:
    samples = {
        name: metric
        for metric in Metrics().registry.collect()
        for name in ([f"{metric.name}_total"] if metric.type == "counter" else [metric.name])
    }

    named = re.findall(r"(chatproxy_\w+)(?:\{(\w+)(?:=|!=)\"(\w+)\"\})?", fields(rule)["expr"])

    assert named
    for name, label, value in named:
        assert name in samples
        if label == "outcome" and name == "chatproxy_turns_total":
            assert value in set(TurnOutcome)


def test_names_are_different() -> None:
    names = [rule.splitlines()[0] for rule in RULES]
    assert len(set(names)) == len(names) > 15


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_takes_them() -> None:
    tool = shutil.which("promtool")
    assert tool is not None
    checked = subprocess.run([tool, "check", "rules", FILE], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
