"""Small ONNX protos for the tests of reading, writing, checking and running."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IR, OPSET = 10, 21


def values(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def value(name: str, shape: Sequence[int | str | None] | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def node(op: str, inputs: Iterable[str], outputs: Iterable[str], **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, list(inputs), list(outputs), **attributes)


def proto(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray | onnx.TensorProto] | None = None,
    opsets: dict[str, int] | None = None,
    ir_version: int = IR,
    **parts: Any,
) -> onnx.ModelProto:
    initializers = [
        w if isinstance(w, onnx.TensorProto) else numpy_helper.from_array(w, name)
        for name, w in (weights or {}).items()
    ]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    imports = [helper.make_opsetid(d, v) for d, v in (opsets or {"": OPSET}).items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version, **parts)


def mlp(*, width: int = 32, constant: bool = False) -> onnx.ModelProto:
    """x [n, 20] -> Gemm -> Relu -> MatMul -> y [n, 3]; ``constant``: the MatMul's weight is in a Constant node."""
    second = values(width, 3, seed=2)
    nodes = [
        node("Gemm", ["x", "w1", "b1"], ["h"], name="first"),
        node("Relu", ["h"], ["r"], name="relu"),
        node("MatMul", ["r", "w2"], ["y"], name="second"),
    ]
    weights: dict[str, np.ndarray | onnx.TensorProto] = {"w1": values(20, width, seed=1), "b1": values(width, seed=3)}
    if constant:
        nodes.insert(2, node("Constant", [], ["w2"], value=numpy_helper.from_array(second)))
    else:
        weights["w2"] = second
    return proto(nodes, [value("x", ["n", 20])], [value("y", ["n", 3])], weights)


def mlp_output(x: np.ndarray, *, width: int = 32) -> np.ndarray:
    """What ``mlp`` computes, in float64."""
    hidden = x.astype(np.float64) @ values(20, width, seed=1) + values(width, seed=3)
    result: np.ndarray = np.maximum(hidden, 0) @ values(width, 3, seed=2)
    return result


def with_body() -> onnx.ModelProto:
    """An If whose bodies read ``h`` from outside and hold a constant of their own."""
    then = helper.make_graph(
        [node("Add", ["h", "inner"], ["t"])], "then", [], [value("t", None)], [_named(values(1, 400), "inner")]
    )
    other = helper.make_graph([node("Relu", ["h"], ["o"])], "other", [], [value("o", None)])
    nodes = [
        node("MatMul", ["x", "w"], ["h"], name="matmul"),
        node("If", ["flag"], ["y"], name="if", then_branch=then, else_branch=other),
    ]
    inputs = [value("x", ["n", 8]), value("flag", [], TensorProto.BOOL)]
    return proto(nodes, inputs, [value("y", None)], {"w": values(8, 400)})


def inner_constant(model: onnx.ModelProto) -> onnx.TensorProto:
    """The constant inside ``with_body``'s then-branch."""
    (branch,) = (a.g for a in model.graph.node[1].attribute if a.name == "then_branch")
    return branch.initializer[0]


def with_function() -> onnx.ModelProto:
    """A call of a local function that scales its input by a constant of its own."""
    scale = numpy_helper.from_array(values(1, 300), "scale")
    body = [node("Constant", [], ["scale"], value=scale), node("Mul", ["a", "scale"], ["b"])]
    function = helper.make_function("local", "Scaled", ["a"], ["b"], body, [helper.make_opsetid("", OPSET)])
    made = proto(
        [node("Scaled", ["x"], ["y"], domain="local", name="call")],
        [value("x", ["n", 300])],
        [value("y", ["n", 300])],
        opsets={"": OPSET, "local": 1},
    )
    made.functions.append(function)
    return made


def outside(tensor: onnx.TensorProto, location: str, **entries: int | str) -> onnx.TensorProto:
    """Make ``tensor`` one with external data."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, entry in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(entry))
    return tensor


def _named(array: np.ndarray, name: str) -> onnx.TensorProto:
    return numpy_helper.from_array(array, name)
