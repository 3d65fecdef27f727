"""Small graphs with layers of every kind, made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxprune.coupling import couple
from onnxprune.criteria import Settings, UnitScores, WeightScores
from onnxprune.criteria.magnitude import CRITERIA
from onnxprune.model import Model, from_proto
from onnxprune.values import Coupling

__all__ = ["chain", "layers_net", "mlp", "model_of", "residual", "unit_scores", "weight_scores"]

OPSET = [helper.make_opsetid("", 17)]


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[int | str]],
    weights: dict[str, Sequence[int]],
    output: str = "y",
    seed: int = 0,
) -> Model:
    """A model with random weights of these shapes and one output."""
    rng = np.random.default_rng(seed)
    graph = helper.make_graph(
        list(nodes),
        "net",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(shape)) for n, shape in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array((rng.standard_normal(tuple(s)) / np.sqrt(np.prod(s[1:]))).astype(np.float32), n)
            for n, s in weights.items()
        ],
    )
    proto = helper.make_model(graph, opset_imports=OPSET, ir_version=8)
    return from_proto(onnx.shape_inference.infer_shapes(proto))


def conv(x: str, weight: str, y: str, pad: int = 1, **attributes: object) -> onnx.NodeProto:
    return helper.make_node("Conv", [x, weight], [y], name=weight, pads=[pad] * 4, **attributes)


def relu(x: str) -> onnx.NodeProto:
    return helper.make_node("Relu", [x], [f"{x}r"])


def layers_net() -> Model:
    """One layer of every kind: conv, grouped conv, transposed conv, MatMul, Gemm with a transposed weight."""
    nodes = [
        conv("x", "plain", "a"), relu("a"),
        conv("ar", "grouped", "b", group=2), relu("b"),
        helper.make_node("ConvTranspose", ["br", "turned"], ["c"], name="turned", group=2), relu("c"),
        helper.make_node("Flatten", ["cr"], ["f"]),
        helper.make_node("MatMul", ["f", "product"], ["d"], name="product"), relu("d"),
        helper.make_node("Gemm", ["dr", "gemm"], ["y"], name="gemm", transB=1),
    ]  # fmt: skip
    shapes = {
        "plain": (8, 4, 3, 3), "grouped": (12, 4, 3, 3), "turned": (12, 3, 2, 2), "product": (150, 10), "gemm": (6, 10),
    }  # fmt: skip
    return model_of(nodes, {"x": ("batch", 4, 4, 4)}, shapes)


def chain(channels: Sequence[int] = (8, 12, 16, 10), size: int = 6) -> Model:
    """Convolutions one after the other, then the mean over positions and a linear layer: ``w0``, ``w1``, ..."""
    nodes: list[onnx.NodeProto] = []
    shapes: dict[str, Sequence[int]] = {}
    x, before = "x", 3
    for k, count in enumerate(channels):
        nodes += [conv(x, f"w{k}", f"a{k}"), relu(f"a{k}")]
        shapes[f"w{k}"] = (count, before, 3, 3)
        x, before = f"a{k}r", count
    nodes += [helper.make_node("GlobalAveragePool", [x], ["p"]), helper.make_node("Flatten", ["p"], ["f"])]
    nodes.append(helper.make_node("Gemm", ["f", "last"], ["y"], name="last", transB=1))
    shapes["last"] = (5, before)
    return model_of(nodes, {"x": ("batch", 3, size, size)}, shapes)


def mlp(widths: Sequence[int] = (6, 20, 16, 4)) -> Model:
    """Fully connected layers ``w0``, ``w1``, ... with ReLU between them."""
    nodes: list[onnx.NodeProto] = []
    x = "x"
    count = len(widths) - 1
    for k in range(count):
        y = "y" if k == count - 1 else f"a{k}"
        nodes.append(helper.make_node("Gemm", [x, f"w{k}"], [y], name=f"w{k}"))
        if y != "y":
            nodes.append(relu(y))
            x = f"{y}r"
    shapes = {f"w{k}": (widths[k], widths[k + 1]) for k in range(count)}
    return model_of(nodes, {"x": ("batch", widths[0])}, shapes)


def residual() -> Model:
    """A stem, two residual blocks, a linear layer: the stem's channels live in ``stem``, ``b0`` and ``b1``."""
    nodes = [
        conv("x", "stem", "s"), relu("s"),
        conv("sr", "a0", "h0"), relu("h0"), conv("h0r", "b0", "g0"), helper.make_node("Add", ["sr", "g0"], ["t0"]),
        conv("t0", "a1", "h1"), relu("h1"), conv("h1r", "b1", "g1"), helper.make_node("Add", ["t0", "g1"], ["t1"]),
        helper.make_node("GlobalAveragePool", ["t1"], ["p"]), helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "last"], ["y"], name="last", transB=1),
    ]  # fmt: skip
    three = (3, 3)
    shapes = {
        "stem": (8, 3, *three), "a0": (12, 8, *three), "b0": (8, 12, *three), "a1": (10, 8, *three),
        "b1": (8, 10, *three), "last": (5, 8),
    }  # fmt: skip
    return model_of(nodes, {"x": ("batch", 3, 6, 6)}, shapes)


def unit_scores(model: Model, coupling: Coupling | None = None) -> UnitScores:
    """Root mean squares, without the registry."""
    found = CRITERIA[1].units
    assert found is not None
    return found(model, coupling or couple(model), Settings())


def weight_scores(model: Model, coupling: Coupling | None = None) -> WeightScores:
    """Squares, without the registry."""
    found = CRITERIA[1].weights
    assert found is not None
    return found(model, coupling or couple(model), Settings())
