"""The picture: valid XML whatever names hold, numbers and shares as they should be."""

from __future__ import annotations

from collections.abc import Callable
from xml.etree import ElementTree as ET

import onnx
import pytest

from onnxprune.drawing import Marks, Sketch, arrange, counted, fitting, page, ramp, share_gone, svg
from tests.cli.conftest import cnn
from tests.drawing.conftest import analysed

Net = Callable[..., Sketch]
SPACE = "{http://www.w3.org/2000/svg}"


def parsed(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - our own


def texts(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SPACE}text")]


@pytest.mark.parametrize("dark", [False, True])
def test_a_chain(dark: bool) -> None:
    _, _, found = analysed(cnn())
    root = parsed(svg(arrange(found, 640), dark=dark))
    assert root.tag == f"{SPACE}svg"
    assert {"8", "16", "3", "conv1", "conv2", "fc"} <= set(texts(root))
    assert "convolution" in texts(root)
    assert not [element for element in root.iter() if element.tag.endswith(("script", "image", "a"))]


def test_names_are_escaped() -> None:
    proto: onnx.ModelProto = cnn()
    for node in proto.graph.node:
        node.name = f"</text><script>{node.name}&\x07\"'"
    proto.graph.input[0].name = "<x>&\x01"
    proto.graph.node[0].input[0] = "<x>&\x01"
    _, _, found = analysed(proto)
    root = parsed(svg(arrange(found, 640), Marks(note="<b>&")))
    assert not list(root.iter(f"{SPACE}script"))
    parsed(
        page(arrange(found, 640), title="<i>").partition("\n<h1>")[2].partition("</h1>\n")[2].partition("<table>")[0]
    )


def test_what_goes_is_red_and_hatched() -> None:
    _, _, found = analysed(cnn())
    drawing = arrange(found, 640)
    width = drawing.placed[1].width
    root = parsed(svg(drawing, Marks(gone={"conv1": 0.25})))
    hatched = [r for r in root.iter(f"{SPACE}rect") if r.get("fill") == "url(#hatch)"]
    assert float(hatched[0].get("width", 0)) == pytest.approx(width / 4, abs=0.1)
    assert len(hatched) == 2  # the box, and the legend
    assert "to be removed" in texts(root)
    assert not [r for r in parsed(svg(drawing)).iter(f"{SPACE}rect") if r.get("fill") == "url(#hatch)"]


def test_what_went_already_is_an_empty_outline() -> None:
    _, _, found = analysed(cnn())
    drawing = arrange(found, 640)
    root = parsed(svg(drawing, Marks(left={1: 0.5}, gone={"conv1": 0.5})))
    group = next(g for g in root.iter(f"{SPACE}g") if "conv1" in (g.find(f"{SPACE}title").text or ""))  # type: ignore[union-attr]
    outline, filled, red = (float(r.get("width", 0)) for r in group.iter(f"{SPACE}rect"))
    assert (filled, red) == (pytest.approx(outline / 2, abs=0.1), pytest.approx(outline / 4, abs=0.1))


def test_a_drawing_takes_little_room(net: Net) -> None:
    drawing = arrange(net("inception"), 640)
    assert len(svg(drawing)) < 1000 * len(drawing.placed) + 2000


def test_share_of_several_boxes(net: Net) -> None:
    found = net("vit")
    boxes = [box for box in found.boxes if box.kind == "attention"]
    assert share_gone(boxes, {boxes[0].groups[0]: 0.5}) == pytest.approx(0.5 / len(boxes))
    assert share_gone([found.boxes[0]], {"x": 1.0}) == 0.0


def test_colours_of_a_metric() -> None:
    _, _, found = analysed(cnn())
    overlay = counted(found, "macs")
    colours = ramp(overlay)
    assert overlay.values[2] == max(overlay.values.values())
    assert colours[2] == "#08457e"
    assert overlay.text(1) == "4,608 MACs"
    assert f'fill="{colours[1]}"' in svg(arrange(found, 640), Marks(colours=colours))


@pytest.mark.parametrize(
    ("name", "width", "short"),
    [
        ("conv1", 60, "conv1"), ("layer2.0.conv1", 50, "0.conv1"), ("branches.1.0.0", 48, "1.0.0"),
        ("layer2.0.downsample.0", 50, "downsample"), ("layer2.0.downsample.0", 40, "downsam…"), ("backbone", 8, ""),
    ],
)  # fmt: skip
def test_the_end_of_a_name(name: str, width: float, short: str) -> None:
    assert fitting(name, width) == short


def test_a_page_holds_the_picture_and_the_table() -> None:
    _, _, found = analysed(cnn())
    text = page(arrange(found, 640), Marks(gone={"conv2": 0.5}), title="cnn")
    assert "<svg" in text
    assert "<td>50.0%</td>" in text
    assert "<script" not in text
