"""A small net and data that it can learn, made by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnxprune.data import Dataset
from onnxprune.model import Model, from_proto

CLASSES = 3


def perceptron(hidden: int = 16, seed: int = 0, batch: int | str = "batch", dropout: float = 0.0) -> Model:
    """x (batch, 6) -> Gemm, Relu, Gemm -> scores (batch, 3)."""
    rng = np.random.default_rng(seed)
    arrays = {
        "w1": rng.standard_normal((6, hidden)) / 2,
        "b1": np.zeros(hidden),
        "w2": rng.standard_normal((hidden, CLASSES)) / 2,
        "b2": np.zeros(CLASSES),
    }
    nodes = [helper.make_node("Gemm", ["x", "w1", "b1"], ["a"], name="dense1"), helper.make_node("Relu", ["a"], ["h"])]
    if dropout:
        arrays["share"] = np.array(dropout)
        nodes.append(helper.make_node("Dropout", ["h", "share"], ["d"]))
    nodes.append(helper.make_node("Gemm", ["d" if dropout else "h", "w2", "b2"], ["scores"], name="dense2"))
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 6])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, CLASSES])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 18)]
    proto: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return from_proto(proto)


def arrays(count: int = 120, seed: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Three clouds of points, and which one each belongs to."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % CLASSES
    centres = np.random.default_rng(7).standard_normal((CLASSES, 6)) * 2
    return (centres[y] + rng.standard_normal((count, 6))).astype(np.float32), y


def dataset(count: int = 120, seed: int = 1, *, labels: bool = True) -> Dataset:
    x, y = arrays(count, seed)
    return Dataset({"x": x}, y if labels else None)


def noisy(feeds: dict[str, Any], labels: Any, rng: np.random.Generator) -> Any:
    """An augmentation."""
    return {"x": (feeds["x"] + 0.1 * rng.standard_normal(feeds["x"].shape)).astype(np.float32)}, labels


def same_weights(one: Model, other: Model) -> bool:
    """Bit for bit."""
    return one.weights.keys() == other.weights.keys() and all(
        one.array(name).tobytes() == other.array(name).tobytes() for name in one.weights
    )
