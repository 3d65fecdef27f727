"""The tour leads someone who never pruned anything to a smaller model that works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from dash_ui.help import STOPS
from onnxprune.workspace.workspace import Workspace
from tests.dash_ui.browser.conftest import Served

LONG = 90_000  # milliseconds: two jobs on a machine that has other things to do


def test_three_presses_make_a_smaller_model_that_works(
    page: Page, open_page: Callable[..., Served], demo: Path, shot: Callable[[str], None]
) -> None:
    open_page(demo, tour=True)
    for number, stop in enumerate(STOPS, 1):
        card = page.get_by_role("dialog", name=stop.title)
        expect(card).to_contain_text(f"{number} of 3", timeout=LONG)
        shot(f"tour-{number}")
        card.get_by_role("button", name=stop.does).click()
    expect(card).to_contain_text("Export, at the top right, downloads it.", timeout=LONG)
    shot("tour-end")
    card.get_by_role("button", name="Done").click()
    expect(page.locator("#tour")).to_be_hidden()
    with Workspace.open(demo) as workspace:
        original, _, tuned = workspace.steps.all()
    assert tuned.metrics["accuracy"] > 0.95
    assert tuned.metrics["parameters"] < 0.5 * original.metrics["parameters"]
