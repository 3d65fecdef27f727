"""The drawer of the settings: what is typed is checked at once, its effect is told, and it is what is done."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.workspace import Workspace
from tests.dash_ui.browser.acts import drawer, end_work, field, selected
from tests.dash_ui.browser.conftest import Served, until

Open = Callable[..., Served]
Shot = Callable[[str], None]


@pytest.mark.thorough
def test_groups_in_a_table(page: Page, open_page: Open, demo: Path, shot: Shot) -> None:
    open_page(demo)
    drawer(page, "settings")
    effect, button = page.locator("#settings-effect"), page.locator("#settings-prune")
    expect(effect).to_contain_text("84 of 168 units go")
    page.get_by_text("Group by group").click()
    rows = page.locator("#settings-groups .ag-center-cols-container .ag-row")
    expect(rows).to_have_count(4)
    rows.nth(0).locator('[col-id="ratio"]').click()
    page.keyboard.type("25%")
    page.keyboard.press("Enter")
    expect(effect).to_contain_text("78 of 168 units go")
    for place in (2, 3):
        page.locator("#settings-groups .ag-row .ag-selection-checkbox").nth(place).click()
    page.locator("#settings-many").fill("75%")
    page.locator("#settings-set").click()
    expect(effect).to_contain_text("106 of 168 units go")
    page.locator("#settings-lock").click()
    expect(effect).to_contain_text("22 of 168 units go")
    shot("settings-groups")
    page.locator("#settings-clear").click()
    expect(effect).to_contain_text("78 of 168 units go")
    page.locator("#settings-many").fill("most")
    page.locator("#settings-set").click()
    expect(page.locator(".field-problem", has_text="most is not a share")).to_be_visible()
    expect(button).to_be_disabled()
    page.locator("#settings-clear").click()
    expect(button).to_be_enabled()
    button.click()
    expect(page.locator("#toasts")).to_contain_text("Prune step 1: job 1 is queued.")
    page.keyboard.press("Escape")
    selected(page, 2, "prune")
    expect(page.locator("#tree-facts")).to_contain_text("90 of 168")
    with Workspace.open(demo, scan=False) as workspace:
        assert '"conv1":0.25' in " ".join(workspace.steps.get(2).command)
    end_work(demo)


def test_what_is_typed_is_checked_and_kept(page: Page, open_page: Open, small: Path) -> None:
    open_page(small)
    drawer(page, "settings")
    effect, button = page.locator("#settings-effect"), page.locator("#settings-prune")
    expect(effect).to_contain_text("12 of 24 units go")
    ratio = field(page, "prune", "Remove")
    ratio.fill("half")
    expect(page.locator(".field-problem", has_text="half is not a share")).to_be_visible()
    expect(button).to_be_disabled()
    ratio.fill("1/4")
    expect(button).to_be_enabled()
    expect(effect).to_contain_text("6 of 24 units go")
    section = page.locator(".settings-section", has=page.locator("#settings-head-prune"))
    section.get_by_text("More", exact=True).click()
    field(page, "prune", "Keep parameters").fill("50%")
    expect(effect).to_contain_text("of the parameters")
    field(page, "prune", "Keep parameters").fill("")
    section.locator(".dash-dropdown", has_text="l2").first.click()
    page.get_by_role("option", name="l1", exact=True).click()
    expect(page.locator("#settings-copy-prune")).to_be_visible()
    until(page, "JSON.parse(localStorage.getItem('options')).prune.criterion === 'l1'")
    copied = page.evaluate("JSON.parse(localStorage.getItem('options')).prune")
    assert (copied["criterion"], copied["ratio"]) == ("l1", 0.25)
    field(page, "fine-tune", "Learning rate").fill("fast")
    expect(page.locator("#settings-fine-tune")).to_be_disabled()
    field(page, "fine-tune", "Learning rate").fill("0.01")
    expect(page.locator("#settings-fine-tune")).to_be_enabled()
    page.reload()
    expect(page.locator("#drawer-settings")).to_be_visible()
    expect(field(page, "prune", "Remove")).to_have_value("1/4")
    expect(field(page, "fine-tune", "Learning rate")).to_have_value("0.01")
    expect(effect).to_contain_text("6 of 24 units go")


@pytest.mark.thorough
def test_every_control_is_reached_by_keyboard(page: Page, open_page: Open, small: Path) -> None:
    open_page(small)
    for name in ("settings", "jobs", "guidance", "export"):
        drawer(page, name)
        expect(page.locator(f"#drawer-{name}")).to_be_focused()
        page.keyboard.press("Tab")
        inside = f"document.getElementById('drawer-{name}').contains(document.activeElement)"
        assert page.evaluate(inside)
        unnamed = page.evaluate(
            """(name) => [...document.querySelectorAll(`#drawer-${name} button, #drawer-${name} input`)]
                .filter((e) => e.offsetParent && e.tabIndex >= 0 && !(e.textContent.trim() || e.title
                    || e.getAttribute("aria-label") || e.closest("label") || e.getAttribute("aria-labelledby")
                    || e.id && document.querySelector(`label[for="${CSS.escape(e.id)}"]`) || e.type === "file"))
                .map((e) => e.outerHTML.slice(0, 200))""",
            name,
        )
        assert unnamed == []
        page.keyboard.press("Escape")
        expect(page.locator(f"#open-{name}")).to_be_focused()


@pytest.mark.thorough
def test_a_step_is_repaired_and_its_layers_are_timed(
    page: Page, open_page: Open, demo: Path, shot: Shot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONNXPRUNE_CACHE", str(tmp_path / "cache"))
    with Workspace.open(demo) as workspace:
        ACTIONS["prune"](workspace, 1, {"ratio": 0.5}, lambda *_: None, lambda: False)
    open_page(demo, "?step=2")
    drawer(page, "settings")
    page.get_by_role("button", name="Repair step 2").click()
    expect(page.locator("#toasts")).to_contain_text("Repair step 2: job 1 is queued.")
    page.keyboard.press("Escape")
    selected(page, 3, "recover")
    page.locator("#architecture-metric").click()
    page.get_by_role("option", name="latency").click()
    legend = page.locator("#architecture-legend")
    expect(legend).to_contain_text("No layer was timed on this machine yet.")
    legend.get_by_role("button", name="Measure").click()
    expect(legend).to_contain_text("milliseconds of the layer, each timed alone")
    expect(legend).to_contain_text(re.compile(r"[\d.]+ ms"))
    shot("architecture-latency")
    end_work(demo)
