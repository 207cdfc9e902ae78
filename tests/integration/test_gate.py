"""After the deadline a chat is held up only if it is certain that its person has not chosen, and that it matters."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice, Circumstances, FactKind
from chatproxy.policy.instants import format_instant
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.proxy_fixtures import (
    ANA,
    ANA_LINES,
    ANTHROPIC,
    OPENAI,
    AheadClock,
    World,
    a_world,
    chatting,
    exchange,
)
from integration.test_proxy_store_away import gate as store_door
from integration.websocket_fixtures import upgrade
from unit.consent.choice_files import a_choice, a_version, write_notice

PAGE = "https://chat.example.com/choice"
PAST = "2025-10-08T00:00:00Z"
FUTURE = format_instant(wall_clock() + 86_400_000)


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


@asynccontextmanager
async def a_closed_gate(
    directory: Path, store: str, *versions: str, deadline: str = PAST, **overrides: str
) -> AsyncIterator[World]:
    """A proxy whose gate is closed since 2025, about the version called 1, or about *versions*."""
    choice = a_choice(directory / "choice", *versions)
    if len(versions) > 1:
        write_notice(choice, "2.en")
    settings: dict[str, Any] = {
        "choice_notices": str(choice),
        "choice_missing": "gate",
        "choice_deadline": deadline,
        "choice_url": PAGE,
    }
    async with a_world(chatting(), directory, store, **(settings | overrides)) as world:
        yield world


@pytest.mark.parametrize(
    "path, at",
    [
        (OPENAI, ["error", "message"]),
        ("/v1/responses", ["error", "message"]),
        (ANTHROPIC, ["error", "message"]),
        ("/v1beta/models/m:generateContent", ["error", "message"]),
        ("/api/chat", ["error"]),
    ],
    ids=["OpenAI", "responses", "Anthropic", "Gemini", "Ollama"],
)
async def test_who_has_not_chosen_is_told_so_in_the_dialect_they_speak(
    path: str, at: list[str], tmp_path: Path, store: str
) -> None:
    async with a_closed_gate(tmp_path, store) as world:
        answer = await world.chat("hello", path=path)

        assert answer.status_code == 403
        assert answer.headers["x-request-id"]
        words = answer.json()
        for key in at:
            words = words[key]
        assert words.startswith("CHOICE_REQUIRED: ")
        assert words.endswith(PAGE)
        assert not world.backend.connections
        assert world.counted("chatproxy_turns_seen_total") == 0
        assert world.counted("chatproxy_failures_total", code="CHOICE_REQUIRED") == 1
        assert world.counted("chatproxy_gate_total", answer="refused") == 1
        assert await world.kept() == []


async def test_the_code_is_in_its_place_where_the_dialect_has_one(tmp_path: Path, store: str) -> None:
    async with a_closed_gate(tmp_path, store) as world:
        assert (await world.chat("hello")).json()["error"]["code"] == "CHOICE_REQUIRED"


@pytest.mark.parametrize("choice", [Choice.GIVEN, Choice.REFUSED, Choice.WITHDRAWN])
async def test_a_yes_opens_the_gate_and_so_does_a_no(choice: Choice, tmp_path: Path, store: str) -> None:
    async with a_closed_gate(tmp_path, store) as world:
        assert (await world.chat("hello")).status_code == 403
        await world.choose(choice)
        assert (await world.chat("hello")).status_code == 200
        [row] = await world.kept()
        assert row["eligible"]["capability"] is (choice is Choice.GIVEN)


async def test_not_now_does_not_open_it_after_the_deadline(tmp_path: Path, store: str) -> None:
    async with a_closed_gate(tmp_path, store) as world:
        await world.choose(Choice.DEFERRED)
        assert (await world.chat("hello")).status_code == 403


@pytest.mark.parametrize(
    "who",
    [
        pytest.param({"x-chat-plan": "team"}, id="an exempt plan"),
        pytest.param({"x-chat-plan": "mystery"}, id="an unknown plan"),
        pytest.param({"x-chat-zdr": "?1"}, id="zero data retention"),
        pytest.param({"x-chat-age": "minor"}, id="a minor"),
        pytest.param({"x-chat-incognito": "?1"}, id="incognito"),
        pytest.param({"content-usage": "train-ai=n"}, id="a signal against training"),
        pytest.param({"x-chat-surface": "toaster"}, id="an unknown surface"),
        pytest.param({"x-chat-subject": ""}, id="nobody"),
    ],
)
async def test_whom_a_choice_does_not_concern_is_not_held_up(
    who: dict[str, str], tmp_path: Path, store: str
) -> None:
    async with a_closed_gate(tmp_path, store) as world:
        headers = {name: value for name, value in (ANA | who).items() if value}
        assert (await world.chat("hello", who=headers)).status_code == 200
        assert world.counted("chatproxy_gate_total", answer="passed") == 0
        assert (await world.chat("hello")).status_code == 403


async def test_unproved_age_is_asked_where_it_counts_as_adult_alone(tmp_path: Path, store: str) -> None:
    who = ANA | {"x-chat-age": "unknown"}
    async with a_closed_gate(tmp_path / "standard", store) as world:
        assert (await world.chat("hello", who=who)).status_code == 403
    async with a_closed_gate(
        tmp_path / "strict", store, policy_unknown_age="ineligible", keyset=world.running.vault.settings.keyset
    ) as world:  # fmt: skip
        assert (await world.chat("hello", who=who)).status_code == 200


async def test_who_was_found_to_be_a_minor_is_not_held_up(tmp_path: Path, store: str) -> None:
    async with a_closed_gate(tmp_path, store) as world:
        await world.running.vault.ledger.note(
            world.tag(), FactKind.MINOR_FOUND, at=wall_clock(), by="test", method="test"
        )
        assert (await world.chat("hello")).status_code == 200


async def test_what_is_no_chat_passes(tmp_path: Path, store: str) -> None:
    async with a_closed_gate(tmp_path, store) as world:
        assert (await world.client.get("/v1/models", headers=ANA)).status_code == 200
        assert world.counted("chatproxy_gate_total", answer="refused") == 0


@pytest.mark.parametrize(
    "settings",
    [{"choice_missing": "treat_as_refused"}, {"choice_deadline": FUTURE}],
    ids=["a missing choice is a no", "before the deadline"],
)
async def test_an_open_gate_holds_nobody_up(settings: dict[str, str], tmp_path: Path, store: str) -> None:
    async with a_closed_gate(tmp_path, store, **settings) as world:
        assert (await world.chat("hello")).status_code == 200
        [row] = await world.kept()
        assert (row["reason"], row["eligible"]["capability"]) == ("CONSENT_UNKNOWN", False)


async def test_where_nothing_is_published_nobody_is_held_up(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with a_world(
        chatting(), tmp_path, store, choice_missing="gate", choice_deadline=PAST
    ) as world:  # fmt: skip
        assert (await world.chat("hello")).status_code == 200


async def test_a_choice_that_was_not_heard_of_here_opens_the_gate_all_the_same(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_closed_gate(tmp_path, store) as world:
        assert (await world.chat("hello")).status_code == 403
        ledger = b"cp:{%b}:c" % world.tag().hex().encode()
        await world.choose(Choice.REFUSED, subject="bob")
        await world.choose(Choice.REFUSED)
        [[event]] = await connections.ask([["LRANGE", ledger, 0, -1]])
        await connections.ask([["DEL", ledger]])
        assert (await world.chat("hello")).status_code == 403
        await connections.ask([["RPUSH", ledger, event]])  # without a word to any node
        assert (await world.chat("hello")).status_code == 200


async def test_who_is_known_to_have_chosen_passes_without_asking_the_store(
    tmp_path: Path, store: str
) -> None:
    async with store_door(store) as door, a_closed_gate(tmp_path, door.url) as world:
        await world.choose(Choice.REFUSED)
        assert (await world.chat("hello")).status_code == 200
        await world.kept()
        door.swallows = True
        assert (await world.chat("hello")).status_code == 200
        assert world.counted("chatproxy_gate_total", answer="passed") == 2
        assert world.counted("chatproxy_gate_total", answer="unanswered") == 0
        door.swallows = False


async def test_a_store_that_is_away_lets_the_chat_pass_and_it_is_kept_as_refused(
    tmp_path: Path, store: str
) -> None:
    async with store_door(store) as door:
        await door.shut()
        async with a_closed_gate(tmp_path, door.url) as world:
            assert (await world.chat("hello")).status_code == 200
            assert world.counted("chatproxy_gate_total", answer="unanswered") == 1
            await door.open()
            [row] = await world.kept()
            assert (row["reason"], row["eligible"]["capability"]) == ("CONSENT_UNKNOWN", False)


async def test_a_store_that_does_not_answer_is_not_waited_for(tmp_path: Path, store: str) -> None:
    async with store_door(store) as door, a_closed_gate(tmp_path, door.url, store_timeout="1h") as world:
        door.swallows = True
        assert (await world.chat("hello")).status_code == 200
        assert world.counted("chatproxy_gate_total", answer="unanswered") == 1


async def test_a_ledger_that_is_not_authentic_lets_the_chat_pass(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_closed_gate(tmp_path, store) as world:
        await connections.ask([["RPUSH", b"cp:{%b}:c" % world.tag().hex().encode(), b"forged"]])
        assert (await world.chat("hello")).status_code == 200
        assert world.counted("chatproxy_gate_total", answer="unanswered") == 1


async def test_a_ledger_that_is_damaged_lets_the_chat_pass(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_closed_gate(tmp_path, store) as world:
        await connections.ask([["HSET", b"cp:{%b}:s" % world.tag().hex().encode(), "gen", "damaged"]])
        assert (await world.chat("hello")).status_code == 200
        assert world.counted("chatproxy_gate_total", answer="unanswered") == 1


SOCKETS = """\
[helpdesk]
transport = "websocket"
path = "/socket"
request_text = "say"
reply_text = "answer"
stream_end = "done=true"
"""


async def test_a_websocket_that_would_be_captured_is_refused_before_it_is_one(
    tmp_path: Path, store: str
) -> None:
    chats = tmp_path / "chats.toml"
    chats.write_text(SOCKETS, encoding="utf-8")
    async with a_closed_gate(tmp_path, store, json_chats=str(chats)) as world:
        answer = await exchange(world.running.url, upgrade(b"/socket", *ANA_LINES))

        assert answer.status == 403
        assert b"CHOICE_REQUIRED" in answer.body
        assert not world.backend.connections

        await exchange(world.running.url, upgrade(b"/elsewhere", *ANA_LINES))
        assert world.counted("chatproxy_gate_total", answer="refused") == 1


# --- versions ---


def a_later_version(at: int, *, material: bool) -> str:
    text = a_version("2", published="2026-01-01", material=material)
    return text.replace("2025-09-28T00:00:00Z", format_instant(at))


async def choose(world: World, choice: Choice, version: str, clock: AheadClock) -> None:
    [policy] = [known for known in world.running.vault.terms.versions if known.version == version]
    await world.running.vault.ledger.record(
        world.tag(), choice, at=clock(), by="test", method="test", circumstances=Circumstances(policy=policy)
    )


async def reasons(world: World) -> list[str]:
    return [row["reason"] for row in await world.kept()]


STEP = 5_000


@asynccontextmanager
async def two_versions(
    directory: Path, store: str, *, material: bool, **settings: str
) -> AsyncIterator[tuple[World, AheadClock]]:
    """Version 2 takes effect in a while; the clock can be put after that."""
    clock = AheadClock()
    choice = a_choice(
        directory / "choice", a_version("1"), a_later_version(clock() + STEP, material=material)
    )
    write_notice(choice, "2.en")
    async with a_world(
        chatting(), directory, store, clock=clock, choice_notices=str(choice), **settings
    ) as world:
        yield world, clock


async def test_a_material_version_ends_a_yes_for_new_turns_and_leaves_the_old_ones(
    tmp_path: Path, store: str
) -> None:
    async with two_versions(tmp_path, store, material=True) as (world, clock):
        await choose(world, Choice.GIVEN, "1", clock)
        await world.chat("before")
        assert await reasons(world) == ["ELIGIBLE_CONSENT"]
        clock.ahead = 2 * STEP
        answer = await world.chat("after")
        assert answer.headers["x-decision-reason"] in {"CONSENT_STALE_VERSION", "PENDING"}
        before, after = await world.kept()
        assert after["reason"] == "CONSENT_STALE_VERSION"
        assert before["eligible"]["capability"]
        assert set(before["grounds"]) == {"SERVICE", "TRAIN"}
        assert not after["eligible"]["capability"]
        assert set(after["grounds"]) == {"SERVICE"}

        await choose(world, Choice.DEFERRED, "2", clock)
        await world.chat("put off")
        await choose(world, Choice.GIVEN, "1", clock)
        await world.chat("an old screen")
        await choose(world, Choice.GIVEN, "2", clock)
        await world.chat("agreed")
        await world.kept()
        await world.decided_again()
        stale = ["NOT_RESUMED"] * 3
        assert await reasons(world) == ["ELIGIBLE_PRIOR_VERSION", *stale, "ELIGIBLE_CONSENT"]
        assert [row["eligible"]["capability"] for row in await world.kept()] == [True, *[False] * 3, True]


async def test_who_agrees_to_a_version_before_it_takes_effect_has_agreed_to_it(
    tmp_path: Path, store: str
) -> None:
    async with two_versions(tmp_path, store, material=True) as (world, clock):
        await choose(world, Choice.GIVEN, "2", clock)
        await world.chat("before")
        clock.ahead = 2 * STEP
        await world.chat("after")
        assert await reasons(world) == ["ELIGIBLE_CONSENT", "ELIGIBLE_CONSENT"]


async def test_a_version_that_is_not_material_changes_nothing_and_reaches_nothing_old(
    tmp_path: Path, store: str
) -> None:
    async with two_versions(tmp_path, store, material=False) as (world, clock):
        await choose(world, Choice.REFUSED, "1", clock)
        await world.chat("refused")
        await choose(world, Choice.GIVEN, "1", clock)
        await world.chat("before")
        expiries = [row["expires_at"] for row in await world.kept()]
        clock.ahead = 2 * STEP
        await world.chat("after")
        assert await reasons(world) == ["NOT_RESUMED", "ELIGIBLE_CONSENT", "ELIGIBLE_CONSENT"]
        assert [row["expires_at"] for row in await world.kept()][:2] == expiries


async def test_a_version_that_is_added_after_it_took_effect_counts_from_its_date(
    tmp_path: Path, store: str
) -> None:
    choice = a_choice(tmp_path / "choice")
    agreed_at = wall_clock() - 2 * STEP
    async with a_world(chatting(), tmp_path, store, choice_notices=str(choice)) as world:
        await world.choose(Choice.GIVEN, at=agreed_at)
        await world.chat("hello")
        assert await reasons(world) == ["ELIGIBLE_CONSENT"]
    a_choice(choice, a_version("1"), a_later_version(agreed_at + STEP, material=True))
    write_notice(choice, "2.en")
    async with a_world(chatting(), tmp_path, store, choice_notices=str(choice)) as world:
        [row] = await world.kept()
        assert (row["reason"], row["eligible"]["capability"]) == ("CONSENT_STALE_VERSION", False)
        assert set(row["grounds"]) == {"SERVICE"}


async def test_a_no_stands_under_a_material_version(tmp_path: Path, store: str) -> None:
    async with two_versions(
        tmp_path, store, material=True, choice_missing="gate", choice_deadline=PAST
    ) as (world, clock):  # fmt: skip
        await choose(world, Choice.REFUSED, "1", clock)
        clock.ahead = 2 * STEP
        assert (await world.chat("after")).status_code == 200
        assert await reasons(world) == ["CONSENT_REFUSED"]


async def test_who_agreed_to_an_earlier_version_is_held_up_once_a_material_one_is_in_force(
    tmp_path: Path, store: str
) -> None:
    async with two_versions(
        tmp_path, store, material=True, choice_missing="gate", choice_deadline=PAST
    ) as (world, clock):  # fmt: skip
        await choose(world, Choice.GIVEN, "1", clock)
        assert (await world.chat("before")).status_code == 200
        clock.ahead = 2 * STEP
        assert (await world.chat("after")).status_code == 403
        await choose(world, Choice.GIVEN, "2", clock)
        assert (await world.chat("after")).status_code == 200
