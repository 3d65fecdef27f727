"""Convolutions and pooling in float64 for onnx's reference evaluator, of any rank, with every attribute.

onnx's own lack groups of a transposed convolution and the indices of pooling at stride 1, and take minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from onnx.reference.op_run import OpRun
from torch.nn import functional as F

from tests.oracle import Array

__all__ = ["MAPS"]

Pairs = list[tuple[int, int]]


class Geometry:
    """Kernel, strides, dilations and padding of a node, as numbers per spatial axis."""

    def __init__(self, kernel: Sequence[int], spatial: Sequence[int], attrs: dict[str, Any]) -> None:
        rank = len(spatial)
        self.kernel = list(kernel)
        self.strides = list(attrs.get("strides") or [1] * rank)
        self.dilations = list(attrs.get("dilations") or [1] * rank)
        self.reach = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        flat = list(attrs.get("pads") or [0] * 2 * rank)
        self.pads: Pairs = list(zip(flat[:rank], flat[rank:], strict=True))
        mode = attrs.get("auto_pad") or "NOTSET"
        if mode == "VALID":
            self.pads = [(0, 0)] * rank
        elif mode.startswith("SAME"):
            rows = zip(spatial, self.strides, self.reach, strict=True)
            self.pads = [halves(max((-(-n // s) - 1) * s + r - n, 0), mode) for n, s, r in rows]
        self.extra = [0] * rank  # beyond the padding, for ceil_mode
        if attrs.get("ceil_mode"):
            for axis, (n, (a, b), r, s) in enumerate(zip(spatial, self.pads, self.reach, self.strides, strict=True)):
                count = -(-(n + a + b - r) // s) + 1
                count -= (count - 1) * s >= n + a
                self.extra[axis] = max((count - 1) * s + r - n - a - b, 0)

    def windows(self, x: Array, fill: float) -> Array:
        """(n, channels, *positions, *kernel)."""
        rank = len(self.kernel)
        wide = [(a, b + e) for (a, b), e in zip(self.pads, self.extra, strict=True)]
        x = np.pad(x, [(0, 0), (0, 0), *wide], constant_values=fill)
        every = (slice(None), slice(None), *(slice(None, None, s) for s in self.strides))
        view = sliding_window_view(x, self.reach, axis=tuple(range(2, 2 + rank)))
        return view[(*every, *(slice(None, None, d) for d in self.dilations))]


def halves(total: int, mode: str) -> tuple[int, int]:
    small, large = total // 2, total - total // 2
    return (small, large) if mode == "SAME_UPPER" else (large, small)


class Conv(OpRun):
    """y[n, g, o, p] = b[o] + sum over i, k of W[g, o, i, k] x[n, g, i, p s + k d - begin]."""

    def _run(self, x: Array, w: Array, bias: Array | None = None, **attrs: Any) -> tuple[Array]:
        groups, rank = attrs.get("group") or 1, x.ndim - 2
        view = Geometry(w.shape[2:], x.shape[2:], attrs).windows(x, 0.0)
        spots = view.shape[2 : 2 + rank]
        columns = view.reshape(x.shape[0], groups, -1, *spots, *w.shape[2:])
        columns = np.moveaxis(columns, 2, 2 + rank).reshape(x.shape[0], groups, int(np.prod(spots)), -1)
        y = columns @ w.reshape(groups, w.shape[0] // groups, -1).swapaxes(1, 2)
        y = y.swapaxes(2, 3).reshape(x.shape[0], w.shape[0], *spots)
        return (y if bias is None else y + bias.reshape(-1, *[1] * rank),)


class ConvTranspose(OpRun):
    """Every input position adds its kernel to the output at p s + k d - begin."""

    def _run(self, x: Array, w: Array, bias: Array | None = None, **attrs: Any) -> tuple[Array]:
        groups, rank = attrs.get("group") or 1, x.ndim - 2
        mode = attrs.get("auto_pad") or "NOTSET"
        geometry = Geometry(w.shape[2:], x.shape[2:], {**attrs, "auto_pad": "VALID" if mode == "VALID" else "NOTSET"})
        extra = list(attrs.get("output_padding") or [0] * rank)
        rows = list(zip(x.shape[2:], geometry.strides, geometry.reach, strict=True))
        full = [(n - 1) * s + r for n, s, r in rows]
        pads = geometry.pads
        sizes = [n + e - a - b for n, e, (a, b) in zip(full, extra, pads, strict=True)]
        if attrs.get("output_shape") or mode.startswith("SAME"):
            sizes = list(attrs.get("output_shape") or [n * s for n, s, _ in rows])[-rank:]
            pads = [halves(max(n + e - m, 0), mode) for n, e, m in zip(full, extra, sizes, strict=True)]
        room = [max(n, a + m) for n, (a, _), m in zip(full, pads, sizes, strict=True)]
        whole = np.zeros((x.shape[0], groups, w.shape[1], *room))
        grouped = x.reshape(x.shape[0], groups, -1, int(np.prod(x.shape[2:])))
        for k in np.ndindex(*w.shape[2:]):
            kernel = w[(slice(None), slice(None), *k)].reshape(groups, -1, w.shape[1]).swapaxes(1, 2)
            part = (kernel @ grouped).reshape(x.shape[0], groups, w.shape[1], *x.shape[2:])
            at = zip(k, geometry.dilations, x.shape[2:], geometry.strides, strict=True)
            whole[(..., *(slice(i * d, i * d + (n - 1) * s + 1, s) for i, d, n, s in at))] += part
        cut = (..., *(slice(a, a + m) for (a, _), m in zip(pads, sizes, strict=True)))
        y = whole[cut].reshape(x.shape[0], groups * w.shape[1], *sizes)
        return (y if bias is None else y + bias.reshape(-1, *[1] * rank),)


class MaxPool(OpRun):
    def _run(self, x: Array, **attrs: Any) -> tuple[Array, ...]:
        geometry, rank = Geometry(attrs["kernel_shape"], x.shape[2:], attrs), x.ndim - 2
        flat = (*range(2, 2 + rank),)
        numbers = np.arange(x.size, dtype=np.float64).reshape(x.shape)
        if attrs.get("storage_order"):
            area = int(np.prod(x.shape[2:]))
            inner = np.arange(area).reshape(x.shape[2:][::-1]).T
            numbers = (np.arange(x.shape[0] * x.shape[1]) * area).reshape(*x.shape[:2], *[1] * rank) + inner
        view = geometry.windows(x, -np.inf)
        view = view.reshape(*view.shape[: len(flat) + 2], -1)
        where = geometry.windows(numbers.astype(np.float64), -1).reshape(view.shape)
        best = view.argmax(-1)[..., None]
        y, index = (np.take_along_axis(a, best, -1)[..., 0] for a in (view, where))
        return (y, index.astype(np.int64)) if len(self.onnx_node.output) > 1 else (y,)


class AveragePool(OpRun):
    def _run(self, x: Array, **attrs: Any) -> tuple[Array]:
        geometry, rank = Geometry(attrs["kernel_shape"], x.shape[2:], attrs), x.ndim - 2
        space = tuple(range(-rank, 0))
        counted = np.ones_like(x)
        inside = geometry
        if attrs.get("count_include_pad"):
            counted = np.pad(counted, [(0, 0), (0, 0), *geometry.pads], constant_values=1.0)
            inside = Geometry(attrs["kernel_shape"], x.shape[2:], attrs)
            inside.pads = [(0, 0)] * rank
        return (geometry.windows(x, 0.0).sum(space) / inside.windows(counted, 0.0).sum(space),)


class LpPool(OpRun):
    def _run(self, x: Array, **attrs: Any) -> tuple[Array]:
        p, rank = attrs.get("p") or 2, x.ndim - 2
        view = Geometry(attrs["kernel_shape"], x.shape[2:], attrs).windows(np.abs(x) ** p, 0.0)
        return (view.sum(tuple(range(-rank, 0))) ** (1 / p),)


class GlobalLpPool(OpRun):
    def _run(self, x: Array, p: int = 2) -> tuple[Array]:
        return ((np.abs(x) ** p).sum(tuple(range(2, x.ndim)), keepdims=True) ** (1 / p),)


class Pad(OpRun):
    """Negative numbers take elements away, which onnx's own does not know."""

    def _run(
        self, x: Array, pads: Array, value: Array | None = None, axes: Array | None = None, mode: str = "constant"
    ) -> tuple[Array]:
        at = range(x.ndim) if axes is None else [int(axis) % x.ndim for axis in axes]
        ends = dict(zip(at, zip(*np.split(np.asarray(pads), 2), strict=True), strict=True))
        both = [ends.get(axis, (0, 0)) for axis in range(x.ndim)]
        x = x[tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, both, strict=True))]
        grow = [(max(int(a), 0), max(int(b), 0)) for a, b in both]
        if mode == "constant":
            return (np.pad(x, grow, constant_values=0 if value is None else value.item()),)
        return (np.pad(x, grow, mode),)


class GridSample(OpRun):
    """By torch: onnx's own rounds positions to float32."""

    def _run(
        self, x: Array, grid: Array, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
    ) -> tuple[Array]:
        mode = "bilinear" if mode == "linear" else mode
        tensors = (torch.tensor(a) for a in (x, grid))
        return (
            F.grid_sample(*tensors, mode=mode, padding_mode=padding_mode, align_corners=bool(align_corners)).numpy(),
        )


class AffineGrid(OpRun):
    """By torch, for the same reason."""

    def _run(self, theta: Array, size: Array, align_corners: int = 0) -> tuple[Array]:
        tensor = torch.tensor(theta)
        return (F.affine_grid(tensor, size.tolist(), align_corners=bool(align_corners)).numpy(),)


MAPS: tuple[type[OpRun], ...] = (
    Conv,
    ConvTranspose,
    MaxPool,
    AveragePool,
    LpPool,
    GlobalLpPool,
    Pad,
    GridSample,
    AffineGrid,
)
