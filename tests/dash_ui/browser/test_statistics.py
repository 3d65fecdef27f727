"""A person looks at the statistics of a path: cells, classes, one panel alone, files, and the front."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from dash_ui.views import classes, confusion, metrics, pareto, recovery
from onnxprune.workspace.paths import path_rows
from onnxprune.workspace.workspace import Workspace
from tests.dash_ui.browser.conftest import Served, until
from tests.dash_ui.measured import grow

Open = Callable[..., Served]
VIEWS = [view.VIEW for view in (confusion, classes, recovery, metrics, pareto)]
MEASURED = 60_000  # milliseconds: a worker is started for it


@pytest.fixture
def path(small: Path) -> Path:
    return grow(small)


def _drawn(page: Page, name: str) -> None:
    """Wait until a plot shows some data."""
    plot = f"document.querySelector('#{name} .js-plotly-plot')"
    until(page, f"Boolean({plot} && {plot}._fullLayout && ({plot}.data || []).length)")


def _point(page: Page, name: str, x: float | str, y: float | str) -> tuple[float, float]:
    """Where a point of a plot is on the page."""
    found = page.evaluate(
        """([name, x, y]) => {
            const plot = document.querySelector(`#${name} .js-plotly-plot`), box = plot.getBoundingClientRect();
            const layout = plot._fullLayout;
            const place = (axis, value) => axis._offset + axis.d2p(value);
            return [box.x + place(layout.xaxis, x), box.y + place(layout.yaxis, y)];
        }""",
        [name, x, y],
    )
    return found[0], found[1]


def test_a_cell_tells_its_path_and_its_instances(
    page: Page, open_page: Open, path: Path, shot: Callable[[str], None]
) -> None:
    open_page(path, "?step=3&other=2", views=VIEWS)
    _drawn(page, "confusion-matrix")
    expect(page.locator("#confusion-detail")).to_be_hidden()
    page.mouse.click(*_point(page, "confusion-matrix", "0", "0"))
    expect(page.locator("#confusion-cell-words")).to_have_text("Label 0, rightly taken for it")
    _drawn(page, "confusion-line")
    shot("statistics-confusion")
    page.get_by_text("change", exact=True).first.click()
    until(page, "document.querySelector('#confusion-matrix').textContent.includes('points better')")
    with page.expect_download() as download:
        page.locator("#confusion-pairs-csv").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text(encoding="utf-8-sig").splitlines()))
    assert {"label", "taken for", "count"} <= set(rows[0])


@pytest.mark.thorough
def test_another_step_to_compare_with(page: Page, open_page: Open, path: Path) -> None:
    open_page(path, "?step=4&tab=statistics:metrics", views=VIEWS)
    _drawn(page, "metrics-lines")
    expect(page.locator("#metrics-other")).to_contain_text("#3 prune (parent)")
    page.locator("#metrics-other").click()
    page.get_by_text("#1 original").click()
    until(page, "new URLSearchParams(location.search).get('other') === '1'")
    expect(page.locator("#metrics-table .ag-center-cols-container")).to_contain_text("points")


@pytest.mark.thorough
def test_one_panel_alone_and_the_path_as_a_file(
    page: Page, open_page: Open, path: Path, shot: Callable[[str], None]
) -> None:
    open_page(path, "?step=4&tab=statistics:recovery", views=VIEWS)
    for name in ("capability", "loss", "cost", "sizes", "moves"):
        _drawn(page, f"recovery-{name}")
    shot("statistics-path")
    with page.expect_download() as download:
        page.locator("#recovery-csv").click()
    rows = list(csv.DictReader(Path(download.value.path()).read_text(encoding="utf-8").splitlines()))
    with Workspace.open(path, scan=False) as workspace:
        told = path_rows(workspace, 4, "accuracy")
    assert [(row["step"], float(row["value"])) for row in rows] == [(str(row["step"]), row["value"]) for row in told]
    page.locator("#recovery-loss").dblclick()
    expect(page.locator("#recovery-capability")).to_be_hidden()
    expect(page.locator("#recovery-loss")).to_be_visible()
    until(page, "document.querySelector('#recovery-loss').clientHeight > 300")
    page.get_by_role("button", name="Show Loss fluctuation alone").click()
    expect(page.locator("#recovery-capability")).to_be_visible()


def test_classes_and_the_front(page: Page, open_page: Open, path: Path, shot: Callable[[str], None]) -> None:
    open_page(path, "?step=4&tab=statistics:classes", views=VIEWS)
    _drawn(page, "classes-pr")
    _drawn(page, "classes-change")
    expect(page.locator("#classes-table")).to_contain_text("macro mean")
    shot("statistics-classes")
    page.get_by_role("tab", name="Pareto").click()
    _drawn(page, "pareto-plot")
    shot("statistics-pareto")
    with Workspace.open(path, scan=False) as workspace:
        step = workspace.steps.get(3).metrics
    page.mouse.click(*_point(page, "pareto-plot", step["parameters"], step["accuracy"]))
    until(page, "new URLSearchParams(location.search).get('step') === '3'")


@pytest.mark.thorough
def test_a_step_that_was_not_measured(page: Page, open_page: Open, small: Path, shot: Callable[[str], None]) -> None:
    open_page(small, "?step=1", views=VIEWS)
    expect(page.get_by_text("Step 1 was not measured.")).to_be_visible()
    shot("statistics-empty")
    page.get_by_role("button", name="Measure this step").click()
    expect(page.locator("#confusion-body")).to_be_visible(timeout=MEASURED)
    _drawn(page, "confusion-matrix")


@pytest.mark.thorough
def test_a_model_without_data(page: Page, open_page: Open, small: Path) -> None:
    (small / "data" / "bright.npz").unlink()
    open_page(small, "?step=1", views=VIEWS)
    expect(page.get_by_text("There are no data for this model.")).to_be_visible()
