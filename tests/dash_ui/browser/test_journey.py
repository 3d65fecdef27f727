"""The whole story in a real browser: open a folder, prune, train, compare, go back, take out, bring in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, Page, expect

from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.workspace import Workspace
from tests.dash_ui.browser.acts import (
    JOB,
    NODES,
    counted,
    done,
    drag,
    drawer,
    end_work,
    field,
    folder_of,
    ready,
    selected,
    steps,
)  # fmt: skip
from tests.dash_ui.browser.conftest import Served, Watched, until

Open = Callable[..., Served]
Shot = Callable[[str], None]


@pytest.fixture
def quiet(demo: Path) -> Iterator[Path]:
    """The bundled example; what is still worked at in the end is ended with the test."""
    yield demo
    end_work(demo)


def sent(name: str, data: bytes) -> FilePayload:
    """A file that a person chooses."""
    return {"name": name, "mimeType": "application/octet-stream", "buffer": data}


def test_the_whole_story(page: Page, open_page: Open, quiet: Path, shot: Shot) -> None:
    open_page(quiet)
    ready(page)
    dragged_and_applied(page)
    shot("journey-applied")
    trained(page)
    shot("journey-trained")
    trained_and_cancelled(page)
    assert steps(quiet) == [(1, None, "original"), (2, 1, "edit"), (3, 2, "fine-tune")]
    branched(page)
    assert steps(quiet)[-1] == (4, 2, "edit")
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


def dragged_and_applied(page: Page) -> None:
    """Step 2: what goes at a threshold."""
    expect(page.locator("#top-apply")).to_be_disabled()
    drag(page, 0.5)
    expect(page.locator("#top-summary")).to_contain_text("of 168 units")
    gone = counted(page)
    assert 20 < gone < 168
    expect(page.locator("#top-summary")).to_contain_text("MACs est.")
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


def trained(page: Page) -> None:
    """Step 3: with settings from the drawer."""
    drawer(page, "settings")
    field(page, "fine-tune", "Epochs").fill("2")
    expect(page.locator("#settings-fine-tune")).to_have_text("Fine-tune step 2")
    page.locator("#settings-fine-tune").click()
    running = drawer(page, "jobs").locator(".job", has_text="Fine-tune step 2")
    expect(running.locator("progress")).to_be_visible(timeout=JOB)
    selected(page, 3, "fine-tune")
    expect(running).to_contain_text("done")
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Path").click()
    expect(page.locator("#recovery-body")).to_be_visible()


def trained_and_cancelled(page: Page) -> None:
    """A training that is ended while it runs, by the button in the top bar with the settings of the drawer."""
    drawer(page, "settings")
    field(page, "fine-tune", "Epochs").fill("500")
    expect(page.locator("#settings-fine-tune")).to_be_enabled()
    page.keyboard.press("Escape")
    page.locator("#top-fine-tune").click()
    second = drawer(page, "jobs").locator(".job").first
    expect(second).to_contain_text("Fine-tune step 3")
    expect(second).to_contain_text("left", timeout=JOB)
    second.get_by_role("button", name="Log").click()
    expect(page.locator("#jobs-log pre")).to_be_visible()
    second.get_by_role("button", name="Cancel").click()
    expect(second).to_contain_text("cancelled", timeout=JOB)
    expect(second.get_by_role("button", name="Try again")).to_be_visible()
    page.keyboard.press("Escape")


def branched(page: Page) -> None:
    """Step 4: another child of step 2."""
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
    until(page, f"{NODES}.length === 4")


@pytest.mark.thorough
def test_a_draft_by_suggestion_and_back(page: Page, open_page: Open, quiet: Path, shot: Shot) -> None:
    open_page(quiet)
    ready(page)
    guide = drawer(page, "guidance")
    expect(page.locator("#guidance-missing")).to_contain_text("Not measured yet:")
    kept = guide.locator(".job", has=page.get_by_role("button", name="Put into the plan")).first
    title = kept.locator(".jobs-what").text_content() or ""
    shot("journey-guidance")
    kept.get_by_role("button", name="Put into the plan").click()
    expect(page.locator(".toast-done")).to_contain_text("in the plan.")
    expect(page.locator("#top-undo")).to_be_enabled()
    expect(page.locator("#plan-counts")).not_to_contain_text(re.compile("^0 of 168"))
    first = counted(page)
    assert first > 0, title
    expect(guide.locator(".job", has_text=title).first).to_contain_text("In the plan")
    page.keyboard.press("Escape")
    page.locator('[data-preset="30%"]').click()
    expect(page.locator("#plan-counts")).not_to_contain_text(f"{first} of 168")
    both = counted(page)
    undo, redo = page.locator("#top-undo"), page.locator("#top-redo")
    expect(undo).to_have_attribute("title", re.compile("puts below"))
    page.keyboard.press("Control+z")
    expect(page.locator("#plan-counts")).to_contain_text(f"{first} of 168")
    expect(redo).to_be_enabled()
    redo.click()
    expect(page.locator("#plan-counts")).to_contain_text(f"{both} of 168")
    while undo.is_enabled():
        before = undo.get_attribute("title") or ""
        undo.click()
        expect(undo).not_to_have_attribute("title", before)
    expect(page.locator("#plan-counts")).to_contain_text("0 of 168")
    expect(page.locator("#top-apply")).to_be_disabled()


def test_automatically_from_the_drawer(page: Page, open_page: Open, quiet: Path, shot: Shot) -> None:
    open_page(quiet)
    ready(page)
    drawer(page, "settings")
    section = page.locator(".settings-section", has=page.locator("#settings-head-auto"))
    section.get_by_text("More").click()
    field(page, "auto", "Tries at most").fill("1")
    section.locator(".dash-dropdown", has_text="then what the estimator suggests").click()
    page.get_by_role("option", name="stop there").click()
    field(page, "auto", "Epochs").fill("1")
    field(page, "auto", "Loss at most").fill("much")
    expect(section.locator(".field-problem", has_text="much is not a share")).to_be_visible()
    expect(page.locator("#settings-auto")).to_be_disabled()
    field(page, "auto", "Loss at most").fill("90%")
    expect(page.locator("#settings-auto")).to_be_enabled()
    shot("journey-auto")
    page.locator("#settings-auto").click()
    expect(page.locator("#toasts")).to_contain_text("Prune automatically from step 1: job 1 is queued.")
    done(page, "Prune automatically from step 1 is done.")
    found = steps(quiet)
    assert [kind for _, _, kind in found] == ["original", "prune", "fine-tune"]
    selected(page, 3)
    until(page, f"{NODES}.length === 3")


def test_files_out_and_in(page: Page, open_page: Open, quiet: Path, shot: Shot) -> None:
    with Workspace.open(quiet) as workspace:
        made = ACTIONS["prune"](workspace, 1, {"ratio": 0.5, "round_to": 1}, lambda *_: None, lambda: False)
    open_page(quiet, f"?step={made.number}")
    ready(page)
    files = drawer(page, "export")
    expect(page.locator("#export-commands")).to_contain_text("onnxprune ws prune 1 --set ratio=0.5")
    taken: dict[str, Path] = {}
    for name in ("model.onnx", "plan.json", "report.json", "path.csv", "classes.csv", "confusion.csv"):
        with page.expect_download() as download:
            files.get_by_role("link", name=name).click()
        assert download.value.suggested_filename.endswith(f"-step2-{name}")
        taken[name] = Path(download.value.path())
        assert taken[name].stat().st_size > 0
    with Workspace.open(quiet, scan=False) as workspace:
        assert taken["model.onnx"].read_bytes() == workspace.blobs.read(made.model)
    shot("journey-export")

    upload = page.locator("#export-upload input[type=file]")
    for name, data, words in (
        ("notes.txt", b"nothing", "notes.txt: not a kind of file that is used here"),
        ("broken.onnx", b"this is no model", "broken.onnx"),
        ("plan.json", b"{}", "plan.json"),
    ):
        upload.set_input_files(sent(name, data))
        expect(page.locator(".toast-error", has_text=words)).to_be_visible()
        page.locator(".toast-error", has_text=words).get_by_role("button", name="Dismiss").click()
    upload.set_input_files(sent("smaller.onnx", taken["model.onnx"].read_bytes()))
    done(page, "models/smaller.onnx is a model of this workspace now.")
    assert steps(quiet)[-1] == (3, None, "original")
    page.locator("#tree-keys").focus()
    page.keyboard.press("ArrowUp")
    selected(page, 1)
    upload.set_input_files(sent("plan.json", taken["plan.json"].read_bytes()))
    expect(page.locator("#toasts")).to_contain_text("plan.json is carried out on step 1")
    selected(page, 4)
    expect(page.locator("#tree-facts")).to_contain_text("84 of 168")
    page.keyboard.press("Escape")
    page.locator("#top-model").click()
    page.get_by_role("option", name="smaller").click()
    selected(page, 3)
    expect(page.locator("#plan-counts")).to_contain_text("of 84 filters")


@pytest.mark.thorough
def test_the_address_says_all_and_a_second_tab_is_told(
    page: Page, open_page: Open, quiet: Path, watched: Watched
) -> None:
    served = open_page(quiet)
    ready(page)
    page.get_by_role("button", name="conv3", exact=True).first.click()
    expect(page).to_have_url(re.compile("group=conv3"))
    page.get_by_role("tab", name="Metrics").click()
    expect(page).to_have_url(re.compile("tab=statistics%3Ametrics"))
    page.locator('[data-preset="20%"]').click()
    expect(page.locator("#plan-counts")).to_contain_text("34 of 168")
    expect(page.locator("#top-undo")).to_be_enabled()
    page.reload()
    ready(page)
    expect(page.locator("#plan-counts")).to_contain_text("34 of 168")
    expect(page.get_by_role("tab", name="Metrics")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#plan-groups tr.chosen")).to_contain_text("conv3")

    other = page.context.new_page()
    other.on("console", watched.console)
    other.goto(page.url)
    ready(other)
    expect(other.locator("#plan-counts")).to_contain_text("34 of 168")
    expect(other.locator("#plan-groups tr.chosen")).to_contain_text("conv3")
    other.route("**/_now*", lambda route: route.abort())  # it does not hear of what happens now
    watched.allowed.append("net::ERR_FAILED")
    page.locator('[data-preset="50%"]').click()
    expect(page.locator("#plan-counts")).to_contain_text("84 of 168")
    expect(page.locator("#top-undo")).to_have_attribute("title", re.compile("puts below"))
    other.locator('[data-preset="10%"]').click()
    expect(other.locator(".toast-error")).to_contain_text("was changed elsewhere")
    expect(other.locator("#plan-counts")).to_contain_text("84 of 168")
    assert served.url in other.url
    other.close()


@pytest.mark.thorough
def test_the_estimator_prunes_to_a_number(page: Page, open_page: Open, quiet: Path) -> None:
    with Workspace.open(quiet) as workspace:
        ACTIONS["prune"](workspace, 1, {"ratio": 0.5, "round_to": 1}, lambda *_: None, lambda: False)
    open_page(quiet, "?step=1")
    ready(page)
    page.locator("#tree-estimate").click()
    knob = page.locator("#tree-estimator-knob")
    expect(knob).to_be_visible()
    knob.focus()
    while int(knob.get_attribute("aria-valuenow") or 0) > 121:
        page.keyboard.press("ArrowDown")
    wanted = 121  # which no share of every layer comes to
    page.get_by_role("button", name=f"Prune to {wanted}").click()
    expect(page.locator("#toasts")).to_contain_text("Prune step 1: job 1 is queued.")
    selected(page, 3, "prune")
    left = re.search(r"(\d+) of 168", page.locator("#tree-facts").text_content() or "")
    assert left is not None
    assert int(left[1]) == wanted


@pytest.mark.thorough
@pytest.mark.parametrize(("model", "words"), [("vit", ("heads", "neurons")), ("lstm", ("cells",))])
def test_other_kinds_of_units(
    page: Page, open_page: Open, tmp_path: Path, shot: Shot, model: str, words: tuple[str, ...]
) -> None:
    folder = folder_of(tmp_path, model)
    open_page(folder)
    ready(page)
    titles = page.locator("#architecture-groups button").evaluate_all("all => all.map((b) => b.title).join()")
    for word in words:
        assert word in titles
    drag(page, 0.4)
    expect(page.locator("#plan-circles")).not_to_have_attribute("aria-label", re.compile("^0 "))
    expect(page.locator("#top-apply")).to_be_enabled()
    shot(f"journey-{model}")
    gone = counted(page)
    page.locator("#top-apply").click()
    selected(page, 2, "edit")
    expect(page.locator("#tree-facts")).to_contain_text(re.compile(r"\d+ of \d+"))
    assert gone > 0
    end_work(folder)


@pytest.mark.thorough
def test_likely_plans_are_measured_before_one_asks(page: Page, open_page: Open, quiet: Path, shot: Shot) -> None:
    open_page(quiet, ahead=True)
    ready(page)
    mark = page.locator("#plan-marks .plan-mark", has_text="%").first
    expect(mark).to_be_visible(timeout=JOB)
    expect(mark).to_have_attribute("title", re.compile("accuracy .* measured for as many units by a ratio"))
    expect(page.locator("#open-jobs")).to_have_text("Jobs")  # nothing that a person waits for
    shot("journey-marks")
    drawer(page, "guidance")
    ahead = page.get_by_label("Measure likely plans while nothing else runs")
    expect(ahead).to_be_checked()
    ahead.uncheck()
    expect(drawer(page, "jobs").locator(".job-running")).to_have_count(0, timeout=JOB)
    page.reload()
    drawer(page, "guidance")
    expect(ahead).not_to_be_checked()
