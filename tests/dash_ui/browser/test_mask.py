"""The mask in a real browser: brushes to exact weights, zoom, restore, undo, and what Apply makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from dash_ui.views.mask import VIEW
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.workspace import Workspace
from tests.dash_ui.browser.conftest import Served, until

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
