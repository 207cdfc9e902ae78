"""What a person does: by mouse, by keyboard alone, without a script. A no takes no more than a yes, nor a withdrawal."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from playwright.async_api import Browser

from browser.tabs import Tab, a_tab
from browser.town import chats_and_pages
from chatproxy.consent.events import Choice
from chatproxy.demo.tour import link_to_pages
from chatproxy.policy.facts import Override
from integration.proxy_fixtures import ANA, PATIENCE, World, a_world, response
from simulators.backend import Peer, backend

WORDS = {
    "en": {
        "yes": "Yes, use them",
        "no": "No, do not use them",
        "later": "Not now",
        "withdraw": "Withdraw my yes",
        "exclude": "Exclude from training",
        "confirm": "Delete this conversation",
        "conversations": "Conversations",
    },
    "fr": {
        "yes": "Oui, utilisez-les",
        "no": "Non, ne les utilisez pas",
        "later": "Pas maintenant",
        "withdraw": "Retirer mon oui",
        "exclude": "Exclure de l\N{RIGHT SINGLE QUOTATION MARK}entraînement",
        "confirm": "Supprimer cette conversation",
        "conversations": "Conversations",
    },
}
TOKEN = "token-of-the-admin-API"
LANGUAGES = pytest.mark.parametrize("language", ["en", "fr"])
Step = Callable[[Tab, str], Awaitable[None]]


async def by_mouse(tab: Tab, name: str) -> None:
    await tab.click(name)


async def by_enter(tab: Tab, name: str) -> None:
    await tab.press(name)


async def by_space(tab: Tab, name: str) -> None:
    await tab.press(name, key="Space")


async def choices(world: World) -> list[Choice | None]:
    history = await world.running.vault.person_desk.history(world.tag())
    return [entry.choice for entry in reversed(history) if entry.conversation is None]


async def a_conversation(world: World) -> str:
    await world.chat("hello")
    await world.kept()
    [view] = await world.running.vault.person_desk.conversations(world.tag())
    return view.handle


@LANGUAGES
@pytest.mark.parametrize(
    "step, script",
    [
        pytest.param(by_mouse, True, id="mouse"),
        pytest.param(by_mouse, False, id="mouse, no script"),
        pytest.param(by_enter, True, id="Enter"),
        pytest.param(by_space, True, id="Space"),
    ],
)
async def test_a_person_agrees_withdraws_excludes_and_deletes(
    chromium: Browser, tmp_path: Path, store: str, language: str, step: Step, *, script: bool
) -> None:
    words = WORDS[language]
    async with a_world(chats_and_pages, tmp_path, store) as world:
        handle = await a_conversation(world)
        async with a_tab(
            chromium, world.running.url, who=ANA, language=language, script=script, width=360
        ) as tab:
            await tab.open()
            await step(tab, words["yes"])
            await tab.done()
            assert await choices(world) == [Choice.GIVEN]
            await step(tab, words["withdraw"])
            await tab.done()
            assert await choices(world) == [Choice.GIVEN, Choice.WITHDRAWN]

            await tab.open(f"conversations/{handle}")
            await step(tab, words["exclude"])
            await tab.done()
            [view] = await world.running.vault.person_desk.conversations(world.tag())
            assert view.override is Override.EXCLUDE

            await tab.open(f"conversations/{handle}/delete")
            await step(tab, words["confirm"])
            await tab.done()
            [view] = await world.running.vault.person_desk.conversations(world.tag())
            assert view.is_deleted


@LANGUAGES
@pytest.mark.parametrize("answer, recorded", [("no", Choice.REFUSED), ("later", Choice.DEFERRED)])
async def test_a_person_refuses_or_chooses_later_by_keyboard_alone(
    chromium: Browser, tmp_path: Path, store: str, language: str, answer: str, recorded: Choice
) -> None:
    async with (
        a_world(chats_and_pages, tmp_path, store) as world,
        a_tab(chromium, world.running.url, who=ANA, language=language) as tab,
    ):
        await tab.open()
        await tab.press(WORDS[language][answer])
        await tab.done()

        assert await choices(world) == [recorded]


async def test_from_the_list_to_the_deletion_by_keyboard_alone(
    chromium: Browser, tmp_path: Path, store: str
) -> None:
    async with a_world(chats_and_pages, tmp_path, store) as world:
        await a_conversation(world)
        async with a_tab(chromium, world.running.url, who=ANA) as tab:
            await tab.open()
            await tab.press("Conversations")
            delete = tab.page.locator("a.danger")
            await tab.press(await delete.get_attribute("aria-label") or "")
            await tab.press("Delete this conversation")

            assert "deleted" in await tab.done()


@LANGUAGES
async def test_to_refuse_and_to_withdraw_takes_no_more_clicks_than_to_agree(
    chromium: Browser, tmp_path: Path, store: str, language: str
) -> None:
    words = WORDS[language]
    clicks: dict[str, int] = {}
    for name, before in (("yes", ()), ("no", ()), ("later", ()), ("withdraw", (Choice.GIVEN,))):
        async with (
            a_world(chats_and_pages, tmp_path, store) as world,
            a_tab(chromium, world.running.url, who={"x-chat-subject": name, "x-chat-plan": "pro"}, language=language) as tab,
        ):  # fmt: skip
            await world.choose(*before, subject=name)
            await tab.open()
            await tab.click(words[name])
            await tab.done()
            history = await world.running.vault.person_desk.history(world.tag(name))
            assert len(history) == len(before) + 1
            clicks[name] = tab.clicks

    assert clicks["no"] <= clicks["yes"]
    assert clicks["later"] <= clicks["yes"]
    assert clicks["withdraw"] <= clicks["yes"]
    assert clicks["yes"] == 1


@pytest.mark.parametrize("width", [360, 1280])
@LANGUAGES
async def test_the_answers_look_alike_and_none_is_chosen_beforehand(
    chromium: Browser, tmp_path: Path, store: str, language: str, width: int
) -> None:
    async with (
        a_world(chats_and_pages, tmp_path, store) as world,
        a_tab(chromium, world.running.url, who=ANA, language=language, width=width) as tab,
    ):
        await tab.open()
        looks = [
            await tab.page.get_by_role("button", name=WORDS[language][answer], exact=True).evaluate(
                """node => {
                    const style = getComputedStyle(node), box = node.getBoundingClientRect();
                    return JSON.stringify([Math.round(box.width), Math.round(box.height), style.color,
                        style.backgroundColor, style.fontSize, style.fontWeight, style.borderTopColor,
                        style.borderTopWidth, style.opacity]);
                }"""
            )
            for answer in ("yes", "no", "later")
        ]
        places = await tab.page.locator(".answers button").evaluate_all(
            "nodes => nodes.map(node => Math.round(node.getBoundingClientRect().top))"
        )

        assert len(set(looks)) == 1
        assert await tab.page.evaluate("document.activeElement === document.body")
        assert (len(set(places)) == 1) is (width == 1280)


async def test_a_wide_table_is_scrolled_by_keyboard_and_the_page_is_not(
    chromium: Browser, tmp_path: Path, store: str
) -> None:
    async with a_world(chats_and_pages, tmp_path, store) as world:
        await a_conversation(world)
        async with a_tab(chromium, world.running.url, who=ANA, width=360) as tab:
            await tab.open()
            await tab.page.locator("summary").press("Enter")
            region = tab.page.locator(".table")
            await region.focus()
            await tab.page.keyboard.press("ArrowRight")
            async with asyncio.timeout(PATIENCE):
                # Not by ``wait_for_function``, which evaluates text where the page's own policy forbids it.
                while not await region.evaluate("table => table.scrollLeft"):
                    await asyncio.sleep(0.01)

            assert await tab.overflow() == 0


async def test_the_skip_link_leads_to_the_content(chromium: Browser, tmp_path: Path, store: str) -> None:
    async with (
        a_world(chats_and_pages, tmp_path, store) as world,
        a_tab(chromium, world.running.url, who=ANA) as tab,
    ):
        await tab.open()
        await tab.press("Skip to the content")

        assert await tab.page.evaluate("document.activeElement.id") == "content"


async def test_another_language_is_remembered(chromium: Browser, tmp_path: Path, store: str) -> None:
    async with (
        a_world(chats_and_pages, tmp_path, store) as world,
        a_tab(chromium, world.running.url, who=ANA, script=False) as tab,
    ):
        await tab.open()
        await tab.click("Français")
        await tab.click("Historique")

        assert "Rien n\N{RIGHT SINGLE QUOTATION MARK}est enregistré pour vous." in await tab.says()


async def test_who_comes_by_a_link_from_another_site_chooses_and_keeps_the_receipt(
    chromium: Browser, tmp_path: Path, store: str
) -> None:
    link = ""

    async def a_company(peer: Peer) -> None:
        while True:
            await peer.read_request()
            page = f"<!doctype html><title>An app</title><a href='{link}'>Your conversations</a>".encode()
            await peer.send(response(page, b"Content-Type: text/html"))

    async with (
        backend(a_company) as company,
        a_world(chats_and_pages, tmp_path, store, admin_token=TOKEN) as world,
        a_tab(chromium, world.running.url, who={}, script=False) as tab,
    ):
        link = await link_to_pages(world.running, admin_token=TOKEN, subject="ana", plan="pro")
        # Another name of the same machine is another site.
        await tab.page.goto(company.url.replace("127.0.0.1", "localhost"))
        await tab.click("Your conversations")
        await tab.click(WORDS["en"]["no"])
        await tab.done()
        assert await choices(world) == [Choice.REFUSED]
        assert "link=" not in tab.page.url

        await tab.open("history")
        async with tab.page.expect_download() as download:
            await tab.page.get_by_text("Download the receipt").click()
        assert (await (await download.value).path()).read_bytes().startswith(b"{")


@pytest.mark.parametrize("passphrase, ends", [("", ".zip"), ("long enough for anybody", ".zip.sealed")])
async def test_all_that_is_held_is_downloaded_without_a_script(
    chromium: Browser, tmp_path: Path, store: str, passphrase: str, ends: str
) -> None:
    async with a_world(chats_and_pages, tmp_path, store) as world:
        await a_conversation(world)
        async with a_tab(chromium, world.running.url, who=ANA, script=False, width=360) as tab:
            await tab.open()
            await tab.click("Download")
            await tab.page.get_by_label("Passphrase (optional)").fill(passphrase)
            async with tab.page.expect_download() as download:
                await tab.page.get_by_role("button", name="Download").click()

            assert (await download.value).suggested_filename.endswith(ends)
