"""Which weights a step of training leaves alone, which are one, and what comes back of them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper

from onnxprune.errors import DataError
from onnxprune.model import Model
from onnxprune.runtime import session
from onnxprune.train.optimizers import Optimizer
from onnxprune.train.step import Step
from tests.oracle import assert_close
from tests.train.step_nets import (
    CLASSES,
    FEATURES,
    WIDTH,
    conv_net,
    fed,
    feeds_of,
    graph_of,
    mean_loss,
    mlp,
    mlp_weights,
    objective_for,
    samples,
    step_for,
    trained,
)

Array = NDArray[Any]
OPTIMIZERS = [
    Optimizer("sgd", nesterov=True, weight_decay=0.01),
    Optimizer("adam", weight_decay=0.01),
    Optimizer("adamw", weight_decay=0.01),
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda o: o.kind)
def test_masked_weights_stay_exactly_zero(optimizer: Optimizer) -> None:
    x, y = samples(24)
    masks = {"w1": np.random.default_rng(0).random((FEATURES, WIDTH)) < 0.4, "b2": np.array([True, False, False])}
    step = step_for(mlp(), x, y, optimizer, masks=masks, clip=0.5)
    before = step.weights()
    trained(step, fed(step, x, y), 20, 0.05)
    for name, mask in masks.items():
        for array in (value for key, value in step.state().items() if key.endswith(name)):
            assert not array[mask].any()
        after = step.weights()[name]
        assert not before[name][mask].any()
        assert (after[~mask] != before[name][~mask]).all()
        assert not step.model().array(name)[mask].any()
    assert step.weights()["w2"].all()


def test_frozen_weights_stay() -> None:
    x, y = samples(24)
    model = mlp()
    step = step_for(model, x, y, freeze=["b*", "w1"])
    assert step.parameters == ("w2",)
    assert set(step.state()) == {"w2", "optimizer/first/w2", "optimizer/second/w2", "optimizer/steps"}
    trained(step, fed(step, x, y))
    after = step.model()
    for name in ("w1", "b1", "b2"):
        np.testing.assert_array_equal(after.array(name), model.array(name))
    assert (after.array("w2") != model.array("w2")).all()


def test_what_belongs_to_a_formula_is_not_trained() -> None:
    """The 0.5 and 1.4142 of a GELU, an epsilon, a mask of minus infinity; a bias of one number is trained."""
    rng = np.random.default_rng(0)
    above = np.triu(np.ones((3, 3)), 1)
    constants = {
        "w": rng.standard_normal((4, 4)), "scale": np.full((4,), 0.5), "half": np.array(0.5),
        "root": np.array([1.4142]), "one": np.array(1.0), "mask": np.where(above, -np.inf, 0), "far": above * -1e9,
        "column": rng.standard_normal((4, 1)), "bias": np.array([0.1]),
    }  # fmt: skip
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["q"]),
        helper.make_node("Mul", ["q", "scale"], ["s"]),
        helper.make_node("Transpose", ["s"], ["k"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["s", "k"], ["scores"]),
        helper.make_node("Add", ["scores", "mask"], ["masked"]),
        helper.make_node("Add", ["masked", "far"], ["masked twice"]),
        helper.make_node("Softmax", ["masked twice"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "s"], ["v"]),
        helper.make_node("Div", ["v", "root"], ["d"]),
        helper.make_node("Erf", ["d"], ["e"]),
        helper.make_node("Add", ["e", "one"], ["f"]),
        helper.make_node("Mul", ["f", "half"], ["g"]),
        helper.make_node("Mul", ["g", "v"], ["h"]),
        helper.make_node("MatMul", ["h", "column"], ["c"]),
        helper.make_node("Add", ["c", "bias"], ["y"]),
    ]
    model = graph_of(nodes, ["n", 3, 4], {name: np.asarray(a, np.float32) for name, a in constants.items()})
    x, y = rng.standard_normal((6, 3, 4)).astype(np.float32), rng.standard_normal((6, 3, 1)).astype(np.float32)
    step = step_for(model, x, y)
    assert set(step.parameters) == {"w", "scale", "column", "bias"}
    losses = trained(step, fed(step, x, y), 100)
    assert losses[-1] < 0.9 * losses[0]


def test_tied_matrices_are_one_parameter_and_fresh_biases_are_two() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["m"]),
        helper.make_node("Tanh", ["m"], ["t"]),
        helper.make_node("Gemm", ["t", "w", "b"], ["n"]),
        helper.make_node("Tanh", ["n"], ["u"]),
        helper.make_node("Gemm", ["u", "v", "b"], ["y"]),
    ]
    rng = np.random.default_rng(0)
    square, other = (rng.standard_normal((FEATURES, FEATURES)).astype(np.float32) for _ in range(2))
    model = graph_of(nodes, ["n", FEATURES], {"w": square, "v": other, "b": np.zeros(FEATURES, np.float32)})
    x, _ = samples(24)
    y = rng.integers(0, FEATURES, 24)
    step = step_for(model, x, y, Optimizer("sgd"))
    weights = {name: torch.tensor(step.weights()[name], requires_grad=True) for name in step.parameters}
    assert len(weights) == 4
    assert {"w", "v", "b"} < set(weights)
    copy = next(name for name in weights if name not in ("w", "v", "b"))
    optimizer = torch.optim.SGD(weights.values(), 0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        h = torch.tanh(torch.tensor(x) @ weights["w"] + weights["b"])
        h = torch.tanh(h @ weights["w"] + weights["b"])
        scores = h @ weights["v"] + weights[copy]
        torch.nn.functional.cross_entropy(scores, torch.tensor(y)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        step.run(fed(step, x, y), 0.1)
    for name, value in step.weights().items():
        assert_close(weights[name].detach().numpy(), value, 1e-5)
    after = step.model()
    assert len(after.weights) == 4
    assert [node.input[1] for node in after.proto.graph.node if node.op_type == "Gemm"] == ["w", "w", "v"]
    assert step.loss(fed(step, x, y)) == pytest.approx(mean_loss(after, x, y), rel=1e-5)


def test_the_model_is_the_one_that_was_given() -> None:
    """Its own opset, names and metadata; what it computes is what the training graph computes in inference."""
    x, y = samples(24)
    model = mlp(opset=11)
    step = step_for(model, x, y)
    trained(step, fed(step, x, y))
    after = step.model()
    assert after.metadata == {"made by": "a test"}
    before, now = model.to_proto(), after.to_proto()
    assert not any(np.array_equal(model.array(n), after.array(n)) for n in model.weights)
    for tensor, old in zip(now.graph.initializer, before.graph.initializer, strict=True):
        assert (tensor.name, tensor.dims, tensor.data_type) == (old.name, old.dims, old.data_type)
        tensor.CopyFrom(old)
    assert now == before
    assert step.loss(fed(step, x, y)) == pytest.approx(mean_loss(after, x, y), rel=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_narrow_models_are_trained_in_float32(dtype: Any) -> None:
    """Steps too small for 16 bits add up; the result comes back in 16 bits."""
    x, y = samples(24)
    plain, narrow = mlp(), mlp(dtype)
    same = mlp(weights={name: narrow.array(name).astype(np.float64) for name in mlp_weights()})
    objective = objective_for(plain, x, y)
    steps = [Step(m, objective, Optimizer("sgd"), provider="cpu", threads=1) for m in (narrow, same)]
    for step in steps:
        trained(step, feeds_of(objective, x.astype(dtype), y), 40, 1e-4)
    for name, value in steps[0].weights().items():
        np.testing.assert_array_equal(value, steps[1].weights()[name])
        delivered = steps[0].model().weights[name]
        assert delivered.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(delivered.array(), value.astype(dtype))
    assert not np.array_equal(steps[0].model().array("w1"), narrow.array("w1"))


def test_a_float16_model_chooses_its_own_objective() -> None:
    x, y = samples(24, np.float16)
    step = step_for(mlp(np.float16), x, y)
    losses = trained(step, fed(step, x, y), 100, 0.05)
    assert losses[-1] < 0.3 * losses[0]
    assert session(step.model(), provider="cpu").run({"x": x})["y"].dtype == np.float16


def test_the_state_is_all_that_is_needed() -> None:
    x, y = samples(40)
    batches_of = [(x[k : k + 8], y[k : k + 8]) for k in range(0, 40, 8)]
    one = step_for(conv_like(), x, y, Optimizer("adamw", weight_decay=0.1), clip=1.0)
    for part in batches_of[:2]:
        one.run(fed(one, *part), 0.05)
    state = one.state()
    saved = {name: array.copy() for name, array in state.items()}
    for part in batches_of[2:]:
        one.run(fed(one, *part), 0.05)
    for name, array in saved.items():
        np.testing.assert_array_equal(array, state[name])  # a copy, not a view of what goes on
    two = step_for(conv_like(), x, y, Optimizer("adamw", weight_decay=0.1), clip=1.0)
    two.load(saved)
    for part in batches_of[2:]:
        two.run(fed(two, *part), 0.05)
    assert one.state().keys() == two.state().keys()
    for name, array in one.state().items():
        np.testing.assert_array_equal(array, two.state()[name])
    assert one.model().hash == two.model().hash


def conv_like() -> Model:
    return mlp(act="Relu")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("w1"), r"for `w1` it has nothing, expected \[5, 8\]"),
        (lambda state: state.update(w1=np.zeros((5, 7))), r"for `w1` it has \[5, 7\], expected \[5, 8\]"),
        (lambda state: state.update(w9=np.zeros(3)), r"it has `w9`, which is not trained here"),
        (lambda state: state.pop("optimizer/second/b1"), r"for `optimizer/second/b1` it has nothing"),
    ],
)
def test_the_state_of_another_training(change: Any, words: str) -> None:
    x, y = samples(24)
    step = step_for(mlp(), x, y)
    trained(step, fed(step, x, y), 2)
    before, other = step.state(), step.state()
    change(other)
    with pytest.raises(DataError, match=words):
        step.load(other)
    for name, array in step.state().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("threads", [1, 2])
def test_the_same_seed_gives_the_same_weights(threads: int) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((16, 2, 6, 6)).astype(np.float32), rng.integers(0, CLASSES, 16)
    found = []
    for _ in range(2):
        step = step_for(conv_net(), x, y, batchnorm="batch", threads=threads)
        trained(step, fed(step, x, y), 10)
        found.append(step.state())
    for name, array in found[0].items():
        assert array.tobytes() == found[1][name].tobytes()
