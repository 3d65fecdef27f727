"""Gather and scatter: constant indices are index maps; indices that depend on data freeze that axis only."""

from __future__ import annotations

import numpy as np

from onnxprune.graph import Node
from onnxprune.ops.cutting import Cutter
from onnxprune.ops.indexing_gradients import (
    vjp_gather,
    vjp_gather_elements,
    vjp_gather_nd,
    vjp_one_hot,
    vjp_scatter,
)
from onnxprune.ops.join import take_positions
from onnxprune.ops.rule import Role, Rule, zero_by_inputs, zero_keeps, zero_lost
from onnxprune.ops.ties import Ties


def couple_gather(node: Node, t: Ties) -> None:
    """data (..., n, ...), indices (any shape) -> the axis is replaced by the axes of the indices."""
    data, indices, y = node.input(0), node.input(1), node.output(0)
    axis = node.attrs.get("axis", 0) % t.rank(data)
    value = t.graph.value(indices)
    width = t.rank(indices)
    size = t.sizes(data)[axis]
    if value is not None and indices not in t.graph.from_shape:
        positions = np.asarray(value, np.int64) % size
        if width == 1:
            take_positions(t, data, y, axis, positions)
            return
        if width == 0:
            _pick_one(node, t, axis, int(positions))
            return
    for a in range(t.rank(data)):
        if a != axis:
            t.tie(data, a, y, a if a < axis else a + width - 1, 0)
    t.freeze(data, axis, f"{node} picks from it by an index")
    for a in range(width):
        t.tie(indices, a, y, axis + a, 1)


def _pick_one(node: Node, t: Ties, axis: int, position: int) -> None:
    """A scalar index: the picked element stays; the other axes tie (a block of a ragged axis becomes ordinary)."""
    data, y = node.input(0), node.output(0)
    for a in range(t.rank(data)):
        if a == axis:
            continue
        target = a if a < axis else a - 1
        ragged = t.ragged.get((data, a))
        if ragged is not None and ragged.along == axis:
            t.tie_ids(ragged.ids[position], t.el(y, target), 0)
        else:
            t.tie(data, a, y, target, 0)
    t.freeze_ids(t.el(data, axis)[[position]], f"{node} picks it by its position")


def cut_gather(node: Node, c: Cutter) -> None:
    """Constant indices point to the new positions of the survivors."""
    data, y = node.inputs[0], node.outputs[0]
    axis = node.attrs.get("axis", 0) % len(c.old_shape(data))
    if not c.changed(data, axis):
        return
    value = c.graph.value(node.inputs[1])
    if value is None:
        return
    size = c.old_shape(data)[axis]
    position = np.full(size, -1, np.int64)
    position[c.keep(data, axis)] = np.arange(c.size(data, axis))
    old = np.asarray(value, np.int64) % size
    new = position[old[c.keep(y, axis)]] if old.ndim == 1 else position[old]
    c.want(node, 1, new.astype(value.dtype))


def couple_gather_elements(node: Node, t: Ties) -> None:
    """Every position of the indices reads the same position of data on the other axes."""
    data, indices, y = node.input(0), node.input(1), node.output(0)
    axis = node.attrs.get("axis", 0) % t.rank(data)
    for a in range(t.rank(data)):
        t.tie(indices, a, y, a, 1)
        same = t.sizes(data)[a] == t.sizes(indices)[a]
        if a == axis or not same:
            t.freeze(data, a, f"{node} picks from it by an index")
        else:
            t.tie(data, a, y, a, 0)
            t.freeze(data, a, f"{node} indexes element by element")


def couple_gather_nd(node: Node, t: Ties) -> None:
    """The last axis of the indices addresses leading axes of data; what is behind them ties."""
    data, indices, y = node.input(0), node.input(1), node.output(0)
    batch = node.attrs.get("batch_dims", 0)
    depth = t.sizes(indices)[-1]
    t.freeze(indices, t.rank(indices) - 1, f"{node} reads coordinates from it")
    for a in range(batch, batch + depth):
        t.freeze(data, a, f"{node} picks from it by an index")
    for a in range(t.rank(indices) - 1):
        t.tie(indices, a, y, a, 1)
    for a in range(batch):
        t.tie(data, a, y, a, 0)
    rest = t.rank(data) - batch - depth
    for a in range(rest):
        t.tie(data, batch + depth + a, y, t.rank(y) - rest + a, 0)


def couple_scatter_nd(node: Node, t: Ties) -> None:
    """Updates are written at addressed leading axes of data; what is behind them ties."""
    data, indices, updates, y = node.input(0), node.input(1), node.input(2), node.output(0)
    depth = t.sizes(indices)[-1]
    t.tie_like(data, y, [(a, a) for a in range(t.rank(data))], 0)
    for a in range(depth):
        t.freeze(data, a, f"{node} writes into it by an index")
    t.freeze_all(indices, f"{node} reads coordinates from it")
    rest = t.rank(data) - depth
    for a in range(t.rank(updates) - rest):
        t.freeze(updates, a, f"{node} writes it by an index")
    for a in range(rest):
        t.tie(updates, t.rank(updates) - rest + a, y, depth + a, 2)


def couple_scatter_elements(node: Node, t: Ties) -> None:
    """Element-wise addresses: everything stays."""
    t.freeze_node(node, f"{node} writes element by element")


def couple_one_hot(node: Node, t: Ties) -> None:
    """The new axis counts classes by their number."""
    indices, y = node.input(0), node.output(0)
    axis = node.attrs.get("axis", -1) % t.rank(y)
    t.freeze(y, axis, f"{node} counts along it")
    for a in range(t.rank(indices)):
        t.tie(indices, a, y, a if a < axis else a + 1, 0)


INDEX, D = Role.INDEX, Role.DATA
RULES = (
    Rule("Gather", couple_gather, (Role.PASS, INDEX), zero_keeps, cut_gather, vjp=vjp_gather),
    Rule("GatherElements", couple_gather_elements, (Role.PASS, INDEX), zero_lost, vjp=vjp_gather_elements),
    Rule("GatherND", couple_gather_nd, (Role.PASS, INDEX), zero_by_inputs(0), vjp=vjp_gather_nd),
    Rule("ScatterND", couple_scatter_nd, (D, INDEX, D), zero_keeps, vjp=vjp_scatter),
    Rule("ScatterElements", couple_scatter_elements, (D, INDEX, D), zero_lost, vjp=vjp_scatter),
    Rule("Scatter", couple_scatter_elements, (D, INDEX, D), zero_lost, vjp=vjp_scatter),
    Rule("OneHot", couple_one_hot, (INDEX, Role.SHAPE, D), zero_lost, vjp=vjp_one_hot),
)
