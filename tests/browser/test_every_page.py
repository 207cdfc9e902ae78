"""Every page, in every state, in both languages, light and dark, on a phone and on a desk: no violation, no overflow."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from browser.tabs import Scheme, a_tab
from browser.town import Screen, a_town
from chatproxy.store.address import StoreAddress
from chatproxy.store.connections import Connections
from chatproxy.store.embedded import EmbeddedServer


@pytest.fixture(scope="module")
async def screens(
    anyio_backend: str, server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[list[Screen]]:
    connections = Connections(StoreAddress.parse(server.url), deadline=10.0)
    await connections.ask([["FLUSHALL"], ["SCRIPT", "FLUSH"]])
    await connections.aclose()
    directory: Path = tmp_path_factory.mktemp("town")
    async with a_town(directory, server.url) as screens:
        yield screens


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "fr"])
async def test_no_page_has_a_violation_or_is_wider_than_the_window(
    chromium: Browser, screens: list[Screen], language: str, scheme: Scheme, width: int
) -> None:
    found: list[str] = []
    for _, group in itertools.groupby(screens, key=lambda screen: (screen.url, screen.who)):
        of_one = list(group)
        async with a_tab(
            chromium, of_one[0].url, who=of_one[0].who, language=language, scheme=scheme, width=width
        ) as tab:
            for screen in of_one:
                await tab.open(screen.path, status=screen.status)
                for summary in await tab.page.locator("summary").all():
                    await summary.click()
                assert await tab.page.evaluate("document.documentElement.lang") == language
                found += [f"{screen.name}: {violation}" for violation in await tab.violations()]
                if overflow := await tab.overflow():
                    found.append(f"{screen.name}: {overflow} pixels too wide")

    assert found == []


async def test_what_was_said_and_named_is_inert(chromium: Browser, screens: list[Screen]) -> None:
    for screen in screens:
        async with a_tab(chromium, screen.url, who=screen.who) as tab:
            await tab.open(screen.path, status=screen.status)
            assert await tab.page.locator("main img, main script").count() == 0
            if screen.name.startswith("conversation,"):
                assert "<script>alert(1)</script><img src=x onerror=alert(2)>" in await tab.says()
