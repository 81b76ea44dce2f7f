"""Takes pictures of every page with realistic data: `python -m bench.screenshots [FOLDER [PAGE …]]`.

Starts a demo master, a web server and a database of its own in a temporary folder, and stores pages at 1440 and 390
pixels, light and dark: empty, full, as people of other roles see them, and with 10,000 more rows in each list.
screenshot_world.py says what is in it.
"""

import argparse
import logging
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

FOLDER = tempfile.mkdtemp(prefix="syncportal-shots-")
os.environ.update(
    DJANGO_SETTINGS_MODULE="syncportal.settings",
    DATA_DIR=FOLDER,
    DATABASE_URL=f"sqlite:///{FOLDER}/shots.sqlite3",
    REMOTE_ALLOWED_NETWORKS="127.0.0.0/8",
    LOG_FORMAT="console",
    OPERATIONS_EMAIL="ops@example.org",
    DJANGO_ALLOW_ASYNC_UNSAFE="1",  # Playwright's loop runs in the thread that fills the tables
)

import django  # noqa: E402

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler  # noqa: E402
from django.test import Client  # noqa: E402
from playwright.sync_api import Browser, sync_playwright  # noqa: E402

from bench import screenshot_world as world  # noqa: E402
from syncportal.demo import DemoMaster  # noqa: E402
from syncportal.demo.spec import accounts, shifts  # noqa: E402
from syncportal.wsgi import application  # noqa: E402

WIDTHS = {"desktop": (1440, 900), "mobile": (390, 844)}
THEMES = ("light", "dark")


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def web() -> Iterator[str]:
    """Serve the application on a free port."""
    server = ThreadedWSGIServer(("127.0.0.1", 0), _Quiet)
    server.set_app(application)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@dataclass(frozen=True, slots=True)
class Camera:
    """Takes pictures into a folder; `only` names the pages to take, none means all."""

    browser: Browser
    url: str
    folder: Path
    only: tuple[str, ...] = ()

    def shoot(self, user: User | None, pages: world.Pages, state: str, *, themes: Iterable[str] = THEMES) -> None:
        """Store each page in both widths; print what the browser complains about and what is too wide."""
        wanted = {name: path for name, path in pages.items() if not self.only or name in self.only}
        for (width, (x, y)), theme in product(WIDTHS.items(), themes):
            context = self.browser.new_context(viewport={"width": x, "height": y}, color_scheme=theme)
            if user is not None:
                client = Client()
                client.force_login(user)
                cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": self.url}
                context.add_cookies([cookie])
            page = context.new_page()
            page.on("console", lambda message: print("  console:", message.text[:200]))
            for name, path in wanted.items():
                page.goto(self.url + path)
                wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
                if wide > 0:
                    print(f"  {name} at {x}: {wide} px too wide")
                page.screenshot(path=self.folder / f"{state}_{name}_{width}_{theme}.png", full_page=True)
            context.close()


def main() -> None:
    """Run it all."""
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(prog="python -m bench.screenshots", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("var/screenshots"))
    parser.add_argument("only", nargs="*", help="names of pages, such as records or detail_conflict")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    call_command("migrate", verbosity=0)
    known = world.people()
    with DemoMaster((accounts(60), shifts(30))) as master, web() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        camera = Camera(browser, url, options.folder, tuple(options.only))
        camera.shoot(None, world.SIGNED_OUT, "empty", themes=["light"])
        camera.shoot(known["root"], world.LISTS | world.FORMS | world.PROBLEMS, "empty", themes=["light"])
        world.configure(master)
        pages = world.LISTS | world.fill(master, known) | world.send_groups(master, url, known["root"])
        pages |= world.compare(master, known["root"]) | world.connections(known["root"]) | world.alarm(known["root"])
        camera.shoot(known["root"], pages, "full")
        for name in ("owner", "idle", "viewer"):
            camera.shoot(known[name], world.LISTS | world.PROBLEMS, name, themes=["light"])
        world.many(10_000)
        camera.shoot(known["root"], world.LISTS | {"nothing": pages["nothing"]}, "many")
        browser.close()
    print(f"{len(list(options.folder.glob('*.png')))} pictures in {options.folder}")


if __name__ == "__main__":
    main()
