"""Cases for gradients of operators that read maps at positions of their own."""

from __future__ import annotations

import numpy as np

from onnxprune.model import Model
from tests.ops.cases import HIDDEN, OUT, Case, Net, maps


def sampled(size: tuple[int, ...] = (6, 5), **attrs: object) -> Case:
    """Positions from a second input, some of them outside of the map."""

    def build() -> Model:
        net = Net()
        one = (1,) * len(size)
        h = net.conv(net.input(("n", 3, *size)), 3, HIDDEN, one)
        grid = net.input(("n", *[4] * len(size), len(size)), name="grid")
        return net.model(net.conv(net.op("GridSample", h, grid, **attrs), HIDDEN, OUT, one))

    return Case(build)


def unknown_size() -> Case:
    def build() -> Model:
        net = Net()
        h = net.conv(net.input(("n", 3, "h", "w")), 3, HIDDEN)
        grid = net.input(("n", 4, 3, 2), name="grid")
        return net.model(net.conv(net.op("GridSample", h, grid), HIDDEN, OUT))

    return Case(build)


def deformed(*, mask: bool, **attrs: object) -> Case:
    """Offsets of one third of a position or so."""

    def middle(net: Net, h: str) -> str:
        moves = net.conv(h, HIDDEN, 2 * 2 * 3, (2, 3), **attrs)
        offsets = net.op("Mul", moves, net.const(np.float32(0.05)))
        inputs = [offsets, net.param(HIDDEN)]
        if mask:
            inputs.append(net.op("Sigmoid", net.conv(h, HIDDEN, 2 * 3, (2, 3), **attrs)))
        return net.op("DeformConv", h, net.param(HIDDEN, HIDDEN, 2, 3), *inputs, **attrs)

    return maps(middle, size=(6, 7))


def patches(net: Net, h: str) -> str:
    """Overlapping blocks of 3x2 at every second row, added up to a map of 5x4."""
    columns = net.conv(h, HIDDEN, HIDDEN * 6, (1, 1))
    columns = net.op("Reshape", columns, net.const([0, HIDDEN * 6, 9], np.int64))
    sizes = net.const([5, 4], np.int64), net.const([3, 2], np.int64)
    return net.op("Col2Im", columns, *sizes, pads=[1, 0, 1, 0], strides=[2, 1], dilations=[1, 1])


def cropped(*shape: int) -> Case:
    return maps(lambda net, h: net.op("CenterCropPad", h, net.const(shape, np.int64), axes=[2, 3]), size=(6, 5))


GRADIENT_CASES = {
    ("", "GridSample"): [
        *(
            sampled(padding_mode=padding, align_corners=corners, mode=mode)
            for padding in ("zeros", "border", "reflection")
            for corners in (0, 1)
            for mode in ("linear", "nearest")
        ),
        sampled((3, 4, 5)),
        sampled((3, 4, 5), padding_mode="reflection", align_corners=1),
        unknown_size(),
    ],
    ("", "DeformConv"): [
        deformed(mask=False, pads=[1, 0, 0, 2]),
        deformed(mask=True, strides=[2, 1], dilations=[1, 2], pads=[0, 2, 1, 1]),
    ],
    ("", "Col2Im"): [maps(patches, size=(3, 3))],
    ("", "CenterCropPad"): [cropped(3, 8), cropped(9, 2), cropped(5, 5)],
}
