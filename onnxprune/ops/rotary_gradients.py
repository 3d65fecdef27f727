"""Rotary position embeddings taken apart: slices, products with the tables, and a Concat.

``y[i] = cos x[i] - sin x[j]``, ``y[j] = cos x[j] + sin x[i]`` for the pairs (i, j) of a head; the dims behind those
that are turned stay.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnxprune.graph import Node
from onnxprune.ops.emitter import INT64, Value
from onnxprune.ops.tape import Tape

__all__ = ["expand_rotary", "turn"]

Cotangents = Sequence[Value | None]


def turn(t: Tape, x: Value, cos: Value, sin: Value, *, axis: int, interleaved: bool) -> Value:
    """x (batch, .., dims), its axis ``axis`` being the positions; cos and sin (batch or 1, positions, half)."""
    half = cos.known[-1]
    heads = [3 - axis]
    cos, sin = t.unsqueeze(cos, heads), t.unsqueeze(sin, heads)
    turned = t.slice(x, 3, 0, 2 * half)
    if interleaved:
        pairs = t.reshape(turned, [*(t.dim(x, a) for a in range(3)), half, 2])
        first, second = (t.squeeze(t.slice(pairs, 4, k, k + 1), [4]) for k in (0, 1))
    else:
        first, second = t.slice(turned, 3, 0, half), t.slice(turned, 3, half, 2 * half)
    parts = [first * cos - second * sin, second * cos + first * sin]
    if interleaved:
        joined = t.concat([t.unsqueeze(part, [4]) for part in parts], 4)
        parts = [t.reshape(joined, [*(t.dim(x, a) for a in range(3)), 2 * half])]
    if x.known[3] > 2 * half:
        parts.append(t.slice(x, 3, 2 * half, x.known[3]))
    return t.concat(parts, 3)


def rows_of(t: Tape, table: Value, positions: Value) -> Value:
    """Rows of a table (positions, half) by number: (batch, positions, half)."""
    sizes = None if positions.sizes is None else (*positions.sizes, table.known[1])
    return t.op("Gather", table, positions, sizes=sizes, axis=0)


def expand_rotary(node: Node, t: Tape) -> Cotangents:
    """x (batch, positions, heads x dims) or (batch, heads, positions, dims); tables as `ops.rotary` has them."""
    x = t.input(node, 0)
    cos, sin, where = (2, 3, 1) if node.domain else (1, 2, 3)
    tables = [t.input(node, cos), t.input(node, sin)]
    flat = x.rank == 3
    positions = t.dim(x, 1 if flat else 2)
    if t.has(node, where):
        at = t.cast(t.input(node, where), INT64)
        if at.rank == 1:  # one offset for all
            at = t.unsqueeze(t.count_up(positions), [0]) + at
        tables = [rows_of(t, table, at) for table in tables]
    whole = x
    if flat:
        heads = int(node.attrs.get("num_heads", 0)) or x.known[2] // (2 * tables[0].known[-1])
        whole = t.reshape(x, [t.dim(x, 0), positions, heads, x.known[2] // heads])
    interleaved = bool(node.attrs.get("interleaved", 0))
    y = turn(t, whole, *tables, axis=1 if flat else 2, interleaved=interleaved)
    return (t.reshape_like(y, x),)
