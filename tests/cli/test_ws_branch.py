"""`ws branch`, work that goes on in the background, and jobs that waited when the folder was closed."""

from __future__ import annotations

from pathlib import Path

import pytest

from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.workspace import Workspace
from tests.cli.conftest import Call
from tests.workspace.conftest import folder as folder  # noqa: PLC0414 - a fixture


@pytest.fixture
def ws(call: Call, folder: Path) -> Call:
    def run(*arguments: str | Path) -> object:
        result = call("ws", arguments[0], *arguments[1:], "--folder", folder)
        assert result.code == 0, result.err
        return result

    return run  # type: ignore[return-value]


def test_a_branch_like_another_one(ws: Call, call: Call, folder: Path) -> None:
    half = ws("prune", "1", "--ratio", "0.5", "--name", "half", "--json").json
    ws("finetune", "2", "--epochs", "1", "--deterministic")
    again = ws("branch", "1", "--like", "half", "--whole", "--json").json["steps"]
    assert [step["number"] for step in again] == [4, 5]
    assert again[0]["model_hash"] == half["model_hash"]
    other = ws("branch", "1", "--like", "half", "--set", "ratio=0.25", "--name", "quarter").out
    assert other.startswith("#6 prune quarter")
    refused = call("ws", "branch", "2", "--folder", folder)
    assert refused.code == 2
    assert "a branch needs something to begin with" in refused.err
    refused = call("ws", "branch", "2", "--like", "1", "--folder", folder)
    assert refused.code == 2
    assert "step 1 was not made by an action" in refused.err


def test_work_in_the_background(ws: Call, call: Call, folder: Path) -> None:
    job = ws("prune", "1", "--ratio", "0.5", "--background", "--json").json
    assert (job["action"], job["step"]) == ("prune", 1)
    ended = call("jobs", "wait", job["number"], "--folder", folder, "--json")
    assert ended.code == 0
    assert ended.json["jobs"][0]["result"] == 2
    refused = call("ws", "prune", "1", "--set", "ratoi=1", "--background", "--folder", folder)
    assert refused.code == 2
    assert "prune has no option 'ratoi'" in refused.err


def test_jobs_that_waited_go_on_when_the_folder_is_opened(ws: Call, call: Call, folder: Path) -> None:
    ws("open", "--no-measure")
    with Workspace.open(folder) as workspace:
        number = Jobs(workspace.database).add("prune", 1, {"ratio": 0.5}).number
    assert "a worker does them now" in ws("open", "--no-measure").out
    assert call("jobs", "wait", str(number), "--folder", folder).code == 0
    assert "a worker" not in ws("open", "--no-measure").out
