"""Gradients of operators that only move or repeat elements: the inverse move, and a sum over the copies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.graph import Node
from onnxprune.ops.emitter import BOOL, INT64, Dim, Value
from onnxprune.ops.tape import Tape

Cotangents = Sequence[Value | None]


def vjp_regroup(node: Node, t: Tape) -> Cotangents:
    """The same elements in the same order: back to the shape of x."""
    return (t.reshape_like(t.dy(node), t.input(node, 0)),)


def vjp_transpose(node: Node, t: Tape) -> Cotangents:
    """y = transpose(x, perm): dx = transpose(dy, perm inverted)."""
    dy = t.dy(node)
    perm = node.attrs.get("perm")
    if perm is None:
        return (t.op("Transpose", dy, sizes=None if dy.sizes is None else dy.sizes[::-1]),)
    return (t.transpose(dy, [int(axis) for axis in np.argsort(perm)]),)


def vjp_expand(node: Node, t: Tape) -> Cotangents:
    """Copies add up: the reverse loop does it where the target is known, ``_sum_copies`` where it depends on data."""
    x, dy = t.input(node, 0), t.dy(node)
    return (dy if dy.sizes is not None and x.sizes is not None else _sum_copies(t, dy, x),)


def _sum_copies(t: Tape, dy: Value, x: Value) -> Value:
    """The axes to sum over are found when the model runs: those where ``x`` has size 1 and ``dy`` has not."""
    now, before = t.shape_of(dy), t.shape_of(x)
    one = t.ints(1)
    extra = t.op("Sub", t.op("Size", now, dtype=INT64), t.op("Size", before, dtype=INT64))
    padding = t.op("Expand", one, t.op("Reshape", extra, one))
    aligned = t.op("Concat", padding, before, axis=0)
    grown = t.op("And", t.op("Equal", aligned, one, dtype=BOOL), t.op("Greater", now, one, dtype=BOOL))
    axes = t.op("Reshape", t.op("NonZero", grown, dtype=INT64), t.ints(-1))
    summed = t.op("ReduceSum", dy, axes, keepdims=1, noop_with_empty_axes=1)
    return t.op("Reshape", summed, before, sizes=x.sizes)


def vjp_tile(node: Node, t: Tape) -> Cotangents:
    """y[i] = x[i mod n]: dy is seen as (repeats, n) per axis and summed over the repeats."""
    x, dy, repeats = t.input(node, 0), t.dy(node), t.constant(node, 1)
    if repeats is None:
        pairs = [t.op("Unsqueeze", v, t.ints(1)) for v in (t.input(node, 1), t.shape_of(x))]
        split = t.op("Reshape", t.op("Concat", *pairs, axis=1), t.ints(-1))
        copies = t.ints(*range(0, 2 * x.rank, 2))
        return (t.op("ReduceSum", t.op("Reshape", dy, split), copies, sizes=x.sizes, keepdims=0),)
    parts: list[int | Dim] = []
    over: list[int] = []
    for axis, count in enumerate(int(count) for count in repeats):
        if count != 1:
            over.append(len(parts))
            parts.append(count)
        parts.append(t.dim(x, axis))
    return (t.sum(t.reshape(dy, parts), over) if over else dy,)


def vjp_depth_to_space(node: Node, t: Tape) -> Cotangents:
    """DCR mode is undone by SpaceToDepth; CRD, channels (C, r, r), has no such operator."""
    x, dy, r = t.input(node, 0), t.dy(node), int(node.attrs["blocksize"])
    if node.attrs.get("mode", "DCR") == "DCR":
        return (t.op("SpaceToDepth", dy, sizes=x.sizes, blocksize=r),)
    batch, _, height, width = (t.dim(x, axis) for axis in range(4))
    blocks = t.reshape(dy, [batch, t.dim(dy, 1), height, r, width, r])
    return (t.reshape_like(t.transpose(blocks, [0, 1, 3, 5, 2, 4]), x),)


def vjp_space_to_depth(node: Node, t: Tape) -> Cotangents:
    """Undone by DepthToSpace in DCR mode."""
    x = t.input(node, 0)
    return (t.op("DepthToSpace", t.dy(node), sizes=x.sizes, blocksize=int(node.attrs["blocksize"]), mode="DCR"),)
