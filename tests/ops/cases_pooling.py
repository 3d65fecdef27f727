"""Pooling and resizing: channels free, space frozen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxprune.model import Model
from tests.ops.cases import HIDDEN, OUT, Case, Net, maps


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


def resized(out: tuple[int, ...], size: tuple[int, ...] = (6, 5), *, scaled: bool = False, **attrs: object) -> Case:
    """By sizes, or by scales."""
    ratio = [b / a for a, b in zip(size, out, strict=True)]

    def middle(net: Net, h: str) -> str:
        if scaled:
            return net.op("Resize", h, "", net.const([1.0, 1.0, *ratio], np.float32), **attrs)
        axes = list(range(2, 2 + len(size)))
        return net.op("Resize", h, "", "", net.const(out, np.int64), axes=axes, **attrs)

    return maps(middle, size=size)


def cropped(net: Net, h: str) -> str:
    """A region of the map that reaches beyond it."""
    region = net.const([0, 0, 0.1, -0.3, 1, 1, 0.8, 1.2], np.float32)
    sizes = net.op("Concat", net.op("Shape", h, end=1), net.const([HIDDEN, 5, 7], np.int64), axis=0)
    attrs = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize", "extrapolation_value": 2.0}
    return net.op("Resize", h, region, "", sizes, **attrs)


def unknown_size(middle: Callable[[Net, str], str]) -> Case:
    """Height and width are dynamic as well."""

    def build() -> Model:
        net = Net()
        h = net.conv(net.input(("n", 3, "h", "w")), 3, HIDDEN)
        return net.model(net.conv(middle(net, h), HIDDEN, OUT))

    return Case(build)


def scaled_by(*factors: float, **attrs: object) -> Callable[[Net, str], str]:
    return lambda net, h: net.op("Resize", h, "", net.const([1.0, 1.0, *factors], np.float32), **attrs)


def column_major(net: Net, h: str) -> str:
    """Indices that count along columns, which nobody reads."""
    return net.ops("MaxPool", h, count=2, kernel_shape=[2, 2], storage_order=1)[0]


MODES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
OVERLAPPING = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}
WIDE = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}
POOLED = {
    "overlapping": OVERLAPPING,
    "ceil": WIDE,
    "dilated": {"kernel_shape": [2, 2], "dilations": [2, 3]},
    "same": {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    "valid": {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "VALID"},
    "apart": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "uncovered": {"kernel_shape": [4, 4], "strides": [4, 4]},
}


def pools(op: str, *keys: str, **attrs: object) -> list[Case]:
    return [pool(op, **POOLED[key], **attrs) for key in keys]


def pool_of_rank(op: str, size: tuple[int, ...], **attrs: object) -> Case:
    rank = len(size)
    return maps(lambda net, h: net.op(op, h, kernel_shape=[2] * rank, strides=[2] * rank, **attrs), size=size)


GRADIENT_CASES = {
    ("", "MaxPool"): [
        *pools("MaxPool", *POOLED),
        pool_of_rank("MaxPool", (7,)),
        pool_of_rank("MaxPool", (4, 5, 4)),
        maps(column_major),
        unknown_size(lambda net, h: net.op("MaxPool", h, **OVERLAPPING)),
    ],
    ("", "AveragePool"): [
        *pools("AveragePool", *POOLED),
        *pools("AveragePool", "overlapping", "ceil", "same", count_include_pad=1),
        pool_of_rank("AveragePool", (7,)),
        pool_of_rank("AveragePool", (4, 5, 4), pads=[1] * 6),
        unknown_size(lambda net, h: net.op("AveragePool", h, **OVERLAPPING)),
        unknown_size(lambda net, h: net.op("AveragePool", h, **OVERLAPPING, count_include_pad=1)),
        unknown_size(lambda net, h: net.op("AveragePool", h, **WIDE)),
        unknown_size(lambda net, h: net.op("AveragePool", h, **WIDE, count_include_pad=1)),
    ],
    ("", "LpPool"): [
        *pools("LpPool", "overlapping", "dilated", "same"),
        pool("LpPool", **OVERLAPPING, p=1),
        pool("LpPool", **OVERLAPPING, p=3),
    ],
    ("", "GlobalAveragePool"): [unknown_size(lambda net, h: net.op("GlobalAveragePool", h))],
    ("", "GlobalMaxPool"): [unknown_size(lambda net, h: net.op("GlobalMaxPool", h))],
    ("", "GlobalLpPool"): [pool("GlobalLpPool", p=1), pool("GlobalLpPool", p=3)],
    ("", "Resize"): [
        *(resized((9, 7), mode="linear", coordinate_transformation_mode=mode) for mode in MODES),
        *(resized((4, 3), mode="linear", coordinate_transformation_mode=mode) for mode in MODES),
        *(resized((9, 7), mode="cubic", coordinate_transformation_mode=mode) for mode in MODES[:4]),
        *(
            resized((12, 15), mode="nearest", coordinate_transformation_mode=mode, nearest_mode=rounding)
            for mode in MODES
            for rounding in ROUNDINGS
        ),
        resized((4, 3), mode="linear", antialias=1),
        resized((4, 3), mode="cubic", antialias=1),
        resized((9, 7), mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1),
        resized((9, 8), scaled=True, mode="linear"),
        resized((8,), (5,), mode="nearest"),
        resized((6, 8, 4), (3, 4, 2), mode="nearest"),
        resized((4, 6, 3), (3, 4, 2), mode="linear"),
        maps(cropped),
        unknown_size(scaled_by(2.0, 3.0, mode="nearest")),
        unknown_size(scaled_by(2.0, 1.5, mode="linear")),
        unknown_size(scaled_by(0.6, 1.5, mode="cubic")),
    ],
}
