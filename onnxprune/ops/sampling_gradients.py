"""Gradients of operators that read a map between its positions: GridSample, and DeformConv and AffineGrid around it.

    y[n, c, l] = sum over corners k of w[n, l, k] x[n, c, i[n, l, k]]

with 2^d corners around every position, whose weights are products of one factor per axis. dx adds w dy up where i
points; the gradient of a coordinate is the same sum with the factor of its axis replaced by that factor's slope.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
from onnx import TensorProto

from onnxprune.errors import UnsupportedModel
from onnxprune.graph import Node
from onnxprune.ops.emitter import Dim, Emitter, Value
from onnxprune.ops.tape import Tape
from onnxprune.ops.window_gradients import conv_windows

Cotangents = Sequence[Value | None]
INT64 = int(TensorProto.INT64)
MODES = {"linear": "linear", "bilinear": "linear", "nearest": "nearest"}


@dataclass(frozen=True, eq=False)
class Side:
    """One of the positions that a coordinate reads along its axis: where (N, L), how much, and how that changes."""

    at: Value
    weight: Value
    slope: Value | None


def vjp_grid_sample(node: Node, t: Tape) -> Cotangents:
    """x (N, C, space), grid (N, points, d) in [-1, 1], its last axis from the last spatial axis to the first.

    Raises UnsupportedModel for cubic interpolation.
    """
    x, grid, dy = t.input(node, 0), t.input(node, 1), t.dy(node)
    rank = x.rank - 2
    n, channels = t.dim(x, 0), t.dim(x, 1)
    space = [t.dim(x, axis) for axis in range(2, x.rank)]
    points = t.product([t.dim(grid, axis) for axis in range(1, grid.rank - 1)])
    flat = t.reshape(grid, [n, points, rank])
    sides = [_sides(node, t, t.squeeze(t.slice(flat, 2, rank - 1 - a, rank - a), [2]), space[a]) for a in range(rank)]
    corners = [[sides[axis][k] for axis, k in enumerate(ks)] for ks in product(*(range(len(s)) for s in sides))]
    indices = [t.unsqueeze(_index(t, corner, space), [1]) for corner in corners]
    dy = t.reshape(dy, [n, channels, points])
    dx = None
    if t.needs(node, 0):
        parts = [dy * t.unsqueeze(_times([c.weight for c in corner]), [1]) for corner in corners]
        everywhere = [t.expand(index, dy) for index in indices]
        area = t.product(space)
        zeros = t.expand_to(t.const(np.zeros((1, 1, 1)), x.dtype), [n, channels, area])
        where, what = t.concat(everywhere, 2), t.concat(parts, 2)
        found = t.op("ScatterElements", zeros, where, what, sizes=zeros.sizes, axis=2, reduction="add")
        dx = t.reshape_like(found, x)
    dgrid = None
    if t.needs(node, 1):
        dgrid = t.reshape_like(_grid_gradient(t, x, dy, corners, indices, space), grid)
    return dx, dgrid


def _times(values: Sequence[Value]) -> Value:
    """The product of some values."""
    result = values[0]
    for value in values[1:]:
        result = result * value
    return result


def _grid_gradient(
    t: Tape,
    x: Value,
    dy: Value,
    corners: Sequence[Sequence[Side]],
    indices: Sequence[Value],
    space: Sequence[int | Dim],
) -> Value:
    """(N, L, d)."""
    rank = len(space)
    flat = t.reshape(x, [t.dim(x, 0), t.dim(x, 1), t.product(space)])
    along: list[Value | None] = [None] * rank
    for corner, index in zip(corners, indices, strict=True):
        read = t.op("GatherElements", flat, t.expand(index, dy), sizes=dy.sizes, axis=2)
        pull = t.sum(dy * read, [1])
        for axis, side in enumerate(corner):
            if side.slope is None:
                continue
            part = _times([pull, side.slope, *(s.weight for a, s in enumerate(corner) if a != axis)])
            so_far = along[axis]
            along[axis] = part if so_far is None else so_far + part
    blank = t.sum(dy, [1]) * 0.0
    return t.concat([t.unsqueeze(along[axis] or blank, [2]) for axis in reversed(range(rank))], 2)


def _index(t: Emitter, corner: Sequence[Side], space: Sequence[int | Dim]) -> Value:
    """Position in the flattened map (N, L)."""
    total = corner[0].at
    for side, size in zip(corner[1:], space[1:], strict=True):
        scale = t.ints(size) if isinstance(size, int) else size.value
        total = total * scale + side.at
    return total


def _text(node: Node, key: str, default: str) -> str:
    value = node.attrs.get(key, default)
    return value.decode() if isinstance(value, bytes) else str(value)


def _sides(node: Node, t: Emitter, grid: Value, size: int | Dim) -> list[Side]:
    """What the coordinates (N, L) of one axis read."""
    mode = MODES.get(_text(node, "mode", "linear"))
    if mode is None:
        raise UnsupportedModel(
            f"{node} interpolates by {_text(node, 'mode', '')}, which has no gradient rule",
            "Use mode='bilinear' or 'nearest' in grid_sample.",
        )
    length = t.cast(size.value, grid.dtype) if isinstance(size, Dim) else t.const(float(size), grid.dtype)
    last = length - 1.0
    if node.attrs.get("align_corners", 0):
        slope, low, span = last * 0.5, t.const(0.0, grid.dtype), last
        position = (grid + 1.0) * slope
    else:
        slope, low, span = length * 0.5, t.const(-0.5, grid.dtype), length
        position = (grid + 1.0) * slope - 0.5
    padding = _text(node, "padding_mode", "zeros")
    if padding == "reflection":
        from_low = position - low
        distance = t.unary("Abs", from_low)
        turns = t.unary("Floor", distance / span)
        rest = distance - turns * span
        back = t.unary("Floor", turns * 0.5) * -2.0 + turns  # 1 where an odd number of turns leads backwards
        position = low + rest + back * (span - rest * 2.0)
        slope = slope * t.unary("Sign", from_low) * (1.0 - back * 2.0)
    if padding != "zeros":
        inside = t.op("And", position > 0.0, position < last, sizes=position.sizes)
        position = t.op(
            "Max", t.op("Min", position, last, sizes=grid.sizes), t.const(0.0, grid.dtype), sizes=grid.sizes
        )
        slope = slope * t.cast(inside, grid.dtype)
    if mode == "nearest":
        one = t.op("Round", position, sizes=position.sizes)
        return [_side(t, one, position * 0.0 + 1.0, None, last)]
    below = t.unary("Floor", position)
    part = position - below
    return [_side(t, below, 1.0 - part, -slope, last), _side(t, below + 1.0, part, slope, last)]


def _side(t: Emitter, at: Value, weight: Value, slope: Value | None, last: Value) -> Side:
    """Positions outside of the map read 0."""
    inside = t.op("And", at >= 0.0, at <= last, sizes=at.sizes)
    kept = t.cast(inside, at.dtype)
    clipped = t.op("Max", t.op("Min", at, last, sizes=at.sizes), t.const(0.0, at.dtype), sizes=at.sizes)
    return Side(t.cast(clipped, INT64), weight * kept, None if slope is None else slope * kept)


def expand_deform_conv(node: Node, t: Tape) -> Cotangents:
    """Every tap samples the map where its offset moves it; the rest is a product of matrices.

    x (N, C, H, W), W (O, C/g, kernel), offset (N, 2 groups taps, h, w), b (O), mask (N, groups taps, h, w). Offsets of
    the first axis come first. Raises UnsupportedModel where the size of the map is not known.
    """
    x, w, offset, y = t.input(node, 0), t.input(node, 1), t.input(node, 2), t.output(node)
    bias, mask = t.optional(node, 3), t.optional(node, 4)
    groups, parts = node.attrs.get("group", 1), node.attrs.get("offset_group", 1)
    if x.rank != 4 or min(x.known[2:]) < 0:
        raise UnsupportedModel(
            f"{node} has no gradient rule for a map of shape {list(x.known)}: it needs two spatial axes of known size",
            "Give the shape of the model's inputs.",
        )
    windows = conv_windows(node, w.known[2:], x.known[2:])
    taps, (rows, columns) = prod(windows.kernel), y.known[2:]
    n, channels, spots = t.dim(x, 0), x.known[1], rows * columns
    many = t.product([n, parts])
    moves = t.reshape(offset, [many, taps, 2, rows, columns])
    grid = []
    for axis, (size, count) in enumerate(zip(x.known[2:], (rows, columns), strict=True)):
        start = np.arange(count) * windows.strides[axis] - windows.begin[axis]
        tap = np.indices(windows.kernel)[axis].reshape(-1, 1, 1) * windows.dilations[axis]
        base = tap + (start[:, None] if axis == 0 else start[None, :]) + np.zeros((taps, rows, columns))
        move = t.squeeze(t.slice(moves, 2, axis, axis + 1), [2])
        place = (move + t.const(base[None], x.dtype)) * (2.0 / size) + (1.0 / size - 1.0)
        grid.append(t.reshape(place, [many, taps * rows, columns, 1]))
    spread = t.reshape(x, [many, channels // parts, *x.known[2:]])
    shape = (spread.known[0], channels // parts, taps * rows, columns)
    read = t.op("GridSample", spread, t.concat(grid[::-1], 3), sizes=shape)
    read = t.reshape(read, [many, channels // parts, taps, spots])
    if mask is not None:
        read = read * t.reshape(mask, [many, 1, taps, spots])
    read = t.reshape(read, [n, groups, channels // groups * taps, spots])
    kernel = t.reshape(w, [groups, w.known[0] // groups, channels // groups * taps])
    found = t.reshape(t.matmul(kernel, read), [n, w.known[0], rows, columns])
    return (found if bias is None else found + t.reshape(bias, [bias.known[0], 1, 1]),)


def vjp_affine_grid(node: Node, t: Tape) -> Cotangents:
    """grid (N, points, d) = base (points, d + 1) theta', theta (N, d, d + 1): dtheta = dgrid' base.

    The base is what the operator makes of matrices that pass coordinates on.
    """
    dy, theta = t.dy(node), t.input(node, 0)
    rank = theta.known[1]
    one = np.concatenate([np.eye(rank), np.zeros((rank, 1))], axis=1)[None]
    sizes = t.op("Concat", t.ints(1), t.slice(t.input(node, 1), 0, 1, rank + 2), sizes=(rank + 2,), axis=0)
    shape = (1, *dy.known[1:])
    base = t.op(
        "AffineGrid", t.const(one, theta.dtype), sizes, sizes=shape, align_corners=node.attrs.get("align_corners", 0)
    )
    points = t.product([t.dim(dy, axis) for axis in range(1, dy.rank - 1)])
    flat = t.reshape(base, [1, points, rank])
    ones = t.expand_to(t.const(np.ones((1, 1, 1)), theta.dtype), [1, points, 1])
    rows = t.reshape(dy, [t.dim(dy, 0), points, rank])
    return t.matmul(t.swap(rows), t.concat([flat, ones], 2)), None
