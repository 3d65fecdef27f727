"""Speculation: what is measured ahead is what the step has, at the lowest priority, kept point by point."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onnxprune.data import open_dataset
from onnxprune.errors import OptionError, StepNotFound, SurgeryError, WorkspaceError
from onnxprune.evaluate import evaluate
from onnxprune.guidance import (
    Preview,
    Speculation,
    ask,
    effect_of,
    previews,
    score_now,
    set_speculation,
    speculate,
    speculation,
    suggest,
)
from onnxprune.guidance import preview as module
from onnxprune.guidance.action import preview as measure_ahead
from onnxprune.guidance.preview import Bench
from onnxprune.guidance.trial import carried_out
from onnxprune.plan import Plan
from onnxprune.workspace.job import BACKGROUND, Job
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.worker import work
from onnxprune.workspace.workspace import Workspace
from tests.guidance.conftest import Prune, quiet, unlabelled

LONG = 60.0  # seconds that something may take on a machine that has other things to do
RATIOS = (0.25, 0.5, 0.75)
FEW: Mapping[str, Any] = {"ratios": RATIOS}


@pytest.fixture(autouse=True)
def no_suggestions(workspace: Workspace) -> None:
    """Only ratios and thresholds, where a test does not say otherwise."""
    set_speculation(workspace, suggestions=0)


def do(workspace: Workspace) -> list[Job]:
    ended: list[Job] = []
    work(workspace, ended=ended.append)
    return ended


def open_jobs(workspace: Workspace) -> list[Job]:
    return Jobs(workspace.database).all(("queued", "running"))


def at(workspace: Workspace, ratio: float, criterion: str = "l2", step: int = 1, **options: Any) -> Preview:
    return next(p for p in previews(workspace, step, criterion, **options) if ratio in p.ratios_of(criterion))


class TestMeasured:
    @pytest.mark.parametrize("criterion", ["l2", "taylor", "thinet", "lap-sequential"])
    def test_it_is_what_the_step_has(self, workspace: Workspace, prune: Prune, criterion: str) -> None:
        """thinet: with the repair that belongs to it; lap-sequential: with scores for this very ratio."""
        speculate(workspace, 1, criterion, **FEW)
        do(workspace)
        for ratio in (0.25, 0.5):
            step, ahead = prune(ratio=ratio, criterion=criterion), at(workspace, ratio, criterion)
            for name in ("accuracy", "loss"):
                assert ahead.metrics[name] == pytest.approx(step.metrics[name], rel=1e-6)
            assert (ahead.parameters, ahead.macs) == (step.metrics["parameters"], step.metrics["macs"])
            plan = workspace.plan(step.number)
            assert plan is not None
            assert ahead.removed == plan.removed_units
            assert ahead.groups == {name: units.size for name, units in plan.units.items()}
            found = effect_of(workspace, 1, plan)
            assert found is not None
            assert (found.value, found.basis) == (ahead.value, "measured")

    def test_on_a_subset_it_is_what_the_step_has_there(self, workspace: Workspace, prune: Prune) -> None:
        speculate(workspace, 1, samples=6, seed=3, **FEW)
        do(workspace)
        ahead = at(workspace, 0.5, samples=6, seed=3)
        subset = open_dataset(workspace.folder / "data/bright.npz").subset(6, 3)
        step = prune(ratio=0.5)
        assert ahead.samples == 6
        assert ahead.value == evaluate(workspace.model(step.number), subset).value("accuracy")
        assert ahead.baseline == evaluate(workspace.model(1), subset).value("accuracy")
        assert previews(workspace, 1) == ()

    def test_a_threshold_and_its_neighbours(self, workspace: Workspace) -> None:
        scores = score_now(workspace, 1, "l2")
        values = np.sort(np.concatenate([scores[name] for name in scores]))
        edit = {"criterion": "l2", "threshold": float(values[8:10].mean())}
        speculate(workspace, 1, threshold=edit, ratios=())
        do(workspace)
        found = [p for p in previews(workspace, 1, "l2") if p.threshold_of("l2") is not None]
        assert [p.removed for p in found] == [8, 9, 10]
        mine = next(p for p in found if p.threshold_of("l2") == edit["threshold"])
        assert mine.removed == sum(int((scores[name] < edit["threshold"]).sum()) for name in scores)
        assert mine.ratio_of("l2") is None

    def test_one_plan_of_two_recipes_is_measured_once(self, workspace: Workspace) -> None:
        bench_runs = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "carried_out", lambda *a: bench_runs.append(a) or carried_out(*a))
            speculate(workspace, 1, ratios=(0.5, 0.51))
            do(workspace)
        assert len(bench_runs) == 2  # the baseline, and both ratios at once
        assert at(workspace, 0.5) == at(workspace, 0.51)

    def test_processes_measure_the_same(self, workspace: Workspace) -> None:
        speculate(workspace, 1, "thinet", threads=1, **FEW)
        do(workspace)
        here = [(p.plan, p.metrics, p.file_bytes) for p in previews(workspace, 1)]
        with workspace.database.writing() as connection:
            connection.execute("DELETE FROM preview")
        set_speculation(workspace, workers=2)
        speculate(workspace, 1, "thinet", threads=1, **FEW)
        (job,) = do(workspace)
        assert (job.state, job.error) == ("done", "")
        assert [(p.plan, p.metrics, p.file_bytes) for p in previews(workspace, 1)] == here
        assert len(here) == len(RATIOS) + 1

    def test_a_ratio_at_which_nothing_goes(self, workspace: Workspace) -> None:
        speculate(workspace, 1, ratios=(0.01,))
        do(workspace)
        ahead = at(workspace, 0.01)
        assert ahead.removed == 0
        assert ahead.value == ahead.baseline

    def test_without_labels_it_is_compared_with_the_original(self, folder: Path, workspace: Workspace) -> None:
        unlabelled(folder)
        workspace.scan()
        speculate(workspace, 1, **FEW)
        (job,) = do(workspace)
        assert job.state == "done"
        ahead = at(workspace, 0.25)
        assert ahead.metric == "agreement"
        assert ahead.baseline == 1
        assert 0 <= ahead.value <= 1

    def test_it_belongs_to_the_model(self, workspace: Workspace, prune: Prune) -> None:
        first = prune(ratio=0.25)
        speculate(workspace, first.number, **FEW)
        do(workspace)
        known = previews(workspace, first.number)
        workspace.steps.trash(first.number)
        second = prune(ratio=0.25)
        assert previews(workspace, second.number) == known
        assert speculate(workspace, second.number, **FEW) is None

    def test_what_fails_is_not_tried_again(self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise SurgeryError("this cannot be cut", "")

        monkeypatch.setattr("onnxprune.guidance.trial.remove", refuse)
        speculate(workspace, 1, **FEW)
        (job,) = do(workspace)
        assert job.state == "done"
        assert [p.removed for p in previews(workspace, 1)] == [0]
        assert speculate(workspace, 1, **FEW) is None


class TestSuggested:
    def test_the_first_suggestions_are_measured_until_more_is_known(self, workspace: Workspace) -> None:
        set_speculation(workspace, suggestions=2)
        speculate(workspace, 1, ratios=())
        do(workspace)
        tried = [p for p in previews(workspace, 1) if any("suggestion" in r for r in p.recipes)]
        assert len(tried) == 2
        assert speculate(workspace, 1, ratios=()) is None
        ask(workspace, 1, "activity")
        do(workspace)
        assert speculate(workspace, 1, ratios=()) is not None

    def test_the_largest_ratio_that_holds_is_suggested(self, workspace: Workspace) -> None:
        speculate(workspace, 1, **FEW)
        do(workspace)
        found = [one for one in suggest(workspace, 1, loss=2.0) if one.kind == "ahead"]
        assert [one.action.options["ratio"] for one in found if one.action] == [0.75]
        holds = [p.ratio_of("l2") for p in previews(workspace, 1, "l2") if p.value >= p.baseline - 0.2]
        found = [one for one in suggest(workspace, 1, loss=0.2) if one.kind == "ahead"]
        assert [one.action.options["ratio"] for one in found if one.action] == ([max(holds)] if holds else [])  # type: ignore[type-var]


class TestQueue:
    def test_a_persons_job_goes_first(self, workspace: Workspace) -> None:
        ahead = speculate(workspace, 1, **FEW)
        assert ahead is not None
        assert ahead.priority == BACKGROUND
        Jobs(workspace.database).add("prune", 1, {"ratio": 0.5})
        assert [job.action for job in do(workspace)] == ["prune", "preview"]

    def test_it_makes_room_and_comes_back_and_loses_nothing(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A person's job comes while the second ratio is measured."""
        ahead = speculate(workspace, 1, **FEW)
        assert ahead is not None
        measure, told = Bench.measure, []

        def busy(self: Bench, units: Any, recipe: Any, method: str = "") -> Preview | None:
            found = measure(self, units, recipe, method)
            told.append(recipe["ratio"])
            if len(told) == 1:
                Jobs(workspace.database).add("prune", 1, {"ratio": 0.5})
                until = time.monotonic() + LONG
                while time.monotonic() < until:  # the worker sees it, and progress ends the work
                    self.progress("at work", 1, 3)
                    time.sleep(0.02)
            return found

        monkeypatch.setattr(Bench, "measure", busy)
        ended = do(workspace)
        assert [(job.action, job.state) for job in ended] == [
            ("preview", "cancelled"), ("prune", "done"), ("preview", "done"),
        ]  # fmt: skip
        assert ended[2].again == ahead.number
        assert sorted(p.ratio_of("l2") or 0 for p in previews(workspace, 1, "l2")) == list(RATIOS)

    def test_what_is_measured_is_not_measured_again(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        speculate(workspace, 1, ratios=(0.5,))
        do(workspace)
        job = speculate(workspace, 1, ratios=(0.25, 0.5))
        assert job is not None
        assert [recipe["ratio"] for recipe in job.options["recipes"]] == [0.25]
        do(workspace)
        assert speculate(workspace, 1, ratios=(0.25, 0.5)) is None
        monkeypatch.setattr(Bench, "_measure", lambda *_: pytest.fail("measured again"))
        recipes = [{"criterion": "l2", "ratio": 0.5}]
        measure_ahead(workspace, 1, {"recipes": recipes}, quiet, lambda: False)

    def test_it_is_queued_once(self, folder: Path, workspace: Workspace) -> None:
        with Workspace.open(folder) as other:
            first = speculate(workspace, 1, **FEW)
            assert speculate(other, 1, **FEW) == first
            assert speculate(workspace, 1, ratios=(0.5,)) == first
            assert len(open_jobs(other)) == 1

    def test_it_starts_near_the_ratio_that_a_person_looks_at(self, workspace: Workspace) -> None:
        job = speculate(workspace, 1, around=0.6, ratios=(0.1, 0.5, 0.7))
        assert job is not None
        assert [recipe["ratio"] for recipe in job.options["recipes"]] == [0.6, 0.55, 0.65, 0.5, 0.7, 0.1]

    def test_it_follows_the_person(self, workspace: Workspace, prune: Prune) -> None:
        step = prune(ratio=0.25)
        speculate(workspace, 1, **FEW)
        moved = speculate(workspace, step.number, **FEW)
        assert open_jobs(workspace) == [moved]
        mine = Jobs(workspace.database).add("preview", 1, {})  # somebody asked for it
        speculate(workspace, 1, **FEW)
        assert mine.number in [job.number for job in open_jobs(workspace)]

    def test_a_step_in_the_trash_or_without_data(self, folder: Path, workspace: Workspace, prune: Prune) -> None:
        step = prune(ratio=0.25)
        speculate(workspace, step.number, **FEW)
        workspace.steps.trash(step.number)
        assert speculate(workspace, step.number, **FEW) is None
        assert open_jobs(workspace) == []
        (folder / "data" / "bright.npz").unlink()
        workspace.scan()
        assert speculate(workspace, 1, **FEW) is None
        assert previews(workspace, 1) == ()


class TestRules:
    def test_it_can_be_turned_off(self, folder: Path, workspace: Workspace) -> None:
        speculate(workspace, 1, **FEW)
        assert set_speculation(workspace, on=False) == Speculation(on=False, suggestions=0)
        assert open_jobs(workspace) == []
        with Workspace.open(folder) as other:
            assert not speculation(other).on
            assert speculate(other, 1, **FEW) is None
        set_speculation(workspace, on=True)
        assert speculate(workspace, 1, **FEW) is not None

    def test_a_job_in_the_queue_does_nothing_then(self, workspace: Workspace) -> None:
        with workspace.database.writing() as connection:
            connection.execute("UPDATE setting SET value = ?", ('{"on": false}',))
        measure_ahead(workspace, 1, {"recipes": [{"criterion": "l2", "ratio": 0.5}]}, quiet, lambda: False)
        assert [p.removed for p in previews(workspace, 1)] == [0]

    def test_limits(self, workspace: Workspace) -> None:
        set_speculation(workspace, entries=2)
        speculate(workspace, 1, **FEW)
        do(workspace)
        assert len(previews(workspace, 1)) == 2
        assert speculate(workspace, 1, **FEW) is None
        set_speculation(workspace, entries=200, seconds=0.0)
        assert speculate(workspace, 1, **FEW) is not None
        do(workspace)
        assert len(previews(workspace, 1)) == 2

    def test_rules_that_make_no_sense(self, folder: Path, workspace: Workspace) -> None:
        with pytest.raises(OptionError, match=r"entries: got 0, expected at least 1"):
            set_speculation(workspace, entries=0)
        with workspace.database.writing() as connection:
            connection.execute("UPDATE setting SET value = '{'")
        assert speculation(workspace) == Speculation()
        with Workspace.open(folder, readonly=True) as viewer, pytest.raises(WorkspaceError, match=r"for viewing"):
            set_speculation(viewer, on=False)

    def test_bad_input(self, workspace: Workspace) -> None:
        with pytest.raises(OptionError, match=r"no criterion 'l3'"):
            speculate(workspace, 1, "l3")
        with pytest.raises(OptionError, match=r"ratios: got"):
            speculate(workspace, 1, ratios=(1.5,))
        with pytest.raises(OptionError, match=r"previews have no option 'loss'"):
            speculate(workspace, 1, loss=1)
        with pytest.raises(StepNotFound, match=r"there is no step 5"):
            speculate(workspace, 5)
        with pytest.raises(OptionError, match=r"ratio: got 1.5"):
            effect_of(workspace, 1, 1.5)

    def test_a_row_that_is_broken_counts_as_absent(self, workspace: Workspace) -> None:
        speculate(workspace, 1, ratios=(0.5,))
        do(workspace)
        with workspace.database.writing() as connection:
            connection.execute("UPDATE preview SET content = '{' || content")
        assert previews(workspace, 1) == ()
        speculate(workspace, 1, ratios=(0.5,))
        do(workspace)
        assert at(workspace, 0.5).removed == 12


class TestEffect:
    def test_between_two_that_were_measured(self, workspace: Workspace) -> None:
        assert effect_of(workspace, 1, 0.3) is None
        speculate(workspace, 1, **FEW)
        do(workspace)
        zero = effect_of(workspace, 1, 0)
        assert zero is not None
        assert (zero.basis, zero.value) == ("measured", zero.baseline)
        low, high = at(workspace, 0.25), at(workspace, 0.5)
        exact, between = effect_of(workspace, 1, 0.25), effect_of(workspace, 1, 0.4)
        assert exact is not None
        assert between is not None
        assert (exact.value, exact.basis) == (low.value, "measured")
        assert between.basis == "extrapolated"
        assert between.points == 4
        ends = sorted([p.value for p in (low, high)] + [low.baseline, at(workspace, 0.75).value])
        assert ends[0] <= between.value <= ends[-1]
        assert effect_of(workspace, 1, 0.9) is None
        assert effect_of(workspace, 1, 0.25, "taylor") is None

    def test_a_line_between_few_points(self, workspace: Workspace) -> None:
        speculate(workspace, 1, ratios=(0.5,))
        do(workspace)
        found = effect_of(workspace, 1, 0.25)
        ahead = at(workspace, 0.5)
        assert found is not None
        assert found.value == pytest.approx((ahead.baseline + ahead.value) / 2)

    def test_a_plan_that_was_not_measured(self, workspace: Workspace, prune: Prune) -> None:
        speculate(workspace, 1, **FEW)
        do(workspace)
        plan = workspace.plan(prune(ratio=0.4).number)
        assert plan is not None
        found = effect_of(workspace, 1, plan)
        assert found is not None
        assert found.basis == "extrapolated"
        weights = Plan(plan.model_hash, weights={"fc.weight": np.ones((3, 16), np.bool_)})
        assert effect_of(workspace, 1, weights) is None
