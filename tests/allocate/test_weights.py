"""Allocation of single weights: exact counts, exact thresholds, which weights are open to it."""

from __future__ import annotations

from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from onnxprune.allocate import Budget, allocate, prunable_weights
from onnxprune.allocate import lowest as module
from onnxprune.allocate.lowest import lowest
from onnxprune.coupling import couple
from onnxprune.criteria import WeightScores, score_weights
from onnxprune.errors import DataError, GroupNotFound, NothingToPrune, OptionError
from onnxprune.model import from_proto
from onnxprune.surgery import mask
from tests.nets import export
from tests.random_graphs import build

MODEL = from_proto(build([0, 2, 13]))
COUPLING = couple(MODEL)
SCORES = score_weights(MODEL, COUPLING, "l1")
OPEN = prunable_weights(COUPLING.graph)

FLOATS = st.one_of(
    st.floats(allow_nan=False), st.sampled_from([0.0, -0.0, 1.0, 1.5, np.inf, -np.inf]), st.floats(0, 1e-3)
)
ARRAYS = st.lists(hnp.arrays(np.float64, hnp.array_shapes(max_side=6), elements=FLOATS), min_size=1, max_size=4)


@settings(max_examples=200, derandomize=True)
@given(ARRAYS, st.floats(0, 1), st.booleans(), st.integers(1, 4))
def test_lowest_is_what_sorting_gives(arrays: list[np.ndarray], ratio: float, single: bool, few: int) -> None:
    if single:
        with np.errstate(over="ignore"):
            arrays = [a.astype(np.float32) for a in arrays]
    total = sum(a.size for a in arrays)
    count = floor(ratio * total)
    names = [f"w{i}" for i in range(len(arrays))]
    before = module.FEW, module.CHUNK
    module.FEW, module.CHUNK = few, 7  # small enough for every path
    try:
        masks = lowest(names, dict(zip(names, arrays, strict=True)).__getitem__, count)
    finally:
        module.FEW, module.CHUNK = before
    flat = np.concatenate([a.reshape(-1) for a in arrays])
    expected = np.zeros(total, np.bool_)
    expected[np.argsort(flat, kind="stable")[:count]] = True
    found = np.concatenate([masks[n].reshape(-1) for n in names]) if masks else np.zeros(total, np.bool_)
    np.testing.assert_array_equal(found, expected)
    assert all(masks[n].shape == a.shape for n, a in zip(names, arrays, strict=True) if masks)


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_local_is_exact_in_every_layer(ratio: float) -> None:
    plan, reached = allocate(COUPLING, SCORES, Budget(ratio=ratio))
    assert set(plan.weights) == set(OPEN)
    for name, gone in plan.weights.items():
        assert gone.sum() == floor(ratio * gone.size)
        assert SCORES[name][gone].max() <= SCORES[name][~gone].min()
    assert reached.removed == plan.removed_weights


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.9])
def test_global_is_one_threshold(ratio: float) -> None:
    plan, reached = allocate(COUPLING, SCORES, Budget(ratio=ratio, scope="global"))
    total = sum(SCORES[n].size for n in OPEN)
    assert (reached.removed, reached.total) == (floor(ratio * total), total)
    gone = np.concatenate([SCORES[n][plan.weights[n]] for n in OPEN])
    kept = np.concatenate([SCORES[n][~plan.weights[n]] for n in OPEN])
    assert gone.max() <= kept.min()
    masked = mask(MODEL, COUPLING, plan)
    zeros = sum(int((masked.array(n) == 0).sum()) for n in OPEN)
    assert zeros == reached.removed


def test_one_weight_is_kept_in_every_layer() -> None:
    low = OPEN[0]
    scores = WeightScores(SCORES.names, lambda n: SCORES[n] * (1e-9 if n == low else 1))
    plan, reached = allocate(COUPLING, scores, Budget(ratio=0.5, scope="global"))
    assert (~plan.weights[low]).sum() == 1
    assert scores[low][~plan.weights[low]] == scores[low].max()
    assert reached.removed == floor(0.5 * reached.total)
    plan, _ = allocate(COUPLING, SCORES, Budget(ratio=1.0))
    assert all((~gone).sum() == 1 for gone in plan.weights.values())


def test_biases_and_norms_only_when_asked() -> None:
    graph = COUPLING.graph
    assert all(sum(d > 1 for d in graph.weights[n].shape) > 1 for n in OPEN)
    everything = prunable_weights(graph, include_biases=True)
    assert set(OPEN) < set(everything)
    assert {1, 2, 4} <= {len(graph.weights[n].shape) for n in everything}
    plan, _ = allocate(COUPLING, SCORES, Budget(ratio=0.5, include_biases=True))
    assert set(plan.weights) == set(everything)
    assert plan.recipe["include_biases"] is True


def test_layers_are_those_that_multiply() -> None:
    graph = couple(from_proto(export("encoder_prenorm", "torchscript"))).graph
    names = prunable_weights(graph)
    assert names
    assert not [n for n in names if "pos" in n or "bias" in n or "norm" in n]


def test_ratios_by_weight_and_by_group() -> None:
    group = next(g for g in COUPLING.groups if any(m.tensor in OPEN and not m.consumes for m in g.weights))
    mine = [m.tensor for m in group.weights if m.tensor in OPEN and not m.consumes]
    other = next(n for n in OPEN if n not in mine)
    for scope in ("local", "global"):
        budget = Budget(ratio=0.5, scope=scope, group_ratios={group.name: 0.2, other: 0.9})
        plan, _ = allocate(COUPLING, SCORES, budget)
        assert all(plan.weights[n].sum() == floor(0.2 * plan.weights[n].size) for n in mine)
        assert plan.weights[other].sum() == floor(0.9 * plan.weights[other].size + 1e-9)
        plan, _ = allocate(COUPLING, SCORES, Budget(ratio=0.5, scope=scope, skip=(group.name, other)))
        assert not set(plan.weights) & {*mine, other}


def test_what_cannot_be() -> None:
    for options in ({"target_params": 0.5}, {"target_macs": 0.5}):
        with pytest.raises(OptionError, match=r"a target .* cannot be met by zeroing single weights"):
            allocate(COUPLING, SCORES, Budget(**options))
    with pytest.raises(OptionError, match=r"round_to=8 has no meaning for single weights"):
        allocate(COUPLING, SCORES, Budget(ratio=0.5, round_to=8))
    with pytest.raises(GroupNotFound, match=rf"no group or weight '{OPEN[0]}x'\nNearest: .*{OPEN[0]}"):
        allocate(COUPLING, SCORES, Budget(ratio=0.5, skip=(f"{OPEN[0]}x",)))
    with pytest.raises(NothingToPrune, match=r"No weight goes: the ratio is too small"):
        allocate(COUPLING, SCORES, Budget(ratio=1e-4))
    with pytest.raises(DataError, match=rf"no scores for weight `{OPEN[0]}`.* and {len(OPEN) - 1} others"):
        allocate(COUPLING, WeightScores((), SCORES.compute), Budget(ratio=0.5))
