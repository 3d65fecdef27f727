"""The history in a real browser: the tree, its estimator, and the cards."""

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
from dash_ui.views.cards import VIEW as CARDS
from dash_ui.views.tree import VIEW as TREE
from dash_ui.views.tree import WANTED
from onnxprune.workspace.workspace import Workspace
from tests.dash_ui.browser.conftest import Served, until
from tests.dash_ui.history import grow

Open = Callable[..., Served]
Shot = Callable[[str], None]
PLOT = "document.querySelector('#tree-graph .js-plotly-plot')"
DATA = f"(({PLOT} || {{}}).data || [])"  # its traces, as the browser has them


def probe() -> View:
    """Says what is selected, and what the estimator asked for."""

    def register(app: Dash, _: Desk) -> None:
        @app.callback(Output("probe-step", "children"), Input(ids.SELECTION, "data"))
        def step(stored: dict[str, object] | None) -> str:
            chosen = Selection.of(stored)
            return f"step {chosen.step}, other {chosen.other}"

        @app.callback(Output("probe-wanted", "children"), Input(WANTED, "data"))
        def wanted(stored: dict[str, object] | None) -> str:
            return (
                "nothing" if stored is None else f"{stored['units']} of {stored['of']} units of step {stored['step']}"
            )

    layout = html.Div([html.P(id="probe-step"), html.P(id="probe-wanted")])
    return View("probe", "Probe", "statistics", lambda: layout, register)


@pytest.fixture
def grown(demo: Path) -> Path:
    with Workspace.open(demo) as workspace:
        grow(workspace)
    return demo


@pytest.fixture
def history(page: Page, grown: Path, open_page: Open) -> Page:
    """Tree and cards of a grown tree, with step 3 selected."""
    open_page(grown, "?step=3", views=[TREE, CARDS, probe()])
    expect(page.locator("#tree-facts")).to_contain_text("84 of 168")
    drawn(page)
    return page


def drawn(page: Page) -> None:
    """Wait until the tree is there, with bars for the room that it has."""
    until(page, f"{DATA}.length === 12 && ({DATA}[4].x || []).length > 0 && {PLOT}._fullLayout")


def place(page: Page, step: int) -> tuple[float, float]:
    """Where a node is on the page."""
    found = page.evaluate(
        """(step) => { const gd = document.querySelector('#tree-graph .js-plotly-plot'), f = gd._fullLayout;
        const t = gd.data.find((d) => d.name === 'steps'), k = t.customdata.indexOf(step);
        const r = gd.getBoundingClientRect();
        return [r.left + f._size.l + f.xaxis.d2p(t.x[k]), r.top + f._size.t + f.yaxis.d2p(t.y[k])]; }""",
        step,
    )
    return found[0], found[1]


def point(page: Page, step: int) -> None:
    """Move the mouse onto a node, and wait until it tells what it is."""
    x, y = place(page, step)
    page.mouse.move(x + 6, y + 3)
    page.mouse.move(x, y)
    expect(page.locator("#tree-graph .hoverlayer")).to_contain_text(f"#{step} ")


def test_click_shift_and_arrow_keys(history: Page, shot: Shot) -> None:
    page, now = history, history.locator("#probe-step")
    point(page, 5)
    expect(page.locator("#tree-graph .hoverlayer")).to_contain_text("size in storage")
    page.mouse.down()
    page.mouse.up()
    expect(now).to_have_text("step 5, other None")
    expect(page.locator("#tree-facts")).to_contain_text("fine-tuning not converged")
    until(page, f"({DATA}[11].x || []).length === 1 && {DATA}[11].y[0] === 42")
    point(page, 1)
    page.keyboard.down("Shift")
    page.mouse.down()
    page.mouse.up()
    page.keyboard.up("Shift")
    expect(now).to_have_text("step 5, other 1")
    shot("tree")
    page.locator("#tree-keys").focus()
    page.keyboard.press("ArrowUp")
    expect(now).to_have_text("step 4, other 1")
    page.keyboard.press("ArrowRight")
    expect(now).to_have_text("step 5, other 1")
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(now).to_have_text("step 5, other 5")


def test_delete_undo_trash_restore(history: Page) -> None:
    page, now = history, history.locator("#probe-step")
    page.locator("#tree-delete").click()
    expect(page.locator("#tree-undo-bar")).to_contain_text("Steps 3, 4 and 5 are in the trash.")
    expect(now).to_have_text("step 2, other None")
    page.locator("#tree-undo").click()
    expect(now).to_have_text("step 3, other None")
    expect(page.locator("#tree-undo-bar")).to_be_hidden()
    page.locator("#tree-delete").click()
    expect(now).to_have_text("step 2, other None")
    until(page, f"{DATA}[7].customdata.length === 4")
    page.locator("#tree-trash").click()
    until(page, f"{DATA}[7].customdata.length === 7")
    point(page, 4)
    page.mouse.down()
    page.mouse.up()
    expect(page.locator("#tree-facts")).to_contain_text("in the trash")
    page.locator("#tree-restore").click()
    expect(page.locator("#tree-facts")).not_to_contain_text("in the trash")
    expect(page.locator("#tree-delete")).to_be_visible()


@pytest.mark.thorough
def test_name_note_and_baseline(history: Page, grown: Path) -> None:
    page = history
    page.locator("#tree-edit").click()
    page.locator("#tree-name").fill("for the phone")
    page.locator("#tree-name").press("Enter")
    expect(page.locator("#tree-facts")).to_contain_text("#3 fine-tune for the phone")
    page.locator("#tree-note").fill("loses sevens")
    page.locator("#tree-note").press("Enter")
    expect(page.locator("#tree-facts")).to_contain_text("loses sevens")
    page.locator("#tree-pin").click()
    expect(page.locator("#tree-facts")).to_contain_text("baseline")
    expect(page.locator("#tree-pin")).to_be_disabled()
    with Workspace.open(grown, scan=False) as workspace:
        step = workspace.steps.get(3)
        assert (step.name, step.note, step.pinned) == ("for the phone", "loses sevens", True)
        assert (workspace.steps.get(1).name, workspace.steps.get(1).pinned) == ("digits_cnn", False)


@pytest.mark.thorough
def test_what_a_branch_is_and_the_command_line(history: Page) -> None:
    history.get_by_role("button", name="Continue", exact=True).click()
    expect(history.locator("#toasts")).to_contain_text("You continue at step 3.")
    history.locator("#tree-copy").click()
    expect(history.locator("#toasts")).to_contain_text("The command line is copied.")


@pytest.mark.thorough
def test_filter_fades_what_does_not_match(history: Page) -> None:
    history.locator("#tree-filter").fill("half")
    until(history, f"{DATA}[7].marker.opacity.filter((o) => o === 1).length === 1")


def test_the_estimator_is_dragged_and_asks_for_a_pruning(history: Page, shot: Shot) -> None:
    page = history
    page.locator("#tree-estimate").click()
    knob, units = page.locator("#tree-estimator-knob"), page.locator("#tree-estimator-units")
    expect(units).to_have_text("63 filters")
    expect(page.locator("#tree-estimator")).to_contain_text("about 96")
    box = knob.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 8, box["y"] + 8)
    page.mouse.down()
    page.mouse.move(box["x"] + 8, box["y"] + 38, steps=4)
    expect(units).not_to_have_text("63 filters")
    page.mouse.up()
    low = int(units.inner_text().split()[0])
    assert 42 <= low < 63
    page.keyboard.press("ArrowUp")
    expect(units).to_have_text(f"{low + 1} filters")
    expect(knob).to_have_attribute("aria-valuenow", str(low + 1))
    shot("estimator")
    page.get_by_role("button", name=f"Prune to {low + 1}").click()
    expect(page.locator("#probe-wanted")).to_have_text(f"{low + 1} of 84 units of step 3")
    page.locator("#tree-estimate").click()
    expect(knob).to_be_hidden()


@pytest.mark.thorough
def test_zoom_is_kept_until_fit(history: Page) -> None:
    page = history
    x, y = place(page, 3)
    page.mouse.move(x, y)
    before = page.evaluate(f"{PLOT}._fullLayout.yaxis.range")
    page.mouse.wheel(0, -300)
    until(page, f"{PLOT}._fullLayout.yaxis.range[1] < {before[1]}")
    zoomed = page.evaluate(f"{PLOT}._fullLayout.yaxis.range")
    page.locator("#tree-keys").focus()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#probe-step")).to_have_text("step 2, other None")
    assert page.evaluate(f"{PLOT}._fullLayout.yaxis.range") == pytest.approx(zoomed)
    page.locator("#tree-fit").click()
    until(page, f"Math.abs({PLOT}._fullLayout.yaxis.range[1] - {before[1]}) < 1e-6")


def test_cards(history: Page, grown: Path, shot: Shot) -> None:
    page = history
    page.get_by_role("tab", name="Cards").click()
    cards = page.locator("#cards-list .card")
    expect(cards).to_have_count(3)
    third = page.locator('#cards-list .card[data-step="3"]')
    expect(third).to_contain_text("50.0% of filters removed")
    expect(third).to_contain_text("+38.50 points")
    expect(third.locator("svg .layer")).to_have_count(4)
    shot("cards")
    second = page.locator('#cards-list .card[data-step="2"]')
    second.get_by_role("button", name="Fold").click()
    expect(second.locator(".card-body")).to_have_count(0)
    page.locator('#cards-list .card[data-step="1"]').get_by_role("button", name="Hide").click()
    expect(cards).to_have_count(2)
    expect(page.locator("#cards-hidden")).to_have_text("1 hidden")
    page.get_by_role("button", name="Columns").click()
    expect(page.locator("#panel-history")).to_have_class("panel panel-history maximised")
    shot("cards-columns")
    page.reload()
    page.get_by_role("tab", name="Cards").click()
    expect(cards).to_have_count(2)
    expect(second.get_by_role("button", name="Unfold")).to_be_visible()
    expect(page.get_by_role("button", name="Columns")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Unfold all").click()
    expect(cards).to_have_count(3)
    second.get_by_role("button", name="Compare").click()
    expect(page.locator("#probe-step")).to_have_text("step 3, other 2")
    second.get_by_role("button", name="Continue here").click()
    expect(page.locator("#probe-step")).to_have_text("step 2, other 2")
    second.get_by_role("button", name="Delete").click()
    expect(page.locator("#probe-step")).to_have_text("step 1, other 2")
    with Workspace.open(grown, scan=False) as workspace:
        assert [step.number for step in workspace.steps.all()] == [1, 6, 7]
    expect(page.locator("#cards-undo-bar")).to_contain_text("are in the trash")
    page.locator("#cards-undo").click()
    expect(page.locator("#probe-step")).to_have_text("step 2, other 2")
    expect(second).to_be_visible()


@pytest.mark.thorough
def test_two_hundred_steps(page: Page, grown: Path, open_page: Open, shot: Shot) -> None:
    with Workspace.open(grown, scan=False) as workspace:
        grower = grow(workspace)
        at = 1
        for k in range(95):
            grower.prune(1, 0.3 + k / 200, 0.5)
            at = grower.prune(at, 0.05, 0.5)
    open_page(grown, f"?step={at}", views=[TREE, CARDS, probe()])
    until(page, f"{DATA}.length === 12 && {DATA}[7].x.length > 200")
    shot("tree-200")
    page.locator("#tree-fit").click()
    page.locator("#tree-fit").click()
    page.locator("#tree-keys").focus()
    page.keyboard.press("ArrowUp")
    expect(page.locator("#probe-step")).not_to_have_text(f"step {at}, other None")
    page.get_by_role("tab", name="Cards").click()
    until(page, "document.querySelectorAll('#cards-list .card').length > 80")
    assert page.locator("#cards-list .card-body").count() < 30
