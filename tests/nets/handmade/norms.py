"""Normalisation operators as single nodes, and the attention operators of opset 23."""

from __future__ import annotations

import numpy as np
import onnx

from tests.nets._spec import Input, image
from tests.nets.handmade._build import Build, Handmade

__all__ = ["MODELS"]


def _group_norm() -> onnx.ModelProto:
    """GroupNormalization of opset 21 (scale and bias per channel), twice."""
    b = Build(1)
    x = "x"
    for i, (inputs, outputs, groups) in enumerate([(3, 16, 4), (16, 18, 3)]):
        x = b.op("GroupNormalization", b.conv(x, inputs, outputs), b.scale(f"s{i}", outputs), b.bias(f"g{i}", outputs),
                 num_groups=groups, epsilon=1e-5)  # fmt: skip
        x = b.op("Relu", x)
    b.classify(b.op("Relu", b.conv(x, 18, 10)), 10)
    return b.model(_IMAGE, {"y": ("batch", 5)})


def _lp(p: int, axis: int) -> onnx.ModelProto:
    """LpNormalization of embeddings before a classifier by similarity."""
    b = Build(2)
    hidden = b.op("Relu", b.linear("x", 9, 20))
    x = b.op("LpNormalization", b.linear(hidden, 20, 14), p=p, axis=axis)
    b.op("MatMul", x, b.matrix("classes", 14, 6), out="y")
    return b.model(_ROW, {"y": ("batch", 6)})


def _l1() -> onnx.ModelProto:
    return _lp(1, -1)


def _l2() -> onnx.ModelProto:
    return _lp(2, 1)


def _lrn() -> onnx.ModelProto:
    b = Build(3)
    x = b.op("LRN", b.op("Relu", b.conv("x", 3, 12)), size=5, alpha=0.3, beta=0.75, bias=1.5)
    b.classify(b.op("Relu", b.conv(b.op("Relu", b.conv(x, 12, 10)), 10, 14)), 14)
    return b.model(_IMAGE, {"y": ("batch", 5)})


def _mean_variance() -> onnx.ModelProto:
    b = Build(4)
    x = b.op("MeanVarianceNormalization", b.conv("x", 3, 12), axes=[0, 2, 3])
    b.classify(b.op("Relu", b.conv(b.op("Relu", x), 12, 10)), 10)
    return b.model(_IMAGE, {"y": ("batch", 5)})


def _rms() -> onnx.ModelProto:
    """RMSNormalization between a linear layer and a gated MLP."""
    b = Build(5)
    x = b.linear("x", 7, 18)
    y = b.op("RMSNormalization", x, b.scale("gamma", 18), axis=-1, epsilon=1e-5)
    gate = b.op("Sigmoid", b.linear(y, 18, 26))
    y = b.linear(b.op("Mul", gate, b.linear(y, 18, 26)), 26, 18)
    b.op("MatMul", b.op("Add", x, y), b.matrix("last", 18, 4), out="y")
    return b.model(_SEQUENCE, {"y": ("batch", 6, 4)}, opset=23)


def _attention() -> onnx.ModelProto:
    """Attention and RotaryEmbedding of opset 23: 4 query heads, 2 key/value heads of size 6, causal."""
    b = Build(6)
    x = b.linear("x", 7, 20)
    angles = np.outer(np.arange(6), 50.0 ** (-np.arange(3) / 3))[None]
    cos = b.op("Expand", b.const("cos", np.cos(angles)), _batched(b))
    sin = b.op("Expand", b.const("sin", np.sin(angles)), b.nodes[-2].output[0])
    q, k, v = b.linear(x, 20, 24), b.linear(x, 20, 12), b.linear(x, 20, 12)
    q = b.op("RotaryEmbedding", q, cos, sin, num_heads=4)
    k = b.op("RotaryEmbedding", k, cos, sin, num_heads=2)
    y = b.op("Attention", q, k, v, q_num_heads=4, kv_num_heads=2, is_causal=1)
    b.op("MatMul", b.op("Add", x, b.linear(y, 24, 20)), b.matrix("last", 20, 4), out="y")
    return b.model(_SEQUENCE, {"y": ("batch", 6, 4)}, opset=23)


def _batched(b: Build) -> str:
    """The shape (batch, 1, 1)."""
    size = b.op("Slice", b.op("Shape", "x"), b.const("zero", [0], np.int64), b.const("one", [1], np.int64))
    return b.op("Concat", size, "one", "one", axis=0)


_IMAGE = (image(3, 8, 8),)
_ROW = (Input("x", ("batch", 9)),)
_SEQUENCE = (Input("x", ("batch", 6, 7)),)

MODELS = (
    Handmade("group_normalization", _group_norm, _IMAGE),
    Handmade("lp_normalization_1", _l1, _ROW),
    Handmade("lp_normalization_2", _l2, _ROW),
    Handmade("lrn", _lrn, _IMAGE),
    Handmade("mean_variance_normalization", _mean_variance, _IMAGE),
    Handmade("rms_normalization", _rms, _SEQUENCE, notes="opset 23"),
    Handmade("attention_opset23", _attention, _SEQUENCE, notes="opset 23"),
)
