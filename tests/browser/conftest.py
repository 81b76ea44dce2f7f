"""A real browser on a live server, with the demo master behind it.

Without Chromium the tests are skipped and say how to install it; with CI=1 they fail instead.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from django.contrib.auth.models import User
from django.test import Client
from playwright.sync_api import Browser, BrowserContext, Locator, Page, sync_playwright

os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "1")  # Playwright's loop runs in the thread of the test

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
PATIENCE_MS = 30_000  # a page that is right is never waited for in vain, and a busy machine is slow
DESKTOP, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
BOTH_THEMES = ("light", "dark")
# Dark and light differ in colours alone (tests/architecture compares), so the second theme needs these rules only.
COLOUR_RULES = "{resultTypes: ['violations'], runOnly: ['color-contrast', 'link-in-text-block']}"
ALL_RULES = "{resultTypes: ['violations']}"
COLOURS_AT_REST = "document.getAnimations().forEach(one => one instanceof CSSTransition && one.finish())"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Start the system's Chromium once."""
    if CHROMIUM is None:
        text = "no Chromium; install it with: apt-get install chromium"
        if os.environ.get("CI") == "1":
            pytest.fail(text)
        pytest.skip(text)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@dataclass
class Window:
    """One person's browser window; `complaints` collects what the console says, refused content above all."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str) -> Page:
        """Go to a page of the product."""
        self.page.goto(self.url + path)
        return self.page

    def too_wide(self) -> int:
        """Return by how many pixels the page is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def violations(self, *themes: str) -> list[str]:
        """Return what axe finds serious or critical; themes: the page is turned to each, else it stays as it is."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE_SCRIPT)
        if not themes:
            return self._violations(ALL_RULES)
        found = []
        for number, theme in enumerate(themes):
            self.page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            self.page.evaluate(COLOURS_AT_REST)
            found += [f"{theme}: {one}" for one in self._violations(COLOUR_RULES if number else ALL_RULES)]
        return found

    def _violations(self, rules: str) -> list[str]:
        found = self.page.evaluate(f"axe.run({rules})")["violations"]
        return [
            f"{one['id']}: {node['html'][:160]}"
            for one in found
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]


def shows_within(seconds: float, act: Callable[[int], Locator], *, tries: int = 5) -> None:
    """Let something happen and wait until it shows, again where that took longer: a promise holds on an idle machine.

    act: does it for the n-th time, from 1, and returns what must show then.
    """
    took: list[float] = []
    for number in range(1, tries + 1):
        shown = act(number)
        begun = time.monotonic()
        shown.wait_for()
        took.append(time.monotonic() - begun)
        if took[-1] < seconds:
            return
    raise AssertionError(f"it never showed within {seconds} s: {took}")


@pytest.fixture
def window(browser: Browser, live_server: object) -> Iterator[Callable[..., Window]]:
    """Return a function that opens a window in which a person is signed in."""
    contexts: list[BrowserContext] = []
    windows: list[Window] = []

    def make(user: User, *, size: dict[str, int] = DESKTOP, scripts: bool = True, theme: str = "light") -> Window:
        context = browser.new_context(viewport=size, java_script_enabled=scripts, color_scheme=theme)  # type: ignore[arg-type]
        contexts.append(context)
        client = Client()
        client.force_login(user)
        url = str(live_server.url)  # type: ignore[attr-defined]
        context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": url}])
        made = Window(context.new_page(), url)
        made.page.set_default_timeout(PATIENCE_MS)
        made.page.on(
            "console", lambda message: made.complaints.append(message.text) if message.type == "error" else None
        )
        made.page.on("pageerror", lambda error: made.complaints.append(str(error)))
        windows.append(made)
        return made

    yield make
    for context in contexts:
        context.close()
    # Answers with 4xx to a refused form are logged by the browser as errors; they are no complaint about the page.
    heard = [text for one in windows for text in one.complaints if "status of 4" not in text]
    assert heard == []
