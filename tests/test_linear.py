"""Layers as matrices: columns times matrix, and the bias, must be what onnxruntime computes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxprune.graph import build_graph
from onnxprune.linear import LinearLayer, linear_layers
from onnxprune.model import Model, from_proto
from onnxprune.runtime import session
from tests.oracle import assert_close

RNG = np.random.default_rng(0)


def model_of(nodes: list[Any], weights: dict[str, tuple[int, ...]], shape: tuple[int, ...]) -> Model:
    inits = [numpy_helper.from_array(RNG.standard_normal(s).astype(np.float32), n) for n, s in weights.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        inits,
    )
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


CASES: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "conv": ("Conv", (2, 3, 7, 6), (5, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
    "stride": ("Conv", (2, 3, 7, 6), (5, 3, 3, 2), {"strides": [2, 3], "pads": [1, 0, 2, 1]}),
    "dilation": ("Conv", (2, 3, 9, 9), (4, 3, 3, 3), {"dilations": [2, 3], "pads": [0, 2, 1, 0]}),
    "groups": ("Conv", (2, 6, 5, 5), (4, 3, 3, 3), {"group": 2}),
    "depthwise": ("Conv", (2, 4, 5, 5), (8, 1, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
    "1d": ("Conv", (2, 3, 11), (5, 3, 4), {"strides": [2]}),
    "3d": ("Conv", (2, 2, 4, 5, 4), (3, 2, 2, 3, 2), {"pads": [0, 1, 0, 1, 0, 1]}),
    "same upper": ("Conv", (2, 3, 7, 6), (5, 3, 4, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ("Conv", (2, 3, 7, 6), (5, 3, 4, 3), {"auto_pad": "SAME_LOWER"}),
    "valid": ("Conv", (2, 3, 7, 6), (5, 3, 4, 3), {"auto_pad": "VALID"}),
    "transposed": ("ConvTranspose", (2, 3, 4, 5), (3, 4, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "output padding": (
        "ConvTranspose",
        (2, 3, 4, 5),
        (3, 4, 3, 2),
        {"strides": [2, 3], "output_padding": [1, 2], "pads": [0, 1, 1, 0]},
    ),
    "transposed groups": ("ConvTranspose", (2, 6, 4, 4), (6, 2, 3, 3), {"group": 3, "dilations": [1, 2]}),
    "transposed crop": ("ConvTranspose", (2, 2, 5, 5), (2, 3, 2, 2), {"pads": [2, 2, 2, 2], "strides": [2, 2]}),
    "output shape": ("ConvTranspose", (2, 3, 4, 5), (3, 4, 3, 3), {"strides": [2, 2], "output_shape": [8, 11]}),
    "gemm": ("Gemm", (4, 6), (6, 5), {}),
    "gemm transposed": ("Gemm", (4, 6), (5, 6), {"transB": 1}),
    "matmul": ("MatMul", (2, 4, 6), (6, 5), {}),
}


def layer_of(model: Model) -> LinearLayer:
    (layer,) = linear_layers(build_graph(model))
    return layer


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("biased", [False, True])
def test_columns_times_matrix_is_the_layer(case: str, biased: bool) -> None:
    op, shape, weight, attrs = CASES[case]
    outs = {"Conv": weight[0], "ConvTranspose": weight[1] * attrs.get("group", 1)}.get(op, 5)
    inner = biased and op != "MatMul"
    nodes = [
        helper.make_node(op, ["x", "w", *(["b"] if inner else [])], ["z" if biased and not inner else "y"], **attrs)
    ]
    if biased and not inner:
        nodes.append(helper.make_node("Add", ["z", "b"], ["y"]))
    model = model_of(nodes, {"w": weight, **({"b": (outs,)} if biased else {})}, shape)
    layer = layer_of(model)
    x = RNG.standard_normal(shape).astype(np.float32)
    y = session(model).run({"x": x})["y"]
    matrix = layer.matrix(model.weights["w"].array())
    columns = layer.columns(x)
    found = columns @ matrix.swapaxes(1, 2)
    assert layer.bias == ("b" if biased else "")
    assert layer.biased == "y"
    if biased:
        found = found + model.weights["b"].array().reshape(layer.groups, 1, -1)
    assert_close(found, layer.outputs(y))
    assert columns.shape[1] == len(x) * layer.positions(x.shape)
    assert_close(layer.stored(np.ascontiguousarray(matrix), weight), model.weights["w"].array(), rtol=0)


@pytest.mark.parametrize("case", [c for c in CASES if not c.startswith("gemm")])
def test_some_positions_are_those_of_all(case: str) -> None:
    op, shape, weight, attrs = CASES[case]
    model = model_of([helper.make_node(op, ["x", "w"], ["y"], **attrs)], {"w": weight}, shape)
    layer = layer_of(model)
    x = RNG.standard_normal(shape).astype(np.float32)
    y = session(model).run({"x": x})["y"]
    count = layer.positions(shape)
    take = np.sort(RNG.permutation(count)[: max(count // 2, 1)])
    samples = layer.columns(x).reshape(layer.groups, shape[0], count, -1)[:, :, take].reshape(layer.groups, -1, 1)
    np.testing.assert_array_equal(layer.columns(x, take).reshape(layer.groups, -1, 1), samples)
    rows = layer.outputs(y).reshape(layer.groups, shape[0], count, -1)[:, :, take].reshape(layer.groups, -1, 1)
    np.testing.assert_array_equal(layer.outputs(y, take).reshape(layer.groups, -1, 1), rows)


def test_a_weight_in_front_and_a_weight_behind_a_transpose() -> None:
    front = model_of([helper.make_node("MatMul", ["w", "x"], ["y"])], {"w": (5, 6)}, (6, 4))
    layer = layer_of(front)
    x = RNG.standard_normal((6, 4)).astype(np.float32)
    y = session(front).run({"x": x})["y"]
    assert layer.left
    assert_close(layer.columns(x) @ layer.matrix(front.weights["w"].array()).swapaxes(1, 2), layer.outputs(y))
    moved = model_of(
        [helper.make_node("Transpose", ["w"], ["t"], perm=[1, 0]), helper.make_node("MatMul", ["x", "t"], ["y"])],
        {"w": (5, 6)},
        (4, 6),
    )
    layer = layer_of(moved)
    assert (layer.weight, layer.out_axis, layer.in_axis) == ("w", 0, 1)
    y = session(moved).run({"x": x.T.copy()})["y"]
    assert_close(layer.columns(x.T) @ layer.matrix(moved.weights["w"].array()).swapaxes(1, 2), layer.outputs(y))


def test_a_product_of_two_computed_tensors_is_no_layer() -> None:
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("MatMul", ["x", "r"], ["y"])]
    assert linear_layers(build_graph(model_of(nodes, {}, (4, 4)))) == ()
