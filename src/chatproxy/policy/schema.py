"""Facts, profiles and decisions as JSON, in the fields of the policy's vectors.

What is absent is not known: an absent event did not happen, an absent statement (plan, age, lookup) falls to the
stricter side, as unknown words do. What cannot be read at all is refused with the name of its field, and so is a
field that does not exist, since a misspelt one would otherwise be a fact left out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, TypeVar

from chatproxy.model import Age, Origin
from chatproxy.policy.engine import Decision
from chatproxy.policy.facts import Facts, Lookup, Override
from chatproxy.policy.instants import format_instant, parse_instant
from chatproxy.policy.periods import format_duration, parse_duration
from chatproxy.policy.profile import (
    PROFILES,
    STANDARD,
    STRICT,
    ExemptMode,
    FlaggedCapability,
    OnWithdraw,
    Periods,
    Profile,
    ResumeScope,
    UnknownAge,
)

Word = TypeVar("Word", bound=StrEnum)

_FACTS = frozenset(Facts.__struct_fields__)
_PROFILE = frozenset(field.name for field in fields(Profile)) - {"consumer_plans", "exempt_plans"}
"""Plans are the company's setting, not part of a profile's JSON."""
_PAIR = 2


def facts_from_json(value: object) -> Facts:
    """Read facts. Raises ValueError, naming the field, where something is malformed or a time is missing."""
    source = _Source.of("facts", value, known=_FACTS)
    return Facts(
        turn_at=source.instant("turn_at"),
        now=source.instant("now"),
        plan=source.text("plan"),
        age=source.word("age", Age, stricter=Age.UNKNOWN),
        conv_activity=tuple(
            _instant(at, f"facts.conv_activity[{index}]")
            for index, at in enumerate(source.items("conv_activity"))
        ),
        choices=tuple(
            _event(pair, f"facts.choices[{index}]") for index, pair in enumerate(source.items("choices"))
        ),
        lookup=source.word("lookup", Lookup, stricter=Lookup.FAILED),
        incognito=source.flag("incognito"),
        zdr=source.flag("zdr"),
        override=source.word("override", Override, stricter=Override.EXCLUDE, absent=Override.INHERIT),
        override_at=source.instant_or_none("override_at"),
        signal=source.text("signal"),
        flagged_at=source.instant_or_none("flagged_at"),
        feedback=source.event_or_none("feedback"),
        deleted_at=source.instant_or_none("deleted_at"),
        account_deleted_at=source.instant_or_none("account_deleted_at"),
        hold_at=source.instant_or_none("hold_at"),
        origin=source.text("origin") or Origin.TYPED,
    )


def facts_to_json(facts: Facts) -> dict[str, Any]:
    """Return facts as ``facts_from_json`` reads them."""
    return {
        "plan": facts.plan,
        "age": facts.age.value,
        "turn_at": format_instant(facts.turn_at),
        "conv_activity": [format_instant(at) for at in facts.conv_activity],
        "choices": [[format_instant(at), word] for at, word in facts.choices],
        "lookup": facts.lookup.value,
        "incognito": facts.incognito,
        "zdr": facts.zdr,
        "override": facts.override.value,
        "override_at": _instant_to_json(facts.override_at),
        "signal": facts.signal,
        "flagged_at": _instant_to_json(facts.flagged_at),
        "feedback": None
        if facts.feedback is None
        else [format_instant(facts.feedback[0]), facts.feedback[1]],
        "deleted_at": _instant_to_json(facts.deleted_at),
        "account_deleted_at": _instant_to_json(facts.account_deleted_at),
        "hold_at": _instant_to_json(facts.hold_at),
        "origin": str(facts.origin),
        "now": format_instant(facts.now),
    }


def profile_from_json(value: object) -> Profile:
    """Read a profile: an object, or the name of a built-in profile.

    A key left out has the value of the profile named, the standard one if none is named, the strict one if the
    name is not known. Raises ValueError, naming the field, where something is malformed.
    """
    built_in = {profile.name: profile for profile in PROFILES}
    if isinstance(value, str):
        if value not in built_in:
            raise ValueError(f"profile: must be an object or one of {', '.join(built_in)}")
        return built_in[value]
    source = _Source.of("profile", value, known=_PROFILE)
    name = source.text("name") or STANDARD.name
    base = built_in.get(name, STRICT)
    return replace(
        base,
        name=name,
        resume_scope=source.parameter(
            "resume_scope", ResumeScope, stricter=ResumeScope.NEW_TURNS_ONLY, default=base.resume_scope
        ),
        on_withdraw=source.parameter(
            "on_withdraw", OnWithdraw, stricter=OnWithdraw.SHRINK, default=base.on_withdraw
        ),
        exempt_mode=source.parameter(
            "exempt_mode", ExemptMode, stricter=ExemptMode.PASSTHROUGH, default=base.exempt_mode
        ),
        unknown_age=source.parameter(
            "unknown_age", UnknownAge, stricter=UnknownAge.INELIGIBLE, default=base.unknown_age
        ),
        flagged_capability=source.parameter(
            "flagged_capability",
            FlaggedCapability,
            stricter=FlaggedCapability.EXCLUDE,
            default=base.flagged_capability,
        ),
        incognito_days=source.days("incognito_days", default=base.incognito_days),
    )


def profile_to_json(profile: Profile) -> dict[str, Any]:
    """Return a profile as ``profile_from_json`` reads it; plans are left out."""
    return {
        "name": profile.name,
        "resume_scope": profile.resume_scope.value,
        "on_withdraw": profile.on_withdraw.value,
        "exempt_mode": profile.exempt_mode.value,
        "unknown_age": profile.unknown_age.value,
        "flagged_capability": profile.flagged_capability.value,
        "incognito_days": profile.incognito_days,
    }


def policy_to_json(profile: Profile, periods: Periods) -> dict[str, Any]:
    """Return all that a decision depends on beside the facts, plans and periods too."""
    return {
        "profile": profile_to_json(profile),
        "plans": {"consumer": sorted(profile.consumer_plans), "exempt": sorted(profile.exempt_plans)},
        "periods": {field.name: format_duration(getattr(periods, field.name)) for field in fields(Periods)},
    }


def policy_from_json(value: Mapping[str, Any]) -> tuple[Profile, Periods]:
    """Undo ``policy_to_json``. Raises ValueError, KeyError or TypeError for anything else."""
    profile = replace(
        profile_from_json(value["profile"]),
        consumer_plans=frozenset(value["plans"]["consumer"]),
        exempt_plans=frozenset(value["plans"]["exempt"]),
    )
    return profile, Periods(**{name: parse_duration(text) for name, text in value["periods"].items()})


def decision_to_json(decision: Decision) -> dict[str, Any]:
    """Return a decision as the vectors' ``expect``; ``score_expires_at`` is there only where there is one."""
    outcome: dict[str, Any] = {
        "store": decision.stored,
        "expires_at": _instant_to_json(decision.expires_at),
        "grounds": {ground.value: format_instant(end) for ground, end in sorted(decision.grounds.items())},
        "eligible_capability": decision.eligible_capability,
        "eligible_safety": decision.eligible_safety,
        "eligible_feedback": decision.eligible_feedback,
        "reason": decision.reason.value,
        "also": [code.value for code in decision.also],
    }
    if decision.score_expires_at is not None:
        outcome["score_expires_at"] = format_instant(decision.score_expires_at)
    return outcome


@dataclass(frozen=True, slots=True)
class _Source:
    """A JSON object that knows its name, so that errors can say where. null is as absent but for parameters."""

    name: str
    values: Mapping[str, object]

    @classmethod
    def of(cls, name: str, value: object, *, known: Iterable[str]) -> "_Source":
        if not isinstance(value, dict):
            raise ValueError(f"{name}: must be an object")  # noqa: TRY004
        for key in value:
            if key not in known:
                raise ValueError(f"{name}: has no field {key!r}; there are {', '.join(sorted(known))}")
        return cls(name, value)

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        if value is None or isinstance(value, str):
            return value
        raise ValueError(f"{self.name}.{key}: must be text or null")

    def flag(self, key: str) -> bool:
        value = self.values.get(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        raise ValueError(f"{self.name}.{key}: must be true or false")

    def word(self, key: str, words: type[Word], *, stricter: Word, absent: Word | None = None) -> Word:
        value = self.text(key)
        if value is None:
            return stricter if absent is None else absent
        return next((word for word in words if word == value), stricter)

    def parameter(self, key: str, words: type[Word], *, stricter: Word, default: Word) -> Word:
        return self.word(key, words, stricter=stricter) if key in self.values else default

    def days(self, key: str, *, default: int) -> int:
        value = self.values.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
        raise ValueError(f"{self.name}.{key}: must be a whole number of days, 0 or more")

    def instant(self, key: str) -> int:
        return _instant(self.values.get(key), f"{self.name}.{key}")

    def instant_or_none(self, key: str) -> int | None:
        return None if self.values.get(key) is None else self.instant(key)

    def event_or_none(self, key: str) -> tuple[int, str] | None:
        value = self.values.get(key)
        return None if value is None else _event(value, f"{self.name}.{key}")

    def items(self, key: str) -> list[object]:
        value = self.values.get(key)
        if value is None:
            return []
        if isinstance(value, list):
            return value
        raise ValueError(f"{self.name}.{key}: must be a list")


def _instant(value: object, where: str) -> int:
    if not isinstance(value, str):
        raise ValueError(f"{where}: must be an RFC 3339 instant such as 2025-10-10T00:00:00Z")  # noqa: TRY004
    try:
        return parse_instant(value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _event(value: object, where: str) -> tuple[int, str]:
    if not isinstance(value, list) or len(value) != _PAIR or not isinstance(value[1], str):
        raise ValueError(f"{where}: must be a pair of an instant and a word")
    return _instant(value[0], where), value[1]


def _instant_to_json(at: int | None) -> str | None:
    return None if at is None else format_instant(at)
