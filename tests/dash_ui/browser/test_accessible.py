"""Whatever can be used has a name that a screen reader says, and the keyboard gets to it, in every view.

Names are those that the browser computes (text, label, aria-label, title), as its accessibility tree has them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from dash_ui.app import all_views
from dash_ui.page import MODEL
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.workspace import Workspace
from tests.dash_ui.browser.conftest import Served

Open = Callable[..., Served]
LONG = 60_000  # milliseconds: all views are made one after the other
USED = (
    "button", "checkbox", "combobox", "link", "menuitem", "radio", "searchbox", "separator", "slider", "spinbutton",
    "switch", "tab", "textbox",
)  # fmt: skip
LINE = re.compile(r'^\s*- (?P<role>\w+)(?P<name> "[^"]*"| /[^/]*/)?(?P<rest>.*)$')
UNREACHED = """
    root => [...root.querySelectorAll("button, input, select, textarea, summary, a[href]")]
        .filter(found => found.checkVisibility({visibilityProperty: true}) && found.tabIndex < 0)
        .filter(found => !found.matches(":disabled, [aria-disabled=true], [role=tab], .maps-unit"))
        .filter(found => !found.closest(".ag-root-wrapper, .dash-dropdown"))
        .map(found => found.outerHTML.slice(0, 160))
"""  # of tabs and maps one is reached, arrows go on; tables have keys of their own, dropdowns a field within them


def unnamed(place: Locator) -> list[str]:
    """Lines of the accessibility tree with something to use that has no name."""
    found = [LINE.match(line) for line in place.aria_snapshot().splitlines()]
    return [m.group(0).strip() for m in found if m and m["role"] in USED and not m["name"]]


def prepared(folder: Path) -> Path:
    """A smaller step, so that there is something to compare."""
    with Workspace.open(folder) as workspace:
        workspace.measure(1)
        ACTIONS["prune"](workspace, 1, {"ratio": 0.3}, lambda *_: None, lambda: False)
    return folder


def places() -> Iterator[tuple[str, str]]:
    """(word of the address, where it shows), for each view but those of the model, which are there anyway."""
    for view in all_views():
        if view.area == MODEL:
            continue
        frame = f"#drawer-{view.name}" if view.area == "drawer" else f"#panel-{view.area}"
        yield f"{view.area}:{view.name}", frame


@pytest.mark.thorough
def test_everything_that_can_be_used_has_a_name_and_is_reached(page: Page, open_page: Open, demo: Path) -> None:
    open_page(prepared(demo), "?step=2&group=conv2")
    expect(page.locator('[data-preset="30%"]')).to_be_enabled()
    nameless = {part: unnamed(page.locator(part)) for part in (".top", "#area-model")}
    unreached = {"page": page.locator("#page").evaluate(UNREACHED)}
    for word, frame in places():
        area, _, name = word.partition(":")
        page.evaluate("([area, view]) => onnxprune.openTab(area, view)", [area, name])
        place = page.locator(frame)
        expect(place.locator(f"#slot-{name} *").first).to_be_visible(timeout=LONG)
        expect(page.locator('[data-dash-is-loading="true"]')).to_have_count(0, timeout=LONG)
        nameless[word] = unnamed(place)
        unreached[word] = place.evaluate(UNREACHED)
    assert {place: lines for place, lines in nameless.items() if lines} == {}
    assert {place: lines for place, lines in unreached.items() if lines} == {}


def test_focus_is_seen_and_motion_is_off_where_one_asks_for_that(page: Page, open_page: Open, small: Path) -> None:
    page.emulate_media(reduced_motion="reduce")
    open_page(small)
    expect(page.locator("#top-scan")).to_be_visible()
    page.keyboard.press("Tab")
    focused = "getComputedStyle(document.activeElement)"
    assert page.evaluate(f"{focused}.outlineStyle") == "solid"
    assert page.evaluate(f"parseFloat({focused}.outlineWidth)") >= 2
    page.locator("#open-jobs").click()
    expect(page.locator("#drawer-jobs")).to_be_visible()
    duration = "parseFloat(getComputedStyle(document.querySelector('#drawer-jobs')).animationDuration)"
    assert page.evaluate(duration) <= 0.001
