"""Gradients of operators that pick and place by index: what was picked adds up where it came from.

Adding up is done by ScatterElements on flattened tensors, or, for a table of few rows, by a product with a matrix of
zeros and ones. ScatterND with a reduction is not used: with repeated indices its threads overwrite each other's sums in
onnxruntime.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxprune.graph import Node
from onnxprune.ops.emitter import INT64, Dim, Value
from onnxprune.ops.join_gradients import before, spread, surrounded
from onnxprune.ops.tape import Tape

Cotangents = Sequence[Value | None]
Size = int | Dim
FEW_ROWS = 160  # up to here the product is faster (measured for 1000 to 4000 indices and 64 to 256 columns)


def vjp_gather(node: Node, t: Tape) -> Cotangents:
    """Positions known beforehand get their cotangents back as they are; those that depend on data are added up."""
    x, dy = t.input(node, 0), t.dy(node)
    axis = int(node.attrs.get("axis", 0)) % x.rank
    known = t.constant(node, 1)
    if known is not None and known.ndim < 2:
        picked = dy if known.ndim else t.unsqueeze(dy, [axis])
        positions, size = np.atleast_1d(known), x.known[axis]
        if positions.size and (np.diff(positions) == 1).all() and (positions[0] < 0) == (positions[-1] < 0):
            first = before(t, x, axis, int(positions[0]))
            return (surrounded(t, picked, x, [(axis, first)] if size != positions.size else []),)
        positions = positions % abs(size)
        if size >= 0 and np.unique(positions).size == positions.size:
            inverse = np.full(size, positions.size, np.int64)
            inverse[positions] = np.arange(positions.size)
            return (spread(t, picked, x, axis, t.const(inverse)),)
    return (_added_along(t, x, t.input(node, 1), dy, axis),)


def _added_along(t: Tape, x: Value, indices: Value, dy: Value, axis: int) -> Value:
    """Zeros of the shape of x, to which slices along an axis are added."""
    dims: list[Size] = [t.dim(x, a) for a in range(x.rank)]
    outer, rows, width = t.product(dims[:axis]), dims[axis], t.product(dims[axis + 1 :])
    count = t.product([t.dim(indices, a) for a in range(indices.rank)])
    flat = t.cast(t.reshape(indices, [count]), INT64)
    if outer == 1:
        dx = _rows_added(t, rows, width, flat, t.reshape(dy, [count, width]))
    else:
        updates = t.reshape(dy, [outer, count, width])
        where = t.expand(t.unsqueeze(flat, [1]), updates)
        zeros = t.expand_to(t.const(0.0, dy.dtype), [outer, rows, width])
        dx = t.op("ScatterElements", zeros, where, updates, sizes=zeros.sizes, axis=1, reduction="add")
    return t.reshape(dx, dims)


def _rows_added(t: Tape, rows: Size, width: Size, indices: Value, updates: Value) -> Value:
    """Rows added to a table (rows, width) of zeros."""
    if isinstance(rows, int) and rows <= FEW_ROWS:
        numbers = t.const(np.arange(rows, dtype=np.int64)[:, None])
        positive = t.where(indices < 0, indices + rows, indices)
        return t.gemm(t.cast(numbers.equals(t.unsqueeze(positive, [0])), updates.dtype), updates)
    total = t.product([rows, width])
    zeros = t.expand_to(t.const(0.0, updates.dtype), [total])
    summed = _placed(t, zeros, _positions(t, indices, width), updates, "add")
    return t.reshape(summed, [rows, width])


def _positions(t: Tape, rows: Value, width: Size) -> Value:
    """Row numbers (n) to places in a flattened table, (n * width); a negative row is one from the end."""
    if width == 1:
        return rows
    if isinstance(width, int):
        columns, stride = t.const(np.arange(width, dtype=np.int64)), t.ints(width)
    else:
        zero, one = t.const(np.int64(0)), t.const(np.int64(1))
        columns = t.op("Range", zero, t.op("Squeeze", width.value, sizes=()), one, sizes=(width.size,))
        stride = width.value
    return t.op("Reshape", t.unsqueeze(rows * stride, [1]) + columns, t.ints(-1))


def _placed(t: Tape, base: Value, positions: Value, updates: Value, reduction: str) -> Value:
    """Updates put at places of the flattened base; the result has the shape of the base."""
    flat, new = (t.op("Reshape", v, t.ints(-1)) for v in (base, updates))
    done = t.op("ScatterElements", flat, positions, new, axis=0, reduction=reduction)
    return t.op("Reshape", done, t.shape_of(base), sizes=base.sizes)


def vjp_gather_elements(node: Node, t: Tape) -> Cotangents:
    """y[i, j] = x[index[i, j], j]: dx is a sum over the places that read an element."""
    return (_Places(node, t, t.input(node, 1)).added(t.dy(node)),)


def vjp_gather_nd(node: Node, t: Tape) -> Cotangents:
    """y[i] = x[index[i]], where an index has several coordinates."""
    return (_Places(node, t, t.input(node, 1)).added(t.dy(node)),)


def vjp_scatter(node: Node, t: Tape) -> Cotangents:
    """ScatterElements and ScatterND: y is x, except where updates are put or combined with it.

    Of equal candidates for a maximum or minimum each gets the same share. A product is divided by the update.
    """
    x, u, y, dy = t.input(node, 0), t.input(node, 2), t.output(node), t.dy(node)
    places = _Places(node, t, t.input(node, 1))
    how = node.attrs.get("reduction", "none")
    if how == "none":
        return places.replaced(dy, t.zeros_like(u)), None, places.picked(dy)
    if how == "add":
        return dy, None, places.picked(dy)
    if how == "mul":
        factors = places.combined(t.expand(t.const(1.0, x.dtype), x), u, "mul")
        return dy * factors, None, places.picked(dy * y) / u
    own, chosen = t.cast(x.equals(y), x.dtype), t.cast(places.picked(y).equals(u), x.dtype)
    share = dy / (own + places.added(chosen))
    return own * share, None, chosen * places.picked(share)


@dataclass(frozen=True)
class _Places:
    """The places in the first input of a node that its second addresses."""

    node: Node
    t: Tape
    indices: Value

    @property
    def several(self) -> bool:
        """Whether an index has several coordinates."""
        return self.node.op in ("GatherND", "ScatterND")

    @property
    def axis(self) -> int:
        return int(self.node.attrs.get("axis", 0))

    def picked(self, x: Value) -> Value:
        """What stands at the places."""
        shape = self.t.input(self.node, 2).sizes
        if self.several:
            return self.t.op("GatherND", x, self.indices, sizes=shape)
        return self.t.op("GatherElements", x, self.indices, sizes=shape, axis=self.axis)

    def replaced(self, base: Value, updates: Value) -> Value:
        """The base with updates at the places."""
        if self.several:
            return self.t.op("ScatterND", base, self.indices, updates, sizes=base.sizes)
        return self.t.op("ScatterElements", base, self.indices, updates, sizes=base.sizes, axis=self.axis)

    def added(self, updates: Value) -> Value:
        """Zeros of the shape of the first input, to which updates are added."""
        return self.combined(self.t.zeros_like(self.t.input(self.node, 0)), updates, "add")

    def combined(self, base: Value, updates: Value, reduction: str) -> Value:
        """The base with updates added or multiplied to it at the places."""
        t = self.t
        if self.several:
            return _placed(t, base, _flat_positions(self.node, t, self.indices), updates, reduction)
        return t.op(
            "ScatterElements", base, self.indices, updates, sizes=base.sizes, axis=self.axis, reduction=reduction
        )


def _flat_positions(node: Node, t: Tape, indices: Value) -> Value:
    """Coordinates (..., k) as places in the flattened first input, with all elements behind the addressed axes."""
    x, batch = t.input(node, 0), int(node.attrs.get("batch_dims", 0))
    dims: list[Size] = [t.dim(x, a) for a in range(x.rank)]
    addressed = dims[batch : batch + indices.known[-1]]
    strides = [t.product(addressed[k + 1 :]) for k in range(len(addressed))]
    wrapped = t.op("Mod", indices, t.shape_vector(addressed), sizes=indices.sizes)
    rows = t.sum(wrapped * t.shape_vector(strides), [-1])
    if batch:
        zero, one = t.const(np.int64(0)), t.const(np.int64(1))
        samples, block = t.shape_vector([t.product(dims[:batch])]), t.shape_vector([t.product(addressed)])
        numbers = t.op("Range", zero, t.op("Squeeze", samples, sizes=()), one)
        shape: list[Size] = [*dims[:batch], *[1] * (indices.rank - 1 - batch)]
        rows = rows + t.reshape(numbers * block, shape)
    flat = t.op("Reshape", rows, t.ints(-1), sizes=(-1,))
    return _positions(t, flat, t.product(dims[batch + indices.known[-1] :]))


def vjp_one_hot(node: Node, t: Tape) -> Cotangents:
    """y = off + (on - off) hot: the two values get the sums of what they were written to."""
    if not t.needs(node, 2):
        return (None,)
    dy, values = t.dy(node), t.input(node, 2)
    zero_one = t.const([0.0, 1.0], values.dtype)
    hot = t.op("OneHot", t.input(node, 0), t.input(node, 1), zero_one, sizes=dy.sizes, dtype=dy.dtype, **node.attrs)
    on, whole = (t.op("ReduceSum", part, sizes=(1,) * dy.rank) for part in (dy * hot, dy))
    return None, None, t.concat([t.reshape(part, [1]) for part in (whole - on, on)], 0)
