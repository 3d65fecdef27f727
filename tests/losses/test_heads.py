"""Losses begin at the logits, whatever stands between them and the output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnxprune.autodiff import open_tape
from onnxprune.data import Dataset
from onnxprune.losses import choose_objective, write_objective
from onnxprune.model import Model, from_proto
from tests.losses.nets import measured, net
from tests.oracle import assert_close

Array = NDArray[Any]
Tail = Sequence[tuple[str, Mapping[str, Any]]]
SOFTMAX = ("Softmax", {"axis": -1})
DOUBLE = {"to": TensorProto.DOUBLE}


def begins_at(model: Model, x: Array, y: Array, losses: str | None = None) -> set[str]:
    objective = choose_objective(model, Dataset({"x": x}, y), losses, provider="cpu")
    return set(write_objective(open_tape(model), objective).cotangents)


def data(*shape: int, classes: int = 4) -> tuple[Array, Array]:
    rng = np.random.default_rng(0)
    return 2 * rng.standard_normal(shape), rng.integers(0, classes, shape[:1])


@pytest.mark.parametrize(
    "tail",
    [
        [SOFTMAX],
        [("LogSoftmax", {"axis": 1})],
        [SOFTMAX, ("Identity", {})],
        [SOFTMAX, ("Cast", DOUBLE)],
        [SOFTMAX, ("Flatten", {"axis": 1})],
        [("Transpose", {"perm": [1, 0]}), ("Softmax", {"axis": 0}), ("Transpose", {"perm": [1, 0]})],
        [SOFTMAX, ("Unsqueeze", {}), ("Squeeze", {})],
    ],
    ids=lambda tail: "-".join(op for op, _ in tail),
)
def test_softmax_is_looked_through(tail: Tail) -> None:
    x, y = data(9, 4)
    model = net(("n", 4), *tail, inputs={"Unsqueeze": ["two"], "Squeeze": ["two"]}, constants={"two": np.array([2])})
    assert begins_at(model, x, y) == {"t1" if tail[0][0] == "Transpose" else "t0"}
    plain, found = measured(net(("n", 4)), x, y), measured(model, x, y)
    assert found.loss == pytest.approx(plain.loss, rel=1e-12)
    assert_close(plain.gradient, found.gradient, 1e-12)


def test_softmax_of_words_behind_a_reshape() -> None:
    """(n, t, c) -> (n t, c) -> Softmax -> (n, t, c)."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3, 5, 4)), rng.integers(0, 4, (3, 5))
    model = net(
        ("n", 5, 4), ("Flatten", {"axis": 2}), SOFTMAX, ("Reshape", {}),
        inputs={"Reshape": ["back"]}, constants={"back": np.array([-1, 5, 4])},
    )  # fmt: skip
    assert begins_at(model, x, y) == {"t1"}
    plain, found = measured(net(("n", 5, 4)), x, y), measured(model, x, y)
    assert found.loss == pytest.approx(plain.loss, rel=1e-12)
    assert_close(plain.gradient, found.gradient, 1e-12)


def test_softmax_over_another_axis_is_no_score() -> None:
    """Its output is taken as it is: only a Softmax over the classes makes them probabilities."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3, 5, 4)), rng.integers(0, 4, (3, 5))
    assert begins_at(net(("n", 5, 4), ("Softmax", {"axis": 1})), x, y) == {"y"}


@pytest.mark.parametrize("columns", [1, 3])
def test_sigmoid_is_looked_through(columns: int) -> None:
    rng = np.random.default_rng(0)
    x, y = 3 * rng.standard_normal((9, columns)), rng.integers(0, 2, (9, columns))
    model = net(("n", columns), ("Sigmoid", {}), ("Flatten", {}))
    assert begins_at(model, x, y) == {"t0"}
    plain, found = measured(net(("n", columns)), x, y), measured(model, x, y)
    assert found.loss == pytest.approx(plain.loss, rel=1e-12)
    assert_close(plain.gradient, found.gradient, 1e-12)


def test_sure_and_wrong_has_a_gradient() -> None:
    """Behind the Softmax the gradient of -log p would be 0 times infinity."""
    x = np.array([[200.0, -200.0], [0.0, 0.0]])
    found = measured(net(("n", 2), SOFTMAX), x, np.array([1, 1]))
    assert found.loss == pytest.approx((400 + np.log(2)) / 2)
    assert_close(np.array([[0.5, -0.5], [0.25, -0.25]]), found.gradient)


def pair() -> Model:
    """As scikit-learn's binary classifiers are exported: s = Sigmoid(z), (1 - s, s)."""
    nodes = [
        helper.make_node("Identity", ["x"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["s"]),
        helper.make_node("Sub", ["one", "s"], ["r"]),
        helper.make_node("Concat", ["r", "s"], ["c"], axis=1),
        helper.make_node("Identity", ["c"], ["y"]),
    ]
    info = helper.make_tensor_value_info
    inputs, outputs = [info("x", TensorProto.DOUBLE, ["n", 1])], [info("y", TensorProto.DOUBLE, ["n", 2])]
    graph = helper.make_graph(nodes, "pair", inputs, outputs, [numpy_helper.from_array(np.array([1.0]), "one")])
    proto: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return from_proto(proto)


def test_two_classes_from_one_score() -> None:
    x, y = data(9, 1, classes=2)
    assert begins_at(pair(), x, y) == {"z"}
    plain = measured(net(("n", 1)), x, y)
    found = measured(pair(), x, y, "cross-entropy(class_weights=[1, 1])")
    assert found.loss == pytest.approx(plain.loss, rel=1e-12)
    assert_close(plain.gradient, found.gradient, 1e-12)


def test_probabilities_of_other_means() -> None:
    """p = x / sum(x): -log p."""
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0.1, 1, (9, 4)), rng.integers(0, 4, 9)
    x /= x.sum(1, keepdims=True)
    found = measured(net(("n", 4), ("Neg", {}), ("Neg", {})), x, y)
    picked = x[np.arange(9), y]
    assert found.loss == pytest.approx(-np.log(picked).mean(), rel=1e-10)
    exact = np.zeros_like(x)
    exact[np.arange(9), y] = -1 / picked / 9
    assert_close(exact - (exact * x).sum(1, keepdims=True), found.gradient, 1e-8)  # up to the length of the vector


def test_a_single_probability_of_other_means() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0.1, 0.9, (9, 1)), rng.integers(0, 2, 9)
    limits = {"low": np.array(0.0), "high": np.array(1.0)}
    found = measured(net(("n", 1), ("Clip", {}), inputs={"Clip": ["low", "high"]}, constants=limits), x, y)
    p = x[:, 0]
    assert found.loss == pytest.approx(-np.log(np.where(y, p, 1 - p)).mean(), rel=1e-10)
    assert_close((-np.where(y, 1 / p, -1 / (1 - p)) / 9)[:, None], found.gradient, 1e-8)


@pytest.mark.parametrize("axis", [1, 0])
def test_softmax_of_an_old_opset(axis: int) -> None:
    """Before opset 13 a Softmax is over all axes from its axis on; the form of opset 18 has another one."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((1 if axis == 0 else 3, 4)).astype(np.float32), rng.integers(0, 4, 1 if axis == 0 else 3)
    model = net((1 if axis == 0 else "n", 4), ("Softmax", {"axis": axis}), dtype=TensorProto.FLOAT, opset=11)
    plain = measured(net(("n", 4), dtype=TensorProto.FLOAT), x, y)
    assert_close(plain.gradient, measured(model, x, y).gradient, 1e-5)


@pytest.mark.parametrize("tail", [[], [SOFTMAX], [("LogSoftmax", {"axis": -1})]], ids=["logits", "p", "log p"])
def test_a_teacher_may_end_otherwise(tail: Tail) -> None:
    """Scores, probabilities and their logarithms teach the same."""
    x, _ = data(9, 4)
    teacher = net(("n", 4), ("Neg", {}), *tail)
    student = net(("n", 4), SOFTMAX)
    exact = measured(net(("n", 4)), x, None, "distillation(temperature=2)", teacher=net(("n", 4), ("Neg", {})))
    found = measured(student, x, None, "distillation(temperature=2)", teacher=teacher)
    assert found.loss == pytest.approx(exact.loss, rel=1e-10)
    assert_close(exact.gradient, found.gradient, 1e-10)


def test_a_teacher_may_end_in_a_sigmoid() -> None:
    rng = np.random.default_rng(0)
    x, y = 5 * rng.standard_normal((9, 3)), rng.integers(0, 2, (9, 3))
    exact = measured(net(("n", 3)), x, y, "distillation", teacher=net(("n", 3), ("Neg", {})))
    found = measured(net(("n", 3)), x, y, "distillation", teacher=net(("n", 3), ("Neg", {}), ("Sigmoid", {})))
    assert_close(exact.gradient, found.gradient, 1e-10)
