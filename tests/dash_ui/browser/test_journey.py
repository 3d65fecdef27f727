"""The whole story in a real browser: open a folder, prune, train, compare, go back, take out, bring in."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.workspace import Workspace
from tests.dash_ui.browser.conftest import Served, until

Open = Callable[..., Served]
Shot = Callable[[str], None]
JOB = 90_000  # milliseconds until work that is done by another process counts as stuck
NODES = "((((document.querySelector('#tree-graph .js-plotly-plot') || {}).data || [])[7] || {}).customdata || [])"


@pytest.fixture
def quiet(demo: Path) -> Iterator[Path]:
    """The bundled example; what is still worked at in the end is ended with the test."""
    yield demo
    end_work(demo)


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


def test_the_whole_story(page: Page, open_page: Open, quiet: Path, shot: Shot) -> None:
    open_page(quiet)
    ready(page)
    expect(page.locator("#top-apply")).to_be_disabled()

    drag(page, 0.5)
    expect(page.locator("#top-summary")).to_contain_text("of 168 units")
    gone = counted(page)
    assert 20 < gone < 168
    expect(page.locator("#top-summary")).to_contain_text("MACs estimated")
    page.locator("#top-apply").click()
    expect(page.locator("#toasts")).to_contain_text("Apply the draft to step 1: job 1 is queued.")
    expect(page.locator("#open-jobs")).to_have_text("Jobs · 1")
    selected(page, 2, "edit")
    done(page, "It made step 2.")
    expect(page.locator("#tree-facts")).to_contain_text(f"{168 - gone} of 168")
    expect(page.locator("#plan-counts")).to_contain_text(f"0 of {168 - gone}")
    until(page, f"{NODES}.length === 2")
    expect(page.locator("#confusion-body")).to_be_visible()
    expect(page.locator("#open-jobs")).to_have_text("Jobs")
    shot("journey-applied")

    drawer(page, "settings")
    field(page, "fine-tune", "Epochs").fill("2")
    expect(page.locator("#settings-fine-tune")).to_have_text("Fine-tune step 2")
    page.locator("#settings-fine-tune").click()
    jobs = drawer(page, "jobs")
    running = jobs.locator(".job", has_text="Fine-tune step 2")
    expect(running.locator("progress")).to_be_visible(timeout=JOB)
    selected(page, 3, "fine-tune")
    expect(running).to_contain_text("done")
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Path").click()
    expect(page.locator("#recovery-body")).to_be_visible()
    shot("journey-trained")

    drawer(page, "settings")
    field(page, "fine-tune", "Epochs").fill("500")
    expect(page.locator("#settings-fine-tune")).to_be_enabled()
    page.keyboard.press("Escape")
    page.locator("#top-fine-tune").click()
    jobs = drawer(page, "jobs")
    second = jobs.locator(".job").first
    expect(second).to_contain_text("Fine-tune step 3")
    expect(second).to_contain_text("left", timeout=JOB)
    second.get_by_role("button", name="Log").click()
    expect(page.locator("#jobs-log pre")).to_be_visible()
    second.get_by_role("button", name="Cancel").click()
    expect(second).to_contain_text("cancelled", timeout=JOB)
    expect(second.get_by_role("button", name="Try again")).to_be_visible()
    assert steps(quiet) == [(1, None, "open"), (2, 1, "edit"), (3, 2, "fine-tune")]
    page.keyboard.press("Escape")

    page.locator("#tree-keys").focus()
    page.keyboard.press("ArrowUp")
    selected(page, 2)
    page.get_by_role("button", name="Continue", exact=True).click()
    expect(page.locator("#toasts")).to_contain_text("You continue at step 2.")
    expect(page.locator('[data-preset="10%"]')).to_be_enabled()
    page.locator('[data-preset="10%"]').click()
    expect(page.locator("#top-apply")).to_be_enabled()
    page.locator("#top-apply").click()
    selected(page, 4, "edit")
    assert steps(quiet)[-1] == (4, 2, "edit")
    until(page, f"{NODES}.length === 4")
    shot("journey-branch")

    page.locator("#tree-delete").click()
    selected(page, 2)
    expect(page.locator("#tree-undo-bar")).to_contain_text("Step 4 is in the trash.")
    assert len(steps(quiet)) == 3
    page.locator("#tree-undo").click()
    selected(page, 4)
    assert len(steps(quiet)) == 4

    page.reload()
    selected(page, 4)
    until(page, f"{NODES}.length === 4")
    expect(page.get_by_role("tab", name="Path")).to_have_attribute("aria-selected", "true")
