"""What goes wrong in the folder or on the way: the page says so, and what works without goes on."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from playwright.sync_api import Page, expect

from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import mlp, model_of, one_layer, save, weight
from tests.dash_ui.browser.acts import drawer, end_work, folder_of, ready, selected
from tests.dash_ui.browser.conftest import Served, until

Open = Callable[..., Served]
Shot = Callable[[str], None]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    found = tmp_path / "work"
    found.mkdir()
    return found


def narrow() -> onnx.ModelProto:
    """A layer of one unit between two others."""
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="dense1"),
        helper.make_node("Relu", ["a"], ["b"], name="relu1"),
        helper.make_node("MatMul", ["b", "w2"], ["c"], name="dense2"),
        helper.make_node("Relu", ["c"], ["d"], name="relu2"),
        helper.make_node("MatMul", ["d", "w3"], ["y"], name="dense3"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])
    weights = [weight("w1", 6, 8), weight("w2", 8, 1), weight("w3", 1, 4)]
    return model_of(helper.make_graph(nodes, "narrow", [x], [y], weights))


@pytest.mark.thorough
def test_a_broken_model_beside_a_good_one(page: Page, open_page: Open, small: Path) -> None:
    (small / "broken.onnx").write_bytes(b"this is no model")
    open_page(small)
    ready(page)
    page.locator("#top-scan").click()
    expect(page.locator(".toast .hint")).to_contain_text("broken.onnx cannot be used")
    page.locator("#top-model").click()
    expect(page.get_by_role("option", name="cnn")).to_be_visible()
    expect(page.get_by_role("option", name="broken")).to_have_count(0)


def test_without_data(page: Page, open_page: Open, tmp_path: Path, shot: Shot) -> None:
    folder = folder_of(tmp_path, "residual", data=False)
    open_page(folder)
    ready(page)
    expect(page.locator("#confusion-state")).to_contain_text("data")
    for name in ("#top-fine-tune", "#top-auto"):
        expect(page.locator(name)).to_be_disabled()
    page.locator('[data-preset="30%"]').click()
    expect(page.locator("#top-summary")).to_contain_text("MACs est")
    expect(drawer(page, "guidance")).to_contain_text("Put data that fit this model into data/")
    shot("no-data")
    page.keyboard.press("Escape")
    page.locator("#top-apply").click()
    selected(page, 2, "edit")
    end_work(folder)


@pytest.mark.thorough
def test_nothing_can_be_removed(page: Page, open_page: Open, place: Path, shot: Shot) -> None:
    save(one_layer(), place / "line.onnx")
    open_page(place)
    expect(page.locator("#plan-empty")).to_contain_text("Nothing can be removed from step 1.")
    expect(page.locator("#architecture-note")).to_have_text("Nothing can be removed from this model.")
    expect(page.locator("#top-apply")).to_be_disabled()
    for preset in page.locator("#plan-tools [data-preset]").all():
        expect(preset).to_be_disabled()
    settings = drawer(page, "settings")
    expect(page.locator("#settings-effect")).not_to_be_empty()
    page.locator("#tree-estimate").evaluate("button => button.click()")
    expect(page.locator(".toast-info")).to_contain_text("There is nothing to estimate here.")
    expect(settings).to_be_visible()
    expect(drawer(page, "guidance")).to_contain_text("Nothing can be removed")
    shot("nothing-prunable")
    page.keyboard.press("Escape")
    page.keyboard.press("]")
    expect(page.locator("#tree-facts")).to_contain_text("#1 original")


@pytest.mark.thorough
def test_a_layer_of_one_unit_keeps_it(page: Page, open_page: Open, place: Path) -> None:
    save(narrow(), place / "narrow.onnx")
    open_page(place)
    ready(page)
    rows = page.locator("#plan-groups tbody tr")
    expect(rows).to_have_count(1)  # a layer cannot lose its only unit, so that there is no group of one
    page.locator('[data-preset="50%"]').click()
    expect(page.locator("#top-undo")).to_be_enabled()
    expect(rows.nth(0).locator(".plan-count")).not_to_have_text("0 / 8")
    page.locator("#plan-range").focus()
    page.keyboard.press("End")
    expect(rows.nth(0).locator(".plan-count")).to_have_text("7 / 8")
    page.locator("#top-apply").click()
    selected(page, 2, "edit")
    expect(page.locator("#plan-empty")).to_contain_text("Nothing can be removed from step 2.")
    end_work(place)


@pytest.mark.thorough
def test_a_file_that_is_gone(page: Page, open_page: Open, small: Path, shot: Shot) -> None:
    open_page(small)
    ready(page)
    with Workspace.open(small) as workspace:
        blob = workspace.blobs.check(workspace.steps.get(1).model)
    (small / "cnn.onnx").unlink()
    page.locator("#top-scan").click()
    expect(page.locator(".toast-info")).to_contain_text("1 gone: cnn.onnx")
    expect(page.locator("#plan-counts")).to_contain_text("0 of 24")  # the workspace has a copy of its own
    blob.chmod(0o600)
    blob.unlink()
    page.locator('[data-preset="50%"]').click()
    expect(page.locator("#top-apply")).to_be_enabled()
    page.locator("#top-apply").click()
    failed = drawer(page, "jobs").locator(".job-failed")
    expect(failed).to_contain_text("cannot be read", timeout=60_000)
    shot("gone-file")


@pytest.mark.thorough
def test_a_thousand_classes(page: Page, open_page: Open, place: Path, shot: Shot) -> None:
    save(mlp(outputs=1000), place / "wide.onnx")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((4000, 6)).astype(np.float32), rng.integers(0, 1000, 4000)
    (place / "data").mkdir()
    np.savez(place / "data" / "wide.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with Workspace.open(place) as workspace:
        workspace.measure(1, threads=1)
    open_page(place)
    ready(page)
    expect(page.locator("#confusion-body")).to_be_visible()
    until(page, "document.querySelectorAll('#confusion-pairs .ag-row').length > 5")
    until(page, "((document.querySelector('#confusion-matrix .js-plotly-plot') || {}).data || []).length > 0")
    shot("thousand-classes")
    page.get_by_role("tab", name="Classes").click()
    until(page, "document.querySelectorAll('#slot-classes .ag-row').length > 5")


def test_cancelling_twice(page: Page, open_page: Open, small: Path) -> None:
    with Workspace.open(small) as workspace:
        Jobs(workspace.database).add("prune", 1, {"ratio": 0.5})
    open_page(small)
    ready(page)
    cancel = drawer(page, "jobs").get_by_role("button", name="Cancel")
    cancel.evaluate("button => { button.click(); button.click() }")
    expect(page.locator(".job-cancelled")).to_be_visible()
    expect(page.locator(".toast").first).to_contain_text(re.compile("Job 1 ends|job 1 is cancelled already"))
    expect(cancel).to_have_count(0)


@pytest.mark.thorough
def test_a_folder_that_may_only_be_read(
    page: Page, open_page: Open, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Workspace.open(small) as workspace:
        workspace.drafts.add(1, {"group": "conv1", "remove": [1]})
    monkeypatch.setattr("onnxprune.workspace.workspace._writable", lambda *_: False)
    open_page(small)
    expect(page.locator("#plan-counts")).to_contain_text("1 of 24")
    for name in ("#plan-range", '[data-preset="30%"]', "#top-apply", "#top-fine-tune", "#top-auto", "#top-undo"):
        expect(page.locator(name)).to_be_disabled()
    drawer(page, "settings")
    page.locator("#settings-prune").click()
    expect(page.locator(".toast-error")).to_contain_text("was opened for viewing")
