"""``onnxprune ws``: a whole piece of work on the command line, from an empty folder to an exported model."""

from __future__ import annotations

import csv
import io
import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from onnxprune.model import load
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import Call, Result, cnn, save
from tests.workspace.conftest import write_data


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace, which is the current directory."""
    place = tmp_path / "work"
    place.mkdir()
    save(cnn(), place / "cnn.onnx")
    write_data(place / "data" / "bright.npz")
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def ws(call: Call, folder: Path) -> Call:
    """`ws` in that folder; every call has to succeed."""

    def run(*arguments: str | Path) -> Result:
        result = call("ws", *arguments)
        assert result.code == 0, result.err
        return result

    assert folder.is_dir()
    return run


def test_an_empty_folder_says_what_to_do(call: Call, tmp_path: Path) -> None:
    for command in ("open", "tree"):
        result = call("ws", command, "--folder", tmp_path)
        assert result.code == 0
        assert "Put .onnx files into it" in result.out
    refused = call("ws", "tree", "--folder", tmp_path / "nowhere")
    assert refused.code == 2
    assert "there is no such folder" in refused.err


def test_opening_measures_and_lists_what_is_broken(ws: Call, folder: Path) -> None:
    (folder / "broken.onnx").write_bytes(b"nothing")
    quick = ws("open", "--no-measure", "--json").json
    assert {entry["path"]: entry["data"] for entry in quick["files"] if entry["kind"] == "model"} == {
        "broken.onnx": [],
        "cnn.onnx": ["data/bright.npz"],
    }
    assert "accuracy" not in ws("show", "1", "--json").json["metrics"]
    result = ws("open")
    assert "data/bright.npz" in result.out
    assert "broken.onnx: " in result.err
    assert "accuracy" in ws("show", "1", "--json").json["metrics"]
    assert "1 of the files cannot be used" in ws("tree").err


def test_the_tree_is_drawn(ws: Call) -> None:
    ws("prune", "1", "--ratio", "0.5", "--name", "half")
    ws("prune", "half", "--ratio", "0.5", "--criterion", "l1", "--name", "[bold]")
    ws("prune", "1", "--ratio", "0.25")
    ws("pin", "half")
    lines = ws("tree").out.splitlines()
    assert lines[0].startswith("#1 original cnn, accuracy ")
    assert lines[1].startswith("├── #2 prune half, accuracy ")
    assert "27.9% of the parameters, baseline" in lines[1]
    assert lines[2].startswith("│   └── #3 prune [bold], accuracy ")
    assert lines[3].startswith("└── #4 prune, accuracy ")
    shown = ws("tree", "--json").json["steps"]
    assert [(step["number"], step["parent"], step["kind"]) for step in shown] == [
        (1, None, "original"), (2, 1, "prune"), (3, 2, "prune"), (4, 1, "prune"),
    ]  # fmt: skip
    assert "loss" in ws("tree", "--metric", "loss").out


def test_from_the_folder_to_the_exported_model(ws: Call, folder: Path, tmp_path: Path) -> None:
    pruned = ws("prune", "1", "--ratio", "0.5", "--set", "recover=none", "--json").json
    assert (pruned["number"], pruned["kind"], pruned["parent"]) == (2, "prune", 1)
    assert ws("recover", "2", "--json").json["kind"] == "recover"
    tuned = ws("finetune", "3", "--epochs", "2", "--deterministic", "--name", "tuned", "--json").json
    assert (tuned["kind"], tuned["promise"]) == ("fine-tune", "identical")
    ws("draft", "tuned", "--remove", "conv1=0,1", "--restore", "conv1=1", "--lowest", "l2=0.5")
    assert "undone" in ws("undo", "tuned").out
    ws("redo", "tuned")
    ws("undo", "tuned")
    edited = ws("edit", "tuned", "--name", "mine", "--json").json
    with Workspace.open(folder) as workspace:
        plan = workspace.plan(edited["number"])
        assert plan is not None
        assert {name: units.tolist() for name, units in plan.units.items()} == {"conv1": [0]}
    assert ws("draft", "tuned", "--json").json["draft"] == []
    ws("rename", "mine", "final")
    ws("note", "final", "good enough")
    shown = ws("show", "final").out
    for words in ("good enough", "#1 > #2 > #3 > #4", "onnxprune ws edit 4", "plan=.onnxprune/blobs/", "recall"):
        assert words in shown
    ws("export", "final", tmp_path / "out")
    assert load(tmp_path / "out" / "model.onnx").hash == edited["model_hash"]
    again = ws("import", "4", tmp_path / "out" / "plan.json", "--json").json
    assert again["model_hash"] == edited["model_hash"]
    assert ws("import", "0", tmp_path / "out" / "model.onnx", "--json").json["parent"] is None


def test_what_is_recorded_makes_the_step_again(ws: Call) -> None:
    made = ws("prune", "1", "--ratio", "0.5", "--min", "accuracy=0", "--name", "3", "--set", 'skip=["conv2"]', "--json")
    command = made.json["command"]
    assert command[:4] == ["onnxprune", "ws", "prune", "1"]
    same = ws(*command[2:], "--json").json
    assert same["model_hash"] == made.json["model_hash"]
    assert (same["name"], same["command"]) == ("3", command)


def test_the_trash(ws: Call, call: Call) -> None:
    ws("prune", "1", "--ratio", "0.5", "--name", "half")
    ws("prune", "half", "--ratio", "0.5")
    assert "#2, #3" in ws("delete", "half").out
    assert "half" not in ws("tree").out
    assert "in the trash" in ws("tree", "--trash").out
    assert ws("restore", "half", "--json").json == {"steps": [2, 3]}
    refused = call("ws", "delete", "1")
    assert refused.code == 2
    assert "step 1 is an original" in refused.err


def test_figures(ws: Call, call: Call, folder: Path) -> None:
    ws("prune", "1", "--ratio", "0.5")
    ws("finetune", "2", "--epochs", "2")
    rows = list(csv.DictReader(io.StringIO(ws("csv", "3").out)))
    assert [row["kind"] for row in rows] == ["original", "prune", "fine-tune"]
    assert rows[2]["cost_epochs"] == "2"
    ws("csv", "3", "--rows", "confusion", "-o", folder / "confusion.csv")
    assert (folder / "confusion.csv").read_text().startswith("step,label,prediction,count\n1,")
    for name in ("classes", "instances"):
        assert isinstance(ws("csv", "3", "--rows", name, "--json").json["rows"], list)
    compared = ws("compare", "1", "3", "--json").json
    assert {row["metric"] for row in compared["metrics"]} >= {"accuracy", "parameters"}
    assert "instances degenerated" in ws("compare", "1", "3").out
    refused = call("ws", "csv", "3", "--rows", "nothing")
    assert refused.code == 2
    assert "there is no such table" in refused.err


def test_housekeeping(ws: Call, call: Call, folder: Path) -> None:
    ws("prune", "1", "--ratio", "0.5")
    assert "2 steps, 0 of them damaged" in ws("check").out
    orphan = folder / ".onnxprune" / "blobs" / ("a" * 64)
    orphan.write_bytes(b"12345")
    assert ws("gc", "--json").json == {"files": 0, "bytes": 0}
    assert ws("gc", "--grace", "0", "--json").json == {"files": 1, "bytes": 5}
    blob = folder / ".onnxprune" / "blobs" / ws("show", "2", "--json").json["model"]
    blob.write_bytes(b"damaged")
    result = call("ws", "check", "--json")
    assert result.code == 2
    assert [entry["step"] for entry in result.json["damaged"]] == [2]
    assert "DAMAGED" in ws("tree").out
    refused = call("ws", "prune", "2", "--ratio", "0.5")
    assert refused.code == 2
    assert "is damaged" in refused.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", "9"), "there is no step 9"),
        (("prune", "1", "--set", "ratio"), "--set ratio: expected NAME=VALUE"),
        (("prune", "1", "--set", "ratoi=1"), "prune has no option 'ratoi'"),
        (("prune", "1", "--min", "accuracy=x", "--ratio", "0.5"), "--min accuracy=x: 'x' is not a number"),
        (("prune", "1", "--ratio", "0.5", "--data", "nothing"), "there are no data 'nothing'"),
        (("draft", "1", "--remove", "conv1"), "conv1: expected GROUP=N,N"),
        (("draft", "1", "--lowest", "l2=2"), "ratio: got 2"),
        (("edit", "1"), "the draft removes nothing"),
        (("import", "1"), "import takes a model or a plan"),
        (("import", "0", "plan.json"), "a plan belongs to a step"),
        (("finetune", "1", "--target", "x"), "target: got 'x'"),
        (("recover", "1"), "nothing was removed on the way to step 1"),
    ],
)
def test_bad_input(call: Call, folder: Path, arguments: tuple[str, ...], words: str) -> None:
    result = call("ws", *arguments)
    assert result.code == 2
    assert words in result.err
    with Workspace.open(folder) as workspace:
        assert len(workspace.steps.all(trashed=True)) == 1


def test_an_interruption_records_nothing(call: Call, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setattr("onnxprune.cli.ws_actions.interrupts", lambda: nullcontext(lambda: True))
    result = call("ws", "prune", "1", "--ratio", "0.5")
    assert result.code == 130
    assert "nothing was recorded" in result.err
    assert json.loads(call("ws", "tree", "--json").out)["steps"][-1]["number"] == 1
    assert folder.is_dir()
