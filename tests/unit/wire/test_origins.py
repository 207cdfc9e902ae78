"""The result of a tool has the origin of the tool (R25)."""

import pytest

from chatproxy.model import Origin
from chatproxy.wire.base import OriginRules
from chatproxy.wire.origins import Origins

RULES = OriginRules(connector_tools=("mcp__*", "drive"))


@pytest.mark.parametrize(
    "tool, origin",
    [
        ("mcp__x__y", Origin.CONNECTOR_RAW),
        ("drive", Origin.CONNECTOR_RAW),
        ("Drive", Origin.TOOL_RESULT),
        ("drive2", Origin.TOOL_RESULT),
        ("", Origin.TOOL_RESULT),
    ],
)
def test_a_tool_is_a_connector_by_its_name(tool: str, origin: Origin) -> None:
    origins = Origins(RULES)
    origins.learn([("id", tool)])

    assert origins.of_tool(tool) is origin
    assert origins.of_result("id") is origin


def test_a_result_whose_call_is_nowhere_is_a_connectors() -> None:
    assert Origins(RULES).of_result("lost") is Origin.CONNECTOR_RAW


def test_a_result_may_name_its_tool_itself() -> None:
    assert Origins(RULES).of_result("lost", tool="weather") is Origin.TOOL_RESULT
    assert Origins(RULES).of_result("lost", tool="drive") is Origin.CONNECTOR_RAW


def test_what_the_call_says_wins_over_what_the_result_says() -> None:
    origins = Origins(RULES)
    origins.learn([("id", "drive")])

    assert origins.of_result("id", tool="weather") is Origin.CONNECTOR_RAW


def test_without_connectors_nothing_is_one() -> None:
    assert Origins(OriginRules(connector_tools=())).of_result("lost") is Origin.TOOL_RESULT


def test_an_id_used_again_means_the_later_call() -> None:
    origins = Origins(RULES)
    origins.learn([("0", "drive")])
    origins.learn([("0", "weather")])

    assert origins.of_result("0") is Origin.TOOL_RESULT


@pytest.mark.parametrize("names", [("drive", "weather"), ("weather", "drive")])
def test_of_one_id_for_two_calls_in_one_message_the_stricter_origin_counts(names: tuple[str, str]) -> None:
    origins = Origins(RULES)
    origins.learn([("", name) for name in names])

    assert origins.of_result("") is Origin.CONNECTOR_RAW
