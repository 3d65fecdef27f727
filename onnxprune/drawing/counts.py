"""What the layers of a drawing cost: over all of them it adds up to `cost.cost` of the model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import prod

from onnxprune.cost import is_parameter
from onnxprune.drawing.flow import Flow
from onnxprune.graph import Graph
from onnxprune.nodes import Node
from onnxprune.ops import rule_for
from onnxprune.stored import numbers_per_entry

__all__ = ["multiplied", "readers_of", "shares", "uses_of"]


def multiplied(flow: Flow) -> dict[int, int]:
    """Site -> its multiply-accumulates, with those of the arithmetic on constants that goes into it."""
    counts: dict[int, int] = defaultdict(int)
    memo: dict[int, int | None] = {}
    for node in flow.graph.nodes:
        macs = _macs(flow.graph, node)
        site = _site(flow, node, memo) if macs else None
        if site is not None:
            counts[site] += macs
    return counts


def _macs(graph: Graph, node: Node) -> int:
    """Multiply-accumulates of one node, 0 where its rule has none or a shape is not known."""
    rule = rule_for(node.domain, node.op)
    touched = [t for t in (*node.inputs, *node.outputs) if t]
    if rule is None or rule.macs is None or any(t not in graph.shapes for t in (*node.inputs, *node.outputs[:1]) if t):
        return 0
    shapes = {t: graph.shapes[t] for t in touched if t in graph.shapes}
    return 0 if any(0 in shape for shape in shapes.values()) else rule.macs(node, shapes)


def readers_of(flow: Flow) -> dict[str, list[int]]:
    """Constant -> the sites that it goes into, directly or through arithmetic on constants, each use once."""
    graph = flow.graph
    found: dict[str, list[int]] = defaultdict(list)
    memo: dict[int, int | None] = {}
    for name in graph.weights:
        for node in uses_of(graph, name):
            site = _site(flow, node, memo)
            if site is not None:
                found[name].append(site)
    return found


def shares(flow: Flow, readers: Mapping[str, list[int]]) -> dict[int, int]:
    """Site -> its parameters. A matrix counts for the first of its readers, a vector for every one."""
    graph = flow.graph
    counts: dict[int, int] = defaultdict(int)
    for name, sites in readers.items():
        if is_parameter(graph, name):
            shape = graph.weights[name].shape
            size = prod(shape) * numbers_per_entry(graph, name)
            for site in sites if sum(d > 1 for d in shape) <= 1 else sites[:1]:
                counts[site] += size
    return counts


def uses_of(graph: Graph, tensor: str) -> list[Node]:
    """The nodes that read a constant; an Identity is not a use of its own."""
    found: list[Node] = []
    stack = [tensor]
    while stack:
        for node, _ in graph.consumers.get(stack.pop(), ()):
            if node.op == "Identity" and not node.domain:
                stack.append(node.outputs[0])
            else:
                found.append(node)
    return found


def _site(flow: Flow, node: Node, memo: dict[int, int | None]) -> int | None:
    """The first site that the result of a node goes into; its own where it is part of one."""
    seen, stack = list[int](), [node]
    result: int | None = None
    while stack:
        now = stack.pop()
        if now.number in flow.site_of:
            result = flow.site_of[now.number]
            break
        if now.number in memo:
            result = memo[now.number]
            if result is not None:
                break
            continue
        seen.append(now.number)
        memo[now.number] = None
        following = {reader.number: reader for o in now.outputs if o for reader, _ in flow.graph.consumers.get(o, ())}
        stack += [following[number] for number in sorted(following, reverse=True)]
    for number in seen:
        memo[number] = result
    return result
