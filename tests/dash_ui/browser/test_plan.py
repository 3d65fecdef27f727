"""The plan in a real browser: drag, rescue, lock, undo, reload."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from dash_ui.desk import Desk
from dash_ui.rows.draft import draft_of, presets
from dash_ui.rows.units import Units, units_of
from dash_ui.views.plan import VIEW
from tests.dash_ui.browser.conftest import Served

Open = Callable[..., Served]
Shot = Callable[[str], None]


def known(folder: Path, criterion: str = "l2", scale: str = "score") -> Units:
    """The units as the server sees them."""
    desk = Desk(folder)
    with desk.workspace() as workspace:
        return units_of(desk, workspace, workspace.steps.all()[0], criterion, scale)


def drafted(folder: Path) -> tuple[int, float | None, int]:
    """What the folder's draft comes to: units that go, its threshold, its entries."""
    desk = Desk(folder)
    with desk.workspace() as workspace:
        step = workspace.steps.all()[0]
        state, _ = draft_of(desk, workspace, step)
        entries = len(workspace.drafts.entries(step.number))
    return state.units, None if state.threshold is None else state.threshold["threshold"], entries


def counted(page: Page) -> int:
    text = page.locator("#plan-counts").text_content() or ""
    found = re.match(r"([\d,]+) of", text)
    return int(found[1].replace(",", "")) if found else -1


@pytest.fixture
def plan(page: Page, open_page: Open, demo: Path) -> Page:
    """The page with this view alone."""
    page.set_viewport_size({"width": 1280, "height": 800})
    open_page(demo, views=[VIEW])
    expect(page.locator("#plan-counts")).to_contain_text("0 of 168 filters in the plan")
    expect(page.locator('[data-preset="30%"]')).to_be_enabled()
    return page


def slider_at(page: Page, part: float) -> tuple[float, float]:
    """A place on the slider in the page."""
    box = page.locator("#plan-range").bounding_box()
    assert box is not None
    return box["x"] + 8 + part * (box["width"] - 16), box["y"] + box["height"] / 2


def test_dragging_changes_all_of_it_and_ends_in_one_entry(plan: Page, demo: Path, shot: Shot) -> None:
    start, half = slider_at(plan, 0), slider_at(plan, 0.5)
    plan.mouse.move(*start)
    plan.mouse.down()
    plan.mouse.move(*half, steps=12)
    expect(plan.locator("#plan-counts")).not_to_contain_text("0 of 168 filters in the plan (0%)")
    expect(plan.locator("#top-summary")).to_contain_text("of 168 units")
    live = counted(plan)
    assert live > 20
    assert drafted(demo)[2] == 0  # nothing is written while it moves
    expect(plan.locator("#plan-left-units")).to_have_text(f"{100 * (1 - live / 168):.0f}%")
    expect(plan.locator("#plan-circles")).to_have_attribute("aria-label", re.compile(f"^{live} units"))
    expect(plan.locator("#plan-left-macs")).not_to_have_text("100%")
    plan.mouse.up()
    expect(plan.locator("#plan-said")).to_contain_text(f"{live} of 168 filters")
    expect(plan.locator("#top-undo")).to_be_enabled()
    units, threshold, entries = drafted(demo)
    assert (units, entries) == (live, 1)
    found = known(demo)
    assert int((found.x < threshold).sum()) == live  # the same rule in both languages
    shot("plan-dragged")

    plan.mouse.move(*half)
    plan.mouse.down()
    plan.mouse.move(*slider_at(plan, 0.2), steps=8)
    plan.mouse.up()
    expect(plan.locator("#plan-counts")).not_to_contain_text(f"{live} of")
    assert counted(plan) < live  # units come back
    while drafted(demo)[0] != counted(plan):  # what is not written yet is not undone
        plan.wait_for_timeout(20)
    plan.locator("#top-undo").click()
    expect(plan.locator("#plan-counts")).to_contain_text(f"{live} of 168 filters")


@pytest.mark.thorough
def test_the_line_is_dragged_in_the_plot(plan: Page, demo: Path) -> None:
    plan.locator('[data-preset="10%"]').click()
    expect(plan.locator("#plan-counts")).to_contain_text("17 of 168")
    box = plan.locator("#plan-line").bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    plan.mouse.move(*middle)
    plan.mouse.down()
    plan.mouse.move(middle[0] + 120, middle[1], steps=8)
    plan.mouse.up()
    expect(plan.locator("#plan-counts")).not_to_contain_text("17 of 168")
    now = counted(plan)
    assert now > 17
    expect(plan.locator("#plan-said")).to_contain_text(f"{now} of")
    expect(plan.locator("#top-undo")).to_have_attribute("title", re.compile("puts below"))
    assert drafted(demo)[0] == now


@pytest.mark.thorough
def test_presets_and_keys(plan: Page, demo: Path) -> None:
    expected = presets(known(demo))
    plan.locator('[data-preset="50%"]').click()
    expect(plan.locator("#plan-counts")).to_contain_text("84 of 168")
    expect(plan.locator('[data-preset="dead"]')).to_be_disabled()
    plan.locator('[data-preset="knee"]').click()
    knee = int((known(demo).x < (expected["knee"] or 0)).sum())
    expect(plan.locator("#plan-counts")).to_contain_text(f"{knee} of 168")
    plan.locator("#plan-range").focus()
    for _ in range(3):
        plan.keyboard.press("PageUp")
    expect(plan.locator("#plan-counts")).not_to_contain_text(f"{knee} of 168")
    expect(plan.locator("#plan-range")).to_have_attribute("aria-valuetext", re.compile("filters in the plan"))


def test_units_by_hand_stay_by_hand(plan: Page, demo: Path) -> None:
    plan.locator('[data-preset="30%"]').click()
    expect(plan.locator("#plan-counts")).to_contain_text("50 of 168")
    plan.locator("#plan-circles").click(position={"x": 12, "y": 12})
    expect(plan.locator("#plan-said")).to_contain_text("stays")
    expect(plan.locator("#plan-counts")).to_contain_text("49 of 168")
    units = known(demo)
    unit = int(np.argmax(units.x))
    words = f"filter {units.index[unit]} of {units.groups[units.group[unit]].name}"
    place = plan.evaluate(
        """unit => {
             const graph = document.querySelector("#plan-graph .js-plotly-plot");
             const { units } = window.dash_clientside.plan.state;
             const box = graph.getBoundingClientRect();
             const { xaxis, yaxis, _size } = graph._fullLayout;
             return [box.left + _size.l + xaxis.d2p(units.drawn[unit]), box.top + _size.t + yaxis.d2p(units.y[unit])];
           }""",
        unit,
    )
    plan.mouse.move(place[0] - 20, place[1])
    plan.mouse.move(*place, steps=3)
    expect(plan.locator("#plan-graph .hoverlayer")).to_contain_text(f"filter {units.index[unit]}")
    plan.mouse.dblclick(*place)
    expect(plan.locator("#plan-said")).to_contain_text(f"{words}: goes")
    expect(plan.locator("#plan-counts")).to_contain_text("50 of 168")
    plan.locator('[data-preset="10%"]').click()
    expect(plan.locator("#plan-counts")).to_contain_text(re.compile("1[678] of 168"))
    desk = Desk(demo)
    with desk.workspace() as workspace:
        state, _ = draft_of(desk, workspace, workspace.steps.all()[0])
    assert units.mask(state.by_hand).nonzero()[0].tolist() == [unit]
    assert units.mask(state.restored).sum() == 1
    assert units.mask(state.gone)[unit]


@pytest.mark.thorough
def test_groups_with_a_share_and_a_lock(plan: Page, demo: Path, shot: Shot) -> None:
    plan.locator('[data-preset="50%"]').click()
    expect(plan.locator("#plan-counts")).to_contain_text("84 of 168")
    plan.get_by_role("button", name="Leave conv3 alone").click()
    expect(plan.get_by_role("button", name="Leave conv3 alone")).to_have_attribute("aria-pressed", "true")
    row = plan.locator("#plan-groups tbody tr")
    expect(row.nth(2).locator(".plan-count")).to_have_text("0 / 48")
    share = plan.get_by_label("Percent of conv4 that goes")
    share.fill("25")
    share.press("Enter")
    expect(row.nth(3).locator(".plan-count")).to_have_text("16 / 64")
    plan.locator('[data-preset="30%"]').click()
    expect(row.nth(3).locator(".plan-count")).to_have_text("16 / 64")
    expect(row.nth(2).locator(".plan-count")).to_have_text("0 / 48")
    plan.get_by_role("button", name="conv2", exact=True).click()
    expect(row.nth(1)).to_have_class(re.compile("chosen"))
    shot("plan-groups")
    plan.reload()
    expect(row.nth(3).locator(".plan-count")).to_have_text("16 / 64")
    expect(plan.get_by_role("button", name="Leave conv3 alone")).to_have_attribute("aria-pressed", "true")
    plan.locator("#plan-clear").click()
    expect(plan.locator("#plan-counts")).to_contain_text("0 of 168")
    assert drafted(demo)[0] == 0
    plan.locator("#top-undo").click()
    expect(row.nth(3).locator(".plan-count")).to_have_text("16 / 64")


@pytest.mark.thorough
def test_a_draft_that_was_changed_elsewhere_is_not_overwritten(plan: Page, demo: Path) -> None:
    plan.locator('[data-preset="10%"]').click()
    expect(plan.locator("#plan-counts")).to_contain_text("17 of 168")
    expect(plan.locator("#top-undo")).to_be_enabled()
    plan.evaluate("window.dash_clientside.plan.state.draft.revision = 'of an hour ago'")
    plan.locator('[data-preset="50%"]').click()
    expect(plan.locator("#toasts")).to_contain_text("changed")
    expect(plan.locator("#plan-counts")).to_contain_text("17 of 168")
    assert drafted(demo)[2] == 1


@pytest.mark.thorough
def test_another_scale_and_another_score(plan: Page, shot: Shot) -> None:
    plan.locator("#plan-scale").click()
    plan.get_by_text("rank in the layer").click()
    expect(plan.locator("#plan-graph .xtitle")).to_have_text("l2, rank in the layer")
    plan.locator('[data-preset="50%"]').click()
    counts = plan.locator("#plan-groups .plan-count")
    expect(counts).to_have_text(["12 / 24", "16 / 32", "24 / 48", "32 / 64"])
    shot("plan-ranks")
    plan.locator("#plan-criterion").click()
    plan.get_by_text("sensitivity", exact=True).first.click()
    expect(plan.locator("#plan-empty")).to_contain_text("sensitivity of step 1 was not measured yet.")
    expect(plan.locator("#plan-counts")).to_contain_text("84 of 168")  # the draft is what it was
    expect(plan.locator("#plan-notes")).to_contain_text("threshold of the draft: l2 below 0.5")


@pytest.mark.thorough
def test_the_plan_is_saved_as_a_picture(plan: Page) -> None:
    plan.locator('[data-preset="10%"]').click()
    expect(plan.locator("#plan-said")).to_contain_text("17 of 168")
    with plan.expect_download() as download:
        plan.locator("#panel-plan .picture > summary").click()
        plan.locator("#plan-save").click()
    text = Path(download.value.path()).read_text(encoding="utf-8")
    assert download.value.suggested_filename == "plan-1.svg"
    assert text.count("<circle") == 17
