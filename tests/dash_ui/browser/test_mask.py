"""The mask in a real browser: brushes to exact weights, zoom, restore, undo, and what Apply makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from playwright.sync_api import Page, expect

from dash_ui.views.mask import VIEW
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.workspace import Workspace
from tests.dash_ui.browser.conftest import Served, Watched, until

Open = Callable[..., Served]
Shot = Callable[[str], None]
CONV = "conv2.weight"  # 32 x 24 x 3 x 3: 96 rows, 72 columns
PLACES = """([x, y]) => {
  const gd = document.querySelector("#mask-graph .js-plotly-plot");
  const { xaxis, yaxis } = gd._fullLayout;
  const box = gd.getBoundingClientRect();
  return [box.left + xaxis._offset + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)];
}"""


def place(page: Page, x: float, y: float) -> tuple[float, float]:
    """Where column ``x`` and row ``y`` are on the page."""
    found = page.evaluate(PLACES, [x, y])
    return float(found[0]), float(found[1])


def drag(page: Page, *corners: tuple[float, float]) -> None:
    """Along these places of the matrix."""
    page.mouse.move(*place(page, *corners[0]))
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*place(page, *corner), steps=4)
    page.mouse.up()


def choose(page: Page, what: str, word: str) -> None:
    page.locator(f"#mask-{what} label", has_text=word).click()


def entries(folder: Path) -> list[dict[str, object]]:
    with Workspace.open(folder) as workspace:
        return [dict(entry.edit) for entry in workspace.drafts.entries(1) if not entry.undone]


def pruned(page: Page, count: int) -> None:
    """The count of this weight, and the picture that belongs to it."""
    expect(page.locator(".mask-counts tbody tr").first.locator("td").first).to_have_text(f"{count:,}")


@pytest.fixture
def mask(page: Page, open_page: Open, demo: Path) -> Page:
    """The mask of conv2, in a large window."""
    page.set_viewport_size({"width": 1600, "height": 1600})  # so that a row of the picture is a few pixels high
    open_page(demo, "?step=1&group=conv2&tab=inspect:mask", views=[VIEW])
    pruned(page, 0)
    until(page, "document.querySelector('#mask-graph image') !== null")
    expect(page.locator("#mask-weight")).to_contain_text("conv2.weight")
    return page


def test_a_rectangle_takes_exactly_these_weights(mask: Page, demo: Path, shot: Shot) -> None:
    drag(mask, (8.8, 8.8), (11.2, 11.2))
    expect(mask.locator("#mask-said")).to_have_text(f"remove 9 weights of {CONV}.")
    pruned(mask, 9)
    drag(mask, (0, 40), (71, 43))  # over many separators
    expect(mask.locator("#mask-said")).to_have_text(f"remove 288 weights of {CONV}.")
    pruned(mask, 297)
    shot("mask-rectangle")
    mask.locator("#top-undo").click()
    pruned(mask, 9)
    with Workspace.open(demo) as workspace:
        made = ACTIONS["edit"](workspace, 1, {}, lambda *_: None, lambda: False)
        weight = workspace.model(made.number).weights[CONV].array()
    assert np.argwhere(weight == 0).tolist() == [[3, 3, y, x] for y in range(3) for x in range(3)]


def test_zoom_then_brush_then_restore(mask: Page, demo: Path, shot: Shot) -> None:
    before = mask.locator("#mask-graph image").get_attribute("href")
    choose(mask, "tool", "Zoom")
    drag(mask, (20, 20), (40, 40))
    until(mask, "Math.abs(document.querySelector('#mask-graph .js-plotly-plot').layout.xaxis.range[0] - 20) < 1")
    expect(mask.locator("#mask-graph image")).not_to_have_attribute("href", before or "")
    choose(mask, "tool", "Rectangle")
    drag(mask, (29.7, 29.7), (30.3, 30.3))
    expect(mask.locator("#mask-said")).to_have_text(f"remove 1 weight of {CONV}.")
    pruned(mask, 1)
    assert entries(demo)[-1]["remove"] == [10 * 216 + 10 * 9]
    mask.mouse.click(*place(mask, 32, 31))  # a click takes the cell
    expect(mask.locator("#mask-said")).to_have_text(f"remove 1 weight of {CONV}.")
    pruned(mask, 2)
    assert entries(demo)[-1]["remove"] == [10 * 216 + 10 * 9 + 5]
    shot("mask-zoomed")
    choose(mask, "verb", "Restore")
    drag(mask, (28, 28), (31, 31))
    expect(mask.locator("#mask-said")).to_have_text(f"restore 1 weight of {CONV}.")
    pruned(mask, 1)
    mask.locator("#mask-whole").click()
    until(mask, "document.querySelector('#mask-graph .js-plotly-plot').layout.xaxis.range[0] === -0.5")


@pytest.mark.thorough
def test_a_lasso_with_kernels(mask: Page, shot: Shot) -> None:
    choose(mask, "tool", "Lasso")
    choose(mask, "snap", "kernels")
    drag(mask, (30.4, 30.4), (34.6, 30.4), (34.6, 34.6), (30.4, 34.6), (30.4, 30.4))
    expect(mask.locator("#mask-said")).to_have_text(f"remove 36 weights of {CONV}.")
    pruned(mask, 36)
    shot("mask-lasso")


@pytest.mark.thorough
def test_units_at_the_edge_take_coupled_layers_along(mask: Page, open_page: Open, demo: Path, shot: Shot) -> None:
    x, y = place(mask, 0, 31)
    left, _ = place(mask, -0.5, 31)
    mask.mouse.click(left - 12, y)
    expect(mask.locator("#mask-said")).to_contain_text("Removing filter 10 of conv2 also removes")
    pruned(mask, 216)
    assert entries(demo)[-1] == {"group": "conv2", "remove": [10], "view": "mask"}
    mask.mouse.move(x + 30, y)
    expect(mask.locator("#mask-tip")).to_contain_text("draft, entry 1: remove 1 unit of conv2")
    shot("mask-units")
    open_page(demo, "?step=1&group=conv2&tab=inspect:mask", views=[VIEW])
    pruned(mask, 216)  # the draft outlives the server
    mask.locator("#top-undo").click()
    pruned(mask, 0)
    mask.locator("#top-redo").click()
    pruned(mask, 216)
    choose(mask, "verb", "Restore")
    choose(mask, "snap", "units")
    mask.mouse.click(*place(mask, 5, 31))
    expect(mask.locator("#mask-said")).to_contain_text("restore 1 unit of conv2")
    pruned(mask, 0)


@pytest.mark.thorough
def test_a_range_of_the_histogram(mask: Page, demo: Path, shot: Shot) -> None:
    box = mask.locator("#mask-histogram .nsewdrag").first.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    mask.mouse.move(box["x"] + 2, middle)
    mask.mouse.down()
    mask.mouse.move(box["x"] + box["width"] / 4, middle, steps=5)
    mask.mouse.up()
    expect(mask.locator("#mask-said")).to_contain_text("remove the weights of conv2.weight with |w|")
    low, high = entries(demo)[-1]["magnitude"]  # type: ignore[misc]
    with Workspace.open(demo) as workspace:
        size = np.abs(workspace.model(1).weights[CONV].array())
    pruned(mask, int(((size >= low) & (size < high)).sum()))
    shot("mask-range")


@pytest.mark.thorough
def test_a_draft_that_changed_elsewhere_is_seen_before_it_is_brushed(mask: Page, demo: Path) -> None:
    with Workspace.open(demo) as workspace:
        workspace.drafts.add(1, {"group": "conv2", "remove": [3]})
    pruned(mask, 216)  # the page hears of it by itself
    drag(mask, (8.8, 8.8), (11.2, 11.2))  # of this very unit
    expect(mask.locator("#toasts, .toast").first).to_contain_text("gone already")
    assert len(entries(demo)) == 1


@pytest.mark.thorough
def test_a_brush_beside_everything_is_told(mask: Page, demo: Path) -> None:
    choose(mask, "verb", "Restore")
    drag(mask, (9, 9), (11, 11))
    expect(mask.locator("#toasts, .toast").first).to_contain_text("none of these weights was removed")
    choose(mask, "tool", "Lasso")
    drag(mask, (0.1, 0.1), (0.9, 0.1))
    assert entries(demo) == []


@pytest.mark.thorough
def test_after_a_step_that_removed_units_one_may_branch(page: Page, open_page: Open, demo: Path, shot: Shot) -> None:
    with Workspace.open(demo) as workspace:
        workspace.drafts.add(1, {"group": "conv2", "remove": [1, 2]})
        made = ACTIONS["edit"](workspace, 1, {}, lambda *_: None, lambda: False)
    open_page(demo, f"?step={made.number}&group=conv2&tab=inspect:mask", views=[VIEW])
    expect(page.locator("#mask-note")).to_contain_text(f"#{made.number} made it smaller, 32 × 24 × 3 × 3 → 30 × 24")
    shot("mask-branch")
    page.locator("#mask-branch").click()
    expect(page.locator("#mask-weight")).to_contain_text("Conv 32 × 24 × 3 × 3")
    assert "step=1" in page.url


def spoken(page: Page, *words: str) -> None:
    """What a reader of the screen hears of the cell."""
    for word in words:
        expect(page.locator("#mask-live")).to_contain_text(word)


def test_a_brush_by_keyboard(mask: Page, demo: Path, shot: Shot) -> None:
    mask.locator("#mask-frame").focus()
    mask.keyboard.press("Control+Home")
    spoken(mask, "output 0, ky 0, input 0, kx 0", "value ", "stays")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight"):
        mask.keyboard.press(key)
    spoken(mask, "output 0, ky 1, input 0, kx 2")
    mask.keyboard.press("Enter")
    expect(mask.locator("#mask-said")).to_have_text(f"remove 1 weight of {CONV}.")
    pruned(mask, 1)
    assert entries(demo)[-1]["remove"] == [5]
    for key in ("ArrowLeft", "ArrowRight"):
        mask.keyboard.press(key)
    spoken(mask, "kx 2", "goes by hand")
    for key in ("Shift+ArrowDown", "Shift+ArrowRight"):
        mask.keyboard.press(key)
    spoken(mask, "2 × 2 cells marked.")
    shot("mask-keys")
    mask.keyboard.press("Space")
    pruned(mask, 4)
    mask.keyboard.press("Escape")
    spoken(mask, "output 0, ky 2, input 1, kx 0", "goes by hand")
    choose(mask, "verb", "Restore")
    mask.locator("#mask-frame").focus()
    mask.keyboard.press("Enter")
    pruned(mask, 3)


@pytest.mark.thorough
def test_units_and_zoom_by_keyboard(mask: Page, demo: Path) -> None:
    range_ = "document.querySelector('#mask-graph .js-plotly-plot').layout.xaxis.range"
    choose(mask, "snap", "units")
    mask.locator("#mask-frame").focus()
    mask.keyboard.press("Control+End")
    spoken(mask, "output 31, ky 2, input 23, kx 2")
    for key in ("Home", "ArrowUp"):
        mask.keyboard.press(key)
    spoken(mask, "output 30, ky 2, input 0, kx 0")  # arrows go over whole kernels
    mask.keyboard.press("Enter")
    expect(mask.locator("#mask-said")).to_contain_text("Removing filter 30 of conv2 also removes")
    assert entries(demo)[-1] == {"group": "conv2", "remove": [30], "view": "mask"}
    choose(mask, "snap", "weights")
    mask.locator("#mask-frame").focus()
    mask.keyboard.press("+")
    until(mask, f"{range_}[1] - {range_}[0] < 40")
    mask.keyboard.press("End")
    until(mask, f"{range_}[1] === 71.5")  # the picture goes along
    spoken(mask, "input 23, kx 2")
    mask.keyboard.press("PageUp")
    spoken(mask, "output 26")
    mask.keyboard.press("Shift+Space")
    expect(mask.locator("#mask-said")).to_contain_text("Removing filter 26 of conv2 also removes")
    mask.keyboard.press("0")
    until(mask, f"{range_}[0] === -0.5")
    mask.keyboard.press("Control+Space")
    expect(mask.locator("#mask-said")).to_contain_text("Removing filter 23 of conv1 also removes")
    assert entries(demo)[-1] == {"group": "conv1", "remove": [23], "view": "mask"}


@pytest.mark.thorough
def test_the_mask_follows_what_is_selected_and_the_theme(mask: Page, watched: Watched) -> None:
    drag(mask, (200, 8), (300, 11))  # begins beside the picture: nothing
    assert mask.locator("#mask-said").text_content() == ""
    before = mask.locator("#mask-graph image").get_attribute("href")
    mask.locator("#top-theme").click()
    expect(mask.locator("#mask-graph image")).not_to_have_attribute("href", before or "")
    mask.evaluate("onnxprune.select({ group: 'conv3' })")
    expect(mask.locator("#mask-weight")).to_contain_text("conv3.weight")
    expect(mask.locator(".mask-counts tbody tr").nth(1)).to_contain_text("with conv3")
    watched.allowed.append("500")
    mask.route("**/_mask", lambda route: route.fulfill(status=500))
    mask.mouse.click(*place(mask, 5, 5))
    expect(mask.locator("#toasts")).to_contain_text("The server does not answer.")
    mask.unroute("**/_mask")
    mask.mouse.click(*place(mask, 5, 5))
    expect(mask.locator("#mask-said")).to_have_text("remove 1 weight of conv3.weight.")


@pytest.mark.thorough
def test_a_model_without_weights_says_so(page: Page, open_page: Open, tmp_path: Path, shot: Shot) -> None:
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "bare", [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "bare.onnx")
    open_page(tmp_path, "?step=1&tab=inspect:mask", views=[VIEW])
    expect(page.locator("#mask-empty")).to_contain_text("This model has no weights to show.")
    expect(page.locator("#mask-frame")).to_be_hidden()
    shot("mask-none")
