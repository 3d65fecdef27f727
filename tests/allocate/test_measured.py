"""A latency met by measuring: however wrong the estimates are, what was measured is within the target."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune.allocate import Budget, allocate
from onnxprune.allocate.measured import ROUNDS
from onnxprune.cost import CostModel
from onnxprune.coupling import couple
from onnxprune.errors import BudgetError, NothingToPrune
from onnxprune.plan import Plan
from onnxprune.values import Ints
from tests.allocate.nets import chain, unit_scores

MODEL = chain((40, 60, 80, 40), size=5)
COUPLING = couple(MODEL)
SCORES = unit_scores(MODEL, COUPLING)
COSTS = CostModel(COUPLING)


def macs_left(units: Mapping[str, Ints]) -> float:
    return COSTS.after(units).macs / COSTS.before.macs


class Machine:
    """Whole model ``whole`` ms; a plan takes what ``truth`` makes of the MACs that are left."""

    def __init__(self, truth: Callable[[float], float], whole: float = 20.0, noise: float = 0.0) -> None:
        self.truth, self.whole, self.noise = truth, whole, noise
        self.plans: list[Plan] = []
        self.rng = np.random.default_rng(0)

    def __call__(self, plan: Plan) -> tuple[float, float]:
        self.plans.append(plan)
        drift = self.rng.uniform(0.5, 2)  # both are timed in turns, so that it hits them alike
        return self.whole * drift, self.whole * drift * self.exact(plan) * (1 + self.noise * self.rng.normal())

    def exact(self, plan: Plan) -> float:
        return self.truth(macs_left(plan.units))


TRUTHS: dict[str, Callable[[float], float]] = {
    "as estimated": lambda m: m,
    "half of the time does not shrink": lambda m: 0.5 + 0.5 * m,
    "hardly anything shrinks at first": lambda m: 1 - (1 - m) ** 3,
    "nearly all goes at once": lambda m: m**3,
}


@pytest.mark.parametrize("truth", TRUTHS)
@pytest.mark.parametrize("share", [0.8, 0.6])
@pytest.mark.parametrize("distribution", ["uniform", "knapsack", "global"])
def test_estimates_are_corrected(truth: str, share: float, distribution: str) -> None:
    machine = Machine(TRUTHS[truth])
    budget = Budget(target_latency=share, distribution=distribution, round_to=2)
    plan, reached = allocate(COUPLING, SCORES, budget, latency=lambda u: 20 * macs_left(u), measure=machine)
    found = reached.targets[0]
    assert found.how == "measured"
    assert found.share == pytest.approx(machine.exact(plan))
    assert 0.9 * share <= found.share <= share
    assert len(machine.plans) <= 2 * ROUNDS
    if truth == "as estimated":
        assert len(machine.plans) <= 4


@settings(max_examples=25, derandomize=True)
@given(st.floats(0.4, 0.9), st.floats(0.2, 3.0), st.floats(0, 0.3), st.integers(0, 9))
def test_within_ten_percent_whatever_the_machine_is_like(share: float, bend: float, fixed: float, seed: int) -> None:
    machine = Machine(lambda m: fixed + (1 - fixed) * m**bend, noise=0.01)
    machine.rng = np.random.default_rng(seed)
    budget = Budget(target_latency=share, round_to=1)
    plan, reached = allocate(COUPLING, SCORES, budget, latency=lambda u: 7 * macs_left(u), measure=machine)
    assert reached.targets[0].share <= share
    assert 0.9 * share <= machine.exact(plan) <= 1.05 * share


@settings(max_examples=25, derandomize=True)
@given(st.floats(0.4, 0.8), st.integers(0, 99))
def test_on_a_disturbed_machine_the_estimates_are_trusted(share: float, seed: int) -> None:
    machine = Machine(lambda m: m, noise=0.3)
    machine.rng = np.random.default_rng(seed)
    budget = Budget(target_latency=share, round_to=1)
    try:
        plan, _ = allocate(COUPLING, SCORES, budget, latency=lambda u: 7 * macs_left(u), measure=machine)
    except BudgetError:
        with pytest.raises(BudgetError, match=r"was the best that was measured"):
            allocate(COUPLING, SCORES, budget, latency=lambda u: 7 * macs_left(u), measure=lambda _: (1.0, 1.0))
        return
    assert 0.7 * share <= machine.exact(plan) <= 1.3 * share
    assert len(machine.plans) <= 4 * 5


def test_an_absolute_target_is_compared_with_measured_milliseconds() -> None:
    machine = Machine(lambda m: m)
    machine.rng = np.random.default_rng()

    def steady(plan: Plan) -> tuple[float, float]:
        return 20.0, 20.0 * machine.exact(plan)

    budget = Budget(target_latency="12ms", round_to=1)
    _, reached = allocate(COUPLING, SCORES, budget, latency=lambda u: 5 * macs_left(u) + 8, measure=steady)
    found = reached.targets[0]
    assert found.before == 20.0
    assert found.limit == pytest.approx(0.6)
    assert 0.9 * 12 <= found.after <= 12


def test_other_targets_hold_as_well() -> None:
    machine = Machine(lambda m: m)
    budget = Budget(target_latency=0.9, target_params=0.4, round_to=1)
    _, reached = allocate(COUPLING, SCORES, budget, latency=macs_left, measure=machine)
    by_name = {t.name: t for t in reached.targets}
    assert by_name["target_params"].share <= 0.4
    assert by_name["target_latency"].share <= 0.9
    with pytest.raises(BudgetError, match=r"target_params: 0.0001 of the original is out of reach"):
        allocate(COUPLING, SCORES, Budget(target_latency=0.9, target_params=1e-4), latency=macs_left, measure=machine)


def test_what_cannot_be_reached_is_measured_before_it_is_refused() -> None:
    machine = Machine(lambda m: 0.6 + 0.4 * m)
    budget: Any = {"target_latency": 0.5, "round_to": 1}
    with pytest.raises(
        BudgetError, match=r"target_latency: 0.5 of the original's .* ms is out of reach: 0.6\d* \(.* ms\) was the best"
    ):
        allocate(COUPLING, SCORES, Budget(**budget), latency=macs_left, measure=machine)
    late = Machine(lambda m: m)  # estimated to be out of reach, measured not to be
    _, reached = allocate(COUPLING, SCORES, Budget(**budget), latency=lambda u: 0.6 + 0.4 * macs_left(u), measure=late)
    assert 0.45 <= reached.targets[0].share <= 0.5


def test_a_model_that_is_fast_enough_already() -> None:
    with pytest.raises(NothingToPrune, match=r"The model takes 20 ms, which is within the target already"):
        allocate(
            COUPLING, SCORES, Budget(target_latency="30ms", round_to=1), latency=macs_left,
            measure=lambda plan: (20.0, 20.0 * macs_left(plan.units)),
        )  # fmt: skip


def test_blocks_that_are_coarse_end_in_the_best_that_was_measured() -> None:
    machine = Machine(lambda m: m)
    budget = Budget(target_latency=0.7, round_to=40)
    plan, reached = allocate(COUPLING, SCORES, budget, latency=macs_left, measure=machine)
    assert reached.targets[0].share <= 0.7
    assert {g.units - len(plan.units.get(g.name, ())) for g in COUPLING.groups} <= {40, 60, 80}
