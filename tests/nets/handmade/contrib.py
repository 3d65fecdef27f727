"""Nets of onnxruntime's own operators (com.microsoft), as its optimizer and model builders write them."""

from __future__ import annotations

import numpy as np
import onnx

from tests.nets._spec import Input, image
from tests.nets.handmade._build import Build, Handmade

__all__ = ["MODELS"]

MS = "com.microsoft"


def _finish(b: Build, x: str, width: int) -> onnx.ModelProto:
    b.linear(x, width, 4, name="last")
    b.nodes[-1].output[0] = "y"
    return b.model(_SEQUENCE, {"y": ("batch", 6, 4)}, domains=[MS])


def _attention() -> onnx.ModelProto:
    """Attention with a packed q/k/v weight, residual, SkipLayerNormalization, BiasGelu MLP."""
    b = Build(1)
    x = b.linear("x", 7, 24, name="into")
    packed, bias = b.matrix("qkv.weight", 24, 72), b.bias("qkv.bias", 72)
    y = b.linear(b.op("Attention", x, packed, bias, domain=MS, num_heads=4), 24, 24, name="out")
    x = b.op("SkipLayerNormalization", x, y, b.scale("ln.gamma", 24), b.bias("ln.beta", 24), b.bias("ln.bias", 24),
             domain=MS, epsilon=1e-5)  # fmt: skip
    hidden = b.op("BiasGelu", b.op("MatMul", x, b.matrix("up.weight", 24, 40)), b.bias("up.bias", 40), domain=MS)
    return _finish(b, b.op("Add", x, b.linear(hidden, 40, 24, name="down")), 24)


def _attention_sizes() -> onnx.ModelProto:
    """Attention whose values have another width than queries and keys (qkv_hidden_sizes)."""
    b = Build(2)
    x = b.linear("x", 7, 20, name="into")
    packed, bias = b.matrix("qkv.weight", 20, 16 + 16 + 24), b.bias("qkv.bias", 56)
    y = b.op("Attention", x, packed, bias, domain=MS, num_heads=4, qkv_hidden_sizes=[16, 16, 24])
    return _finish(b, b.op("Relu", b.linear(y, 24, 18, name="out")), 18)


def _multi_head() -> onnx.ModelProto:
    """MultiHeadAttention with a packed bias; queries, keys and values from projections of their own."""
    b = Build(3)
    x = b.linear("x", 7, 20, name="into")
    q, k, v = (b.op("MatMul", x, b.matrix(f"{n}.weight", 20, 24)) for n in "qkv")
    y = b.op("MultiHeadAttention", q, k, v, b.bias("qkv.bias", 72), domain=MS, num_heads=4)
    return _finish(b, b.op("Add", x, b.linear(y, 24, 20, name="out")), 20)


def _grouped_query() -> onnx.ModelProto:
    """GroupQueryAttention with rotary embeddings (4 query heads on 2 key/value heads of size 16), QuickGelu gate."""
    b = Build(4)
    x = b.linear("x", 7, 20, name="into")
    q, k, v = (b.op("MatMul", x, b.matrix(f"{n}.weight", 20, w)) for n, w in (("q", 64), ("k", 32), ("v", 32)))
    batch = b.op("Slice", b.op("Shape", "x"), b.const("zero", [0], np.int64), b.const("one", [1], np.int64))
    lengths = b.op("Expand", b.const("length-1", [5], np.int32), batch)
    angles = np.outer(np.arange(12), 100.0 ** (-np.arange(8) / 8))
    y = b.ops("GroupQueryAttention", q, k, v, "", "", lengths, b.const("length", 6, np.int32),
              b.const("cos", np.cos(angles)), b.const("sin", np.sin(angles)), out=(None, None, None), domain=MS,
              num_heads=4, kv_num_heads=2, do_rotary=1)[0]  # fmt: skip
    x = b.op("Add", x, b.op("MatMul", y, b.matrix("out.weight", 64, 20)))
    gate = b.op("QuickGelu", b.linear(x, 20, 28, name="gate"), domain=MS, alpha=1.702)
    y = b.op("Mul", gate, b.linear(x, 20, 28, name="up"))
    return _finish(b, b.op("Add", x, b.linear(y, 28, 20, name="down")), 20)


def _skip_rms() -> onnx.ModelProto:
    """SkipSimplifiedLayerNormalization (RMS), FastGelu with bias, Gelu and FusedMatMul."""
    b = Build(5)
    x = b.linear("x", 7, 18, name="into")
    y = b.op("FusedMatMul", x, b.weight("mix.weight", 18, 18), domain=MS, transB=1, alpha=0.7)
    x, _, _, total = b.ops("SkipSimplifiedLayerNormalization", x, y, b.scale("rms.gamma", 18),
                           out=(None, "", "", None), domain=MS, epsilon=1e-5)  # fmt: skip
    up = b.op("FastGelu", b.op("MatMul", x, b.matrix("up.weight", 18, 30)), b.bias("up.bias", 30), domain=MS)
    up = b.op("Gelu", b.linear(up, 30, 22, name="middle"), domain=MS)
    return _finish(b, b.op("Add", total, b.linear(up, 22, 18, name="down")), 18)


def _fused_conv() -> onnx.ModelProto:
    """FusedConv (with a summed input) and FusedGemm."""
    b = Build(6)

    def fused(x: str, inputs: int, outputs: int, name: str, *extra: str, **act: object) -> str:
        weight, bias = b.weight(f"{name}.weight", outputs, inputs, 3, 3), b.bias(f"{name}.bias", outputs)
        return b.op("FusedConv", x, weight, bias, *extra, domain=MS, pads=[1] * 4, **act)

    first = fused("x", 3, 10, "c1", activation="Relu")
    second = fused(first, 10, 14, "c2", activation="LeakyRelu", activation_params=[0.1])
    third = fused(second, 14, 10, "c3", first, activation="Relu")
    flat = b.op("Flatten", b.op("GlobalAveragePool", third))
    y = b.op("FusedGemm", flat, b.weight("f1.weight", 16, 10), b.bias("f1.bias", 16), domain=MS, transB=1,
             activation="Relu")  # fmt: skip
    b.op("FusedGemm", y, b.matrix("f2.weight", 16, 5), b.bias("f2.bias", 5), domain=MS, activation="Tanh", out="y")
    return b.model(_IMAGE, {"y": ("batch", 5)}, domains=[MS])


_SEQUENCE = (Input("x", ("batch", 6, 7)),)
_IMAGE = (image(3, 8, 8),)

MODELS = (
    Handmade("contrib_attention", _attention, _SEQUENCE),
    Handmade("contrib_attention_sizes", _attention_sizes, _SEQUENCE),
    Handmade("contrib_multi_head", _multi_head, _SEQUENCE),
    Handmade("contrib_grouped_query", _grouped_query, _SEQUENCE),
    Handmade("contrib_skip_rms", _skip_rms, _SEQUENCE),
    Handmade("contrib_fused_conv", _fused_conv, _IMAGE),
)
