"""Facts about a turn on day 0, in days counted from it, so that a table row reads like the rule it checks."""

from typing import Any

from chatproxy.model import Age
from chatproxy.policy.engine import Decision, decide
from chatproxy.policy.facts import Facts, Lookup, Override
from chatproxy.policy.instants import parse_instant
from chatproxy.policy.periods import DAY_MS
from chatproxy.policy.profile import STANDARD, Periods, Profile

TURN = parse_instant("2025-10-10T00:00:00Z")
YEARS_2 = 730
YEARS_5 = 1826
"""From 2025-10-10 to 2030-10-10 there is one 29 February."""
YEARS_7 = 2557


def day(number: float) -> int:
    return TURN + round(number * DAY_MS)


def facts(**given: Any) -> Facts:
    """Return facts of an adult on a consumer plan; instants are given in days from the turn."""
    values: dict[str, Any] = {
        "plan": "pro",
        "age": Age.ADULT,
        "lookup": Lookup.OK,
        "turn_at": TURN,
        "now": day(given.pop("now", 1)),
    }
    for name in ("override_at", "flagged_at", "deleted_at", "account_deleted_at", "hold_at"):
        if name in given:
            values[name] = day(given.pop(name))
    if "choices" in given:
        values["choices"] = tuple((day(at), word) for at, word in given.pop("choices"))
    if "conv_activity" in given:
        values["conv_activity"] = tuple(day(at) for at in given.pop("conv_activity"))
    if "feedback" in given:
        at, kind = given.pop("feedback")
        values["feedback"] = (day(at), kind)
    if "share" in given:
        shared_at = given.pop("share")
        values |= {"override": Override.SHARE, "override_at": None if shared_at is None else day(shared_at)}
    return Facts(**(values | given))


def decided(profile: Profile = STANDARD, periods: Periods | None = None, /, **given: Any) -> Decision:
    return decide(facts(**given), profile, periods or Periods())


def ends(decision: Decision) -> dict[str, float]:
    """Return the ends of a decision's grounds, in days from the turn."""
    return {ground.value: (end - TURN) / DAY_MS for ground, end in decision.grounds.items()}
