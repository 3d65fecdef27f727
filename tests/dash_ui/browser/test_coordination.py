"""What is done in one view is seen in all of them (C32): a step, a group, a threshold, a unit taken by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.workspace import Workspace
from tests.dash_ui.browser.acts import counted, end_work, ready
from tests.dash_ui.browser.conftest import Served, until

Open = Callable[..., Served]
Shot = Callable[[str], None]
RED = "((document.querySelector('[data-live=gone]') || document.body).getAttribute('d') || '')"
MATRIX = """JSON.stringify((((document.querySelector('#confusion-matrix .js-plotly-plot') || {}).data || [])[0]
  || {}).text || '')"""


@pytest.fixture
def pruned(demo: Path) -> Iterator[Path]:
    """The bundled example, and half of it as step 2."""
    with Workspace.open(demo) as workspace:
        workspace.measure(1)
        ACTIONS["prune"](workspace, 1, {"ratio": 0.5}, lambda *_: None, lambda: False)
    yield demo
    end_work(demo)


def test_all_views_follow(page: Page, open_page: Open, pruned: Path, shot: Shot) -> None:
    page.set_viewport_size({"width": 1920, "height": 1400})
    open_page(pruned, "?step=1&tab=inspect:mask")
    ready(page)
    expect(page.locator("#plan-counts")).to_contain_text("of 168 filters")
    until(page, f"{MATRIX}.length > 20")
    before = page.evaluate(MATRIX)

    page.locator("#tree-keys").focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#tree-facts")).to_contain_text("#2 prune")
    expect(page.locator("#plan-counts")).to_contain_text("of 84 filters")
    expect(page.locator("#architecture-note")).to_be_visible()
    expect(page.locator("#architecture-legend")).to_contain_text("removed from the original")
    until(page, f"{MATRIX} !== {json.dumps(before)}")

    page.locator("#architecture-groups").get_by_role("button", name="conv2", exact=True).click()
    expect(page.locator("#mask-weight")).to_contain_text("conv2")
    expect(page.locator("#architecture-note")).to_contain_text("conv2")
    expect(page.locator("#plan-groups tr.chosen")).to_contain_text("conv2")

    page.locator('[data-preset="30%"]').click()
    gone = counted(page)
    assert gone > 0
    until(page, f"{RED}.length > 0")
    expect(page.locator("#top-summary")).to_contain_text(f"{gone} of 84 units")
    expect(page.locator("#plan-circles")).to_have_attribute("aria-label", re.compile(f"^{gone} units"))
    until(page, "document.querySelector('#mask-counts tbody tr:last-child td').textContent !== '0'")
    shot("coordination")
