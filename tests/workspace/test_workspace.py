"""The facade: opening, viewing, damage, measuring, exporting, large models."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from onnxprune.errors import OptionError, StepNotFound, StoreDamaged, WorkspaceError
from onnxprune.model import load
from onnxprune.plan import Plan
from onnxprune.workspace import recording
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.recording import libraries, predictions_of, put_model
from onnxprune.workspace.values import NewStep, Step
from onnxprune.workspace.workspace import STORE, Workspace


def pruned(workspace: Workspace, number: int = 1, **options: object) -> Step:
    return ACTIONS["prune"](workspace, number, {"ratio": 0.5, **options}, lambda *_: None, lambda: False)


def spoil(workspace: Workspace, blob: str) -> bytes:
    path = workspace.blobs.path(blob)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    return content


def test_a_folder_without_models(tmp_path: Path) -> None:
    with Workspace.open(tmp_path) as workspace:
        assert workspace.steps.all() == workspace.files.listed() == []
    with pytest.raises(WorkspaceError, match=r"there is no such folder"):
        Workspace.open(tmp_path / "nowhere")


def test_the_tree_is_there_again(folder: Path, workspace: Workspace) -> None:
    made = pruned(workspace, name="half")
    with Workspace.open(folder) as again:
        assert not again.change
        assert again.steps.get(made.number) == made
        assert again.find("half") == again.find(str(made.number)) == again.find(f"#{made.number}") == made
        assert again.model(made.number).hash == made.model_hash
        with pytest.raises(StepNotFound, match=r"there is no step 'quarter'"):
            again.find("quarter")
        pruned(again, name="half", criterion="l1")
        with pytest.raises(OptionError, match=r"2 steps have the name 'half': 2, 3"):
            again.find("half")


def test_an_original_is_measured_when_it_is_wanted(workspace: Workspace) -> None:
    before = workspace.steps.get(1)
    assert before.metrics["parameters"] == 8 * 9 + 8 + 16 * 72 + 16 + 48 + 3
    assert "accuracy" not in before.metrics
    after = workspace.measure(1)
    assert 0 <= after.metrics["accuracy"] <= 1
    assert workspace.steps.all() == [after]
    assert workspace.measure(1) == after
    assert workspace.problem(1) == ""
    found = predictions_of(workspace.blobs, workspace.steps.documents(1)["predictions"])
    assert np.mean(found["labels"] == found["predictions"]) == after.metrics["accuracy"]
    assert workspace.steps.class_metrics(1).keys() >= {("recall", "0"), ("precision", "2")}


def test_a_read_only_folder_is_viewed(folder: Path) -> None:
    with Workspace.open(folder, readonly=True) as viewer:
        assert not (folder / STORE).exists()
        assert [step.name for step in viewer.steps.all()] == ["cnn"]
        assert viewer.dataset_name(1) == "data/bright.npz"
        with pytest.raises(WorkspaceError, match=r"was opened for viewing"):
            pruned(viewer)
    with Workspace.open(folder) as workspace:
        made = pruned(workspace)
        workspace.database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    with Workspace.open(folder, readonly=True) as viewer:
        assert viewer.steps.get(2) == made
        assert viewer.model(2).hash == made.model_hash
        for change in (viewer.gc, lambda: viewer.add(NewStep("import", made.model, "x"))):
            with pytest.raises(WorkspaceError, match=r"was opened for viewing"):
                change()


def test_a_damaged_blob_marks_its_step_and_leaves_the_rest(workspace: Workspace) -> None:
    made = pruned(workspace)
    content = spoil(workspace, made.model)
    with pytest.raises(StoreDamaged, match=r"does not have the hash that names it"):
        workspace.model(made.number)
    assert "is damaged" in workspace.steps.get(made.number).damaged
    assert workspace.model(1).hash == workspace.steps.get(1).model_hash
    assert [damage.step for damage in workspace.check()] == [made.number]
    workspace.blobs.path(made.model).write_bytes(content)
    assert workspace.check() == []
    assert workspace.steps.get(made.number).damaged == ""


def test_every_blob_is_checked(workspace: Workspace) -> None:
    made = pruned(workspace)
    assert made.plan is not None
    for blob in (made.plan, *workspace.steps.documents(made.number).values()):
        content = spoil(workspace, blob)
        assert [damage.step for damage in workspace.check()] == [made.number]
        workspace.blobs.path(blob).write_bytes(content)
    spoil(workspace, made.plan)
    with pytest.raises(StoreDamaged, match=r"is damaged"):
        workspace.plan(made.number)


def test_a_step_names_only_blobs_that_are_there_and_data_in_the_folder(workspace: Workspace) -> None:
    model = workspace.steps.get(1).model
    with pytest.raises(StoreDamaged, match=r"is not there"):
        workspace.add(NewStep("import", "a" * 64, "h"))
    with pytest.raises(WorkspaceError, match=r"is not the name of a blob"):
        workspace.add(NewStep("import", "../../model", "h"))
    with pytest.raises(WorkspaceError, match=r"leads out of the workspace"):
        workspace.add(NewStep("import", model, "h", dataset="../secret.npz"))
    assert len(workspace.steps.all(trashed=True)) == 1


def test_a_full_disk_records_nothing(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.measure(1)
    for room in (0, 1, 3):
        flushed = iter([None] * room)

        def full(_: int, left: Iterator[None] = flushed) -> None:
            if next(left, "none") == "none":
                raise OSError(28, "No space left on device")

        monkeypatch.setattr("onnxprune.workspace.blobs.os.fsync", full)
        with pytest.raises(WorkspaceError, match=r"(?s)No space left on device.*Nothing was recorded"):
            pruned(workspace)
    monkeypatch.undo()
    assert [step.number for step in workspace.steps.all(trashed=True)] == [1]
    workspace.gc(grace=0)
    assert set(workspace.blobs.names()) == workspace.steps.blobs()
    assert pruned(workspace).number == 2


def test_programs_that_open_a_folder_at_once_agree(folder: Path) -> None:
    code = (
        "import sys; from onnxprune.workspace.workspace import Workspace\n"
        "with Workspace.open(sys.argv[1]) as w: print(*[s.number for s in w.steps.all()])"
    )
    programs = [
        subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [program.communicate()[0] for program in programs] == ["1\n"] * 3


def test_gc_takes_orphans_only(workspace: Workspace) -> None:
    pruned(workspace)
    workspace.steps.trash(2)
    orphan = workspace.blobs.put(b"nobody's")
    assert workspace.gc() == (0, 0)
    assert workspace.gc(grace=0) == (1, 8)
    assert not workspace.blobs.path(orphan).exists()
    assert workspace.check() == []


def test_a_step_is_exported(workspace: Workspace, tmp_path: Path) -> None:
    made = pruned(workspace)
    files = workspace.export(made.number, tmp_path / "out")
    assert [file.name for file in files] == ["model.onnx", "plan.json", "report.json"]
    assert load(files[0]).hash == made.model_hash
    assert Plan.load(files[1]) == workspace.plan(made.number)
    report = json.loads(files[2].read_text())
    assert report["number"] == 2
    assert report["metrics"] == dict(made.metrics)
    assert [entry["kind"] for entry in report["path"]] == ["original", "prune"]
    assert [file.name for file in workspace.export(1, tmp_path / "out1")] == ["model.onnx", "report.json"]
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match=r"cannot be made"):
        workspace.export(1, tmp_path / "file" / "out")


def test_a_large_model_keeps_its_weights_in_a_blob_of_their_own(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "EXTERNAL_FROM", 100)
    model = workspace.model(1)
    blob, documents = put_model(workspace.blobs, model)
    step = workspace.add(NewStep("import", blob, model.hash, parent=1, documents=documents))
    assert documents.keys() == {"weights"}
    assert workspace.model(step.number).hash == model.hash
    assert workspace.gc(grace=0) == (0, 0)
    spoil(workspace, documents["weights"])
    with pytest.raises(StoreDamaged, match=r"is damaged"):
        workspace.model(step.number)


def test_versions_are_told() -> None:
    assert libraries()["numpy"] == np.__version__
