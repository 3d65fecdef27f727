"""Text stands out from what is behind it, in both themes; the keyboard gets everywhere, and one sees where it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from dash_ui.app import all_views
from dash_ui.page import MODEL
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.workspace import Workspace
from tests.dash_ui.browser.acts import ready
from tests.dash_ui.browser.conftest import Served
from tests.dash_ui.browser.contrast import failing, ratio, texts

Open = Callable[..., Served]
LONG = 60_000  # milliseconds: views are made one after the other
ROOMY = {"width": 1700, "height": 1400}  # so that little is scrolled away
ROUND = 3  # places in a row where the focus was before: it went all the way round
LEAST = 150  # texts on a page that is there

SAMPLE = """
    <style>body { margin: 0; background: #fff; font: 14px sans-serif } div { padding: 8px }</style>
    <div style="color: #767676">just enough</div>
    <div style="color: #777777">not quite</div>
    <div style="color: #777777; font-size: 24px">large enough</div>
    <div style="color: rgb(0 0 0 / 50%)">half of black</div>
    <div style="color: #000; opacity: 0.3">faded</div>
    <div style="background: #5aa9f5; color: #fff">white on blue</div>
    <div style="background: linear-gradient(#000, #000); color: #333">on a picture</div>
    <button disabled style="color: #ccc">not to be used</button>
    <div style="color: #eee; visibility: hidden">not to be seen</div>
    <input placeholder="to be filled in" style="color: #ddd" value="filled in">
    <svg width="300" height="60" style="display: block"><rect width="300" height="60" fill="#009e73"></rect>
        <text x="10" y="20" fill="#fff">drawn</text><text x="10" y="45" fill="#000">drawn well</text></svg>
"""

KEYS = """
    <style>.dark { outline: none; border: 1px solid }</style>
    <button>fine</button><button class="dark">dark</button><input><button disabled>off</button>
    <button onfocus="this.blur()">flees</button><button tabindex="-1">skipped</button><a href="#here">link</a>
    <input type="radio" name="r"><input type="radio" name="r"><button style="visibility: hidden">unseen</button>
"""


def shown(page: Page) -> None:
    """Wait until nothing waits for the server."""
    expect(page.locator('[data-dash-is-loading="true"]')).to_have_count(0, timeout=LONG)


def worked_on(folder: Path) -> Path:
    """A cut, its training, and a second branch: something in every view."""
    with Workspace.open(folder) as workspace:
        workspace.measure(1)
        acts: tuple[tuple[str, int, dict[str, Any]], ...] = (
            ("prune", 1, {"ratio": 0.5}),
            ("fine-tune", 2, {"epochs": 2}),
            ("prune", 1, {"ratio": 0.8}),
        )
        for action, step, options in acts:
            ACTIONS[action](workspace, step, options, lambda *_: None, lambda: False)
    return folder


def places() -> Iterator[tuple[str, str, str]]:
    """Area, view, and where it shows, of all views but those of the model, which are there anyway."""
    for view in all_views():
        if view.area != MODEL:
            yield view.area, view.name, f"#drawer-{view.name}" if view.area == "drawer" else f"#panel-{view.area}"


class TestTheMeasure:
    def test_colours(self) -> None:
        black, white, grey = (np.array(one) for one in ((0, 0, 0), (255, 255, 255), (0x77, 0x77, 0x77)))
        assert ratio(black, white) == pytest.approx(21)
        assert ratio(white, grey) == ratio(grey, white) == pytest.approx(4.478, abs=1e-3)
        assert ratio(grey, grey) == 1

    def test_finds_what_is_wrong_and_nothing_else(self, page: Page) -> None:
        page.set_content(SAMPLE)
        found = {text.says: text for text in texts(page)}
        assert "not to be used" not in found
        assert "not to be seen" not in found
        bad = {text.says for text in found.values() if text.ratio < text.needed}
        assert bad == {"not quite", "half of black", "faded", "white on blue", "on a picture", "filled in", "drawn"}
        assert len(failing(list(found.values()))) == len(bad)
        assert found["half of black"].ratio == pytest.approx(4.0, abs=0.05)  # #7f7f7f
        assert found["white on blue"].ground == "#5aa9f5"
        assert found["drawn"].ground == "#009e73"
        assert found["large enough"].large
        assert "#5aa9f5" in next(line for line in failing(list(found.values())) if "white on blue" in line)

    def test_finds_what_tab_does_not_reach_and_what_hides_the_focus(self, page: Page) -> None:
        page.set_content(KEYS)
        found = walked(page, "body")
        assert [text.partition(">")[2][:5] for text in found["left"]] == ["flees"]
        assert [text.partition(">")[2][:4] for text in found["dim"]] == ["dark"]


def test_the_page_can_be_read_in_both_themes(page: Page, open_page: Open, demo: Path) -> None:
    open_page(demo, "?step=1&group=conv2")
    ready(page)
    shown(page)
    bad = {}
    for _ in range(2):
        theme = page.evaluate("document.documentElement.dataset.theme")
        found = texts(page)
        assert len(found) > LEAST // 2
        bad[theme] = failing(found)
        page.locator("#top-theme").click()
        page.mouse.move(0, 0)
        expect(page.locator(f'html:not([data-theme="{theme}"])')).to_have_count(1)
        shown(page)
    assert bad == {"light": [], "dark": []}


@pytest.mark.thorough
def test_every_view_can_be_read_in_both_themes(
    page: Page, open_page: Open, demo: Path, shot: Callable[[str], None]
) -> None:
    page.set_viewport_size(ROOMY)  # type: ignore[arg-type]
    open_page(worked_on(demo), "?step=3&other=1&group=conv2")
    ready(page)
    page.locator('[data-preset="30%"]').click()
    expect(page.locator("#top-summary")).to_contain_text("MACs", timeout=LONG)
    bad: dict[str, list[str]] = {}
    for _ in range(2):
        theme = page.evaluate("document.documentElement.dataset.theme")
        shown(page)
        found = texts(page)
        assert len(found) > LEAST
        bad[f"{theme} page"] = failing(found)
        for area, view, frame in places():
            page.evaluate("([area, view]) => onnxprune.openTab(area, view)", [area, view])
            expect(page.locator(f"#slot-{view} *").first).to_be_visible(timeout=LONG)
            shown(page)
            for end in (False, True):
                if end and not page.locator(frame).evaluate(TO_THE_END):
                    continue
                found = texts(page, frame)
                assert found, f"{area}:{view} shows nothing"
                bad[f"{theme} {area}:{view}{' below' if end else ''}"] = failing(found)
            if area == "drawer":
                page.evaluate("onnxprune.openTab('drawer', null)")
                expect(page.locator(frame)).to_be_hidden()
        page.keyboard.press("?")
        expect(page.locator("#keys")).to_be_visible()
        bad[f"{theme} keys"] = failing(texts(page, "#keys"))
        page.keyboard.press("Escape")
        shot(f"contrast-{theme}")
        page.locator("#top-theme").click()
        page.mouse.move(0, 0)
    assert {place: lines for place, lines in bad.items() if lines} == {}


TO_THE_END = """
    root => [...root.querySelectorAll("*")].filter((one) => {
        const before = one.scrollTop;
        const higher = one.scrollHeight > one.clientHeight + 8;
        if (higher && getComputedStyle(one).overflowY !== "visible") one.scrollTop = 1e6;
        return one.scrollTop !== before;
    }).length > 0
"""

# All that the keyboard is to get to, and how it looks without the focus. Of radio buttons one is reached, of tabs the
# open one; within tables and drawings arrows go on.
EXPECTED = """
    (root) => {
        const look = (one) => {
            const found = [];
            const add = (s) => {
                const outline = s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0 ? s.outlineColor : "";
                found.push(outline, s.boxShadow, s.borderColor, s.backgroundColor);
            };
            for (let at = one, up = 0; at && up < 3; at = at.parentElement, up++) add(getComputedStyle(at));
            for (const part of ["::before", "::after"]) add(getComputedStyle(one, part));
            return found.join("|");
        };
        const all = [...root.querySelectorAll("button, input, select, textarea, summary, a[href], [tabindex]")];
        const groups = new Set();
        const wanted = all.filter((one) => {
            if (!one.checkVisibility({visibilityProperty: true}) || one.tabIndex < 0) return false;
            if (one.matches(":disabled") || one.closest(".ag-root-wrapper, [inert], [aria-hidden=true]")) return false;
            if (one.type !== "radio") return true;
            const before = groups.has(one.name);
            groups.add(one.name);
            return !before;
        });
        window.walked = {wanted, looks: new Map(wanted.map((one) => [one, look(one)])), look, seen: new Set(), dim: []};
        return wanted.length;
    }
"""
STEP = """
    () => {
        const w = window.walked, now = document.activeElement;
        if (!now || now === document.body) return "body";
        const again = w.seen.has(now);
        w.seen.add(now);
        if (!again && w.looks.has(now) && w.look(now) === w.looks.get(now)) w.dim.push(now);
        if (w.wanted.every((one) => w.seen.has(one))) return "all";
        return again ? "again" : "new";
    }
"""
LEFT = """
    () => {
        const w = window.walked;
        const names = new Set([...w.seen].filter((one) => one.type === "radio").map((one) => one.name));
        const left = w.wanted.filter((one) => !w.seen.has(one) && !(one.type === "radio" && names.has(one.name)))
            .filter((one) => one.isConnected && one.checkVisibility({visibilityProperty: true}));
        return left.map((one) => one.outerHTML.slice(0, 160));
    }
"""


def walked(page: Page, root: str = "#page") -> dict[str, list[str]]:
    """Press Tab until one was everywhere in a place: ``left`` was not reached, ``dim`` does not show the focus."""
    count = page.locator(root).evaluate(EXPECTED)
    assert count > 0
    again = 0
    for _ in range(400):
        page.keyboard.press("Tab")
        now = page.evaluate(STEP)
        again = again + 1 if now == "again" else 0
        if now == "all" or again > ROUND:
            break
    return {"left": page.evaluate(LEFT), "dim": [text for text in map(partial(_dim, page), range(_dims(page))) if text]}


def _dims(page: Page) -> int:
    return int(page.evaluate("window.walked.dim.length"))


def _dim(page: Page, place: int) -> str:
    """Of what shows the focus by none of its styles, or in a part that has styles of its own: whether pixels change."""
    found = page.evaluate_handle(f"window.walked.dim[{place}]").as_element()
    if found is None or not found.is_visible():
        return ""
    pictures = []
    for act in ("focus", "blur"):
        found.evaluate(f"one => one.{act}()")
        pictures.append(found.screenshot(animations="disabled"))
    return "" if pictures[0] != pictures[1] else str(found.evaluate("one => one.outerHTML.slice(0, 160)"))


def test_tab_gets_to_everything_and_shows_where_it_is(page: Page, open_page: Open, demo: Path) -> None:
    open_page(demo, "?step=1&group=conv2")
    ready(page)
    shown(page)
    page.emulate_media(reduced_motion="reduce")
    assert walked(page) == {"left": [], "dim": []}


@pytest.mark.thorough
def test_tab_gets_to_everything_in_every_view(page: Page, open_page: Open, demo: Path) -> None:
    page.set_viewport_size(ROOMY)  # type: ignore[arg-type]
    open_page(worked_on(demo), "?step=3&other=1&group=conv2")
    ready(page)
    page.emulate_media(reduced_motion="reduce")
    found = {}
    for area, view, frame in places():
        page.evaluate("([area, view]) => onnxprune.openTab(area, view)", [area, view])
        expect(page.locator(f"#slot-{view} *").first).to_be_visible(timeout=LONG)
        shown(page)
        page.locator(frame).evaluate("one => { one.tabIndex = -1; one.focus(); }")
        found[f"{area}:{view}"] = walked(page, frame)
        if area == "drawer":
            page.evaluate("onnxprune.openTab('drawer', null)")
            expect(page.locator(frame)).to_be_hidden()
    assert {place: lines for place, lines in found.items() if lines["left"] or lines["dim"]} == {}
