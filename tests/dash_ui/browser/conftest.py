"""A served folder and a page that fails on what a person should never meet.

``serve(folder)``  serves it until the test ends; ``.url`` is where; ``views=``: other ones than all that there are;
                   ``ahead=True``: likely plans are measured while nobody does anything
``page``           a fresh browser context at 1280x800; the test fails on an error in its console, an exception in it,
                   a request to another machine, and on a callback that fails in the server
``open_page(folder, "?step=2")``  both at once: serves, opens, waits until the page is there, skips the tour
``until(page, js)``  waits until an expression of the browser is true
``shot(name)``     a screenshot into ``$ONNXPRUNE_SCREENSHOTS``, light and dark, where that is set
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Request, Route, expect, sync_playwright

from dash_ui.app import LOG, content_policy, create
from dash_ui.desk import Desk
from dash_ui.serving import Server
from dash_ui.views import View

ALL = os.environ.get("ONNXPRUNE_JOURNEYS") == "all"
SCREENSHOTS = os.environ.get("ONNXPRUNE_SCREENSHOTS")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE = 20_000  # milliseconds until what a test waits for counts as missing; machines may be slow


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked thorough, unless all journeys are wanted, or one was asked for by its name."""
    if ALL or config.option.keyword or any("::" in argument for argument in config.args):
        return
    left = [item for item in items if item.get_closest_marker("thorough")]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


@dataclass
class Served:
    """A folder and where it is served."""

    folder: Path
    url: str
    server: Server = field(repr=False)


def chromium(playwright: Playwright) -> str:
    """The browser to drive: ``$CHROMIUM``, one that is installed, or Playwright's own."""
    named = os.environ.get("CHROMIUM")
    found = [named] if named else [path for name in NAMES if (path := shutil.which(name))]
    found.append(playwright.chromium.executable_path)
    existing = next((path for path in found if Path(path).exists()), None)
    assert existing is not None, "no Chromium: run `make browser`, or name one with CHROMIUM=/path/to/chromium"
    return existing


def until(page: Page, expression: str) -> None:
    """Wait until it is true. (`Page.wait_for_function` needs what the content-security policy forbids.)"""
    ends = time.monotonic() + PATIENCE / 1000
    while not page.evaluate(expression):
        assert time.monotonic() < ends, f"it never became true: {expression}"
        page.wait_for_timeout(30)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=chromium(playwright),
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb"],
        )
        yield started
        started.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """Serve a folder; several calls serve several."""
    running: list[tuple[Server, Desk]] = []

    def start(
        folder: Path,
        views: Sequence[View] | None = None,
        *,
        port: int = 0,
        token: str | None = None,
        ahead: bool = False,
    ) -> Served:
        app = create(folder, views, looks_ahead=ahead)
        server = Server(app.server, port=port, token=token, content_policy=content_policy(app))
        server.start()
        running.append((server, app.server.config["desk"]))
        return Served(folder, server.url, server)

    yield start
    for server, desk in running:
        server.close()
        desk.close()


class Watched:
    """What went wrong in a page. ``allowed``: parts of messages that a test expects."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.allowed: list[str] = []

    def console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.found.append(f"console: {message.text} ({message.location.get('url')})")

    def route(self, route: Route, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in ("127.0.0.1", "localhost"):
            self.found.append(f"a request left the machine: {request.url}")
            route.abort()
        else:
            route.continue_()

    def left(self) -> list[str]:
        return [text for text in self.found if not any(part in text for part in self.allowed)]


@pytest.fixture
def watched() -> Watched:
    """What went wrong in the page so far; a test that expects an error appends a part of it to ``watched.allowed``."""
    return Watched()


@pytest.fixture
def page(
    browser: Browser, watched: Watched, caplog: pytest.LogCaptureFixture, serve: Callable[..., Served]
) -> Iterator[Page]:
    """A page of 1280x800 in light colours; it goes before the servers do."""
    del serve
    caplog.set_level(logging.ERROR, LOG.name)
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme="light", accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    context.route("**/*", watched.route)
    opened = context.new_page()
    opened.on("console", watched.console)
    opened.on("pageerror", lambda error: watched.found.append(f"exception: {error}"))
    yield opened
    context.close()
    failed = [record.getMessage() + str(record.exc_info) for record in caplog.records if record.name == LOG.name]
    assert watched.left() + failed == []


@pytest.fixture
def open_page(page: Page, serve: Callable[..., Served]) -> Callable[..., Served]:
    """Serve a folder, open it (with a query, as "?step=2&tab=inspect:mask") and wait until the page is there."""

    def opened(
        folder: Path, query: str = "", *, tour: bool = False, views: Sequence[View] | None = None, ahead: bool = False
    ) -> Served:
        served = serve(folder, views, ahead=ahead)
        if not tour:
            page.add_init_script("try { localStorage.setItem('onnxprune-toured', 'yes') } catch (e) {}")
        page.goto(served.url + query)
        expect(page.locator("#page")).to_be_visible()
        return served

    return opened


@pytest.fixture
def shot(page: Page) -> Callable[[str], None]:
    """Write ``NAME-light.png`` and ``NAME-dark.png``, as the page is at this moment."""

    def shoot(name: str) -> None:
        if not SCREENSHOTS:
            return
        place = Path(SCREENSHOTS)
        place.mkdir(parents=True, exist_ok=True)
        for _ in range(2):
            theme = page.evaluate("document.documentElement.dataset.theme")
            expect(page.locator("[data-dash-is-loading=true]")).to_have_count(0)
            page.screenshot(path=place / f"{name}-{theme}.png", animations="disabled")
            page.evaluate("document.getElementById('top-theme').click()")

    return shoot
