"""Every reduction over a pruned axis, with an activation in front that may not keep 0."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx
from onnx import numpy_helper

from tests.nets._spec import image
from tests.nets.handmade._build import Build, Handmade

__all__ = ["ACTIVATIONS", "MODELS", "REDUCTIONS", "reduce_net"]

REDUCTIONS = (
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceSumSquare",
)  # fmt: skip
ACTIVATIONS = ("none", "relu", "sigmoid", "exp", "elu1")


def _activate(b: Build, x: str, act: str) -> str:
    if act == "elu1":
        return b.op("Add", b.op("Elu", x), b.const("one", 1.0))
    return x if act == "none" else b.op({"relu": "Relu", "sigmoid": "Sigmoid", "exp": "Exp"}[act], x)


def reduce_net(op: str, act: str, *, channels: int = 12, keepdims: bool = False) -> onnx.ModelProto:
    """conv to ``channels``, ``act``, ``op`` over the channels, a classifier.

    What is reduced lies around 1 with a spread of 0.5: logarithms and products of it are harmless.
    """
    b = Build(REDUCTIONS.index(op))
    x = b.conv("x", 3, channels, name="conv")
    weight, bias = (numpy_helper.to_array(t) for t in b.initializers)
    b.initializers[0].CopyFrom(numpy_helper.from_array(0.5 * weight, "conv.weight"))
    b.initializers[1].CopyFrom(numpy_helper.from_array(1 + bias / 2, "conv.bias"))
    x = _activate(b, x, act)
    x = b.op(op, x, b.const("axes", [1], np.int64), keepdims=int(keepdims))
    b.op("Gemm", b.op("Flatten", x), b.weight("head.weight", 5, 64), b.bias("head.bias", 5), transB=1, out="y")
    return b.model(_IMAGE, {"y": ("batch", 5)})


_IMAGE = (image(3, 8, 8),)

MODELS = tuple(
    Handmade(f"{op}_{act}", partial(reduce_net, op, act), _IMAGE) for op in REDUCTIONS for act in ACTIVATIONS
)
