"""The console on the admin listener: whoever may see it, and what it shows of a proxy that runs."""

from pathlib import Path

import pytest

from chatproxy.clock import wall_clock
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer
from chatproxy.telemetry import Metrics
from integration.proxy_fixtures import a_world, chatting, http_client


@pytest.fixture
def store(server: EmbeddedServer, connections: Connections) -> str:
    del connections  # which has emptied it
    return server.url


async def test_it_shows_what_is_kept_and_when_that_ends(tmp_path: Path, store: str) -> None:
    async with (
        a_world(chatting(), tmp_path, store) as world,
        http_client(world.running.admin_url) as admin,
    ):
        await world.chat("hello")
        await world.kept()
        await world.running.vault.reaper(Metrics()).walk(wall_clock())
        page = await admin.get("/console")

        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert "1 turns, counted on the walk" in page.text
        assert "CONSENT_UNKNOWN" in page.text
        assert "KEK" in page.text
        assert "ana" not in page.text
        assert (await admin.get("/console.css")).headers["content-type"].startswith("text/css")
        assert (await admin.post("/console")).status_code == 405


async def test_without_a_right_it_shows_nothing(tmp_path: Path, store: str) -> None:
    async with (
        a_world(chatting(), tmp_path, store, admin_open="false") as world,
        http_client(world.running.admin_url) as admin,
    ):
        refused = await admin.get("/console")

    assert refused.status_code == 401
    assert "/console is for the role" in refused.text


async def test_a_store_that_is_away_leaves_the_rest_of_the_page(tmp_path: Path) -> None:
    async with (
        a_world(chatting(), tmp_path, "redis://127.0.0.1:9") as world,
        http_client(world.running.admin_url) as admin,
    ):
        await world.chat("hello")
        page = await admin.get("/console")

    assert page.status_code == 200
    assert "Not counted yet" in page.text
    assert "cannot be told" in page.text
