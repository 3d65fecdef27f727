"""Which layers of a pruned model are fitted to the original: those that a removal reaches and that can be measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.cuts import AxisCut, Cuts, cut_array, cuts_of, masks
from onnxprune.extract import reached_from
from onnxprune.graph import Graph
from onnxprune.linear import LinearLayer, linear_layers
from onnxprune.nodes import Node
from onnxprune.ops.recurrent import GATES
from onnxprune.plan import Plan
from onnxprune.recover.targets import LinearTarget, RecurrentTarget, Target
from onnxprune.values import Coupling, Ints

__all__ = ["find_norms", "find_targets"]

Array = NDArray[Any]
Skip = Callable[[str, str], None]


@dataclass(frozen=True, eq=False)
class _Change:
    """What the plan did: ``reached`` are the tensors of the original that compute something else now."""

    original: Graph
    pruned: Graph
    plan: Plan
    cuts: Cuts
    reached: frozenset[str]

    def kept(self, tensor: str, axis: int) -> Ints | None:
        """Positions of the axis that are left, where the pruned model lacks some."""
        cut = self.cuts.get(tensor, {}).get(axis)
        if cut is None or not cut.removed.any() or self.pruned.shapes.get(tensor) == self.original.shapes.get(tensor):
            return None
        return _keep(cut)

    def silent(self, tensor: str, axis: int) -> NDArray[np.bool_] | None:
        """Positions of the axis that are there but were set to zero."""
        cut = self.cuts.get(tensor, {}).get(axis)
        if cut is None or self.pruned.shapes.get(tensor) != self.original.shapes.get(tensor):
            return None
        return cut.removed.reshape(-1)

    def fixed(self, weight: str) -> NDArray[np.bool_] | None:
        """Entries of a weight, as it is now, that the plan set to zero; None where there are none."""
        shape = self.original.shapes[weight]
        if self.pruned.shapes.get(weight) != shape:
            gone = self.plan.weights.get(weight)
            left = None if gone is None else cut_array(gone, self.cuts.get(weight, {}))
            return left if left is not None and left.any() else None
        zero = np.zeros(shape, np.bool_)
        for gone in masks(shape, self.cuts.get(weight, {})):
            zero |= gone
        if weight in self.plan.weights:
            zero |= self.plan.weights[weight]
        return zero if zero.any() else None


def _keep(cut: AxisCut) -> Ints:
    """Positions left; of a ragged axis in the order of its blocks."""
    if cut.along is None:
        return cut.keep
    return np.flatnonzero(~cut.removed.reshape(-1))


def _change(coupling: Coupling, pruned: Graph, plan: Plan) -> _Change:
    cuts = cuts_of(coupling, plan.units)
    seeds = {*cuts, *plan.weights}
    return _Change(coupling.graph, pruned, plan, cuts, reached_from(coupling.graph, seeds))


def find_targets(coupling: Coupling, pruned: Graph, plan: Plan, states: Mapping[str, str], skip: Skip) -> list[Target]:
    """The layers to fit, in the order of execution. ``states``: name of the original's Y for every recurrence.

    ``skip`` is told the name of every layer that is left as it is, and why.
    """
    change = _change(coupling, pruned, plan)
    found: list[Target] = [*_linear(change, skip), *_recurrent(change, states, skip)]
    return sorted(found, key=lambda target: target.number)


def find_norms(coupling: Coupling, pruned: Graph, plan: Plan, skip: Skip) -> list[Node]:
    """The BatchNormalization nodes of the pruned model whose input has changed, in the order of execution."""
    change = _change(coupling, pruned, plan)
    result = []
    for node in pruned.nodes:
        if node.op == "BatchNormalization" and node.input(0) in change.reached:
            if len(node.where) > 1 or any(node.input(k) not in pruned.weights for k in (3, 4)):
                skip(str(node), "its statistics are not constants of the main graph")
            else:
                result.append(node)
    return result


def _linear(change: _Change, skip: Skip) -> Iterator[LinearTarget]:
    before = {layer.output: layer for layer in linear_layers(change.original)}
    for layer in linear_layers(change.pruned):
        if layer.input not in change.reached and layer.weight not in change.plan.weights:
            continue
        name = layer.node.name or layer.output
        original = before.get(layer.output)
        if original is None or not layer.in_main_graph:
            skip(name, "it cannot be measured: it is inside the body of control flow")
        elif original.biased not in change.original.shapes or original.biased != layer.biased:
            skip(name, "the original has no such tensor")
        elif len(change.pruned.consumers[layer.weight]) > 1:
            skip(name, f"its weight `{layer.weight}` is shared with other nodes")
        else:
            axis = 1 if layer.convolves else len(change.original.shapes[layer.output]) - (2 if layer.left else 1)
            yield LinearTarget(
                original,
                _named(change.pruned, layer),
                change.kept(layer.output, axis),
                axis,
                change.fixed(layer.weight),
                change.silent(layer.output, axis),
                _mean(change.pruned, layer),
            )


def _mean(graph: Graph, layer: LinearLayer) -> str:
    """The mean of the BatchNormalization that alone reads a convolution, where no other node reads that constant."""
    readers = graph.consumers.get(layer.output, ())
    if not layer.convolves or len(readers) != 1 or readers[0][0].op != "BatchNormalization":
        return ""
    mean = readers[0][0].input(3)
    alone = mean in graph.weights and mean not in graph.origin and len(graph.consumers[mean]) == 1
    return mean if alone and layer.output not in graph.outputs else ""


def _named(graph: Graph, layer: LinearLayer) -> LinearLayer:
    """The layer with the bias under the name that the model has it by: shared vectors have several in the analysis."""
    return replace(layer, bias=graph.origin.get(layer.bias, layer.bias))


def _recurrent(change: _Change, states: Mapping[str, str], skip: Skip) -> Iterator[RecurrentTarget]:
    before = {node.outputs: node for node in change.original.nodes if node.op in GATES}
    for node in change.pruned.nodes:
        if node.op not in GATES or node.domain:
            continue
        first = before.get(node.outputs)
        touched = first is not None and (first.input(0) in change.reached or first.input(2) in change.reached)
        if first is None or not touched:
            continue
        reason = _obstacle(change, node, first, states)
        if reason:
            skip(str(node), reason)
        else:
            yield from _directions(change, node, first, states)


def _obstacle(change: _Change, node: Node, first: Node, states: Mapping[str, str]) -> str:
    if len(node.where) > 1:
        return "it cannot be measured: it is inside the body of control flow"
    if node.attrs.get("layout", 0):
        return "its batch is the first axis (layout=1)"
    if not all(first.input(k) in change.original.weights for k in (1, 2)):
        return "its weights are computed"
    if first.input(3) and first.input(3) not in change.original.weights:
        return "its bias is computed"
    if any(len(change.pruned.consumers[node.input(k)]) > 1 for k in (1, 2)):
        return "its weights are shared with other nodes"
    return "" if str(first.where) in states else "its states cannot be measured"


def _directions(change: _Change, node: Node, first: Node, states: Mapping[str, str]) -> Iterator[RecurrentTarget]:
    graph = change.original
    w, r = (np.asarray(graph.weights[first.input(k)].array(), np.float64) for k in (1, 2))
    b = np.zeros((len(w), 2 * w.shape[1]))
    if first.input(3):
        b = np.asarray(graph.weights[first.input(3)].array(), np.float64)
    cut = change.cuts.get(first.input(2), {}).get(2)
    smaller = change.pruned.shapes[node.input(2)] != graph.shapes[first.input(2)]
    start: Array | str | None = first.input(5) or None
    if isinstance(start, str) and start in graph.weights:
        start = graph.weights[start].array()
    kinds = (((0, 1), "xh"), ((2,), "x"), ((2,), "h")) if node.op == "GRU" else ((tuple(range(GATES[node.op])), "xh"),)
    fixed = [change.fixed(first.input(k)) if first.input(k) else None for k in (1, 2, 3)]
    w_now, r_now = (change.pruned.shapes[node.input(k)] for k in (1, 2))
    now = (w_now[1:], r_now[1:], (2 * w_now[1],))
    backwards = node.attrs.get("direction", "forward") == "reverse"
    for d in range(len(w)):
        keep = None
        if cut is not None and smaller:
            removed = cut.removed if cut.along is None else cut.removed[d]
            keep = np.flatnonzero(~removed.reshape(-1))
        zeros = None
        if any(f is not None for f in fixed):
            of_w, of_r, of_b = (
                np.zeros(shape, np.bool_) if f is None else f[d] for f, shape in zip(fixed, now, strict=True)
            )
            zeros = (of_w, of_r, of_b)
        for gates, uses in kinds:
            yield RecurrentTarget(
                node, first, d, backwards or d == 1, gates, uses, keep, states[str(first.where)],
                (w[d], r[d], b[d]), start, zeros,
            )  # fmt: skip
