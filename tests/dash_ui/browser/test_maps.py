"""Feature maps in a real browser: see them, choose instances, mark units, and what that does to the output."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

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
def pruned(demo: Path) -> Iterator[Path]:
    prune(demo)
    yield demo


def test_before_and_after_marked_and_undone(page: Page, open_page: Open, pruned: Path, shot: Shot) -> None:
    open_page(pruned, "?step=2&group=conv1&tab=inspect:maps", views=[VIEW])
    units = page.locator("#maps-units .maps-unit")
    expect(units).to_have_count(24)
    gone = page.locator("#maps-units .maps-unit.gone")
    expect(gone).to_have_count(6)
    expect(gone.first).to_have_attribute("aria-disabled", "true")
    expect(page.locator("#maps-words")).to_contain_text("left #1, right #2, 6 of 24 not in it any longer")
    expect(page.locator(".maps-table thead")).to_have_text(re.compile("before.*now.*draft"))
    expect(page.locator("#maps-words")).to_contain_text("click a filter to take it into the plan")
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


def test_shots(page: Page, open_page: Open, tmp_path: Path, shot: Shot, demo: Path) -> None:
    for name, group in (("residual", None), ("lstm", None), ("vit", "heads"), ("mlp", None)):
        place = tmp_path / name
        place.mkdir()
        shutil.copytree(demo / "data", place / "data")
        shutil.copy(NETS / f"{name}.onnx", place)
        prune(place)
        groups = ""
        if group:
            with Workspace.open(place) as workspace:
                view = Desk(place).analysis(workspace, workspace.steps.get(2))[1]
                groups = "&group=" + next(g.name for g in view.groups if g.kind == group)
        open_page(place, "?step=2&tab=inspect:maps" + groups, views=[VIEW])
        expect(page.locator("#maps-units .maps-unit").first).to_be_visible()
        shot(f"maps-{name}")
