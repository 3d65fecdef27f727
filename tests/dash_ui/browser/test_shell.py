"""The frame of the page in a real browser, around views of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from dash import Dash, Input, Output, html
from playwright.sync_api import Page, expect

from dash_ui import ids
from dash_ui.desk import Desk
from dash_ui.state import Selection
from dash_ui.views import View
from tests.dash_ui.browser.conftest import Served

Open = Callable[..., Served]


def view(name: str, area: str, order: int = 0) -> View:
    """A view that says which step and group are selected."""

    def layout() -> html.Div:
        return html.Div([html.P(f"this is {name}"), html.P(id=f"{name}-now")])

    def register(app: Dash, _: Desk) -> None:
        @app.callback(Output(f"{name}-now", "children"), Input(ids.SELECTION, "data"))
        def now(stored: dict[str, object] | None) -> str:
            selection = Selection.of(stored)
            return f"{name}: step {selection.step}, group {selection.group}"

    return View(name, name.title(), area, layout, register, order)


@pytest.fixture
def views() -> list[View]:
    return [
        view("tree", "history"), view("cards", "history", 1), view("drawing", "model"), view("radar", "model", 10),
        view("bubbles", "model", 11), view("curves", "statistics"), view("cost", "statistics", 1),
        view("mask", "inspect"), view("jobs", "drawer"), view("settings", "drawer", 1),
    ]  # fmt: skip


def test_the_page_opens(
    page: Page, open_page: Open, demo: Path, views: list[View], shot: Callable[[str], None]
) -> None:
    open_page(demo, views=views)
    expect(page.locator("#top-model")).to_contain_text("digits_cnn")
    expect(page.locator("#top-dataset")).to_contain_text("digits.npz")
    expect(page.locator("#radar-now")).to_have_text("radar: step 1, group None")
    shot("shell")
