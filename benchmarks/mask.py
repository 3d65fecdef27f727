"""How fast masks and feature maps are, in a real browser.

    python -m benchmarks.mask [--repeats 5] [--only 2.3M] [--markdown] [--json FILE]

The app is served by this process and driven in Chromium at 1280x800 with the mask's panel as large as the page. Times
are the browser's own, from the event (the selection, the release of the mouse, the key) to the frame after the last
change of the view; *picture* ends when the new picture was decoded and everything else may still come. Figures are
medians, "worst" the largest.

- *first*: the weight is drawn for the first time since the server began; its model was analysed before
- *again*: it is drawn again, after another weight
- *zoom*: a part of it is drawn again after a rectangle was dragged, and the whole of it afterwards
- *rectangle*, *lasso*, *kernels*, *units*, *header*, *values*, *key*: a brush, until the picture and all counts say so
- *cost*: a brush of units, until the figures in the top bar say so; *undo*: by the button there. Nothing is demanded
  of these two, for which all views of the page are at work
- *maps*: 512 feature maps of an instance that was not shown before, and those of the next one
- *CPU*: of the server, for one event

Two workspaces with random weights: a convolution 512 x 512 x 3 x 3 (2.3M weights) and a layer 4096 x 4096 (16.8M).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from playwright.sync_api import Browser, Page, sync_playwright

from benchmarks.app import launched, until
from benchmarks.tables import emit, save_json
from dash_ui.app import content_policy, create
from dash_ui.serving import Server

CALM = 500  # milliseconds without a change, after which the last one was the last
LASSO = 24  # corners
# Notes when something was asked for, when a new picture was decoded, and the frame after the last change.
WATCH = """
window.benchmark = { begin: 0, picture: 0, changed: 0, top: 0, maps: 0 };
const near = (target, what) => target.closest && target.closest(what);
const frame = (name) => requestAnimationFrame(() => { benchmark[name] = performance.now(); });
document.addEventListener("load", (event) => {
  if (near(event.target, "#mask-graph")) { frame("picture"); frame("changed"); }
}, true);
document.addEventListener("DOMContentLoaded", () => {
  localStorage.setItem("onnxprune-toured", "yes");
  new MutationObserver((all) => {
    for (const one of all) {
      const at = one.target.nodeType === 1 ? one.target : one.target.parentElement;
      if (!at || near(at, "#mask-tip, #mask-layer, .modebar, [data-dash-is-loading]")) continue;
      if (near(at, "#mask-body")) frame("changed");
      if (near(at, "#top-summary")) frame("top");
      if (near(at, "#maps-body")) frame("maps");
    }
  }).observe(document.body, { childList: true, subtree: true, characterData: true, attributes: true,
    attributeFilter: ["d", "href", "xlink:href", "x", "y", "width", "height", "transform", "points", "hidden"] });
  for (const kind of ["mouseup", "keydown"]) {
    document.addEventListener(kind, () => { benchmark.begin = performance.now(); }, true);
  }
});
"""
PLACES = """([x, y]) => {
  const gd = document.querySelector("#mask-graph .js-plotly-plot");
  const { xaxis, yaxis } = gd._fullLayout;
  const box = gd.getBoundingClientRect();
  return [box.left + xaxis._offset + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)];
}"""
DRAWN = "document.querySelector('#mask-graph image') && document.querySelector('.mask-counts')"


@dataclass(frozen=True)
class Figure:
    """Milliseconds of one thing, what is wanted, and CPU time of the server beside them."""

    layer: str
    what: str
    wanted: float | None
    values: tuple[float, ...]
    cpu: tuple[float, ...]
    picture: tuple[float, ...] = ()

    @property
    def usual(self) -> float:
        return median(self.values)

    @property
    def passed(self) -> bool:
        return self.wanted is None or self.usual < self.wanted


@dataclass(frozen=True)
class Case:
    """A workspace, how large its weight is, and how fast it is wanted: drawn, and drawn again (milliseconds)."""

    name: str
    make: Callable[[Path], None]
    rows: int
    columns: int
    kernel: int
    drawn: float
    again: float


def convolution(folder: Path) -> None:
    """Three convolutions, the second with 512 x 512 x 3 x 3 weights, and pictures to put through them."""
    rng = np.random.default_rng(0)
    shapes = ((512, 3, 3, 3), (512, 512, 3, 3), (16, 512, 1, 1))
    nodes, weights, at = [], [], "x"
    for number, shape in enumerate(shapes):
        values = rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))
        weights.append(numpy_helper.from_array(values, f"conv{number}.weight"))
        pads = [shape[2] // 2] * 4
        nodes += [
            helper.make_node("Conv", [at, f"conv{number}.weight"], [f"a{number}"], name=f"conv{number}", pads=pads),
            helper.make_node("Relu", [f"a{number}"], [f"b{number}"], name=f"relu{number}"),
        ]
        at = f"b{number}"
    nodes += [
        helper.make_node("GlobalAveragePool", [at], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["y"], name="flatten"),
    ]
    _save(folder, nodes, weights, ["batch", 3, 16, 16], 16)
    labels = rng.integers(0, 16, 64)
    np.savez(folder / "data.npz", x=rng.standard_normal((64, 3, 16, 16), np.float32), y=labels)


def dense(folder: Path) -> None:
    """Three matrix products, the second with 4096 x 4096 weights."""
    rng = np.random.default_rng(0)
    nodes, weights, at = [], [], "x"
    for number, shape in enumerate(((4096, 64), (4096, 4096), (10, 4096))):
        values = rng.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[1]))
        weights += [
            numpy_helper.from_array(values, f"fc{number}.weight"),
            numpy_helper.from_array(np.zeros(shape[0], np.float32), f"fc{number}.bias"),
        ]
        given = [at, f"fc{number}.weight", f"fc{number}.bias"]
        nodes.append(helper.make_node("Gemm", given, [f"a{number}"], name=f"fc{number}", transB=1))
        nodes.append(helper.make_node("Relu", [f"a{number}"], [f"b{number}"], name=f"relu{number}"))
        at = f"b{number}"
    nodes[-1].output[0] = "y"
    _save(folder, nodes, weights, ["batch", 64], 10)


def _save(
    folder: Path, nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], shape: list[str | int], classes: int
) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", classes])
    graph = helper.make_graph(nodes, "large", [x], [y], weights)
    folder.mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "net.onnx")


CASES = (
    Case("2.3M", convolution, 1536, 1536, 3, 500, 200),
    Case("16.8M", dense, 4096, 4096, 1, 1500, 300),
)


@contextmanager
def opened(browser: Browser, folder: Path, query: str) -> Iterator[Page]:
    """A page on the folder, served by a server that has just begun, with the mask as large as it gets."""
    app = create(folder, looks_ahead=False)
    with Server(app.server, port=0, content_policy=content_policy(app)) as server:
        server.start()
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        page = context.new_page()
        page.add_init_script(WATCH)
        page.goto(server.url + query)
        until(page, "!document.querySelector('#plan-range')?.disabled")
        page.evaluate("onnxprune.maximise(document.getElementById('panel-inspect'))")
        yield page
        context.close()
    app.server.config["desk"].close()


def calm(page: Page, what: str) -> None:
    """Wait until the view did not change for a while."""
    until(
        page,
        f"performance.now() - Math.max(benchmark.{what}, benchmark.begin) > {CALM}"
        " && !document.querySelector('[data-dash-is-loading=true]')",
    )


def timed(page: Page, does: Callable[[], object], what: str = "changed") -> tuple[float, float, float]:
    """Milliseconds from an event to the last change, to the picture, and of the server's CPU."""
    page.evaluate(f"benchmark.picture = benchmark.{what} = 0")
    before = time.process_time()
    does()
    until(page, f"benchmark.{what} > benchmark.begin")
    calm(page, what)
    used = 1000 * (time.process_time() - before)
    begin, ended, picture = page.evaluate(f"[benchmark.begin, benchmark.{what}, benchmark.picture]")
    return ended - begin, picture - begin, used


def select(page: Page, group: str) -> tuple[float, float, float]:
    """Another group, and with it another weight."""
    return timed(page, lambda: page.evaluate(
        f"(benchmark.begin = performance.now(), onnxprune.select({{ group: '{group}' }}))"))  # fmt: skip


def choose(page: Page, what: str, word: str) -> None:
    """One of the tools."""
    page.locator(f"#mask-{what} label", has_text=word).click()


def click(page: Page, what: str) -> None:
    """A button, from the moment at which the mouse is released."""
    page.locator(what).click()


def drag(page: Page, *corners: tuple[float, float]) -> Callable[[], None]:
    """Along these places of the matrix; all but the last are passed at once."""
    places = [page.evaluate(PLACES, list(corner)) for corner in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place)
    page.wait_for_timeout(100)
    return page.mouse.up


def brushes(page: Page, case: Case, number: int) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Every kind of brush, each at a place of its own in each round."""
    high, wide = case.rows, case.columns
    top = high * (0.05 + 0.12 * number)
    choose(page, "verb", "Remove")
    choose(page, "snap", "weights")
    choose(page, "tool", "Rectangle")
    yield "rectangle", timed(page, drag(page, (wide * 0.1, top), (wide * 0.6, top + high * 0.08)))
    choose(page, "tool", "Lasso")
    angles = np.linspace(0, 2 * np.pi, LASSO)
    round_ = [(wide * (0.75 + 0.1 * np.cos(a)), top + high * (0.05 + 0.05 * np.sin(a))) for a in angles]
    yield "lasso", timed(page, drag(page, *round_))
    choose(page, "tool", "Rectangle")
    choose(page, "snap", "kernels")
    yield "kernels", timed(page, drag(page, (wide * 0.9, top), (wide * 0.95, top + high * 0.05)))
    yield "undo", timed(page, lambda: click(page, "#top-undo"))
    choose(page, "snap", "weights")
    page.locator("#mask-frame").focus()
    yield "key", timed(page, lambda: page.keyboard.press("Space"))
    yield "values", timed(page, values(page, number))


def values(page: Page, number: int) -> Callable[[], None]:
    """A range of the histogram."""
    box = page.locator("#mask-histogram .nsewdrag").first.bounding_box()
    if box is None:
        raise SystemExit("there is no histogram")
    at = box["x"] + box["width"] * (0.01 + 0.05 * number)
    page.mouse.move(at, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(at + box["width"] * 0.05, box["y"] + box["height"] / 2, steps=3)
    page.wait_for_timeout(100)
    return page.mouse.up


def units(page: Page, case: Case, number: int) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Brushes of units, from the middle and from the edge."""
    step = case.rows * 0.03
    choose(page, "snap", "units")
    top = case.rows * (0.05 + 0.12 * number)
    yield "units", timed(page, drag(page, (case.columns * 0.2, top), (case.columns * 0.3, top + step)))
    choose(page, "snap", "weights")
    top += 2 * step
    x, y = page.evaluate(PLACES, [-0.5, top])
    page.mouse.move(x - 12, y)
    page.mouse.down()
    page.mouse.move(x - 12, page.evaluate(PLACES, [0, top + step])[1], steps=3)
    yield "header", timed(page, page.mouse.up)
    choose(page, "snap", "units")
    top += 2 * step
    yield "cost", timed(page, drag(page, (case.columns * 0.2, top), (case.columns * 0.3, top + step)), "top")
    choose(page, "snap", "weights")


def zooms(page: Page, case: Case, number: int) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """In, further in, and out."""
    choose(page, "tool", "Zoom")
    low, high = 0.1 + 0.05 * number, 0.5 + 0.05 * number
    corners = [(case.columns * share, case.rows * share) for share in (low, high)]
    yield "zoom", timed(page, drag(page, *corners))
    middle = (low + high) / 2
    corners = [(case.columns * share, case.rows * share) for share in (middle - 0.02, middle + 0.02)]
    yield "zoom", timed(page, drag(page, *corners))
    yield "zoom", timed(page, lambda: click(page, "#mask-whole"))
    choose(page, "tool", "Rectangle")


def masks(browser: Browser, place: Path, case: Case, repeats: int) -> Iterator[Figure]:
    """All figures of one weight."""
    folder = place / case.name
    case.make(folder)
    found: dict[str, list[tuple[float, float, float]]] = {}
    word = "conv" if case.kernel > 1 else "fc"
    for number in range(repeats):
        with opened(browser, folder, f"?step=1&group={word}0&tab=inspect:mask") as page:
            until(page, DRAWN)
            calm(page, "changed")
            found.setdefault("first", []).append(select(page, f"{word}1"))
            select(page, f"{word}0")
            found.setdefault("again", []).append(select(page, f"{word}1"))
            for what in (zooms, brushes):
                for name, value in what(page, case, number % 5):
                    found.setdefault(name, []).append(value)
            page.locator("#plan-clear").evaluate("(button) => button.click()")
            calm(page, "changed")
            for name, value in units(page, case, number % 5):
                found.setdefault(name, []).append(value)
            page.locator("#plan-clear").evaluate("(button) => button.click()")
            calm(page, "changed")
    for name, values_ in found.items():
        limits = {"first": case.drawn, "again": case.drawn, "zoom": case.again, "cost": None, "undo": None}
        all_, pictures, cpu = (tuple(round(one, 1) for one in column) for column in zip(*values_, strict=True))
        pictures = tuple(one for one in pictures if one > 0)
        yield Figure(case.name, name, limits.get(name, 200), all_, cpu, () if name == "cost" else pictures)


def maps(browser: Browser, place: Path, repeats: int) -> Iterator[Figure]:
    """Feature maps of 512 channels."""
    folder = place / "maps"
    convolution(folder)
    found: dict[str, list[tuple[float, float, float]]] = {"maps": [], "next maps": []}
    for _ in range(repeats):
        with opened(browser, folder, "?step=1&group=conv1&tab=inspect:mask") as page:
            until(page, DRAWN)
            calm(page, "changed")
            opens = "(benchmark.begin = performance.now(), onnxprune.openTab('inspect', 'maps'))"
            shown = "document.querySelectorAll('#maps-units .maps-unit').length === 512"
            found["maps"].append(timed(page, partial(page.evaluate, opens), "maps"))
            until(page, shown)
            found["next maps"].append(timed(page, partial(click, page, "#maps-next"), "maps"))
    for name, values_ in found.items():
        all_, _, cpu = (tuple(round(one, 1) for one in column) for column in zip(*values_, strict=True))
        yield Figure("512 channels", name, 1000, all_, cpu)


def row(figure: Figure) -> list[str]:
    """A row of the table."""
    picture = f"{median(figure.picture):.0f}" if figure.picture else ""
    return [
        f"{figure.layer}: {figure.what}", f"{figure.usual:.0f}", f"{max(figure.values):.0f}", picture,
        f"{median(figure.cpu):.0f}", str(len(figure.values)), f"< {figure.wanted:.0f}" if figure.wanted else "",
        ("pass" if figure.passed else "FAIL") if figure.wanted else "",
    ]  # fmt: skip


def main() -> int:
    """Measure, print, and fail where something takes longer than is wanted."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=[*(case.name for case in CASES), "maps"])
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as place, sync_playwright() as playwright:
        browser = launched(playwright)
        for case in CASES:
            if arguments.only in (None, case.name):
                figures += masks(browser, Path(place), case, arguments.repeats)
        if arguments.only in (None, "maps"):
            figures += maps(browser, Path(place), arguments.repeats)
        browser.close()
    columns = ("", "ms", "worst", "picture", "CPU", "times", "wanted", "result")
    load = os.getloadavg()[0]
    emit(f"Masks in Chromium (load of the machine {load:.1f} on {os.cpu_count()} cores)", columns,
         [row(figure) for figure in figures], as_markdown=arguments.markdown)  # fmt: skip
    save_json(arguments.json, [asdict(figure) for figure in figures])
    return 0 if all(figure.passed for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
