"""If, Loop and Scan: what goes into a body, round it and out again is the same thing under several names.

The nodes of the bodies speak for themselves; the rule ties the node's inputs to the body's formal inputs, the body's
outputs to the node's, and in a Loop or Scan what is carried out of one round to what enters the next. Slices of a
scanned tensor and slices collected from all rounds lack the axis that counts the rounds, which stays.

A carried element is 0 in every round if it is at the start and if the body keeps it so (`coupling.zero_flags` runs
until nothing changes).
"""

from __future__ import annotations

from onnxprune.control import body_inputs, body_outputs, carried
from onnxprune.graph import Graph, Node
from onnxprune.ops.control_flow_gradients import expand_if, expand_loop, expand_scan
from onnxprune.ops.cutting import Cutter
from onnxprune.ops.rule import Role, Rule, zero_keeps
from onnxprune.ops.ties import Ties


def couple_control_flow(node: Node, t: Ties) -> None:
    """Tie names of the same thing; freeze what is not the same in every round or branch."""
    if node.op == "Scan" and node.version < 9:
        _freeze_inside(node, t, f"{node} is of a version before 9")
        return
    if _carries_changing_shapes(node, t.graph):
        _freeze_inside(node, t, f"{node} carries a tensor whose shape changes from round to round, or is unknown")
        return
    steps: list[tuple[str, str, int | None, bool]]
    steps = [(p.outer, p.inner, p.axis, True) for p in body_inputs(node)]
    steps += [(p.inner, p.outer, p.axis, False) for p in body_outputs(node)]
    steps += [(after, before, None, True) for before, after in carried(node)]
    if node.op == "Loop":  # without a round, what goes in comes out
        steps += [(p.outer, y, None, True) for p, y in zip(body_inputs(node), node.outputs, strict=False)]
    for source, target, axis, slices in steps:
        _tie(node, t, source, target, axis, slices)
    for tensor in _controls(node):
        t.freeze_all(tensor, f"{node} decides by it what to run")


def _carries_changing_shapes(node: Node, graph: Graph) -> bool:
    """Shapes inside the body were found on the assumption that this is not so."""
    pairs = [(graph.shape(before), graph.shape(after)) for before, after in carried(node)]
    starts = [(graph.shape(p.outer), graph.shape(p.inner)) for p in body_inputs(node) if p.axis is None]
    return any(a != b for a, b in pairs) or any(a != b for a, b in starts if a is not None and b is not None)


def _controls(node: Node) -> list[str]:
    """What decides which branch runs, and whether there is another round."""
    if node.op == "If":
        return [node.inputs[0]]
    if node.op == "Loop":
        body = node.bodies["body"]
        return [i for i in (*node.inputs[:2], *body.inputs[:2], *body.outputs[:1]) if i]
    return []


def _tie(node: Node, t: Ties, source: str, target: str, axis: int | None, slices: bool) -> None:
    """``axis`` counts the rounds: of the source where it ``slices``, else of the target."""
    if not source or not target:
        return
    a, b = t.shape(source), t.shape(target)
    if a is None or b is None or len(a) != len(b) + (0 if axis is None else 1 if slices else -1):
        for tensor in (source, target):
            t.freeze_all(tensor, f"the shapes at {node} are unknown")
        return
    if axis is None:
        pairs = [(k, k) for k in range(len(a))]
    else:
        whole = source if slices else target
        rounds = axis % t.rank(whole)
        t.freeze(whole, rounds, f"{node} counts rounds along it")
        rest = [k for k in range(t.rank(whole)) if k != rounds]
        pairs = [(k, i) if slices else (i, k) for i, k in enumerate(rest)]
    same = [(i, k) for i, k in pairs if a[i] == b[k]]
    t.tie_like(source, target, same)
    for i, k in pairs:
        if a[i] != b[k]:
            t.freeze(source, i, f"it has another size elsewhere in {node}")
            t.freeze(target, k, f"it has another size elsewhere in {node}")


def _freeze_inside(node: Node, t: Ties, reason: str) -> None:
    """Everything that the node touches, and everything that its bodies touch."""
    t.freeze_node(node, reason)
    depth = len(node.where)
    for inner in t.graph.nodes[: node.number]:
        if inner.where[:depth] == node.where:
            t.freeze_node(inner, reason)


def cut_rounds(node: Node, c: Cutter) -> None:
    """A number of rounds that was read off a cut axis stays what it was."""
    rounds = node.input(0) if node.op == "Loop" else ""
    if rounds in c.graph.from_shape:
        c.want(node, 0, c.graph.values[rounds])


RULES = tuple(
    Rule(op, couple_control_flow, (Role.PASS,), zero_keeps, cut_rounds, shapeless=True, expand=expand)
    for op, expand in (("If", expand_if), ("Loop", expand_loop), ("Scan", expand_scan))
)
