"""Repairs of whole models: what a twin can take over comes back exactly, and trained nets get their accuracy back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune.allocate import Budget, allocate_units, allocate_weights
from onnxprune.criteria import score, score_weights
from onnxprune.data import Dataset, open_dataset
from onnxprune.errors import NothingToPrune, OptionError
from onnxprune.evaluate import evaluate
from onnxprune.experiment import analyse
from onnxprune.model import Model, from_proto, load
from onnxprune.plan import Plan
from onnxprune.recover import recover
from onnxprune.runtime import session
from onnxprune.surgery import mask, remove
from onnxprune.values import Coupling

ROOT = Path(__file__).parent.parent.parent
DEMO = ROOT / "onnxprune" / "demo_data"
RNG = np.random.default_rng(0)
Nodes = list[Any]


def build(nodes: Nodes, weights: dict[str, np.ndarray], shape: tuple[Any, ...]) -> Model:
    inits = [
        numpy_helper.from_array(np.asarray(a, np.float32 if a.dtype.kind == "f" else a.dtype), n)
        for n, a in weights.items()
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        inits,
    )
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape) / np.sqrt(shape[-1])


def twins(array: np.ndarray, axis: int, gates: int = 1) -> np.ndarray:
    """The second half of the axis (of each gate's part) becomes a copy of the first."""
    parts = np.split(array, gates, axis)
    halves = [np.split(part, 2, axis)[0] for part in parts]
    return np.concatenate([piece for half in halves for piece in (half, half)], axis)


def mlp() -> Model:
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["a"], "fc1", transB=1),
        helper.make_node("Relu", ["a"], ["h"]),
        helper.make_node("MatMul", ["h", "w2"], ["c"], "fc2"),
        helper.make_node("Add", ["c", "b2"], ["y"]),
    ]
    weights = {"w1": twins(normal(16, 5), 0), "b1": twins(normal(16), 0), "w2": normal(16, 3), "b2": normal(3)}
    return build(nodes, weights, ("n", 5))


def conv(bias: bool = True) -> Model:
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["h"]),
        helper.make_node("Conv", ["h", "w2", *(["b2"] if bias else [])], ["y"], "conv2", pads=[1, 1, 1, 1]),
    ]
    weights = {"w1": twins(normal(8, 2, 3, 3), 0), "b1": twins(normal(8), 0), "w2": normal(4, 8, 3, 3)}
    if bias:
        weights["b2"] = normal(4)
    return build(nodes, weights, ("n", 2, 7, 7))


def norm() -> Model:
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "conv1"),
        helper.make_node("BatchNormalization", ["a", "s", "t", "m", "v"], ["b"], "bn1"),
        helper.make_node("Relu", ["b"], ["h"]),
        helper.make_node("Conv", ["h", "w2"], ["c"], "conv2"),
        helper.make_node("BatchNormalization", ["c", "s2", "t2", "m2", "v2"], ["y"], "bn2"),
    ]
    weights = {
        "w1": twins(normal(8, 2, 3, 3), 0), "s": np.ones(8), "t": twins(normal(8), 0), "m": twins(normal(8), 0),
        "v": np.ones(8), "w2": normal(4, 8, 3, 3), "s2": np.ones(4), "t2": normal(4), "m2": normal(4), "v2": np.ones(4),
    }  # fmt: skip
    return build(nodes, weights, ("n", 2, 8, 8))


def upsampler() -> Model:
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w1", "b1"], ["a"], "up1", strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["h"]),
        helper.make_node("ConvTranspose", ["h", "w2"], ["y"], "up2", strides=[2, 2], pads=[1, 1, 1, 1]),
    ]
    weights = {"w1": twins(normal(2, 8, 2, 2), 1), "b1": twins(normal(8), 0), "w2": normal(8, 3, 3, 3)}
    return build(nodes, weights, ("n", 2, 4, 4))


def recurrent(op: str, direction: str = "forward", start: bool = False) -> Model:
    """A recurrence of twin cells, steps first, read by a product at every step."""
    gates, directions, cells = {"LSTM": 4, "GRU": 3, "RNN": 1}[op], 1 + (direction == "bidirectional"), 8
    w, r = normal(directions, gates * cells, 3), normal(directions, gates * cells, cells)
    r = twins(np.concatenate([r[..., :4] / 2, r[..., :4] / 2], -1), 1, gates)
    weights = {
        "w": twins(w, 1, gates), "r": r, "b": twins(normal(directions, 2 * gates * cells), 1, 2 * gates),
        "perm": np.array([0, 2, 1, 3]), "out": normal(directions * cells, 2), "shape": np.array([0, 0, -1]),
    }  # fmt: skip
    del weights["perm"]
    optional = ["", "h0"] if start else []
    if start:
        weights["h0"] = twins(normal(directions, 1, cells), 2)
    extra = {"linear_before_reset": 1} if op == "GRU" else {}
    nodes = [
        helper.make_node("Transpose", ["x"], ["s"], perm=[1, 0, 2]),
        helper.make_node(
            op, ["s", "w", "r", "b", *optional], ["h"], "cells", hidden_size=cells, direction=direction, **extra
        ),
        helper.make_node("Transpose", ["h"], ["t"], perm=[2, 0, 1, 3]),
        helper.make_node("Reshape", ["t", "shape"], ["f"]),
        helper.make_node("MatMul", ["f", "out"], ["y"], "out"),
    ]
    return build(nodes, weights, (1 if start else "n", 6, 3))


def dataset(model: Model, samples: int = 400) -> Dataset:
    shape = [d.dim_value for d in model.proto.graph.input[0].type.tensor_type.shape.dim][1:]
    return Dataset({"x": RNG.standard_normal((samples, *shape)).astype(np.float32)})


def second_halves(model: Model, coupling: Coupling) -> Plan:
    """The copies go; of a bidirectional recurrence, those of each direction."""
    (group,) = coupling.groups
    halves = (
        [block[:, 1] for block in coupling.constraints[0].blocks] if coupling.constraints else [np.arange(group.units)]
    )
    units = np.concatenate([np.unique(half)[len(half) // 2 :] for half in halves])
    return Plan(model.hash, {group.name: units}, {group.name: group.units}, options=coupling.options)


MODELS = {
    "mlp": mlp,
    "conv": conv,
    "conv without bias": lambda: conv(bias=False),
    "norm": norm,
    "transposed": upsampler,
    "lstm": lambda: recurrent("LSTM"),
    "lstm backwards": lambda: recurrent("LSTM", "reverse"),
    "lstm both ways": lambda: recurrent("LSTM", "bidirectional"),
    "gru": lambda: recurrent("GRU"),
    "rnn": lambda: recurrent("RNN"),
}


def outputs(model: Model, data: Dataset) -> np.ndarray:
    return session(model).run({"x": np.asarray(data.inputs["x"])})["y"]


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(a).max())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("masked", [False, True])
def test_what_a_twin_can_take_over_comes_back(name: str, masked: bool) -> None:
    """Every removed unit has a copy that stays, so that the original's outputs can be reached exactly."""
    model, coupling = analyse(MODELS[name]())
    plan = second_halves(model, coupling)
    pruned = (mask if masked else remove)(model, coupling, plan)
    data, fresh = dataset(model), dataset(model)
    before = distance(outputs(model, fresh), outputs(pruned, fresh))
    found = recover(model, coupling, plan, pruned, data)
    after = distance(outputs(model, fresh), outputs(found.model, fresh))
    assert before > 0.05
    assert after < 2e-3  # the smallest penalty is 1e-6 of the mean of the diagonal, and twins share what is penalised
    assert not found.skipped
    shapes = {n: w.shape for n, w in pruned.weights.items()}
    assert {n: w.shape for n, w in found.model.weights.items() if n in shapes} == shapes
    if masked:
        for weight, values in pruned.weights.items():
            zeroed = (values.array() == 0) & (model.weights[weight].array() != 0)
            assert not found.model.weights[weight].array()[zeroed].any()


def test_a_constant_unit_goes_into_the_bias() -> None:
    """A unit that always puts out the same contributes nothing but its mean."""
    model = mlp()
    editor = model.edit()
    w, b = np.array(model.weights["w1"].array()), np.array(model.weights["b1"].array())
    w[3], b[3] = 0.0, 0.7
    editor.set_weight("w1", w)
    editor.set_weight("b1", b)
    model, coupling = analyse(editor.build())
    plan = Plan(model.hash, {coupling.groups[0].name: [3]}, {coupling.groups[0].name: 16}, options=coupling.options)
    pruned, data = remove(model, coupling, plan), dataset(model)
    found = recover(model, coupling, plan, pruned, data, method="bias")
    assert distance(outputs(model, data), outputs(pruned, data)) > 1e-2
    assert distance(outputs(model, data), outputs(found.model, data)) < 1e-5
    np.testing.assert_array_equal(found.model.weights["w2"].array(), pruned.weights["w2"].array())


def test_statistics_are_those_of_the_data() -> None:
    model, coupling = analyse(norm())
    plan = second_halves(model, coupling)
    pruned, data = remove(model, coupling, plan), dataset(model)
    found = recover(model, coupling, plan, pruned, data, method="batchnorm")
    values = session(found.model, outputs=["c"]).run({"x": np.asarray(data.inputs["x"])})["c"]
    np.testing.assert_allclose(found.model.weights["m2"].array(), values.mean(axis=(0, 2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.model.weights["v2"].array(), values.var(axis=(0, 2, 3)), rtol=1e-4)
    assert [layer.layer for layer in found.layers] == ["bn1", "bn2"]


def test_a_norm_behind_takes_the_bias_and_nothing_is_added() -> None:
    model, coupling = analyse(norm())
    plan = second_halves(model, coupling)
    pruned = remove(model, coupling, plan)
    found = recover(model, coupling, plan, pruned, dataset(model))
    assert found.model.weights.keys() == pruned.weights.keys()
    assert not np.array_equal(found.model.weights["m2"].array(), pruned.weights["m2"].array())


def test_single_weights_stay_zero_and_the_rest_makes_up_for_them() -> None:
    model, coupling = analyse(load(DEMO / "digits_cnn.onnx"))
    plan, _ = allocate_weights(coupling, score_weights(model, coupling, "l1"), Budget(ratio=0.85))
    pruned = mask(model, coupling, plan)
    data, test = open_dataset(DEMO / "digits.npz", "train"), open_dataset(DEMO / "digits.npz", "test")
    found = recover(model, coupling, plan, pruned, data)
    for name, gone in plan.weights.items():
        assert not found.model.weights[name].array()[gone].any()
    lost = evaluate(model, test).value("accuracy") - evaluate(pruned, test).value("accuracy")
    regained = evaluate(found.model, test).value("accuracy") - evaluate(pruned, test).value("accuracy")
    assert lost > 0.05
    assert regained > 0.6 * lost


def test_accuracy_comes_back_without_labels() -> None:
    model, coupling = analyse(load(DEMO / "digits_cnn.onnx"))
    plan, _ = allocate_units(coupling, score(model, coupling), Budget(ratio=0.5, round_to=1))
    pruned = remove(model, coupling, plan)
    train, test = open_dataset(DEMO / "digits.npz", "train"), open_dataset(DEMO / "digits.npz", "test")
    bare = Dataset({"x": np.asarray(next(iter(train.inputs.values())))})
    found, same = (recover(model, coupling, plan, pruned, bare, samples=600) for _ in range(2))
    assert found.model.hash == same.model.hash, "the same seed, the same repair"
    lost = evaluate(model, test).value("accuracy") - evaluate(pruned, test).value("accuracy")
    regained = evaluate(found.model, test).value("accuracy") - evaluate(pruned, test).value("accuracy")
    assert regained > 0.6 * lost > 0.3
    assert found.samples == 600
    assert all(layer.error_after < layer.error_before for layer in found.layers)


def test_inputs_are_made_up_where_there_are_none() -> None:
    model, coupling = analyse(mlp())
    plan = second_halves(model, coupling)
    pruned, fresh = remove(model, coupling, plan), dataset(model)
    found = recover(model, coupling, plan, pruned)
    assert found.generated
    assert distance(outputs(model, fresh), outputs(found.model, fresh)) < 2e-3


def test_a_shared_weight_is_left_alone_and_said_so() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["h"]),
        helper.make_node("MatMul", ["h", "w2"], ["b"], "one"),
        helper.make_node("Tanh", ["h"], ["k"]),
        helper.make_node("MatMul", ["k", "w2"], ["c"], "two"),
        helper.make_node("Add", ["b", "c"], ["d"]),
        helper.make_node("MatMul", ["d", "w3"], ["y"], "last"),
    ]
    model, coupling = analyse(build(nodes, {"w1": normal(5, 8), "w2": normal(8, 6), "w3": normal(6, 2)}, ("n", 5)))
    group = next(g for g in coupling.groups if g.units == 8)
    plan = Plan(model.hash, {group.name: [0, 1]}, {group.name: 8}, options=coupling.options)
    found = recover(model, coupling, plan, remove(model, coupling, plan), dataset(model))
    assert {name for name, _ in found.skipped} == {"one", "two"}
    assert all("shared" in why for _, why in found.skipped)
    assert [layer.layer for layer in found.layers] == ["last"]


def test_bad_input() -> None:
    model, coupling = analyse(mlp())
    plan = second_halves(model, coupling)
    pruned = remove(model, coupling, plan)
    with pytest.raises(OptionError, match="got 'magic', expected bias, batchnorm, least-squares"):
        recover(model, coupling, plan, pruned, method="magic")
    with pytest.raises(NothingToPrune, match="no layer can be repaired by batchnorm"):
        recover(model, coupling, plan, pruned, dataset(model), method="batchnorm")


def test_layers_with_very_many_inputs_are_fitted_by_the_dual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnxprune.recover.run.MANY", 4)
    model, coupling = analyse(mlp())
    plan = second_halves(model, coupling)
    fresh = dataset(model)
    found = recover(model, coupling, plan, remove(model, coupling, plan), dataset(model))
    assert distance(outputs(model, fresh), outputs(found.model, fresh)) < 5e-3
    assert found.layers[0].method == "least-squares"
