"""The architecture in a browser: clicked, searched, faded, followed while a threshold moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from dash_ui.views.architecture import VIEW
from tests.dash_ui.browser.conftest import Served, until

Open = Callable[..., Served]
PLOT = "document.querySelector('#architecture-graph .js-plotly-plot')"

WIDTH_GONE = "document.querySelector('[data-live=gone]').getBBox().width"
MIDDLE = f"""(name) => {{
  const gd = {PLOT}, hits = gd.data.find((t) => t.name === 'hits');
  const i = hits.customdata.findIndex((row) => row[1].includes('<b>' + name + '<'));
  const at = gd.getBoundingClientRect(), x = gd._fullLayout.xaxis, y = gd._fullLayout.yaxis;
  return [at.left + x._offset + x.d2p(hits.x[i]), at.top + y._offset + y.d2p(hits.y[i])];
}}"""


def lines(name: str) -> str:
    """How many rectangles are drawn in this way."""
    path = f"document.querySelector('[data-live={name}]')"
    return f"((({path} && {path}.getAttribute('d')) || '').split('M').length - 1)"


def ready(page: Page, open_page: Open, folder: Path, query: str = "") -> None:
    open_page(folder, query, views=[VIEW])
    expect(page.locator("#architecture-groups button")).to_have_count(4)
    until(page, f"!!({PLOT} && {PLOT}.data && {PLOT}.__architectured)")


def live(page: Page, gone: int) -> None:
    page.evaluate(
        "(n) => window.dash_clientside.set_props('live', "
        "{data: {gone: {conv2: n}, units: {conv2: 32}, threshold: 0.1}})",
        gone,
    )


def middle(page: Page, name: str) -> tuple[float, float]:
    """Where a box is on the screen."""
    x, y = page.evaluate(MIDDLE, name)
    return x, y


@pytest.mark.thorough
def test_a_click_selects_the_group_of_a_layer(
    page: Page, open_page: Open, demo: Path, shot: Callable[[str], None]
) -> None:
    ready(page, open_page, demo)
    page.mouse.click(*middle(page, "conv2"))
    expect(page.locator("#architecture-groups [aria-pressed=true]")).to_have_text("conv2")
    expect(page.locator("#architecture-note")).to_contain_text("Removing filter 0 of conv2 also removes")
    until(page, f"{lines('selected')} === 1 && {lines('linked')} === 1")
    shot("architecture")


def test_the_red_part_follows_the_threshold(page: Page, open_page: Open, demo: Path) -> None:
    ready(page, open_page, demo)
    live(page, 8)
    until(page, f"{lines('gone')} === 1")
    quarter = page.evaluate(WIDTH_GONE)
    live(page, 16)
    until(page, f"Math.abs({WIDTH_GONE} - {2 * quarter}) < 0.5")
    page.mouse.move(*middle(page, "conv2"))
    expect(page.locator("#architecture-graph .hoverlayer")).to_contain_text("to be removed: 16 of 32 filters")
    live(page, 0)
    until(page, f"{lines('gone')} === 0")


@pytest.mark.thorough
def test_finding_a_layer(page: Page, open_page: Open, demo: Path) -> None:
    ready(page, open_page, demo)
    page.fill("#find-text", "conv")
    expect(page.locator("#architecture-matches")).to_have_text("1 of 4")
    until(page, f"{lines('found')} === 4")
    page.press("#find-text", "Enter")
    page.press("#find-text", "Enter")
    expect(page.locator("#architecture-matches")).to_have_text("2 of 4")
    expect(page.locator("#architecture-groups [aria-pressed=true]")).to_have_text("conv2")
    page.fill("#find-text", "nothing like it")
    expect(page.locator("#architecture-matches")).to_have_text("no layer")
    page.fill("#find-text", "")
    until(page, f"{lines('found')} === 0")


def test_walking_and_fading(page: Page, open_page: Open, demo: Path) -> None:
    ready(page, open_page, demo, "?group=conv1")
    page.click("#architecture-next")
    expect(page.locator("#architecture-groups [aria-pressed=true]")).to_have_text("conv2")
    page.click("#architecture-previous")
    expect(page.locator("#architecture-groups [aria-pressed=true]")).to_have_text("conv1")
    page.click("#architecture-legend [data-kind=linear]")
    until(page, f"{PLOT}.data.find((t) => t.name === 'kind convolution').opacity < 0.2")
    page.click("#architecture-legend [data-kind=linear]")
    until(page, f"{PLOT}.data.find((t) => t.name === 'kind convolution').opacity === 1")


@pytest.mark.thorough
def test_size_and_colour(page: Page, open_page: Open, demo: Path, shot: Callable[[str], None]) -> None:
    ready(page, open_page, demo)
    before = page.evaluate(f"{PLOT}.layout.meta.height")
    for _ in range(5):
        page.click("[data-zoom=in]")
    until(page, f"{PLOT}.layout.meta.height > {before} * 1.5")
    page.click("[data-zoom=fit]")
    until(page, f"{PLOT}.layout.meta.height === {before}")
    page.click("#architecture-metric")
    page.get_by_text("MACs", exact=True).click()
    expect(page.locator("#architecture-legend")).to_contain_text("442,368 MACs")
    shot("architecture-macs")


@pytest.mark.thorough
def test_saving_the_picture(page: Page, open_page: Open, demo: Path) -> None:
    ready(page, open_page, demo)
    with page.expect_download() as found:
        page.click("#panel-architecture .picture > summary")
        page.click("#architecture-save")
    assert "conv3" in Path(found.value.path()).read_text(encoding="utf-8")
