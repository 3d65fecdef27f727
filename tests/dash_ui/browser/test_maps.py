"""Feature maps in a real browser: see them, choose instances, mark units, and what that does to the output."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from dash_ui.desk import Desk
from dash_ui.rows.draft import draft_of
from dash_ui.views.maps import VIEW
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.workspace import Workspace
from tests.dash_ui.browser.conftest import Served

Open = Callable[..., Served]
Shot = Callable[[str], None]
NETS = Path(__file__).parents[3] / "examples" / "nets"


def prune(folder: Path, ratio: float = 0.25) -> None:
    with Workspace.open(folder) as workspace:
        workspace.measure(1)
        options = {"ratio": ratio, "criterion": "l2", "verify": False}
        ACTIONS["prune"](workspace, 1, options, lambda *_: None, lambda: False)


def drafted(folder: Path, step: int, group: str) -> list[int]:
    desk = Desk(folder)
    with desk.workspace() as workspace:
        state, _ = draft_of(desk, workspace, workspace.steps.get(step))
    return [int(unit) for unit in state.gone[group].nonzero()[0]]


def unit(page: Page, number: int) -> Locator:
    """A unit by its number in the step that is shown."""
    return page.get_by_role("button", name=re.compile(rf"^filter {number},"))


@pytest.fixture
def pruned(demo: Path) -> Path:
    prune(demo)
    return demo


def test_before_and_after_marked_and_undone(page: Page, open_page: Open, pruned: Path, shot: Shot) -> None:
    open_page(pruned, "?step=2&group=conv1&tab=inspect:maps", views=[VIEW])
    units = page.locator("#maps-units .maps-unit")
    expect(units).to_have_count(24)
    gone = page.locator("#maps-units .maps-unit.gone")
    expect(gone).to_have_count(6)
    expect(gone.first).to_have_attribute("aria-disabled", "true")
    expect(page.locator("#maps-words")).to_contain_text("left #1, right #2, 6 of 24 gone")
    expect(page.locator(".maps-table thead")).to_have_text(re.compile("before.*now.*draft"))
    expect(page.locator("#maps-words")).to_contain_text("click a filter to plan its removal")
    unit(page, 3).click()
    expect(unit(page, 3)).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".maps-effect")).to_contain_text("The draft moves it by")
    assert drafted(pruned, 2, "conv1") == [3]
    unit(page, 5).click()
    unit(page, 7).click()
    unit(page, 3).click()
    expect(page.locator(".maps-unit.pending")).to_have_count(0)
    expect(page.locator('.maps-unit[aria-pressed="true"]')).to_have_count(2)
    assert drafted(pruned, 2, "conv1") == [5, 7]
    shot("maps")
    page.locator("#top-undo").click()
    expect(page.locator('.maps-unit[aria-pressed="true"]')).not_to_have_count(2)


@pytest.mark.thorough
def test_choosing_instances(page: Page, open_page: Open, pruned: Path, shot: Shot) -> None:
    open_page(pruned, "?step=2&group=conv4&tab=inspect:maps", views=[VIEW])
    row = page.locator("#maps-row")
    expect(page.locator("#maps-units .maps-unit")).to_have_count(64)
    expect(page.locator(".maps-facts")).to_contain_text("label2")
    page.locator("#maps-next").click()
    expect(row).to_have_value("1")
    page.locator("#maps-previous").click()
    page.locator("#maps-previous").click()
    expect(row).to_have_value("449")  # past the first one comes the last
    page.locator("#maps-wrong").click()
    expect(page.locator(".maps-badly")).to_have_count(1)
    expect(page.locator(".maps-facts")).to_contain_text("✗")
    row.fill("12")
    row.press("Enter")
    expect(page.locator("#maps-instance img")).to_have_attribute("alt", "Instance 12")
    page.locator("#maps-class").click()
    page.get_by_role("option", name="class 7").click()
    expect(page.locator(".maps-facts")).to_contain_text("label7")
    page.locator("#maps-random").click()
    expect(page.locator(".maps-facts")).to_contain_text("label7")
    page.get_by_text("looks at", exact=True).click()
    expect(page.locator("#maps-words")).to_contain_text("guided back-propagation")
    shot("maps-sees")
    page.get_by_text("mean", exact=True).click()
    expect(page.locator("#maps-instance")).to_contain_text("of 450 instances")
    expect(page.locator("#maps-effect")).to_contain_text("Right: before")
    expect(row).to_be_hidden()
    shot("maps-mean")


@pytest.mark.thorough
def test_sorting_and_keyboard(page: Page, open_page: Open, pruned: Path) -> None:
    open_page(pruned, "?step=2&group=conv1&tab=inspect:maps", views=[VIEW])
    units = page.locator("#maps-units .maps-unit")
    expect(units).to_have_count(24)
    page.get_by_text("change", exact=True).click()
    expect(units.first).to_have_class(re.compile("gone"))
    expect(units.nth(6)).not_to_have_class(re.compile("gone"))
    page.get_by_text("score", exact=True).click()
    expect(units.first).not_to_have_class(re.compile("gone"))
    titles = [units.nth(k).get_attribute("title") or "" for k in range(18)]
    scores = [float(re.search(r"l2 ([0-9.]+)", title)[1]) for title in titles]  # type: ignore[index]
    assert scores == sorted(scores)
    units.first.focus()
    page.keyboard.press("ArrowRight")
    expect(units.nth(1)).to_be_focused()
    page.keyboard.press("End")
    expect(units.last).to_be_focused()
    page.keyboard.press("Enter")  # one that is gone
    expect(page.locator(".toast")).to_contain_text("is not in #2 any longer")
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    expect(units.first).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".maps-unit.pending")).to_have_count(0)
    assert len(drafted(pruned, 2, "conv1")) == 1


@pytest.mark.thorough
def test_an_instance_that_the_model_cannot_take(page: Page, open_page: Open, pruned: Path, shot: Shot) -> None:
    images = np.random.default_rng(0).random((4, 1, 8, 8), np.float32)
    images[1] = np.nan
    np.savez(pruned / "data" / "holes.npz", x=images, y=np.arange(4))
    Workspace.open(pruned).close()
    open_page(pruned, "?step=2&group=conv1&tab=inspect:maps&data=data/holes.npz", views=[VIEW])
    expect(page.locator("#maps-of")).to_have_text("of 4")
    expect(page.locator("#maps-units .maps-unit")).to_have_count(24)
    expect(page.locator("#maps-wrong")).to_be_disabled()  # it was measured on other data
    page.locator("#maps-next").click()
    expect(page.locator("#maps-state .problem")).to_contain_text("NaN")
    expect(page.locator("#maps-units .maps-unit")).to_have_count(0)
    shot("maps-problem")
    page.locator("#maps-next").click()
    expect(page.locator("#maps-state .problem")).to_have_count(0)
    expect(page.locator("#maps-units .maps-unit")).to_have_count(24)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "kind", "form"), [("lstm", "cells", "lines"), ("vit", "heads", "pictures"), ("mlp", "neurons", "bars")]
)
def test_other_kinds(
    page: Page, open_page: Open, tmp_path: Path, shot: Shot, demo: Path, name: str, kind: str, form: str
) -> None:
    place = tmp_path / name
    place.mkdir()
    shutil.copytree(demo / "data", place / "data")
    shutil.copy(NETS / f"{name}.onnx", place)
    prune(place)
    with Workspace.open(place) as workspace:
        _, coupling = Desk(place).analysis(workspace, workspace.steps.get(2))
    group = next(found for found in coupling.groups if found.kind == kind)
    open_page(place, f"?step=2&group={group.name}&tab=inspect:maps", views=[VIEW])
    expect(page.locator("#maps-units")).to_have_attribute("data-form", form)
    left = page.locator("#maps-units .maps-unit:not(.gone)")
    expect(left).to_have_count(group.units)
    expect(page.locator("#maps-words")).to_contain_text(group.name)
    left.nth(1).click()
    expect(page.locator("#maps-effect")).to_contain_text("The draft moves it by")
    assert drafted(place, 2, group.name) == [1]
    shot(f"maps-{name}")
