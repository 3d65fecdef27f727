"""Gradients of selections by value: what was picked gives its cotangent back to the place that it came from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxprune.errors import UnsupportedModel
from onnxprune.graph import Node
from onnxprune.ops.emitter import INT64, Value
from onnxprune.ops.tape import Tape

__all__ = ["vjp_compress", "vjp_det", "vjp_reverse_sequence", "vjp_trilu", "vjp_unique"]

Cotangents = Sequence[Value | None]


def vjp_compress(node: Node, t: Tape) -> Cotangents:
    """Slices along ``axis`` where the condition holds; without an axis, elements of the flattened tensor."""
    places = t.op("NonZero", t.input(node, 1), dtype=INT64)
    return _put_back(node, t, places), None


def vjp_unique(node: Node, t: Tape) -> Cotangents:
    """Of several equal elements (slices along ``axis``) the first one gets the cotangent."""
    return (_put_back(node, t, t.ask(node, 1, dtype=INT64)),)


def _put_back(node: Node, t: Tape, places: Value) -> Value:
    """The cotangent in rows ``places`` of zeros. How many there are depends on data, so no size is taken as known."""
    x, dy, axis = t.input(node, 0), t.dy(node), node.attrs.get("axis")
    zeros = t.zeros_like(x)
    if axis is None:
        flat = t.op("Reshape", zeros, t.ints(-1))
        found = t.op("ScatterElements", flat, t.op("Reshape", places, t.ints(-1)), dy, axis=0)
        return t.op("Reshape", found, t.shape_of(x), sizes=x.sizes)
    axis %= x.rank
    rows = t.op("Reshape", places, t.ints(*(-1 if a == axis else 1 for a in range(x.rank))))
    everywhere = t.op("Expand", rows, t.op("Shape", dy, dtype=INT64))
    return t.op("ScatterElements", zeros, everywhere, dy, sizes=x.sizes, axis=axis)


def vjp_reverse_sequence(node: Node, t: Tape) -> Cotangents:
    """Turning around twice changes nothing."""
    dy = t.dy(node)
    attrs = {key: node.attrs[key] for key in ("batch_axis", "time_axis") if key in node.attrs}
    return t.op("ReverseSequence", dy, t.input(node, 1), sizes=dy.sizes, **attrs), None


def vjp_trilu(node: Node, t: Tape) -> Cotangents:
    """The same triangle of the cotangent."""
    dy = t.dy(node)
    return t.op("Trilu", dy, t.optional(node, 1), sizes=dy.sizes, upper=node.attrs.get("upper", 1)), None


def vjp_det(node: Node, t: Tape) -> Cotangents:
    """The matrix of cofactors, which exists for singular matrices as well: (-1)^(i+j) times minor i, j.

    Raises UnsupportedModel where the size of the matrix is dynamic.
    """
    x = t.input(node, 0)
    size = x.known[-1]
    if size < 0:
        raise UnsupportedModel(
            f"{node} takes the determinant of a matrix of dynamic size, which has no gradient rule",
            "Export the model with a fixed size of the matrix.",
        )
    dy = t.unsqueeze(t.dy(node), [-2, -1])
    if size == 1:
        return (dy,)
    others = np.array([[k for k in range(size) if k != gone] for gone in range(size)], np.int64)
    batch, rows = x.known[:-2], t.const(others)
    minors = t.op("Gather", x, rows, sizes=(*batch, size, size - 1, size), axis=x.rank - 2)
    minors = t.op("Gather", minors, rows, sizes=(*batch, size, size - 1, size, size - 1), axis=x.rank)
    front = len(batch)
    minors = t.transpose(minors, [*range(front), front, front + 2, front + 1, front + 3])
    signs = (-1.0) ** np.add.outer(np.arange(size), np.arange(size))
    return (dy * (t.op("Det", minors, sizes=(*batch, size, size)) * t.const(signs, x.dtype)),)
