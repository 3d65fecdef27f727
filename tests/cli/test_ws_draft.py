"""`ws draft` with units and single weights in one draft, what `ws edit` makes of it, and its plan done again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from onnxprune import load
from tests.cli.conftest import Call
from tests.workspace.conftest import folder as folder  # noqa: PLC0414 - a fixture


def test_units_and_weights_in_one_step(call: Call, folder: Path, tmp_path: Path) -> None:
    def ws(verb: str, *arguments: str | Path) -> str:
        found = call("ws", verb, *arguments, "--folder", folder)
        assert found.code == 0, found.err
        return found.out

    ws("draft", "1", "--remove", "conv1=0,3", "--zero", "fc.weight=1,16-18")
    told = json.loads(ws("draft", "1", "--edit", '{"weight": "fc.weight", "restore": [17]}', "--json"))
    assert [entry["edit"] for entry in told["draft"]] == [
        {"group": "conv1", "remove": [0, 3]},
        {"weight": "fc.weight", "remove": [1], "ranges": [[16, 19]]},
        {"weight": "fc.weight", "restore": [17]},
    ]
    ws("undo", "1")
    ws("redo", "1")
    made = json.loads(ws("edit", "1", "--json"))
    again = json.loads(ws("branch", "1", "--like", str(made["number"]), "--json"))["steps"][0]
    assert again["model_hash"] == made["model_hash"]
    ws("export", str(made["number"]), tmp_path / "out")
    model, original = load(tmp_path / "out" / "model.onnx"), load(folder / "cnn.onnx")
    assert model.array("conv1.weight").shape == (6, 1, 3, 3)
    assert np.flatnonzero(model.array("fc.weight") == 0).tolist() == [1, 16, 18]
    assert np.array_equal(model.array("conv1.weight"), original.array("conv1.weight")[[1, 2, 4, 5, 6, 7]])
    plan = tmp_path / "out" / "plan.json"
    told = call("plan", "show", plan).out
    assert "conv1" in told
    assert "fc.weight" in told
    applied = call("plan", "apply", plan, folder / "cnn.onnx", "-o", tmp_path / "again.onnx", "--json").json
    assert applied["hash"] == made["model_hash"]
    assert applied["proof"]["ok"]
    assert applied["zeroed"]["left"] == 3
    words = call("plan", "apply", plan, folder / "cnn.onnx", "-o", tmp_path / "third.onnx").out
    assert "Checked: 3 single weights are zero as planned" in " ".join(words.split())


@pytest.mark.parametrize(
    ("option", "text", "words"),
    [
        ("--zero", "fc.weight", "expected WEIGHT=N,A-B"),
        ("--zero", "fc.weight=1-x", "expected WEIGHT=N,A-B"),
        ("--zero", "fc.weight=9-3", "0 <= start < stop"),
        ("--edit", "{", "not JSON"),
        ("--edit", "[1]", "expected an object"),
        ("--edit", '{"group": "conv1"}', "says one thing, this one 0"),
        ("--remove", "conv1", "expected GROUP=N,N"),
        ("--lowest", "l2=x", "is not a number"),
    ],
)
def test_what_is_no_edit(call: Call, folder: Path, option: str, text: str, words: str) -> None:
    call("ws", "open", folder, "--no-measure")
    refused = call("ws", "draft", "1", option, text, "--folder", folder)
    assert refused.code == 2
    assert words in " ".join(refused.err.split())
    assert call("ws", "draft", "1", "--folder", folder, "--json").json["draft"] == []
