"""Ranks of feature maps, one map at a time; where there are no maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxprune.coupling import couple
from onnxprune.criteria import Settings, rank, score
from onnxprune.model import from_proto
from tests.criteria.measured import cnn, data, data_for, finish, mlp, tensor
from tests.nets import export
from tests.nets.handmade._build import Build
from tests.oracle import assert_close


def rank_of(matrix: np.ndarray) -> int:
    """By elimination with full pivoting, in float64."""
    a, found = matrix.astype(np.float64).copy(), 0
    size = np.abs(a).max()
    while a.size and np.abs(a).max() > 1e-5 * size:
        i, j = np.unravel_index(np.abs(a).argmax(), a.shape)
        a = a - np.outer(a[:, j], a[i]) / a[i, j]
        a[i], a[:, j] = 0, 0
        found += 1
    return found


def test_ranks_are_those_of_single_maps() -> None:
    model, coupling = cnn()
    dataset = data(30, 3, 6, 5)
    found = score(model, coupling, "hrank", Settings(data=dataset, batch=8))
    for group, maps in zip(coupling.groups, ("r1", "r2"), strict=True):
        values = tensor(model, dataset, maps)
        expected = [np.mean([rank_of(m) for m in values[:, k]]) for k in range(values.shape[1])]
        assert_close(expected, found[group.name])
    assert not found.warnings


@settings(max_examples=5, derandomize=True, deadline=None)
@given(st.permutations(range(6)))
def test_permuted_units_have_permuted_scores(order: list[int]) -> None:
    options = Settings(data=data(20, 3, 6, 5))
    (one, first), (other, second) = cnn(), cnn(order)
    expected = score(one, first, "hrank", options)[first.groups[0].name][order]
    np.testing.assert_array_equal(score(other, second, "hrank", options)[second.groups[0].name], expected)


def test_a_dead_unit_has_rank_0() -> None:
    model, coupling = cnn(dead=4)
    found = score(model, coupling, "hrank", Settings(data=data(20, 3, 6, 5)))[coupling.groups[0].name]
    assert found[4] == 0
    assert (np.delete(found, 4) > 1).all()


def test_the_maps_in_front_of_a_pooled_read() -> None:
    """Conv, Relu, global pooling, Gemm: the maps are those of Relu."""
    b = Build(1)
    y = b.op("Relu", b.op("Conv", "x", b.weight("w", 5, 3, 3, 3)), out="maps")
    model, coupling = finish(b, b.classify(y, 5, out="z"))
    dataset = data(20, 3, 6, 5)
    values = tensor(model, dataset, "maps")
    expected = [np.mean([rank_of(m) for m in values[:, k]]) for k in range(5)]
    assert_close(expected, score(model, coupling, "hrank", Settings(data=dataset))[coupling.groups[0].name])


def test_neurons_are_scored_by_their_spread() -> None:
    model, coupling = mlp()
    dataset = data(40, 5)
    found = score(model, coupling, "hrank", Settings(data=dataset))
    spread = tensor(model, dataset, "r1").std(axis=0)
    assert_close(spread / spread.max(), found["w1"])
    (warning,) = found.warnings
    assert warning == "no feature maps in w1: hrank takes the standard deviation over the largest of the group"


def test_heads_have_the_matrix_of_time_and_channels() -> None:
    model = from_proto(export("vit"))
    coupling = couple(model)
    name = next(g.name for g in coupling.groups if g.kind == "heads")
    dataset = data_for(model)
    found = score(model, coupling, "hrank", Settings(data=dataset))
    (layer,) = [m for m in coupling.groups[coupling.by_name[name]].weights if m.consumes]
    reader = next(n for n in coupling.graph.nodes if layer.tensor in n.inputs)
    values = tensor(model, dataset, reader.input(0))
    heads = values.reshape(*values.shape[:2], 3, -1)
    expected = [np.mean([rank_of(s[:, k]) for s in heads]) for k in range(3)]
    assert_close(expected, found[name])


def test_volumes() -> None:
    b = Build(1)
    y = b.op("Relu", b.op("Conv", "x", b.weight("w", 4, 2, 1, 1, 1), b.const("w.bias", [-1.5, -1, 0, 1])), out="maps")
    y = b.op("Conv", y, b.weight("v", 3, 4, 1, 1, 1))
    model, coupling = finish(b, y, "batch", 2, 3, 4, 5)
    dataset = data(10, 2, 3, 4, 5)
    values = tensor(model, dataset, "maps").reshape(10, 4, 12, 5)
    expected = [np.mean([rank_of(m) for m in values[:, k]]) for k in range(4)]
    assert_close(expected, score(model, coupling, "hrank", Settings(data=dataset))[coupling.groups[0].name])
    assert expected[0] < 4.5 < expected[3] == 5


def test_500_samples_by_default_and_fewer_of_large_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    model, coupling = cnn()
    dataset = data(700, 3, 6, 5)
    seen: list[int] = []
    options = {"data": dataset, "progress": lambda *args: seen.append(args[2])}
    score(model, coupling, "hrank", Settings(**options))
    assert set(seen) == {500}
    monkeypatch.setattr(rank, "WORK", 1)
    score(model, coupling, "hrank", Settings(**options))
    assert seen[-1] == 50
    score(model, coupling, "hrank", Settings(**options, samples=11))
    assert seen[-1] == 11
