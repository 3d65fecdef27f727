"""How far back gradients get: which tensors lie in front of an operator that has no gradient rule.

A tensor is *out of reach* where such an operator is on any way from it to the outputs: leaving that way out would give
a gradient that is wrong, not one that is incomplete.
"""

from __future__ import annotations

from collections.abc import Collection

from onnxprune.graph import Graph
from onnxprune.nodes import Node
from onnxprune.ops import rule_for
from onnxprune.ops.emitter import FLOATS

__all__ = ["out_of_reach"]


def out_of_reach(graph: Graph, outputs: Collection[str] | None = None) -> dict[str, Node]:
    """Tensor of the main graph -> the last node without a rule between it and the outputs (those of the graph)."""
    found: dict[str, Node] = {}
    live = set(graph.outputs if outputs is None else outputs)
    for node in reversed(graph.nodes):
        if len(node.where) > 1 or live.isdisjoint(node.outputs):
            continue
        rule = rule_for(node.domain, node.op)
        if rule is not None and rule.flat:
            continue
        known = rule is not None and (rule.vjp is not None or rule.expand is not None)
        behind = next((found[name] for name in node.outputs if name in found), None)
        blocker = behind if known else node
        for name in _reads(graph, node):
            if graph.dtypes.get(name) in FLOATS:
                live.add(name)
                if blocker is not None:
                    found.setdefault(name, blocker)
    return found


def _reads(graph: Graph, node: Node) -> set[str]:
    """What a node reads, from inside its bodies as well."""
    names = set(node.inputs)
    if node.bodies:
        deep = len(node.where)
        names.update(i for n in graph.nodes if n.where[:deep] == node.where for i in n.inputs)
    return names - {""}
