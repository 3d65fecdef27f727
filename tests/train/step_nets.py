"""Small networks that are trained step by step, as ONNX and as the same computation in torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnxprune.data import Batch, Dataset
from onnxprune.losses import Objective, choose_objective
from onnxprune.model import Model, from_proto
from onnxprune.train.optimizers import Optimizer
from onnxprune.train.step import Step
from tests.oracle import run

__all__ = [
    "CLASSES",
    "FEATURES",
    "WIDTH",
    "conv_in_torch",
    "conv_net",
    "conv_weights",
    "fed",
    "feeds_of",
    "graph_of",
    "mean_loss",
    "mlp",
    "mlp_in_torch",
    "mlp_weights",
    "objective_for",
    "samples",
    "step_for",
    "trained",
]

Array = NDArray[Any]
FEATURES, WIDTH, CLASSES = 5, 8, 3


def graph_of(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int | str],
    constants: Mapping[str, Array],
    *,
    kind: int = TensorProto.FLOAT,
    opset: int = 18,
) -> Model:
    """x of this shape -> y."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", kind, list(shape))],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    proto: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(proto, {"made by": "a test"})
    return from_proto(proto)


def mlp_weights(seed: int = 0) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    shapes = {"w1": (FEATURES, WIDTH), "b1": (WIDTH,), "w2": (CLASSES, WIDTH), "b2": (CLASSES,)}
    return {name: 0.5 * rng.standard_normal(shape) for name, shape in shapes.items()}


def mlp(
    dtype: type = np.float32, *, weights: Mapping[str, Array] | None = None, opset: int = 18, act: str = "Tanh"
) -> Model:
    """MatMul, Add, an activation function, Gemm with a transposed weight."""
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["m"]),
        helper.make_node("Add", ["m", "b1"], ["a"]),
        helper.make_node(act, ["a"], ["h"]),
        helper.make_node("Gemm", ["h", "w2", "b2"], ["y"], transB=1),
    ]
    constants = {name: value.astype(dtype) for name, value in (weights or mlp_weights()).items()}
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return graph_of(nodes, ["n", FEATURES], constants, kind=kind, opset=opset)


def mlp_in_torch(weights: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x @ weights["w1"] + weights["b1"]) @ weights["w2"].T + weights["b2"]


def conv_weights() -> dict[str, Array]:
    """float32; every statistic has values of its own."""
    rng = np.random.default_rng(0)
    shapes = {
        "conv": (4, 2, 3, 3),
        "scale": (4,),
        "bias": (4,),
        "mean": (4,),
        "fc": (CLASSES, 4),
        "fc_bias": (CLASSES,),
    }
    made = {name: (0.5 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    return made | {"variance": rng.uniform(0.5, 2, 4).astype(np.float32)}


def conv_net() -> Model:
    """Conv, BatchNormalization, Tanh, the mean of each map, Gemm."""
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c", "scale", "bias", "mean", "variance"], ["n"], momentum=0.8),
        helper.make_node("Tanh", ["n"], ["t"]),
        helper.make_node("GlobalAveragePool", ["t"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "fc", "fc_bias"], ["y"], transB=1),
    ]
    return graph_of(nodes, ["n", 2, 6, 6], conv_weights())


def conv_in_torch(weights: Mapping[str, torch.Tensor], x: torch.Tensor, *, training: bool) -> torch.Tensor:
    """Updates mean and variance while training."""
    maps = torch.nn.functional.conv2d(x, weights["conv"], padding=1)
    maps = torch.nn.functional.batch_norm(
        maps, weights["mean"], weights["variance"], weights["scale"], weights["bias"], training, momentum=0.2
    )
    return torch.tanh(maps).mean((2, 3)) @ weights["fc"].T + weights["fc_bias"]


def samples(count: int, dtype: type = np.float32, seed: int = 1) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, FEATURES)).astype(dtype), rng.integers(0, CLASSES, count)


def feeds_of(objective: Objective, x: Array, y: Array | None) -> dict[str, Array]:
    return {"x": x, **objective.feeds(Batch({"x": x}, y, len(x)))}


def objective_for(model: Model, x: Array, y: Array | None, losses: str | None = None, **options: Any) -> Objective:
    return choose_objective(model, Dataset({"x": x}, y), losses, provider="cpu", threads=1, **options)


def step_for(model: Model, x: Array, y: Array | None, optimizer: Optimizer | None = None, **options: Any) -> Step:
    objective = objective_for(model, x, y)
    return Step(model, objective, optimizer or Optimizer("adam"), **({"provider": "cpu", "threads": 1} | options))


def trained(step: Step, feeds: dict[str, Array], count: int = 5, rate: float = 0.01) -> list[float]:
    return [step.run(feeds, rate) for _ in range(count)]


def fed(step: Step, x: Array, y: Array | None) -> dict[str, Array]:
    return feeds_of(step.objective, x, y)


def mean_loss(model: Model, x: Array, y: Array) -> float:
    """Cross-entropy of what the model puts out, in float64."""
    scores = torch.tensor(np.asarray(run(model, {"x": x})["y"], np.float64))
    return float(torch.nn.functional.cross_entropy(scores, torch.tensor(y)))
