"""What a person does and looks for on the page, as journeys need it again and again."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.workspace import Workspace
from tests.dash_ui.browser.conftest import until

__all__ = [
    "JOB", "NODES", "counted", "done", "drag", "drawer", "end_work", "field", "folder_of", "ready", "selected", "steps",
]  # fmt: skip

NETS = Path(__file__).parents[3] / "examples" / "nets"
DATA = Path(__file__).parents[3] / "onnxprune" / "demo_data" / "digits.npz"
JOB = 90_000  # milliseconds until work that is done by another process counts as stuck
NODES = "((((document.querySelector('#tree-graph .js-plotly-plot') || {}).data || [])[7] || {}).customdata || [])"


def end_work(folder: Path) -> None:
    """Cancel what waits or runs, and wait until its worker has let go of the folder."""
    ends = time.monotonic() + 30
    while time.monotonic() < ends:
        with Workspace.open(folder, scan=False) as workspace:
            jobs = Jobs(workspace.database)
            jobs.mark_lost()
            left = jobs.all(("queued", "running"))
            for job in left:
                if not job.cancel:
                    jobs.cancel(job.number)
        if not left:
            return
        time.sleep(0.1)
    raise AssertionError("a worker did not end")


def counted(page: Page) -> int:
    """How many units are to go."""
    found = re.match(r"([\d,]+) of", page.locator("#plan-counts").text_content() or "")
    return int(found[1].replace(",", "")) if found else -1


def ready(page: Page) -> None:
    """Wait until a threshold can be set, and the tree and the drawing are there."""
    expect(page.locator('[data-preset="30%"]')).to_be_enabled()
    until(page, f"{NODES}.length > 0")
    until(page, "document.querySelectorAll('#architecture-graph .js-plotly-plot .trace').length > 0")


def drag(page: Page, part: float) -> None:
    """Pull the threshold to a place on its axis."""
    box = page.locator("#plan-range").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 8, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 8 + part * (box["width"] - 16), y, steps=10)
    page.mouse.up()


def drawer(page: Page, name: str) -> Locator:
    """Open a drawer."""
    found = page.locator(f"#drawer-{name}")
    if found.is_hidden():
        page.locator(f"#open-{name}").click()
    expect(found).to_be_visible()
    return found


def field(page: Page, action: str, label: str) -> Locator:
    """A field of the settings."""
    section = page.locator(".settings-section", has=page.locator(f"#settings-head-{action}"))
    return section.get_by_label(label, exact=True)


def steps(folder: Path) -> list[tuple[int, int | None, str]]:
    """Number, parent and kind of what is recorded, without the trash."""
    with Workspace.open(folder, scan=False) as workspace:
        return [(step.number, step.parent, step.kind) for step in workspace.steps.all()]


def selected(page: Page, number: int, kind: str = "", *, timeout: int = JOB) -> None:
    """Wait until a step is selected, in the tree, in the address, and on the page's own account."""
    expect(page.locator("#tree-facts .tree-title")).to_contain_text(f"#{number} {kind}", timeout=timeout)
    expect(page).to_have_url(re.compile(rf"[?&]step={number}\b"))


def done(page: Page, text: str) -> None:
    """Wait for the message that something is done."""
    expect(page.locator(".toast-done", has_text=text)).to_be_visible(timeout=JOB)


def folder_of(place: Path, model: str, *, data: bool = True) -> Path:
    """A workspace with one of the example nets."""
    folder = place / model
    (folder / "data").mkdir(parents=True)
    shutil.copy(NETS / f"{model}.onnx", folder)
    if data:
        shutil.copy(DATA, folder / "data")
    return folder
