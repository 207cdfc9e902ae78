"""The admin API beyond choices: turns, conversations, holds and people, by pseudonym and handle (R5, R17 to R24)."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice, FactEvent
from chatproxy.errors import ConflictError
from chatproxy.model import SubjectTag
from chatproxy.policy.instants import format_instant
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.workflows.happenings import Actor
from chatproxy.workflows.transcripts import KeptTurn
from integration.proxy_fixtures import DAY, World, a_world, all_keys, chatting, http_client
from integration.test_person_api import assert_problem

TOKEN = "a-token-of-the-company"
BEARER = {"authorization": f"Bearer {TOKEN}"}
HOLD = {"case": "A-1", "authority": "a court", "review_at": format_instant(wall_clock() + 90 * DAY)}


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


@dataclass
class Company:
    """A company whose person Ana has said something."""

    world: World
    client: httpx.AsyncClient
    ana: str
    conversation: str
    turn: str
    directory: Path

    async def asks(self, method: str, path: str, **body: Any) -> httpx.Response:
        more: dict[str, Any] = {"json": body} if body else {}
        return await self.client.request(method, f"/subjects/{self.ana}{path}", **more)

    async def does(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        answer = await self.asks(method, path, **body)
        assert answer.status_code == 200, answer.text
        await self.world.decided_again()
        found: dict[str, Any] = answer.json()
        return found

    async def row(self) -> dict[str, Any]:
        [row] = await self.world.kept()
        return row

    def audited(self) -> list[tuple[str, str]]:
        lines = (self.directory / "data" / "audit" / "audit.jsonl").read_text().splitlines()
        return [(entry["action"], entry["for"]) for entry in map(json.loads, lines) if "for" in entry]


@asynccontextmanager
async def a_company(tmp_path: Path, store: str) -> AsyncIterator[Company]:
    async with (
        a_world(chatting(), tmp_path, store, admin_token=TOKEN) as world,
        http_client(world.running.admin_url + "/api/v1", headers=BEARER) as client,
    ):
        await world.chat("hello")
        [row] = await world.kept()
        yield Company(world, client, world.tag().hex(), row["conversation"], row["turn"], tmp_path)


@pytest.fixture
async def company(tmp_path: Path, store: str) -> AsyncIterator[Company]:
    async with a_company(tmp_path, store) as company:
        yield company


async def test_a_turn_is_flagged_once_and_unflagged(company: Company) -> None:
    path = f"/turns/{company.turn}/flag"
    assert (await company.does("POST", path))["recorded"]
    assert "SAFETY_IO" in (await company.row())["grounds"]
    assert await company.does("POST", path) == {"recorded": False, "at": None}
    assert (await company.does("DELETE", path))["recorded"]
    assert "SAFETY_IO" not in (await company.row())["grounds"]
    assert company.audited() == [("turn.flagged", "company"), ("turn.flag_lifted", "company")]


async def test_a_conversation_is_steered_by_the_company_for_its_person(company: Company) -> None:
    path = f"/conversations/{company.conversation}"
    for verb, override in (("share", "share"), ("exclude", "exclude"), ("follow", "inherit")):
        assert (await company.does("POST", f"{path}/{verb}"))["override"] == override
    given = await company.does("POST", f"{path}/feedback", kind="bug")
    assert given["conversation"]["feedback"] == "bug"
    taken = await company.does("DELETE", f"{path}/feedback")
    assert taken["conversation"]["feedback"] is None
    assert (await company.does("DELETE", path))["stays"] == []
    assert_problem(await company.asks("POST", f"{path}/share"), 404, "not_found")
    assert {by for _, by in company.audited()} == {"company"}
    assert [action for action, _ in company.audited()] == [
        "conversation.given",
        "conversation.refused",
        "conversation.withdrawn",
        "feedback.given",
        "feedback.withdrawn",
        "conversation.deleted",
    ]


@pytest.mark.parametrize("of_one", [True, False], ids=["one conversation", "all"])
async def test_a_hold_is_placed_listed_and_released(of_one: bool, company: Company) -> None:
    about = {"conversation": company.conversation} if of_one else {}
    assert (await company.does("POST", "/holds", **HOLD, **about))["recorded"]
    listed = await company.does("GET", "/holds")
    assert listed["holds"] == [
        {
            "subject": company.ana,
            "conversation": about.get("conversation"),
            "case": "A-1",
            "authority": "a court",
            "placed_at": listed["holds"][0]["placed_at"],
            "review_at": HOLD["review_at"],
            "is_overdue": False,
        }
    ]
    assert (await company.client.get("/holds")).json() == listed
    assert_problem(await company.asks("POST", "/holds/release", case="A-2", **about), 404, "not_found")
    await company.does("POST", "/holds/release", case="A-1", **about)
    assert (await company.client.get("/holds")).json() == {"holds": [], "unreadable": 0}
    log = (company.directory / "data" / "audit" / "audit.jsonl").read_text()
    assert "A-1" not in log


@pytest.mark.parametrize(
    "change",
    [
        {"review_at": "soon"},
        {"review_at": format_instant(wall_clock() - DAY)},
        {"case": ""},
        {"case": " "},
        {"authority": "x" * 201},
        {"more": "x"},
    ],
    ids=str,
)
async def test_a_hold_of_another_form_is_refused(change: dict[str, str], company: Company) -> None:
    assert_problem(await company.asks("POST", "/holds", **HOLD | change), 422, "invalid")
    assert (await company.does("GET", "/holds"))["holds"] == []


async def test_of_a_minor_nothing_is_left(company: Company) -> None:
    assert (await company.does("POST", "/minor"))["recorded"]
    assert await company.world.kept() == []
    assert not (await company.does("POST", "/minor"))["recorded"]


BY_HANDLE = [
    ("POST", "/turns/{turn}/flag", {}),
    ("DELETE", "/turns/{turn}/flag", {}),
    ("POST", "/holds", HOLD | {"conversation": "{conversation}"}),
    ("POST", "/holds/release", {"case": "A-1", "conversation": "{conversation}"}),
    ("DELETE", "/conversations/{conversation}", {}),
    ("POST", "/conversations/{conversation}/share", {}),
    ("POST", "/conversations/{conversation}/exclude", {}),
    ("POST", "/conversations/{conversation}/follow", {}),
    ("POST", "/conversations/{conversation}/feedback", {"kind": "bug"}),
    ("DELETE", "/conversations/{conversation}/feedback", {}),
]


@pytest.mark.parametrize("method, path, body", BY_HANDLE, ids=[f"{m} {p}" for m, p, _ in BY_HANDLE])
async def test_a_handle_of_somebody_else_finds_nothing(
    method: str, path: str, body: dict[str, str], company: Company, connections: Connections
) -> None:
    before = await all_keys(connections)
    answers = []
    for turn, conversation in (
        (company.turn, company.conversation),
        ("t_" + "A" * 43, "c_" + "A" * 43),
        ("x", "x"),
    ):
        names = {"turn": turn, "conversation": conversation}
        filled = {name: value.format(**names) for name, value in body.items()}
        more: dict[str, Any] = {"json": filled} if filled else {}
        url = f"/subjects/{bytes(16).hex()}{path.format(**names)}"
        answer = await company.client.request(method, url, **more)
        answers.append({**answer.json(), "request_id": ""})
        assert_problem(answer, 404, "not_found")
    assert answers[0] == answers[1] == answers[2]
    assert await all_keys(connections) == before


# --- nobody ---


async def a_stray(company: Company) -> KeptTurn:
    await company.world.chat("who am I", who={"x-chat-plan": "pro"})
    await company.world.kept()
    turns = [turn for turn in await company.world.turns() if isinstance(turn, KeptTurn)]
    [stray] = [turn for turn in turns if turn.subject.hex() != company.ana]
    return stray


async def test_nobodys_conversation_cannot_be_shared(company: Company) -> None:
    stray = await a_stray(company)
    vault = company.world.running.vault
    handle = vault.pseudonyms.conversation_handle(stray.subject, stray.facts.conversation_tag)
    path = f"/subjects/{stray.subject.hex()}/conversations/{handle}"
    assert_problem(await company.client.post(f"{path}/share"), 409, "conflict")
    with pytest.raises(ConflictError, match="nobody"):
        await vault.happenings.choose(
            stray.subject,
            stray.facts.conversation_tag,
            Choice.GIVEN,
            actor=Actor(by="test", method="test"),
        )
    assert (await company.client.delete(path)).status_code == 200
    [event] = await vault.ledger.history(stray.subject)
    assert isinstance(event, FactEvent)


async def test_no_choice_that_is_written_for_nobody_makes_a_turn_eligible(company: Company) -> None:
    stray = await a_stray(company)
    vault = company.world.running.vault
    for conversation in (stray.facts.conversation_tag, None):
        await vault.ledger.record(
            stray.subject,
            Choice.GIVEN,
            at=stray.facts.received_at - 1000,
            by="test",
            method="test",
            conversation=conversation,
        )
    await company.world.decided_again()
    [turn] = [turn async for turn in vault.transcripts.walk(subject=SubjectTag(stray.subject))]
    assert isinstance(turn, KeptTurn)
    assert turn.note.nobody
    assert turn.note.decided_at >= stray.note.decided_at
    [group] = turn.groups
    assert not group.eligible.capability
    assert "TRAIN" not in group.grounds
    assert group.expires_at == stray.groups[0].expires_at
