"""Layers with weights: which constants may be masked, what kind of layer reads them, where in the model it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from onnxprune.criteria.slices import linear_weights
from onnxprune.graph import Graph
from onnxprune.nodes import Node
from onnxprune.ops import rule_for
from onnxprune.ops.rule import Role
from onnxprune.values import Coupling, Group

__all__ = ["Layer", "layers_with_weights", "producers", "prunable_weights"]

CONVOLUTIONS = frozenset(("Conv", "ConvTranspose", "FusedConv", "QLinearConv", "ConvInteger", "DeformConv"))


@dataclass(frozen=True)
class Layer:
    """A weight and the layer that multiplies by it. ``first``: no other layer comes before, ``last``: none behind."""

    weight: str
    convolves: bool
    first: bool
    last: bool


def prunable_weights(graph: Graph, *, include_biases: bool = False) -> tuple[str, ...]:
    """Names of the weights that may be masked: matrices and kernels of layers that multiply.

    That is: constants of linear role with two or more axes longer than 1, read by an operator that has MACs, of the
    highest rank among its constants. ``include_biases``: all constants of linear role that have an axis.
    """
    linear = linear_weights(graph)
    if include_biases:
        return linear
    return tuple(t for t in linear if sum(d > 1 for d in graph.weights[t].shape) > 1 and any(_users(graph, t)))


def layers_with_weights(graph: Graph) -> dict[str, Layer]:
    """Weight -> its layer, in the order of `prunable_weights`. A weight that several layers share is in all places."""
    weights = {t: tuple(_users(graph, t)) for t in prunable_weights(graph)}
    owners = {node.number for nodes in weights.values() for node in nodes}
    before, behind = _before(graph, owners), _behind(graph, owners)
    return {
        t: Layer(
            t,
            any(n.op in CONVOLUTIONS for n in nodes),
            any(n.number not in before for n in nodes),
            any(n.number not in behind for n in nodes),
        )
        for t, nodes in weights.items()
    }


def producers(coupling: Coupling) -> dict[str, tuple[str, ...]]:
    """Group -> the weights of `prunable_weights` that produce its units; empty where none does."""
    weights = set(prunable_weights(coupling.graph))

    def of(group: Group) -> tuple[str, ...]:
        mine = [m.tensor for m in group.weights if m.linear and not m.consumes and m.tensor in weights]
        return tuple(dict.fromkeys(mine))

    return {group.name: of(group) for group in coupling.groups}


def _users(graph: Graph, tensor: str) -> Iterator[Node]:
    """The nodes with MACs for which this constant is the weight."""
    rank = len(graph.weights[tensor].shape)
    for node in _readers(graph, tensor):
        rule = rule_for(node.domain, node.op)
        ranks = [len(graph.weights[i].shape) for i in node.inputs if i in graph.weights]
        if rule is not None and rule.macs is not None and rank >= max(ranks, default=0):
            yield node


def _readers(graph: Graph, tensor: str) -> Iterator[Node]:
    """The nodes that work with a constant, seen through those that only move or re-type it."""
    for node, k in graph.consumers.get(tensor, ()):
        rule = rule_for(node.domain, node.op)
        if rule is not None and rule.role(k) is Role.PASS:
            for output in node.outputs:
                yield from _readers(graph, output)
        else:
            yield node


def _before(graph: Graph, owners: set[int]) -> set[int]:
    """Numbers of the nodes that depend on a layer with weights."""
    found: set[int] = set()
    reached: set[str] = set()
    for node in graph.nodes:
        if any(i in reached for i in node.inputs):
            found.add(node.number)
        if node.number in owners or node.number in found:
            reached.update(node.outputs)
    return found


def _behind(graph: Graph, owners: set[int]) -> set[int]:
    """Numbers of the nodes that a layer with weights depends on."""
    found: set[int] = set()
    needed: set[str] = set()
    for node in reversed(graph.nodes):
        if any(o in needed for o in node.outputs):
            found.add(node.number)
        if node.number in owners or node.number in found:
            needed.update(i for i in node.inputs if i)
    return found
