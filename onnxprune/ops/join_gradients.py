"""Gradients of Concat, Split, Slice and Pad: what was joined is taken apart, what was cut out gets zeros around it.

A slice with steps, or one whose bounds depend on data, is undone by one Gather from the cotangent with a zero behind
it: a map says for each position of x where its gradient is, and points to the zero where it is nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.graph import Node
from onnxprune.ops.emitter import INT64, Dim, Value
from onnxprune.ops.tape import Tape

Cotangents = Sequence[Value | None]
END = 2**31 - 1  # further than any axis is long


def vjp_concat(node: Node, t: Tape) -> Cotangents:
    """dx_k is the stretch of dy that came from x_k."""
    dy, inputs = t.dy(node), [t.tensor(name) for name in node.inputs]
    if len(inputs) == 1:
        return (dy,)
    rank = next(x.rank for x in (t.output(node), dy, *inputs) if x.sizes is not None)
    axis = int(node.attrs.get("axis", 1)) % rank
    sizes = [_length(t, x, axis) for x in inputs]
    wanted = [k for k in range(len(inputs)) if t.needs(node, k)]
    if len(wanted) == 1 and all(isinstance(size, int) for size in sizes) and dy.sizes is not None:
        ends = np.cumsum([size for size in sizes if isinstance(size, int)]).tolist()
        k = wanted[0]
        return [t.slice(dy, axis, ([0, *ends])[k], ends[k]) if j == k else None for j in range(len(inputs))]
    return t.ops("Split", dy, t.shape_vector(sizes), sizes=[x.sizes for x in inputs], axis=axis)


def _length(t: Tape, x: Value, axis: int) -> int | Dim:
    return t.dim(x, axis) if x.sizes is not None else Dim(t.length(x, axis), -1)


def vjp_split(node: Node, t: Tape) -> Cotangents:
    """dx is the cotangents of the outputs end to end."""
    return (t.concat([t.dy(node, k) for k in range(len(node.outputs))], int(node.attrs.get("axis", 0))),)


def vjp_slice(node: Node, t: Tape) -> Cotangents:
    """dx is dy at the positions that were taken and 0 elsewhere."""
    x, dy = t.input(node, 0), t.dy(node)
    starts, ends, axes, steps = (t.constant(node, k) for k in (1, 2, 3, 4))
    count = t.input(node, 1).known[0]
    over = [int(axis) % x.rank for axis in (range(count) if axes is None else axes)]
    stretches: list[tuple[int, int | Value]] = []
    for i, axis in enumerate(over):
        step = 1 if not node.input(4) else None if steps is None else int(steps[i])
        if step == 1 and starts is not None:
            if dy.sizes is None or dy.sizes[axis] != x.known[axis]:
                stretches.append((axis, before(t, x, axis, int(starts[i]))))
        elif x.known[axis] >= 0 and step is not None and starts is not None and ends is not None:
            positions = _positions(x.known[axis], int(starts[i]), int(ends[i]), step)
            inverse = np.full(x.known[axis], positions.size, np.int64)
            inverse[positions] = np.arange(positions.size)
            dy = spread(t, dy, x, axis, t.const(inverse))
        else:
            dy = spread(t, dy, x, axis, _inverse(node, t, x, axis, i))
    return (surrounded(t, dy, x, stretches),)


def _positions(size: int, start: int, end: int, step: int) -> NDArray[np.int64]:
    stop = None if step < 0 and end < -size else end
    return np.arange(size)[slice(start, stop, step)]


def before(t: Tape, x: Value, axis: int, start: int) -> int | Value:
    """Where a stretch begins, counted from the front."""
    size = x.known[axis]
    if size >= 0:
        return min(max(start + size if start < 0 else start, 0), size)
    if start >= 0 or start <= -END:
        return max(start, 0)
    return t.op("Max", t.length(x, axis) + t.ints(start), t.ints(0), sizes=(1,))


def _inverse(node: Node, t: Tape, x: Value, axis: int, i: int) -> Value:
    """For each position of x the position in y, or the length of y; in operators, as bounds or sizes are not fixed."""
    zero, one = t.const(np.int64(0)), t.const(np.int64(1))
    length = t.length(x, axis)
    everything = t.op("Range", zero, t.op("Squeeze", length, sizes=()), one)
    bounds = [t.op("Slice", t.input(node, k), t.ints(i), t.ints(i + 1)) for k in (1, 2)]
    step = t.op("Slice", t.input(node, 4), t.ints(i), t.ints(i + 1)) if node.input(4) else t.ints(1)
    taken = t.op("Slice", everything, *bounds, t.ints(0), step)
    count = t.op("Shape", taken, dtype=INT64)
    order = t.op("Range", zero, t.op("Squeeze", count), one)
    return t.op("ScatterElements", t.op("Expand", count, length), taken, order, sizes=(x.known[axis],), axis=0)


def spread(t: Tape, dy: Value, x: Value, axis: int, inverse: Value) -> Value:
    """dy along an axis of x. ``inverse``: for each position of x that of its cotangent; the length of dy for none."""
    extended = t.op("Pad", dy, t.ints(0, 1), None, t.ints(axis))
    sizes = None if dy.sizes is None else (*dy.sizes[:axis], x.known[axis], *dy.sizes[axis + 1 :])
    return t.op("Gather", extended, inverse, sizes=sizes, axis=axis)


def surrounded(t: Tape, dy: Value, x: Value, stretches: Sequence[tuple[int, int | Value]]) -> Value:
    """Zeros around dy up to the shape of x. ``stretches``: axis, and where on it dy begins."""
    if not stretches:
        return dy
    fronts, backs = [], []
    for axis, first in stretches:
        front = t.ints(first) if isinstance(first, int) else first
        sizes = None if dy.sizes is None else (dy.sizes[axis], x.known[axis])
        if sizes is not None and min(sizes) >= 0 and isinstance(first, int):
            back = t.ints(sizes[1] - first - sizes[0])
        else:
            back = t.length(x, axis) - front - t.length(dy, axis)
        fronts.append(front)
        backs.append(back)
    axes = t.ints(*(axis for axis, _ in stretches))
    return t.op("Pad", dy, joined(t, [*fronts, *backs]), None, axes, sizes=x.sizes)


def joined(t: Tape, vectors: Sequence[Value]) -> Value:
    """1-D int64 tensors end to end; a constant where all of them are."""
    if all(vector.name in t.constants for vector in vectors):
        return t.const(np.concatenate([t.constants[vector.name] for vector in vectors]))
    return t.op("Concat", *vectors, axis=0)


def vjp_pad(node: Node, t: Tape) -> Cotangents:
    """A constant border is cut off again, and its cotangents belong to the value; other borders add to their source."""
    x, dy = t.input(node, 0), t.dy(node)
    mode = node.attrs.get("mode", "constant")
    if mode == "constant":
        pads, axes = _pads(node, t, x)
        dx = t.op("Pad", dy, -t.input(node, 1), None, t.optional(node, 3), sizes=x.sizes)
        if pads is not None:
            dx = _cropped(t, dy, x, list(zip(axes, pads, strict=True)))
        border = None
        if t.needs(node, 2):
            whole, inner = (t.op("ReduceSum", part, sizes=(), keepdims=0) for part in (dy, dx))
            border = t.reshape_like(whole - inner, t.input(node, 2))
        return dx, None, border
    pads, axes = _pads(node, t, x)
    if pads is None:
        return (_gathered_border(node, t),)
    for axis, pad in zip(axes, pads, strict=True):
        if any(pad):
            dy = _folded(t, dy, x, axis, pad, mode)
    return (dy,)


def _pads(node: Node, t: Tape, x: Value) -> tuple[list[tuple[int, int]] | None, list[int]]:
    """(before, after) per padded axis, None where that depends on data, and the axes."""
    pads, axes = t.constant(node, 1), t.constant(node, 3)
    if pads is None or (axes is None and node.input(3)):
        return None, []
    over = [int(axis) % x.rank for axis in (range(x.rank) if axes is None else axes)]
    pairs = [(int(a), int(b)) for a, b in zip(pads[: len(over)], pads[len(over) :], strict=True)]
    return pairs, over


def _cropped(t: Tape, dy: Value, x: Value, pads: Sequence[tuple[int, tuple[int, int]]]) -> Value:
    """dy without the border, and with zeros where the pads were negative and cut something off."""
    cut = [(axis, max(front, 0), -back if back > 0 else END) for axis, (front, back) in pads if max(front, back) > 0]
    sizes = list(dy.known)
    for axis, (front, back) in pads:
        sizes[axis] = x.known[axis] if min(front, back) >= 0 else sizes[axis] - max(front, 0) - max(back, 0)
    if cut:
        axes, starts, ends = zip(*cut, strict=True)
        dy = t.op("Slice", dy, t.ints(*starts), t.ints(*ends), t.ints(*axes), sizes=tuple(sizes))
    grown = [(axis, max(-front, 0), max(-back, 0)) for axis, (front, back) in pads if min(front, back) < 0]
    if not grown:
        return dy
    axes, before, after = zip(*grown, strict=True)
    return t.op("Pad", dy, t.ints(*before, *after), None, t.ints(*axes), sizes=x.sizes)


@dataclass(frozen=True)
class Run:
    """Neighbours in the border that are copies of neighbours in x.

    ``start``, ``end``: in y, from the end where negative (``end`` 0: up to the end). ``step``: how the source moves
    along, 0 for copies of one element. ``source``: the first of the sources, from the end where negative.
    """

    start: int
    end: int
    step: int
    source: int


def runs(mode: str, pads: tuple[int, int], size: int) -> list[Run]:
    """The border of a padded axis. ``size``: negative for a dynamic one, which is at least as long as the pads."""
    front, back = (max(pad, 0) for pad in pads)
    crop = [max(-pad, 0) for pad in pads]
    long = size if size >= 0 else 8 * (sum(map(abs, pads)) + 2)
    kept = np.arange(long)[crop[0] : long - crop[1]]
    source = np.pad(kept, (front, back), mode=mode)  # type: ignore[call-overload]
    found = []
    for shift, border in ((0, source[:front]), (-back, source[source.size - back :])):
        for start, end, step in _stretches(border):
            lowest = int(min(border[start], border[end - 1]))
            far = long if size < 0 and lowest > long // 2 else 0
            found.append(Run(start + shift, end + shift, step, lowest - far))
    return found


def _stretches(positions: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """(start, end, step) of stretches that move by 1, by -1 or not at all."""
    found, start = [], 0
    while start < positions.size:
        steps = np.diff(positions[start:])
        step = int(steps[0]) if steps.size and abs(steps[0]) <= 1 else 1
        other = np.flatnonzero(steps != step)
        end = start + 1 + (int(other[0]) if other.size else steps.size)
        found.append((start, end, step))
        start = end
    return found


def _folded(t: Tape, dy: Value, x: Value, axis: int, pads: tuple[int, int], mode: str) -> Value:
    """The border of one axis added to where it was copied from."""
    sizes = (*dy.known[:axis], x.known[axis], *dy.known[axis + 1 :])
    total = like = replace(_cropped(t, dy, x, [(axis, pads)]), sizes=sizes)
    for run in runs(mode, pads, x.known[axis]):
        bounds = (run.start, run.end) if run.step >= 0 else (run.end - 1, run.start - 1)
        if run.step < 0 and run.start == 0:
            bounds = (run.end - 1, -END)
        if run.step >= 0 and run.end == 0:
            bounds = (run.start, END)
        length = run.end - run.start
        part_sizes = (*dy.known[:axis], length, *dy.known[axis + 1 :])
        part = t.op("Slice", dy, *(t.ints(n) for n in (*bounds, axis, run.step or 1)), sizes=part_sizes)
        if run.step == 0:
            part = t.sum(part, [axis], keep=True)
        first: int | Value = run.source if run.source >= 0 else t.length(like, axis) + t.ints(run.source)
        total = total + surrounded(t, part, like, [(axis, first)])
    return total


def _gathered_border(node: Node, t: Tape) -> Value:
    """Pads that depend on data: the same Pad of the positions says where every element came from."""
    x, dy = t.input(node, 0), t.dy(node)
    count = t.op("Squeeze", t.op("Size", x, dtype=INT64))
    flat: Any = t.op("Range", t.const(np.int64(0)), count, t.const(np.int64(1)))
    positions = t.op("Reshape", flat, t.shape_of(x))
    source = t.op("Pad", positions, t.input(node, 1), None, t.optional(node, 3), mode=node.attrs["mode"])
    one = t.ints(-1)
    zeros = t.op("Reshape", t.zeros_like(x), one)
    dx = t.op("ScatterElements", zeros, t.op("Reshape", source, one), t.op("Reshape", dy, one), axis=0, reduction="add")
    return t.op("Reshape", dx, t.shape_of(x), sizes=x.sizes)
