"""Networks that put out what goes in, by way of the operators that outputs end in, and what a loss makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnxprune.autodiff import backward, build, open_tape
from onnxprune.data import Batch, Dataset
from onnxprune.losses import Objective, choose_objective, write_objective
from onnxprune.model import Model, from_proto
from tests.doubles import Runner

__all__ = ["Measured", "dataset", "measured", "net"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Measured:
    """``gradient``: of the mean loss, with respect to the input."""

    objective: Objective
    loss: float
    gradient: Array
    per_sample: Array
    count: float


def net(
    shape: Sequence[int | str],
    *tail: tuple[str, Mapping[str, Any]],
    dtype: int = TensorProto.DOUBLE,
    constants: Mapping[str, Array] | None = None,
    inputs: Mapping[str, Sequence[str]] | None = None,
    opset: int = 18,
) -> Model:
    """x -> z -> tail -> y; ``inputs``: further ones of an operator in the tail."""
    nodes = [helper.make_node("Identity", ["x"], ["t0"])]
    for number, (op, attrs) in enumerate(tail):
        names = (inputs or {}).get(op, ())
        nodes.append(helper.make_node(op, [f"t{number}", *names], [f"t{number + 1}"], **attrs))
    nodes[-1].output[0] = "y"
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", dtype, list(shape))],
        [helper.make_tensor_value_info("y", dtype, None)],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    proto: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    proto.ir_version = 8
    return from_proto(proto)


def dataset(x: Array, y: Array | None) -> Dataset:
    return Dataset({"x": x}, y)


def measured(model: Model, x: Array, y: Array | None, losses: str | None = None, **options: Any) -> Measured:
    """The loss of one batch, and its gradient."""
    objective = choose_objective(model, dataset(x, y), losses, provider="cpu", threads=1, **options)
    tape = open_tape(model)
    written = write_objective(tape, objective)
    gradient = backward(tape, written.cotangents, ["x"])["x"]
    built = build(tape, [written.per_sample, written.count, gradient])
    feeds = {"x": x, **objective.feeds(Batch({"x": x}, y, len(x)))}
    found = Runner(built)(feeds)
    per_sample, count = found[written.per_sample.name], float(found[written.count.name])
    total = per_sample.sum(dtype=np.float64) / count
    return Measured(objective, float(total), found[gradient.name] / count, per_sample, count)
