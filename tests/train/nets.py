"""Small networks that are trained, as ONNX and as the same computation in torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnxprune.data import Batch, Dataset
from onnxprune.losses import Objective, choose_objective
from onnxprune.model import Model, from_proto

__all__ = [
    "CLASSES",
    "FEATURES",
    "WIDTH",
    "batch_of",
    "feeds_of",
    "mlp",
    "mlp_in_torch",
    "mlp_weights",
    "objective_for",
    "samples",
]

Array = NDArray[Any]
FEATURES, WIDTH, CLASSES = 5, 8, 3


def mlp_weights(seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    shapes = {"w1": (FEATURES, WIDTH), "b1": (WIDTH,), "w2": (CLASSES, WIDTH), "b2": (CLASSES,)}
    return {name: 0.5 * rng.standard_normal(shape) for name, shape in shapes.items()}


def mlp(
    dtype: type = np.float32, *, weights: Mapping[str, Array] | None = None, opset: int = 18, act: str = "Tanh"
) -> Model:
    """MatMul, Add, an activation function, Gemm with a transposed weight; metadata and names of its own."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["m"]),
        helper.make_node("Add", ["m", "b1"], ["a"]),
        helper.make_node(act, ["a"], ["h"]),
        helper.make_node("Gemm", ["h", "w2", "b2"], ["y"], transB=1),
    ]
    values = mlp_weights() if weights is None else weights
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", kind, ["n", FEATURES])],
        [helper.make_tensor_value_info("y", kind, ["n", CLASSES])],
        [numpy_helper.from_array(values[name].astype(dtype), name) for name in ("w1", "b1", "w2", "b2")],
    )
    proto: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(proto, {"made by": "a test"})
    return from_proto(proto)


def mlp_in_torch(weights: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x @ weights["w1"] + weights["b1"]) @ weights["w2"].T + weights["b2"]


def samples(count: int, dtype: type = np.float32, seed: int = 1) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, FEATURES)).astype(dtype), rng.integers(0, CLASSES, count)


def batch_of(x: Array, y: Array | None) -> Batch:
    return Batch({"x": x}, y, len(x))


def feeds_of(objective: Objective, x: Array, y: Array | None) -> dict[str, Array]:
    return {"x": x, **objective.feeds(batch_of(x, y))}


def objective_for(model: Model, x: Array, y: Array | None, losses: str | None = None, **options: Any) -> Objective:
    return choose_objective(model, Dataset({"x": x}, y), losses, provider="cpu", threads=1, **options)
