"""|w| times the size of its input, entry by entry; each row loses the same share."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from onnxprune.allocate import Budget, allocate
from onnxprune.coupling import couple
from onnxprune.criteria import Settings, score, score_weights
from onnxprune.criteria.readers import measurable
from onnxprune.model import from_proto
from tests.criteria.measured import cnn, data, data_for, finish, mlp, tensor
from tests.criteria.reference import unit_scores
from tests.nets import export
from tests.nets.handmade._build import Build
from tests.oracle import assert_close

DATA = data(80, 3, 6, 5)
PLAIN = Settings(data=DATA, normalise=False)


def products(model, dataset) -> dict[str, np.ndarray]:
    """|w| rms(x) of the net `cnn`, kernel position by kernel position."""
    inputs = {"w1": np.asarray(dataset.inputs["x"]), "w2": tensor(model, dataset, "r1")}
    found = {}
    for name, x in inputs.items():
        padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
        norm = np.zeros((x.shape[1], 3, 3))
        for c, i, j in np.ndindex(*norm.shape):
            norm[c, i, j] = np.mean(padded[:, c, i : i + x.shape[2], j : j + x.shape[3]] ** 2) ** 0.5
        found[f"{name}.weight"] = np.abs(model.weights[f"{name}.weight"].array()) * norm
    rms = np.sqrt(np.mean(tensor(model, dataset, "flat").astype(np.float64) ** 2, axis=0))
    found["w3.weight"] = np.abs(model.weights["w3.weight"].array()) * rms
    return found


def test_products_are_those_of_the_definition() -> None:
    model, coupling = cnn()
    found = score_weights(model, coupling, "wanda", PLAIN)
    for name, values in products(model, DATA).items():
        assert_close(values, found[name])
    assert_close(np.abs(model.weights["w1.bias"].array()), found["w1.bias"])
    assert not found.warnings


def test_a_place_is_the_rank_in_the_row_and_a_little_of_the_size() -> None:
    model, coupling = cnn()
    found = score_weights(model, coupling, "wanda", Settings(data=DATA))
    for name, values in products(model, DATA).items():
        rows, scores = values.reshape(len(values), -1), found[name].reshape(len(values), -1)
        for row, mine in zip(rows, scores, strict=True):
            assert (np.argsort(row) == np.argsort(mine)).all()
            np.testing.assert_array_equal(np.floor(np.sort(mine) * row.size), np.arange(row.size))
        lowest = scores.argmin(axis=1)  # between rows, size decides
        first = np.array([rows[i, k] for i, k in enumerate(lowest)])
        assert (np.argsort(first) == np.argsort(scores.min(axis=1))).all()


@pytest.mark.parametrize("scope", ["local", "global"])
def test_every_row_loses_the_same_share(scope: str) -> None:
    model, coupling = cnn()
    scores = score_weights(model, coupling, "wanda", Settings(data=DATA))
    plan, _ = allocate(coupling, scores, Budget(ratio=1 / 3, scope=scope))
    for name, gone in plan.weights.items():
        per_row = gone.reshape(len(gone), -1).sum(axis=1)
        assert per_row.min() >= gone[0].size // 3 - 1, name
        assert per_row.max() <= -(-gone[0].size // 3) + 1, name
    whole, _ = allocate(coupling, scores, Budget(ratio=1 / 3))
    assert (whole.weights["w2.weight"].reshape(4, -1).sum(axis=1) == 54 / 3).all()


@pytest.mark.parametrize("net", ["grouped_conv", "depth_multiplier", "unet", "lstm_bidirectional", "vit", "siamese"])
def test_other_layers_against_their_columns(net: str) -> None:
    """Depthwise, grouped and transposed convolutions, both directions of a recurrence, shared weights."""
    model = from_proto(export(net))
    coupling = couple(model)
    dataset = data_for(model)
    found = score_weights(model, coupling, "wanda", Settings(data=dataset, samples=6, normalise=False))
    every = {name: layers for name, layers in measurable(coupling.graph).items() if name in found}
    assert len(every) > 3
    for name, layers in every.items():
        sums, count = 0, 0
        for layer in layers:
            x = dataset.inputs.get(layer.input)
            columns = layer.columns(np.asarray(x) if x is not None else tensor(model, dataset, layer.input))
            sums, count = sums + np.square(columns, dtype=np.float64).sum(axis=1), count + columns.shape[1]
        weight = coupling.graph.weights[name].array()
        expected = np.abs(layers[0].matrix(weight)) * np.sqrt(sums / count)[:, None]
        assert_close(layers[0].stored(expected, weight.shape), found[name])


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("sides", ["all", "producing"])
def test_units_are_the_sum_of_their_weights(normalise: bool, sides: str) -> None:
    model, coupling = cnn()
    found = score(model, coupling, "wanda", Settings(data=DATA, normalise=normalise, sides=sides))
    entries = {n: w.array() for n, w in model.weights.items()} | products(model, DATA)
    expected = unit_scores("l1", coupling, entries, normalise=normalise, sides=sides)
    for name, numbers in expected.items():
        assert_close(numbers, found[name])


@settings(max_examples=5, derandomize=True, deadline=None)
@given(st.permutations(range(6)))
def test_permuted_units_have_permuted_scores(order: list[int]) -> None:
    (one, first), (other, second) = cnn(), cnn(order)
    expected = score(one, first, "wanda", PLAIN)[first.groups[0].name][order]
    np.testing.assert_allclose(score(other, second, "wanda", PLAIN)[second.groups[0].name], expected, rtol=1e-5)


def test_weights_inside_a_body_are_named() -> None:
    b = Build()
    inner = Build(8, prefix="inner_")
    z = inner.op("MatMul", "r1", inner.matrix("w", 6, 4))
    out = helper.make_tensor_value_info(z, 1, None)
    body = helper.make_graph(inner.nodes, "body", [], [out], inner.initializers)
    y = b.op("Relu", b.op("MatMul", "x", b.matrix("w1", 5, 6)), out="r1")
    condition = b.op("Greater", b.op("ReduceMax", "x", keepdims=0), b.const("low", -1e9))
    b.nodes.append(helper.make_node("If", [condition], ["z"], name="if", then_branch=body, else_branch=body))
    model, coupling = finish(b, b.op("Identity", "z"), "batch", 5)
    assert y == "r1"
    found = score_weights(model, coupling, "wanda", Settings(data=data(10, 5), normalise=False))
    (warning,) = found.warnings
    assert "inputs of these weights cannot be measured" in warning
    name = next(n for n in found if n.endswith("inner_w"))
    assert name in warning
    assert_close(np.abs(coupling.graph.weights[name].array()), found[name])


def test_a_weight_of_a_dead_input_goes_first() -> None:
    model, coupling = mlp()
    dataset = data(50, 5)
    x = np.asarray(dataset.inputs["x"]).copy()
    x[:, 3] = 0
    dataset.inputs["x"][:] = x
    found = score_weights(model, coupling, "wanda", Settings(data=dataset))["w1.weight"]
    assert (found.argmin(axis=1) == 3).all()
