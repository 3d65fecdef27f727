"""The architecture: figures as data, places for the browser, what is left of the original."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from onnx import ModelProto

from dash_ui.desk import Desk
from dash_ui.figures.architecture import architecture, kinds_in, sample
from dash_ui.rows.architecture import hover_text, overlay_of, places, shares_left, sketch_of
from dash_ui.rows.preview import preview_of, preview_rows
from dash_ui.theme import DARK, LIGHT
from onnxprune.drawing import Drawing, Overlay, Sketch, arrange, counted, sketch
from onnxprune.experiment import analyse, prune
from onnxprune.model import from_proto
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import cnn
from tests.nets import export


def sketched(proto: ModelProto) -> Sketch:
    return sketch(*analyse(from_proto(proto)))


@pytest.fixture
def drawing() -> Drawing:
    return arrange(sketched(cnn()), 640)


def drawn(drawing: Drawing, overlay: Overlay | None = None, **left: Any) -> go.Figure:
    rows = places(drawing, {int(key[1:]): share for key, share in left.items()}, overlay)
    return architecture(drawing, LIGHT, rows, overlay=overlay)


def trace(figure: go.Figure, name: str) -> Any:
    (found,) = [trace for trace in figure.data if trace.name == name]
    return found


def rectangles(found: Any) -> list[tuple[float, float]]:
    """Left and right of each closed line."""
    parts: list[list[float]] = [[]]
    for x in found.x:
        if x is None:
            parts.append([])
        else:
            parts[-1].append(x)
    return [(min(part), max(part)) for part in parts if part]


class TestFigure:
    def test_boxes_by_type(self, drawing: Drawing) -> None:
        figure = drawn(drawing)
        assert len(rectangles(trace(figure, "kind convolution"))) == 2
        assert len(rectangles(trace(figure, "kind linear"))) == 1
        assert trace(figure, "kind convolution").fill == "toself"
        assert list(trace(figure, "counts").text) == ["in", "8", "16", "P", "3", "out"]
        assert list(trace(figure, "names").text) == ["x", "conv1", "conv2", "fc", "scores"]

    def test_every_box_notices_the_pointer_all_over(self, drawing: Drawing) -> None:
        hits = trace(drawn(drawing), "hits")
        for number, place in enumerate(drawing.placed):
            mine = [(x, y) for x, y, row in zip(hits.x, hits.y, hits.customdata, strict=True) if row[0] == number]
            reach = hits.marker.size / 2
            assert min(x for x, _ in mine) - reach <= place.x - place.width / 2 + 4
            assert max(y for _, y in mine) + reach >= place.y + place.height / 2 - 4
            assert all(abs(x - place.x) < place.width / 2 for x, _ in mine)

    def test_what_the_original_had_is_an_outline(self, drawing: Drawing) -> None:
        whole, left = drawn(drawing), drawn(drawing, _1=0.5)
        (a, b), (c, d) = (rectangles(trace(f, "kind convolution"))[0] for f in (whole, left))
        assert (d - c) == pytest.approx((b - a) / 2, abs=0.2)
        assert rectangles(trace(whole, "empty")) == rectangles(trace(left, "empty"))

    def test_pixels_are_those_of_the_drawing(self, drawing: Drawing) -> None:
        layout = drawn(drawing).layout
        assert (layout.xaxis.range, layout.yaxis.range) == ((0, drawing.width), (drawing.height, 0))

    def test_a_metric_gives_the_colours(self, drawing: Drawing) -> None:
        figure = drawn(drawing, counted(drawing.sketch, "macs"))
        colours = [t.fillcolor for t in figure.data if t.name == "kind convolution"]
        assert len(colours) == 2
        assert LIGHT.ramp[-1] in colours

    def test_frames(self) -> None:
        figure = drawn(arrange(sketched(export("vit")), 640, collapse=True))
        assert list(trace(figure, "repeats").text) == ["×2"]
        assert trace(figure, "repeats").customdata[0][:2] == [-1, 0]
        assert len(figure.layout.shapes) >= 1

    def test_dark(self, drawing: Drawing) -> None:
        figure = architecture(drawing, DARK, places(drawing, {}, None))
        assert trace(figure, "empty").fillcolor == DARK.surface
        assert trace(figure, "kind linear").fillcolor != trace(drawn(drawing), "kind linear").fillcolor

    def test_the_same_again(self, drawing: Drawing) -> None:
        assert drawn(drawing).to_json() == drawn(drawing).to_json()

    def test_legend(self, drawing: Drawing) -> None:
        assert [word for _, word, _ in kinds_in(drawing, LIGHT)] == ["convolution", "linear", "pooling"]

    def test_names_are_taken_literally(self) -> None:
        assert sample("<b>x") == "&lt;b>x"


class TestRows:
    def test_places(self, drawing: Drawing) -> None:
        rows = places(drawing, {2: 0.5}, None)
        assert [row["groups"] for row in rows] == [[[]], [["conv1"]], [["conv2"]], [[]], [[]], [[]]]
        assert [row["kept"] for row in rows] == [1, 1, 0.5, 1, 1, 1]
        assert rows[2]["carries"] == ["conv1", "conv2"]
        assert rows[1]["word"] == "filters"

    def test_hover(self, drawing: Drawing) -> None:
        box = drawing.sketch.boxes[2]
        lines = hover_text([box], 0.5, None).split("<br>")
        assert lines[:4] == [
            "<b>conv2</b>", "convolution 3×3", "16 filters of 32 in the original", "output 1 × 16 × 8 × 8",
        ]  # fmt: skip
        assert "1,168 parameters, 73,728 MACs" in lines
        assert "2 nodes: Conv, Relu" in lines
        assert "nothing of it can be removed" in hover_text([drawing.sketch.boxes[4]], 1.0, None)

    def test_hover_of_a_repeated_block(self) -> None:
        found = sketched(export("vit"))
        boxes = [box for box in found.boxes if box.kind == "attention"]
        assert hover_text(boxes, 1.0, None).startswith(f"<b>{boxes[0].name}</b> and 1 equal ones")

    def test_a_name_with_markup(self) -> None:
        proto = cnn()
        proto.graph.node[4].name = "<b>pool"
        assert "<b>&lt;b&gt;pool</b>" in hover_text([sketched(proto).boxes[3]], 1.0, None)

    def test_what_is_left_of_the_original(self) -> None:
        model = from_proto(cnn())
        small = prune(model, ratio=0.5).model
        left = shares_left(sketch(*analyse(small)), sketch(*analyse(model)))
        assert set(left) == {1, 2}
        assert left[2] == 0.5
        assert shares_left(sketch(*analyse(model)), sketch(*analyse(model))) == {}


@pytest.fixture
def opened(small: Path) -> Iterator[tuple[Desk, Workspace]]:
    desk = Desk(small)
    with desk.workspace(scan=True) as workspace:
        yield desk, workspace


class TestWorkspace:
    def test_overlays(self, opened: tuple[Desk, Workspace]) -> None:
        desk, workspace = opened
        step = workspace.steps.all()[0]
        assert sketch_of(desk, workspace, step) is sketch_of(desk, workspace, step)
        for name in ("parameters", "macs", "sparsity", "l2"):
            overlay, why = overlay_of(desk, workspace, step, name, None)
            assert overlay is not None
            assert (bool(overlay.values), why) == (True, "")
        overlay, why = overlay_of(desk, workspace, step, "sensitivity", None)
        assert (overlay, bool(re.search("not measured", why))) == (None, True)
        assert overlay_of(desk, workspace, step, "", None) == (None, "")

    def test_what_goes_along(self, opened: tuple[Desk, Workspace]) -> None:
        desk, workspace = opened
        found = preview_of(desk, workspace, workspace.steps.all()[0], "conv1", [3])
        rows = preview_rows(found)
        assert [(row["layer"], row["role"], row["index"]) for row in rows] == [
            ("conv1", "produces", [3]), ("conv1", "goes along", [3]), ("conv2", "reads", [3]),
        ]  # fmt: skip
        assert found.macs == 64 * (9 + 16 * 9)
