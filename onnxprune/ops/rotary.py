"""Rotary position embeddings: pairs of dims of a head are turned by an angle that depends on the position.

``y[i] = cos x[i] - sin x[j]``, ``y[j] = cos x[j] + sin x[i]``, where ``j`` is ``i`` plus half of the rotated dims, or
the next one where they are interleaved. Heads are free; inside a head both of a pair go, with their column of the
tables.
"""

from __future__ import annotations

import numpy as np

from onnxprune.graph import Node
from onnxprune.ops.cutting import Cutter
from onnxprune.ops.heads import Heads, left, place
from onnxprune.ops.rotary_gradients import expand_rotary
from onnxprune.ops.rule import Role, Rule, Shapes, zero_keeps
from onnxprune.ops.ties import Ties
from onnxprune.values import Ints

__all__ = ["tie_pairs"]


def tie_pairs(t: Ties, dims: Ints, cos: str, sin: str, *, interleaved: bool) -> None:
    """Both dims of a pair and their column of both tables are one thing; dims behind the rotated ones are free."""
    half = t.graph.shapes[cos][-1]
    turned = np.arange(2 * half)
    first, second = (turned[0::2], turned[1::2]) if interleaved else (turned[:half], turned[half:])
    t.tie_ids(dims[first], dims[second])
    t.tie_ids(dims[second], dims[first])
    for table in (cos, sin):
        t.tie_ids(dims[first], t.el(table, t.rank(table) - 1), None)
        for axis in range(t.rank(table) - 1):
            t.freeze(table, axis, "rotary tables are read by position")


def _tables(node: Node) -> tuple[str, str, str]:
    """cos, sin, positions: the standard operator and onnxruntime's have another order."""
    if node.domain:
        return node.input(2), node.input(3), node.input(1)
    return node.input(1), node.input(2), node.input(3)


def _heads(node: Node, shapes: Shapes) -> tuple[int, int]:
    """Number of heads and their size."""
    x = shapes[node.input(0)]
    if len(x) == 4:
        return x[1], x[3]
    given = int(node.attrs.get("num_heads", 0))
    heads = given or x[2] // (2 * shapes[_tables(node)[0]][-1])
    return heads, x[2] // heads


def couple_rotary(node: Node, t: Ties) -> None:
    """x (batch, positions, heads x dims) or (batch, heads, positions, dims) -> y of the same shape."""
    x, y = node.input(0), node.output(0)
    cos, sin, where = _tables(node)
    heads, size = _heads(node, t.graph.shapes)
    h = Heads.declare(t, heads, heads, size)
    t.tie(x, 0, y, 0, 0)
    if where:
        t.freeze_all(where, f"{node} reads positions from it")
    place(t, x, h.query, h.dims, into=False, k=0)
    tie_pairs(t, h.dims, cos, sin, interleaved=bool(node.attrs.get("interleaved", 0)))
    place(t, y, h.query, h.dims, into=True)


def cut_rotary(node: Node, c: Cutter) -> None:
    """The number of heads and the number of rotated dims, where the node says them."""
    x = node.input(0)
    cos = _tables(node)[0]
    if not c.changed(x):
        return
    shapes = {tensor: c.old_shape(tensor) for tensor in (x, cos)}
    heads, size = _heads(node, shapes)
    now = c.size(x, 1) if len(shapes[x]) == 4 else left(c, x, 2, (heads, size))[0]
    if node.attrs.get("num_heads", 0):
        c.set_attr(node, "num_heads", now)
    if node.attrs.get("rotary_embedding_dim", 0):
        c.set_attr(node, "rotary_embedding_dim", 2 * c.size(cos, len(shapes[cos]) - 1))


D, T, I = Role.DATA, Role.TABLE, Role.INDEX  # noqa: E741
RULES = (
    Rule("RotaryEmbedding", couple_rotary, (D, I, T, T), zero_keeps, cut_rotary, domain="com.microsoft",
         expand=expand_rotary),
    Rule("RotaryEmbedding", couple_rotary, (D, T, T, I), zero_keeps, cut_rotary, expand=expand_rotary),
)  # fmt: skip
