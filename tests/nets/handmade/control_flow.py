"""If, Loop and Scan, with weights in the bodies and outside them; a model of local functions."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.nets._spec import Input, image
from tests.nets.handmade._build import Build, Handmade

__all__ = ["MODELS"]

FLOAT = TensorProto.FLOAT
_info = helper.make_tensor_value_info


def _branches(b: Build, condition: str, hidden: str) -> str:
    """If with a convolution in each branch: the first one's weights are outside, the second one's inside."""
    outer = b.weight("outer.weight", 12, 10, 3, 3)
    outer_bias = b.bias("outer.bias", 12)
    one = Build(prefix="then.")
    y = one.op("Relu", one.op("Conv", hidden, outer, outer_bias, pads=[1] * 4))
    then = one.graph([], [_info(y, FLOAT, None)], "then")
    two = Build(11, prefix="else.")
    y = two.op("Sigmoid", two.conv(hidden, 10, 12, 1))
    other = two.graph([], [_info(y, FLOAT, None)], "else")
    return b.op("If", condition, then_branch=then, else_branch=other)


def _if_flag() -> onnx.ModelProto:
    b = Build(1)
    y = _branches(b, "flag", b.op("Relu", b.conv("x", 3, 10)))
    b.classify(b.op("Relu", b.conv(y, 12, 8)), 8)
    return b.model(_FLAG, {"y": ("batch", 5)})


def _if_computed() -> onnx.ModelProto:
    b = Build(2)
    hidden = b.op("Relu", b.conv("x", 3, 10))
    total = b.op("ReduceSum", "x", keepdims=0)
    y = _branches(b, b.op("Greater", total, b.const("zero", 0.0)), hidden)
    b.classify(y, 12)
    return b.model(_IMAGE, {"y": ("batch", 5)})


def _loop() -> onnx.ModelProto:
    """The carried state has 12 entries, the body 9 hidden ones and a scan output of 7; three rounds."""
    b = Build(3)
    state = b.op("Tanh", b.linear("x", 6, 12))
    outer = b.matrix("outer.weight", 12, 9)
    body = Build(31, prefix="body.")
    hidden = body.op("Relu", body.op("MatMul", "body.state", outer))
    new = body.op("Tanh", body.op("Add", "body.state", body.linear(hidden, 9, 12)))
    emitted = body.linear(new, 12, 7)
    keep = body.op("Identity", "body.condition")
    graph = body.graph(
        [_info("body.round", TensorProto.INT64, []), _info("body.condition", TensorProto.BOOL, []),
         _info("body.state", FLOAT, ("batch", 12))],
        [_info(keep, TensorProto.BOOL, []), _info(new, FLOAT, ("batch", 12)), _info(emitted, FLOAT, ("batch", 7))],
        "body",
    )  # fmt: skip
    trip = b.const("rounds", 3, np.int64)
    last, scanned = b.ops("Loop", trip, "", state, out=(None, None), body=graph)
    mean = b.op("ReduceMean", scanned, b.const("axes", [0], np.int64), keepdims=0)
    b.linear(b.op("Concat", last, mean, axis=1), 19, 4)
    b.nodes[-1].output[0] = "y"
    return b.model(_ROW, {"y": ("batch", 4)})


def _scan() -> onnx.ModelProto:
    """An RNN as Scan: s = tanh(x W + s R + b), every s emitted."""
    b = Build(4)
    start = b.op("Tanh", b.linear(b.op("ReduceMean", "x", b.const("time", [1], np.int64), keepdims=0), 6, 11))
    body = Build(41, prefix="body.")
    recurrent = body.op("MatMul", "body.state", body.matrix("recurrent", 11, 11))
    new = body.op("Tanh", body.op("Add", body.linear("body.step", 8, 11), recurrent))
    out = body.op("Identity", new)
    shape = ("batch", 11)
    graph = body.graph(
        [_info("body.state", FLOAT, shape), _info("body.step", FLOAT, ("batch", 8))],
        [_info(new, FLOAT, shape), _info(out, FLOAT, shape)],
        "body",
    )
    steps = b.op("Relu", b.linear("x", 6, 8))
    last, every = b.ops(
        "Scan", start, steps, out=(None, None), body=graph, num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[1]
    )
    b.linear(b.op("Add", last, b.op("ReduceMax", every, "time", keepdims=0)), 11, 4)
    b.nodes[-1].output[0] = "y"
    return b.model(_SEQUENCE, {"y": ("batch", 4)})


def _functions() -> onnx.ModelProto:
    """Convolution + activation as a function that calls another one; an attribute is passed through."""
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]
    leaky = helper.make_node("LeakyRelu", ["x"], ["y"])
    leaky.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    inner = helper.make_function("local", "Act", ["x"], ["y"], [leaky], imports[:1], ["slope"])
    call = helper.make_node("Act", ["c"], ["y"], domain="local")
    call.attribute.add(name="slope", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    conv = helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1] * 4)
    outer = helper.make_function("local", "ConvAct", ["x", "w", "b"], ["y"], [conv, call], imports, ["slope"])
    b = Build(5)
    b.functions = [inner, outer]
    y = "x"
    for i, (inputs, outputs) in enumerate([(3, 8), (8, 12), (12, 10)]):
        weight, bias = b.weight(f"w{i}", outputs, inputs, 3, 3), b.bias(f"b{i}", outputs)
        y = b.op("ConvAct", y, weight, bias, domain="local", slope=0.1 + 0.1 * i)
    b.classify(y, 10)
    return b.model(_IMAGE, {"y": ("batch", 5)}, domains=["local"])


_IMAGE = (image(3, 8, 8),)
_FLAG = (*_IMAGE, Input("flag", (), "bool"))
_ROW = (Input("x", ("batch", 6)),)
_SEQUENCE = (Input("x", ("batch", 7, 6)),)

MODELS = (
    Handmade("if_flag", _if_flag, _FLAG),
    Handmade("if_computed", _if_computed, _IMAGE),
    Handmade("loop", _loop, _ROW),
    Handmade("scan", _scan, _SEQUENCE),
    Handmade("local_functions", _functions, _IMAGE),
)
