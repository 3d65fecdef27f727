"""What the page asks about masks, what is kept between brushes, and labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dash_ui.desk import Desk, Stale
from dash_ui.figures.mask import mask_figure
from dash_ui.figures.mask_raster import Window, tile
from dash_ui.mask_answers import answer
from dash_ui.rows.brushing import edit_for
from dash_ui.rows.cell import cell_words
from dash_ui.rows.mask import choices, matrices_of
from dash_ui.theme import LIGHT
from dash_ui.views.mask import told
from onnxprune.errors import OptionError
from onnxprune.workspace.drafting import draft_state
from tests.dash_ui.test_mask import CONV, brush, look, rectangle


@pytest.fixture
def desk(demo: Path) -> Desk:
    return Desk(demo)


# -- what the page asks ------------------------------------------------------------------------------------------------


def ask(desk: Desk, what: str, **more: Any) -> dict[str, Any]:
    """A question of the page about conv2, where nothing else is said."""
    common = {"selection": {"step": 1, "group": "conv2"}, "tensor": CONV, "theme": "light", "square": False,
              "size": [300, 400], "window": None}  # fmt: skip
    return answer(desk, {**common, "what": what, **more})


def test_an_answer_has_what_was_asked_for(desk: Desk) -> None:
    found = ask(desk, "show", parts=["weights", "picture", "facts"], tensor=None)
    assert found["weights"]["value"] == CONV
    assert found["figure"]["layout"]["meta"] == {"shape": [96, 72], "kernel": [3, 3], "exact": True}
    assert found["facts"]["counts"][0] == {"of": "this weight", "gone": 0, "left": 6912, "share": 0}
    assert set(ask(desk, "show", parts=["picture"])) == {"figure", "revision", "scale"}
    assert "figure" not in ask(desk, "show", parts=["picture"], size=None)  # the panel has no room yet
    assert answer(desk, {"what": "show", "selection": None, "parts": ["weights"]}) == {}
    assert json.loads(json.dumps(found)) == found


def test_an_answer_to_a_brush_has_the_picture_and_the_counts(desk: Desk) -> None:
    before = ask(desk, "show", parts=["picture"])
    event = rectangle(0.6, 3.4, 0.6, 2.4, verb="remove", snap="weight")
    found = ask(desk, "brush", event=event, seen=before["revision"])
    assert found["said"] == "remove 6 weights of conv2.weight."
    assert found["facts"]["counts"][0] == {"of": "this weight", "gone": 6, "left": 6906, "share": 6 / 6912}
    after = ask(desk, "show", parts=["picture"])
    assert after["figure"]["layout"]["images"][0]["source"] == found["source"]
    assert after["revision"] == found["revision"] != before["revision"]
    with pytest.raises(Stale, match="changed elsewhere"):
        ask(desk, "brush", event={"rows": [0, 0], "verb": "remove"}, seen=before["revision"])
    units = ask(desk, "brush", event={"rows": [9, 9], "verb": "remove"}, seen=found["revision"])
    assert "also removes" in units["said"]  # what is coupled to it


def test_an_answer_about_a_cell_says_what_becomes_of_it(desk: Desk) -> None:
    brush(desk, {"click": {"x": 4, "y": 7}, "verb": "remove"})
    assert ask(desk, "cell", row=7, column=4)["state"] == "goes by hand"
    found = ask(desk, "cell", row=7, column=5)
    assert found["state"] == "stays"
    assert found["lines"][0] == "output 2, ky 1, input 1, kx 2"
    assert ask(desk, "cell", row=96, column=0) == {}
    assert ask(desk, "cell", row=0, column=-1) == {}
    assert ask(desk, "cell", row=0, column=0, tensor="no such weight") == {}


def test_what_goes_wrong_is_told_in_words(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    nothing = {
        "what": "brush",
        "selection": {"step": 1},
        "tensor": CONV,
        "event": rectangle(900, 901, 0, 1),
        "size": [9, 9],
    }
    assert told(desk, nothing)["problem"]["text"] == "the brush covers no weight"
    assert told(desk, {**nothing, "selection": {"step": 77}})["problem"]["kind"] == "error"
    assert caplog.records == []
    assert told(desk, {"what": "brush", "selection": {"step": 1}, "tensor": CONV})["problem"]["text"] == (
        "Something went wrong: KeyError"
    )
    assert len(caplog.records) == 1


def test_a_model_without_weights_has_no_mask(tmp_path: Path) -> None:
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "bare", [given], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "bare.onnx")
    desk = Desk(tmp_path)
    desk.open()
    found = ask(desk, "show", parts=["weights", "picture", "facts"], tensor=None)
    assert found == {"weights": {"options": [], "value": None}}


# -- what is kept between brushes --------------------------------------------------------------------------------------


def test_kept_masks_are_those_of_the_draft(desk: Desk) -> None:
    """Brushes on top of each other, some undone: always what working all of them out anew gives."""
    steps = [
        rectangle(1, 30, 1, 30, verb="remove"),
        {"magnitude": [0.0, 0.05], "verb": "remove"},
        rectangle(10, 20, 10, 20, verb="restore"),
        {"magnitude": [0.01, 0.02], "verb": "restore"},
        {"lassoPoints": {"x": [30, 60, 45], "y": [30, 30, 60]}, "verb": "remove", "snap": "kernel"},
    ]  # fmt: skip
    for number, event in enumerate(steps):
        brush(desk, event)
        if number in (1, 3):
            with desk.workspace() as workspace:
                workspace.drafts.undo(1)
        with desk.workspace() as workspace:
            model, coupling = desk.analysis(workspace, workspace.steps.get(1))
            edits = [entry.edit for entry in workspace.drafts.entries(1) if not entry.undone]
        anew = draft_state(model, coupling, edits).weights[CONV]
        kept = look(desk)[0].state.weights[CONV]
        assert np.array_equal(kept, anew)
        assert not kept.flags.writeable


def test_many_pieces_become_the_whole_brush(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is removed already is removed again, where that makes the entry much shorter."""
    monkeypatch.setattr("dash_ui.rows.brush.FEW", 10)
    brush(desk, {"magnitude": [0.0, 0.03], "verb": "remove"})
    edit = brush(desk, {"rows": [0, 5], "verb": "remove", "snap": "weight"} | rectangle(-1, 80, -1, 5.4))
    assert edit["group"] == "conv2"  # rows are units
    edit = brush(desk, rectangle(-1, 80, 6, 11.4, verb="remove"))
    assert edit["ranges"] == [[2 * 216, 4 * 216]]
    assert (look(desk)[0].codes[6:12] != 0).all()


def test_reduced_pictures_have_all_blocks_of_rows() -> None:
    values = np.random.default_rng(0).standard_normal((1003, 90)).astype(np.float32)
    found = tile(values, Window.of(values.shape), (200, 30))
    assert (found.high, found.wide) == (6, 3)
    assert found.values.shape == (168, 30)
    assert found.values[-1, -1] == values[1002, 87:][np.abs(values[1002, 87:]).argmax()]
    big = np.random.default_rng(0).standard_normal((4, 70_000)).astype(np.float32)
    assert tile(big, Window.of(big.shape), (3, 500)).values.shape == (2, 500)


def test_every_gate_has_its_first_tick(tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parents[2] / "examples" / "nets" / "lstm.onnx", tmp_path)
    desk = Desk(tmp_path)
    desk.open()
    with desk.workspace() as workspace:
        found = matrices_of(desk, workspace, workspace.steps.get(1))
    tensor = next(name for name, matrix in found.items() if matrix.shape == (1, 256, 64))
    layout = mask_figure(look(desk, tensor)[0], LIGHT, size=(400, 600)).layout
    assert {"i 0", "o 0", "f 0", "c 0"} <= set(layout.yaxis.ticktext)
    assert len(layout.yaxis.ticktext) <= 400 // 16 + 4
    assert [shape.y0 for shape in layout.shapes] == [63.5, 127.5, 191.5]
    low = mask_figure(look(desk, tensor)[0], LIGHT, size=(70, 600)).layout
    assert list(low.yaxis.ticktext) == ["i 0", "o 0", "f 0", "c 0"]


def test_an_embedding_makes_what_its_columns_stand_for(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in (("table", (20, 6)), ("w", (6, 4)), ("v", (4, 2)))
    ]
    nodes = [
        helper.make_node("Gather", ["table", "x"], ["e"]),
        helper.make_node("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
        helper.make_node("MatMul", ["m", "w"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
    ]
    given = helper.make_tensor_value_info("x", TensorProto.INT64, ["batch", 5])
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph(nodes, "tokens", [given], [made], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "tokens.onnx")
    desk = Desk(tmp_path)
    desk.open()
    mask, coupling = look(desk, "table")
    assert mask.codes.shape == (20, 6)
    group = coupling.groups[int(mask.layer.matrix.columns.group[0, 0])].name
    with desk.workspace() as workspace:
        step = workspace.steps.get(1)
        labels = [option["label"] for option in choices(matrices_of(desk, workspace, step), coupling, group)]
        lines = cell_words(desk, workspace, step, mask, 3, 2, None)
    assert f"table · Gather 20 × 6 · makes {group}" in labels
    assert lines[0] == "token 3, dimension 2"
    assert any(line.startswith("makes ") for line in lines)
    edit = edit_for(mask, coupling, {"columns": [2, 2], "verb": "remove"})
    assert edit["remove"] == [2]
    with pytest.raises(OptionError, match="no units"):
        edit_for(mask, coupling, {"rows": [2, 2], "verb": "remove"})
