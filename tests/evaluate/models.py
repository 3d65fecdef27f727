"""Models that hand their input on, so that a test makes outputs at will; and evaluating them in odd batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnxprune.data import Dataset
from onnxprune.evaluate import Evaluation, evaluate
from onnxprune.model import Model, from_proto

Array = np.ndarray[Any, Any]


def passing(
    *sizes: int | str,
    op: str = "Identity",
    kind: int = TensorProto.FLOAT,
    batch: int | str = "batch",
    **attributes: Any,
) -> Model:
    """y = op(x), both of shape (batch, *sizes)."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *sizes])
    y = helper.make_tensor_value_info("y", kind, [batch, *sizes])
    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"], **attributes)], "passing", [x], [y])
    proto: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return from_proto(proto)


def deciding(*sizes: int | str) -> Model:
    """Puts its input out as class numbers."""
    return passing(*sizes, op="Cast", kind=TensorProto.INT64, to=TensorProto.INT64)


def dataset(x: Array, y: Array | None = None, names: tuple[str, ...] = ()) -> Dataset:
    """Infinities and NaN reach the model, so that it hands them on."""
    return Dataset({"x": np.asarray(x, np.float32)}, y, names, allow_nan=True)


def measure(model: Model, x: Array, y: Array | None = None, names: tuple[str, ...] = (), **options: Any) -> Evaluation:
    return evaluate(model, dataset(x, y, names), **{"size": 7, **options})


def values(found: Evaluation) -> dict[str, float]:
    return {metric.name: metric.value for metric in found}


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def cross_entropy(logits: Array, labels: Array) -> float:
    logs = np.log(softmax(logits))
    return float(-np.take_along_axis(logs, labels[..., None], -1).mean())
