"""Score per cost: derivatives against differences, and the order against filling the knapsack step by step."""

from __future__ import annotations

import numpy as np
import pytest

from onnxprune.allocate import Budget, allocate
from onnxprune.allocate.choice import Choice
from onnxprune.allocate.knapsack import Slopes, knapsack_order
from onnxprune.cost import CostModel
from onnxprune.coupling import couple
from onnxprune.criteria import UnitScores
from onnxprune.model import from_proto
from tests.allocate.nets import chain, residual, unit_scores
from tests.nets import export
from tests.random_graphs import build

FIELDS = {"target_params": "parameters", "target_macs": "macs", "target_bytes": "bytes"}
MODEL = residual()
COUPLING = couple(MODEL)
SCORES = unit_scores(MODEL, COUPLING)


@pytest.mark.parametrize("start", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("name", ["chain", "residual", "random", "vit"])
def test_savings_are_what_one_unit_less_of_every_group_saves(name: str, start: float) -> None:
    """A step of one unit is a difference, not a derivative: within what a product of two sizes differs."""
    model = {
        "chain": chain, "residual": residual, "random": lambda: from_proto(build([0, 1, 13, 2])),
        "vit": lambda: from_proto(export("vit", "torchscript")),
    }[name]()  # fmt: skip
    coupling = couple(model)
    costs = CostModel(coupling)
    slopes = Slopes(costs)
    gone = np.zeros(coupling.units, np.bool_)
    for number, group in enumerate(coupling.groups):
        gone[costs.starts[number] : costs.starts[number] + int(start * group.units)] = True
    now, left = costs.after_mask(gone), slopes.left(gone)
    for option, field in FIELDS.items():
        whole = getattr(costs.before, field)
        assert left[option][0] == pytest.approx(getattr(now, field) / whole, rel=2e-2)
        for number, group in enumerate(coupling.groups):
            kept = group.units - int(start * group.units)
            if kept < 3:
                continue
            one = gone.copy()
            one[costs.starts[number] + int(start * group.units)] = True
            saved = (getattr(now, field) - getattr(costs.after_mask(one), field)) / whole
            assert left[option][1][number] == pytest.approx(saved, rel=0.05 + 1.2 / kept, abs=1e-6)


def test_only_what_is_held_at_the_peak_saves_memory() -> None:
    coupling = couple(chain((4, 24, 6, 4)))
    costs = CostModel(coupling)
    share, saved = Slopes(costs).left(np.zeros(coupling.units, np.bool_))["target_memory"]
    assert share == 1
    exact = []
    for number in range(len(coupling.groups)):
        one = np.zeros(coupling.units, np.bool_)
        one[costs.starts[number]] = True
        exact.append(1 - costs.after_mask(one).activation_bytes / costs.before.activation_bytes)
    np.testing.assert_allclose(saved, exact, atol=1e-9)
    assert np.count_nonzero(saved) == 1


def test_rates_weigh_the_nodes() -> None:
    costs = CostModel(COUPLING)
    dear = costs.table.counted[0]
    saved = Slopes(costs, {dear.number: 1.0}).left(np.zeros(COUPLING.units, np.bool_))["target_latency"][1]
    touched = [number for number, group in enumerate(COUPLING.groups) if any(m.tensor == "stem" for m in group.weights)]
    assert np.flatnonzero(saved).tolist() == touched


def step_by_step(worth: np.ndarray, group: np.ndarray, slopes: Slopes, option: str, wanted: float) -> list[int]:
    """One unit at a time, all savings looked at anew before each."""
    gone = np.zeros(worth.size, np.bool_)
    left = set(range(worth.size))
    order = []
    while left:
        now, saved = slopes.left(gone)[option]
        excess = now - wanted if now > wanted else 1.0
        best = min(left, key=lambda u: (worth[u] / (saved[group[u]] / excess), worth[u], u))
        left.discard(best)
        gone[best] = True
        order.append(best)
    return order


@pytest.mark.parametrize("option", ["target_macs", "target_params"])
def test_the_order_is_that_of_score_per_saving(option: str) -> None:
    slopes = Slopes(CostModel(COUPLING))
    sizes = [g.units for g in COUPLING.groups]
    group = np.repeat(np.arange(len(sizes)), sizes)
    worth = np.random.default_rng(0).random(group.size)
    every = np.arange(group.size)  # fewer than 200 units: each is a batch of its own
    order = knapsack_order(slopes, {option: 0.5}, worth, group, np.zeros(group.size, np.bool_), every)
    assert order.tolist() == step_by_step(worth, group, slopes, option, 0.5)


def test_a_unit_that_saves_nothing_goes_last() -> None:
    coupling = couple(chain((4, 24, 6, 4)))
    slopes = Slopes(CostModel(coupling))
    group = np.repeat(np.arange(4), [4, 24, 6, 4])
    worth = np.ones(group.size)
    gone = np.zeros(group.size, np.bool_)
    order = knapsack_order(slopes, {"target_memory": 0.9}, worth, group, gone, np.arange(group.size))
    assert group[order[0]] == 1


def test_of_two_targets_the_one_that_is_missed_counts() -> None:
    """Parameters are met almost at once, so that nearly all goes by MACs."""
    plans = []
    for options in ({"target_macs": 0.5}, {"target_macs": 0.5, "target_params": 0.99}):
        plan, reached = allocate(COUPLING, SCORES, Budget(scope="global", round_to=1, **options))
        assert all(t.share <= t.limit for t in reached.targets)
        plans.append({n: u.size for n, u in plan.units.items()})
    assert plans[0] == plans[1]


def test_it_keeps_more_worth_than_one_threshold_under_the_same_target() -> None:
    coupling = couple(chain((16, 24, 32, 16)))
    rng = np.random.default_rng(3)
    scores = UnitScores({g.name: rng.random(g.units) for g in coupling.groups})
    kept = {}
    for name in ("knapsack", "global", "uniform"):
        budget = Budget(target_macs=0.5, distribution=name, round_to=1)
        plan, reached = allocate(coupling, scores, budget)
        assert reached.macs is not None
        assert reached.macs <= 0.5
        left = [
            np.log(1 - np.square(scores[g.name][plan.units.get(g.name, [])]).sum() / np.square(scores[g.name]).sum())
            for g in coupling.groups
        ]
        kept[name] = sum(left)
    assert kept["knapsack"] > max(kept["global"], kept["uniform"])


def test_room_that_is_left_is_filled() -> None:
    """With blocks of 8 channels, no block that went would fit again."""
    coupling = couple(chain((16, 24, 32, 16)))
    scores = unit_scores(chain((16, 24, 32, 16)), coupling)
    plan, reached = allocate(coupling, scores, Budget(target_macs=0.5, scope="global", round_to=8))
    costs = CostModel(coupling)
    choice = Choice(coupling, scores, Budget(ratio=0.5), 8)
    for number, group in enumerate(coupling.groups):
        removed = plan.units.get(group.name, np.zeros(0, np.int64))
        fewer = [n for n in range(removed.size) if choice.steps[number].allows(n)]
        if fewer:
            back = np.argsort(scores[group.name], kind="stable")[: fewer[-1]]
            assert costs.after({**plan.units, group.name: back}).macs > 0.5 * costs.before.macs
    assert reached.macs is not None
    assert reached.macs <= 0.5
