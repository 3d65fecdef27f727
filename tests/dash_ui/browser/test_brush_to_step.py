"""What is brushed becomes a step with its proof: by the top bar, over a restart, on every kind of net."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from playwright.sync_api import Page, expect

from dash_ui.desk import Desk
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import model_of, save
from tests.dash_ui.browser.acts import JOB, NETS, done, end_work, folder_of, selected
from tests.dash_ui.browser.conftest import Served
from tests.dash_ui.browser.test_mask import CONV, choose, drag, entries, place, pruned

Open = Callable[..., Served]
Shot = Callable[[str], None]
LARGE = {"width": 1600, "height": 1600}


@pytest.fixture
def folder(demo: Path) -> Iterator[Path]:
    """The bundled example; what is still worked at in the end is ended with the test."""
    yield demo
    end_work(demo)


def brushed(page: Page) -> None:
    """Nine weights by a rectangle, and filter 10 by its header."""
    expect(page.locator("#mask-weight")).to_contain_text(CONV)
    drag(page, (8.8, 8.8), (11.2, 11.2))
    pruned(page, 9)
    x, y = place(page, -0.5, 31)
    page.mouse.click(x - 12, y)
    pruned(page, 225)


def apply(page: Page, number: int, folder: Path) -> dict[str, object]:
    """By the button of the top bar; the report of the step that it makes."""
    expect(page.locator("#top-apply")).to_be_enabled()
    page.locator("#top-apply").click()
    done(page, f"It made step {number}.")
    selected(page, number, "edit")
    with Workspace.open(folder) as workspace:
        return dict(json.loads(workspace.document(number, "report") or b"{}"))


def test_weights_and_a_unit_become_one_step_with_its_proof(
    page: Page, open_page: Open, folder: Path, shot: Shot
) -> None:
    page.set_viewport_size(LARGE)
    open_page(folder, "?step=1&group=conv2&tab=inspect:mask")
    brushed(page)
    expect(page.locator("#plan-counts")).to_contain_text("1 of 168")  # the plan beside it, and the top bar
    expect(page.locator("#top-summary")).to_contain_text("1 of 168 units, 9 single weights")
    expect(page.locator("#plan-notes")).to_contain_text("9 single weights become zero")
    shot("brush-drafted")
    report = apply(page, 2, folder)
    expect(page.locator("#tree-facts")).to_contain_text("proven: masked and removed agree", timeout=JOB)
    expect(page.locator("#tree-facts")).to_contain_text("9 single weights are zero as planned")
    expect(page.locator("#plan-counts")).to_contain_text("0 of 167")
    shot("brush-applied")
    assert report["zeroed"] == {"named": 9, "left": 9, "same": report["zeroed"]["same"]}  # type: ignore[index]
    with Workspace.open(folder) as workspace:
        before, after = (workspace.model(number).weights[CONV].array() for number in (1, 2))
        assert workspace.drafts.entries(1) == []
    expected = before.copy()
    expected[3, 3] = 0
    assert np.array_equal(after, np.delete(expected, 10, 0))


@pytest.mark.thorough
def test_a_draft_over_a_restart(page: Page, open_page: Open, folder: Path) -> None:
    page.set_viewport_size(LARGE)
    served = open_page(folder, "?step=1&group=conv2&tab=inspect:mask")
    brushed(page)
    before = entries(folder)
    page.goto("about:blank")
    served.server.close()
    open_page(folder, "?step=1&group=conv2&tab=inspect:mask")
    pruned(page, 225)
    assert entries(folder) == before
    page.locator("#top-undo").click()
    pruned(page, 9)
    expect(page.locator("#plan-counts")).to_contain_text("0 of 168")
    expect(page.locator("#top-summary")).to_contain_text("9 single weights to zero")
    page.locator("#top-undo").click()
    pruned(page, 0)
    expect(page.locator("#top-apply")).to_be_disabled()
    page.locator("#top-redo").click()
    page.locator("#top-redo").click()
    pruned(page, 225)
    assert entries(folder) == before


@pytest.mark.thorough
def test_a_feature_map_and_a_brush_are_one_draft(page: Page, open_page: Open, folder: Path, shot: Shot) -> None:
    page.set_viewport_size(LARGE)
    open_page(folder, "?step=1&group=conv1&tab=inspect:maps")
    units = page.locator("#maps-units .maps-unit")
    expect(units).to_have_count(24)
    units.nth(3).click()
    expect(units.nth(3)).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#plan-counts")).to_contain_text("1 of 168")
    page.locator('.tab[data-area="inspect"][data-view="mask"]').click()
    expect(page.locator("#mask-weight")).to_contain_text("conv1.weight")
    pruned(page, 9)  # the filter of the map, in the mask
    page.locator('.tab[data-area="inspect"][data-view="maps"]').click()
    units.nth(5).click()
    expect(page.locator("#plan-counts")).to_contain_text("2 of 168")
    assert [(edit["group"], edit["remove"]) for edit in entries(folder)] == [("conv1", [3]), ("conv1", [5])]
    report = apply(page, 2, folder)
    assert report["proof"]["ok"]  # type: ignore[index]
    expect(units.first).to_be_visible()
    expect(page.locator("#maps-words")).to_contain_text("2 of 24 gone")
    shot("brush-maps-applied")


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["lstm", "vit", "tabular_mlp"])
def test_a_brush_on_other_nets(page: Page, open_page: Open, tmp_path: Path, shot: Shot, name: str) -> None:
    folder = folder_of(tmp_path, name, data=name != "tabular_mlp")
    if name == "tabular_mlp":
        shutil.copy(NETS / "breast_cancer.npz", folder / "data")
    try:
        with Workspace.open(folder) as workspace:
            workspace.measure(1)
            group = Desk(folder).analysis(workspace, workspace.steps.get(1))[1].groups[0].name
        page.set_viewport_size(LARGE)
        open_page(folder, f"?step=1&group={group}&tab=inspect:mask")
        expect(page.locator("#mask-low")).not_to_have_text("", timeout=JOB)
        pruned(page, 0)
        choose(page, "tool", "Rectangle")
        drag(page, (2.8, 2.8), (5.2, 7.2))
        pruned(page, 15)
        (edit,) = entries(folder)
        shot(f"brush-{name}")
        report = apply(page, 2, folder)
    finally:
        end_work(folder)
    assert report["zeroed"]["left"] == 15  # type: ignore[index]
    weight = str(edit["weight"])
    with Workspace.open(folder) as workspace:
        before, after = (workspace.model(number).weights[weight].array().reshape(-1) for number in (1, 2))
    gone = np.zeros(before.size, np.bool_)
    gone[edit["remove"]] = True  # type: ignore[index]
    for start, stop in edit.get("ranges") or ():  # type: ignore[attr-defined]
        gone[start:stop] = True
    assert gone.sum() == 15
    assert np.array_equal(after, np.where(gone, 0, before))


@pytest.mark.thorough
def test_a_model_without_weights(page: Page, open_page: Open, tmp_path: Path, shot: Shot) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy")
    proto: onnx.ModelProto = model_of(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y], []))
    save(proto, folder / "relu.onnx")
    open_page(folder, "?step=1&tab=inspect:mask")
    expect(page.get_by_role("tabpanel", name="Mask")).to_contain_text("This model has no weights to show.")
    shot("brush-no-weights")
    page.locator('.tab[data-area="inspect"][data-view="maps"]').click()
    expect(page.locator("#maps-state")).to_contain_text("There are no data for this model")
    expect(page.locator("#top-apply")).to_be_disabled()
