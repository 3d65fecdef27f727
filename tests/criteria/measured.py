"""Small nets and data for the criteria that look at data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from onnxprune.coupling import couple
from onnxprune.data import Dataset
from onnxprune.model import Model, from_proto
from onnxprune.runtime import session
from onnxprune.values import Coupling
from tests.nets.handmade._build import Build

__all__ = ["cnn", "data", "data_for", "finish", "mlp", "tensor"]

Array = NDArray[Any]


def finish(b: Build, y: str, *shape: int | str) -> tuple[Model, Coupling]:
    """The model with input x of this shape, and its groups."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape or ["batch", 3, 6, 5])]
    outputs = [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)]
    graph = helper.make_graph(b.nodes, "net", inputs, outputs, b.initializers)
    model = from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    return model, couple(model)


def cnn(order: list[int] | None = None, dead: int | None = None) -> tuple[Model, Coupling]:
    """Conv 3 -> 6 (group w1), Relu, Conv 6 -> 4 (group w2), Relu, Flatten, Gemm 4 x 30 -> 3.

    ``order`` permutes the units of w1; unit ``dead`` of it is always 0.
    """
    rng = np.random.default_rng(1)
    first, second, bias = rng.normal(size=(6, 3, 3, 3)), rng.normal(size=(4, 6, 3, 3)), rng.normal(size=6)
    if dead is not None:
        first[dead], bias[dead] = 0, -1
    place = order or list(range(6))
    b = Build()
    y = b.op("Conv", "x", b.const("w1.weight", first[place]), b.const("w1.bias", bias[place]), pads=[1] * 4)
    y = b.op("Relu", y, out="r1")
    y = b.op("Conv", y, b.const("w2.weight", second[:, place]), b.const("w2.bias", rng.normal(size=4)), pads=[1] * 4)
    y = b.op("Flatten", b.op("Relu", y, out="r2"), out="flat")
    y = b.op(
        "Gemm", y, b.const("w3.weight", rng.normal(size=(3, 120))), b.const("w3.bias", rng.normal(size=3)), transB=1
    )
    return finish(b, y)


def mlp(width: int = 8) -> tuple[Model, Coupling]:
    """Gemm 5 -> width (group w1), Relu, MatMul width -> 4."""
    b = Build(2)
    y = b.op("Gemm", "x", b.weight("w1.weight", width, 5), b.bias("w1.bias", width), transB=1)
    y = b.op("MatMul", b.op("Relu", y, out="r1"), b.matrix("w2.weight", width, 4))
    return finish(b, y, "batch", 5)


def data(*shape: int, seed: int = 0, classes: int = 3) -> Dataset:
    """Normal numbers of this shape, samples first, with classes."""
    rng = np.random.default_rng(seed)
    return Dataset({"x": rng.normal(size=shape).astype(np.float32)}, rng.integers(0, classes, shape[0]))


def data_for(model: Model, count: int = 6) -> Dataset:
    """Random samples for all inputs of a net of the registry."""
    rng = np.random.default_rng(0)
    columns = {}
    for info in model.proto.graph.input:
        if info.name not in model.weights:
            shape = (count, *(d.dim_value or 9 for d in info.type.tensor_type.shape.dim[1:]))
            whole = info.type.tensor_type.elem_type == TensorProto.INT64
            columns[info.name] = rng.integers(0, 2, shape) if whole else rng.normal(size=shape).astype(np.float32)
    return Dataset(columns)


def tensor(model: Model, dataset: Dataset, name: str) -> Array:
    """The values of one tensor for all samples."""
    return session(model, outputs=[name]).run({k: np.asarray(rows[:]) for k, rows in dataset.inputs.items()})[name]
