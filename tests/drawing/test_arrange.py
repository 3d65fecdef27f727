"""Places: nothing overlaps, nothing leaves the sheet, lines go where they should."""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import combinations
from types import FrameType

import pytest
from onnx import TensorProto, helper

from onnxprune.drawing import Drawing, Placed, Sketch, arrange
from tests.cli.conftest import model_of, weight
from tests.drawing.conftest import analysed

Net = Callable[..., Sketch]
NETS = (
    "plain_cnn", "resnet_bottleneck", "inception", "unet", "fpn", "densenet", "shufflenet_v2", "vit", "encoder_bert",
    "decoder_llama", "seq2seq", "swin", "siamese",
)  # fmt: skip


def inside(place: Placed, drawing: Drawing) -> bool:
    across = place.x - place.width / 2 >= 0 and place.x + place.width / 2 <= drawing.width
    return across and place.y - place.height / 2 >= 0 and place.y + place.height / 2 <= drawing.height


def overlap(a: Placed, b: Placed) -> bool:
    return abs(a.x - b.x) < (a.width + b.width) / 2 - 0.01 and abs(a.y - b.y) < (a.height + b.height) / 2 - 0.01


@pytest.mark.parametrize("width", [300, 640, 2000])
@pytest.mark.parametrize("name", NETS)
def test_boxes_stand_apart_on_the_sheet(net: Net, name: str, width: float) -> None:
    drawing = arrange(net(name), width)
    assert all(inside(place, drawing) for place in drawing.placed)
    assert not [(a.id, b.id) for a, b in combinations(drawing.placed, 2) if overlap(a, b)]
    assert all(0 <= x <= drawing.width and 0 <= y <= drawing.height for r in drawing.routes for x, y in r.points)


@pytest.mark.parametrize("name", NETS)
def test_routes_begin_and_end_at_their_boxes(net: Net, name: str) -> None:
    drawing = arrange(net(name), 500, collapse=False)
    place = {p.id: p for p in drawing.placed}
    edges = {(e.source, e.target) for e in drawing.sketch.edges}
    assert {(route.source, route.target) for route in drawing.routes} == edges
    for route in drawing.routes:
        first, last = place[route.source], place[route.target]
        assert route.points[0] == pytest.approx((first.x + first.width / 2, first.y))
        x, y = route.points[-1]
        assert abs(x - last.x) <= last.width / 2 + 0.01
        assert abs(y - last.y) <= last.height / 2 + 0.01


@pytest.mark.parametrize("name", NETS)
def test_lines_do_not_run_through_boxes(net: Net, name: str) -> None:
    """Straight pieces of edges keep clear of boxes that are neither their source nor their target."""
    drawing = arrange(net(name), 640)
    for route in (route for route in drawing.routes if not route.side):
        for (x0, y0), (x1, y1) in zip(route.points, route.points[1:], strict=False):
            for place in drawing.placed:
                if place.id in (route.source, route.target):
                    continue
                across = min(x0, x1) < place.x + place.width / 2 - 1 and max(x0, x1) > place.x - place.width / 2 + 1
                down = min(y0, y1) < place.y + place.height / 2 - 1 and max(y0, y1) > place.y - place.height / 2 + 1
                assert not (across and down), (route, place)


def test_an_edge_leads_to_the_right_or_to_a_later_line(net: Net) -> None:
    drawing = arrange(net("resnet_bottleneck"), 400)
    place = {p.id: p for p in drawing.placed}
    assert drawing.rows > 1
    for route in drawing.routes:
        a, b = place[route.source], place[route.target]
        assert (b.row, b.x) > (a.row, a.x)


def test_height_follows_the_feature_map(net: Net) -> None:
    drawing = arrange(net("plain_cnn"), 640)
    sizes = [(drawing.sketch.boxes[p.id].extent, p.height) for p in drawing.placed if drawing.sketch.boxes[p.id].heavy]
    assert sorted(sizes) == sorted(sizes, key=lambda pair: pair[1])
    assert len({height for _, height in sizes}) > 1


def test_repeats_are_drawn_once_and_open(net: Net) -> None:
    found = net("decoder_llama")
    shut = arrange(found, 640, collapse=True)
    opened = arrange(found, 640, collapse=True, open_repeats=[0])
    assert len(shut.placed) == len(found.boxes) - 9
    assert [frame.count for frame in shut.brackets] == [2]
    assert len(opened.placed) == len(found.boxes)
    twins = [place for place in shut.placed if len(place.boxes) == 2]
    assert len(twins) == 9
    assert all(shut.placed[shut.place_of[number]].id == place.id for place in twins for number in place.boxes)


def test_larger_boxes_make_more_lines(net: Net) -> None:
    found = net("inception")
    assert arrange(found, 640, scale=2.0).rows > arrange(found, 640).rows


def test_the_same_again(net: Net) -> None:
    assert arrange(net("swin"), 640) == arrange(net("swin"), 640)


def chain(blocks: int) -> Sketch:
    """Residual blocks of different widths, so that none repeats: 4 nodes each."""
    nodes, weights, now = [], [], "x"
    for i in range(blocks):
        nodes += [
            helper.make_node("MatMul", [now, f"a{i}"], [f"h{i}"], name=f"a{i}"),
            helper.make_node("Relu", [f"h{i}"], [f"r{i}"], name=f"r{i}"),
            helper.make_node("MatMul", [f"r{i}", f"b{i}"], [f"m{i}"], name=f"b{i}"),
            helper.make_node("Add", [now, f"m{i}"], [f"s{i}"], name=f"s{i}"),
        ]
        weights += [weight(f"a{i}", 4, 3 + i % 7), weight(f"b{i}", 3 + i % 7, 4)]
        now = f"s{i}"
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info(now, TensorProto.FLOAT, [1, 4])
    return analysed(model_of(helper.make_graph(nodes, "long", [x], [y], weights)))[2]


def test_two_thousand_nodes() -> None:
    """Work grows with the size of the graph, not with its square."""
    small, large = chain(100), chain(500)
    assert len(large.boxes) == 3 * 500 + 2

    def calls(found: Sketch) -> int:
        """How many functions are called: work, without a clock."""
        count = 0

        def called(_: FrameType, event: str, __: object) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        sys.setprofile(called)
        arrange(found, 640, collapse=False)
        sys.setprofile(None)
        return count

    assert calls(large) < 6 * calls(small)
