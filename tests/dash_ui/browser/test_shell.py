"""The frame of the page in a real browser, around views of its own."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

import plotly.graph_objects as go
import pytest
from dash import Dash, Input, Output, html, no_update
from playwright.sync_api import Locator, Page, expect

from dash_ui import ids, parts
from dash_ui.desk import Desk
from dash_ui.help import STOPS
from dash_ui.state import Selection
from dash_ui.theme import finish, theme_of
from dash_ui.views import View
from onnxprune.errors import OptionError
from onnxprune.workspace.workspace import Workspace
from tests.dash_ui.browser.conftest import Served, Watched, until
from tests.workspace.conftest import write_data

Open = Callable[..., Served]
Shot = Callable[[str], None]
GONE = {"conv1": 3, "conv2": 1}


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


def plot() -> View:
    """A view with a plot."""

    def register(app: Dash, _: Desk) -> None:
        @app.callback(Output("plot-graph", "figure"), Input(ids.THEME, "data"))
        def draw(theme: str) -> go.Figure:
            return finish(go.Figure(go.Scatter(x=[1, 2, 3], y=[2, 1, 3])), theme_of(theme))

    return View("plot", "Plot", "statistics", lambda: parts.graph("plot-graph", label="Three points"), register, 0)


def button() -> View:
    """A view whose buttons end in a message, in a refusal, and in a plan."""

    def layout() -> html.Div:
        return html.Div([html.Button(word, id=f"button-{word}") for word in ("done", "refused", "plan")])

    def register(app: Dash, _: Desk) -> None:
        @app.callback(
            Output(ids.TOAST, "data", allow_duplicate=True), Input("button-done", "n_clicks"), prevent_initial_call=True
        )
        def done(clicks: int | None) -> object:
            if not clicks:  # the view was just made
                return no_update
            return {"kind": "done", "text": "<b>It is done</b>", "hint": "Look at it."}

        @app.callback(
            Output(ids.LIVE, "data", allow_duplicate=True),
            Input("button-refused", "n_clicks"),
            prevent_initial_call=True,
        )
        def refused(clicks: int | None) -> object:
            if not clicks:
                return no_update
            raise OptionError("that cannot be", "Try another thing.")

        @app.callback(
            Output(ids.LIVE, "data", allow_duplicate=True), Output(ids.ESTIMATE, "data", allow_duplicate=True),
            Input("button-plan", "n_clicks"), prevent_initial_call=True,
        )  # fmt: skip
        def plan(count: int | None) -> object:
            if not count:
                return no_update, no_update
            live = {"gone": GONE, "units": {"conv1": 16, "conv2": 1208}, "threshold": 0.1}
            return live, no_update if count < 2 else {"units": 4, "of": 1224, "macs_left": 0.52}

    return View("button", "Button", "inspect", layout, register, 0)


def slow(go_on: threading.Event) -> View:
    """A view that waits."""

    def layout() -> html.Div:
        return html.Div([html.Button("wait", id="slow-begin"), html.P("what was there before", id="slow-text")])

    def register(app: Dash, _: Desk) -> None:
        @app.callback(Output("slow-text", "children"), Input("slow-begin", "n_clicks"), prevent_initial_call=True)
        def wait(clicks: int | None) -> object:
            if not clicks:
                return no_update
            assert go_on.wait(60)
            return "what is there now"

    return View("slow", "Slow", "inspect", layout, register)


@pytest.fixture
def views() -> list[View]:
    return [
        view("tree", "history"), view("cards", "history", 1), view("drawing", "model"), view("radar", "model", 10),
        view("bubbles", "model", 11), plot(), view("cost", "statistics", 1), button(), view("mask", "inspect", 1),
        view("jobs", "drawer"), view("settings", "drawer", 1),
    ]  # fmt: skip


def width(found: Locator) -> float:
    box = found.bounding_box()
    assert box is not None
    return box["width"]


def test_the_page_opens_at_both_sizes(page: Page, open_page: Open, demo: Path, views: list[View], shot: Shot) -> None:
    open_page(demo, views=views)
    expect(page.locator("#top-model")).to_contain_text("digits_cnn")
    expect(page.locator("#top-dataset")).to_contain_text("digits.npz")
    expect(page.locator("#radar-now")).to_have_text("radar: step 1, group None")
    expect(page.locator("#plot-graph .main-svg").first).to_be_visible()
    shot("shell-1280")
    page.set_viewport_size({"width": 2560, "height": 1440})
    shot("shell-2560")
    bar = page.locator(".top")
    assert bar.evaluate("bar => bar.scrollWidth <= bar.clientWidth")
    assert page.evaluate("document.documentElement.scrollHeight <= window.innerHeight")


@pytest.mark.thorough
def test_tabs_are_made_when_they_are_opened_and_stay(
    page: Page, open_page: Open, small: Path, views: list[View]
) -> None:
    open_page(small, views=views)
    expect(page.locator("#tree-now")).to_be_visible()
    expect(page.locator("#cards-now")).to_have_count(0)
    page.get_by_role("tab", name="Cards").click()
    expect(page.locator("#cards-now")).to_have_text("cards: step 1, group None")
    expect(page.locator("#tree-now")).to_be_hidden()
    page.locator("#cards-now").evaluate("here => { here.dataset.mark = 'kept' }")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tree-now")).to_be_visible()
    page.get_by_role("tab", name="Cards").click()
    assert page.locator("#cards-now").get_attribute("data-mark") == "kept"
    page.reload()
    expect(page.locator("#cards-now")).to_be_visible()
    expect(page.get_by_role("tab", name="Cards")).to_have_attribute("aria-selected", "true")


@pytest.mark.thorough
def test_a_drawer_opens_and_closes(page: Page, open_page: Open, small: Path, views: list[View], shot: Shot) -> None:
    open_page(small, views=views)
    opener = page.get_by_role("button", name="Jobs", exact=True)
    opener.click()
    expect(page.locator("#jobs-now")).to_have_text("jobs: step 1, group None")
    expect(opener).to_have_attribute("aria-expanded", "true")
    shot("drawer")
    page.get_by_role("button", name="Settings", exact=True).click()
    expect(page.locator("#settings-now")).to_be_visible()
    expect(page.locator("#jobs-now")).to_be_hidden()
    page.keyboard.press("Escape")
    expect(page.locator("#settings-now")).to_be_hidden()
    assert "drawer" not in page.url


def test_the_address_holds_what_is_selected(page: Page, open_page: Open, small: Path, views: list[View]) -> None:
    open_page(small, "?step=1&threshold=0.25", views=views)
    expect(page.locator("#tree-now")).to_have_text("tree: step 1, group None")
    page.keyboard.press("]")
    expect(page.locator("#tree-now")).to_have_text(re.compile("group .*conv1"))
    page.keyboard.press("]")
    expect(page.locator("#tree-now")).not_to_have_text(re.compile("conv1"))
    assert "threshold=0.25" in page.url
    page.go_back()
    expect(page.locator("#tree-now")).to_have_text(re.compile("conv1"))
    page.go_forward()
    expect(page.locator("#tree-now")).not_to_have_text(re.compile("conv1"))
    page.go_back()
    expect(page.locator("#tree-now")).to_have_text(re.compile("conv1"))
    page.reload()
    expect(page.locator("#tree-now")).to_have_text(re.compile("conv1"))
    page.keyboard.press("[")
    expect(page.locator("#tree-now")).not_to_have_text(re.compile("conv1"))


@pytest.mark.thorough
def test_a_step_that_is_not_there(page: Page, open_page: Open, small: Path, views: list[View]) -> None:
    open_page(small, "?step=99", views=views)
    expect(page.locator(".toast-error")).to_contain_text("no step 99")
    expect(page.locator("#tree-now")).to_have_text("tree: step 1, group None")


@pytest.mark.thorough
def test_borders_are_dragged_and_stay(page: Page, open_page: Open, small: Path, views: list[View]) -> None:
    open_page(small, views=views)
    history, splitter = page.locator("#panel-history"), page.locator("#splitter-history")
    before = width(history)
    box = splitter.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 3, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + 83, box["y"] + 100, steps=4)
    page.mouse.up()
    assert width(history) == pytest.approx(before + 80, abs=2)
    between = page.locator("#splitter-cell-bubbles")
    radar = width(page.locator("#panel-radar"))
    between.focus()
    page.keyboard.press("ArrowRight")
    moved = width(page.locator("#panel-radar"))
    assert moved > radar
    page.reload()
    expect(page.locator("#tree-now")).to_be_visible()
    assert width(history) == pytest.approx(before + 80, abs=2)
    assert width(page.locator("#panel-radar")) == pytest.approx(moved, abs=2)
    splitter.dblclick()
    assert width(history) == pytest.approx(before, abs=2)


def test_a_panel_is_maximised(page: Page, open_page: Open, small: Path, views: list[View], shot: Shot) -> None:
    open_page(small, views=views)
    panel, plot = page.locator("#panel-statistics"), page.locator("#plot-graph .main-svg").first
    expect(plot).to_be_visible()
    before = width(plot)
    for begin in (
        lambda: panel.locator(".panel-head").dblclick(position={"x": 200, "y": 10}),
        lambda: page.locator("#plot-graph .nsewdrag").first.dblclick(position={"x": 40, "y": 150}),
        lambda: (panel.hover(), page.keyboard.press("m")),
        lambda: (panel.hover(), page.get_by_role("button", name="Maximise Statistics").click()),
    ):
        begin()
        expect(panel).to_have_class(re.compile("maximised"))
        until(page, "document.querySelector('#plot-graph .main-svg').clientWidth > 1100")
        page.mouse.move(640, 300)
        if SHOTS_LEFT:
            shot(SHOTS_LEFT.pop())
        page.keyboard.press("Escape")
        expect(panel).not_to_have_class(re.compile("maximised"))
        until(page, f"document.querySelector('#plot-graph .main-svg').clientWidth <= {before + 1}")


SHOTS_LEFT = ["maximised"]


@pytest.mark.thorough
def test_light_and_dark(page: Page, open_page: Open, small: Path, views: list[View]) -> None:
    open_page(small, views=views)
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.get_by_role("button", name="Light or dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    tick = "getComputedStyle(document.querySelector('#plot-graph .xtick text') || document.body).fill"
    until(page, f"{tick} === 'rgb(154, 167, 180)'")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


@pytest.mark.thorough
def test_the_system_decides_until_a_person_does(page: Page, open_page: Open, small: Path, views: list[View]) -> None:
    page.emulate_media(color_scheme="dark")
    open_page(small, views=views)
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.emulate_media(color_scheme="light")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")


def test_undo_and_redo(page: Page, open_page: Open, small: Path, views: list[View]) -> None:
    with Workspace.open(small) as workspace:
        workspace.drafts.add(1, {"group": "conv1", "remove": [0, 2]})
        workspace.drafts.add(1, {"criterion": "l2", "ratio": 0.25})
    open_page(small, views=views)
    undo, redo = page.get_by_role("button", name="Undo"), page.get_by_role("button", name="Redo")
    expect(undo).to_have_attribute("title", "Undo: remove the lowest 25% by l2 (Ctrl+Z)")
    expect(redo).to_be_disabled()
    undo.click()
    expect(undo).to_have_attribute("title", "Undo: remove 2 units of conv1 (Ctrl+Z)")
    page.keyboard.press("Control+z")
    expect(undo).to_be_disabled()
    expect(redo).to_have_attribute("title", "Redo: remove 2 units of conv1 (Ctrl+Shift+Z)")
    page.keyboard.press("Control+Shift+Z")
    expect(undo).to_be_enabled()
    with Workspace.open(small) as workspace:
        assert [entry.undone for entry in workspace.drafts.entries(1)] == [False, True]


@pytest.mark.thorough
def test_what_others_do_is_seen(page: Page, open_page: Open, small: Path, views: list[View]) -> None:
    open_page(small, views=views)
    undo = page.get_by_role("button", name="Undo")
    expect(undo).to_be_disabled()
    with Workspace.open(small) as workspace:
        workspace.drafts.add(1, {"group": "conv1", "remove": [1]})
    expect(undo).to_have_attribute("title", "Undo: remove 1 unit of conv1 (Ctrl+Z)")
    write_data(small / "data" / "other.npz", seed=1)
    page.get_by_role("button", name="Look for new models and data in the folder").click()
    expect(page.locator(".toast")).to_contain_text("1 new: data/other.npz")
    page.locator("#top-dataset").click()
    expect(page.get_by_text("other.npz", exact=True)).to_be_visible()
    page.get_by_text("other.npz", exact=True).click()
    page.wait_for_url("**data=data*")


@pytest.mark.thorough
def test_messages(page: Page, open_page: Open, small: Path, views: list[View], shot: Shot) -> None:
    open_page(small, "?tab=inspect:button", views=views)
    page.locator("#button-done").click()
    toast = page.locator(".toast-done")
    expect(toast).to_contain_text("<b>It is done</b>")
    page.locator("#button-refused").click()
    expect(page.locator(".toast-error")).to_contain_text("that cannot be")
    expect(page.locator(".toast-error .hint")).to_have_text("Try another thing.")
    shot("toasts")
    toast.get_by_role("button", name="Dismiss").click()
    expect(toast).to_have_count(0)


@pytest.mark.thorough
def test_the_plan_in_words(page: Page, open_page: Open, small: Path, views: list[View]) -> None:
    open_page(small, "?tab=inspect:button", views=views)
    page.locator("#button-plan").click()
    expect(page.locator("#top-summary")).to_have_text("4 of 1,224 unitsestimating …")
    page.locator("#button-plan").click()
    expect(page.locator("#top-summary")).to_have_text("4 of 1,224 units−48% MACs est.")


@pytest.mark.thorough
def test_the_inspection_folds_to_its_tabs_where_the_page_is_low(
    page: Page, open_page: Open, small: Path, views: list[View]
) -> None:
    open_page(small, views=views)
    panel, body = page.locator("#panel-inspect"), page.locator("#panel-inspect .panel-body")
    expect(body).to_be_hidden()
    assert page.locator("#slot-button").text_content() == "", "nothing of it is made before somebody looks at it"
    panel.get_by_role("tab", name="Button").click()
    expect(page.locator("#button-done")).to_be_visible()
    expect(page).to_have_url(re.compile("inspect%3Abutton"))
    panel.get_by_role("tab", name="Button").click()
    expect(body).to_be_hidden()
    fold = panel.get_by_role("button", name="Open or fold Inspect")
    fold.click()
    expect(page.locator("#button-done")).to_be_visible()
    expect(fold).to_have_attribute("aria-expanded", "true")
    fold.click()
    expect(body).to_be_hidden()
    page.set_viewport_size({"width": 2560, "height": 1440})
    page.goto(page.url.split("?")[0])
    expect(page.locator("#button-done")).to_be_visible()


@pytest.mark.thorough
def test_keys(page: Page, open_page: Open, small: Path, views: list[View], shot: Shot) -> None:
    open_page(small, views=views)
    expect(page.locator("#tree-now")).to_be_visible()
    field = page.get_by_label("Find a layer")
    page.keyboard.press("Control+f")
    expect(field).to_be_focused()
    page.keyboard.type("m?[")
    expect(field).to_have_value("m?[")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(field).to_be_focused()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    shot("keys")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()


@pytest.mark.thorough
def test_the_tour_of_the_example(page: Page, open_page: Open, demo: Path, views: list[View], shot: Shot) -> None:
    open_page(demo, views=views, tour=True)
    for number, stop in enumerate(STOPS, 1):  # none of these views does what it asks for: it goes on
        card = page.get_by_role("dialog", name=stop.title)
        expect(card).to_contain_text(f"{number} of 3")
        shot(f"tour-{number}")
        card.get_by_role("button", name=stop.does).click()
    expect(page.locator("#tour")).to_be_hidden()
    page.reload()
    expect(page.locator("#tree-now")).to_be_visible()
    expect(page.locator("#tour")).to_be_hidden()
    page.keyboard.press("?")
    page.get_by_role("button", name="Show the tour").click()
    expect(page.get_by_role("dialog", name=STOPS[0].title)).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#tour")).to_be_hidden()


@pytest.mark.thorough
def test_another_folder_has_no_tour(page: Page, open_page: Open, small: Path, views: list[View]) -> None:
    open_page(small, views=views, tour=True)
    expect(page.locator("#tree-now")).to_be_visible()
    expect(page.locator("#tour")).to_be_hidden()


@pytest.mark.thorough
def test_a_folder_without_models(page: Page, open_page: Open, bare: Path, small: Path, shot: Shot) -> None:
    (bare / "broken.onnx").write_bytes(b"this is no model")
    open_page(bare)
    expect(page.get_by_role("heading", name="There is no model in this folder yet")).to_be_visible()
    expect(page.locator(".broken")).to_contain_text("broken.onnx")
    shot("empty-folder")
    (bare / "models").mkdir()
    (bare / "models" / "cnn.onnx").write_bytes((small / "cnn.onnx").read_bytes())
    page.get_by_role("button", name="Look again").click()
    expect(page.locator("#top-model")).to_contain_text("cnn")


@pytest.mark.thorough
def test_a_server_that_is_lost_and_comes_back(
    page: Page,
    open_page: Open,
    serve: Callable[..., Served],
    small: Path,
    views: list[View],
    watched: Watched,
    shot: Shot,
) -> None:
    watched.allowed += ["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "the server did not respond"]
    served = open_page(small, views=views)
    expect(page.locator("#tree-now")).to_be_visible()
    served.server.stop()
    served.server.close()
    expect(page.locator("#lost")).to_be_visible()
    shot("lost")
    serve(small, views, port=served.server.port)
    expect(page.locator("#lost")).to_be_hidden()
    page.keyboard.press("]")
    expect(page.locator("#tree-now")).to_have_text(re.compile("conv1"))


@pytest.mark.thorough
def test_a_folder_that_may_only_be_read(page: Page, open_page: Open, small: Path, views: list[View]) -> None:
    with Workspace.open(small) as workspace:
        workspace.drafts.add(1, {"group": "conv1", "remove": [1]})
    places = [small / ".onnxprune", small]
    modes = [place.stat().st_mode for place in places]
    for place in places:
        place.chmod(0o500)
    try:
        open_page(small, views=views)
        expect(page.locator("#tree-now")).to_have_text("tree: step 1, group None")
    finally:
        for place, mode in zip(places, modes, strict=True):
            place.chmod(mode)


@pytest.mark.thorough
def test_a_view_that_waits_says_so_and_keeps_what_it_shows(page: Page, open_page: Open, small: Path) -> None:
    go_on = threading.Event()
    open_page(small, "?tab=inspect:slow", views=[view("tree", "history"), slow(go_on)])
    expect(page.locator("#tree-now")).to_have_text("tree: step 1, group None")
    page.locator("#slow-begin").click()
    sign = "getComputedStyle(document.querySelector('#panel-inspect .panel-body'), '::after')"
    until(page, f"{sign}.opacity === '1' && {sign}.width === '14px'")
    assert page.locator("#slow-text").text_content() == "what was there before"
    go_on.set()
    expect(page.locator("#slow-text")).to_have_text("what is there now")
    until(page, f"{sign}.content === 'none'")


@pytest.mark.thorough
def test_a_change_for_a_draft_that_is_another_one_is_refused(
    page: Page, open_page: Open, small: Path, views: list[View]
) -> None:
    with Workspace.open(small) as workspace:
        workspace.drafts.add(1, {"group": "conv1", "remove": [0]})
    open_page(small, views=views)
    expect(page.get_by_role("button", name="Undo")).to_be_enabled()
    stale = "dash_clientside.set_props('draft-changed', {data: 'one of before'})"
    page.evaluate(f"{stale}; document.getElementById('top-undo').click()")
    expect(page.locator(".toast-error")).to_contain_text("the draft of step 1 was changed elsewhere")
    with Workspace.open(small) as workspace:
        assert [entry.undone for entry in workspace.drafts.entries(1)] == [False]


def test_a_server_that_asks_for_a_token(
    page: Page, serve: Callable[..., Served], small: Path, views: list[View], watched: Watched
) -> None:
    watched.allowed.append("401")
    served = serve(small, views, token="correct-horse")  # noqa: S106 - of this test only
    page.goto(served.url.split("?")[0])
    expect(page.get_by_text("Open the address with the token")).to_be_visible()
    page.goto(served.url)
    expect(page.locator("#tree-now")).to_have_text("tree: step 1, group None")
    assert "correct-horse" not in page.url
    page.reload()
    expect(page.locator("#tree-now")).to_have_text("tree: step 1, group None")
