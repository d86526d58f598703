"""The page in a real browser, driven as its user would."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest
from playwright.async_api import Browser, ConsoleMessage, Dialog, Error, Locator, Page, async_playwright

from tests.clients import PATIENCE, Asking, Result

CHROMIUM: Final = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
NEEDS_CHROMIUM: Final = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

_TEXT: Final = "element => element.textContent"


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Run a browser; none of its processes is left over."""
    arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield running
        finally:
            await running.close()


class User:
    """Somebody in front of the page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.wrong: list[str] = []
        """What no page should do: scripts that fail, policies that are violated, dialogs."""
        page.set_default_timeout(PATIENCE * 1000)
        page.on("console", self._hear)
        page.on("pageerror", self._fail)
        page.on("dialog", self._close)

    async def open(self, url: str) -> None:
        """Open the page at this address of the relay."""
        await self.page.goto(url)

    async def ask(self, question: str) -> None:
        """Type a question, and press Enter."""
        await self.page.locator("#question").fill(question)
        await self.page.keyboard.press("Enter")

    @property
    def turn(self) -> Locator:
        """The newest question with its answer."""
        return self.page.locator(".turn").last

    async def text(self) -> str:
        """The text of the newest answer."""
        return str(await self.turn.locator(".answer").evaluate(_TEXT))

    async def shows(self, text: str) -> None:
        """Wait until the newest answer has this text in it."""
        async with asyncio.timeout(PATIENCE):
            while text not in await self.text():
                await asyncio.sleep(0.01)

    async def ended(self) -> str:
        """Wait for the end of the newest answer; return its text."""
        await self.turn.and_(self.page.locator("[data-state=ended]")).wait_for()
        return await self.text()

    async def error(self) -> str:
        """The words of the newest answer's failure; none if it has not failed."""
        return " ".join(await self.turn.locator(".error").all_inner_texts())

    async def press(self, name: str) -> None:
        """Press the button of this name."""
        await self.page.get_by_role("button", name=name, exact=True).last.click()

    async def script(self, script: str, argument: Any = None) -> Any:
        """Return what a function in the page returns."""
        return await self.page.evaluate(script, argument)

    def _hear(self, message: ConsoleMessage) -> None:
        # The browser itself tells of each answer that is no success, whatever the page makes of it.
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            self.wrong.append(message.text)

    def _fail(self, error: Error) -> None:
        self.wrong.append(str(error))

    async def _close(self, dialog: Dialog) -> None:
        self.wrong.append(f"a dialog: {dialog.message}")
        await dialog.dismiss()


class PageAsking:
    """A question that was asked on the page."""

    def __init__(self, user: User) -> None:
        self._user = user

    async def shows(self, text: str) -> None:
        """Wait until it is to be read there."""
        await self._user.shows(text)
        assert not await self._user.page.locator("[data-state=ended]").count()

    async def cancel(self) -> None:
        """Press Stop."""
        await self._user.press("Stop")

    async def result(self) -> Result:
        """Wait for the line below the answer that says how it ended."""
        text = await self._user.ended()
        ends = await self._user.turn.locator(".end").count()
        return Result(text, ends, await self._user.error())


class WebPage:
    """The relay's own page, in Chromium."""

    @asynccontextmanager
    async def ask(self, url: str, question: str) -> AsyncIterator[Asking]:
        """Open it, type the question and press Enter."""
        async with browser() as running:
            user = User(await running.new_page())
            await user.open(url)
            await user.ask(question)
            yield PageAsking(user)
            assert user.wrong == []
