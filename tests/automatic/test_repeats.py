"""The same fine-tuning with several seeds, and whether two plans differ by more than the seeds do."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy import stats

from onnxprune.automatic import compare_spreads, difference, repeat, repeat_rows, repeat_seeds, spread_rows
from onnxprune.automatic.repeats import REPEAT, seeds_of
from onnxprune.errors import OptionError
from onnxprune.workspace.actions import ACTIONS
from onnxprune.workspace.jobs import Jobs
from onnxprune.workspace.values import Cancelled
from onnxprune.workspace.worker import work
from onnxprune.workspace.workspace import Workspace
from tests.automatic.conftest import TRAINED, no, quiet

TUNE = {"epochs": 1, "batch": 16, "deterministic": True}


@pytest.fixture
def pruned(workspace: Workspace) -> int:
    return ACTIONS["prune"](workspace, TRAINED, {"ratio": 0.5}, quiet, no).number


def test_a_step_for_every_seed(workspace: Workspace, pruned: int) -> None:
    made = repeat_seeds(workspace, pruned, (0, 1, 2), "r", TUNE, progress=quiet)
    steps = [workspace.steps.get(number) for number in made]
    assert [(step.parent, step.seed, step.kind) for step in steps] == [(pruned, s, "fine-tune") for s in range(3)]
    assert len({step.model_hash for step in steps}) == 3
    (row,) = spread_rows(workspace, 1, "loss")
    values = [step.metrics["loss"] for step in steps]
    assert (row["of"], row["units"], row["seeds"], row["steps"], row["values"]) == (pruned, 12, [0, 1, 2], made, values)
    assert (row["mean"], row["std"]) == (pytest.approx(np.mean(values)), pytest.approx(np.std(values, ddof=1)))
    assert (row["low"], row["high"], row["runs"]) == (min(values), max(values), 3)
    assert repeat_seeds(workspace, pruned, (0, 1, 2), "r", TUNE, progress=quiet) == made, "nothing is made twice"
    (row,) = spread_rows(workspace, 1, "recall:1")
    assert row["values"] == [workspace.steps.class_metrics(number)["recall", "1"] for number in made]
    assert spread_rows(workspace, 1, "recall:9") == []
    assert repeat_seeds(workspace, pruned, (2, 3), "r", TUNE, progress=quiet)[0] == made[2]


def test_an_executor_gives_the_same_models(workspace: Workspace, pruned: int) -> None:
    here = repeat_seeds(workspace, pruned, (0, 1), "here", TUNE, progress=quiet)
    with ThreadPoolExecutor(1) as executor:
        there = repeat_seeds(workspace, pruned, (0, 1), "there", TUNE, executor=executor, progress=quiet)
    hashes = [[workspace.steps.get(number).model_hash for number in made] for made in (here, there)]
    assert hashes[0] == hashes[1]
    assert {row["run"] for row in repeat_rows(workspace, pruned)} == {"here", "there"}


def test_cancelling_takes_back_what_has_not_begun(workspace: Workspace, pruned: int) -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(Cancelled):
        repeat_seeds(
            workspace, pruned, range(50), "r", TUNE,
            executor=executor, progress=quiet, cancelled=lambda: bool(repeat_rows(workspace, pruned)),
        )  # fmt: skip
    assert len(repeat_rows(workspace, pruned)) < 50


def test_a_tuned_step_is_done_again_and_not_trained_further(workspace: Workspace, pruned: int) -> None:
    tuned = ACTIONS["fine-tune"](workspace, pruned, {**TUNE, "seed": 1, "name": "once"}, quiet, no)
    (again,) = repeat_seeds(workspace, tuned.number, (1,), "r", {}, progress=quiet)
    assert workspace.steps.get(again).model_hash == tuned.model_hash
    assert workspace.steps.get(again).parent == pruned


def test_a_job_goes_on_and_gives_the_best(workspace: Workspace, pruned: int) -> None:
    with pytest.raises(Cancelled):
        repeat(
            workspace, pruned, {**TUNE, "seeds": 3, "run": "job-1"}, quiet, lambda: bool(repeat_rows(workspace, pruned))
        )
    before = [row["step"] for row in repeat_rows(workspace, pruned)]
    jobs = Jobs(workspace.database)
    jobs.add("repeat", pruned, {**TUNE, "seeds": 3})
    work(workspace)
    job = jobs.get(1)
    assert (job.state, job.error) == ("done", "")
    rows = repeat_rows(workspace, pruned)
    assert [row["step"] for row in rows][: len(before)] == before
    assert sorted(row["seed"] for row in rows) == [0, 1, 2]
    best = max(rows, key=lambda row: row["accuracy"])
    assert workspace.steps.get(job.result or 0).metrics["accuracy"] == best["accuracy"]
    assert REPEAT in workspace.steps.documents(best["step"])


@pytest.mark.parametrize("value", [0, "a", "1,1", [-1], [], "1,b", None, 2.5])
def test_seeds_that_make_no_sense(value: object) -> None:
    with pytest.raises(OptionError, match=r"seeds: got"):
        seeds_of(value)


def test_seeds() -> None:
    assert seeds_of(3) == seeds_of("3") == (0, 1, 2)
    assert seeds_of("4, 7") == seeds_of([4, 7]) == (4, 7)


def test_a_seed_beside_seeds(workspace: Workspace) -> None:
    with pytest.raises(OptionError, match=r"both seeds and a seed"):
        repeat_seeds(workspace, TRAINED, (1,), "r", {"seed": 3}, progress=quiet)


class TestDifference:
    rng = np.random.default_rng(0)
    a = rng.normal(0.980, 0.004, 10)
    b = a + rng.normal(0.006, 0.003, 10)

    def test_paired(self) -> None:
        found = difference(self.a.tolist(), self.b.tolist(), "accuracy", paired=True)
        oracle = stats.ttest_rel(self.b, self.a)
        assert found.p == pytest.approx(oracle.pvalue)
        assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval(0.95)))
        assert found.effect == pytest.approx((self.b - self.a).mean() / (self.b - self.a).std(ddof=1))
        assert found.words.startswith("The second is better in accuracy: +0.")
        assert "paired t-test" in found.words

    def test_welch(self) -> None:
        found = difference(self.a.tolist(), self.b[:7].tolist(), "accuracy", paired=False)
        oracle = stats.ttest_ind(self.b[:7], self.a, equal_var=False)
        assert found.p == pytest.approx(oracle.pvalue)
        assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval(0.95)))
        assert "10 and 7 fine-tunings" in found.words

    def test_which_is_better_depends_on_the_metric(self) -> None:
        assert "The first is better in loss" in difference(self.a.tolist(), self.b.tolist(), "loss", paired=True).words
        same = difference([0.9, 0.91, 0.92], [0.91, 0.9, 0.92], "accuracy", paired=True)
        assert same.words.startswith("No clear difference in accuracy: +0.00 points")

    def test_values_that_do_not_spread(self) -> None:
        equal = difference([0.9, 0.9], [0.9, 0.9], "accuracy", paired=True)
        assert equal.words == "No difference in accuracy: 2 and 2 fine-tunings all gave the same value."
        assert math.isnan(equal.p)
        assert equal.as_dict()["p"] is None
        assert "nothing can be tested" in difference([0.9, 0.9], [0.8, 0.8], "accuracy", paired=False).words

    def test_one_value_tells_nothing(self) -> None:
        with pytest.raises(OptionError, match=r"tells nothing about its spread"):
            difference([0.9], [0.8, 0.9], "accuracy", paired=False)

    def test_the_same_seeds_are_paired_whatever_their_order(self) -> None:
        first = {"metric": "accuracy", "seeds": [0, 1, 2], "values": [0.9, 0.95, 0.92]}
        second = {"metric": "accuracy", "seeds": [2, 0, 1], "values": [0.93, 0.91, 0.96]}
        found = compare_spreads(first, second)
        assert found.test == "paired t-test"
        assert found.mean == pytest.approx(0.01)
        assert found.p < 1e-6 or math.isnan(found.p)
        other = compare_spreads(first, {**second, "seeds": [3, 4, 5]})
        assert other.test == "Welch's t-test"
