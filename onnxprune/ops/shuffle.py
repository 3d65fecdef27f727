"""Channel shuffles: Reshape - Transpose - Reshape that only permutes one axis, taken element by element.

Without this, a shuffle would tie the same relative index of all its groups. ``shape.py`` asks here first.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx

from onnxprune.graph import Graph, Node
from onnxprune.ops.cutting import Cutter
from onnxprune.ops.ties import Ties
from onnxprune.values import Ints

Shape = tuple[int, ...]
RULES = ()


@dataclass(frozen=True)
class Shuffle:
    """Reshape - Transpose - Reshape that permutes one axis: ``output[i] = input[order[i]]`` along ``axis``.

    ``between``: pairs of QuantizeLinear and DequantizeLinear among them.
    """

    first: Node
    middle: Node
    last: Node
    between: tuple[Node, ...]
    axis: int
    order: Ints
    factors: tuple[int, ...]


def shuffle_around(graph: Graph, node: Node) -> Shuffle | None:
    """The channel shuffle that the node is part of, if any."""
    if node.op not in ("Reshape", "Transpose") or node.domain:
        return None
    for first in _chain_starts(graph, node):
        found = _shuffle_from(graph, first)
        if found is not None:
            return found
    return None


def _chain_starts(graph: Graph, node: Node) -> list[Node]:
    back: list[Node | None] = [node]
    for _ in range(2):
        source = graph.producer.get(back[-1].inputs[0]) if back[-1] else None
        while source is not None and _requantises(graph, source):
            source = graph.producer.get(source.inputs[0])
        back.append(source)
    if node.op == "Transpose":
        return [b for b in back[1:2] if b is not None]
    return [b for b in (back[0], back[2]) if b is not None]


def _requantises(graph: Graph, node: Node) -> bool:
    """Q or DQ with one scale for the whole tensor: it does not mind how the elements are arranged."""
    if node.op not in ("QuantizeLinear", "DequantizeLinear"):
        return False
    scale = graph.shape(node.inputs[1])
    return scale is not None and prod(scale) == 1


def _only_reader(graph: Graph, tensor: str, op: str, between: list[Node]) -> Node | None:
    """The one node that reads the tensor, if it is such an operator; Q and DQ on the way there are noted."""
    readers = graph.consumers.get(tensor, ())
    if len(readers) != 1 or readers[0][1] != 0 or tensor in graph.outputs:
        return None
    node = readers[0][0]
    if _requantises(graph, node):
        between.append(node)
        return _only_reader(graph, node.outputs[0], op, between)
    return node if node.op == op else None


def _shuffle_from(graph: Graph, first: Node) -> Shuffle | None:
    if first.op != "Reshape" or first.domain:
        return None
    between: list[Node] = []
    middle = _only_reader(graph, first.outputs[0], "Transpose", between)
    last = _only_reader(graph, middle.outputs[0], "Reshape", between) if middle else None
    if middle is None or last is None:
        return None
    a, split, b = (graph.shape(s) for s in (first.inputs[0], first.outputs[0], last.outputs[0]))
    if a is None or split is None or a != b or len(split) <= len(a) or 0 in a:
        return None
    permuted = _permuted_axis(a, split, tuple(middle.attrs.get("perm", range(len(split))[::-1])))
    if permuted is None:
        return None
    axis, before, turn = permuted
    factors = tuple(split[k] for k in before)
    order = np.arange(a[axis], dtype=np.int64).reshape(factors).transpose(turn).reshape(-1)
    return Shuffle(first, middle, last, tuple(between), axis, order, factors)


def _permuted_axis(a: Shape, split: Shape, perm: Shape) -> tuple[int, tuple[int, ...], list[int]] | None:
    """(axis, its factors among the axes of ``split``, their new order) if exactly one axis is permuted in itself."""
    runs, moved = _runs(a, split), _runs(a, tuple(split[p] for p in perm))
    permuted = []
    for axis, (before, after) in enumerate(zip(runs or (), moved or (), strict=False)):
        parts = [perm[k] for k in after]
        if sorted(parts) != list(before):
            return None
        if parts != list(before):
            permuted.append((axis, before, [before.index(p) for p in parts]))
    return permuted[0] if runs and moved and len(permuted) == 1 else None


def _runs(whole: Shape, parts: Shape) -> list[tuple[int, ...]] | None:
    """Which consecutive axes of ``parts`` multiply to each axis of ``whole``; axes of size 1 are left out."""
    result: list[tuple[int, ...]] = []
    k = 0
    for n in whole:
        run: list[int] = []
        product = 1
        while product < n and k < len(parts):
            if parts[k] != 1:
                run.append(k)
            product *= parts[k]
            k += 1
        if product != n:
            return None
        result.append(tuple(run))
    return result if all(p == 1 for p in parts[k:]) else None


def couple_shuffle(node: Node, t: Ties, shuffle: Shuffle) -> None:
    """Tie element by element, all at the last node of the three."""
    if node is not shuffle.last:
        return
    x, y = shuffle.first.inputs[0], node.outputs[0]
    for axis in range(t.rank(x)):
        source = t.el(x, axis)
        t.tie_ids(source[shuffle.order] if axis == shuffle.axis else source, t.el(y, axis), 0)


def cut_shuffle(node: Node, c: Cutter, shuffle: Shuffle) -> None:
    """Survivors in their new order: the three nodes become one Gather, in front of what lies between them."""
    x, y = shuffle.first.inputs[0], shuffle.last.outputs[0]
    if node is not shuffle.last or not c.changed(y, shuffle.axis):
        return
    position = {int(old): new for new, old in enumerate(c.keep(x, shuffle.axis))}
    order = np.array([position[int(shuffle.order[i])] for i in c.keep(y, shuffle.axis)], np.int64)
    indices = c.add_constant(f"{shuffle.last.name}.order", order)
    place = shuffle.first if shuffle.between else shuffle.last
    gather = onnx.helper.make_node(
        "Gather",
        [c.local(shuffle.first, x), indices],
        [c.local(place, place.outputs[0])],
        name=place.name,
        axis=shuffle.axis,
    )
    if not shuffle.between:
        c.replace(shuffle.first, [])
        c.replace(shuffle.middle, [])
        c.replace(shuffle.last, [gather])
        return
    c.replace(shuffle.first, [gather])
    for moved in (shuffle.middle, shuffle.last):
        names = [c.local(moved, moved.inputs[0])], [c.local(moved, moved.outputs[0])]
        c.replace(moved, [onnx.helper.make_node("Identity", *names, name=moved.name)])
    for changed in (shuffle.first, shuffle.middle, *shuffle.between):
        c.forget(changed.outputs[0])
