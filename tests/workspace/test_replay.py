"""Deleted branches come back from their command lines; a broken training goes on; a branch may begin elsewhere."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from onnxprune.errors import WorkspaceError
from onnxprune.train.checkpoint import load_checkpoint
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.replay import branch, recorded
from onnxprune.workspace.unfinished import KEEP, sweep
from onnxprune.workspace.values import Cancelled, Step
from onnxprune.workspace.worker import work
from onnxprune.workspace.workspace import Workspace

DEMO = Path(__file__).parents[2] / "onnxprune" / "demo_data"


def quiet(*_: Any) -> None:
    """Nobody looks."""


def never() -> bool:
    return False


def do(workspace: Workspace, action: str, number: int = 1, **options: Any) -> Step:
    return ACTIONS[action](workspace, number, options, quiet, never)


def replayed(workspace: Workspace, at: int, like: int, **options: Any) -> list[Step]:
    return branch(workspace, at, like, progress=quiet, cancelled=never, **options)


@pytest.fixture
def grown(workspace: Workspace, tmp_path: Path) -> tuple[Workspace, list[Step]]:
    """A branch with a step of every kind, which is then deleted."""
    half = do(workspace, "prune", ratio=0.5, name="half")
    mended = do(workspace, "recover", half.number)
    tuned = do(workspace, "fine-tune", mended.number, epochs=2, deterministic=True)
    workspace.drafts.add(tuned.number, {"group": "conv1", "remove": [1]})
    edited = do(workspace, "edit", tuned.number)
    workspace.export(edited.number, tmp_path / "out")
    imported = do(workspace, "import", edited.number, model=str(tmp_path / "out" / "model.onnx"))
    shutil.rmtree(tmp_path / "out")
    workspace.steps.trash(half.number)
    return workspace, [half, mended, tuned, edited, imported]


def test_a_deleted_branch_is_made_again_model_by_model(grown: tuple[Workspace, list[Step]]) -> None:
    workspace, gone = grown
    made = replayed(workspace, 1, gone[0].number, whole=True)
    assert [step.kind for step in made] == [step.kind for step in gone]
    assert [step.model_hash for step in made] == [step.model_hash for step in gone]
    assert [step.parent for step in made] == [1, *(step.number for step in made[:-1])]
    assert all(step.promise == "identical" for step in gone)


def test_so_it_is_by_jobs(grown: tuple[Workspace, list[Step]]) -> None:
    workspace, gone = grown
    at, jobs = 1, Jobs(workspace.database)
    for old in gone:
        told = recorded(old)
        job = jobs.add(told.action, at, told.options)
        assert work(workspace) == 1
        done = jobs.get(job.number)
        assert (done.state, done.error) == ("done", "")
        new = workspace.steps.get(done.result or 0)
        assert (new.parent, new.kind, new.model_hash) == (at, old.kind, old.model_hash)
        at = new.number


def test_a_training_that_is_not_deterministic_comes_within_half_a_point(tmp_path: Path) -> None:
    shutil.copy(DEMO / "digits_cnn.onnx", tmp_path)
    (tmp_path / "data").mkdir()
    shutil.copy(DEMO / "digits.npz", tmp_path / "data")
    with Workspace.open(tmp_path) as workspace:
        half = do(workspace, "prune", ratio=0.5)
        tuned = do(workspace, "fine-tune", half.number, epochs=6)
        assert tuned.promise == "close"
        (again,) = replayed(workspace, half.number, tuned.number)
        assert tuned.metrics["accuracy"] > half.metrics["accuracy"]
        assert abs(again.metrics["accuracy"] - tuned.metrics["accuracy"]) <= 0.005


def test_a_branch_elsewhere_with_other_options(grown: tuple[Workspace, list[Step]]) -> None:
    workspace, gone = grown
    small = do(workspace, "prune", ratio=0.75)
    (new,) = replayed(workspace, small.number, gone[2].number, options={"epochs": 1}, name="tuned")
    assert (new.parent, new.kind, new.name) == (small.number, "fine-tune", "tuned")
    assert recorded(new).options["epochs"] == 1
    assert recorded(new).options["deterministic"] is True


def test_an_original_was_not_made(workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match="step 1 was not made by an action"):
        replayed(workspace, 1, 1)


def stop_in(epoch: int, raised: type[BaseException]) -> Callable[..., None]:
    def progress(stage: str, *_: int) -> None:
        if f"epoch {epoch}" in stage:
            raise raised

    return progress


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("end", [Killed, Cancelled])
def test_a_broken_training_goes_on_where_it_was(workspace: Workspace, end: type[BaseException]) -> None:
    options = {"epochs": 4, "deterministic": True}
    whole = do(workspace, "fine-tune", **options, name="whole")
    with pytest.raises(end):
        ACTIONS["fine-tune"](workspace, 1, options, stop_in(3, end), never)
    (file,) = (workspace.store / "checkpoints").iterdir()
    assert load_checkpoint(file).position.epoch == 3
    stages: list[str] = []
    resumed = ACTIONS["fine-tune"](workspace, 1, options, lambda stage, *_: stages.append(stage), never)
    assert not any("epoch 1" in stage or "epoch 2" in stage for stage in stages)
    assert resumed.model_hash == whole.model_hash
    assert list((workspace.store / "checkpoints").iterdir()) == []


def test_a_damaged_checkpoint_is_no_obstacle(workspace: Workspace) -> None:
    with pytest.raises(Killed):
        ACTIONS["fine-tune"](workspace, 1, {"epochs": 3}, stop_in(2, Killed), never)
    (file,) = (workspace.store / "checkpoints").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert do(workspace, "fine-tune", epochs=3).kind == "fine-tune"


def test_old_checkpoints_are_swept(workspace: Workspace) -> None:
    with pytest.raises(Killed):
        ACTIONS["fine-tune"](workspace, 1, {"epochs": 3}, stop_in(2, Killed), never)
    assert sweep(workspace.store) == (0, 0)
    (file,) = (workspace.store / "checkpoints").iterdir()
    size, old = file.stat().st_size, time.time() - KEEP - 1
    os.utime(file, (old, old))
    assert workspace.gc() == (1, size)


def test_the_plan_of_a_job_that_can_be_tried_again_is_kept(workspace: Workspace) -> None:
    blob = workspace.blobs.put(b"a plan that fits nothing")
    jobs = Jobs(workspace.database)
    job = jobs.add("import", 1, {"plan": f".onnxprune/blobs/{blob}"})
    assert workspace.gc(0) == (0, 0)
    work(workspace)
    assert jobs.get(job.number).state == "failed"
    assert workspace.gc(0) == (0, 0)
    assert workspace.blobs.read(blob) == b"a plan that fits nothing"
