"""The person's API: one's own things alone, from one's own page alone, and an answer in one form to everything else."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from chatproxy.clock import wall_clock
from chatproxy.consent.events import Choice
from chatproxy.consent.receipts import verify_receipt
from chatproxy.datasets.manifest import Shard
from chatproxy.datasets.tables import Form
from chatproxy.policy.instants import format_instant, parse_instant
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.web.api.person import BASE, DESCRIPTION
from chatproxy.web.person_session import COOKIE
from chatproxy.workflows.dataset_directory import DatasetDirectory
from chatproxy.workflows.export import Wish
from integration.proxy_fixtures import ANA, World, a_world, all_keys, chatting, http_client

BEN = {"x-chat-subject": "ben", "x-chat-plan": "pro"}
YES = {"choice": "yes", "screen": "page", "language": "en", "method": "button:yes"}
NO = YES | {"choice": "no", "method": "button:no"}
TOKEN = "a-token-of-the-company"
OPERATOR = {"authorization": f"Bearer {TOKEN}"}
FRONT = "https://chat.example.com"


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def ask(
    world: World, method: str, path: str, *, who: dict[str, str] | None = None, **more: Any
) -> httpx.Response:
    headers = (ANA if who is None else who) | more.pop("headers", {})
    return await world.client.request(method, BASE + path, headers=headers, **more)


async def one_conversation(world: World) -> str:
    await world.chat("hello")
    await world.kept()
    [found] = (await ask(world, "GET", "/conversations")).json()["conversations"]
    return str(found["handle"])


async def a_link(world: World, **details: Any) -> str:
    async with http_client(world.running.admin_url) as company:
        answer = await company.post("/api/v1/links", json={"subject": "ana"} | details, headers=OPERATOR)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["url"])


def a_browser(world: World) -> httpx.AsyncClient:
    """Another client without identity, which keeps cookies."""
    return http_client(world.running.url)


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert set(problem) == {"type", "title", "status", "detail", "request_id"}
    assert (problem["type"], problem["status"]) == (f"urn:chatproxy:problem:{code}", status)
    assert problem["request_id"] == answer.headers["x-request-id"]


# --- the choice ---


async def test_a_choice_is_made_stands_and_is_proved(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        before = (await ask(world, "GET", "/choice")).json()
        assert (before["choice"], before["due"]["state"]) == (None, "due")
        made = await ask(world, "PUT", "/choice", json=YES)
        assert made.status_code == 200, made.text
        stands = (await ask(world, "GET", "/choice")).json()
        assert (stands["choice"], stands["state"], stands["due"]["state"]) == ("yes", "given", "settled")
        assert stands["policy_version"] == made.json()["policy_version"] == "2025-08-28"
        assert stands["receipt_id"] == made.json()["receipt_id"]
        receipt = await ask(world, "GET", f"/receipts/{stands['receipt_id']}")
        proved = verify_receipt(receipt.content, publics=world.running.vault.keyset.signing_publics())
        notice = (await ask(world, "GET", "/notice?language=en")).json()
        assert proved["event"]["event_state"] == "ConsentGiven"
        assert proved["pii_processing"]["privacy_notice"]["sha256"] == notice["sha256"]
        assert proved["party_identification"]["party_name"] == "Example Ltd"


async def test_a_no_has_a_receipt_too_and_a_later_may_follow_nothing(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        later = await ask(world, "PUT", "/choice", json=YES | {"choice": "later"})
        assert later.json()["state"] == "deferred"
        assert (await ask(world, "GET", "/choice")).json()["choice"] == "later"
        assert (await ask(world, "PUT", "/choice", json=NO)).json()["state"] == "refused"
        assert_problem(await ask(world, "PUT", "/choice", json=YES | {"choice": "later"}), 409, "conflict")
        entries = (await ask(world, "GET", "/history")).json()["entries"]
        assert [entry["state"] for entry in entries] == ["refused", "deferred"]
        for entry in entries:
            receipt = await ask(world, "GET", f"/receipts/{entry['receipt_id']}")
            assert receipt.json()["receipt_id"] == entry["receipt_id"]
            assert "clicks" not in receipt.text


async def test_after_the_deadline_a_choice_cannot_be_put_off(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store, choice_deadline="2025-10-08T00:00:00Z") as world:
        due = (await ask(world, "GET", "/choice")).json()["due"]
        assert (due["state"], due["may_defer"]) == ("overdue", False)
        assert_problem(await ask(world, "PUT", "/choice", json=YES | {"choice": "later"}), 409, "conflict")


async def test_an_exempt_plan_has_no_choice_to_make(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        who = {"x-chat-subject": "ana", "x-chat-plan": "enterprise"}
        assert not (await ask(world, "GET", "/session", who=who)).json()["can_manage"]
        assert_problem(await ask(world, "PUT", "/choice", who=who, json=YES), 409, "conflict")


@pytest.mark.parametrize(
    "language, found", [("fr", "fr"), ("fr-CA", "fr"), ("en", "en"), ("de", "en"), ("", "en")]
)
async def test_the_notice_comes_in_the_nearest_language(
    tmp_path: Path, store: str, language: str, found: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        answer = await ask(world, "GET", f"/notice?language={language}" if language else "/notice")
        assert answer.json()["language"] == found
        assert {"title", "paragraphs", "question", "yes", "no", "later"} <= set(answer.json())


# --- conversations ---


async def test_a_conversation_is_steered_and_deleted(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        path = f"/conversations/{await one_conversation(world)}"
        for verb, override in (("share", "share"), ("exclude", "exclude"), ("follow", "inherit")):
            answer = await ask(world, "POST", f"{path}/{verb}")
            assert (answer.status_code, answer.json()["override"]) == (200, override)
        given = await ask(world, "POST", f"{path}/feedback", json={"kind": "thumbs"})
        assert given.json()["conversation"]["feedback"] == "thumbs"
        taken = await ask(world, "DELETE", f"{path}/feedback")
        assert taken.json()["conversation"]["feedback"] is None
        deleted = await ask(world, "DELETE", path)
        assert deleted.json()["stays"] == []
        assert (await ask(world, "DELETE", path)).json() == deleted.json()
        assert_problem(await ask(world, "GET", path), 404, "not_found")
        [left] = (await ask(world, "GET", "/conversations")).json()["conversations"]
        assert (left["is_deleted"], left["expires_at"]) == (True, deleted.json()["erased_by"])


async def test_a_preview_is_given_in_full(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        handle = await one_conversation(world)
        preview = (await ask(world, "GET", "/preview")).json()
        assert [each["handle"] for each in preview["conversations"]] == [handle]
        assert preview["totals"] == {
            "conversations": 1,
            "eligible_now": 0,
            "eligible_if_yes": 0,
            "eligible_if_continued": 1,
            "shorter_if_no": 0,
            "gone_if_no": 0,
        }
        assert preview["next_turn"]["if_yes_eligible"]


async def test_feedback_on_an_incognito_conversation_needs_a_confirmation(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        await world.chat("hello", who=ANA | {"x-chat-incognito": "?1"})
        await world.kept()
        [found] = (await ask(world, "GET", "/conversations")).json()["conversations"]
        path = f"/conversations/{found['handle']}/feedback"
        assert_problem(await ask(world, "POST", path, json={"kind": "bug"}), 409, "confirmation_needed")
        confirmed = await ask(world, "POST", path, json={"kind": "bug", "confirmed": True})
        assert confirmed.status_code == 200


# --- whose ---

FOREIGN = [
    ("GET", ""),
    ("DELETE", ""),
    ("POST", "/share"),
    ("POST", "/exclude"),
    ("POST", "/follow"),
    ("POST", "/feedback"),
    ("DELETE", "/feedback"),
]


@pytest.mark.parametrize("method, verb", FOREIGN, ids=[f"{method} {verb}" for method, verb in FOREIGN])
async def test_unknown_and_foreign_conversations_look_alike(
    tmp_path: Path, store: str, connections: Connections, method: str, verb: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        handle = await one_conversation(world)
        before = await all_keys(connections)
        body = {"json": {"kind": "thumbs"}} if (method, verb) == ("POST", "/feedback") else {}
        said = []
        for name in (handle, handle[:-1] + "A", "c_" + "A" * 43, "*", "x", "t_" + handle[2:]):
            answer = await ask(world, method, f"/conversations/{name}{verb}", who=BEN, **body)
            assert_problem(answer, 404, "not_found")
            said.append({**answer.json(), "request_id": ""})
        assert all(each == said[0] for each in said)
        assert await all_keys(connections) == before


async def test_a_receipt_of_another_person_is_not_found(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        made = (await ask(world, "PUT", "/choice", json=YES)).json()
        foreign = await ask(world, "GET", f"/receipts/{made['receipt_id']}", who=BEN)
        unknown = await ask(world, "GET", "/receipts/receipt-x", who=BEN)
        assert_problem(foreign, 404, "not_found")
        assert foreign.json()["detail"] == unknown.json()["detail"]


@pytest.mark.parametrize(
    "who",
    [{}, {"x-chat-plan": "pro"}, {"cookie": f"{COOKIE}=x"}, {"cookie": f"{COOKIE}="}],
    ids=["nobody", "a plan", "a cookie that is none", "an empty cookie"],
)
async def test_who_is_not_identified_learns_nothing(tmp_path: Path, store: str, who: dict[str, str]) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        for method, path in (("GET", "/choice"), ("PUT", "/choice"), ("GET", "/conversations/x")):
            assert_problem(await ask(world, method, path, who=who), 401, "not_identified")


async def test_headers_of_an_untrusted_peer_identify_nobody(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store, trusted_proxies="192.0.2.1") as world:
        assert_problem(await ask(world, "GET", "/choice"), 401, "not_identified")


# --- what is asked for in another form ---


@pytest.mark.parametrize(
    "body, headers, status, code",
    [
        pytest.param(b"{", {}, 400, "bad_request", id="no JSON"),
        pytest.param(b"\xff", {}, 400, "bad_request", id="no text"),
        pytest.param(b"", {}, 400, "bad_request", id="nothing"),
        pytest.param(b"[" * 10_000, {}, 422, "invalid", id="a well"),
        pytest.param(b"{}", {}, 422, "invalid", id="nothing said"),
        pytest.param(json.dumps(YES | {"choice": "maybe"}).encode(), {}, 422, "invalid", id="another word"),
        pytest.param(json.dumps(YES | {"clicks": 3}).encode(), {}, 422, "invalid", id="behaviour"),
        pytest.param(json.dumps(YES | {"subject": "ben"}).encode(), {}, 422, "invalid", id="for another"),
        pytest.param(json.dumps(YES | {"purposes": []}).encode(), {}, 422, "invalid", id="a yes to nothing"),
        pytest.param(
            json.dumps(YES | {"purposes": ["third_party"]}).encode(), {}, 422, "invalid", id="another purpose"
        ),
        pytest.param(json.dumps(YES | {"method": "<b>"}).encode(), {}, 422, "invalid", id="markup"),
        pytest.param(json.dumps(YES | {"method": "x\n"}).encode(), {}, 422, "invalid", id="a line end"),
        pytest.param(b" " * 20_000, {}, 413, "too_large", id="too much"),
        pytest.param(
            json.dumps(YES).encode(), {"content-type": "text/plain"}, 415, "unsupported_media_type", id="text"
        ),
    ],
)
async def test_a_body_of_another_form_is_refused(
    tmp_path: Path, store: str, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        headers = {"content-type": "application/json"} | headers
        assert_problem(await ask(world, "PUT", "/choice", content=body, headers=headers), status, code)
        assert (await ask(world, "GET", "/history")).json()["entries"] == []


@pytest.mark.parametrize(
    "method, path, status, code",
    [
        ("POST", "/choice", 405, "method_not_allowed"),
        ("OPTIONS", "/choice", 405, "method_not_allowed"),
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("GET", "", 404, "not_found"),
        ("GET", "/choice/", 404, "not_found"),
        ("GET", "/choice?subject=ben", 400, "bad_request"),
        ("GET", "/notice?language=en&language=fr", 400, "bad_request"),
    ],
)
async def test_what_is_not_there_is_answered_in_the_same_form(
    tmp_path: Path, store: str, method: str, path: str, status: int, code: str
) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        answer = await ask(world, method, path)
        assert_problem(answer, status, code)
        if status == 405:
            assert answer.headers["allow"] == "GET, HEAD, OPTIONS, PUT"
        assert world.backend.connections == []


async def test_a_request_id_of_the_front_is_kept(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        given = await ask(world, "GET", "/choice", headers={"x-request-id": "front-1"})
        made = await ask(world, "GET", "/choice", headers={"x-request-id": "<script>"})
        assert given.headers["x-request-id"] == "front-1"
        assert made.headers["x-request-id"].startswith("req_")
        assert given.headers["cache-control"] == "no-store"
        assert (await ask(world, "HEAD", "/choice")).content == b""


async def test_a_store_that_is_away_is_said(tmp_path: Path, store: str) -> None:
    away = "redis://127.0.0.1:1/0"
    async with a_world(chatting(), tmp_path, away, store_timeout="1s") as world:
        answer = await ask(world, "GET", "/choice")
        assert_problem(answer, 503, "store_unavailable")
        assert answer.headers["retry-after"] == "1"
        assert "127.0.0.1" not in answer.text


# --- pages of other origins ---


FROM_ELSEWHERE = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "https://evil.example", "sec-fetch-site": "cross-site"},
    {"origin": FRONT, "sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "none"},
    {"x-chat-csrf": "wrong"},
]


@pytest.mark.parametrize("headers", FROM_ELSEWHERE, ids=str)
async def test_a_foreign_page_changes_nothing(tmp_path: Path, store: str, headers: dict[str, str]) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        path = f"/conversations/{await one_conversation(world)}"
        for method, where, body in (
            ("PUT", "/choice", {"json": YES}),
            ("POST", f"{path}/share", {}),
            ("DELETE", path, {}),
        ):
            answer = await ask(world, method, where, headers=headers, **body)
            assert_problem(answer, 403, "foreign_request")
            assert "access-control-allow-origin" not in answer.headers
        assert (await ask(world, "GET", "/history")).json()["entries"] == []


async def test_a_front_end_that_is_named_may_ask_from_its_own_origin(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store, api_origins=f"{FRONT}, http://localhost:3000") as world:
        headers = {"origin": FRONT, "sec-fetch-site": "cross-site"}
        made = await ask(world, "PUT", "/choice", json=YES, headers=headers)
        assert made.status_code == 200
        assert made.headers["access-control-allow-origin"] == FRONT
        assert made.headers["access-control-allow-credentials"] == "true"
        assert "Origin" in made.headers["vary"]
        failed = await ask(world, "GET", "/conversations/x", headers=headers)
        assert failed.headers["access-control-allow-origin"] == FRONT
        preflight = await ask(world, "OPTIONS", "/choice", who={}, headers=headers)
        assert preflight.status_code == 204
        assert "PUT" in preflight.headers["access-control-allow-methods"]
        assert "x-chat-csrf" in preflight.headers["access-control-allow-headers"]
        assert "x-chat-subject" not in preflight.headers["access-control-allow-headers"]
        foreign = await ask(world, "OPTIONS", "/choice", who={}, headers={"origin": FRONT + ".evil.example"})
        assert_problem(foreign, 405, "method_not_allowed")


async def test_ones_own_page_may_ask(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store, public_url="https://chat.example.com") as world:
        for headers in (
            {"sec-fetch-site": "same-origin", "origin": "https://front.internal"},
            {"origin": world.running.url},
            {"origin": "https://chat.example.com"},
        ):
            answer = await ask(world, "PUT", "/choice", json=NO, headers=headers)
            assert answer.status_code == 200, answer.text


# --- links and sessions ---


async def test_a_link_begins_a_session_in_which_a_choice_is_made(tmp_path: Path, store: str) -> None:
    async with (
        a_world(chatting(), tmp_path, store, admin_token=TOKEN) as world,
        a_browser(world) as browser,
    ):
        url = await a_link(world, plan="Pro", age="adult", language="fr")
        assert url.startswith("/_chatproxy/?link=")
        assert "ana" not in url
        arrived = await browser.get(url)
        assert (arrived.status_code, arrived.headers["location"]) == (303, "/_chatproxy/")
        assert arrived.headers["cache-control"] == "no-store"
        cookie = arrived.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert "path=/_chatproxy/" in cookie
        assert "secure" not in cookie
        session = (await browser.get(f"{BASE}/session")).json()
        assert session == {
            "by": "link",
            "csrf": session["csrf"],
            "can_manage": True,
            "language": "fr",
        }
        own = {"sec-fetch-site": "same-origin", "x-chat-csrf": session["csrf"]}
        made = await browser.put(f"{BASE}/choice", json=YES, headers=own)
        assert made.status_code == 200, made.text
        assert (await ask(world, "GET", "/choice")).json()["choice"] == "yes"
        [event] = await world.running.vault.ledger.history(world.tag())
        assert event.record["account_plan"] == "pro"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "same-origin"},
        {"x-chat-csrf": "own"},
        {"sec-fetch-site": "same-origin", "x-chat-csrf": "wrong"},
        {"sec-fetch-site": "same-origin", "x-chat-csrf": "bens"},
        {"sec-fetch-site": "same-site", "x-chat-csrf": "own"},
        {"origin": "http://localhost:3000", "sec-fetch-site": "same-site", "x-chat-csrf": "own"},
        {"origin": "https://evil.example", "x-chat-csrf": "own"},
    ],
    ids=str,
)
async def test_in_a_session_a_change_needs_ones_own_page_and_its_token(
    tmp_path: Path, store: str, headers: dict[str, str]
) -> None:
    async with (
        a_world(chatting(), tmp_path, store, admin_token=TOKEN, api_origins="http://localhost:3000") as world,
        a_browser(world) as browser,
        a_browser(world) as bens,
    ):
        await browser.get(await a_link(world))
        await bens.get(await a_link(world, subject="ben"))
        tokens = {
            "own": (await browser.get(f"{BASE}/session")).json()["csrf"],
            "bens": (await bens.get(f"{BASE}/session")).json()["csrf"],
        }
        headers = {name: tokens.get(value, value) for name, value in headers.items()}
        answer = await browser.put(f"{BASE}/choice", json=YES, headers=headers)
        assert_problem(answer, 403, "foreign_request")
        assert await world.running.vault.ledger.history(world.tag()) == ()


async def test_behind_https_the_session_is_secure_and_the_link_whole(tmp_path: Path, store: str) -> None:
    async with (
        a_world(chatting(), tmp_path, store, admin_token=TOKEN, public_url=FRONT) as world,
        a_browser(world) as browser,
    ):
        url = await a_link(world)
        assert url.startswith(f"{FRONT}/_chatproxy/?link=")
        arrived = await browser.get(url.removeprefix(FRONT))
        assert "secure" in arrived.headers["set-cookie"].lower()


async def test_a_link_that_does_not_count_begins_nothing(tmp_path: Path, store: str) -> None:
    async with (
        a_world(chatting(), tmp_path, store, admin_token=TOKEN) as world,
        a_browser(world) as browser,
    ):
        link = await a_link(world)
        await browser.get(link)
        session = browser.cookies[COOKIE]
        for wrong in ("", "x", link.partition("link=")[2][:-4], session):
            answer = await world.client.get("/_chatproxy/", params={"link": wrong})
            assert answer.status_code == 401
            assert "set-cookie" not in answer.headers
        ticket = link.partition("link=")[2]
        as_session = await ask(world, "GET", "/choice", who={"cookie": f"{COOKIE}={ticket}"})
        assert_problem(as_session, 401, "not_identified")


async def test_links_and_sessions_end_by_themselves(tmp_path: Path, store: str) -> None:
    ahead = 0

    def clock() -> int:
        return wall_clock() + ahead

    async with (
        a_world(chatting(), tmp_path, store, clock=clock, admin_token=TOKEN) as world,
        a_browser(world) as browser,
    ):
        link = await a_link(world)
        ahead = 599_000
        assert (await browser.get(link)).status_code == 303
        ahead = 601_000
        assert (await browser.get(link)).status_code == 401
        ahead = 599_000 + 3_599_000
        assert (await browser.get(f"{BASE}/choice")).status_code == 200
        ahead = 599_000 + 3_601_000
        assert (await browser.get(f"{BASE}/choice")).status_code == 401


async def test_identity_counts_over_a_session(tmp_path: Path, store: str) -> None:
    async with (
        a_world(chatting(), tmp_path, store, admin_token=TOKEN) as world,
        a_browser(world) as browser,
    ):
        await browser.get(await a_link(world))
        handle = await one_conversation(world)
        mine = await browser.get(f"{BASE}/conversations/{handle}")
        assert mine.status_code == 200
        foreign = await browser.get(f"{BASE}/conversations/{handle}", headers=BEN)
        assert_problem(foreign, 404, "not_found")


async def test_a_session_does_not_reach_the_upstream(tmp_path: Path, store: str) -> None:
    async with (
        a_world(chatting(), tmp_path, store, admin_token=TOKEN) as world,
        a_browser(world) as browser,
    ):
        await browser.get(await a_link(world))
        await browser.post("/v1/chat/completions", json={"model": "m", "messages": []})
        assert COOKIE.encode() not in world.backend.connections[0].received


# --- the description ---


async def test_the_description_is_there_for_anyone(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        described = (await world.client.get(DESCRIPTION)).json()
        assert described["openapi"] == "3.1.0"
        assert f"{BASE}/conversations/{{handle}}/share" in described["paths"]


async def test_what_is_chosen_with_the_company_is_not_chosen_here(tmp_path: Path, store: str) -> None:
    elsewhere = {"consent_source": "http://127.0.0.1:1/choices", "consent_service_secret": "s" * 32}
    async with a_world(chatting(), tmp_path, store, **elsewhere) as world:  # type: ignore[arg-type]
        assert_problem(await ask(world, "PUT", "/choice", json=YES), 409, "conflict")
        assert_problem(await ask(world, "PUT", "/choice", json=NO), 409, "conflict")
        assert await world.running.vault.ledger.history(world.tag()) == ()


async def test_a_person_is_told_what_was_used_and_nobody_else_is(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store, export_min_age="0") as world:
        await world.choose(Choice.GIVEN, at=wall_clock() - 60_000)
        handle = await one_conversation(world)
        assert (await ask(world, "GET", "/uses")).json() == {"uses": []}
        wish = Wish(purpose="capability", consumer="ml", form=Form.JSONL, shard=Shard(), at=None)
        exporter = world.running.vault.exporter("capability", [])
        manifest = await exporter.export(wish, DatasetDirectory(tmp_path / "out"))
        assert (await ask(world, "GET", "/uses")).json()["uses"] == [
            {
                "conversation": handle,
                "dataset": manifest.dataset,
                "at": format_instant(manifest.at),
                "purpose": "capability",
                "consumer": "ml",
                "turns": 1,
                "recall": None,
            }
        ]
        assert (await ask(world, "GET", "/uses", who=BEN)).json() == {"uses": []}
        await world.choose(Choice.WITHDRAWN)
        recalls = world.running.vault.recalls()
        await recalls.look_at_everybody()
        [used] = (await ask(world, "GET", "/uses")).json()["uses"]
        assert used["recall"] == {"turns": 1, "at": used["recall"]["at"], "acknowledged_at": None}
        assert parse_instant(used["recall"]["at"]) >= parse_instant(used["at"])
        await recalls.acknowledge(bytes.fromhex(manifest.dataset[2:]), None)
        [used] = (await ask(world, "GET", "/uses")).json()["uses"]
        acknowledged_at, recalled_at = used["recall"]["acknowledged_at"], used["recall"]["at"]
        assert parse_instant(acknowledged_at) >= parse_instant(recalled_at)
