"""Sliding windows of convolutions and pooling: where each tap of a kernel lies, and what it reads there.

Tap ``k`` of output position ``o`` reads input position ``o * stride + k * dilation - begin``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from onnxprune.errors import UnsupportedModel
from onnxprune.graph import Node
from onnxprune.ops.emitter import Emitter, Sizes, Value

__all__ = ["Windows", "conv_windows", "grown", "pad_map", "pool_windows", "tap", "taps", "transposed_windows"]


@dataclass(frozen=True)
class Windows:
    """The geometry of a sliding window, one number per spatial axis. ``begin``, ``end``: padding."""

    kernel: Sizes
    strides: Sizes
    dilations: Sizes
    begin: Sizes
    end: Sizes

    @property
    def rank(self) -> int:
        return len(self.kernel)

    @property
    def reach(self) -> Sizes:
        """Positions from the first to the last tap, both counted."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def pads(self) -> list[int]:
        """As the attribute has them."""
        return [*self.begin, *self.end]

    @property
    def padded(self) -> bool:
        return any(self.pads)

    @property
    def pointwise(self) -> bool:
        """Whether each output position reads one input position, and no padding."""
        return set(self.kernel) == {1} and not self.padded

    @property
    def plain(self) -> bool:
        """Whether the stride is 1 everywhere."""
        return set(self.strides) == {1}

    def count(self, sizes: Sequence[int]) -> Sizes:
        """Number of output positions on a map of these fixed sizes."""
        rows = zip(sizes, self.begin, self.end, self.reach, self.strides, strict=True)
        return tuple((n + a + b - r) // s + 1 for n, a, b, r, s in rows)

    def left_over(self, small: Sequence[int], big: Sequence[int]) -> Sizes:
        """Positions at the end of the padded map that no window reaches, for fixed numbers of positions."""
        rows = zip(big, self.begin, self.end, self.reach, self.strides, small, strict=True)
        return tuple(n + a + b - r - (o - 1) * s for n, a, b, r, s, o in rows)


def conv_windows(node: Node, kernel: Sequence[int], sizes: Sequence[int]) -> Windows:
    """Of a convolution or a pooling over spatial axes of these sizes (negative: dynamic).

    Raises UnsupportedModel where SAME padding depends on a size that is not known.
    """
    windows = _from_attributes(node, kernel)
    mode = _mode(node)
    if mode == "VALID":
        return replace(windows, begin=(0,) * windows.rank, end=(0,) * windows.rank)
    if not mode.startswith("SAME"):
        return windows
    totals = []
    for size, stride, reach in zip(sizes, windows.strides, windows.reach, strict=True):
        if stride == 1:
            totals.append(reach - 1)
        elif size >= 0:
            totals.append(max((-(-size // stride) - 1) * stride + reach - size, 0))
        else:
            raise UnsupportedModel(
                f"{node} pads by {mode} over an axis whose size is not known, so that its gradient is not either",
                "Give the shape of the model's inputs.",
            )
    return _padded(windows, totals, mode)


def pool_windows(node: Node, sizes: Sequence[int], counts: Sequence[int]) -> Windows:
    """As `conv_windows`, with the padding at the end that ``ceil_mode`` adds; ``counts``: sizes of the output.

    Where a size is dynamic, that padding is left out.
    """
    windows = conv_windows(node, node.attrs["kernel_shape"], sizes)
    if not node.attrs.get("ceil_mode", 0) or any(size < 0 for size in (*sizes, *counts)):
        return windows
    over = windows.left_over(counts, sizes)
    return replace(windows, end=tuple(e + max(-n, 0) for e, n in zip(windows.end, over, strict=True)))


def transposed_windows(node: Node, kernel: Sequence[int], small: Sequence[int], big: Sequence[int]) -> Windows:
    """Of a ConvTranspose from ``small`` to ``big`` sizes (negative: dynamic), as windows on its output."""
    windows = _from_attributes(node, kernel)
    mode = _mode(node)
    if mode == "VALID":
        windows = replace(windows, begin=(0,) * windows.rank, end=(0,) * windows.rank)
    if not node.attrs.get("output_shape") and not mode.startswith("SAME"):
        return windows
    if any(size < 0 for size in (*small, *big)):
        if node.attrs.get("output_shape"):
            raise UnsupportedModel(
                f"{node} has an output_shape, but the size of its input is not known",
                "Give the shape of the model's inputs.",
            )
        gaps = [r - s for r, s in zip(windows.reach, windows.strides, strict=True)]  # SAME: big = small * stride
    else:
        rows = zip(small, windows.strides, windows.reach, big, strict=True)
        gaps = [s * (n - 1) + r - m for n, s, r, m in rows]
    extra = node.attrs.get("output_padding") or [0] * windows.rank
    return _padded(windows, [max(gap + e, 0) for gap, e in zip(gaps, extra, strict=True)], mode)


def _from_attributes(node: Node, kernel: Sequence[int]) -> Windows:
    rank = len(kernel)
    strides, dilations = (tuple(node.attrs.get(key) or (1,) * rank) for key in ("strides", "dilations"))
    pads = tuple(node.attrs.get("pads") or (0,) * 2 * rank)
    return Windows(tuple(kernel), strides, dilations, pads[:rank], pads[rank:])


def _mode(node: Node) -> str:
    mode: Any = node.attrs.get("auto_pad", "NOTSET")
    return mode.decode() if isinstance(mode, bytes) else str(mode)


def _padded(windows: Windows, totals: Sequence[int], mode: str) -> Windows:
    """An odd one goes to the end with SAME_UPPER, to the beginning otherwise."""
    small, large = tuple(n // 2 for n in totals), tuple(n - n // 2 for n in totals)
    begin, end = (small, large) if mode == "SAME_UPPER" else (large, small)
    return replace(windows, begin=begin, end=end)


def taps(windows: Windows) -> list[Sizes]:
    """All positions in the kernel, in the order in which weights are stored."""
    return list(product(*(range(k) for k in windows.kernel)))


def pad_map(t: Emitter, x: Value, windows: Windows, first: int = 2, value: float = 0.0) -> Value:
    """The map with its padding; ``first``: its first spatial axis."""
    if not windows.padded:
        return x
    rest = x.rank - first - windows.rank
    begin, end = ([0] * first + list(side) + [0] * rest for side in (windows.begin, windows.end))
    sizes = tuple(grown(n, a + b) for n, a, b in zip(x.known, begin, end, strict=True))
    return t.op("Pad", x, t.ints(*begin, *end), t.const(value, x.dtype) if value else None, sizes=sizes)


def tap(t: Emitter, padded: Value, windows: Windows, position: Sizes, counts: Sizes, first: int = 2) -> Value:
    """What one tap of the kernel reads of a padded map, at every output position (``counts`` of them).

    The end is counted from the end of the map, so that it holds for dynamic sizes.
    """
    starts = [k * d for k, d in zip(position, windows.dilations, strict=True)]
    ends = [start - (reach - 1) for start, reach in zip(starts, windows.reach, strict=True)]
    sizes = (*padded.known[:first], *counts, *padded.known[first + windows.rank :])
    if set(windows.kernel) == {1} and windows.plain and sizes == padded.sizes:
        return padded
    far = np.iinfo(np.int64).max
    return t.op(
        "Slice",
        padded,
        t.ints(*starts),
        t.ints(*(far if end >= 0 else end for end in ends)),
        t.ints(*range(first, first + windows.rank)),
        t.ints(*windows.strides),
        sizes=sizes,
    )


def grown(size: int, by: int) -> int:
    """A size with so many positions more; a dynamic one stays negative."""
    return size + by if size >= 0 else size - by
