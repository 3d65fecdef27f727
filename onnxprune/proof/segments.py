"""A model in pieces: where it can be cut, and the sub-model between two cuts.

A cut lies between two nodes. What crosses it is handed on from piece to piece: one activation where that is possible
(else a few), and whatever the removal does not reach or is an integer (attention masks, rotary tables, sizes).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import onnx

from onnxprune.extract import crossing, reached_from, reads
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.proof.decisions import FLOATS

__all__ = ["Segment", "split", "whole"]

PIECES = 16  # what is aimed at; a piece is never smaller than the largest node
SMALLEST = 32 << 20  # bytes of weights
CROSSING = (1, 2, 4)  # activations that may cross a cut, tried in this order


@dataclass(frozen=True)
class Segment:
    """A piece: nodes ``first`` to ``last``, what is handed to it (beside graph inputs), and what it hands on.

    ``outputs`` holds the graph outputs that are made in it as well. ``nbytes``: its weights.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    first: int
    last: int
    nbytes: int


def whole(graph: Graph) -> tuple[Segment, ...]:
    """The model as one piece."""
    nodes = graph.model.proto.graph.node
    made = {name for node in nodes for name in node.output}
    return (Segment((), tuple(o for o in graph.outputs if o in made), 0, len(nodes) - 1, graph.model.nbytes),)


def split(graph: Graph, reached: Collection[str], others: Sequence[Model]) -> tuple[Segment, ...]:
    """Pieces of roughly equal weight; one piece where the model has no cuts.

    A tensor can cross a cut if all ``others`` (the masked and the removed model) have it as well.
    """
    nodes = graph.model.proto.graph.node
    sizes = [sum(graph.model.weights[i].nbytes for i in reads(n) if i in graph.model.weights) for n in nodes]
    target = max(graph.model.nbytes // PIECES, max(sizes, default=0), SMALLEST)
    tensors = list(crossing(graph, reached_from(graph, graph.inputs)))
    shared = set.intersection(*(_made(m.proto.graph) for m in others)) if others else _made(graph.model.proto.graph)
    best: list[int] = []
    for most in CROSSING:
        allowed = [_count(graph, names, reached, shared) <= most for names in tensors]
        cuts = _positions(sizes, allowed, target)
        if len(cuts) > len(best):
            best = cuts
        if _largest(sizes, cuts) <= 2 * target:
            break
    return tuple(_segments(graph, best, tensors, sizes))


def _made(graph: onnx.GraphProto) -> set[str]:
    return {name for node in graph.node for name in node.output}


def _count(graph: Graph, names: Sequence[str], reached: Collection[str], shared: Collection[str]) -> int:
    """How many activations cross; very many where something cannot cross at all."""
    if any(name not in shared or name not in graph.dtypes for name in names):
        return max(CROSSING) + 1
    return sum(1 for name in names if name in reached and graph.dtypes[name] in FLOATS)


def _positions(sizes: Sequence[int], allowed: Sequence[bool], target: int) -> list[int]:
    """Cut behind these nodes: before a piece grows past the target, at the last place that is allowed."""
    cuts: list[int] = []
    held = up_to_place = 0
    place = -1
    for n, size in enumerate(sizes):
        if held + size > target and place >= 0:
            cuts.append(place)
            held, place = held - up_to_place, -1
        held += size
        if allowed[n] and held:
            place, up_to_place = n, held
    return cuts


def _largest(sizes: Sequence[int], cuts: Sequence[int]) -> int:
    edges = [0, *(c + 1 for c in cuts), len(sizes)]
    return max(sum(sizes[a:b]) for a, b in pairwise(edges))


def _segments(
    graph: Graph, cuts: Sequence[int], crossing: Sequence[tuple[str, ...]], sizes: Sequence[int]
) -> Iterator[Segment]:
    nodes = graph.model.proto.graph.node
    inputs: tuple[str, ...] = ()
    edges = [*cuts, len(nodes) - 1]
    start = 0
    for edge in edges:
        made = {name for node in nodes[start : edge + 1] for name in node.output}
        onward = crossing[edge] if edge < len(nodes) - 1 else ()
        outputs = dict.fromkeys(o for o in (*onward, *graph.outputs) if o in made)
        yield Segment(inputs, tuple(outputs), start, edge, sum(sizes[start : edge + 1]))
        inputs, start = onward, edge + 1
