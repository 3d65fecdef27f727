"""Gradients of quantised storage: the straight-through estimator, as training with simulated quantisation has it.

Rounding has no gradient, so it is taken for the identity (Bengio et al., arXiv:1308.3432); what is clipped at the ends
of the stored type's range gets none. With ``q = clip(round(x / s) + z)`` and ``y = (q - z) s``::

    dq/dx = 1 / s     dq/ds = -x / s^2    inside the range, else 0
    dy/dq = s         dy/ds = q - z

which together give the scale the gradient of learned step sizes (Esser et al., arXiv:1902.08153). The cotangent of a
quantised tensor is one of real numbers: it is of the type that the scale has.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto

from onnxprune.graph import Node
from onnxprune.ops.emitter import FLOATS, Value
from onnxprune.ops.tape import Tape

__all__ = ["RANGES", "vjp_dequantize", "vjp_quantize"]

Cotangents = Sequence[Value | None]

# Stored type -> smallest and largest number that it holds.
RANGES: dict[int, tuple[float, float]] = {
    TensorProto.INT4: (-8, 7),
    TensorProto.UINT4: (0, 15),
    TensorProto.INT8: (-128, 127),
    TensorProto.UINT8: (0, 255),
    TensorProto.INT16: (-32768, 32767),
    TensorProto.UINT16: (0, 65535),
    TensorProto.FLOAT8E4M3FN: (-448, 448),
    TensorProto.FLOAT8E4M3FNUZ: (-240, 240),
    TensorProto.FLOAT8E5M2: (-57344, 57344),
    TensorProto.FLOAT8E5M2FNUZ: (-57344, 57344),
}


def vjp_quantize(node: Node, t: Tape) -> Cotangents:
    """q = clip(round(x / s) + z): straight through inside the range."""
    x, table = t.input(node, 0), t.input(node, 1)
    if x.dtype not in FLOATS:
        return None, None
    dy, scale = t.cast(t.dy(node), x.dtype), t.cast(spread(node, t, table, x), x.dtype)
    low, high = RANGES[t.output(node).dtype]
    real = x / scale
    place = t.unary("Round", real) - (low + high) / 2
    zero = t.optional(node, 2)
    if zero is not None:
        place = place + spread(node, t, t.cast(zero, x.dtype), x)
    inside = t.unary("Abs", place) <= (high - low) / 2
    dx = t.where(inside, dy / scale, 0.0)
    return dx, gathered(node, t, -(dx * real), table, x) if t.needs(node, 1) else None


def vjp_dequantize(node: Node, t: Tape) -> Cotangents:
    """y = (q - z) s."""
    q, table, y, dy = t.input(node, 0), t.input(node, 1), t.output(node), t.dy(node)
    scale = t.cast(spread(node, t, table, q), dy.dtype)
    dq = dy * scale if t.needs(node, 0) else None
    return dq, gathered(node, t, dy * (y / scale), table, q) if t.needs(node, 1) else None


def spread(node: Node, t: Tape, table: Value, x: Value) -> Value:
    """One number per tensor, per entry of ``axis``, or per block of it, so that it broadcasts to x."""
    if not table.rank or table.known == (1,):
        return table
    axis, block = _place(node, x)
    if table.rank == 1:
        return t.reshape(table, [t.dim(table, 0) if a == axis else 1 for a in range(x.rank)])
    parts = [t.dim(table, a) for a in range(x.rank)]
    wide = t.expand_to(t.unsqueeze(table, [axis + 1]), [*parts[: axis + 1], block, *parts[axis + 1 :]])
    rows = [*parts[:axis], table.known[axis] * block, *parts[axis + 1 :]]
    return t.slice(t.reshape(wide, rows), axis, 0, x.known[axis])


def gathered(node: Node, t: Tape, values: Value, table: Value, x: Value) -> Value:
    """The sum of values of the shape of x over all elements that one entry of the table stands for."""
    if not table.rank or table.known == (1,):
        return values
    axis, block = _place(node, x)
    if table.rank == 1:
        return t.sum(values, [a for a in range(x.rank) if a != axis])
    short = table.known[axis] * block - x.known[axis]
    if short:
        pads = np.zeros(2 * x.rank, np.int64)
        pads[x.rank + axis] = short
        sizes = (*x.known[:axis], x.known[axis] + short, *x.known[axis + 1 :])
        values = t.op("Pad", values, t.ints(*pads.tolist()), sizes=sizes)
    parts = [t.dim(table, a) for a in range(x.rank)]
    return t.sum(t.reshape(values, [*parts[: axis + 1], block, *parts[axis + 1 :]]), [axis + 1])


def _place(node: Node, x: Value) -> tuple[int, int]:
    """Axis and block size."""
    return int(node.attrs.get("axis", 1)) % x.rank, int(node.attrs.get("block_size", 0))
