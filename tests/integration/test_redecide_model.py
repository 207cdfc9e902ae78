"""Any sequence of events and turns comes to what the policy says of the plain facts, and gone stays gone.

Through the real ledger, sealer, store and redecider, on a clock that only goes forward. The model beside them keeps
what was said and what happened in plain lists, asks the policy engine, and knows of nothing that is stored.
"""

import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice, FactKind, Scope
from chatproxy.model import Age, ConversationTag, TurnId
from chatproxy.policy.engine import Decision, decide
from chatproxy.policy.facts import Facts, Lookup, Override
from chatproxy.policy.grounds import RESUMABLE, TRAINING
from chatproxy.policy.instants import format_instant
from chatproxy.policy.profile import STANDARD, Periods
from chatproxy.policy.reasons import Reason
from chatproxy.ports import PutStatus
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.telemetry import Metrics, Redecided
from chatproxy.vault import Vault, open_vault
from integration.keeping import Keeper
from integration.kept_state import sound
from integration.proxy_fixtures import DAY, a_proxy

CONVERSATIONS = tuple(ConversationTag(bytes([number]) * 16) for number in (1, 2))
SHARED, EXCLUDED, INHERITED = Choice.GIVEN, Choice.REFUSED, Choice.WITHDRAWN
days = st.sampled_from([0, 0, 1, 3, 10, 29, 31, 45, 200, 740])
conversations = st.sampled_from(CONVERSATIONS)
steps = st.one_of(
    st.tuples(st.just("turn"), conversations, st.sampled_from([False, False, False, True])),
    st.tuples(st.just("turn"), conversations, st.just(False)),
    st.tuples(st.just("choice"), st.sampled_from([Choice.GIVEN, Choice.GIVEN, Choice.WITHDRAWN, Choice.REFUSED,
                                                  Choice.RENEWED, Choice.DEFERRED])),
    st.tuples(st.just("override"), conversations, st.sampled_from([SHARED, EXCLUDED, INHERITED])),
    st.tuples(st.just("delete"), conversations),
    st.tuples(st.just("delete_account")),
    st.tuples(st.just("flag"), st.integers(0, 5)),
    st.tuples(st.just("lift"), st.integers(0, 5)),
    st.tuples(st.just("feedback"), conversations, st.sampled_from(["thumbs", "session_share", "rating_only"])),
    st.tuples(st.just("no_feedback"), conversations),
    st.tuples(st.just("hold"), st.sampled_from([None, *CONVERSATIONS])),
    st.tuples(st.just("release"), st.sampled_from([None, *CONVERSATIONS])),
)  # fmt: skip
stories = st.lists(st.tuples(days, steps), min_size=3, max_size=14)


@dataclass
class Said:
    """A turn of the model."""

    turn: TurnId
    conversation: ConversationTag
    at: int
    incognito: bool
    decision: Decision | None = None
    """What was last decided; None once it is gone."""


@dataclass
class Model:
    """What happened, in plain lists."""

    said: list[Said] = field(default_factory=list)
    choices: list[tuple[int, str]] = field(default_factory=list)
    overrides: dict[ConversationTag, tuple[Override, int | None]] = field(default_factory=dict)
    deleted: dict[ConversationTag, list[int]] = field(default_factory=dict)
    account_deleted: list[int] = field(default_factory=list)
    flagged: dict[TurnId, int] = field(default_factory=dict)
    feedback: dict[ConversationTag, list[tuple[int, str]]] = field(default_factory=dict)
    holds: dict[ConversationTag | None, int] = field(default_factory=dict)

    def learn(self, at: int, kind: str, *words: Any) -> None:
        """Take in one event."""
        match kind, *words:
            case "choice", choice:
                self.choices.append((at, str(choice)))
            case "override", about, choice:
                before = self.overrides.get(about, (Override.INHERIT, None))
                if choice is SHARED:
                    ended = before[1] is not None and any(
                        since >= before[1] and word in {"withdrawn", "refused", "terminated"}
                        for since, word in self.choices
                    )
                    if before[0] is not Override.SHARE or ended:
                        self.overrides[about] = (Override.SHARE, at)
                else:
                    override = Override.EXCLUDE if choice is EXCLUDED else Override.INHERIT
                    self.overrides[about] = (override, None)
            case "delete", about:
                self.deleted.setdefault(about, []).append(at)
            case ("delete_account",):
                self.account_deleted.append(at)
                self.choices.append((at, "terminated"))
            case "flag", turn:
                self.flagged.setdefault(turn, at)
            case "lift", turn:
                self.flagged.pop(turn, None)
            case "feedback", about, word:
                self.feedback.setdefault(about, []).append((at, word))
            case "no_feedback", about:
                self.feedback.pop(about, None)
            case "hold", about:
                self.holds.setdefault(about, at)
            case "release", about:
                self.holds.pop(about, None)

    def facts(self, said: Said, now: int) -> Facts:
        """Return what the engine asks about one turn."""
        override, override_at = self.overrides.get(said.conversation, (Override.INHERIT, None))
        given = [each for each in self.feedback.get(said.conversation, []) if each[0] >= said.at]
        keeping = [each for each in given if each[1] == "thumbs"] or given
        holds = [
            at for about, at in self.holds.items() if about in {None, said.conversation} and at >= said.at
        ]
        return Facts(
            turn_at=said.at, now=now, plan="pro", age=Age.ADULT, lookup=Lookup.OK, incognito=said.incognito,
            conv_activity=tuple(each.at for each in self.said if each.conversation == said.conversation),
            choices=tuple(self.choices), override=override, override_at=override_at,
            flagged_at=self.flagged.get(said.turn), feedback=next(iter(keeping), None),
            deleted_at=min((at for at in self.deleted.get(said.conversation, []) if at >= said.at), default=None),
            account_deleted_at=min((at for at in self.account_deleted if at >= said.at), default=None),
            hold_at=min(holds, default=None),
        )  # fmt: skip

    def decide(self, now: int) -> None:
        """Decide on every turn that is left. What training had lost for good does not come back."""
        for said in self.said:
            before = said.decision
            if before is None:
                continue
            facts = self.facts(said, now)
            after = decide(facts, STANDARD, Periods())
            gains = TRAINING.isdisjoint(before.grounds) and any(
                after.grounds.get(ground, 0) > now for ground in TRAINING
            )
            if gains and not any(before.grounds.get(ground, 0) > now for ground in RESUMABLE):
                kept_choices = tuple(each for each in facts.choices if each[1] not in {"given", "renewed"})
                inherits = facts.override is not Override.EXCLUDE
                after = decide(
                    replace(
                        facts,
                        choices=kept_choices,
                        override=Override.INHERIT if inherits else facts.override,
                    ),
                    STANDARD,
                    Periods(),
                )
            said.decision = after if after.stored else None


class Real:
    """The same story, through what is real."""

    def __init__(self, vault: Vault, connections: Connections) -> None:
        self.now = wall_clock()
        # The store's own clock is behind, so it removes nothing by itself: who decides does.
        self.vault = replace(vault, clock=lambda: self.now)
        self.connections = connections
        self.subject = vault.pseudonyms.subject_tag(tenant="default", subject=secrets.token_hex(8))
        self.redecider = self.vault.redecider(Metrics())
        self.ledger = self.vault.ledger
        self.keeper = Keeper(self.vault, self.subject)

    async def event(self, kind: str, *words: Any) -> int:
        """Write one event; return its time."""
        about: dict[str, Any] = {"at": self.now, "by": "t", "method": "t"}
        match kind, *words:
            case "choice", choice:
                return (await self.ledger.record(self.subject, choice, **about)).at
            case "override", conversation, choice:
                return (await self.ledger.record(self.subject, choice, conversation=conversation, **about)).at
        facts = {
            "delete": FactKind.CONVERSATION_DELETED, "delete_account": FactKind.ACCOUNT_DELETED,
            "flag": FactKind.FLAGGED, "lift": FactKind.FLAG_LIFTED, "feedback": FactKind.FEEDBACK_GIVEN,
            "no_feedback": FactKind.FEEDBACK_WITHDRAWN, "hold": FactKind.HOLD_PLACED,
            "release": FactKind.HOLD_RELEASED,
        }  # fmt: skip
        scope = Scope(turn=words[0]) if kind in {"flag", "lift"} else Scope(words[0] if words else None)
        details: dict[str, Any] = {}
        if kind == "feedback":
            details = {"kind": words[1]}
        elif kind in {"hold", "release"}:
            review = format_instant(self.now + 60 * DAY)
            details = {"case": "c", "authority": "a", "review_at": review}
        noted = await self.ledger.note(self.subject, facts[kind], scope=scope, details=details, **about)
        return noted.at

    async def keep(self, said: Said) -> None:
        """Seal and put a turn, as the archive does."""
        status = await self.keeper.keep(said.conversation, turn=said.turn, incognito=said.incognito)
        assert status in {PutStatus.STORED, PutStatus.RESUMED}
        if status is PutStatus.STORED:
            # Then nothing else is concerned: deciding on all of them finds nothing to do.
            tally = await self.redecider.person(self.subject)
            assert tally.turns[Redecided.CHANGED] == 0, tally


@asynccontextmanager
async def a_vault(server: EmbeddedServer) -> AsyncIterator[Vault]:
    with tempfile.TemporaryDirectory() as directory:
        chosen = a_proxy(Path(directory), upstream="http://127.0.0.1:9", store=server.url)
        async with open_vault(chosen) as vault:
            yield vault


async def play(vault: Vault, connections: Connections, story: list[tuple[int, tuple[Any, ...]]]) -> None:
    model, real = Model(), Real(vault, connections)
    for passed, (kind, *words) in story:
        real.now += passed * DAY + 1_000
        model.decide(real.now)
        await real.redecider.person(real.subject)
        if kind == "turn":
            said = Said(TurnId(secrets.token_bytes(16)), words[0], real.now, words[1])
            model.said.append(said)
            said.decision = decide(model.facts(said, real.now), STANDARD, Periods())
            await real.keep(said)
        else:
            if kind in {"flag", "lift"} and not model.said:
                continue
            about = [model.said[words[0] % len(model.said)].turn] if kind in {"flag", "lift"} else words
            model.learn(await real.event(kind, *about), kind, *about)
        real.now += 1_000
        model.decide(real.now)
        tally = await real.redecider.person(real.subject)
        assert tally.is_settled
        again = await real.redecider.person(real.subject)
        assert sum(again.turns.values()) == again.turns[Redecided.UNCHANGED]
        await compare(model, real)


async def compare(model: Model, real: Real) -> None:
    found = [turn async for turn in real.vault.store.annotations(real.subject)]
    expected = {said.turn: said.decision for said in model.said if said.decision is not None}
    assert {turn.turn for turn in found} == set(expected)
    for kept in await sound(real.vault, real.connections, real.subject):
        decision = expected[kept.stored.turn]
        [group] = kept.note.groups
        assert {str(ground): end for ground, end in decision.grounds.items()} == group.grounds
        assert (group.reason, group.eligible.capability, group.also) == (
            decision.reason, decision.eligible_capability, tuple(map(str, decision.also))
        )  # fmt: skip
        if decision.held:
            assert Reason.LEGAL_HOLD in decision.also
            assert group.expires_at > real.now
        else:
            assert group.expires_at == decision.expires_at


@settings(
    max_examples=40, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(story=stories)
@pytest.mark.timeout(300)
async def test_any_story_ends_as_the_policy_says(
    server: EmbeddedServer, connections: Connections, story: list[tuple[int, tuple[Any, ...]]]
) -> None:
    await connections.ask([["FLUSHALL"]])
    async with a_vault(server) as vault:
        await play(vault, connections, story)
