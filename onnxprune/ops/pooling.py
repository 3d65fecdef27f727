"""Pooling and Resize: every channel on its own, spatial positions frozen."""

from __future__ import annotations

from onnxprune.graph import Node
from onnxprune.ops.cutting import Cutter
from onnxprune.ops.pooling_gradients import (
    vjp_average_pool,
    vjp_global_average_pool,
    vjp_global_lp_pool,
    vjp_global_max_pool,
    vjp_lp_pool,
    vjp_max_pool,
)
from onnxprune.ops.resize_gradients import vjp_resize, vjp_upsample
from onnxprune.ops.rule import Role, Rule, zero_keeps
from onnxprune.ops.ties import Ties

SPATIAL = "spatial positions are not independent of each other"


def couple_pool(node: Node, t: Ties) -> None:
    """x (N, C, spatial) -> y (N, C, smaller); indices of MaxPool have the same axes."""
    x = node.input(0)
    for y in node.outputs:
        if y and t.shape(y) is not None:
            for axis in (0, 1):
                t.tie(x, axis, y, axis, 0)
            for axis in range(2, t.rank(y)):
                t.freeze(y, axis, SPATIAL)
    for axis in range(2, t.rank(x)):
        t.freeze(x, axis, SPATIAL)
    if len(node.outputs) > 1 and node.outputs[1]:
        t.freeze(x, 1, f"{node} gives indices into the whole tensor")


def couple_resize(node: Node, t: Ties) -> None:
    """Axes that keep their size tie; those that change are frozen."""
    x, y = node.input(0), node.output(0)
    for axis, (a, b) in enumerate(zip(t.sizes(x), t.sizes(y), strict=True)):
        if (a == b and axis < 2) or (a == b and a > 1 and _scale_one(node, t, axis)):
            t.tie(x, axis, y, axis, 0)
        else:
            t.freeze(x, axis, SPATIAL)
            t.freeze(y, axis, SPATIAL)


def _scale_one(node: Node, t: Ties, axis: int) -> bool:
    scales = t.graph.value(node.input(2)) if node.op == "Resize" and node.input(2) else None
    return scales is not None and scales.size > axis and float(scales[axis]) == 1.0


def cut_resize(node: Node, c: Cutter) -> None:
    """Given sizes follow; scales of 1 stay true by themselves."""
    if not c.changed(node.inputs[0]):
        return
    k = 3
    if node.op != "Resize" or not node.input(k):
        return
    now = c.value(node.inputs[k])
    shape = c.new_shape(node.outputs[0])
    axes = node.attrs.get("axes", range(len(shape)))
    if now is not None:
        c.want(node, k, [shape[a] for a in axes])


D, S = Role.DATA, Role.SHAPE
POOLS = {
    "MaxPool": vjp_max_pool,
    "AveragePool": vjp_average_pool,
    "LpPool": vjp_lp_pool,
    "GlobalAveragePool": vjp_global_average_pool,
    "GlobalMaxPool": vjp_global_max_pool,
    "GlobalLpPool": vjp_global_lp_pool,
}
RULES = (
    *(Rule(op, couple_pool, (D,), zero_keeps, vjp=vjp) for op, vjp in POOLS.items()),
    Rule("Resize", couple_resize, (D, S), zero_keeps, cut_resize, vjp=vjp_resize),
    Rule("Upsample", couple_resize, (D, S), zero_keeps, vjp=vjp_upsample),
)
