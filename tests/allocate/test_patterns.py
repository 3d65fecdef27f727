"""Patterns: N of every M along the inputs, whole blocks, what does not fit, and who profits."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from onnxprune.allocate import Budget, allocate, pattern_note, patterns, prunable_weights
from onnxprune.allocate.patterns import Blocks, KeepOf, layers_of, parse_pattern
from onnxprune.coupling import couple
from onnxprune.criteria import WeightScores
from onnxprune.errors import OptionError
from onnxprune.surgery import mask
from tests.allocate.nets import chain, layers_net, mlp, model_of, weight_scores

MODEL = layers_net()
COUPLING = couple(MODEL)
GRAPH = COUPLING.graph
SCORES = weight_scores(MODEL, COUPLING)
NAMES = prunable_weights(GRAPH)
LAYERS = layers_of(GRAPH, NAMES, Blocks(1, 2))


def outputs_by_inputs(name: str, array: np.ndarray) -> np.ndarray:
    """(outputs, inputs of one group, kernel positions), written out layer by layer."""
    if name == "turned":  # (inputs, outputs of a group, kernel); both groups one after the other, the kernel turned
        groups = [array[:6], array[6:]]
        return np.concatenate([g.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1].reshape(3, 6, 4) for g in groups])
    if array.ndim == 4:
        return array.reshape(*array.shape[:2], -1)
    return (array if name == "gemm" else array.T)[:, :, None]


@pytest.mark.parametrize(("text", "of"), [("2:4", 4), ("1:4", 4), ("1:2", 2), ("3:6", 6), ("1:3", 3)])
def test_n_of_every_m_inputs_are_kept_and_they_are_the_highest(text: str, of: int) -> None:
    pattern = parse_pattern(text)
    assert isinstance(pattern, KeepOf)
    for name in NAMES:
        scores = np.random.default_rng(of).permutation(SCORES[name].size).reshape(SCORES[name].shape).astype(float)
        layer = LAYERS[name]
        if not pattern.divides(layer, scores.shape):
            continue
        gone = pattern.mask(layer, scores)
        assert gone.shape == scores.shape
        value, went = outputs_by_inputs(name, scores), outputs_by_inputs(name, gone)
        outs, ins, positions = value.shape
        for o, k, start in product(range(outs), range(positions), range(0, ins, of)):
            row = [(value[o, i, k], went[o, i, k]) for i in range(start, start + of)]
            expected = sorted(v for v, _ in row)[: of - pattern.keep]
            assert sorted(v for v, g in row if g) == expected


def test_every_kind_of_layer_was_in_that_test() -> None:
    assert set(NAMES) == {"plain", "grouped", "turned", "product", "gemm"}
    assert {n for n in NAMES if KeepOf(1, 2).divides(LAYERS[n], SCORES[n].shape)} == set(NAMES)
    inputs = {n: KeepOf.inputs(LAYERS[n], SCORES[n].shape) for n in NAMES}
    assert inputs == {"plain": 4, "grouped": 4, "turned": 6, "product": 150, "gemm": 10}


def test_ties_go_by_position() -> None:
    gone = KeepOf(2, 4).mask(LAYERS["plain"], np.ones((8, 4, 3, 3)))
    assert gone[:, :2].all()
    assert not gone[:, 2:].any()


@settings(max_examples=25, derandomize=True)
@given(st.sampled_from([(1, 4), (2, 4), (3, 4), (2, 8), (1, 2)]), st.integers(0, 99), st.sampled_from([1, 5, 1 << 20]))
def test_a_plan_keeps_exactly_n_of_m(shape: tuple[int, int], seed: int, chunk: int) -> None:
    keep, of = shape
    model = mlp((8, 16, 24, 4))
    coupling = couple(model)
    rng = np.random.default_rng(seed)
    scores = {n: rng.random(w.shape) for n, w in coupling.graph.weights.items()}
    before, patterns.CHUNK = patterns.CHUNK, chunk
    try:
        plan, reached = allocate(
            coupling, WeightScores(tuple(scores), scores.__getitem__), Budget(pattern=f"{keep}:{of}")
        )
    finally:
        patterns.CHUNK = before
    for gone in plan.weights.values():
        rows = gone.T.reshape(gone.shape[1], -1, of)
        assert (rows.sum(axis=2) == of - keep).all()
    assert reached.ratio == pytest.approx(1 - keep / of)
    assert plan.recipe["pattern"] == f"{keep}:{of}"


def block_sums(name: str, scores: np.ndarray, rows: int, columns: int) -> list[float]:
    """Sum over each block, scaled up at the border, block by block."""
    table = outputs_by_inputs(name, scores)
    table = table.reshape(len(table), -1)
    groups = LAYERS[name].groups
    found = []
    for part in np.split(table, groups):
        for r, c in product(range(0, part.shape[0], rows), range(0, part.shape[1], columns)):
            piece = part[r : r + rows, c : c + columns]
            found.append(piece.sum() * rows * columns / piece.size)
    return found


@pytest.mark.parametrize("text", ["1x4", "16x1", "2x2", "5x7", "4x1"])
def test_blocks_are_summed_and_go_as_a_whole(text: str) -> None:
    pattern = parse_pattern(text)
    assert isinstance(pattern, Blocks)
    for name in NAMES:
        layer, scores = LAYERS[name], np.random.default_rng(1).random(SCORES[name].shape)
        found = pattern.scores(layer, scores)
        np.testing.assert_allclose(found, block_sums(name, scores, pattern.rows, pattern.columns), rtol=1e-12)
        assert found.size == pattern.count(layer, scores.shape)
        gone = pattern.mask(layer, found > np.median(found), scores.shape)
        shares = block_sums(name, gone.astype(float), pattern.rows, pattern.columns)
        np.testing.assert_allclose(shares, (found > np.median(found)) * pattern.rows * pattern.columns)


def test_a_block_at_the_border_does_not_go_for_being_small() -> None:
    scores = np.ones((6, 10))
    scores[:, 8:] = 1.1  # the border of 1x4 blocks, half a block
    assert Blocks(1, 4).scores(LAYERS["gemm"], scores).reshape(6, 3).argmin(axis=1).tolist() == [0] * 6


@pytest.mark.parametrize("distribution", ["uniform", "global", "erk", "lamp", "normalised-global"])
def test_blocks_with_a_distribution(distribution: str) -> None:
    model = chain()
    coupling = couple(model)
    budget = Budget(ratio=0.5, pattern="4x1", distribution=distribution)
    plan, reached = allocate(coupling, weight_scores(model, coupling), budget)
    layers = layers_of(coupling.graph, prunable_weights(coupling.graph), Blocks(4, 1))
    blocks = total = 0
    for name, layer in layers.items():
        gone = plan.weights.get(name, np.zeros(coupling.graph.weights[name].shape, np.bool_))
        table = layer.matrix(gone)[0]
        parts = [table[r : r + 4] for r in range(0, len(table), 4)]
        assert all((p.all(axis=0) | ~p.any(axis=0)).all() for p in parts)
        blocks += sum(int(p[0].sum()) for p in parts)
        total += sum(p.shape[1] for p in parts)
    assert 0.5 * total - len(layers) <= blocks <= 0.5 * total
    assert reached.removed == plan.removed_weights
    masked = mask(model, coupling, plan)
    assert all((masked.array(n)[gone] == 0).all() for n, gone in plan.weights.items())


def test_an_axis_that_does_not_divide_is_named_with_advice() -> None:
    model = chain()
    coupling = couple(model)
    scores = weight_scores(model, coupling)
    with pytest.raises(OptionError) as error:
        allocate(coupling, scores, Budget(pattern="2:4"))
    assert "pattern 2:4 does not fit 2 of 5 weights" in error.value.message
    assert "`w0` [8, 3, 3, 3]: axis 1 has 3 inputs, and 4 does not divide 3" in error.value.message
    assert "`last` [5, 10]: axis 1 has 10 inputs" in error.value.message
    assert error.value.hint == "Leave them whole: skip w0, last."
    plan, _ = allocate(coupling, scores, Budget(pattern="2:4", skip=("w0", "last")))
    assert set(plan.weights) == {"w1", "w2", "w3"}


def test_a_weight_that_is_no_plain_matrix_is_named() -> None:
    node = helper.make_node("LSTM", ["x", "W", "R"], ["y"], hidden_size=4)
    graph = couple(model_of([node], {"x": (5, 1, 8)}, {"W": (1, 16, 8), "R": (1, 16, 4)})).graph
    with pytest.raises(OptionError, match=r"`W` \[1, 16, 8\]: is not the matrix of a convolution or matrix product"):
        layers_of(graph, ["W"], Blocks(1, 4))


def test_a_group_can_be_left_whole_by_its_name() -> None:
    group = COUPLING.groups[0]
    mine = {m.tensor for m in group.weights if not m.consumes}
    plan, _ = allocate(COUPLING, SCORES, Budget(pattern="1:2", skip=(group.name,)))
    assert set(plan.weights) == set(NAMES) - mine


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": "2-4", "ratio": 0.5}, r"pattern: got '2-4', expected N:M or a block"),
        ({"pattern": "4:4"}, r"pattern 4:4: 4 of 4 weights cannot be kept while others go"),
        ({"pattern": "0:4"}, r"pattern 0:4"),
        ({"pattern": "1x1", "ratio": 0.5}, r"pattern 1x1: a block needs two weights"),
        ({"pattern": "2:4", "ratio": 0.5}, r"both a ratio and the pattern 2:4 are given"),
        ({"pattern": "2:4", "distribution": "erk"}, r"both the pattern 2:4 and a distribution are given"),
        ({"pattern": "2:4", "group_ratios": {"w0": 0.5}}, r"both the pattern 2:4 and ratios of groups"),
        ({"pattern": "1x4"}, r"no ratio and no target is given"),
    ],
)
def test_patterns_that_make_no_sense(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Budget(**options)  # type: ignore[arg-type]


def test_a_pattern_is_for_matrices_of_single_weights() -> None:
    with pytest.raises(OptionError, match=r"pattern 1x4 is for matrices, not for biases"):
        allocate(COUPLING, SCORES, Budget(ratio=0.5, pattern="1x4", include_biases=True))


def test_the_note_says_who_profits() -> None:
    for text in ("2:4", "1:4"):
        assert "tensor cores" in pattern_note(text)
        assert "TensorRT" in pattern_note(text)
    assert "XNNPACK" in pattern_note("1x4")
    assert "XNNPACK" in pattern_note(Blocks(16, 1))
    assert "No common runtime" in pattern_note("3:5")
    for text in ("2:4", "1x4", "3:5", None):
        assert "onnxruntime on a CPU" in pattern_note(text)
        assert "gains nothing" in pattern_note(text)
