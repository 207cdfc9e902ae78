"""Why is a turn kept, what would another policy do, do it, and was it right: the policy commands on a store."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice
from chatproxy.crypto.annotation import authenticate, verify
from chatproxy.model import SubjectTag
from chatproxy.policy.instants import parse_instant
from chatproxy.ports import TranscriptStore
from chatproxy.settings import load_settings
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.store.redis import RedisStore
from chatproxy.telemetry import Metrics, Redecided
from chatproxy.vault import open_vault
from chatproxy.workflows.annotate import Eligible, read
from chatproxy.workflows.preview import Applier, Forecast
from chatproxy.workflows.survey import survey
from integration.proxy_fixtures import (
    ANA,
    DAY,
    JSON_TYPE,
    World,
    a_world,
    chatting,
    openai_reply,
    response,
)
from integration.serve_process import WORDS, Finished, call, environment
from simulators.backend import Peer

BEA = {"x-chat-subject": "bea", "x-chat-plan": "free"}


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


@pytest.fixture
async def world(tmp_path: Path, store: str) -> AsyncIterator[World]:
    async with a_world(chatting(), tmp_path, store) as world:
        yield world


@pytest.fixture
def env(tmp_path: Path, store: str) -> dict[str, str]:
    return environment(tmp_path, store=store)


async def contents(connections: Connections) -> dict[bytes, tuple[bytes | None, int]]:
    """Every key of the store with what it holds and until when."""
    [names] = await connections.ask([["KEYS", "*"]])
    dumps = await connections.ask([["DUMP", name] for name in names])
    times = await connections.ask([["PEXPIRETIME", name] for name in names])
    return dict(zip(names, zip(dumps, times, strict=True), strict=True))


def total(done: Finished) -> dict[str, Any]:
    return next(row for row in done.rows() if "total" in row)


# --- explain ---


async def test_a_turn_is_explained_with_rules_facts_and_what_would_change_it(
    world: World, env: dict[str, str], tmp_path: Path
) -> None:
    await world.chat("secret words", who=ANA | {"x-chat-conversation": "mine"})
    [row] = await world.kept()
    done = await call(env, "policy", "explain", row["turn"], "--json")
    assert done.status == 0, done.err
    [found] = done.rows()
    [part] = found["parts"]
    assert (part["outcome"]["reason"], part["rules"]) == ("CONSENT_UNKNOWN", ["R8", "R11"])
    assert part["grounds"]["SERVICE"]["until"] == row["expires_at"]
    assert part["facts"]["plan"] == "pro"
    assert not part["noted"]["is_due"]
    assert found["policy"]["digest"] == found["policy"]["present_digest"] == world.running.vault.policy.digest
    assert (found["decided_on"], found["last_event"], found["policy_text"]) == (None, None, None)
    outcomes = {each["if"]: each["outcome"] for each in part["would_change"]}
    assert {name: outcome["reason"] for name, outcome in outcomes.items()} == {
        "agreed": "NOT_RESUMED",
        "agreed_and_resumed": "ELIGIBLE_RESUMED",
        "withdrew": "CONSENT_WITHDRAWN",
        "shared": "ELIGIBLE_CONV_SHARE",
        "excluded": "CONV_EXCLUDED",
        "deleted": "DELETED",
        "account_deleted": "ACCOUNT_DELETED",
        "flagged": "CONSENT_UNKNOWN",
        "feedback": "CONSENT_UNKNOWN",
        "held": "CONSENT_UNKNOWN",
        "minor": "AGE_INELIGIBLE",
    }
    assert part["would_not_change"] == ["resumed"]
    assert outcomes["agreed_and_resumed"]["eligible_capability"]
    assert not outcomes["minor"]["store"]
    assert outcomes["flagged"]["eligible_safety"]
    assert outcomes["held"]["held"]
    log = (tmp_path / "data" / "audit" / "audit.jsonl").read_text()
    assert json.loads(log)["action"] == "policy.explained"


async def test_the_words_say_it_too_and_show_nothing_that_was_said(world: World, env: dict[str, str]) -> None:
    await world.choose(Choice.GIVEN)
    await world.chat("secret words")
    [row] = await world.kept()
    done = await call(env, "policy", "explain", "-", stdin=f"{row['turn']}\n")
    assert done.status == 0, done.err
    assert "ELIGIBLE_CONSENT (R11, R9): The turn was made under a consent that stands." in done.out
    assert f"TRAIN until {row['grounds']['TRAIN']}, for training of capability (R11)" in done.out
    assert "the person withdrew, or said no, now: CONSENT_WITHDRAWN. Kept until" in done.out
    assert "Nothing would change if the person agreed now; " in done.out
    assert "secret" not in done.out
    [event] = await world.running.vault.ledger.history(world.tag())
    assert event.digest in done.out


async def test_what_stands_in_the_way_can_be_taken_away(world: World, env: dict[str, str]) -> None:
    await world.choose(Choice.GIVEN)
    await world.chat("hello", who=ANA | {"x-chat-conversation": "mine"})
    [row] = await world.kept()
    mine = ("mine", "--subject", "ana")
    for words in (
        ("turn", "flag", row["turn"]),
        ("feedback", "give", *mine, "--kind", "bug"),
        ("conversation", "exclude", *mine),
        ("hold", "place", "--subject", "ana", "--case", "c", "--authority", "a", "--review", "2999-01-01"),
    ):
        assert (await call(env, *words)).status == 0
    await world.decided_again()
    [found] = (await call(env, "policy", "explain", row["turn"], "--json")).rows()
    [part] = found["parts"]
    assert set(part["also"]) == {"FEEDBACK_EXPLICIT", "SAFETY_FLAG", "LEGAL_HOLD"}
    assert part["sealed_until"] == "2999-01-01T00:00:00Z"
    reasons = {each["if"]: each["outcome"]["reason"] for each in part["would_change"]}
    assert reasons["follows"] == "SAFETY_REVIEW_HOLD"
    assert {"unflagged", "feedback_withdrawn", "released"} <= set(reasons)
    assert not {"flagged", "feedback", "held", "excluded"} & set(reasons)


async def test_what_nobody_said_no_choice_would_change(world: World, env: dict[str, str]) -> None:
    await world.chat("hello", who={"x-chat-plan": "pro"})
    [row] = await world.kept()
    [found] = (await call(env, "policy", "explain", row["turn"], "--json")).rows()
    [part] = found["parts"]
    supposed = {each["if"] for each in part["would_change"]} | set(part["would_not_change"])
    assert supposed == {"resumed", "deleted", "account_deleted", "flagged", "feedback", "held", "minor"}


async def test_a_turn_that_is_not_held_and_one_that_was_altered_are_told_apart(
    world: World, env: dict[str, str], connections: Connections
) -> None:
    await world.chat("hello")
    [row] = await world.kept()
    missing = await call(env, "policy", "explain", "t_nothing")
    assert (missing.status, missing.err) == (1, "chatproxy: nothing is held of a turn of that name\n")
    [names] = await connections.ask([["KEYS", "cp:*:a:*"]])
    await connections.ask([["HSET", names[0], "seq", "7"]])
    altered = await call(env, "policy", "explain", row["turn"])
    assert (altered.status, altered.out) == (3, "")


async def test_what_applying_would_change_is_explained(world: World, env: dict[str, str]) -> None:
    await world.choose(Choice.GIVEN)
    await world.chat("hello")
    [row] = await world.kept()
    shorter = env | {"CHATPROXY_RETENTION_SERVICE": "10d", "CHATPROXY_RETENTION_TRAINING": "9y"}
    [found] = (await call(shorter, "policy", "explain", row["turn"], "--json")).rows()
    [part] = found["parts"]
    assert part["outcome"]["expires_at"] == row["expires_at"]
    [applied] = [each for each in part["would_change"] if each["if"] == "applied"]
    ends = {name: parse_instant(end) for name, end in row["grounds"].items()}
    assert {name: parse_instant(end) for name, end in applied["outcome"]["grounds"].items()} == {
        "SERVICE": ends["SERVICE"] - 20 * DAY,
        "TRAIN": ends["TRAIN"],
    }
    assert found["policy"]["digest"] != found["policy"]["present_digest"]


# --- preview and apply ---


async def three_turns(world: World) -> None:
    await world.choose(Choice.GIVEN)
    await world.chat("hello")
    await world.chat("hello", who=BEA)
    await world.chat("hush", who=BEA | {"x-chat-incognito": "?1"})
    await world.kept()


async def test_the_present_policy_changes_nothing(world: World, env: dict[str, str]) -> None:
    await three_turns(world)
    done = await call(env, "policy", "preview", "--json")
    assert done.status == 0, done.err
    [row] = done.rows()
    assert (row["turns"], row["people"], row["moved"], row["total"]["turns"]) == (3, 2, 0, 0)
    applied = await call(env, "policy", "apply")
    assert (applied.status, "nothing to apply" in applied.out) == (0, True)


async def test_a_preview_counts_by_reason_and_writes_nothing(
    world: World, env: dict[str, str], connections: Connections
) -> None:
    await three_turns(world)
    await call(env, "policy", "preview")  # as any command, it says under which policy its settings are
    before = await contents(connections)
    strict = await call(env, "policy", "preview", "--profile", "strict", "--period", "training=1y", "--json")
    rows = {(row["reason"], row["then"]): row for row in strict.rows() if "reason" in row}
    assert {names: (row["turns"], row["sooner"], row["at_once"], row["lose_eligibility"]) for names, row in rows.items()} == {
        ("ELIGIBLE_CONSENT", "AGE_UNVERIFIED"): (1, 1, 0, 1),
        ("CONSENT_UNKNOWN", "AGE_UNVERIFIED"): (1, 0, 0, 0),
        ("INCOGNITO", "INCOGNITO"): (1, 1, 1, 0),
    }  # fmt: skip
    assert all(bool(row["bytes"]) == bool(row["sooner"]) for row in rows.values())
    assert total(strict)["total"]["bytes"] == sum(row["bytes"] for row in rows.values())
    assert total(strict)["moved"] == 3
    words = await call(env, "policy", "preview", "--period", "service=10d")
    assert "3 turns" in words.out
    assert "2 would change: 2 expire sooner, 0 of them at once; 0 lose eligibility" in words.out
    assert "CHATPROXY_RETENTION_SERVICE" in words.out
    assert await contents(connections) == before


async def test_what_was_only_previewed_is_not_applied(
    world: World, env: dict[str, str], tmp_path: Path, connections: Connections
) -> None:
    await three_turns(world)
    profile = tmp_path / "ours.json"
    profile.write_text('{"incognito_days": 1}')
    previewed = await call(env, "policy", "preview", "--profile", str(profile), "--json")
    assert (total(previewed)["total"]["sooner"], total(previewed)["total"]["turns"]) == (1, 1)
    before = await world.kept()
    done = await call(env, "policy", "apply", "--yes")
    assert (done.status, "nothing to apply" in done.out) == (0, True)
    assert await world.kept() == before
    assert (await call(env, "policy", "apply", "--yes", "--profile", str(profile))).status == 2


@pytest.mark.parametrize(
    "period", ["service", "service=", "services=1d", "service=1", "service=-1d", "service=10 d", "=1d"]
)
async def test_a_period_in_another_form_is_refused(period: str, env: dict[str, str]) -> None:
    refused = await call(env, "policy", "preview", "--period", period)
    assert refused.status in {1, 2}
    assert "Traceback" not in refused.err
    assert refused.out == ""


async def test_applying_asks_first_and_needs_yes_without_a_terminal(
    world: World, env: dict[str, str], connections: Connections
) -> None:
    await three_turns(world)
    before = await world.kept()
    shorter = env | {"CHATPROXY_RETENTION_SERVICE": "10d"}
    refused = await call(shorter, "policy", "apply")
    assert (refused.status, "--yes" in refused.err) == (2, True)
    assert "2 would change" in refused.out
    assert await world.kept() == before


async def test_applying_shortens_and_takes_away_and_never_gives_back(
    world: World, env: dict[str, str], tmp_path: Path
) -> None:
    await three_turns(world)
    before = {row["turn"]: row for row in await world.kept()}
    shorter = env | {"CHATPROXY_RETENTION_SERVICE": "10d", "CHATPROXY_RETENTION_TRAINING": "1y"}
    done = await call(shorter, "policy", "apply", "--yes", "--json")
    assert done.status == 0, done.err
    assert done.rows()[-1] == {
        "applied": True, "people": 2, "changed": 3, "unchanged": 0, "erased": 0, "faulty": 0,
    }  # fmt: skip
    after = {row["turn"]: row for row in await world.kept()}
    assert after.keys() == before.keys()
    for turn, row in after.items():
        assert parse_instant(row["expires_at"]) < parse_instant(before[turn]["expires_at"])
    [eligible] = [row for row in after.values() if row["eligible"]["capability"]]
    assert parse_instant(eligible["expires_at"]) <= wall_clock() + 366 * DAY
    longer = env | {"CHATPROXY_RETENTION_SERVICE": "60d"}
    for again in (shorter, longer):
        idle = await call(again, "policy", "apply", "--yes")
        assert (idle.status, "nothing to apply" in idle.out) == (0, True)
    assert {row["turn"]: row for row in await world.kept()} == after
    replayed = await call(env, "policy", "replay", "--json")
    assert replayed.rows() == [{"turns": 3, "different": 0}]
    log = [
        json.loads(line) for line in (tmp_path / "data" / "audit" / "audit.jsonl").read_text().splitlines()
    ]
    first, *between, last = log
    assert (first["action"], first["changed"]) == ("policy.apply", 3)
    assert {entry["action"] for entry in between} == {"annotations.changed"}
    assert (last["action"], last["changed"]) == ("policy.applied", 3)


async def test_applying_erases_what_the_policy_does_not_keep(world: World, env: dict[str, str]) -> None:
    await three_turns(world)
    strict = env | {"CHATPROXY_POLICY_PROFILE": "strict"}
    assert (await call(strict, "policy", "apply", "--yes")).status == 0
    rows = await world.kept()
    assert sorted(row["reason"] for row in rows) == ["AGE_UNVERIFIED", "AGE_UNVERIFIED"]
    assert not any(row["eligible"]["capability"] for row in rows)


async def test_a_choice_after_applying_is_decided_under_both(world: World, env: dict[str, str]) -> None:
    await world.chat("hello", who=ANA | {"x-chat-conversation": "mine"})
    await world.kept()
    await call(env | {"CHATPROXY_RETENTION_TRAINING": "1y"}, "policy", "apply", "--yes")
    assert (await call(env, "conversation", "share", "mine", "--subject", "ana")).status == 0
    await world.decided_again()
    [row] = await world.kept()
    assert row["reason"] == "ELIGIBLE_CONV_SHARE"
    assert parse_instant(row["expires_at"]) <= wall_clock() + 366 * DAY


async def test_what_is_held_stays_held_under_a_shorter_policy(world: World, env: dict[str, str]) -> None:
    await world.choose(Choice.GIVEN)
    await world.chat("hello")
    await world.kept()
    words = ("hold", "place", "--subject", "ana", "--case", "c", "--authority", "a", "--review", "2999-01-01")
    assert (await call(env, *words)).status == 0
    await world.decided_again()
    shorter = env | {"CHATPROXY_RETENTION_SERVICE": "1d", "CHATPROXY_RETENTION_TRAINING": "1d"}
    done = await call(shorter, "policy", "apply", "--yes")
    assert done.status == 0, done.err
    [row] = await world.kept()
    assert row["expires_at"] == "2999-01-01T00:00:00Z"


async def test_one_ledger_that_is_not_authentic_stops_nobody_else(
    world: World, env: dict[str, str], connections: Connections
) -> None:
    await three_turns(world)
    await connections.ask([["LSET", f"cp:{{{world.tag().hex()}}}:c", 0, b"CE\x01" + bytes(60)]])
    shorter = env | {"CHATPROXY_RETENTION_SERVICE": "10d"}
    previewed = await call(shorter, "policy", "preview", "--json")
    assert (previewed.status, total(previewed)["faulty"], total(previewed)["moved"]) == (3, 1, 2)
    done = await call(shorter, "policy", "apply", "--yes")
    assert (done.status, "1 people" in done.err) == (1, True)
    hers = (await call(env, "transcripts", "list", "--subject", "bea", "--json")).rows()
    assert all(parse_instant(row["expires_at"]) <= wall_clock() + 10 * DAY for row in hers)


async def test_what_cannot_be_audited_is_not_applied(
    world: World, env: dict[str, str], tmp_path: Path
) -> None:
    await three_turns(world)
    before = await world.kept()
    (tmp_path / "data" / "audit" / "audit.jsonl").mkdir(parents=True)
    refused = await call(env | {"CHATPROXY_RETENTION_SERVICE": "10d"}, "policy", "apply", "--yes")
    assert (refused.status, "audit log" in refused.err) == (1, True)
    assert await world.kept() == before


async def test_what_was_broken_off_goes_on_where_it_was(
    world: World, env: dict[str, str], tmp_path: Path
) -> None:
    await three_turns(world)
    settings = load_settings(env | {"CHATPROXY_RETENTION_SERVICE": "10d"}).settings
    async with open_vault(settings) as vault:
        forecast = await vault.applier.preview(vault.policy, told=lambda _: None)
        assert (forecast.moved, forecast.people) == (3, 2)

        def break_off(people: int) -> None:
            raise KeyboardInterrupt(people)

        with pytest.raises(KeyboardInterrupt):
            await vault.applier.apply(forecast, told=break_off)
        rest = await vault.applier.preview(vault.policy, told=lambda _: None)
        assert 0 < rest.moved < 3
        told: list[int] = []
        applied = await vault.applier.apply(rest, told=told.append)
        assert (applied.turns[Redecided.CHANGED], applied.people, told) == (rest.moved, 2, [1, 2])
        assert (await vault.applier.preview(vault.policy, told=told.append)).moved == 0


async def test_whoever_is_held_is_looked_at_again_after_applying(world: World, env: dict[str, str]) -> None:
    await world.chat("hello")
    await world.kept()
    words = ("hold", "place", "--subject", "ana", "--case", "c", "--authority", "a", "--review", "2999-01-01")
    assert (await call(env, *words)).status == 0
    await world.decided_again()
    settings = load_settings(env | {"CHATPROXY_RETENTION_SERVICE": "1d"}).settings
    marked: list[SubjectTag] = []
    async with open_vault(settings) as vault:
        store = cast(TranscriptStore, _Marking(vault.store, marked))
        applier = Applier(
            store, vault.redecider(Metrics()), vault.policies, audit=vault.audit, clock=vault.clock
        )
        await applier.apply(Forecast(), told=lambda _: None)
    assert marked == [world.tag()]


class _Marking:
    """A store that remembers who was marked."""

    def __init__(self, store: RedisStore, marked: list[SubjectTag]) -> None:
        self._store = store
        self._marked = marked

    def subjects(self) -> AsyncIterator[SubjectTag]:
        return self._store.subjects()

    async def mark_due(self, subject: SubjectTag, at: int) -> None:
        assert at <= wall_clock()
        self._marked.append(subject)


@pytest.mark.parametrize("answer, status", [("y", 0), ("n", 130)])
async def test_on_a_terminal_it_asks(answer: str, status: int, world: World, env: dict[str, str]) -> None:
    await three_turns(world)
    before = await world.kept()
    typed, terminal = os.openpty()
    try:
        os.write(typed, f"{answer}\n".encode())
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "chatproxy", "policy", "apply",
            stdin=terminal, stdout=PIPE, stderr=PIPE, env={**WORDS, **env, "CHATPROXY_RETENTION_SERVICE": "10d"},
        )  # fmt: skip
        out, err = await process.communicate()
    finally:
        os.close(typed)
        os.close(terminal)
    assert (process.returncode, b"gone for good" in err) == (status, True), err
    assert b"2 would change" in out
    assert (await world.kept() == before) == (answer == "n")


# --- replay ---


async def a_busy_life(world: World, env: dict[str, str]) -> None:
    """Turns that were decided on in most ways there are."""
    mine = ("mine", "--subject", "ana")
    who = ANA | {"x-chat-conversation": "mine"}
    await world.chat("before", who=who)
    await world.choose(Choice.GIVEN)
    await world.chat("after", who=who)
    await world.kept()
    await world.decided_again()
    await world.chat("hush", who=ANA | {"x-chat-incognito": "?1"})
    await world.chat("nobody", who={})
    await world.chat("bea", who=BEA)
    rows = await world.kept()
    for words in (
        ("turn", "flag", rows[0]["turn"]),
        ("feedback", "give", *mine, "--kind", "thumbs"),
        ("hold", "place", "--subject", "bea", "--case", "c", "--authority", "a", "--review", "2999-01-01"),
        ("consent", "withdraw", "ana"),
        ("conversation", "delete", *mine),
    ):
        assert (await call(env, *words)).status == 0
        await world.decided_again()
    await world.chat("later", who=ANA)
    await world.kept()


async def test_every_decision_comes_out_as_it_was_noted(world: World, env: dict[str, str]) -> None:
    await a_busy_life(world, env)
    done = await call(env, "policy", "replay", "--json")
    assert (done.status, done.rows()) == (0, [{"turns": 6, "different": 0}])
    hers = await call(env, "policy", "replay", "--subject", "-", "--json", stdin="bea\n")
    assert hers.rows() == [{"turns": 1, "different": 0}]
    assert "6 turns: 0 come out" in (await call(env, "policy", "replay")).out


async def test_what_happened_after_a_decision_is_no_part_of_it(
    tmp_path: Path, store: str, env: dict[str, str]
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat("hello", who=ANA | {"x-chat-conversation": "mine"})
        [row] = await world.kept()
    assert (await call(env, "conversation", "exclude", "mine", "--subject", "ana")).status == 0
    assert (await call(env, "policy", "replay", "--json")).rows() == [{"turns": 1, "different": 0}]
    [found] = (await call(env, "policy", "explain", row["turn"], "--json")).rows()
    [part] = found["parts"]
    assert (part["outcome"]["reason"], part["noted"]["reason"]) == ("CONV_EXCLUDED", "ELIGIBLE_CONSENT")
    assert part["noted"]["is_due"]
    assert found["decided_on"] != found["last_event"]
    assert "still says ELIGIBLE_CONSENT" in (await call(env, "policy", "explain", row["turn"])).out


async def test_a_policy_that_is_gone_and_a_ledger_that_was_cut_are_found(
    world: World, env: dict[str, str], connections: Connections
) -> None:
    await world.choose(Choice.GIVEN, Choice.WITHDRAWN)
    await world.chat("hello")
    await world.chat("hello", who=BEA)
    await world.kept()
    await world.decided_again()
    await connections.ask([["RPOP", f"cp:{{{world.tag().hex()}}}:c"]])
    done = await call(env, "policy", "replay", "--json")
    assert done.status == 3
    assert [row.get("what") for row in done.rows()] == ["event_missing", None]
    assert done.rows()[-1] == {"turns": 2, "different": 1}
    [names] = await connections.ask([["KEYS", "cp:{ctl}:policy:*"]])
    await connections.ask([["DEL", *names]])
    other = await call(env | {"CHATPROXY_RETENTION_SERVICE": "10d"}, "policy", "replay", "--json")
    assert [row.get("what") for row in other.rows()].count("unknown_policy") == 2


async def test_a_policy_under_the_name_of_another_is_not_believed(
    world: World, env: dict[str, str], connections: Connections
) -> None:
    await world.chat("hello")
    await world.kept()
    own = world.running.vault.policy
    elsewhere = env | {"CHATPROXY_RETENTION_SERVICE": "20d"}
    assert (await call(elsewhere, "policy", "replay")).status == 0
    document = own.document.replace(b'"service":"30d"', b'"service":"29d"')
    await connections.ask([["SET", f"cp:{{ctl}}:policy:{own.digest}", document]])
    found = await call(elsewhere, "policy", "replay", "--json")
    assert (found.status, found.rows()[0]["what"]) == (3, "policy_digest")


@pytest.mark.parametrize(
    "changed",
    [
        {"reason": "ELIGIBLE_CONSENT"},
        {"eligible": Eligible(capability=True)},
        {"expires_at": 1},
        {"grounds": {"SERVICE": 1}},
        {"also": ("SAFETY_FLAG",)},
    ],
    ids=str,
)
async def test_a_decision_that_was_made_otherwise_is_found(
    changed: dict[str, Any], world: World, env: dict[str, str], connections: Connections
) -> None:
    await world.choose(Choice.REFUSED)
    await world.chat("hello")
    await world.kept()
    await world.decided_again()  # so that nobody sets right what is forged below
    vault = world.running.vault
    [stored] = [row async for row in vault.store.annotations()]
    named = {"keys": vault.annotation_keys, "subject": stored.subject, "turn": stored.turn}
    annotation = verify(stored.annotation, **named)  # type: ignore[arg-type]
    _, note = read(annotation)
    groups = tuple(replace(group, **changed) for group in note.groups)
    body = replace(note, groups=groups).body()
    forged = authenticate(replace(annotation, body=body), **named)  # type: ignore[arg-type]
    name = f"cp:{{{stored.subject.hex()}}}:a:{stored.turn.hex()}"
    await connections.ask([["HSET", name, *(each for field in forged.items() for each in field)]])

    done = await call(env, "policy", "replay", "--json")

    assert done.status == 3
    [difference, count] = done.rows()
    assert (difference["what"], set(difference["differs"]), count["different"]) == (
        "decision",
        set(changed),
        1,
    )
    assert "CONSENT_REFUSED" in str(difference) or "reason" not in changed
    assert "noted" in (await call(env, "policy", "replay")).out


async def test_a_retry_is_decided_again_replayed_and_explained_by_both_of_its_instants(
    tmp_path: Path, store: str, env: dict[str, str]
) -> None:
    answers = iter(
        [
            response(b'{"error": {"message": "busy"}}', status=b"529 Busy"),
            response(openai_reply("hi"), JSON_TYPE),
        ]
    )

    async def script(peer: Peer) -> None:
        while True:
            await peer.read_request()
            await peer.send(next(answers))

    async with a_world(script, tmp_path, store) as world:
        await world.choose(Choice.GIVEN)
        await world.chat("hello")
        await world.kept()
        await world.choose(Choice.WITHDRAWN)
        await world.decided_again()
        await world.chat("hello")
        [row] = await world.kept()
        assert (row["end"], set(row["grounds"])) == ("complete", {"SERVICE"})
        await world.choose(Choice.DEFERRED)
        await world.decided_again()
        assert await world.kept() == [row]
        assert (await call(env, "policy", "replay")).status == 0
        [found] = (await call(env, "policy", "explain", row["turn"], "--json")).rows()
        assert found["tried_again_at"] is not None
        [part] = found["parts"]
        assert not part["noted"]["is_due"]
        assert "agreed" in {each["if"] for each in part["would_change"]}
        assert "withdrew" in part["would_not_change"]


# --- doctor ---


async def test_doctor_says_when_turns_lie_under_a_looser_policy(world: World, env: dict[str, str]) -> None:
    await three_turns(world)

    async def policy(**changed: str) -> dict[str, Any]:
        done = await call(env | changed, "doctor", "--deep", "--json")
        return next(row for row in done.rows() if row["check"] == "policy")

    assert (await policy())["state"] == "ok"
    looser = await policy(CHATPROXY_RETENTION_SERVICE="10d")
    assert looser["state"] == "warning"
    assert "3 of 3 turns" in looser["what"]
    assert "policy preview" in looser["fix"]
    assert (await policy(CHATPROXY_RETENTION_SERVICE="60d"))["state"] == "ok"


async def test_doctor_says_when_a_node_decides_under_another_policy(
    world: World, env: dict[str, str], tmp_path: Path, store: str
) -> None:
    await world.chat("hello")
    await world.kept()
    elsewhere = str(tmp_path / "other")
    async with a_world(
        chatting(), tmp_path, store, node="node-2", retention_service="60d", data_dir=elsewhere
    ) as second:
        await second.chat("hello", who=BEA)
        await second.kept()
    warned = next(row for row in (await call(env, "doctor", "--json")).rows() if row["check"] == "policy")
    assert (warned["state"], "node-2" in warned["what"], "node-1" in warned["what"]) == (
        "warning",
        True,
        False,
    )
    theirs = env | {"CHATPROXY_RETENTION_SERVICE": "60d"}
    await world.choose(Choice.GIVEN)
    await world.decided_again()  # later, and under the policy that the turn had: no sign of a node apart
    fine = next(row for row in (await call(theirs, "doctor", "--json")).rows() if row["check"] == "policy")
    assert fine["state"] == "ok"


async def test_doctor_looks_at_a_sample_unless_it_is_asked_for_all(world: World) -> None:
    await three_turns(world)
    vault = world.running.vault
    some = await survey(vault.store, vault.annotation_keys, vault.policies, most=2)
    assert (some.turns, some.is_whole) == (2, False)
    every = await survey(vault.store, vault.annotation_keys, vault.policies, most=None)
    assert (every.turns, every.is_whole) == (3, True)
