"""Results that are kept: the same as computed anew, there again, for everybody, and gone when they are damaged."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from onnxprune.criteria import Settings, score
from onnxprune.data import open_calibration, open_dataset
from onnxprune.errors import DataError, OptionError, StepNotFound, WorkspaceError
from onnxprune.experiment import analyse
from onnxprune.guidance import (
    ask,
    is_quick,
    kept_activity,
    kept_instability,
    kept_latency,
    kept_scan,
    kept_scores,
    score_now,
)
from onnxprune.guidance.scores import PARTIAL, measure
from onnxprune.instability import instability
from onnxprune.sensitivity import scan
from onnxprune.workspace.job import BACKGROUND
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.migrations import MIGRATIONS
from onnxprune.workspace.values import Cancelled
from onnxprune.workspace.worker import work
from onnxprune.workspace.workspace import STORE, Workspace
from tests.guidance.conftest import Prune, quiet

DATA = "data/bright.npz"


def blobs_kept(workspace: Workspace) -> list[Path]:
    rows = workspace.database.rows("SELECT blob FROM kept ORDER BY created")
    return [workspace.blobs.path(row["blob"]) for row in rows]


def spoil(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def test_scores_are_those_that_a_pruning_would_use(workspace: Workspace) -> None:
    assert kept_scores(workspace, 1, "sensitivity") is None
    measure(workspace, 1, "score", {}, quiet)
    found = kept_scores(workspace, 1, "sensitivity")
    assert found is not None
    model, coupling = analyse(workspace.model(1))
    direct = score(model, coupling, "sensitivity", Settings(data=open_calibration(workspace.folder / DATA)))
    assert list(found) == list(direct)
    for name in direct:
        np.testing.assert_array_equal(found[name], direct[name])
    assert (found.criterion, found.model_hash) == ("sensitivity", workspace.steps.get(1).model_hash)


def test_the_other_kinds_are_what_their_functions_give(workspace: Workspace) -> None:
    for kind in ("instability", "scan"):
        measure(workspace, 1, kind, {}, quiet)
    model, coupling = analyse(workspace.model(1))
    fitted = open_calibration(workspace.folder / DATA)
    assert kept_instability(workspace, 1) == instability(model, coupling, fitted)
    scores = score(model, coupling, "l2")
    assert kept_scan(workspace, 1) == scan(model, coupling, scores, open_dataset(workspace.folder / DATA))


def test_one_that_needs_weights_only_is_there_at_once(workspace: Workspace) -> None:
    found = score_now(workspace, 1, "l2")
    assert kept_scores(workspace, 1, "l2") is not None
    np.testing.assert_array_equal(found["conv1"], score(*analyse(workspace.model(1)), "l2")["conv1"])
    sequential = score_now(workspace, 1, "lap-sequential", ratio=0.5)
    assert set(sequential) == {"conv1", "conv2"}
    assert is_quick("fpgm")
    assert not is_quick("taylor")
    with pytest.raises(OptionError, match=r"criterion 'taylor' needs data, gradients"):
        score_now(workspace, 1, "taylor")
    with pytest.raises(OptionError, match=r"no criterion 'l3'"):
        score_now(workspace, 1, "l3")


def test_they_do_not_depend_on_data_where_the_criterion_does_not(workspace: Workspace) -> None:
    score_now(workspace, 1, "l2", data="bright")
    assert kept_scores(workspace, 1, "l2", samples=5) is not None
    assert kept_scores(workspace, 1, "l2", seed=1) is None
    assert kept_scores(workspace, 1, "l2", include_inexact=True) is None
    assert kept_scores(workspace, 1, "l2", normalise=False) is None


def test_a_question_written_out_is_the_same_question(workspace: Workspace) -> None:
    measure(workspace, 1, "scan", {"ratios": [0.5, 0.25]}, quiet)
    same = {"ratios": (0.25, 0.5), "criterion": "l2", "samples": 1024, "seed": 0, "data": "bright", "shapes": ()}
    assert kept_scan(workspace, 1, **same, threads=1, metric=None) is not None
    assert kept_scan(workspace, 1) is None


def test_data_count_by_their_content(workspace: Workspace) -> None:
    measure(workspace, 1, "activity", {}, quiet)
    path = workspace.folder / DATA
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["x_train"] = arrays["x_train"][::-1].copy()
    np.savez(path, **arrays)
    workspace.scan()
    assert kept_activity(workspace, 1) is None


def test_other_programs_and_later_days_find_them(folder: Path, workspace: Workspace) -> None:
    measure(workspace, 1, "score", {"criterion": "taylor"}, quiet)
    workspace.database.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    with Workspace.open(folder) as other, Workspace.open(folder, readonly=True) as viewer:
        for one in (other, viewer):
            found = kept_scores(one, 1, "taylor")
            assert found is not None
            np.testing.assert_array_equal(found["conv2"], kept_scores(workspace, 1, "taylor")["conv2"])  # type: ignore[index]
        with pytest.raises(WorkspaceError, match=r"was opened for viewing"):
            ask(viewer, 1, "instability")
        assert set(score_now(viewer, 1, "l1")) == {"conv1", "conv2"}
        assert kept_scores(viewer, 1, "l1") is None


def test_they_belong_to_the_model_and_not_to_the_step(workspace: Workspace, prune: Prune) -> None:
    first = prune(ratio=0.5)
    measure(workspace, first.number, "score", {"criterion": "taylor"}, quiet)
    workspace.steps.trash(first.number)
    second = prune(ratio=0.5)
    assert second.model_hash == first.model_hash
    assert kept_scores(workspace, second.number, "taylor") is not None
    workspace.steps.restore(first.number)
    assert kept_scores(workspace, first.number, "taylor") is not None
    assert kept_scores(workspace, 1, "taylor") is None


def test_gc_leaves_what_is_kept(workspace: Workspace) -> None:
    measure(workspace, 1, "activity", {}, quiet)
    workspace.gc(grace=0)
    assert kept_activity(workspace, 1) is not None
    assert workspace.check() == []


def test_a_damaged_result_was_not_measured_and_can_be_again(workspace: Workspace) -> None:
    measure(workspace, 1, "activity", {}, quiet)
    (path,) = blobs_kept(workspace)
    spoil(path)
    assert kept_activity(workspace, 1) is None
    assert ask(workspace, 1, "activity") is not None
    measure(workspace, 1, "activity", {}, quiet)
    assert kept_activity(workspace, 1) is not None
    path.unlink()
    assert kept_activity(workspace, 1) is None
    assert not workspace.steps.get(1).damaged


def test_one_of_another_version_was_not_measured(workspace: Workspace) -> None:
    measure(workspace, 1, "activity", {}, quiet)
    with workspace.database.writing() as connection:
        connection.execute("UPDATE kept SET blob = ?", (workspace.blobs.put(b'{"onnxprune_activity": 99}'),))
    assert kept_activity(workspace, 1) is None


def test_a_store_without_the_table_is_viewed(folder: Path) -> None:
    with Workspace.open(folder):
        pass
    path = folder / STORE / "tree.sqlite"
    connection = sqlite3.connect(path)
    for name in ("kept", "preview", "setting"):
        connection.execute(f"DROP TABLE {name}")
    connection.execute("PRAGMA user_version = 4")
    connection.commit()
    connection.close()
    assert len(MIGRATIONS) >= 5
    with Workspace.open(folder, readonly=True) as viewer:
        assert kept_scores(viewer, 1, "sensitivity") is None
        assert set(score_now(viewer, 1, "l2")) == {"conv1", "conv2"}


def test_a_job_keeps_it_and_makes_no_step(workspace: Workspace) -> None:
    asked = {kind: ask(workspace, 1, kind) for kind in ("score", "instability", "scan", "activity")}
    assert all(job is not None and job.state == "queued" for job in asked.values())
    assert ask(workspace, 1, "score") == asked["score"]
    ended = []
    work(workspace, ended=ended.append)
    assert [(job.action, job.state, job.result) for job in ended] == [(kind, "done", None) for kind in asked]
    assert [ask(workspace, 1, kind) for kind in asked] == [None] * 4
    assert [step.number for step in workspace.steps.all()] == [1]
    for found in (kept_scores(workspace, 1), kept_instability(workspace, 1), kept_scan(workspace, 1)):
        assert found is not None


def test_a_more_urgent_question_is_asked_again(workspace: Workspace) -> None:
    slow = ask(workspace, 1, "activity", priority=BACKGROUND)
    quick = ask(workspace, 1, "activity")
    assert slow is not None
    assert quick is not None
    assert quick.number != slow.number
    assert ask(workspace, 1, "activity", priority=BACKGROUND) == slow


def test_of_two_programs_that_ask_at_once_one_job_is_left(folder: Path, workspace: Workspace) -> None:
    """Each looked into the queue before the other had written."""
    with Workspace.open(folder) as other:
        jobs = Jobs(other.database)
        add = Jobs.add

        def late(self: Jobs, *arguments: object, **options: object) -> object:
            if not jobs.all(("queued",)):
                add(jobs, "activity", 1, {})
            return add(self, *arguments, **options)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Jobs, "add", late)
            found = ask(workspace, 1, "activity")
        assert found is not None
        assert found.number == 1
        assert [(job.number, job.state) for job in jobs.all()] == [(1, "queued"), (2, "cancelled")]


def test_a_scan_that_was_cancelled_goes_on(workspace: Workspace) -> None:
    seen: list[str] = []

    def until(stage: str, done: int = 0, _: int = 0) -> None:
        seen.append(stage)
        if done == 4 and " at " in stage:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        measure(workspace, 1, "scan", {}, until)
    assert len(list((workspace.store / PARTIAL).iterdir())) == 1
    seen.clear()
    measure(workspace, 1, "scan", {}, lambda stage, *_: seen.append(stage))
    assert len([stage for stage in seen if " at " in stage]) == 10 - 4
    assert list((workspace.store / PARTIAL).iterdir()) == []
    found = kept_scan(workspace, 1)
    assert found is not None
    assert len(found.rows) == 10


def test_a_damaged_beginning_of_a_scan_is_left_alone(workspace: Workspace) -> None:
    def stop(stage: str, done: int = 0, _: int = 0) -> None:
        if done == 4 and " at " in stage:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        measure(workspace, 1, "scan", {}, stop)
    (file,) = (workspace.store / PARTIAL).iterdir()
    file.write_text("{")
    measure(workspace, 1, "scan", {}, quiet)
    assert kept_scan(workspace, 1) is not None


def test_what_cannot_be_asked(folder: Path, workspace: Workspace) -> None:
    with pytest.raises(OptionError, match=r"nothing is kept that is called 'scores'"):
        ask(workspace, 1, "scores")
    with pytest.raises(OptionError, match=r"scan has no option 'ratio'"):
        kept_scan(workspace, 1, ratio=0.5)
    with pytest.raises(StepNotFound, match=r"there is no step 7"):
        kept_scores(workspace, 7)
    with pytest.raises(WorkspaceError, match=r"there are no data 'dark'"):
        ask(workspace, 1, "activity", data="dark")
    assert kept_latency(workspace, 1) is None
    with pytest.raises(OptionError, match=r"a latency budget needs measuring"):
        measure(workspace, 1, "latency", {}, quiet)
    (folder / DATA).unlink()
    workspace.scan()
    assert kept_scores(workspace, 1, "taylor") is None
    with pytest.raises(DataError, match=r"there are no data that fit step 1"):
        ask(workspace, 1, "score", criterion="taylor")
    assert ask(workspace, 1, "score", criterion="l1") is not None
