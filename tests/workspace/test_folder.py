"""What lies in the folder is found, paired, and noticed when it changes; what is broken stops nothing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from onnxprune.errors import WorkspaceError
from onnxprune.model import load, save
from onnxprune.workspace.folder import inside
from onnxprune.workspace.values import NewStep
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import mlp
from tests.cli.conftest import save as write
from tests.workspace.conftest import write_data


def paths(workspace: Workspace, kind: str) -> list[str]:
    return [entry.path for entry in workspace.files.listed(kind)]


def original(workspace: Workspace, path: str) -> int | None:
    return next(entry.step for entry in workspace.files.listed("model") if entry.path == path)


def test_every_model_meets_every_dataset(folder: Path) -> None:
    (folder / "models").mkdir()
    write(mlp(), folder / "models" / "mlp.onnx")
    np.savez(folder / "table.npz", x=np.zeros((5, 6), np.float32), y=np.zeros(5, np.int64))
    write_data(folder / "data" / "another.npz", seed=1)
    (folder / "notes.txt").write_text("not a model")
    with Workspace.open(folder) as workspace:
        assert paths(workspace, "model") == ["cnn.onnx", "models/mlp.onnx"]
        assert paths(workspace, "data") == ["data/another.npz", "data/bright.npz", "table.npz"]
        first, second = (workspace.steps.get(original(workspace, p) or 0) for p in paths(workspace, "model"))
        assert (first.name, second.name) == ("cnn", "mlp")
        assert workspace.files.fitting(first.model_hash) == ["data/another.npz", "data/bright.npz"]
        assert workspace.files.fitting(second.model_hash) == ["table.npz"]
        assert workspace.files.misfits(first.model_hash).keys() == {"table.npz"}
        assert workspace.dataset_name(first.number) == "data/another.npz"
        assert workspace.dataset(first.number, "bright") == workspace.folder / "data" / "bright.npz"
        with pytest.raises(WorkspaceError, match=r"(?s)there are no data 'nothing'.*data/another\.npz"):
            workspace.dataset(first.number, "nothing")


def test_a_broken_file_is_listed_and_stops_nothing(folder: Path) -> None:
    (folder / "broken.onnx").write_bytes((folder / "cnn.onnx").read_bytes()[:200])
    (folder / "data" / "broken.npz").write_bytes(b"no archive")
    (folder / "data" / "empty").mkdir()
    with Workspace.open(folder) as workspace:
        problems = {entry.path: entry.problem for entry in workspace.files.listed() if entry.problem}
        assert problems.keys() == {"broken.onnx", "data/broken.npz", "data/empty"}
        assert "truncated" in problems["broken.onnx"]
        assert [step.name for step in workspace.steps.all()] == ["cnn"]
        (folder / "broken.onnx").write_bytes((folder / "cnn.onnx").read_bytes())
        assert workspace.scan().changed == ("broken.onnx",)
        assert original(workspace, "broken.onnx") == original(workspace, "cnn.onnx") == 1


def test_what_came_changed_and_went_is_noticed(folder: Path, workspace: Workspace) -> None:
    assert workspace.change.came == ("cnn.onnx", "data/bright.npz")
    assert not workspace.scan()
    write(mlp(), folder / "mlp.onnx")
    assert workspace.scan().came == ("mlp.onnx",)
    assert [step.name for step in workspace.steps.all()] == ["cnn", "mlp"]

    model = onnx.load(folder / "cnn.onnx")
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    write(model, folder / "cnn.onnx")
    (folder / "mlp.onnx").unlink()
    change = workspace.scan()
    assert (change.changed, change.went) == (("cnn.onnx",), ("mlp.onnx",))
    assert [(step.number, step.name) for step in workspace.steps.all()] == [(3, "cnn")]
    write(mlp(), folder / "mlp.onnx")
    workspace.scan()
    assert [step.number for step in workspace.steps.all()] == [2, 3]


def test_an_original_stays_when_something_was_made_of_it(folder: Path, workspace: Workspace) -> None:
    step = workspace.steps.get(1)
    workspace.add(NewStep("prune", step.model, "other", parent=1))
    (folder / "cnn.onnx").unlink()
    assert workspace.scan().went == ("cnn.onnx",)
    assert [s.number for s in workspace.steps.all()] == [1, 2]
    assert workspace.model(1).hash == step.model_hash


def test_the_same_content_written_again_is_no_change(folder: Path, workspace: Workspace) -> None:
    path = folder / "cnn.onnx"
    os.utime(path, ns=(1, 1))
    assert not workspace.scan()
    assert [step.number for step in workspace.steps.all()] == [1]


def test_an_unchanged_file_is_not_read_again(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: Path) -> None:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr("onnxprune.workspace.folder.load", fails)
    monkeypatch.setattr("onnxprune.workspace.folder.open_dataset", fails)
    assert not workspace.scan()


def test_settings_beside_data_count_as_part_of_them(folder: Path, workspace: Workspace) -> None:
    assert workspace.dataset_name(1) == "data/bright.npz"
    (folder / "data" / "bright.toml").write_text('labels = "nothing"\n')
    assert workspace.scan().changed == ("data/bright.npz",)
    assert workspace.dataset_name(1) is None


def test_data_may_be_one_dataset_itself(folder: Path) -> None:
    (folder / "data" / "bright.npz").unlink()
    np.save(folder / "data" / "x.npy", np.zeros((4, 1, 8, 8), np.float32))
    np.save(folder / "data" / "y.npy", np.zeros(4, np.int64))
    with Workspace.open(folder) as workspace:
        assert paths(workspace, "data") == ["data"]
        assert workspace.dataset_name(1) == "data"


def test_weights_beside_a_model_belong_to_it(folder: Path) -> None:
    save(load(folder / "cnn.onnx"), folder / "large.onnx", external=True)
    with Workspace.open(folder) as workspace:
        assert original(workspace, "large.onnx") == original(workspace, "cnn.onnx")
        (folder / "large.onnx.data").unlink()
        assert workspace.scan().changed == ("large.onnx",)
        assert workspace.model(1).hash == workspace.steps.get(1).model_hash


@pytest.mark.parametrize("path", ["/etc/passwd", "../x.npz", "data/../../x", "", "..\\x", "C:/x"])
def test_a_path_cannot_lead_out(tmp_path: Path, path: str) -> None:
    with pytest.raises(WorkspaceError, match=r"leads out of the workspace"):
        inside(tmp_path, path)
