"""A part of a model as a model: from tensors that are handed to it to tensors that are asked of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import onnx

from onnxprune._graphs import bodies, free_names, refill
from onnxprune.graph import Graph
from onnxprune.model import Model

__all__ = ["crossing", "extract", "reached_from", "reads"]


def reads(node: onnx.NodeProto) -> set[str]:
    """The tensors that a node reads, by itself or from inside its bodies."""
    names = set(node.input)
    for body in bodies((node,)):
        names |= free_names(body)
    return names - {""}


def extract(
    model: Model,
    inputs: Sequence[str],
    outputs: Sequence[str],
    types: Mapping[str, int],
    shapes: Mapping[str, Sequence[int | str | None]] | None = None,
) -> Model:
    """The sub-model from ``inputs`` (and graph inputs) to ``outputs``, with the nodes and weights that it needs.

    ``types``: element type per tensor; ``shapes``: what is to be declared of inputs (nothing by default).
    Outputs that this model does not have are left out.
    """
    graph = model.proto.graph
    producer = {name: n for n, node in enumerate(graph.node) for name in node.output if name}
    given = {value.name for value in graph.input} - model.weights.keys()
    needed: set[int] = set()
    names: set[str] = set()
    stack = [o for o in outputs if o in producer and o not in inputs]
    while stack:
        name = stack.pop()
        if name in names:
            continue
        names.add(name)
        if name in inputs or name not in producer or producer[name] in needed:
            continue
        needed.add(producer[name])
        stack.extend(reads(graph.node[producer[name]]))
    editor = model.edit()
    editor.weights = {name: weight for name, weight in model.weights.items() if name in names}
    part = editor.proto.graph
    _keep(part.node, [n for n in range(len(graph.node)) if n in needed])
    _keep(part.input, [n for n, v in enumerate(graph.input) if v.name in names and v.name not in inputs])
    _keep(part.initializer, [n for n, t in enumerate(graph.initializer) if t.name in names])
    _keep(part.sparse_initializer, [n for n, t in enumerate(graph.sparse_initializer) if t.values.name in names])
    del part.value_info[:]
    part.input.extend(
        onnx.helper.make_tensor_value_info(name, types[name], (shapes or {}).get(name))
        for name in inputs
        if name in names and name not in given
    )
    declared = {value.name: value for value in graph.output}
    del part.output[:]
    for name in outputs:
        if name in producer:
            part.output.append(declared.get(name) or onnx.helper.make_tensor_value_info(name, types[name], None))
    return editor.build()


def _keep(items: Any, wanted: Sequence[int]) -> None:
    """Leave only these positions of a repeated field."""
    refill(items, [items[n] for n in wanted])


def reached_from(graph: Graph, seeds: Iterable[str]) -> frozenset[str]:
    """The seeds, and every tensor that is computed from one of them."""
    reached = set(seeds)
    before = -1
    while len(reached) > before:  # bodies come before the node that runs them
        before = len(reached)
        for node in graph.nodes:
            for body in node.bodies.values():
                reached.update(b for a, b in zip(node.inputs, body.inputs, strict=False) if a in reached)
                if any(o in reached for o in body.outputs):
                    reached.update(filter(None, node.outputs))
            if any(i in reached for i in node.inputs):
                reached.update(filter(None, node.outputs))
    return frozenset(reached)


def crossing(graph: Graph, fed: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Per node of the main graph the tensors that are made by it or before it and read after it.

    What follows from constants alone (a transposed weight) is computed again in each piece that reads it; ``fed`` is
    the rest.
    """
    nodes = graph.model.proto.graph.node
    last: dict[str, int] = {}
    for n, node in enumerate(nodes):
        last.update(dict.fromkeys(reads(node), n))
    alive: dict[str, None] = {}
    for n, node in enumerate(nodes):
        for name in node.output:
            if last.get(name, -1) > n and name in fed:
                alive[name] = None
        alive = {name: None for name in alive if last[name] > n}
        yield tuple(alive)
