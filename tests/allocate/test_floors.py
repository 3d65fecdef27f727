"""Floors under metrics: the largest removal that holds, and what is said where none does."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune.allocate import (
    Budget,
    Floor,
    FloorReport,
    allocate,
    check_floors,
    largest_that_holds,
    require_floors,
)
from onnxprune.allocate.floors import FINENESS
from onnxprune.cost import CostModel
from onnxprune.coupling import couple
from onnxprune.errors import BudgetError, OptionError
from onnxprune.plan import Plan
from tests.allocate.nets import chain, unit_scores, weight_scores

MODEL = chain((40, 60, 80, 40), size=5)
COUPLING = couple(MODEL)
SCORES = unit_scores(MODEL, COUPLING)
WEIGHTS = weight_scores(MODEL, COUPLING)
COSTS = CostModel(COUPLING)

VALUES = {("accuracy", ""): 0.9, ("recall", "cat"): 0.7, ("recall", "dog"): 0.95, ("loss", ""): 0.3}
FLOORS = (Floor("accuracy", 0.85), Floor("recall", 0.8, "cat"), Floor("loss", 0.25, higher=False))


class Metric:
    """Holds up to a share of units (or weights) removed, and keeps the plans that it was asked about."""

    def __init__(self, up_to: float) -> None:
        self.up_to = up_to
        self.plans: list[Plan] = []

    def __call__(self, plan: Plan) -> FloorReport:
        self.plans.append(plan)
        accuracy = 1 - self.gone(plan)
        return check_floors([Floor("accuracy", 1 - self.up_to)], {("accuracy", ""): accuracy})

    def gone(self, plan: Plan) -> float:
        if plan.units:
            return plan.removed_units / COUPLING.units
        return plan.removed_weights / sum(m.size for m in plan.weights.values())


def test_floors_are_held_against_values() -> None:
    report = check_floors(FLOORS, VALUES)
    assert not report
    assert [f.metric for f, _ in report.missed] == ["recall", "loss"]
    assert str(report) == "recall of class 'cat' >= 0.8: it is 0.7; loss <= 0.25: it is 0.3"
    fine = check_floors(FLOORS[:1], VALUES)
    assert fine
    assert str(fine) == "all floors hold"
    assert not check_floors([Floor("accuracy", 0.5)], {("accuracy", ""): float("nan")})


def test_a_floor_that_the_original_misses_names_class_and_value() -> None:
    require_floors(FLOORS[:1], VALUES)
    with pytest.raises(
        BudgetError, match=r"the original model already misses 2 of 3 floors: recall of class 'cat' >= 0.8: it is 0.7;"
    ):
        require_floors(FLOORS, VALUES)


def test_a_floor_needs_its_metric() -> None:
    with pytest.raises(OptionError, match=r"recall of class 'cow' >= 0.5.*\nThere are: accuracy, loss, recall 'cat'"):
        check_floors([Floor("recall", 0.5, "cow")], VALUES)


@settings(max_examples=20, derandomize=True)
@given(st.floats(0.05, 0.9), st.sampled_from(["uniform", "global", "lamp", "erk"]))
def test_the_largest_removal_that_holds(up_to: float, distribution: str) -> None:
    metric = Metric(up_to)
    budget = Budget(ratio=0.95, distribution=distribution, round_to=1)
    plan, reached, report = largest_that_holds(COUPLING, SCORES, budget, metric)
    assert report
    assert reached.ratio == metric.gone(plan) <= up_to
    assert reached.ratio > min(up_to, 0.95) - 2.5 / FINENESS - 5 / COUPLING.units
    assert len(metric.plans) <= 9


def test_what_the_budget_says_is_taken_where_it_holds() -> None:
    metric = Metric(0.8)
    budget = Budget(ratio=0.5, round_to=1)
    plan, _, _ = largest_that_holds(COUPLING, SCORES, budget, metric)
    assert len(metric.plans) == 1
    expected, _ = allocate(COUPLING, SCORES, budget)
    assert {n: u.tolist() for n, u in plan.units.items()} == {n: u.tolist() for n, u in expected.units.items()}


@pytest.mark.parametrize("options", [{"ratio": 0.9}, {"ratio": 0.9, "distribution": "lamp", "pattern": "1x4"}])
def test_single_weights_as_well(options: dict[str, Any]) -> None:
    metric = Metric(0.4)
    _, reached, _ = largest_that_holds(COUPLING, WEIGHTS, Budget(**options), metric)
    assert 0.35 < reached.ratio <= 0.4


def test_a_preset_is_taken_back_by_its_levels() -> None:
    metric = Metric(0.3)
    budget = Budget(distribution="preset", preset_step=9, round_to=1)
    _, reached, _ = largest_that_holds(COUPLING, SCORES, budget, metric)
    assert 0.25 < reached.ratio <= 0.3


def test_a_metric_may_answer_with_a_bool_and_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    plan, _, answer = largest_that_holds(
        COUPLING, SCORES, Budget(ratio=0.9, round_to=1), lambda plan: plan.removed_units < 60,
        progress=lambda *a: told.append(a),
    )  # fmt: skip
    assert answer is True
    assert plan.removed_units < 60
    assert [done for _, done, _ in told] == list(range(1, len(told) + 1))
    assert all(done <= total for _, done, total in told)


def test_nothing_holds() -> None:
    with pytest.raises(BudgetError, match=r"no removal holds: accuracy >= 1: it is 0.9\d"):
        largest_that_holds(COUPLING, SCORES, Budget(ratio=0.9, round_to=1), Metric(0.0))
    with pytest.raises(BudgetError, match=r"no removal holds: a floor is missed"):
        largest_that_holds(COUPLING, SCORES, Budget(group_ratios={"w0": 0.5}, round_to=1), lambda _: False)
    with pytest.raises(BudgetError, match=r"no removal holds"):
        largest_that_holds(COUPLING, WEIGHTS, Budget(pattern="2:4", skip=("w0",)), lambda _: False)


@pytest.mark.parametrize("scope", ["local", "global"])
def test_targets_and_floors_together(scope: str) -> None:
    budget = Budget(target_macs=0.5, scope=scope, round_to=1)
    fine = Metric(0.9)
    _, reached, _ = largest_that_holds(COUPLING, SCORES, budget, fine)
    assert reached.macs is not None
    assert reached.macs <= 0.5
    assert len(fine.plans) == 1
    strict = Metric(0.1)
    with pytest.raises(BudgetError, match=r"the targets target_macs=0.5 cannot be met: accuracy >= 0.9: it is 0.") as e:
        largest_that_holds(COUPLING, SCORES, budget, strict)
    best = float(e.value.hint.split("target_macs=")[1].split(",")[0])
    plan, _ = allocate(COUPLING, SCORES, Budget(target_macs=best * 1.001, scope=scope, round_to=1))
    assert strict(plan)
    assert strict.gone(plan) > 0.07
    with pytest.raises(BudgetError, match=r"No removal holds: lower the floor"):
        largest_that_holds(COUPLING, SCORES, budget, lambda _: False)


def test_an_absolute_target_that_does_not_hold() -> None:
    most = COSTS.before.parameters // 2
    with pytest.raises(BudgetError, match=rf"target_params={most} cannot be met.*\nAsk for target_params=0.9"):
        largest_that_holds(COUPLING, SCORES, Budget(target_params=most, round_to=1), Metric(0.05))


def test_a_latency_that_does_not_hold_is_looked_for_by_estimates() -> None:
    measured: list[Plan] = []

    def measure(plan: Plan) -> tuple[float, float]:
        measured.append(plan)
        return 10.0, 10.0 * COSTS.after(plan.units).macs / COSTS.before.macs

    with pytest.raises(BudgetError, match=r"target_latency=5ms cannot be met.*\nAsk for target_latency=0.[89]"):
        largest_that_holds(
            COUPLING, SCORES, Budget(target_latency="5ms", round_to=1), Metric(0.1),
            latency=lambda units: 10.0 * COSTS.after(units).macs / COSTS.before.macs, measure=measure,
        )  # fmt: skip
    assert len(measured) <= 3
