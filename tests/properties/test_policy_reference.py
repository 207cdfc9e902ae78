"""The engine against a second implementation that works another way: it lives through the events in order.

The engine computes grounds with beginnings and ends. This one keeps a turn in a drawer, lets time pass event by
event, and looks at what is in the drawer now. Both must agree on arbitrary facts.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from hypothesis import given, settings
from msgspec.structs import replace

from chatproxy.policy.choices import Choices
from chatproxy.policy.engine import decide
from chatproxy.policy.facts import Facts, Override
from chatproxy.policy.periods import DAY_MS
from chatproxy.policy.profile import Periods, Profile
from chatproxy.policy.schema import decision_to_json, facts_from_json, facts_to_json
from properties.test_policy_invariants import facts_of, profiles

EPOCH = datetime.fromtimestamp(0, UTC)
RANKS = {
    "given": 0,
    "renewed": 0,
    "superseded": 1,
    "expired": 2,
    "refused": 3,
    "withdrawn": 4,
    "invalidated": 5,
    "terminated": 6,
}
NEVER = 2**63
ALSO = {
    "FEEDBACK": "FEEDBACK_EXPLICIT",
    "SESSION_SHARE": "SESSION_SHARE_NO_TRAIN",
    "SAFETY_IO": "SAFETY_FLAG",
}
TRAINING_LIFE = ("SERVICE", "TRAIN", "TRAIN_RESIDUE")
THIRTY_DAYS = 30 * DAY_MS


def years_after(at: int, years: int) -> int:
    begin = EPOCH + timedelta(milliseconds=at)
    try:
        end = begin.replace(year=begin.year + years)
    except ValueError:
        end = begin.replace(year=begin.year + years, day=28)
    return (end - EPOCH) // timedelta(milliseconds=1)


@dataclass
class Kept:
    name: str
    begin: int
    end: int
    consent: int | None = None
    """The number of the consent that put it there; None: a share, or nothing about training."""


@dataclass
class Drawer:
    """A turn living through its events, of which none is after now."""

    turn: int
    five_years: int
    deleted: int | None
    quarantine: bool
    kept: list[Kept] = field(default_factory=list)
    state: str | None = None
    decided: bool = False
    consents: list[int] = field(default_factory=list)
    """When each consent was given."""
    is_open: bool = False
    reached: set[int] = field(default_factory=set)
    noted: set[int] = field(default_factory=set)
    shared: bool = False

    def would_hold(self, at: int, end: int, *names: str) -> bool:
        if at >= end or (self.deleted is not None and at > self.deleted):
            return False
        return at == self.turn or any(at < k.end for k in self.kept if not names or k.name in names)

    def put(self, name: str, at: int, end: int, consent: int | None = None) -> None:
        if self.would_hold(at, end, *(TRAINING_LIFE if name == "TRAIN" else ())):
            self.kept.append(Kept(name, at, end, consent))

    def share(self) -> None:
        self.shared = True

    def put_shared(self, at: int) -> None:
        if self.shared:
            self.put("TRAIN", at, self.five_years)

    def choose(self, at: int, word: str) -> None:
        if word in {"requested", "deferred", "unknown"}:
            self.state = self.state if self.decided else word
            return
        self.decided, self.state = True, word
        if word in {"given", "renewed"}:
            if not self.is_open:
                self.consents.append(at)
            self.is_open = True
            return
        self.is_open = False
        if word != "superseded":
            self.shared = False
            for k in self.kept:
                if k.name == "TRAIN":
                    k.name = "TRAIN_RESIDUE"
                    k.end = k.end if self.quarantine else min(k.end, at + THIRTY_DAYS)

    def speak(self, at: int, *, counts_as_new: bool) -> None:
        """Something is said in the conversation at *at*: the turn itself, or what takes it up again."""
        number = len(self.consents)
        if not self.is_open or number in self.reached or (at != self.turn and self.consents[-1] <= self.turn):
            return
        self.reached.add(number)
        if counts_as_new:
            self.put("TRAIN", at, self.five_years, number)
        elif self.would_hold(at, self.five_years, *TRAINING_LIFE):
            self.noted.add(number)


Happening = tuple[int, int, Callable[[], None]]
"""When, in which order at one instant, and what."""


def live_through(facts: Facts, profile: Profile, *, raw: bool) -> Drawer:
    drawer = Drawer(
        facts.turn_at,
        years_after(facts.turn_at, 5),
        min(deletions(facts), default=None),
        profile.on_withdraw == "keep_quarantined",
    )
    trains = not raw and may_train(facts, profile)
    happenings = [
        *choosing(facts, drawer),
        *speaking(facts, profile, drawer, trains=trains),
        *sharing(facts, drawer, trains=trains),
        *flagging(facts, profile, drawer),
        *([] if raw else giving_feedback(facts, drawer)),
    ]
    for _, _, happen in sorted(happenings, key=lambda happening: happening[:2]):
        happen()
    return drawer


def may_train(facts: Facts, profile: Profile) -> bool:
    return (
        facts.plan in profile.consumer_plans
        and facts.lookup == "ok"
        and not facts.incognito
        and facts.override != "exclude"
        and facts.signal != "train-ai=n"
        and (facts.age == "adult" or profile.unknown_age == "adult")
    )


def choosing(facts: Facts, drawer: Drawer) -> Iterator[Happening]:
    for at, word in facts.choices:
        yield at, 1 + RANKS.get(word, 7), partial(drawer.choose, at, word)
    if facts.account_deleted_at is not None:
        at = facts.account_deleted_at
        yield at, 1 + RANKS["terminated"], partial(drawer.choose, at, "terminated")


def speaking(facts: Facts, profile: Profile, drawer: Drawer, *, trains: bool) -> Iterator[Happening]:
    turn, whole = facts.turn_at, profile.resume_scope == "whole_conversation"
    service = min(30, profile.incognito_days) * DAY_MS if facts.incognito else THIRTY_DAYS
    yield turn, 20, partial(drawer.put, "SERVICE", turn, turn + service)
    if trains:
        yield turn, 21, partial(drawer.speak, turn, counts_as_new=whole or facts.origin != "history")
        for at in facts.conv_activity:
            if at > turn:
                yield at, 22, partial(drawer.speak, at, counts_as_new=whole)


def sharing(facts: Facts, drawer: Drawer, *, trains: bool) -> Iterator[Happening]:
    if facts.override != "share":
        return
    shared_at = -NEVER if facts.override_at is None else facts.override_at
    begins_at = max(facts.turn_at, shared_at)
    yield shared_at, 0, drawer.share
    if trains:
        yield begins_at, 23, partial(drawer.put_shared, begins_at)


def flagging(facts: Facts, profile: Profile, drawer: Drawer) -> Iterator[Happening]:
    if facts.flagged_at is not None and facts.plan not in profile.exempt_plans:
        at = max(facts.turn_at, facts.flagged_at)
        yield at, 24, partial(drawer.put, "SAFETY_IO", at, years_after(facts.turn_at, 2))


def giving_feedback(facts: Facts, drawer: Drawer) -> Iterator[Happening]:
    if facts.feedback is None or facts.feedback[0] < facts.turn_at:
        return
    at, kind = facts.feedback
    if kind in {"thumbs", "bug", "feedback", "share"}:
        yield at, 25, partial(drawer.put, "FEEDBACK", at, years_after(at, 5))
    elif kind == "session_share":
        yield at, 25, partial(drawer.put, "SESSION_SHARE", at, at + 180 * DAY_MS)


def deletions(facts: Facts) -> list[int]:
    return [d for d in (facts.deleted_at, facts.account_deleted_at) if d is not None and d >= facts.turn_at]


def so_far(facts: Facts) -> Facts:
    def by_now(at: int | None) -> int | None:
        return None if at is None or at > facts.now else at

    later_share = (
        facts.override == "share" and facts.override_at is not None and facts.override_at > facts.now
    )
    return replace(
        facts,
        conv_activity=tuple(at for at in facts.conv_activity if at <= facts.now),
        choices=tuple((at, word) for at, word in facts.choices if at <= facts.now),
        override=Override.INHERIT if later_share else facts.override,
        flagged_at=by_now(facts.flagged_at),
        feedback=None if facts.feedback is None or facts.feedback[0] > facts.now else facts.feedback,
        deleted_at=by_now(facts.deleted_at),
        account_deleted_at=by_now(facts.account_deleted_at),
        hold_at=by_now(facts.hold_at),
    )


def reason_before_deletion(facts: Facts, profile: Profile, drawer: Drawer) -> str:
    state = drawer.state or "unknown"
    train = [k for k in drawer.kept if k.name == "TRAIN"]
    current = len(drawer.consents) if drawer.is_open else None
    stale = facts.lookup == "stale" and (state in {"given", "renewed", "superseded"} or drawer.shared)
    candidates = [
        (facts.plan in profile.exempt_plans, "PLAN_EXEMPT"),
        (facts.plan not in profile.consumer_plans, "PLAN_UNKNOWN"),
        (facts.incognito, "INCOGNITO"),
        (facts.override == "exclude", "CONV_EXCLUDED"),
        (facts.signal == "train-ai=n", "SIGNAL_OPT_OUT"),
        (facts.age != "adult" and profile.unknown_age != "adult", "AGE_UNVERIFIED"),
        (facts.lookup not in {"ok", "stale"}, "CONSENT_LOOKUP_FAILED"),
        (stale, "CONSENT_CACHE_STALE"),
        (any(k.consent is None for k in train), "ELIGIBLE_CONV_SHARE"),
        (any(k.consent == current and k.begin == drawer.turn for k in train), "ELIGIBLE_CONSENT"),
        (any(k.consent == current for k in train), "ELIGIBLE_RESUMED"),
        (bool(train), "ELIGIBLE_PRIOR_VERSION"),
        (state in {"given", "renewed"} and current in drawer.noted, "PRE_CONSENT_TURN"),
        (state in {"given", "renewed"}, "NOT_RESUMED"),
        (state == "superseded", "CONSENT_STALE_VERSION"),
        (
            state in {"withdrawn", "refused", "deferred", "expired", "terminated", "invalidated"},
            f"CONSENT_{state.upper()}",
        ),
        (True, "CONSENT_UNKNOWN"),
    ]
    return next(reason for applies, reason in candidates if applies)


def outcome(given_facts: Facts, profile: Profile) -> dict[str, Any]:
    """Return (stored, reason, grounds, …) as the engine's decision has them."""
    facts = so_far(given_facts)
    forbidden = never_stored(facts, profile)
    if forbidden is not None:
        return shown(facts, [], forbidden)
    raw = facts.origin == "connector_raw"
    kept = live_through(facts, profile, raw=raw).kept
    reason = reason_before_deletion(facts, profile, live_through(facts, profile, raw=False))
    if reason.startswith("ELIGIBLE"):
        if raw:
            reason = "PART_CONNECTOR_RAW"
        elif profile.flagged_capability != "allow" and any(k.name == "SAFETY_IO" for k in kept):
            reason = "SAFETY_REVIEW_HOLD"
    if deletions(facts):
        for k in kept:
            if k.name in {*TRAINING_LIFE, "SESSION_SHARE"}:
                k.end = min(k.end, min(deletions(facts)) + THIRTY_DAYS)
        if reason != "PLAN_EXEMPT":
            reason = "ACCOUNT_DELETED" if facts.account_deleted_at in deletions(facts) else "DELETED"
    return shown(facts, kept, reason)


def never_stored(facts: Facts, profile: Profile) -> str | None:
    exempt = facts.plan in profile.exempt_plans
    if facts.zdr:
        return "ZDR_NO_STORE"
    if facts.age == "minor":
        return "PLAN_EXEMPT" if exempt else "AGE_INELIGIBLE"
    return "PLAN_EXEMPT" if exempt and profile.exempt_mode != "store_30d" else None


def shown(facts: Facts, kept: list[Kept], reason: str) -> dict[str, Any]:
    ends = {k.name: max(other.end for other in kept if other.name == k.name) for k in kept}
    if "TRAIN" in ends:
        ends.pop("TRAIN_RESIDUE", None)
    live = {name: end for name, end in ends.items() if end > facts.now}
    hold = facts.hold_at
    held = hold is not None and any(k.begin <= hold < k.end for k in kept)
    if reason.startswith("ELIGIBLE") and "TRAIN" not in live:
        reason = "TRAIN_PERIOD_OVER"
    if not live and held:
        reason = "LEGAL_HOLD_ONLY"
    elif not live and kept and reason != "PLAN_EXEMPT":
        reason = "EXPIRED"
    score = None
    if facts.flagged_at is not None and "SAFETY_IO" in ends:
        score = years_after(facts.flagged_at, 7)
    return {
        "stored": held or bool(live),
        "reason": reason,
        "grounds": ends if held else live,
        "eligible": (reason.startswith("ELIGIBLE"), "SAFETY_IO" in live, "FEEDBACK" in live),
        "also": [code for name, code in ALSO.items() if name in live] + ["LEGAL_HOLD"] * held,
        "score": score if score is not None and score > facts.now else None,
    }


@settings(max_examples=1000)
@given(facts_of(), profiles)
def test_the_engine_agrees_with_a_turn_that_lives_through_its_events(facts: Facts, profile: Profile) -> None:
    decision = decide(facts, profile, Periods())

    assert outcome(facts, profile) == {
        "stored": decision.stored,
        "reason": decision.reason.value,
        "grounds": {ground.value: end for ground, end in decision.grounds.items()},
        "eligible": (decision.eligible_capability, decision.eligible_safety, decision.eligible_feedback),
        "also": [code.value for code in decision.also],
        "score": decision.score_expires_at,
    }


@given(facts_of(), profiles)
def test_choices_that_are_read_once_decide_as_those_that_are_read_each_time(
    facts: Facts, profile: Profile
) -> None:
    once = Choices(facts.choices)

    for now in sorted({facts.now, *(at for at, _ in facts.choices)}, reverse=True):
        then = replace(facts, now=now)
        assert decide(replace(then, choices=once), profile, Periods()) == decide(then, profile, Periods())


@given(facts_of(), profiles)
def test_facts_survive_json_and_every_outcome_can_be_written(facts: Facts, profile: Profile) -> None:
    assert facts == facts_from_json(facts_to_json(facts))
    assert decision_to_json(decide(facts, profile, Periods()))
