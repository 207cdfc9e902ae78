"""A person's API and pages: how often, by whom, and long lists in parts."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from chatproxy.consent.events import Choice
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from integration.proxy_fixtures import ANA, a_world, chatting
from integration.test_person_api import BEN, TOKEN, a_browser, a_link, ask, assert_problem


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    return server.url


async def test_a_person_who_asks_too_often_waits_and_nobody_else_does(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store, person_rate="3/1h", address_rate="1/1h") as world:
        for _ in range(3):
            assert (await ask(world, "GET", "/session")).status_code == 200
        refused = await ask(world, "GET", "/choice")
        assert_problem(refused, 429, "too_many_requests")
        assert 1190 <= int(refused.headers["retry-after"]) <= 1200
        assert (await ask(world, "GET", "/session", who=BEN)).status_code == 200
        page = await world.client.get("/_chatproxy/", headers=ANA | {"accept-language": "fr"})
        assert page.status_code == 429
        assert "trop souvent" in page.text
        assert int(page.headers["retry-after"]) > 0
        assert (await world.chat("hello")).status_code == 200
        assert world.counted("chatproxy_rate_limited_total", by="person") == 2
        assert world.counted("chatproxy_rate_limited_total", by="address") == 0


async def test_what_was_refused_was_not_done(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store, person_rate="1/1h") as world:
        yes = {"choice": "yes", "screen": "page", "language": "en"}
        assert (await ask(world, "PUT", "/choice", json=yes)).status_code == 200
        assert_problem(
            await ask(world, "PUT", "/choice", json=yes | {"choice": "no"}), 429, "too_many_requests"
        )
        assert len(await world.running.vault.ledger.history(world.tag())) == 1


async def test_who_is_not_known_is_counted_by_address(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store, address_rate="2/1h") as world:
        for _ in range(2):
            assert_problem(await ask(world, "GET", "/session", who={}), 401, "not_identified")
        assert_problem(await ask(world, "GET", "/session", who={}), 429, "too_many_requests")
        elsewhere = {"x-forwarded-for": "198.51.100.7"}
        assert_problem(await ask(world, "GET", "/session", who=elsewhere), 401, "not_identified")
        assert (await ask(world, "GET", "/session")).status_code == 200


async def test_links_cannot_be_guessed_fast(tmp_path: Path, store: str) -> None:
    async with (
        a_world(chatting(), tmp_path, store, address_rate="2/1h", admin_token=TOKEN) as world,
        a_browser(world) as browser,
    ):
        right = await a_link(world)
        for _ in range(2):
            assert (await browser.get("/_chatproxy/?link=wrong")).status_code == 401
        refused = await browser.get(right)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert not browser.cookies


async def pages_of(world: Any, path: str, name: str, limit: int) -> list[list[str]]:
    pages, cursor = [], ""
    while True:
        answer: httpx.Response = await ask(world, "GET", f"{path}?limit={limit}{cursor}")
        assert answer.status_code == 200, answer.text
        pages.append([str(entry.get("handle", entry["last_at" if "handle" in entry else "at"]))
                      for entry in answer.json()[name]])  # fmt: skip
        if answer.json()["next"] is None:
            return pages
        cursor = f"&cursor={answer.json()['next']}"


async def test_conversations_and_history_come_in_parts(tmp_path: Path, store: str) -> None:
    async with a_world(chatting(), tmp_path, store) as world:
        for number in range(5):
            await world.chat(f"hello {number}")
        await world.kept()
        await world.choose(Choice.GIVEN, Choice.WITHDRAWN, Choice.GIVEN)
        [whole] = await pages_of(world, "/conversations", "conversations", 500)
        parts = await pages_of(world, "/conversations", "conversations", 2)
        assert [len(part) for part in parts] == [2, 2, 1]
        assert sorted(handle for part in parts for handle in part) == sorted(whole)
        history = await pages_of(world, "/history", "entries", 2)
        assert [len(part) for part in history] == [2, 1]
        assert len({at for part in history for at in part}) == 3
        for query in ("limit=0", "limit=501", "cursor=x", "limit=1&limit=2"):
            assert_problem(await ask(world, "GET", f"/history?{query}"), 400, "bad_request")
