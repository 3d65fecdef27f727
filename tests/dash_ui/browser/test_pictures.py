"""What is seen of a view becomes a file: as SVG that stands alone, as PNG, and tables as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Download, Page, expect

from dash_ui.desk import Desk
from dash_ui.rows.effect import group_rows
from dash_ui.rows.metrics import comparison_rows
from dash_ui.theme import DARK, LIGHT
from dash_ui.views import plan
from onnxprune.cost import CostModel
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.workspace import Workspace
from tests.dash_ui.browser.conftest import Served, until

Open = Callable[..., Served]
SVG = "{http://www.w3.org/2000/svg}"
FORBIDDEN = {"script", "style", "foreignObject", "a", "iframe", "animate", "set"}
LONG = 60_000  # milliseconds: data go through the model first
SMALLER = 3  # as many pixels of a side make one, where two pictures are compared
OTHER = 24  # grey levels between pixels that are not the same
ALIKE = 0.15  # of the difference between what is seen and an empty picture: edges of letters fall otherwise

# name, panel, word of the address, what says that it is there, texts that are seen
VIEWS = [
    ("tree", "history", "history:tree", ".tree-facts strong", ["#2 prune", "accuracy", "filters left"]),
    ("cards", "history", "history:cards", ".card.is-selected table", ["#2 prune", "selected", "points"]),
    ("architecture", "architecture", "", "#architecture-legend button", ["conv4", "convolution", "to be removed"]),
    ("plan", "plan", "", ".plan-dots", ["What is left", "conv1", "50%", "of 119 filters in the plan"]),
    ("confusion", "statistics", "statistics:confusion", "#confusion-pairs .ag-row", ["taken for", "% of label"]),
    ("recovery", "statistics", "statistics:recovery", "#recovery-capability .xtick text", ["Recovery capability"]),
    ("mask", "inspect", "inspect:mask", ".mask-counts td", ["non-zero", "with conv2", "conv2.weight", "output"]),
    ("maps", "inspect", "inspect:maps", "#maps-effect td", ["23 filters", "of 8 × 8", "gone", "before", "draft"]),
]  # fmt: skip


@pytest.fixture
def pruned(demo: Path) -> Path:
    """The bundled example with a smaller step, both of them measured, and a draft for it."""
    with Workspace.open(demo) as workspace:
        workspace.measure(1, threads=1)
        ACTIONS["prune"](workspace, 1, {"ratio": 0.3}, lambda *_: None, lambda: False)
        workspace.measure(2, threads=1)
    desk = Desk(demo)
    desk.edit(2, {"group": "conv2", "share": 0.5, "criterion": "l2", "view": "plan"}, None)
    desk.close()
    return demo


def saved(page: Page, panel: str, kind: str) -> Download:
    """The file that the menu of a panel makes."""
    frame = page.locator(f"#panel-{panel}")
    frame.locator(".panel-head").hover(position={"x": 3, "y": 3})
    frame.locator(".picture > summary").click()
    with page.expect_download() as found:
        frame.locator(f"[data-picture={kind}]").click()
    expect(frame.locator(".picture")).not_to_have_attribute("open", "")
    return found.value


def parsed(download: Download) -> tuple[ET.Element, set[str]]:
    """An SVG that stands alone, and all of its words; fails on anything that points or acts."""
    root = ET.parse(download.path()).getroot()  # noqa: S314 (a file of our own)
    assert root.tag == f"{SVG}svg"
    known = {node.get("id") for node in root.iter()}
    for node in root.iter():
        assert node.tag.removeprefix(SVG) not in FORBIDDEN
        for name, value in node.attrib.items():
            assert not name.startswith(("on", "class", "data-"))
            if name.endswith("href"):
                assert value.startswith(("#", "data:image/"))
                continue
            assert not [word for word in ("http", "var(", "color-mix", "NaN", "undefined") if word in value]
            assert {found[1:] for found in re.findall(r"url\(([^)]*)\)", value)} <= known
    return root, {"".join(node.itertext()) for node in root.iter(f"{SVG}text")}


def size_of(root: ET.Element) -> tuple[int, int]:
    return int(root.attrib["width"]), int(root.attrib["height"])


def pixels(download: Download) -> Image.Image:
    with Image.open(download.path()) as found:
        assert found.format == "PNG"
        return found.convert("RGB")


def _grey(picture: Image.Image) -> np.ndarray:
    size = (max(picture.width // SMALLER, 1), max(picture.height // SMALLER, 1))
    return np.asarray(picture.convert("L").resize(size, Image.Resampling.BOX), dtype=np.float64)


def difference(seen: Image.Image, found: Image.Image) -> float:
    """Share of pixels that differ, over that of an empty picture."""
    a, b = _grey(seen), _grey(found.resize(seen.size, Image.Resampling.BOX))
    ground = np.median(a)
    return float((abs(a - b) > OTHER).mean() / (abs(a - ground) > OTHER).mean())


def seen_of(page: Page, root: ET.Element, slot: str) -> Image.Image:
    """What the page shows where the picture was taken."""
    moved = re.fullmatch(r"translate\((-?\d+) (-?\d+)\)", root[-1].attrib["transform"])
    box = page.locator(slot).bounding_box()
    assert moved is not None
    assert box is not None
    page.mouse.move(2, 2)
    width, height = size_of(root)
    clip = {"x": box["x"] - int(moved[1]), "y": box["y"] - int(moved[2]), "width": width, "height": height}
    return Image.open(io.BytesIO(page.screenshot(clip=clip, animations="disabled"))).convert("RGB")  # type: ignore[arg-type]


def rows_of(download: Download) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path(download.path()).read_text(encoding="utf-8-sig"))))


def table(page: Page, button: str) -> Download:
    with page.expect_download() as found:
        page.locator(button).click()
    return found.value


def test_the_plan_as_picture_and_table(page: Page, open_page: Open, demo: Path) -> None:
    open_page(demo, views=[plan.VIEW])
    expect(page.locator('[data-preset="30%"]')).to_be_enabled()
    page.locator('[data-preset="30%"]').click()
    expect(page.locator("#plan-counts")).to_contain_text("50 of 168")
    expect(page.locator("[data-dash-is-loading=true]")).to_have_count(0)
    page.evaluate("document.querySelector('.plan-left h3').textContent = 'a <b> & \\u0001'")
    root, words = parsed(saved(page, "plan", "svg"))
    assert {"50 of 168 filters in the plan (30%)", "conv3", "a <b> & \N{REPLACEMENT CHARACTER}"} <= words
    width, height = size_of(root)
    room = page.locator("#slot-plan").bounding_box()
    assert room is not None
    assert 0.9 * room["width"] < width <= room["width"]
    assert 0.8 * room["height"] < height <= room["height"]
    download = saved(page, "plan", "png")
    assert download.suggested_filename == "plan-1.png"
    picture = pixels(download)
    assert picture.size == (2 * width, 2 * height)
    assert difference(seen_of(page, root, "#slot-plan"), picture) < ALIKE

    found = rows_of(table(page, "#plan-csv"))
    assert [row["layer"] for row in found] == ["conv1", "conv2", "conv3", "conv4"]
    assert [int(row["units"]) for row in found] == [24, 32, 48, 64]
    assert sum(int(row["goes"]) for row in found) == 50


def test_the_menu_is_used_with_the_keyboard(page: Page, open_page: Open, small: Path) -> None:
    open_page(small)
    summary = page.locator("#panel-plan .picture > summary")
    expect(summary).to_have_attribute("aria-label", "Save Plan as picture")
    summary.focus()
    assert page.evaluate("getComputedStyle(document.activeElement).opacity") == "1"
    page.keyboard.press("Enter")
    first = page.locator("#panel-plan [data-picture=svg]")
    expect(first).to_be_visible()
    page.keyboard.press("Tab")
    expect(first).to_be_focused()
    page.keyboard.press("Escape")
    expect(first).to_be_hidden()
    expect(summary).to_be_focused()


@pytest.mark.thorough
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_view_is_saved_as_it_is_seen(page: Page, open_page: Open, pruned: Path, *, dark: bool) -> None:
    if dark:
        page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 1600, "height": 1000})
    served = open_page(pruned, "?step=2&other=1&group=conv2")
    far: dict[str, float] = {}
    for name, panel, word, there, texts in VIEWS:
        page.goto(f"{served.url}?step=2&other=1&group=conv2&tab={word}")
        expect(page.locator(there).first).to_be_visible(timeout=LONG)
        expect(page.locator("#panel-plan .plan-dots")).to_be_visible(timeout=LONG)
        until(page, "document.querySelectorAll('[data-dash-is-loading=true]').length === 0")
        download = saved(page, panel, "svg")
        assert download.suggested_filename == f"{name}-2.svg"
        root, words = parsed(download)
        assert [text for text in texts if not any(text in line for line in words)] == []
        ground = next(node for node in root if node.tag == f"{SVG}rect")
        assert ground.attrib["fill"] == (DARK if dark else LIGHT).surface
        picture = pixels(saved(page, panel, "png"))
        assert picture.size == tuple(2 * side for side in size_of(root))
        far[name] = difference(seen_of(page, root, f"#slot-{name}"), picture)
    assert {name: share for name, share in far.items() if share > ALIKE} == {}


@pytest.mark.thorough
def test_every_table_is_written_as_exact_as_it_is_known(page: Page, open_page: Open, pruned: Path) -> None:
    served = open_page(pruned, "?step=2&other=1&group=conv2&tab=statistics:metrics drawer:settings")
    desk = Desk(pruned)
    with desk.workspace() as workspace:
        steps = [workspace.steps.get(number) for number in (1, 2)]
        _, coupling = desk.analysis(workspace, steps[1])
        groups = group_rows(coupling, CostModel(coupling))
    desk.close()
    page.get_by_text("Group by group").click()
    expect(page.locator("#settings-groups .ag-row").first).to_be_visible(timeout=LONG)
    found = rows_of(table(page, "#settings-groups-csv"))
    assert [float(row["MACs"]) for row in found] == [row["macs"] for row in groups]
    page.keyboard.press("Escape")
    expect(page.locator("#metrics-table .ag-row").first).to_be_visible(timeout=LONG)
    metrics = {row["metric"]: float(row["now"]) for row in rows_of(table(page, "#metrics-csv"))}
    known = comparison_rows(steps[1], steps[0])
    assert metrics == {row["label"]: row["value"] for row in known}

    page.goto(f"{served.url}?step=2&group=conv2&tab=history:cards inspect:mask")
    expect(page.locator(".mask-counts td").first).to_be_visible(timeout=LONG)
    counts = rows_of(table(page, "#mask-csv"))
    assert [row["of"] for row in counts] == ["this weight", "with conv2", "model"]
    assert all(
        float(row["share"]) == int(row["pruned"]) / (int(row["pruned"]) + int(row["non-zero"])) for row in counts
    )
    tree = rows_of(table(page, "#cards-csv"))
    assert [(int(row["step"]), float(row["accuracy"])) for row in tree] == [
        (step.number, step.metrics["accuracy"]) for step in steps
    ]
    page.goto(f"{served.url}?step=2&group=conv2&tab=inspect:maps")
    expect(page.locator("#maps-effect td").first).to_be_visible(timeout=LONG)
    shares = [float(row["now"]) for row in rows_of(table(page, "#maps-csv"))]
    assert len(shares) == 5
    assert 0.9 < sum(shares) <= 1.0001
