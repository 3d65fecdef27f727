"""Runs: which tries are made, what is recorded of them, where they end, and how they are taken up again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune.automatic import (
    auto,
    compare_strategies,
    contenders,
    run_rows,
    try_rows,
    units_by_step,
    units_of,
    verdicts,
)
from onnxprune.automatic.rows import AUTO, auto_documents
from onnxprune.errors import NothingToPrune, OptionError, WorkspaceError
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.replay import recorded
from onnxprune.workspace.values import Cancelled
from onnxprune.workspace.workspace import Workspace
from tests.automatic.conftest import TRAINED, Auto, no, quiet
from tests.cli.conftest import one_layer, save

ROOT = Path(__file__).parents[2]
UNITS = 24  # 8 and 16 filters
LONG = 120.0


def tries(workspace: Workspace) -> list[dict[str, Any]]:
    return try_rows(workspace, 1)


class TestAuto:
    def test_a_fixed_share_goes_until_a_try_fails(self, workspace: Workspace, run: Auto) -> None:
        best = run(require={"accuracy": 0.5})
        rows = tries(workspace)
        assert len(rows) > 1
        assert [row["units"] for row in rows] == [16, 11, 8, 6][: len(rows)]
        assert [row["holds"] for row in rows] == [True] * (len(rows) - 1) + [False]
        assert rows[-1]["value"] < 0.5 <= best.metrics["accuracy"]
        assert best.number == rows[-2]["step"]
        assert [row["parent"] for row in rows] == [TRAINED, *(row["step"] for row in rows[:-1])]
        assert verdicts(workspace, 1)[rows[-1]["step"]]["verdict"].startswith("accuracy is ")
        (summary,) = run_rows(workspace, 1)
        assert (summary["result"], summary["failed"], summary["units_start"]) == (best.number, 1, UNITS)
        assert summary["epochs"] == 0

    def test_every_step_says_how_it_came_and_can_be_made_again(self, workspace: Workspace, run: Auto) -> None:
        best = run(iterations=1, epochs=1, seed=3, criterion="l1", finetune={"batch": 16, "deterministic": True})
        tuned, pruned = workspace.steps.get(best.number), workspace.steps.get(best.number - 1)
        assert [step.kind for step in (pruned, tuned)] == ["prune", "fine-tune"]
        first, second = (json.loads(workspace.document(n, AUTO) or b"") for n in (pruned.number, tuned.number))
        assert (first["part"], first["verdict"], second["part"]) == ("prune", None, "fine-tune")
        assert (first["try"], first["wanted"], first["ratio"], first["run"]) == (
            0,
            16,
            pytest.approx(1 / 3),
            second["run"],
        )
        assert second["verdict"]["holds"] is True
        for step in (pruned, tuned):
            told = recorded(step)
            again = ACTIONS[told.action](workspace, told.step, told.options, quiet, no)
            assert again.model_hash == step.model_hash
            assert AUTO not in workspace.steps.documents(again.number)

    def test_a_budget_of_units_is_met_and_not_overshot(self, workspace: Workspace, run: Auto) -> None:
        best = run(budget={"units": 13}, ratio=0.25)
        assert [row["units"] for row in tries(workspace)] == [18, 14, 13]
        assert tries(workspace)[-1]["reached"]
        assert units_of(workspace, best.number) == 13

    def test_a_budget_of_parameters(self, workspace: Workspace, run: Auto) -> None:
        best = run(budget={"parameters": 0.4}, name="small", pin=True)
        whole = workspace.steps.get(1).metrics["parameters"]
        assert best.metrics["parameters"] <= 0.4 * whole
        assert [row["reached"] for row in tries(workspace)] == [False] * (len(tries(workspace)) - 1) + [True]
        assert (best.name, best.pinned) == ("small", True)

    def test_a_budget_out_of_reach_ends_with_the_smallest(self, workspace: Workspace, run: Auto) -> None:
        best = run(budget={"units": 0.05}, ratio=0.5)
        assert units_of(workspace, best.number) == 2, "one unit of each group stays"
        assert not tries(workspace)[-1]["reached"]

    def test_when_the_first_try_fails_the_start_is_the_result(self, workspace: Workspace, run: Auto) -> None:
        best = run(require={"accuracy": 1.0}, ratio=0.9)
        assert best.number == TRAINED
        assert run_rows(workspace, 1)[0]["result"] is None

    def test_repair_is_a_step_of_its_own(self, workspace: Workspace, run: Auto) -> None:
        best = run(iterations=1, recover="bias")
        assert (best.kind, workspace.steps.get(best.number - 1).kind) == ("recover", "prune")
        assert set(verdicts(workspace, 1)) == {best.number}

    def test_global_scope_counts_over_all_groups(self, workspace: Workspace, run: Auto) -> None:
        run(iterations=1, ratio=0.5, prune={"scope": "global"})
        assert tries(workspace)[0]["units"] == 12

    def test_classes_have_floors(self, workspace: Workspace, run: Auto) -> None:
        run(require={"recall:1": 0.9})
        assert "recall:1 is" in tries(workspace)[-1]["verdict"]


class TestOtherStrategies:
    def test_manual_counts(self, workspace: Workspace, run: Auto) -> None:
        run(strategy="manual", units="30,20,14", require={"accuracy": 0.5})
        assert [row["wanted"] for row in tries(workspace)] == [20, 14], "there were fewer than 30"
        assert {row["phase"] for row in tries(workspace)} == {"manual"}

    def test_manual_ratios(self, workspace: Workspace, run: Auto) -> None:
        run(strategy="manual", ratios=["1/4", "1/3"])
        assert [row["units"] for row in tries(workspace)] == [18, 12]

    @pytest.mark.parametrize("strategy", ["auto+estimator", "bisect"])
    def test_what_lies_between_holding_and_failing_is_tried(
        self, workspace: Workspace, run: Auto, strategy: str
    ) -> None:
        plain = run(require={"accuracy": 0.5}, ratio=0.3)
        best = run(require={"accuracy": 0.5}, ratio=0.3, strategy=strategy, tolerance=1)
        rows = [row for row in tries(workspace) if row["strategy"] == strategy]
        refined = [row for row in rows if row["phase"] == strategy.removeprefix("auto+")]
        coarse = [row for row in rows if row["phase"] == "auto"]
        assert refined
        held = {TRAINED, *(row["step"] for row in rows if row["holds"])}
        assert all(row["parent"] in held for row in rows)
        assert all(row["units"] > coarse[-1]["units"] for row in refined)
        assert (units_of(workspace, best.number) or 0) <= (units_of(workspace, plain.number) or 0)
        smallest = min((row for row in rows if row["holds"]), key=lambda row: row["units"])
        assert best.number == smallest["step"]

    def test_bisection_ends_where_both_sides_meet(self, workspace: Workspace, run: Auto) -> None:
        best = run(require={"accuracy": 0.5}, ratio=0.6, strategy="bisect", tolerance=1, tries=20)
        left = units_of(workspace, best.number) or 0
        refined = [row for row in tries(workspace) if row["phase"] == "bisect"]
        assert refined
        assert max(row["units"] for row in tries(workspace) if not row["holds"] and row["units"] < left) == left - 1

    def test_the_strategies_side_by_side(self, workspace: Workspace) -> None:
        options = {"require": {"accuracy": 0.5}, "epochs": 0, "units": "16,8,4"}
        plans = contenders(options)
        rows = compare_strategies(workspace, TRAINED, plans, quiet)
        assert [row["plan"] for row in rows] == list(plans)
        assert len(plans) == 5
        made = len(workspace.steps.all())
        assert compare_strategies(workspace, TRAINED, plans, quiet) == rows
        assert len(workspace.steps.all()) == made, "nothing is done twice"


class TestTakenUpAgain:
    def test_a_run_that_broke_off_goes_on_after_its_last_step(self, workspace: Workspace, run: Auto) -> None:
        def cancelled() -> bool:
            return len(auto_documents(workspace, 1)) >= 3

        options = {
            "iterations": 3,
            "epochs": 1,
            "run": "mine",
            "finetune": {"batch": 16, "deterministic": True},
        }
        with pytest.raises(Cancelled):
            auto(workspace, TRAINED, options, quiet, cancelled)
        there = set(auto_documents(workspace, 1))
        assert there
        best = run(**options)
        assert there <= set(auto_documents(workspace, 1))
        once = [row["units"] for row in tries(workspace)]
        whole = run(**{**options, "run": "other"})
        again = [row["units"] for row in try_rows(workspace, 1, "other")]
        assert once == again
        assert whole.model_hash == best.model_hash

    def test_with_other_options_it_is_another_run(self, run: Auto) -> None:
        run(iterations=1, run="mine")
        with pytest.raises(OptionError, match=r"the run 'mine' was begun with other options"):
            run(iterations=1, ratio=0.5, run="mine")

    def test_a_killed_job_leaves_whole_steps_and_its_retry_goes_on(self, workspace: Workspace) -> None:
        jobs = Jobs(workspace.database)
        options = {"iterations": 4, "ratio": "1/4", "epochs": 12, "finetune": {"batch": 8}}
        jobs.add("auto", TRAINED, options)
        command = [sys.executable, "-m", "onnxprune.workspace.worker", str(workspace.folder)]
        process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        end = time.monotonic() + LONG
        try:
            while len(auto_documents(workspace, 1)) < 3:
                assert time.monotonic() < end
                assert process.poll() is None, "it was over before it could be killed"
                time.sleep(0.01)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        while not jobs.mark_lost():
            assert time.monotonic() < end
            time.sleep(0.05)
        before = auto_documents(workspace, 1)
        assert (jobs.get(1).state, jobs.get(1).result) == ("lost", max(before))
        assert not workspace.check()
        assert workspace.steps.all()[-1].number == max(before), "no half step"
        jobs.retry(1)
        subprocess.run(command, cwd=ROOT, check=True, timeout=LONG)
        done = jobs.get(2)
        assert (done.state, done.error) == ("done", "")
        after = auto_documents(workspace, 1)
        assert {number: after[number] for number in before} == before
        assert [(found["try"], found["part"]) for found in after.values()] == [
            (k, part) for k in range(4) for part in ("prune", "fine-tune")
        ], "no part was made twice"
        assert done.result == max(after)


class TestBadInput:
    def test_what_the_original_does_not_hold_is_said_at_once(self, workspace: Workspace, run: Auto) -> None:
        count = len(workspace.steps.all())
        with pytest.raises(OptionError, match=r"the original does not hold what is required: accuracy is"):
            run(1, require={"accuracy": 0.999})
        with pytest.raises(OptionError, match=r"(?s)step 2 does not hold.*Fine-tune it, start from a step above it"):
            run(require={"loss": 1e-9})
        assert len(workspace.steps.all()) == count

    def test_an_unknown_metric_and_a_budget_that_is_met(self, run: Auto) -> None:
        with pytest.raises(OptionError, match=r"there is no metric 'acc'"):
            run(require={"acc": 0.5})
        with pytest.raises(OptionError, match=r"step 2 is within the budget already"):
            run(budget={"units": 100})

    def test_nothing_to_prune(self, workspace: Workspace) -> None:
        save(one_layer(), workspace.folder / "line.onnx")
        workspace.scan()
        number = next(step.number for step in workspace.steps.all() if step.name == "line")
        with pytest.raises(NothingToPrune, match=rf"No unit of step {number} can be removed"):
            auto(workspace, number, {"budget": {"units": 0.5}, "epochs": 0}, quiet)
        with pytest.raises(WorkspaceError, match=r"(?s)no data that fit step.*epochs 0"):
            auto(workspace, number, {"iterations": 1}, quiet)

    def test_one_unit_left(self, workspace: Workspace, run: Auto) -> None:
        best = run(iterations=9, ratio=0.9)
        assert units_of(workspace, best.number) == 2
        with pytest.raises(NothingToPrune, match=r"No unit of step"):
            run(best.number, iterations=1)

    def test_without_labels_the_original_teaches_and_is_what_it_is_compared_with(self, workspace: Workspace) -> None:
        data = workspace.folder / "data" / "bright.npz"
        with np.load(data) as file:
            arrays = {name: file[name] for name in ("x_train", "x_test")}
        np.savez(data, **arrays)
        workspace.scan()
        best = auto(workspace, TRAINED, {"require": {"agreement": "-60%"}, "epochs": 1, "iterations": 1}, quiet)
        row = tries(workspace)[0]
        assert row["holds"] or "agreement is" in row["verdict"]
        assert "teacher=1" in " ".join(workspace.steps.get(row["step"]).command)
        assert best.number in {TRAINED, row["step"]}

    def test_a_workspace_that_may_only_be_read(self, workspace: Workspace) -> None:
        folder = workspace.folder
        workspace.close()
        with (
            Workspace.open(folder, readonly=True) as closed,
            pytest.raises(WorkspaceError, match=r"opened for viewing"),
        ):
            auto(closed, TRAINED, {"iterations": 1}, quiet)


def test_units_of_every_step(workspace: Workspace, run: Auto) -> None:
    best = run(iterations=2, epochs=1)
    ACTIONS["prune"](workspace, best.number, {"ratio": 0.5, "mode": "mask", "granularity": "weight"}, quiet, no)
    steps = workspace.steps.all()
    assert units_by_step(workspace, steps) == {1: 24, 2: 24, 3: 16, 4: 16, 5: 11, 6: 11, 7: 11}
