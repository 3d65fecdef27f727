"""Components are told once for each frame what changed, and at once while a person types."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dash import Dash, Input, Output, dcc, html
from playwright.sync_api import Page, expect

from dash_ui.desk import Desk
from dash_ui.views import View
from tests.dash_ui.browser.conftest import Served, until

Open = Callable[..., Served]
CHANGES = 50


def fields() -> View:
    """A field that is written back at each key, and a line that counts how often it was drawn."""

    def layout() -> html.Div:
        return html.Div([dcc.Input(id="fields-text", value=""), html.P(id="fields-echo")])

    def register(app: Dash, _: Desk) -> None:
        app.callback(Output("fields-echo", "children"), Input("fields-text", "value"))(lambda text: f"it says {text}")

    return View("fields", "Fields", "history", layout, register)


def test_many_changes_are_drawn_once_and_the_last_one_holds(page: Page, open_page: Open, small: Path) -> None:
    open_page(small, "?step=1", views=[fields()])
    expect(page.locator("#fields-echo")).to_have_text("it says")
    until(page, "document.documentElement.dataset.calm === 'yes'")
    page.evaluate(
        """() => {
          window.drawn = 0;
          new MutationObserver(() => (window.drawn += 1)).observe(document.getElementById("fields-echo"),
            { childList: true, subtree: true, characterData: true });
        }"""
    )
    page.evaluate(
        f"""() => {{
          const told = (n) => window.dash_clientside.set_props("fields-echo", {{ children: `change ${{n}}` }});
          for (let n = 1; n <= {CHANGES}; n += 1) Promise.resolve().then(() => told(n));
        }}"""
    )
    expect(page.locator("#fields-echo")).to_have_text(f"change {CHANGES}")
    assert page.evaluate("window.drawn") < CHANGES / 5


def test_the_caret_stays_where_one_types(page: Page, open_page: Open, small: Path) -> None:
    open_page(small, "?step=1", views=[fields()])
    until(page, "document.documentElement.dataset.calm === 'yes'")
    field = page.locator("#fields-text")
    field.click()
    page.keyboard.type("pruned")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    page.keyboard.type("nxn", delay=15)
    expect(field).to_have_value("prunxnned")
    expect(page.locator("#fields-echo")).to_have_text("it says prunxnned")
