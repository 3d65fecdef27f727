"""A part of a model as a model: from tensors that are handed to it to tensors that are asked of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx

from onnxprune._graphs import bodies, free_names, refill
from onnxprune.model import Model

__all__ = ["extract", "reads"]


def reads(node: onnx.NodeProto) -> set[str]:
    """The tensors that a node reads, by itself or from inside its bodies."""
    names = set(node.input)
    for body in bodies((node,)):
        names |= free_names(body)
    return names - {""}


def extract(model: Model, inputs: Sequence[str], outputs: Sequence[str], types: Mapping[str, int]) -> Model:
    """The sub-model from ``inputs`` (and graph inputs) to ``outputs``, with the nodes and weights that it needs.

    ``types``: element type per tensor. Outputs that this model does not have are left out.
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
        onnx.helper.make_tensor_value_info(name, types[name], None)
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
