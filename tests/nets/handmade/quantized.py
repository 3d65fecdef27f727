"""Quantised nets: QDQ (per tensor and per channel), QLinearConv, integer MatMul with dynamic quantisation.

Weights have zero points other than 0 where the runtime takes them.
"""

from __future__ import annotations

import numpy as np
import onnx

from tests.nets._spec import Input, image
from tests.nets.handmade._build import Build, Handmade

__all__ = ["MODELS"]


class Quantizer:
    """Adds quantised constants and Q/DQ pairs to a graph under construction."""

    def __init__(self, b: Build) -> None:
        self.b = b

    def weight(self, name: str, value: np.ndarray, axis: int | None, zero: int = 0) -> tuple[str, str, str]:
        """The int8 tensor, its scale and its zero point (per ``axis``, or one for all)."""
        others = None if axis is None else tuple(i for i in range(value.ndim) if i != axis)
        room = 127 - abs(zero)
        scale = np.asarray(np.abs(value).max(axis=others) / room, np.float32)
        wide = scale if axis is None else scale.reshape([-1 if i == axis else 1 for i in range(value.ndim)])
        stored = np.clip(np.round(value / wide) + zero, -128, 127)
        return (
            self.b.const(name, stored, np.int8), self.b.const(f"{name}.scale", scale),
            self.b.const(f"{name}.zero", np.full(scale.shape, zero), np.int8),
        )  # fmt: skip

    def dequantized(self, name: str, value: np.ndarray, axis: int | None, zero: int = 0) -> str:
        """The float weight, as DequantizeLinear of an int8 constant."""
        names = self.weight(name, value, axis, zero)
        return self.b.op("DequantizeLinear", *names, **({} if axis is None else {"axis": axis}))

    def point(self, name: str, scale: float, zero: int) -> tuple[str, str]:
        """Scale and uint8 zero point of an activation."""
        return self.b.const(f"{name}.scale", scale), self.b.const(f"{name}.zero", zero, np.uint8)

    def pair(self, x: str, name: str, scale: float, zero: int = 128) -> str:
        """QuantizeLinear and DequantizeLinear with the same numbers."""
        point = self.point(name, scale, zero)
        return self.b.op("DequantizeLinear", self.b.op("QuantizeLinear", x, *point), *point)

    def bias(self, name: str, size: int, scale: np.ndarray) -> str:
        """An int32 bias with the scale input x weight, dequantised."""
        value = self.b.rng.normal(0, 0.3, size)
        stored = self.b.const(name, np.round(value / scale), np.int32)
        axis = {"axis": 0} if np.ndim(scale) else {}
        return self.b.op("DequantizeLinear", stored, self.b.const(f"{name}.scale", scale), **axis)


def _normal(b: Build, *shape: int) -> np.ndarray:
    return b.rng.normal(0, np.prod(shape[1:]) ** -0.5, shape).astype(np.float32)


def _scale_of(b: Build, name: str) -> np.ndarray:
    found = next(t for t in b.initializers if t.name == name)
    return onnx.numpy_helper.to_array(found)


def _qdq(axis: int | None, zero: int) -> onnx.ModelProto:
    """conv, relu, conv, residual add, relu, pool, fully connected; a Q/DQ pair in front of each."""
    b = Build(7)
    q = Quantizer(b)
    x = q.pair("x", "x", 0.03)
    for i, (inputs, outputs) in enumerate([(3, 12), (12, 12)]):
        weight = q.dequantized(f"w{i}", _normal(b, outputs, inputs, 3, 3), axis, zero)
        incoming = 0.03 if i == 0 else 0.02
        bias = q.bias(f"b{i}", outputs, np.float32(incoming) * _scale_of(b, f"w{i}.scale"))
        y = b.op("Conv", x, weight, bias, pads=[1] * 4)
        if i == 1:
            y = b.op("Add", q.pair(y, "c1", 0.03), x)
        x = q.pair(b.op("Relu", y), f"a{i}", 0.02, 0)
    pooled = q.pair(b.op("Flatten", b.op("GlobalAveragePool", x)), "pooled", 0.015, 0)
    matrix = q.dequantized("fc", _normal(b, 12, 5), None if axis is None else 1, zero)
    b.op("Add", b.op("MatMul", pooled, matrix), b.bias("fc.bias", 5), out="y")
    return b.model(_IMAGE, {"y": ("batch", 5)})


def _qdq_per_channel() -> onnx.ModelProto:
    return _qdq(0, 0)


def _qdq_per_tensor() -> onnx.ModelProto:
    return _qdq(None, 5)


def _qlinear() -> onnx.ModelProto:
    """QLinearConv twice and QLinearMatMul, quantised throughout."""
    b = Build(8)
    q = Quantizer(b)
    point = q.point("x", 0.03, 128)
    x = b.op("QuantizeLinear", "x", *point)
    for i, (inputs, outputs) in enumerate([(3, 10), (10, 14)]):
        names = q.weight(f"w{i}", _normal(b, outputs, inputs, 3, 3), 0)
        bias = np.round(b.rng.normal(0, 0.3, outputs) / (_scale_of(b, point[0]) * _scale_of(b, names[1])))
        after = q.point(f"a{i}", 0.02, 100)
        x = b.op("QLinearConv", x, *point, *names, *after, b.const(f"b{i}", bias, np.int32), pads=[1] * 4)
        point = after
    real = b.op("Relu", b.op("DequantizeLinear", x, *point))
    flat = b.op("Flatten", b.op("GlobalAveragePool", real))
    point, after = q.point("flat", 0.01, 0), q.point("out", 0.02, 120)
    matrix = q.weight("fc", _normal(b, 14, 5), None, 3)
    stored = b.op("QLinearMatMul", b.op("QuantizeLinear", flat, *point), *point, *matrix, *after)
    b.op("DequantizeLinear", stored, *after, out="y")
    return b.model(_IMAGE, {"y": ("batch", 5)})


def _dynamic() -> onnx.ModelProto:
    """DynamicQuantizeLinear and MatMulInteger, as dynamic quantisation writes them."""
    b = Build(9)
    q = Quantizer(b)
    x = "x"
    for i, (inputs, outputs) in enumerate([(9, 16), (16, 12), (12, 4)]):
        stored, scale, zero = b.ops("DynamicQuantizeLinear", x, out=(None, None, None))
        weight, weight_scale, weight_zero = q.weight(f"w{i}", _normal(b, inputs, outputs), None, 4)
        whole = b.op("Cast", b.op("MatMulInteger", stored, weight, zero, weight_zero), to=1)
        x = b.op("Mul", whole, b.op("Mul", scale, weight_scale))
        x = b.op("Add", x, b.bias(f"b{i}", outputs), out="y" if i == 2 else None)
        x = b.op("Relu", x) if i < 2 else x
    return b.model(_ROW, {"y": ("batch", 4)})


_IMAGE = (image(3, 8, 8),)
_ROW = (Input("x", ("batch", 9)),)

MODELS = (
    Handmade("qdq_per_channel", _qdq_per_channel, _IMAGE),
    Handmade("qdq_per_tensor", _qdq_per_tensor, _IMAGE, notes="weight zero points are 5"),
    Handmade("qlinear", _qlinear, _IMAGE),
    Handmade("dynamic_quantize", _dynamic, _ROW),
)
