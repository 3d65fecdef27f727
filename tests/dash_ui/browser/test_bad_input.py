"""Files and data of no use, documents that are gone: the page says what happened and what to do, and goes on."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import FilePayload, Page, expect

from dash_ui.views import classes, confusion, export, metrics, recovery
from dash_ui.views.confusion import PAIRS
from dash_ui.views.export import MEGABYTES
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import mlp, save
from tests.dash_ui.browser.acts import JOB, drawer, end_work
from tests.dash_ui.browser.conftest import Served, until
from tests.dash_ui.measured import grow
from tests.dash_ui.test_uploads import npz

Open = Callable[..., Served]
Shot = Callable[[str], None]
STATISTICS = [view.VIEW for view in (confusion, classes, recovery, metrics)]


def test_files_of_no_use(page: Page, open_page: Open, small: Path, tmp_path: Path, shot: Shot) -> None:
    large = tmp_path / "large.npz"
    with large.open("wb") as file:
        file.truncate((MEGABYTES + 1) * 1024 * 1024)  # a hole: it takes no space
    open_page(small, views=[export.VIEW])
    drawer(page, "export")
    upload = page.locator("#export-upload input[type=file]")
    upload.set_input_files(large)
    told = page.locator(".toast-error")
    expect(told).to_contain_text(f"large.npz has {MEGABYTES + 1} MB")
    expect(told.locator(".hint")).to_contain_text("Copy it into the folder")
    shot("upload-too-large")
    told.get_by_role("button", name="Dismiss").click()
    data = npz(x=np.zeros((4, 3, 9, 9), np.float32), y=np.arange(4) % 3)
    upload.set_input_files(FilePayload(name="shape.npz", mimeType="application/octet-stream", buffer=data))
    expect(page.locator(".toast-info")).to_contain_text("data/shape.npz is in the folder now, but fits no model of it.")
    expect(page.locator(".toast-info .hint")).to_contain_text("It has 3 channels")


def test_a_document_that_is_gone_is_measured_again(page: Page, open_page: Open, small: Path, shot: Shot) -> None:
    with Workspace.open(small) as workspace:
        workspace.measure(1, threads=1)
        blob = workspace.blobs.path(workspace.steps.documents(1)["evaluation"])
    blob.chmod(0o600)
    blob.unlink()
    open_page(small, "?step=1", views=STATISTICS)
    expect(page.locator("#confusion-state")).to_contain_text("What was measured of step 1 cannot be read.")
    expect(page.locator("#confusion-body")).to_be_hidden()
    expect(page.locator(".toast")).to_have_count(0)
    shot("damaged-document")
    page.locator("#confusion-state").get_by_role("button", name="Measure this step").click()
    expect(page.locator("#confusion-body")).to_be_visible(timeout=JOB)
    expect(page.locator("#confusion-state")).to_be_empty()
    end_work(small)


@pytest.mark.thorough
def test_a_damaged_document_elsewhere_on_the_path(page: Page, open_page: Open, small: Path) -> None:
    with Workspace.open(grow(small)) as workspace:
        blobs = [workspace.steps.documents(2)["history"], workspace.steps.documents(3)["evaluation"]]
        for blob in map(workspace.blobs.path, blobs):
            blob.chmod(0o600)
            blob.write_bytes(b"{}")
    open_page(small, "?step=4&tab=statistics:recovery", views=STATISTICS)
    expect(page.locator("#recovery-state")).to_contain_text("What is known of a step on this path cannot be read.")
    expect(page.locator("#recovery-state").get_by_role("button")).to_have_count(0)
    expect(page.locator("#recovery-body")).to_be_hidden()
    page.get_by_role("tab", name="Confusion").click()  # without the step that it would be compared with
    expect(page.locator("#confusion-body")).to_be_visible()
    until(page, "document.querySelectorAll('#confusion-pairs .ag-row').length > 0")


@pytest.mark.thorough
def test_data_that_nothing_can_be_measured_on(page: Page, open_page: Open, small: Path, shot: Shot) -> None:
    data = small / "data" / "bright.npz"
    with np.load(data) as arrays:
        x, y = arrays["x_test"], arrays["y_test"]
    data.unlink()
    np.savez(small / "data" / "labels.npz", x=x, y=y + 5)
    open_page(small, "?step=1", views=STATISTICS)
    measure = page.locator("#confusion-state").get_by_role("button", name="Measure this step")
    measure.click()
    expect(page.locator("#confusion-state")).to_contain_text("Step 1 could not be measured: labels.npz", timeout=JOB)
    shot("labels-of-no-class")
    np.savez(small / "data" / "labels.npz", x=x, y=y)
    page.locator("#top-scan").click()
    expect(page.locator(".toast-info", has_text="1 changed: data/labels.npz")).to_be_visible()
    expect(measure).to_be_enabled()
    measure.click()
    expect(page.locator("#confusion-body")).to_be_visible(timeout=JOB)
    end_work(small)


@pytest.mark.thorough
def test_pairs_of_hundreds_of_classes(page: Page, open_page: Open, tmp_path: Path, shot: Shot) -> None:
    folder = tmp_path / "wide"
    (folder / "data").mkdir(parents=True)
    save(mlp(outputs=300), folder / "wide.onnx")
    x = np.random.default_rng(0).standard_normal((2000, 6)).astype(np.float32)
    names = np.array([f"a class with a rather long name, {i}" for i in range(300)])
    np.savez(folder / "data" / "wide.npz", x=x, y=np.arange(2000) % 300, class_names=names)
    with Workspace.open(folder) as workspace:
        workspace.measure(1, threads=1)
    open_page(folder, "?step=1", views=STATISTICS)
    expect(page.locator("#confusion-note")).to_contain_text("48 of 300 classes: those of the most confused pairs.")
    row = page.locator("#confusion-pairs .ag-center-cols-container .ag-row").first
    label = row.locator("[col-id=label]").text_content()
    row.click()
    expect(page.locator("#confusion-cell-words")).to_contain_text(f"Label {label}, taken for")
    expect(page.locator("#confusion-line")).to_be_in_viewport()
    shot("many-classes")
    until(page, "(document.querySelector('#confusion-line .js-plotly-plot').data || []).length > 0")
    with page.expect_download() as download:
        page.locator("#confusion-pairs-csv").click()
    with Path(download.value.path()).open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) > PAIRS
