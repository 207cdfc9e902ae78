"""One person at a browser: clicks are counted, what the browser refuses is noted, and axe looks at what is there."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Locator, Page

from chatproxy.web.person_session import PREFIX

Scheme = Literal["light", "dark"]
_MOST_TABS = 80
_LOCALES = {"en": "en-GB", "fr": "fr-FR"}


@dataclass
class Tab:
    """A page that is open. ``faults``: what the console and the page complained of."""

    page: Page
    url: str
    faults: list[str] = field(default_factory=list)
    clicks: int = 0

    async def open(self, path: str = "", *, status: int = 200) -> None:
        answer = await self.page.goto(f"{self.url}{PREFIX}{path}")
        assert answer is not None
        assert answer.status == status

    async def click(self, name: str, *, within: Locator | None = None) -> None:
        """Click the one button or link of that name."""
        self.clicks += 1
        await self._control(name, within).click()

    async def press(self, name: str, *, key: str = "Enter", within: Locator | None = None) -> None:
        """Go to the control of that name with the tabulator alone, see that the focus shows, and press *key*."""
        wanted = self._control(name, within)
        for _ in range(_MOST_TABS):
            await self.page.keyboard.press("Tab")
            if await wanted.evaluate("node => node === node.getRootNode().activeElement"):
                assert await wanted.evaluate(
                    "node => getComputedStyle(node).outlineStyle !== 'none'"
                    " && parseFloat(getComputedStyle(node).outlineWidth) >= 2"
                ), f"the focus on {name!r} does not show"
                await self.page.keyboard.press(key)
                return
        raise AssertionError(f"{name!r} is not reached by the tabulator")

    def _control(self, name: str, within: Locator | None) -> Locator:
        place = within if within is not None else self.page.locator("body")
        return place.get_by_role("button", name=name, exact=True).or_(
            place.get_by_role("link", name=name, exact=True)
        )

    async def says(self) -> str:
        """Return what a person sees."""
        return " ".join((await self.page.locator("body").inner_text()).split())

    async def done(self) -> str:
        """Wait for what the last step came to, and return it."""
        result = self.page.locator("[data-result]:not(:empty)")
        await result.wait_for()
        return str(await result.inner_text())

    async def violations(self) -> list[str]:
        """Return what axe finds, all of its rules."""
        found = await Axe().run(self.page)
        return [
            f"{each['id']}: {node['html'][:160]}"
            for each in found.response["violations"]
            for node in each["nodes"]
        ]

    async def overflow(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        width: Any = await self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        return int(width)


@asynccontextmanager
async def a_tab(
    browser: Browser,
    url: str,
    *,
    who: dict[str, str],
    language: str = "en",
    scheme: Scheme = "light",
    width: int = 1280,
    script: bool = True,
    **options: Any,
) -> AsyncIterator[Tab]:
    """Open a browser's tab as *who*; at the end nothing may have been refused by the content security policy."""
    context = await browser.new_context(
        extra_http_headers=who,
        locale=_LOCALES[language],
        color_scheme=scheme,
        viewport={"width": width, "height": 800},
        java_script_enabled=script,
        **options,
    )
    page = await context.new_page()
    tab = Tab(page, url)
    page.on("pageerror", lambda error: tab.faults.append(str(error)))
    page.on("dialog", lambda dialog: tab.faults.append(f"a dialog opened: {dialog.message}"))
    page.on(
        "console",
        lambda message: (
            tab.faults.append(message.text)
            if message.type in {"error", "warning"} and "status of 40" not in message.text
            else None
        ),
    )
    yield tab
    await context.close()
    assert tab.faults == []
