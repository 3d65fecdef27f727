"""Operators that only move or re-group axes: Reshape and its kin, Transpose, Expand, Tile, DepthToSpace, Shape.

A Reshape is cut into minimal segments of equal product. Inside a segment the common refinement of both
factorisations gives *atoms* (virtual axes): an axis made of one atom is tied to it, an axis made of several is a
merge, which can lose whole slices of one of its factors only. Where the boundaries do not divide each other, the
segment is frozen. Reshape - Transpose - Reshape that only permutes one axis (a channel shuffle) is taken as that
permutation, element by element.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from onnxprune.graph import Node
from onnxprune.ops.cutting import Cutter
from onnxprune.ops.rule import Role, Rule, zero_keeps, zero_lost
from onnxprune.ops.shape_gradients import (
    vjp_depth_to_space,
    vjp_expand,
    vjp_regroup,
    vjp_space_to_depth,
    vjp_tile,
    vjp_transpose,
)
from onnxprune.ops.shuffle import couple_shuffle, cut_shuffle, shuffle_around
from onnxprune.ops.ties import Ties
from onnxprune.values import Ints

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Segment:
    """Axes of both sides with equal product; per axis, which of ``atoms`` (sizes) it consists of."""

    inputs: tuple[tuple[int, tuple[int, ...]], ...]
    outputs: tuple[tuple[int, tuple[int, ...]], ...]
    atoms: tuple[int, ...]  # empty: the factorisations do not fit


def segments(a: Shape, b: Shape) -> list[Segment]:
    """Cut two shapes of equal product into minimal segments; axes of size 1 belong to none."""
    left = [(i, n) for i, n in enumerate(a) if n != 1]
    right = [(i, n) for i, n in enumerate(b) if n != 1]
    result: list[Segment] = []
    i = j = 0
    while i < len(left) and j < len(right):
        start_i, start_j = i, j
        p, q = left[i][1], right[j][1]
        i, j = i + 1, j + 1
        while p != q:
            if p < q and i < len(left):
                p, i = p * left[i][1], i + 1
            elif j < len(right):
                q, j = q * right[j][1], j + 1
            else:
                return [
                    *result,
                    Segment(tuple((k, ()) for k, _ in left[start_i:]), tuple((k, ()) for k, _ in right[start_j:]), ()),
                ]
        result.append(_refine(left[start_i:i], right[start_j:j]))
    return result


def _refine(left: Sequence[tuple[int, int]], right: Sequence[tuple[int, int]]) -> Segment:
    cuts = sorted({int(c) for side in (left, right) for c in np.cumprod([n for _, n in side])})
    fits = all(b % a == 0 for a, b in pairwise(cuts))
    if not fits:
        return Segment(tuple((k, ()) for k, _ in left), tuple((k, ()) for k, _ in right), ())
    atoms = tuple(b // a for a, b in zip([1, *cuts], cuts, strict=False))
    return Segment(_assign(left, cuts), _assign(right, cuts), atoms)


def _assign(side: Sequence[tuple[int, int]], cuts: Sequence[int]) -> tuple[tuple[int, tuple[int, ...]], ...]:
    result, product, first = [], 1, 0
    for axis, n in side:
        product *= n
        last = cuts.index(product) + 1
        result.append((axis, tuple(range(first, last))))
        first = last
    return tuple(result)


def couple_regroup(node: Node, t: Ties) -> None:
    """y = x with its axes split and joined in row-major order."""
    x, y = node.input(0), node.output(0)
    shuffle = shuffle_around(t.graph, node)
    if shuffle is not None:
        couple_shuffle(node, t, shuffle)
        return
    if node.op == "Reshape" and len(node.inputs) > 1 and t.graph.value(node.inputs[1]) is None:
        t.freeze_node(node, f"the target of {node} depends on data")
        return
    a, b = t.sizes(x), t.sizes(y)
    if 0 in a:
        t.freeze_node(node, f"{node} has an empty axis")
        return
    for segment in segments(a, b):
        if not segment.atoms:
            for tensor, axes in ((x, segment.inputs), (y, segment.outputs)):
                for axis, _ in axes:
                    t.freeze(tensor, axis, f"{node} regroups it in a way that has no common factors")
            continue
        _couple_segment(node, t, segment)


def _couple_segment(node: Node, t: Ties, segment: Segment) -> None:
    x, y = node.input(0), node.output(0)
    if len(segment.inputs) == len(segment.outputs) == 1:
        t.tie(x, segment.inputs[0][0], y, segment.outputs[0][0], 0)
        return
    if _couple_ragged(node, t, segment):
        return
    atoms = [t.virtual(n) for n in segment.atoms]
    for tensor, axes, into in ((x, segment.inputs, False), (y, segment.outputs, True)):
        for axis, parts in axes:
            ids = t.el(tensor, axis)
            if len(parts) > 1:
                t.merge(ids, [atoms[p] for p in parts], into=into, last=axis == t.rank(tensor) - 1)
            elif into:
                t.tie_ids(atoms[parts[0]], ids, 0)
            else:
                t.tie_ids(ids, atoms[parts[0]], 0)


def _couple_ragged(node: Node, t: Ties, segment: Segment) -> bool:
    """(directions, cells) -> directions * cells, where every direction keeps its own cells."""
    x, y = node.input(0), node.output(0)
    if len(segment.inputs) != 2 or len(segment.outputs) != 1:
        return False
    (along, _), (axis, _) = segment.inputs
    ragged = t.ragged.get((x, axis))
    if ragged is None or ragged.along != along:
        return False
    t.tie_ids(ragged.ids.reshape(-1), t.el(y, segment.outputs[0][0]), 0)
    t.freeze(x, along, f"the blocks that {node} joins stay")
    return True


def cut_reshape(node: Node, c: Cutter) -> None:
    """Targets follow the new sizes; entries 0 (copy) and -1 (infer) stay where they still say the truth."""
    shuffle = shuffle_around(c.graph, node)
    if shuffle is not None:
        cut_shuffle(node, c, shuffle)
        return
    if not c.changed(node.inputs[0]) and not c.changed(node.outputs[0]) and not _target_moved(node, c):
        return
    before, after = c.new_shape(node.inputs[0]), c.new_shape(node.outputs[0])
    if len(node.inputs) < 2:
        c.set_attr(node, "shape", _target(node.attrs["shape"], node.attrs["shape"], before, after))
        return
    old, now = c.graph.value(node.inputs[1]), c.value(node.inputs[1])
    if old is not None and now is not None:
        literal_zero = bool(node.attrs.get("allowzero", 0))
        c.want(node, 1, _target(old.tolist(), now.tolist(), before, after, literal_zero))


def _target_moved(node: Node, c: Cutter) -> bool:
    """The target is computed from the size of another tensor, which was cut."""
    old, now = (value(node.input(1)) for value in (c.graph.value, c.value))
    return old is not None and now is not None and not np.array_equal(old, now)


def _target(
    old: Sequence[int], now: Sequence[int], before: Shape, after: Shape, literal_zero: bool = False
) -> list[int]:
    """The entries that make ``before`` into ``after``; an entry that copied or inferred its size goes on doing so."""
    result = []
    for i, (was, entry) in enumerate(zip(old, now, strict=True)):
        copies = was == entry == 0 and not literal_zero and i < len(before) and before[i] == after[i]
        result.append(int(entry) if copies or was == entry == -1 else after[i])
    return result


def couple_transpose(node: Node, t: Ties) -> None:
    """Axes change places."""
    x, y = node.input(0), node.output(0)
    if shuffle_around(t.graph, node) is not None:
        return
    perm = node.attrs.get("perm", tuple(range(t.rank(x)))[::-1])
    t.tie_like(x, y, [(p, k) for k, p in enumerate(perm)], 0)


def couple_expand(node: Node, t: Ties) -> None:
    """Axes of size 1 are repeated: the new positions hold equal copies and are free."""
    x, y = node.input(0), node.output(0)
    a, b = t.sizes(x), t.sizes(y)
    if t.graph.value(node.input(1)) is None:
        t.freeze_node(node, f"the target of {node} depends on data")
        return
    offset = len(b) - len(a)
    for axis, size in enumerate(b):
        if axis >= offset and a[axis - offset] == size:
            t.tie(x, axis - offset, y, axis, 0)
        else:
            t.el(y, axis)


def cut_expand(node: Node, c: Cutter) -> None:
    """Target entries follow; an entry of 1 keeps the input's size and stays."""
    y = node.outputs[0]
    now = c.value(node.inputs[1])
    if now is None or not c.changed(y):
        return
    after = c.new_shape(y)[-len(now) :] if len(now) else ()
    c.want(node, 1, [1 if entry == 1 else size for entry, size in zip(now.tolist(), after, strict=True)])


def couple_tile(node: Node, t: Ties) -> None:
    """y[i] = x[i mod n]: every copy goes together."""
    x, y = node.input(0), node.output(0)
    repeats = t.graph.value(node.input(1))
    if repeats is None:
        t.freeze_node(node, f"the repeats of {node} depend on data")
        return
    for axis, count in enumerate(repeats.tolist()):
        if t.sizes(x)[axis] > 1:
            t.tie_ids(np.tile(t.el(x, axis), int(count)), t.el(y, axis), 0)
        else:
            t.freeze(y, axis, f"{node} repeats its only element")


def couple_depth_to_space(node: Node, t: Ties) -> None:
    """Channels are (r, r, C) in DCR mode and (C, r, r) in CRD mode; only whole C can go."""
    x, y = node.input(0), node.output(0)
    r = node.attrs["blocksize"]
    t.tie(x, 0, y, 0, 0)
    channels = t.el(y, 1)
    shape = (r, r, channels.size) if node.attrs.get("mode", "DCR") == "DCR" else (channels.size, r, r)
    _tie_blocks(
        t,
        t.el(x, 1).reshape(shape),
        channels,
        shape.index(channels.size) if r != channels.size else (2 if node.attrs.get("mode", "DCR") == "DCR" else 0),
        into=True,
    )
    for axis in (2, 3):
        t.freeze(x, axis, f"{node} mixes channels into space")
        t.freeze(y, axis, f"{node} mixes channels into space")


def couple_space_to_depth(node: Node, t: Ties) -> None:
    """Output channels are (r, r, C): every copy of a channel goes with it."""
    x, y = node.input(0), node.output(0)
    r = node.attrs["blocksize"]
    t.tie(x, 0, y, 0, 0)
    channels = t.el(x, 1)
    _tie_blocks(t, t.el(y, 1).reshape(r, r, channels.size), channels, 2, into=False)
    for axis in (2, 3):
        t.freeze(x, axis, f"{node} mixes space into channels")
        t.freeze(y, axis, f"{node} mixes space into channels")


def _tie_blocks(t: Ties, grid: Ints, channels: Ints, axis: int, *, into: bool) -> None:
    rows = np.moveaxis(grid, axis, -1).reshape(-1, channels.size)
    for row in rows:
        if into:
            t.tie_ids(row, channels, 0)
        else:
            t.tie_ids(channels, row, 0)


def couple_shape_only(node: Node, t: Ties) -> None:
    """Shape and Size read sizes, not values: surgery sees to their readers."""


MOVE = (Role.PASS, Role.SHAPE)
RULES = (
    *(
        Rule(op, couple_regroup, MOVE, zero_keeps, cut_reshape if op == "Reshape" else None, vjp=vjp_regroup)
        for op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
    ),
    Rule("Transpose", couple_transpose, (Role.PASS,), zero_keeps, vjp=vjp_transpose),
    Rule("Expand", couple_expand, MOVE, zero_keeps, cut_expand, vjp=vjp_expand),
    Rule("Tile", couple_tile, MOVE, zero_keeps, vjp=vjp_tile),
    Rule("DepthToSpace", couple_depth_to_space, (Role.PASS,), zero_keeps, vjp=vjp_depth_to_space),
    Rule("SpaceToDepth", couple_space_to_depth, (Role.PASS,), zero_keeps, vjp=vjp_space_to_depth),
    Rule("Shape", couple_shape_only, (Role.SHAPE,), zero_lost, flat=True),
    Rule("Size", couple_shape_only, (Role.SHAPE,), zero_lost, flat=True),
)
