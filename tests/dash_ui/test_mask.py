"""Brushes to cells, cells to entries of a draft, and what is drawn."""

from __future__ import annotations

import base64
import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dash_ui.desk import Desk
from dash_ui.figures.mask import histogram, mask_figure, view_key
from dash_ui.figures.mask_raster import AUTO_LINE, HAND_DOT, OUTLINE, SHARES, SIZE, STEPS, Window, painted, sample
from dash_ui.rows.brush import Area, area_of, ranges_of, units_in, whole_kernels
from dash_ui.rows.brushing import edit_for
from dash_ui.rows.cell import cell_words
from dash_ui.rows.mask import (
    AUTO,
    HAND,
    SINGLE,
    ZERO,
    Mask,
    changes,
    choices,
    counts,
    first_weight,
    magnitudes,
    mask_of,
    matrices_of,
)
from dash_ui.theme import DARK, LIGHT
from onnxprune import Coupling
from onnxprune.errors import OptionError
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.edits import check_edit, edit_words

CONV = "conv2.weight"  # 32 x 24 x 3 x 3


def rectangle(x0: float, x1: float, y0: float, y1: float, **more: Any) -> dict[str, Any]:
    return {"range": {"x": [x0, x1], "y": [y0, y1]}, **more}


def cells(area: Area | None) -> set[tuple[int, int]]:
    if area is None:
        return set()
    return {(int(r) + area.row, int(c) + area.column) for r, c in np.argwhere(area.inside)}


@pytest.fixture
def desk(demo: Path) -> Desk:
    return Desk(demo)


def look(desk: Desk, tensor: str = CONV, step: int = 1) -> tuple[Mask, Coupling]:
    with desk.workspace() as workspace:
        one = workspace.steps.get(step)
        mask = mask_of(desk, workspace, one, tensor)
        _, coupling = desk.analysis(workspace, one)
    assert mask is not None
    return mask, coupling


def brush(desk: Desk, event: dict[str, Any], tensor: str = CONV, group: str | None = None) -> dict[str, Any]:
    mask, coupling = look(desk, tensor)
    edit = edit_for(mask, coupling, event, group)
    desk.edit(1, edit, mask.revision)
    return edit


# -- places to cells ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (rectangle(0.6, 1.4, 0.6, 1.4), {(1, 1)}),  # inside of one cell
        (rectangle(0.5, 2.5, 0.5, 1.5), {(1, 1), (1, 2)}),  # along the lines between cells
        (rectangle(2.4, 0.6, 1.4, 0.6), {(1, 1), (1, 2)}),  # from right to left
        (rectangle(-9, 0.4, -9, 0.4), {(0, 0)}),  # begins outside
        (rectangle(3.2, 99, 2.2, 99), {(2, 3), (2, 4)}),  # ends outside
        (rectangle(-9, -1, 0, 1), set()),  # beside it
        (rectangle(7, 9, 7, 9), set()),
        (rectangle(1, 1, 0, 2), set()),  # without width
        (rectangle(float("nan"), 1, 0, 2), set()),
        ({"click": {"x": 4.4, "y": 1.6}}, {(2, 4)}),
        ({"click": {"x": 4.6, "y": 1.6}}, set()),
        ({"rows": [1.2, 1.2]}, {(1, column) for column in range(5)}),
        ({"columns": [3.4, 4.2]}, {(row, column) for row in range(3) for column in (3, 4)}),
        ({"rows": [-7, -6]}, set()),
        ({"lassoPoints": {"x": [-0.4, 2.6, -0.4], "y": [-0.4, -0.4, 2.6]}},
         {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)}),
        ({"lassoPoints": {"x": [0, 1], "y": [0, 1]}}, set()),
        ({"lassoPoints": {"x": [0.1, 0.2, 0.1], "y": [0.1, 0.1, 0.2]}}, set()),  # no middle of a cell in it
        ({}, set()),
    ],
)  # fmt: skip
def test_cells_of_a_brush(event: dict[str, Any], expected: set[tuple[int, int]]) -> None:
    assert cells(area_of(event, (3, 5))) == expected


def test_a_lasso_that_crosses_itself_takes_what_lies_inside_an_odd_number_of_times() -> None:
    random = np.random.default_rng(3)
    for _ in range(20):
        x, y = random.uniform(-2, 12, 7), random.uniform(-2, 9, 7)
        expected = set()
        for row in range(8):
            for column in range(10):
                odd = False
                for k in range(7):
                    m = (k + 1) % 7
                    above = (y[k] <= row) != (y[m] <= row)
                    odd ^= bool(above and x[k] + (row - y[k]) * (x[m] - x[k]) / (y[m] - y[k]) <= column)
                expected |= {(row, column)} if odd else set()
        assert cells(area_of({"lassoPoints": {"x": x.tolist(), "y": y.tolist()}}, (8, 10))) == expected


def test_snapping_takes_all_of_a_kernel(desk: Desk) -> None:
    matrix = look(desk)[0].layer.matrix
    area = area_of(rectangle(4.2, 6.2, 7.1, 7.9), (96, 72))
    assert area is not None
    whole = whole_kernels(matrix, area)
    assert cells(whole) == {(row, column) for row in (6, 7, 8) for column in range(3, 9)}
    diagonal = Area(2, 2, np.eye(2, dtype=bool))  # one cell of each of two kernels
    assert cells(whole_kernels(matrix, diagonal)) == {
        (first + row, first + column) for first in (0, 3) for row in range(3) for column in range(3)
    }


def test_units_of_rows_and_of_columns(desk: Desk) -> None:
    mask, coupling = look(desk)
    area = area_of(rectangle(2.6, 6.4, 2.6, 6.4), (96, 72))
    assert area is not None
    rows, columns = (units_in(mask.layer.matrix, area, columns=across) for across in (False, True))
    assert {coupling.groups[number].name: units for number, units in rows.items()} == {"conv2": [1, 2]}
    assert {coupling.groups[number].name: units for number, units in columns.items()} == {"conv1": [1, 2]}


def test_ranges_are_the_places_of_the_cells_among_the_stored_numbers(desk: Desk) -> None:
    matrix = look(desk)[0].layer.matrix
    area = area_of(rectangle(2.6, 6.4, 2.6, 6.4), (96, 72))
    assert area is not None
    found = [place for start, stop in ranges_of(matrix, area) for place in range(start, stop)]
    stored = np.zeros(32 * 24 * 9, bool)
    stored[found] = True
    seen = matrix.view(stored.reshape(32, 24, 3, 3))
    assert {tuple(map(int, cell)) for cell in np.argwhere(seen)} == cells(area)
    assert ranges_of(matrix, Area(0, 0, np.ones((96, 72), bool))) == [[0, 32 * 24 * 9]]


def test_too_many_pieces_are_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dash_ui.rows.brush.MOST_RANGES", 3)
    with pytest.raises(OptionError, match="separate pieces"):
        ranges_of(look(desk)[0].layer.matrix, Area(0, 0, np.ones((4, 1), bool)))


# -- cells to entries of a draft ---------------------------------------------------------------------------------------


def test_a_rectangle_removes_exactly_these_weights(desk: Desk) -> None:
    edit = brush(desk, rectangle(0.6, 2.4, 0.6, 1.4, verb="remove", snap="weight"))
    assert edit == {"weight": CONV, "remove": [4, 5], "view": "mask"}  # filter 0, input 0, row 1, columns 1 and 2
    mask, _ = look(desk)
    assert {tuple(map(int, cell)) for cell in np.argwhere(mask.codes)} == {(1, 1), (1, 2)}
    assert set(mask.codes[1, 1:3].tolist()) == {SINGLE}


def test_many_weights_are_ranges(desk: Desk) -> None:
    edit = brush(desk, rectangle(-0.4, 71.4, 2.6, 5.4, verb="remove", snap="weight"))
    assert edit == {"weight": CONV, "remove": [], "ranges": [[216, 432]], "view": "mask"}
    assert edit_words(edit) == f"remove 216 weights of {CONV}"
    mask, _ = look(desk)
    assert mask.codes[3:6].all()
    assert not mask.codes[:3].any()
    assert not mask.codes[6:].any()
    brush(desk, rectangle(-0.4, 71.4, 2.6, 4.4, verb="restore", snap="weight"))
    mask, _ = look(desk)
    assert mask.codes[5].all()
    assert np.count_nonzero(mask.codes) == 72


def test_units_and_what_they_take_elsewhere(desk: Desk) -> None:
    edit = brush(desk, {"rows": [4, 7.2], "verb": "remove", "snap": "weight"})
    assert edit == {"group": "conv2", "remove": [1, 2], "view": "mask"}
    assert (look(desk)[0].codes[3:9] == HAND).all()
    after, _ = look(desk, "conv3.weight")
    assert (after.codes[:, 3:9] == HAND).all()
    assert not after.codes[:, 9:].any()
    assert brush(desk, {"click": {"x": 0, "y": 4}, "verb": "restore", "snap": "unit"}) == {
        "group": "conv2", "restore": [1], "view": "mask",
    }  # fmt: skip
    columns = brush(desk, {"columns": [9, 9], "verb": "remove", "snap": "kernel"})
    assert columns == {"group": "conv1", "remove": [3], "view": "mask"}


def test_snapping_to_units_means_those_of_the_selected_group(desk: Desk) -> None:
    mask, coupling = look(desk)
    event = {"click": {"x": 9, "y": 9}, "verb": "remove", "snap": "unit"}
    assert edit_for(mask, coupling, event, "conv1")["group"] == "conv1"
    assert edit_for(mask, coupling, event, "conv2")["group"] == "conv2"
    assert edit_for(mask, coupling, event, None)["group"] == "conv2"


def test_a_range_of_magnitudes(desk: Desk) -> None:
    mask, _ = look(desk)
    size = np.abs(mask.layer.values)
    edit = brush(desk, {"magnitude": [0.0, 0.05], "verb": "remove", "snap": "weight"})
    check_edit(edit)
    mask, _ = look(desk)
    assert np.array_equal(mask.codes == SINGLE, size < np.float32(0.05))
    brush(desk, {"magnitude": [0.02, None], "verb": "restore"})
    assert np.array_equal(look(desk)[0].codes == SINGLE, size < np.float32(0.02))


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (rectangle(80, 90, 0, 1, verb="remove", snap="weight"), "covers no weight"),
        (rectangle(1, 1, 0, 1, verb="remove", snap="unit"), "covers no weight"),
        (rectangle(0, 1, 0, 1, verb="restore", snap="weight"), "none of these weights was removed"),
        ({"rows": [0, 0], "verb": "restore"}, "none of these filters of conv2 goes"),
        ({"rows": [4, 4], "verb": "remove"}, "go already"),
        ({"click": {"x": 3, "y": 4}, "verb": "remove", "snap": "weight"}, "gone already"),
        ({"click": {"x": 3, "y": 4}, "verb": "restore", "snap": "weight"}, "belong to units"),
        ({"magnitude": [99.0, None], "verb": "remove"}, "no weight lies there"),
    ],
)
def test_what_changes_nothing_is_said(desk: Desk, event: dict[str, Any], words: str) -> None:
    brush(desk, {"rows": [4, 4], "verb": "remove", "snap": "unit"})
    mask, coupling = look(desk)
    with pytest.raises(OptionError, match=words) as told:
        edit_for(mask, coupling, event)
    assert told.value.hint


def test_rows_that_are_no_units(desk: Desk) -> None:
    mask, coupling = look(desk, "fc.weight")
    with pytest.raises(OptionError, match="no units"):
        edit_for(mask, coupling, {"rows": [0, 0], "verb": "remove"})


def test_weights_inside_of_control_flow_cannot_be_brushed(desk: Desk) -> None:
    mask, coupling = look(desk)
    with pytest.raises(OptionError, match="control flow"):
        edit_for(replace(mask, single=False), coupling, {"click": {"x": 0, "y": 0}, "verb": "remove"})


# -- automatic, by hand, earlier steps ---------------------------------------------------------------------------------


def test_codes_tell_scores_from_hands(desk: Desk) -> None:
    desk.edit(1, {"criterion": "l2", "group": "conv2", "ratio": 0.25}, None)
    brush(desk, {"rows": [0, 0], "verb": "remove"}) if not look(desk)[0].state.gone["conv2"][0] else None
    mask, _ = look(desk)
    gone, hand = mask.state.gone["conv2"], mask.state.by_hand["conv2"]
    per_unit = mask.codes.reshape(32, 3, 72)[:, 0, 0]
    assert per_unit.tolist() == [0 if not g else HAND if h else AUTO for g, h in zip(gone, hand, strict=True)]
    assert AUTO in per_unit


def test_counts_of_weight_group_and_model(desk: Desk) -> None:
    brush(desk, {"rows": [0, 0], "verb": "remove"})
    with desk.workspace() as workspace:
        step = workspace.steps.get(1)
        own, group, model = counts(desk, workspace, step, CONV)
        every = [counts(desk, workspace, step, name)[0] for name in matrices_of(desk, workspace, step)]
        stored = workspace.model(1)
    assert (own.gone, own.of) == (216, 6912)
    assert group is not None
    assert own.gone < group.gone == model.gone  # what conv3 and the rest read of the unit goes as well
    assert model.of == sum(one.of for one in every) <= sum(w.array().size for w in stored.weights.values())
    assert model.left + model.gone == model.of


def test_an_applied_brush_leaves_zeros_there_and_says_since_when(desk: Desk) -> None:
    brush(desk, rectangle(2.6, 5.4, 2.6, 5.4, verb="remove", snap="kernel"))
    with desk.workspace() as workspace:
        number = ACTIONS["edit"](workspace, 1, {}, lambda *_: None, lambda: False).number
        weight = workspace.model(number).weights[CONV].array()
    assert np.argwhere(weight == 0).tolist() == [[1, 1, y, x] for y in range(3) for x in range(3)]
    mask, coupling = look(desk, step=number)
    assert set(mask.codes[3:6, 3:6].reshape(-1).tolist()) == {ZERO}
    assert np.count_nonzero(mask.codes) == 9
    with pytest.raises(OptionError, match="earlier step"):
        edit_for(mask, coupling, rectangle(2.6, 5.4, 2.6, 5.4, verb="restore", snap="weight"))
    with desk.workspace() as workspace:
        words = cell_words(desk, workspace, workspace.steps.get(number), mask, 4, 4, "l2")
    assert words[0] == "output 1, ky 1, input 1, kx 1"
    assert f"zero since step #{number}" in words


def test_a_step_that_removed_units_is_told(desk: Desk) -> None:
    brush(desk, {"rows": [0, 0], "verb": "remove"})
    with desk.workspace() as workspace:
        number = ACTIONS["edit"](workspace, 1, {}, lambda *_: None, lambda: False).number
        found = changes(workspace, workspace.steps.get(number), CONV)
    assert [(one.step, one.parent, one.before, one.after) for one in found] == [
        (number, 1, (32, 24, 3, 3), (31, 24, 3, 3))
    ]


def test_words_of_a_cell(desk: Desk) -> None:
    brush(desk, rectangle(-0.4, 0.4, -0.4, 0.4, verb="remove", snap="weight"))
    brush(desk, {"rows": [3, 3], "verb": "remove"})
    mask, _ = look(desk)
    with desk.workspace() as workspace:
        step = workspace.steps.get(1)
        single = cell_words(desk, workspace, step, mask, 0, 0, None)
        unit = cell_words(desk, workspace, step, mask, 3, 5, "l2")
        plain = cell_words(desk, workspace, step, mask, 9, 5, "l2")
    assert single[1] == f"value {float(mask.layer.values[0, 0]):.5g}"
    assert single[-1] == f"draft, entry 1: remove 1 weight of {CONV}"
    assert unit[-1] == "draft, entry 2: remove 1 unit of conv2"
    assert plain[2].startswith("makes filter 3 of conv2: l2 ")
    assert plain[3].startswith("reads filter 1 of conv1: l2 ")
    assert len(plain) == 4


# -- the picture -------------------------------------------------------------------------------------------------------


def test_every_cell_gets_pixels_of_its_own() -> None:
    values = np.arange(-6, 6, dtype=np.float32).reshape(3, 4)
    found = sample(values, np.zeros((3, 4), np.uint8), Window.of((3, 4)))
    assert found.exact
    pixels = painted(found, 6.0, (30, 40))
    assert pixels.shape == (30, 40)
    assert (pixels.reshape(3, 10, 4, 10) == pixels[::10, ::10][:, None, :, None]).all()
    assert pixels[0, 0] == 0  # the lowest
    assert pixels[15, 25] == STEPS - 1  # 0


def test_one_weight_of_a_large_matrix_stays_visible() -> None:
    values = np.full((3000, 2000), 0.1, np.float32)
    codes = np.zeros(values.shape, np.uint8)
    values[2999, 1999], codes[1234, 777] = -5.0, ZERO
    found = sample(values, codes, Window.of(values.shape), (500, 400))
    assert found.values.shape == (500, 400)
    assert found.values[-1, -1] == np.float32(-5.0)
    assert np.argwhere(found.gone).tolist() == [[1234 // 6, 777 // 5]]
    assert found.gone.max() == pytest.approx(1 / 30)
    pixels = painted(found, 0.2, (500, 400))
    assert (pixels >= SHARES).sum() == 1
    turned = sample(np.asfortranarray(values), np.asfortranarray(codes), Window.of(values.shape), (500, 400))
    assert np.array_equal(turned.values, found.values)
    assert np.array_equal(turned.gone, found.gone)


def test_blocks_at_the_far_edges_count_only_cells_that_are_there() -> None:
    codes = np.zeros((7, 5), np.uint8)
    codes[6, 4] = HAND
    found = sample(np.ones((7, 5), np.float32), codes, Window.of((7, 5)), (3, 2))
    assert found.values.shape == (3, 2)
    assert found.gone[2, 1] == pytest.approx(0.5)  # one row and two columns are left for it
    assert found.by_hand[2, 1] == 1


def test_what_is_gone_has_patterns_of_its_own() -> None:
    codes = np.array([[0, ZERO], [AUTO, HAND]], np.uint8)
    pixels = painted(sample(np.ones((2, 2), np.float32), codes, Window.of((2, 2))), 1.0, (40, 40))
    plain, zero, auto, hand = pixels[:20, :20], pixels[:20, 20:], pixels[20:, :20], pixels[21:-1, 21:-1]
    assert len(np.unique(plain)) == 1
    assert AUTO_LINE in zero
    assert AUTO_LINE in auto
    assert HAND_DOT in hand
    assert AUTO_LINE not in hand
    assert (pixels[20, 20:] == OUTLINE).all()
    thin = painted(
        sample(np.ones((4, 4), np.float32), np.eye(4, dtype=np.uint8) * SINGLE, Window.of((4, 4))), 1.0, (4, 4)
    )
    assert OUTLINE not in thin  # it would hide what it surrounds
    assert (pixels[20:, 20] == OUTLINE).all()


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_the_figure_draws_the_part_that_is_seen(desk: Desk, theme: Any) -> None:
    mask, _ = look(desk)
    figure = mask_figure(mask, theme, {"x": [3.2, 9.7], "y": [20.2, 5.6]}, size=(100, 200))
    image = figure.layout.images[0]
    assert (image.x, image.y, image.sizex, image.sizey) == (2.5, 5.5, 8, 15)
    assert list(figure.layout.xaxis.range) == [3.2, 9.7]
    assert figure.layout.uirevision == view_key(mask, square=False)
    picture = Image.open(io.BytesIO(base64.b64decode(image.source.partition(",")[2])))
    assert picture.size == (200, 100)
    assert list(figure.layout.yaxis.ticktext) == ["2", "3", "4", "5", "6"]
    lines = [x for x in figure.data[0].x if x is not None]
    assert {5.5, 8.5} <= set(lines)  # between kernels


def test_square_cells_take_the_pixels_that_they_need(desk: Desk) -> None:
    figure = mask_figure(look(desk)[0], LIGHT, square=True, size=(192, 1000))  # 96 rows, 72 columns
    picture = Image.open(io.BytesIO(base64.b64decode(figure.layout.images[0].source.partition(",")[2])))
    assert picture.size == (144, 192)
    assert figure.layout.yaxis.scaleanchor == "x"
    assert len(figure.layout.xaxis.tickvals) <= 3


def test_windows_of_zoomed_axes() -> None:
    assert Window.of((10, 20)) == Window((0, 10), (0, 20))
    assert Window.of((10, 20), [4.6, 1.2], [-5, 30]) == Window((1, 6), (0, 20))
    assert Window.of((10, 20), [30, 40], [2.5, 3.5]) == Window((0, 10), (3, 4))  # nothing in sight: all of it


def test_the_histogram_counts_what_is_left_and_gone(desk: Desk) -> None:
    brush(desk, {"magnitude": [0.0, 0.01], "verb": "remove"})
    mask, _ = look(desk)
    edges, left, gone = magnitudes(mask)
    assert left.sum() + gone.sum() == 6912
    assert gone.sum() == np.count_nonzero(np.abs(mask.layer.values) < np.float32(0.01))
    assert not gone[int(np.searchsorted(edges, 0.01)) + 1 :].any()
    figure = histogram(edges, left, gone, LIGHT)
    assert figure.data[2].line.dash == "dot"  # red alone tells nothing
    assert np.array_equal(figure.data[0].y, left + gone)
    assert np.array_equal(figure.data[1].y, left)
    assert figure.layout.dragmode == "select"


def test_the_menu_begins_with_what_makes_the_selected_group(desk: Desk) -> None:
    with desk.workspace() as workspace:
        step = workspace.steps.get(1)
        found = matrices_of(desk, workspace, step)
        _, coupling = desk.analysis(workspace, step)
    assert first_weight(found, coupling, "conv2") == CONV
    labels = [option["label"] for option in choices(found, coupling, "conv2")]
    assert labels[0] == "conv2.weight · Conv 32 × 24 × 3 × 3 · makes conv2"
    assert any(label.endswith("reads conv2") for label in labels)
    assert len(labels) == len(found)
    assert first_weight(found, coupling, "no such group") is not None


def test_the_scale_of_colours_is_not_set_by_one_weight(desk: Desk) -> None:
    layer = look(desk)[0].layer
    wild = replace(layer, values=np.append(layer.values.reshape(-1), np.float32(1e6))[None])
    assert wild.scale < 10 * layer.scale
    assert replace(layer, values=np.zeros((2, 2), np.float32)).scale == 0.0
    assert SIZE == 800


@pytest.mark.parametrize("net", ["lstm", "vit", "mlp", "residual"])
def test_every_kind_of_network_is_brushed_and_applied(net: str, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[2] / "examples" / "nets" / f"{net}.onnx", tmp_path)
    desk = Desk(tmp_path)
    desk.open()
    with desk.workspace() as workspace:
        step = workspace.steps.get(1)
        found = matrices_of(desk, workspace, step)
        _, coupling = desk.analysis(workspace, step)
    tensor = first_weight(found, coupling, coupling.groups[0].name)
    assert tensor is not None
    brush(desk, rectangle(0.6, 3.4, 1.6, 4.4, verb="remove", snap="weight"), tensor)
    with desk.workspace() as workspace:
        made = ACTIONS["edit"](workspace, 1, {}, lambda *_: None, lambda: False)
        weight = workspace.model(made.number).weights[found[tensor].name].array()
    zeros = np.argwhere(found[tensor].view(weight) == 0)
    assert zeros.tolist() == [[row, column] for row in (2, 3, 4) for column in (1, 2, 3)]
    with desk.workspace() as workspace:  # and a whole unit, on top of it
        one = workspace.steps.get(1)
        workspace.drafts.clear(1)
        mask = mask_of(desk, workspace, one, tensor)
    assert mask is not None
    edit = edit_for(mask, coupling, {"rows": [0, 0], "verb": "remove"})
    assert edit["group"] == coupling.groups[0].name
    desk.edit(1, edit, None)
    with desk.workspace() as workspace:
        after = mask_of(desk, workspace, workspace.steps.get(1), tensor)
        smaller = ACTIONS["edit"](workspace, 1, {}, lambda *_: None, lambda: False)
        left = workspace.model(smaller.number).weights[found[tensor].name].array()
    assert after is not None
    assert left.size == np.count_nonzero(after.codes == 0)
