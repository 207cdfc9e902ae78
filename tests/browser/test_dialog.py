"""The dialog that a front end includes: it shows when a choice is due, and records only what is chosen in it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Locator

from browser.naming import naming
from browser.tabs import Scheme, Tab, a_tab
from browser.test_steps import WORDS, choices
from browser.town import ELIF, chats_and_pages, front
from chatproxy.consent.events import Choice
from integration.proxy_fixtures import ANA, World, a_world
from simulators.backend import Peer, backend

CLOSE = {"en": "Close without choosing", "fr": "Fermer sans choisir"}


@asynccontextmanager
async def a_front(
    chromium: Browser,
    directory: Path,
    store: str,
    *,
    who: dict[str, str] = ANA,
    language: str = "en",
    before: tuple[Choice, ...] = (),
    settings: dict[str, Any] | None = None,
    **look: Any,
) -> AsyncIterator[tuple[World, Tab, Locator]]:
    """Open the page of a front end that includes the script."""
    async with (
        a_world(chats_and_pages, directory, store, **(settings or {})) as world,
        a_tab(chromium, world.running.url, who=who, language=language, **look) as tab,
    ):
        await world.choose(*before, subject=who["x-chat-subject"])
        await visit(tab, language, last="session" if who is ELIF else "notice")
        yield world, tab, tab.page.get_by_role("dialog")


async def visit(tab: Tab, language: str = "en", *, last: str = "notice") -> None:
    """Open the front end's page and wait until the script has heard all that it asks: *last* comes last."""
    async with tab.page.expect_response(lambda answer: f"/api/v1/{last}" in answer.url) as answer:
        await tab.page.goto(f"{tab.url}/{language if language == 'fr' else ''}")
    await (await answer.value).finished()
    # Whatever it does about the answer is done before the next but one frame.
    await tab.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "fr"])
async def test_the_dialog_has_no_violation_and_its_answers_look_alike(
    chromium: Browser, tmp_path: Path, store: str, language: str, scheme: Scheme, width: int
) -> None:
    look: Any = {"scheme": scheme, "width": width}
    async with a_front(chromium, tmp_path, store, language=language, **look) as (_, tab, dialog):
        await dialog.wait_for()
        boxes = [
            await dialog.get_by_role("button", name=WORDS[language][answer], exact=True).evaluate(
                "node => [node.offsetWidth, node.offsetHeight, getComputedStyle(node).backgroundColor].join()"
            )
            for answer in ("yes", "no", "later")
        ]

        assert len(set(boxes)) == 1
        assert await tab.violations() == []
        assert await tab.overflow() == 0
        assert await dialog.evaluate("node => node.scrollWidth <= node.clientWidth")
        assert await dialog.evaluate("node => node.getRootNode().activeElement.localName") == "h2"


@pytest.mark.parametrize(
    "answer, recorded", [("yes", Choice.GIVEN), ("no", Choice.REFUSED), ("later", Choice.DEFERRED)]
)
@pytest.mark.parametrize("language", ["en", "fr"])
async def test_an_answer_by_keyboard_is_recorded_and_not_asked_again(
    chromium: Browser, tmp_path: Path, store: str, language: str, answer: str, recorded: Choice
) -> None:
    async with a_front(chromium, tmp_path, store, language=language) as (world, tab, dialog):
        await dialog.wait_for()
        await tab.press(WORDS[language][answer], within=dialog)
        await dialog.wait_for(state="detached")

        assert await choices(world) == [recorded]
        [event] = await world.running.vault.ledger.history(world.tag())
        notice = getattr(event, "record")["notice"]  # noqa: B009
        assert (notice["screen"], notice["language"]) == ("popup", language)
        await visit(tab, language)
        assert await dialog.count() == 0


@pytest.mark.parametrize("way", ["Escape", "close"])
async def test_to_leave_the_dialog_records_nothing(
    chromium: Browser, tmp_path: Path, store: str, way: str
) -> None:
    async with a_front(chromium, tmp_path, store) as (world, tab, dialog):
        await dialog.wait_for()
        if way == "Escape":
            await tab.page.keyboard.press("Escape")
        else:
            await tab.press(CLOSE["en"], within=dialog)
        await dialog.wait_for(state="detached")

        assert await choices(world) == []
        await visit(tab)
        await dialog.wait_for()


async def test_enter_without_going_to_an_answer_chooses_none(
    chromium: Browser, tmp_path: Path, store: str
) -> None:
    async with a_front(chromium, tmp_path, store) as (world, tab, dialog):
        await dialog.wait_for()
        await tab.page.keyboard.press("Enter")
        await tab.page.keyboard.press("Space")

        assert await dialog.is_visible()
        assert await choices(world) == []


async def test_the_tabulator_stays_in_the_dialog(chromium: Browser, tmp_path: Path, store: str) -> None:
    async with a_front(chromium, tmp_path, store) as (_, tab, dialog):
        await dialog.wait_for()
        for _step in range(12):
            await tab.page.keyboard.press("Tab")
            assert await tab.page.evaluate(
                "document.activeElement === document.body || document.activeElement.shadowRoot !== null"
            )


@pytest.mark.parametrize(
    "who, before",
    [
        pytest.param(ANA, (Choice.GIVEN,), id="agreed"),
        pytest.param(ANA, (Choice.REFUSED,), id="refused"),
        pytest.param(ANA, (Choice.DEFERRED,), id="put off"),
        pytest.param(ANA, (Choice.GIVEN, Choice.WITHDRAWN), id="withdrawn"),
        pytest.param(ELIF, (), id="exempt plan"),
    ],
)
async def test_who_has_nothing_to_choose_is_not_asked(
    chromium: Browser, tmp_path: Path, store: str, who: dict[str, str], before: tuple[Choice, ...]
) -> None:
    async with a_front(chromium, tmp_path, store, who=who, before=before) as (_, _tab, dialog):
        assert await dialog.count() == 0


async def test_who_is_not_known_is_not_asked(chromium: Browser, tmp_path: Path, store: str) -> None:
    async with (
        a_world(chats_and_pages, tmp_path, store) as world,
        a_tab(chromium, world.running.url, who={}) as tab,
    ):
        await visit(tab)

        assert await tab.page.get_by_role("dialog").count() == 0


async def test_after_the_deadline_later_is_not_offered(chromium: Browser, tmp_path: Path, store: str) -> None:
    settings = {"choice_deadline": "2025-10-08T00:00:00Z"}
    async with a_front(chromium, tmp_path, store, settings=settings) as (_, _tab, dialog):
        await dialog.wait_for()

        assert await dialog.get_by_role("button").all_inner_texts() == [
            WORDS["en"]["yes"],
            WORDS["en"]["no"],
            CLOSE["en"],
        ]


@pytest.mark.parametrize("is_allowed", [True, False], ids=["allowed", "not allowed"])
async def test_a_front_end_of_another_origin_asks_only_where_it_is_allowed(
    chromium: Browser, tmp_path: Path, store: str, *, is_allowed: bool
) -> None:
    target = ""

    async def pages(peer: Peer) -> None:
        while True:
            await peer.read_request()
            await peer.send(front("en", origin=target, policy=f"default-src 'self' {target}".encode()))

    async with backend(pages) as behind:
        origins: Any = {"api_origins": behind.url} if is_allowed else {}
        async with (
            a_world(chats_and_pages, tmp_path, store, **origins) as world,
            naming(world.running.url, ANA) as target,
        ):
            context = await chromium.new_context()
            page = await context.new_page()
            async with page.expect_event(
                "requestfinished" if is_allowed else "requestfailed",
                lambda request: "/api/v1/notice" in request.url,
            ):
                await page.goto(behind.url)
            if is_allowed:
                dialog = page.get_by_role("dialog")
                await dialog.get_by_role("button", name=WORDS["en"]["no"]).click()
                await dialog.wait_for(state="detached")
            await context.close()

            assert await choices(world) == ([Choice.REFUSED] if is_allowed else [])
