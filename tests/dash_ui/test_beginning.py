"""What is set going when the app is started."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dash_ui.beginning import begin
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.workspace import Workspace
from tests.workspace.conftest import folder as folder  # noqa: PLC0414 - a fixture


def ended(folder: Path) -> list[str]:
    """The states of all jobs when none is left to do."""
    with Workspace.open(folder, scan=False) as workspace:
        jobs = Jobs(workspace.database)
        while jobs.all(("queued", "running")):
            jobs.mark_lost()
            time.sleep(0.05)
        return [job.state for job in jobs.all()]


def test_new_models_are_measured_once(folder: Path) -> None:
    with Workspace.open(folder):
        pass
    assert begin(folder) == [1]
    assert ended(folder) == ["done"]
    with Workspace.open(folder) as workspace:
        assert "accuracy" in workspace.steps.get(1).metrics
    assert begin(folder) == []


def test_jobs_that_waited_are_done(folder: Path) -> None:
    with Workspace.open(folder) as workspace:
        workspace.measure(1)
        Jobs(workspace.database).add("prune", 1, {"ratio": 0.5})
    assert begin(folder) == []
    assert ended(folder) == ["done"]


def test_a_folder_that_may_only_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Workspace.open(folder):
        pass
    monkeypatch.setattr("onnxprune.workspace.workspace._writable", lambda *_: False)
    assert begin(folder) == []


def test_a_model_without_data(folder: Path) -> None:
    (folder / "data" / "bright.npz").unlink()
    with Workspace.open(folder):
        pass
    assert begin(folder) == []
