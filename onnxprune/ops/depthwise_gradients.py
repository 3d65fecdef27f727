"""Depthwise convolutions as products of matrices, one per channel.

On a small map the convolution of channel c is a product with a matrix of its own, ``T[c] (big, small)``, which holds
the weight of the tap that leads from one position to the other: ``T = W M`` with M (taps, big, small) of zeros and
ones. With x[c] (N, big) and dy[c] (N, small)

    y[c] = x[c] T[c]        dx[c] = dy[c] T[c]'        dW[c] = M (x[c]' dy[c])

On larger ones dW comes from products of whole rows: for every shift q between a row of the map and one of the output,
``G[q] = sum over rows of x' dy`` (width, width of the output) holds all pairs of columns, and M picks those of taps.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from onnxprune.ops.emitter import Emitter, Sizes, Value
from onnxprune.ops.window_gradients import Windows

SMALL = 64 * 64  # pairs of positions of which a matrix per channel is cheaper than sliding
WIDE = 64  # columns from which on products of whole rows lose to one product per tap


def small_maps(windows: Windows, channels: Sequence[int], groups: int, big: Sizes, small: Sizes) -> bool:
    """Whether a convolution between ``channels`` (before, after) is depthwise, on small maps of known size."""
    sizes = (*big, *small)
    return depthwise(channels, groups) and min(sizes) > 0 and prod(sizes) <= SMALL and prod(windows.kernel) > 1


def depthwise(channels: Sequence[int], groups: int) -> bool:
    """Whether every channel has one kernel."""
    return groups > 1 and tuple(channels) == (groups, groups)


def by_rows(windows: Windows, big: Sizes, small: Sizes) -> bool:
    """Whether `row_products` is the better way to dW of a depthwise convolution."""
    return windows.rank == 2 and min((*big, *small)) > 0 and big[1] <= WIDE


def forward(t: Emitter, x: Value, w: Value, windows: Windows, small: Sizes) -> Value:
    """x (N, C, big) -> y (N, C, small)."""
    big = x.known[2:]
    return _flat_product(t, x, _matrices(t, w, windows, big, small), small)


def backward(t: Emitter, dy: Value, w: Value, windows: Windows, big: Sizes) -> Value:
    """dy (N, C, small) -> dx (N, C, big)."""
    return _flat_product(t, dy, t.swap(_matrices(t, w, windows, big, dy.known[2:])), big)


def weight_products(t: Emitter, x: Value, dy: Value, windows: Windows) -> Value:
    """dW (C, 1, kernel) on small maps."""
    big, small = x.known[2:], dy.known[2:]
    channels = x.known[1]
    pairs = t.matmul(t.swap(_channels_first(t, x)), _channels_first(t, dy))
    pairs = t.reshape(pairs, [channels, prod(big) * prod(small)])
    picked = _links(windows, big, small).reshape(prod(windows.kernel), -1).T
    return t.reshape(t.matmul(pairs, t.const(picked, x.dtype)), [channels, 1, *windows.kernel])


def row_products(t: Emitter, x: Value, dy: Value, windows: Windows) -> Value:
    """dW (C, 1, kernel) of maps of any height; the rows of one stride stand side by side."""
    (high, wide), (rows, columns) = x.known[2:], dy.known[2:]
    stride, channels, taps = windows.strides[0], x.known[1], prod(windows.kernel)
    x, dy = t.transpose(x, [1, 0, 2, 3]), t.transpose(dy, [1, 0, 2, 3])
    bands = -(-high // stride)
    x = _pad_rows(t, x, 0, bands * stride - high)
    count = t.product([t.dim(x, 1), bands])
    turned = t.swap(t.reshape(x, [channels, count, stride * wide]))
    across = _links_along(windows, 1, wide, columns)
    products, masks = [], []
    for shift, phases in _shifts(windows).items():
        part = _pad_rows(t, dy, -shift, bands + shift - rows)
        product = t.matmul(turned, t.reshape(part, [channels, count, columns]))
        products.append(t.reshape(product, [channels, stride * wide * columns]))
        mask = np.zeros((stride, wide, columns, *windows.kernel))
        for tap, phase in phases:
            mask[phase, :, :, tap] = across.transpose(1, 2, 0)
        masks.append(mask.reshape(-1, taps))
    picked = t.matmul(t.concat(products, 1), t.const(np.concatenate(masks), x.dtype))
    return t.reshape(picked, [channels, 1, *windows.kernel])


def _shifts(windows: Windows) -> dict[int, list[tuple[int, int]]]:
    """By how many rows the output is shifted -> the taps of the first axis that need it, with their phase.

    Tap i of output row h reads row ``s h + i d - begin = s (h - shift) + phase``.
    """
    found: dict[int, list[tuple[int, int]]] = {}
    for tap in range(windows.kernel[0]):
        above, phase = divmod(tap * windows.dilations[0] - windows.begin[0], windows.strides[0])
        found.setdefault(-above, []).append((tap, phase))
    return found


def _pad_rows(t: Emitter, x: Value, begin: int, end: int) -> Value:
    """Rows of zeros above and below; negative numbers take rows away."""
    if not begin and not end:
        return x
    sizes = (*x.known[:2], x.known[2] + begin + end, x.known[3])
    return t.op("Pad", x, t.ints(0, 0, begin, 0, 0, 0, end, 0), sizes=sizes)


def _channels_first(t: Emitter, x: Value) -> Value:
    """(N, C, space) -> (C, N, positions)."""
    flat = t.reshape(x, [t.dim(x, 0), x.known[1], prod(x.known[2:])])
    return t.transpose(flat, [1, 0, 2])


def _flat_product(t: Emitter, x: Value, matrices: Value, after: Sizes) -> Value:
    """The maps of every channel times its matrix."""
    y = t.transpose(t.matmul(_channels_first(t, x), matrices), [1, 0, 2])
    return t.reshape(y, [t.dim(x, 0), x.known[1], *after])


def _matrices(t: Emitter, w: Value, windows: Windows, big: Sizes, small: Sizes) -> Value:
    """W (C, 1, kernel) as (C, big, small)."""
    channels, taps = w.known[0], prod(windows.kernel)
    links = t.const(_links(windows, big, small).reshape(taps, -1), w.dtype)
    return t.reshape(t.matmul(t.reshape(w, [channels, taps]), links), [channels, prod(big), prod(small)])


def _links(windows: Windows, big: Sizes, small: Sizes) -> NDArray[np.float64]:
    """(taps, big, small): 1 where a tap leads from one position to the other."""
    links: NDArray[np.float64] = np.ones((1, 1, 1))
    for axis, (before, after) in enumerate(zip(big, small, strict=True)):
        one = _links_along(windows, axis, before, after)
        links = np.einsum("kbs,KBS->kKbBsS", links, one)
        links = links.reshape(*(links.shape[n] * links.shape[n + 1] for n in (0, 2, 4)))
    return links


def _links_along(windows: Windows, axis: int, before: int, after: int) -> NDArray[np.float64]:
    """The same of one axis: (taps, before, after)."""
    start = np.arange(after) * windows.strides[axis] - windows.begin[axis]
    at = start + np.arange(windows.kernel[axis])[:, None] * windows.dilations[axis]
    links: NDArray[np.float64] = np.equal(np.arange(before)[:, None], at[:, None, :]).astype(np.float64)
    return links
