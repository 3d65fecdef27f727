"""Pooling and resizing: channels free, space frozen."""

from __future__ import annotations

import numpy as np

from tests.ops.cases import HIDDEN, Case, Net, maps


def pool(op: str, **attrs: object) -> Case:
    return maps(lambda net, h: net.op(op, h, **attrs))


def indices(net: Net, h: str) -> str:
    """Indices count through the whole tensor, so they change when channels go."""
    values, where = net.ops("MaxPool", h, count=2, kernel_shape=[2, 2])
    return net.op("Add", values, net.cast(where))


def to_dense(net: Net, h: str) -> str:
    """Global pooling, Flatten, Gemm, and back to a map."""
    h = net.op("Flatten", net.op("GlobalAveragePool", h))
    return net.op("Unsqueeze", net.gemm(h, HIDDEN, HIDDEN), net.const([2, 3], np.int64))


def by_scales(net: Net, h: str) -> str:
    return net.op("Resize", h, "", net.const([1, 1, 2, 2], np.float32), mode="nearest")


def by_sizes(net: Net, h: str) -> str:
    """Sizes name the number of channels, which shrinks."""
    shape = net.op("Shape", h)
    batch = net.op("Slice", shape, net.const([0], np.int64), net.const([1], np.int64))
    sizes = net.op("Concat", batch, net.const([HIDDEN, 9, 12], np.int64), axis=0)
    return net.op("Resize", h, "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel")


def by_some_sizes(net: Net, h: str) -> str:
    return net.op("Resize", h, "", "", net.const([9, 12], np.int64), mode="nearest", axes=[2, 3])


def upsample(net: Net, h: str) -> str:
    return net.op("Upsample", h, net.const([1, 1, 2, 2], np.float32), mode="nearest")


def computed_scales(net: Net, h: str) -> str:
    """Sizes as floats, times a constant, through each other: numbers about the map, none of which is a unit."""
    shape = net.cast(net.op("Shape", h))
    scales = net.op("Div", net.op("Mul", shape, net.const([1, 1, 2, 2], np.float32)), shape)
    return net.op("Resize", h, "", scales, mode="nearest")


def upsample_attribute(net: Net, h: str) -> str:
    return net.op("Upsample", h, scales=[1.0, 1.0, 2.0, 2.0], mode="nearest")


def old_resize(net: Net, h: str) -> str:
    """Opset 10 had no region of interest."""
    return net.op("Resize", h, net.const([1, 1, 2, 2], np.float32), mode="nearest")


def computed_sizes(net: Net, h: str) -> str:
    """To the size of another map, as in a feature pyramid."""
    small = net.op("MaxPool", h, kernel_shape=[2, 2], strides=[2, 2])
    first, middle, last = (net.const([i], np.int64) for i in (0, 2, 4))
    channels = net.op("Slice", net.op("Shape", small), first, middle)
    sizes = net.op("Concat", channels, net.op("Slice", net.op("Shape", h), middle, last), axis=0)
    return net.op("Add", h, net.op("Resize", small, "", "", sizes, mode="linear"))


def channels_last(net: Net, h: str) -> str:
    h = net.op("Transpose", h, perm=[0, 2, 3, 1])
    h = net.op("Resize", h, "", net.const([1, 2, 2, 1], np.float32), mode="nearest")
    return net.op("Transpose", h, perm=[0, 3, 1, 2])


WINDOW = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
CASES = {
    ("", "MaxPool"): [pool("MaxPool", **WINDOW), maps(indices, units=0, frozen="indices into the whole tensor")],
    ("", "AveragePool"): [pool("AveragePool", **WINDOW)],
    ("", "LpPool"): [pool("LpPool", **WINDOW)],
    ("", "GlobalAveragePool"): [pool("GlobalAveragePool"), maps(to_dense, units=2 * HIDDEN)],
    ("", "GlobalMaxPool"): [pool("GlobalMaxPool")],
    ("", "GlobalLpPool"): [pool("GlobalLpPool")],
    ("", "Resize"): [
        maps(by_scales),
        maps(by_sizes),
        maps(by_some_sizes),
        maps(channels_last),
        maps(old_resize, opset=10),
        maps(computed_sizes),
        maps(computed_scales),
    ],
    ("", "Upsample"): [maps(upsample, opset=9), maps(upsample_attribute, opset=7)],
}
