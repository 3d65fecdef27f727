"""Reductions, and operators that look along a whole axis.

A reduction over a pruned axis is exact when removed elements are 0 there and 0 is neutral (Sum, L1, L2, SumSquare);
Mean, Max, Min, Prod and LogSumExp change what is left, so they are inexact. Softmax, ArgMax, TopK and CumSum along
the axis freeze it.
"""

from __future__ import annotations

from onnxprune.graph import Graph, Node
from onnxprune.ops.elementwise import zero_hazard
from onnxprune.ops.reduction_gradients import REDUCTIONS
from onnxprune.ops.rule import Role, Rule, zero_keeps, zero_lost
from onnxprune.ops.ties import Ties

NEUTRAL = ("ReduceSum", "ReduceL1", "ReduceL2", "ReduceSumSquare")
RENORMALISED = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceLogSum", "ReduceLogSumExp")


def reduced_axes(graph: Graph, node: Node) -> tuple[int, ...] | None:
    """Axes that a Reduce* node runs over, or None where they depend on data."""
    rank = len(graph.shapes[node.inputs[0]])
    axes = node.attrs.get("axes")
    if axes is None and node.input(1):
        value = graph.value(node.inputs[1])
        if value is None:
            return None
        axes = value.tolist()
    if not axes:
        return () if node.attrs.get("noop_with_empty_axes", 0) else tuple(range(rank))
    return tuple(int(a) % rank for a in axes)


def couple_reduce(node: Node, t: Ties) -> None:
    """Kept axes tie; reduced axes are exact, inexact or frozen by what the reduction does to zeros."""
    x, y = node.input(0), node.output(0)
    axes = reduced_axes(t.graph, node)
    if axes is None:
        t.freeze_node(node, f"the axes of {node} depend on data")
        return
    keep = [a for a in range(t.rank(x)) if a not in axes]
    keepdims = node.attrs.get("keepdims", 1)
    t.tie_like(x, y, [(a, a if keepdims else keep.index(a)) for a in keep], 0)
    for axis in axes:
        if node.op not in NEUTRAL:
            t.renormalises(x, axis, node.op)
        elif node.op == "ReduceSum" and is_mean_divisor(t.graph, node):
            t.renormalises(x, axis, "a mean (ReduceSum / Shape)")
        else:
            t.contracts(t.el(x, axis))


def is_mean_divisor(graph: Graph, node: Node) -> bool:
    """Whether the sum is divided by a size that shape arithmetic computes: a mean in disguise."""
    readers = graph.consumers.get(node.outputs[0], ())
    return any(r.op == "Div" and k == 0 and r.inputs[1] in graph.from_shape for r, k in readers)


def couple_along_axis(node: Node, t: Ties) -> None:
    """The operator compares or accumulates along ``axis``, which stays whole; the other axes tie."""
    x = node.input(0)
    place = _axis(t.graph, node)
    if place is None:
        t.freeze_node(node, f"the axis of {node} depends on data")
        return
    axis = place % max(t.rank(x), 1)
    flattens = node.op in ("Softmax", "LogSoftmax", "Hardmax") and node.version < 13
    for a in range(t.rank(x)):
        if a == axis or (flattens and a > axis):
            t.freeze(x, a, f"{node} runs along it")
    for y in node.outputs:
        if not y or t.shape(y) is None:
            continue
        if t.rank(y) == t.rank(x):
            t.tie_like(x, y, [(a, a) for a in range(t.rank(x)) if t.sizes(x)[a] == t.sizes(y)[a]], 0)
        else:
            kept = [a for a in range(t.rank(x)) if a != axis]
            t.tie_like(x, y, [(a, b) for b, a in enumerate(kept)], 0)
        for b in range(t.rank(y)):
            if t.rank(y) == t.rank(x) and b == axis:
                t.freeze(y, b, f"{node} runs along it")


def _axis(graph: Graph, node: Node) -> int | None:
    if node.op == "CumSum":
        value = graph.value(node.input(1))
        return None if value is None else int(value.reshape(-1)[0])
    default = {"ArgMax": 0, "ArgMin": 0, "TopK": -1}.get(node.op, 1 if node.version < 13 else -1)
    return int(node.attrs.get("axis", default))


D, S = Role.DATA, Role.SHAPE
LOGARITHMS = {"ReduceLogSum": zero_hazard, "ReduceLogSumExp": zero_lost}
FLAT = ("Hardmax", "ArgMax", "ArgMin")
RULES = (
    *(
        Rule(op, couple_reduce, (D, S), LOGARITHMS.get(op, zero_keeps), vjp=REDUCTIONS[op])
        for op in (*NEUTRAL, *RENORMALISED)
    ),
    *(
        Rule(op, couple_along_axis, (D, S), zero_lost, vjp=REDUCTIONS.get(op), flat=op in FLAT)
        for op in ("Softmax", "LogSoftmax", "TopK", "CumSum", *FLAT)
    ),
)
