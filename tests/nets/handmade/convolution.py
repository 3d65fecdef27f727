"""Convolutions and pools whose padding is named (SAME_UPPER, SAME_LOWER, VALID) instead of counted."""

from __future__ import annotations

import onnx

from tests.nets._spec import image
from tests.nets.handmade._build import Build, Handmade

__all__ = ["MODELS"]


def _auto_pad() -> onnx.ModelProto:
    """conv, depthwise conv, max pooling, transposed convolution, all with auto_pad and strides or dilations."""
    b = Build(1)
    x = b.op("Conv", "x", b.weight("w0", 10, 3, 4, 4), b.bias("b0", 10), auto_pad="SAME_UPPER", strides=[2, 2])
    x = b.op("Conv", b.op("Relu", x), b.weight("w1", 10, 1, 3, 3), auto_pad="SAME_LOWER", group=10)
    x = b.op("Conv", x, b.weight("w2", 14, 10, 1, 1), b.bias("b2", 14), auto_pad="VALID")
    x = b.op("MaxPool", b.op("Relu", x), kernel_shape=[2, 2], strides=[2, 2], auto_pad="SAME_UPPER")
    x = b.op("ConvTranspose", x, b.weight("w3", 14, 8, 3, 3, fan_in=30), b.bias("b3", 8), auto_pad="SAME_UPPER",
             strides=[2, 2])  # fmt: skip
    b.classify(b.op("Relu", x), 8)
    return b.model(_IMAGE, {"y": ("batch", 5)})


_IMAGE = (image(3, 13, 13),)

MODELS = (Handmade("auto_pad", _auto_pad, _IMAGE),)
