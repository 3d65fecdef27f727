"""How fast the web app is, in a real browser.

    python -m benchmarks.app [--repeats 5] [--steps 200] [--markdown] [--json FILE]

The app is served by this process, warm (the page was opened before), and driven in Chromium at 1280x800 (`$CHROMIUM`,
or the one that is installed). Milliseconds are the browser's own, from the beginning of the navigation, of the click
or of the move; each figure is the median of the repeats, "worst" the largest.

- *panels*: all panels of the page are there; *plots*: the tree, the architecture and the units are drawn
- *select*: another step is selected; the last change that any view shows because of it
- *move*: the threshold is dragged over 4,224 units; what the browser does for one move
- *follow-up*: what would be left of the model at that place, asked of the server, until its answer is there

Three workspaces: the bundled example, trained and pruned (five steps, measured); ResNet-50 with random weights and
many steps, whose models are all the original's; and the convolutions of VGG-16 with random weights.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from playwright.sync_api import Browser, Page, Playwright, Request, sync_playwright

from benchmarks.tables import emit, save_json
from dash_ui.app import content_policy, create
from dash_ui.cli import unpack
from dash_ui.serving import Server
from onnxprune.experiment import analyse
from onnxprune.plan import Plan
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.values import NewStep
from onnxprune.workspace.workspace import Workspace
from tests.nets import export

VGG = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WORK = (("fine-tune", 1, {"epochs": 2}), ("prune", 2, {"ratio": 0.5}), ("fine-tune", 3, {"epochs": 2}),
        ("prune", 2, {"ratio": 0.25}))  # fmt: skip
MOVES = 40
PATIENCE = 120.0  # seconds
# Notes in every frame what is there for the first time, and the last moment at which the page changed.
WATCH = """
window.benchmark = { changed: 0 };
const plot = (id) => {
  const found = document.querySelector(`#${id} .js-plotly-plot`);
  return (found && found._fullLayout && found.data) || [];
};
const seen = {
  panels: () => document.querySelectorAll(".panel").length > 3,
  plots: () => plot("tree-graph").length > 2 && plot("architecture-graph").length > 2 && plot("plan-graph").length > 1
    && !document.getElementById("plan-range").disabled,
};
const look = () => {
  for (const name of Object.keys(seen)) if (!(name in benchmark) && seen[name]()) benchmark[name] = performance.now();
  requestAnimationFrame(look);
};
document.addEventListener("DOMContentLoaded", () => {
  localStorage.setItem("onnxprune-toured", "yes");
  look();
  new MutationObserver((all) => {
    const shown = all.some((one) => one.target.closest && one.target.closest("#desk, .top"));
    if (shown) benchmark.changed = performance.now();
  }).observe(document.body, { childList: true, subtree: true, attributes: true, characterData: true });
});
"""
QUIET = "performance.now() - benchmark.changed > 700 && !document.querySelector('[data-dash-is-loading=true]')"


@dataclass(frozen=True)
class Figure:
    """Milliseconds of one thing, and what is wanted."""

    workspace: str
    what: str
    wanted: float
    values: tuple[float, ...]

    @property
    def usual(self) -> float:
        return median(self.values)

    @property
    def passed(self) -> bool:
        return self.usual < self.wanted


def example(folder: Path) -> None:
    """The bundled example, with five steps that were measured."""
    unpack(folder)
    with Workspace.open(folder) as workspace:
        workspace.measure(1)
        for action, step, options in WORK:
            ACTIONS[action](workspace, step, options, lambda *_: None, lambda: False)


def resnet(folder: Path, steps: int) -> None:
    """ResNet-50 with a tree of so many steps: every fifth continues the one before, others begin at the root."""
    folder.mkdir()
    onnx.save(export("resnet50"), folder / "resnet50.onnx")
    with Workspace.open(folder) as workspace:
        first = workspace.steps.get(1)
        _, coupling = analyse(workspace.model(1))
        for number in range(2, steps + 1):
            share, parent = 0.05 + 0.8 * number / steps, number - 1 if number % 5 == 0 else 1
            gone = {group.name: np.arange(int(share * group.units)) for group in coupling.groups}
            plan = Plan(first.model_hash, gone, {group.name: group.units for group in coupling.groups})
            metrics = {("accuracy", ""): 1 - share**3, ("parameters", ""): 2.5e7 * (1 - share)}
            command = ("onnxprune", "ws", "prune", str(parent), "--set", f"ratio={share:.3f}")
            made = NewStep("prune", first.model, first.model_hash, parent=parent, command=command, metrics=metrics,
                           plan=workspace.blobs.put(plan.to_json().encode()))  # fmt: skip
            with workspace.database.writing() as connection:
                workspace.steps.insert(connection, made)


def vgg(folder: Path) -> None:
    """Thirteen convolutions with 4,224 filters in all."""
    rng, nodes, weights, at, channels = np.random.default_rng(0), [], [], "x", 3
    for number, filters in enumerate(VGG):
        values = rng.standard_normal((filters, channels, 3, 3), np.float32) / np.sqrt(9 * channels)
        weights.append(numpy_helper.from_array(values, f"w{number}"))
        nodes += [
            helper.make_node("Conv", [at, f"w{number}"], [f"a{number}"], name=f"conv{number}", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"a{number}"], [f"b{number}"], name=f"relu{number}"),
        ]
        at, channels = f"b{number}", filters
    last = (rng.standard_normal((channels, 10), np.float32) / 20).astype(np.float32)
    weights.append(numpy_helper.from_array(last, "last"))
    nodes += [
        helper.make_node("GlobalAveragePool", [at], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("MatMul", ["flat", "last"], ["y"], name="classifier"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 32, 32])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph(nodes, "vgg16", [x], [y], weights)
    folder.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "vgg.onnx")


@contextmanager
def opened(browser: Browser, folder: Path) -> Iterator[tuple[Page, str]]:
    """A page on the served folder, opened once before, so that models are analysed and scripts are compiled."""
    app = create(folder, looks_ahead=False)
    with Server(app.server, port=0, content_policy=content_policy(app)) as server:
        server.start()
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        page = context.new_page()
        page.add_init_script(WATCH)
        page.goto(server.url)
        until(page, "'plots' in benchmark")
        until(page, QUIET)
        yield page, server.url
        context.close()
    app.server.config["desk"].close()


def until(page: Page, expression: str) -> None:
    """Wait until it is true."""
    ends = time.monotonic() + PATIENCE
    while not page.evaluate(expression):
        if time.monotonic() > ends:
            raise SystemExit(f"the page never came so far: {expression}")
        page.wait_for_timeout(20)


def paints(page: Page, url: str, repeats: int) -> dict[str, list[float]]:
    """Milliseconds until panels and plots are there."""
    found: dict[str, list[float]] = {"panels": [], "plots": []}
    for _ in range(repeats):
        page.goto(url)
        until(page, "'plots' in benchmark")
        for name, values in found.items():
            values.append(page.evaluate(f"benchmark.{name}"))
        until(page, QUIET)
    return found


def selects(page: Page, numbers: Sequence[int], repeats: int) -> list[float]:
    """Milliseconds until the last change after a step was selected; each was shown before."""
    found = []
    for round_ in range(repeats + 1):
        for number in numbers:
            begin = page.evaluate(f"(onnxprune.select({{ step: {number} }}), performance.now())")
            page.wait_for_timeout(100)
            until(page, QUIET)
            if round_:
                found.append(page.evaluate("benchmark.changed") - begin)
    return found


def drags(page: Page, repeats: int) -> tuple[list[float], list[float]]:
    """Milliseconds of moves in the browser, and of the answers of the server to them."""
    answers: list[float] = []

    def told(request: Request) -> None:
        if "_dash-update" in request.url and '"plan-preview.data"' in (request.post_data or ""):
            answers.append(request.timing["responseEnd"] - request.timing["requestStart"])

    page.on("requestfinished", told)
    page.evaluate("performance.clearMeasures('plan-move')")
    box = page.locator("#plan-range").bounding_box()
    if box is None:
        raise SystemExit("there is no slider")
    y = box["y"] + box["height"] / 2
    for _ in range(repeats):
        page.mouse.move(box["x"] + 8, y)
        page.mouse.down()
        for place in np.linspace(0.05, 0.9, MOVES):
            page.mouse.move(box["x"] + 8 + float(place) * (box["width"] - 16), y)
            page.wait_for_timeout(20)
        page.mouse.up()
        until(page, QUIET)
    moves = page.evaluate("performance.getEntriesByName('plan-move').map((one) => one.duration)")
    return moves, answers


def measure(browser: Browser, place: Path, repeats: int, steps: int) -> Iterator[Figure]:
    """All figures."""
    example(place / "example")
    with opened(browser, place / "example") as (page, url):
        found = paints(page, url, repeats)
        yield Figure("example", "panels", 2000, tuple(found["panels"]))
        yield Figure("example", "plots", 2000, tuple(found["plots"]))
        yield Figure("example", "select", 500, tuple(selects(page, (3, 5, 1), repeats)))
    resnet(place / "resnet", steps)
    with opened(browser, place / "resnet") as (page, url):
        found = paints(page, f"{url}?step={steps}", repeats)
        yield Figure(f"ResNet-50, {steps} steps", "panels", 4000, tuple(found["panels"]))
        yield Figure(f"ResNet-50, {steps} steps", "plots", 4000, tuple(found["plots"]))
        yield Figure(f"ResNet-50, {steps} steps", "select", 500, tuple(selects(page, (7, 12, 50), repeats)))
    vgg(place / "vgg")
    with opened(browser, place / "vgg") as (page, _):
        moves, answers = drags(page, repeats)
        yield Figure("4,224 units", "move", 50, tuple(moves))
        yield Figure("4,224 units", "follow-up", 300, tuple(answers))


def chromium() -> str | None:
    """The browser: ``$CHROMIUM``, one that is installed, or None for Playwright's own."""
    return os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)


def launched(playwright: Playwright) -> Browser:
    """A browser that draws without a GPU, as in a container."""
    return playwright.chromium.launch(
        executable_path=chromium(), args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    )


def row(figure: Figure) -> list[str]:
    """A row of the table."""
    name, usual, worst = f"{figure.workspace}: {figure.what}", figure.usual, max(figure.values)
    result = "pass" if figure.passed else "FAIL"
    return [name, f"{usual:.0f}", f"{worst:.0f}", str(len(figure.values)), f"< {figure.wanted:.0f}", result]


def main() -> int:
    """Measure, print, and fail where something takes longer than is wanted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        browser = launched(playwright)
        figures = list(measure(browser, Path(place), arguments.repeats, arguments.steps))
        browser.close()
    columns = ("", "ms", "worst", "times", "wanted", "result")
    load = os.getloadavg()[0]
    emit(f"The app in Chromium (load of the machine {load:.1f} on {os.cpu_count()} cores)", columns,
         [row(figure) for figure in figures], as_markdown=arguments.markdown)  # fmt: skip
    save_json(arguments.json, [asdict(figure) for figure in figures])
    return 0 if all(figure.passed for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
