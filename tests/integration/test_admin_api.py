"""The admin API: with the token alone, by pseudonym, and an import that is safe to run again."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice, ConsentEvent
from chatproxy.consent.receipts import verify_receipt
from chatproxy.policy.instants import format_instant
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.proxy_fixtures import World, a_world, all_keys, chatting, http_client
from integration.test_person_api import assert_problem

TOKEN = "a-token-of-the-company"
NEXT_TOKEN = "the-token-that-comes-next"
BEARER = {"authorization": f"Bearer {TOKEN}"}
SIGN_UP = {"choice": "yes", "screen": "signup", "language": "fr", "method": "signup:yes", "plan": "Pro"}
AT = wall_clock() - 3_600_000


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


@asynccontextmanager
async def a_company(
    tmp_path: Path, store: str, token: str = TOKEN
) -> AsyncIterator[tuple[World, httpx.AsyncClient]]:
    """A world, and a client of its admin API that has the token."""
    async with (
        a_world(chatting(), tmp_path, store, admin_token=token) as world,
        http_client(world.running.admin_url + "/api/v1", headers=BEARER) as client,
    ):
        yield world, client


async def tag_of(client: httpx.AsyncClient, subject: str, **more: str) -> str:
    answer = await client.post("/subjects", json={"subject": subject} | more)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["subject"])


def line(source_id: str, state: str = "given", *, subject: str = "ana", at: int = AT, **more: Any) -> str:
    record = {"source_id": source_id, "subject": subject, "state": state, "at": format_instant(at)}
    return json.dumps(record | more)


async def take_over(client: httpx.AsyncClient, *lines: str, dry_run: bool = False) -> dict[str, Any]:
    answer = await client.post(
        "/import" + ("?dry_run=true" if dry_run else ""),
        content="\n".join(lines).encode(),
        headers={"content-type": "application/x-ndjson"},
    )
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def counts(answer: dict[str, Any]) -> tuple[int, int, int, int]:
    return answer["lines"], answer["recorded"], answer["known"], answer["refused"]


# --- who may ask ---


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {TOKEN}x"},
        {"authorization": f"Bearer {TOKEN[:-1]}"},
        {"authorization": f"Basic {TOKEN}"},
        {"authorization": TOKEN},
        {"authorization": f"Bearer {TOKEN},{NEXT_TOKEN}"},
    ],
    ids=str,
)
async def test_without_the_token_nothing_is_done(tmp_path: Path, store: str, headers: dict[str, str]) -> None:
    async with a_company(tmp_path, store, f"{TOKEN},{NEXT_TOKEN}") as (_, client):
        answer = await client.post("/subjects", json={"subject": "ana"}, headers=headers)
        assert_problem(answer, 401, "unauthenticated")
        assert answer.headers["www-authenticate"] == "Bearer"


async def test_while_it_is_changed_both_tokens_count(tmp_path: Path, store: str) -> None:
    async with a_company(tmp_path, store, f"{TOKEN},{NEXT_TOKEN}") as (_, client):
        for token in (TOKEN, NEXT_TOKEN):
            answer = await client.post(
                "/subjects", json={"subject": "ana"}, headers={"authorization": f"bearer {token}"}
            )
            assert answer.status_code == 200


async def test_without_a_token_in_the_settings_the_api_says_how_to_enable_it(
    tmp_path: Path, store: str
) -> None:
    async with (
        a_world(chatting(), tmp_path, store) as world,
        http_client(world.running.admin_url) as client,
    ):
        answer = await client.post("/api/v1/subjects", json={"subject": "ana"}, headers=BEARER)
        assert_problem(answer, 403, "api_disabled")
        assert "CHATPROXY_ADMIN_TOKEN" in answer.json()["detail"]


async def test_the_admin_api_is_not_on_the_public_listener(tmp_path: Path, store: str) -> None:
    async with a_company(tmp_path, store) as (world, _):
        for path in ("/_chatproxy/api/v1/links", "/_chatproxy/api/v1/subjects", "/_chatproxy/api/v1/import"):
            answer = await world.client.post(path, json={"subject": "ana"}, headers=BEARER)
            assert_problem(answer, 404, "not_found")


# --- by subject ---


async def test_a_choice_at_sign_up_is_recorded_read_and_proved(tmp_path: Path, store: str) -> None:
    async with a_company(tmp_path, store) as (world, client):
        person = f"/subjects/{await tag_of(client, 'ana')}"
        assert (await client.get(f"{person}/choice")).json()["choice"] is None
        made = await client.put(f"{person}/choice", json=SIGN_UP)
        assert made.status_code == 200, made.text
        stands = (await client.get(f"{person}/choice")).json()
        assert (stands["choice"], stands["receipt_id"]) == ("yes", made.json()["receipt_id"])
        [entry] = (await client.get(f"{person}/history")).json()["entries"]
        assert (entry["by"], entry["method"]) == ("company", "signup:yes")
        receipt = await client.get(f"{person}/receipts/{stands['receipt_id']}")
        proved = verify_receipt(receipt.content, publics=world.running.vault.keyset.signing_publics())
        shown = proved["pii_processing"]["privacy_notice"]
        assert (shown["language"], shown["screen"]) == ("fr", "signup")
        [event] = await world.running.vault.ledger.history(world.tag())
        assert isinstance(event, ConsentEvent)
        assert event.record["account_plan"] == "pro"
        await world.chat("hello")
        [row] = await world.kept()
        assert row["reason"] == "ELIGIBLE_CONSENT"


async def test_a_deleted_account_is_told_what_stays(tmp_path: Path, store: str) -> None:
    async with a_company(tmp_path, store) as (world, client):
        person = f"/subjects/{await tag_of(client, 'ana')}"
        await client.put(f"{person}/choice", json=SIGN_UP)
        await world.chat("hello")
        await world.kept()
        deleted = await client.delete(f"{person}/account")
        assert (deleted.status_code, deleted.json()["stays"]) == (200, [])
        assert (await client.get(f"{person}/choice")).json()["state"] == "withdrawn"
        [row] = await world.kept()
        assert row["reason"] == "ACCOUNT_DELETED"


SPELLINGS = ["*", "an*", "ana/../ben", "ana:ben", "an\u0430", "\uff21\uff2e\uff21", "ana ", "ana\x00", "Ana"]


@pytest.mark.parametrize("subject", SPELLINGS)
async def test_every_spelling_of_an_id_is_a_person_of_its_own(
    tmp_path: Path, store: str, subject: str
) -> None:
    async with a_company(tmp_path, store) as (_, client):
        await client.put(f"/subjects/{await tag_of(client, 'ana')}/choice", json=SIGN_UP)
        tag = await tag_of(client, subject)
        assert (await client.get(f"/subjects/{tag}/history")).json()["entries"] == []
        assert (await client.delete(f"/subjects/{tag}/account")).json()["stays"] == []
        other = await tag_of(client, "ana", tenant="other")
        assert (await client.get(f"/subjects/{other}/history")).json()["entries"] == []
        stands = (await client.get(f"/subjects/{await tag_of(client, 'ana')}/choice")).json()
        assert stands["choice"] == "yes"


@pytest.mark.parametrize(
    "name", ["*", "ana", "A" * 32, "0" * 31, "0" * 33, "0" * 32 + "%0A", "..%2F..", "%7B%7D"]
)
async def test_only_a_pseudonym_names_a_person(tmp_path: Path, store: str, name: str) -> None:
    async with a_company(tmp_path, store) as (_, client):
        for method, path in (("GET", "choice"), ("GET", "history"), ("DELETE", "account")):
            assert_problem(await client.request(method, f"/subjects/{name}/{path}"), 404, "not_found")


@pytest.mark.parametrize(
    "path, body",
    [
        ("/subjects", {"subject": ""}),
        ("/subjects", {"subject": "x" * 257}),
        ("/subjects", {"subject": 1}),
        ("/subjects", {}),
        ("/links", {"subject": "ana", "days": 7}),
        ("/links", {"subject": "ana", "language": "<b>"}),
    ],
)
async def test_a_body_of_another_form_is_refused(
    tmp_path: Path, store: str, path: str, body: dict[str, Any]
) -> None:
    async with a_company(tmp_path, store) as (_, client):
        assert_problem(await client.post(path, json=body), 422, "invalid")


# --- import ---


async def test_an_import_is_taken_over_once(tmp_path: Path, store: str) -> None:
    async with a_company(tmp_path, store) as (world, client):
        lines = [
            line("1", at=AT),
            line("2", "withdrawn", at=AT + 1000),
            "",
            line("1", "refused", subject="ben"),
        ]
        assert counts(await take_over(client, *lines)) == (3, 3, 0, 0)
        assert counts(await take_over(client, *lines)) == (3, 0, 3, 0)
        events = await world.running.vault.ledger.history(world.tag())
        assert [(event.at, event.by) for event in events] == [(AT, "company"), (AT + 1000, "company")]
        assert [event.choice for event in events if isinstance(event, ConsentEvent)] == [
            Choice.GIVEN,
            Choice.WITHDRAWN,
        ]
        [ben] = await world.running.vault.ledger.history(world.tag("ben"))
        assert isinstance(ben, ConsentEvent)
        assert ben.choice is Choice.REFUSED


async def test_a_dry_run_says_the_same_and_writes_nothing(
    tmp_path: Path, store: str, connections: Connections
) -> None:
    async with a_company(tmp_path, store) as (world, client):
        await take_over(client, line("0", subject="ben"))
        await world.decided_again()
        before = await all_keys(connections)
        lines = [
            line("0", subject="ben"),
            line("1", at=AT),
            line("1", at=AT),
            line("2", "refused", at=AT - 1),
            line("3", "refused", at=AT + 1),
            "{",
            line("4", subject="ben", at=AT),
        ]
        dry = await take_over(client, *lines, dry_run=True)
        assert counts(dry) == (7, 2, 2, 3)
        assert dry["dry_run"]
        assert await all_keys(connections) == before
        wet = await take_over(client, *lines)
        assert counts(wet) == counts(dry)
        assert [problem["line"] for problem in wet["problems"]] == [4, 6, 7]


async def test_a_yes_of_before_does_not_stand_over_a_no(tmp_path: Path, store: str) -> None:
    async with a_company(tmp_path, store) as (world, client):
        await world.choose(Choice.REFUSED)
        answer = await take_over(client, line("1", at=AT))
        assert counts(answer) == (1, 0, 0, 1)
        assert "an older choice must not stand over" in answer["problems"][0]["problem"]
        assert len(await world.running.vault.ledger.history(world.tag())) == 1


@pytest.mark.parametrize(
    "text, said",
    [
        (line("1", at=wall_clock() + 86_400_000), "in the future"),
        (line("1", "expired"), "state must be one of"),
        (line("1", "yes"), "Invalid enum value"),
        (line("1", at=AT).replace("Z", ""), "at must be an RFC 3339 instant"),
        (line("1", policy_version="1999"), "none of the settings' versions"),
        (line("1", clicks=1), "unknown field"),
        (line(""), "length >= 1"),
        ("[]", "Expected `object`"),
        ("\x01", "not JSON"),
    ],
    ids=[
        "future",
        "not a choice",
        "another word",
        "no zone",
        "unknown version",
        "behaviour",
        "no id",
        "list",
        "junk",
    ],
)
async def test_a_line_that_cannot_be_taken_is_said_and_the_others_are_taken(
    tmp_path: Path, store: str, text: str, said: str
) -> None:
    async with a_company(tmp_path, store) as (_, client):
        answer = await take_over(client, text, line("2", "refused", subject="ben"))
        assert counts(answer) == (2, 1, 0, 1)
        assert (answer["problems"][0]["line"], said in answer["problems"][0]["problem"]) == (1, True), answer


async def test_what_was_shown_elsewhere_is_kept_as_evidence(tmp_path: Path, store: str) -> None:
    async with a_company(tmp_path, store) as (world, client):
        shown: dict[str, Any] = {"notice_sha256": "ab" * 32, "language": "fr", "screen": "popup"}
        await take_over(client, line("1", policy_version="2025-08-28", **shown))
        [event] = await world.running.vault.ledger.history(world.tag())
        assert isinstance(event, ConsentEvent)
        assert event.policy_version == "2025-08-28"
        assert (event.record["notice"]["sha256"], event.record["notice"]["screen"]) == ("ab" * 32, "popup")


async def test_an_import_holds_one_line_at_a_time(tmp_path: Path, store: str) -> None:
    async with a_company(tmp_path, store) as (_, client):
        endless = await client.post(
            "/import", content=b"x" * 40_000, headers={"content-type": "application/x-ndjson"}
        )
        assert_problem(endless, 413, "too_large")
        other = await client.post("/import", json={})
        assert_problem(other, 415, "unsupported_media_type")
        wish = await client.post(
            "/import?dry_run=yes", content=b"", headers={"content-type": "application/x-ndjson"}
        )
        assert_problem(wish, 400, "bad_request")


async def test_the_description_is_there_for_anyone(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        async with http_client(world.running.admin_url) as client:
            described = (await client.get("/api/openapi.json")).json()
        assert "/api/v1/links" in described["paths"]
