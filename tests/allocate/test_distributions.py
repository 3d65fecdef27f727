"""Who gives how much: every distribution for units and for single weights, against what its formula says."""

from __future__ import annotations

from math import floor
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from onnxprune.allocate import DISTRIBUTIONS, Budget, allocate, prunable_weights
from onnxprune.allocate.layers import layers_with_weights, producers
from onnxprune.allocate.scaling import lamp, matrices, normalised
from onnxprune.coupling import couple
from onnxprune.criteria import UnitScores, WeightScores
from onnxprune.errors import BudgetError, NothingToPrune, OptionError
from onnxprune.model import from_proto
from onnxprune.plan import check_coupling
from onnxprune.surgery import remove
from tests.allocate.nets import chain, layers_net, mlp, residual, unit_scores, weight_scores
from tests.random_graphs import build, steps

PICKS = st.lists(st.integers(0, len(steps) - 1), min_size=1, max_size=6)
WITHOUT_TARGET = [d for d in DISTRIBUTIONS if d not in {"knapsack", "sensitivity", "preset"}]
unhurried = settings(max_examples=30, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

MODEL = chain((20, 30, 40, 30))
COUPLING = couple(MODEL)
UNITS = unit_scores(MODEL, COUPLING)
WEIGHTS = weight_scores(MODEL, COUPLING)


def random_scores(coupling: Any, seed: int) -> UnitScores:
    rng = np.random.default_rng(seed)
    return UnitScores({g.name: rng.random(g.units) for g in coupling.groups}, "random", coupling.model_hash)


def table_for(coupling: Any, seed: int = 0) -> dict[str, list[tuple[float, float]]]:
    rng = np.random.default_rng(seed)
    return {g.name: [(0.3, float(rng.random() / 10)), (0.7, float(rng.random()))] for g in coupling.groups}


# -- scales -----------------------------------------------------------------------------------------------------------


def test_lamp_is_its_formula() -> None:
    scores = np.random.default_rng(0).random((4, 5)).astype(np.float32)
    found = lamp(scores)
    assert found.shape == scores.shape
    assert found.dtype == scores.dtype
    for at, value in np.ndenumerate(scores):
        rest = sum(float(v) ** 2 for v in scores.reshape(-1) if v >= value)
        assert found[at] == pytest.approx(float(value) ** 2 / rest, rel=1e-5)


def test_lamp_of_equal_scores_goes_by_position_and_of_negative_ones_by_rank() -> None:
    np.testing.assert_allclose(lamp(np.ones(4)), [1 / 4, 1 / 3, 1 / 2, 1])
    assert (np.diff(lamp(np.array([-3.0, -1.0, 0.5, 2.0]))) > 0).all()
    np.testing.assert_allclose(lamp(np.zeros(3)), 1)


def test_normalised_scores_have_norm_1() -> None:
    scores = np.random.default_rng(0).random((4, 5)) * 7
    np.testing.assert_allclose(np.linalg.norm(normalised(scores)), 1)
    np.testing.assert_allclose(normalised(scores) * np.linalg.norm(scores), scores)
    assert not normalised(np.zeros(3)).any()


# -- units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["global", "lamp", "normalised-global"])
@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
def test_one_threshold_over_all_groups(name: str, ratio: float) -> None:
    scale = {"global": lambda s: s, "lamp": lamp, "normalised-global": normalised}[name]
    plan, reached = allocate(COUPLING, UNITS, Budget(ratio=ratio, distribution=name, round_to=1))
    keys = {n: scale(s) for n, s in UNITS.items()}
    flat = sorted((v, n, u) for n, k in keys.items() for u, v in enumerate(k) if u != int(np.argmax(UNITS[n])))
    expected = {(n, u) for _, n, u in flat[: floor(ratio * COUPLING.units)]}
    assert {(n, int(u)) for n, us in plan.units.items() for u in us} == expected
    assert reached.removed == floor(ratio * COUPLING.units)


def test_erk_of_units_by_the_shapes_of_the_layers() -> None:
    plan, reached = allocate(COUPLING, UNITS, Budget(ratio=0.6, distribution="erk", round_to=1))
    assert reached.removed == floor(0.6 * COUPLING.units)
    kept, density = [], []
    for group in COUPLING.groups:
        shape = COUPLING.graph.weights[group.name].shape
        kept.append(1 - plan.units.get(group.name, np.zeros(0)).size / group.units)
        density.append(sum(shape) / np.prod(shape))
    scale = np.array(kept) / density
    one = np.array([1 / g.units for g in COUPLING.groups]) / density
    inside = np.array(kept) < 1
    assert (scale[inside] - one[inside]).max() <= (scale[inside] + one[inside]).min()


def test_sensitivity_of_units() -> None:
    slopes = {g.name: 0.1 * (k + 1) for k, g in enumerate(COUPLING.groups)}
    table = {name: [(0.3, 0.3 * slope), (0.9, 0.9 * slope)] for name, slope in slopes.items()}
    budget = Budget(ratio=0.25, distribution="sensitivity", sensitivity=table, round_to=1)
    plan, reached = allocate(COUPLING, UNITS, budget)
    assert reached.removed == floor(0.25 * COUPLING.units)
    gone = {g.name: plan.units[g.name].size for g in COUPLING.groups}
    most = max(slopes[g.name] * gone[g.name] / g.units for g in COUPLING.groups)
    assert all(slopes[g.name] * (gone[g.name] + 1) / g.units >= most - 1e-6 for g in COUPLING.groups)
    assert "sensitivity" not in plan.recipe
    assert plan.recipe["distribution"] == "sensitivity"


def test_a_group_without_rows_has_to_be_skipped() -> None:
    table = table_for(COUPLING)
    missing = COUPLING.groups[1].name
    del table[missing]
    options: dict[str, Any] = {"ratio": 0.4, "distribution": "sensitivity", "sensitivity": table, "round_to": 1}
    with pytest.raises(OptionError, match=rf"no rows for 1 of 4 names: {missing}"):
        allocate(COUPLING, UNITS, Budget(**options))
    plan, _ = allocate(COUPLING, UNITS, Budget(**options, skip=(missing,)))
    assert missing not in plan.units


@unhurried
@given(PICKS, st.floats(0.1, 0.9), st.sampled_from([*WITHOUT_TARGET, "sensitivity"]), st.sampled_from([1, 4]))
def test_every_distribution_gives_a_plan_that_can_be_carried_out(
    picks: list[int], ratio: float, name: str, step: int
) -> None:
    model = from_proto(build(picks))
    coupling = couple(model)
    table = table_for(coupling) if name == "sensitivity" else None
    budget = Budget(ratio=ratio, distribution=name, sensitivity=table, round_to=step)
    try:
        plan, reached = allocate(coupling, random_scores(coupling, 1), budget)
    except NothingToPrune:
        assume(False)
    check_coupling(plan, coupling)
    remove(model, coupling, plan)
    assert reached.removed <= floor(ratio * coupling.units + 1e-9)
    free = [i for i, s in enumerate(steps) if s.__name__ in {"step_groups", "step_shuffle"}]
    if step == 1 and name != "uniform" and not set(picks) & set(free):
        most = coupling.units - len(coupling.groups)
        assert reached.removed == min(floor(ratio * coupling.units + 1e-9), most)


def least(coupling: Any, scores: UnitScores, option: str, step: int) -> float:
    """The share that is left where all goes that can; 1 for what it is not known for here."""
    everything = Budget(group_ratios=dict.fromkeys(coupling.by_name, 1.0), round_to=step)
    try:
        _, most = allocate(coupling, scores, everything)
    except NothingToPrune:
        return 1.0
    before, after = most.before, most.after
    assert before is not None
    assert after is not None
    shares = {
        "target_params": after.parameters / before.parameters,
        "target_macs": after.macs / before.macs,
        "target_memory": after.activation_bytes / before.activation_bytes,
    }
    return shares.get(option, 1.0)


@unhurried
@given(
    PICKS, st.floats(0.3, 0.95), st.sampled_from([d for d in DISTRIBUTIONS if d != "sensitivity"]),
    st.sampled_from(["target_params", "target_macs", "target_memory", "target_bytes"]), st.sampled_from([1, 4]),
)  # fmt: skip
def test_a_target_is_met_whenever_it_is_reachable(
    picks: list[int], part: float, name: str, option: str, step: int
) -> None:
    model = from_proto(build(picks))
    coupling = couple(model)
    scores = random_scores(coupling, 2)
    options: dict[str, Any] = {option: part, "distribution": name, "round_to": step}
    try:
        plan, reached = allocate(coupling, scores, Budget(**options))
    except NothingToPrune:
        with pytest.raises(NothingToPrune, match=r"within the target already"):
            allocate(coupling, scores, Budget(**options))
        return
    except BudgetError:
        with pytest.raises(BudgetError, match=rf"{option}: {part:.4g} of the original is out of reach"):
            allocate(coupling, scores, Budget(**options))
        assert name == "preset" or least(coupling, scores, option, step) > part
        return
    found = reached.targets[0]
    assert found.name == option
    assert found.share <= part * (1 + 1e-9)
    assert found.after == pytest.approx(found.share * found.before)
    check_coupling(plan, coupling)


def test_matrices_are_those_that_a_unit_is_cut_from() -> None:
    coupling = couple(residual())
    counts = dict(zip(coupling.by_name, matrices(coupling), strict=True))
    stream = next(n for n, made in producers(coupling).items() if "stem" in made)
    assert counts[stream] == 6  # stem, b0, b1 as outputs; a0, a1, last as inputs
    assert sorted(c for n, c in counts.items() if n != stream) == [2, 2]


# -- single weights ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lamp", "normalised-global"])
@pytest.mark.parametrize("ratio", [0.3, 0.9])
def test_one_threshold_over_all_weights(name: str, ratio: float) -> None:
    scale = {"lamp": lamp, "normalised-global": normalised}[name]
    plan, reached = allocate(COUPLING, WEIGHTS, Budget(ratio=ratio, distribution=name))
    names = prunable_weights(COUPLING.graph)
    keys = {n: scale(WEIGHTS[n]) for n in names}
    masks = {n: plan.weights.get(n, np.zeros(keys[n].shape, np.bool_)) for n in names}
    assert reached.removed == floor(ratio * reached.total)
    gone = np.concatenate([keys[n][masks[n]] for n in names])
    kept = np.concatenate([keys[n][~masks[n]] for n in names])
    assert gone.max() <= kept.min()


def test_erk_of_weights_meets_its_total() -> None:
    for ratio in (0.5, 0.9):
        plan, reached = allocate(COUPLING, WEIGHTS, Budget(ratio=ratio, distribution="erk"))
        assert reached.removed == floor(ratio * reached.total)
        kept = {n: 1 - m.mean() for n, m in plan.weights.items()}
        scale = [k / (sum(plan.weights[n].shape) / plan.weights[n].size) for n, k in kept.items()]
        assert max(scale) <= min(scale) * 1.02
        for name, gone in plan.weights.items():
            assert WEIGHTS[name][gone].max() <= WEIGHTS[name][~gone].min()


def test_sensitivity_of_weights_by_group_or_by_weight() -> None:
    table: dict[str, list[tuple[float, float]]] = {
        g.name: [(0.5, 0.1 * (k + 1))] for k, g in enumerate(COUPLING.groups)
    }
    budget = Budget(ratio=0.2, distribution="sensitivity", sensitivity={**table, "last": [(0.5, 0.5)]})
    plan, reached = allocate(COUPLING, WEIGHTS, budget)
    assert reached.removed == floor(0.2 * reached.total)
    slopes = {"w0": 0.2, "w1": 0.4, "w2": 0.6, "w3": 0.8, "last": 1.0}
    losses = [plan.weights[n].mean() * slope for n, slope in slopes.items()]
    assert max(losses) - min(losses) < 0.01
    with pytest.raises(OptionError, match=r"no rows for 1 of 5 names: last"):
        allocate(COUPLING, WEIGHTS, Budget(ratio=0.4, distribution="sensitivity", sensitivity=table))


def test_scores_of_one_weight_are_asked_for_once_where_sorting_them_takes_time() -> None:
    calls: list[str] = []

    def compute(name: str) -> np.ndarray:
        calls.append(name)
        return WEIGHTS[name]

    allocate(COUPLING, WeightScores(WEIGHTS.names, compute), Budget(ratio=0.5, distribution="lamp"))
    assert len(calls) == len(set(calls)) == 5


# -- what a distribution needs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 0.5, "distribution": "erc"}, r"distribution: got 'erc', expected one of.*\nDid you mean erk?"),
        ({"ratio": 0.5, "distribution": "knapsack"}, r"distribution knapsack weighs scores against costs"),
        ({"ratio": 0.5, "distribution": "sensitivity"}, r"a table from a sensitivity scan belong together"),
        ({"ratio": 0.5, "sensitivity": {"a": [(0.5, 0.1)]}}, r"a table from a sensitivity scan belong together"),
        ({"ratio": 0.5, "distribution": "erk", "scope": "global"}, r"scope global and distribution erk exclude"),
        ({"distribution": "erk"}, r"no ratio and no target is given"),
    ],
)
def test_distributions_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Budget(**options)


def test_the_two_scopes_are_distributions() -> None:
    for scope, name in (("local", "uniform"), ("global", "global")):
        assert Budget(ratio=0.5, scope=scope).spread == name
        one, _ = allocate(COUPLING, UNITS, Budget(ratio=0.5, scope=scope, round_to=1))
        other, _ = allocate(COUPLING, UNITS, Budget(ratio=0.5, distribution=name, round_to=1))
        assert {n: u.tolist() for n, u in one.units.items()} == {n: u.tolist() for n, u in other.units.items()}
    assert Budget(target_macs=0.5, scope="global").spread == "knapsack"
    assert Budget(target_macs=0.5).spread == "uniform"


def test_patterns_and_biases_are_for_single_weights() -> None:
    for options in ({"pattern": "2:4"}, {"ratio": 0.5, "include_biases": True}):
        with pytest.raises(OptionError, match=r"patterns and biases are for single weights"):
            allocate(COUPLING, UNITS, Budget(**options))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"a target \(target_latency\) cannot be met by zeroing single weights"):
        allocate(COUPLING, WEIGHTS, Budget(target_latency="5ms"))


def test_where_a_layer_stands() -> None:
    layers = layers_with_weights(couple(layers_net()).graph)
    assert [layer.convolves for layer in layers.values()] == [True, True, True, False, False]
    assert [n for n, layer in layers.items() if layer.first] == ["plain"]
    assert [n for n, layer in layers.items() if layer.last] == ["gemm"]
    only = layers_with_weights(couple(mlp((4, 3))).graph)
    assert [(layer.first, layer.last) for layer in only.values()] == [(True, True)]
