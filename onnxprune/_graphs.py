"""Names in a graph: who reads what, across the borders of bodies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx

__all__ = ["all_names", "bodies", "free_names", "keep_outputs", "used_names"]


def bodies(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """The graphs inside these nodes' attributes, one level deep."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def used_names(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that nodes read, bodies included, and the graph's outputs."""
    yield from (value.name for value in graph.output)
    for node in graph.node:
        yield from node.input
        for body in bodies((node,)):
            yield from used_names(body)


def free_names(graph: onnx.GraphProto) -> set[str]:
    """Names that a body takes from outside."""
    made = {value.name for value in graph.input}
    made.update(tensor.name for tensor in graph.initializer)
    made.update(sparse.values.name for sparse in graph.sparse_initializer)
    made.update(name for node in graph.node for name in node.output)
    read = {value.name for value in graph.output}
    for node in graph.node:
        read.update(node.input)
        for body in bodies((node,)):
            read |= free_names(body)
    return read - made


def all_names(model: onnx.ModelProto) -> Iterator[str]:
    """Names of all tensors, nodes and operators, wherever they are."""
    yield from _graph_names(model.graph)
    for function in model.functions:
        yield from (*function.input, *function.output)
        yield from _node_names(function.node)


def _graph_names(graph: onnx.GraphProto) -> Iterator[str]:
    for named in (graph.input, graph.output, graph.initializer, graph.value_info):
        yield from (item.name for item in named)
    yield from (sparse.values.name for sparse in graph.sparse_initializer)
    yield from _node_names(graph.node)


def _node_names(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    for node in nodes:
        yield from (node.name, node.op_type, node.domain)
        yield from (*node.input, *node.output)
        for body in bodies((node,)):
            yield from _graph_names(body)


def keep_outputs(graph: onnx.GraphProto, names: Iterable[str]) -> None:
    """Make these tensors the graph's outputs, and drop what none of them needs; inputs stay.

    A constant that is an input as well (IR 3) goes from both places: left as an input, it would have to be fed.
    The nodes must be in order, producers first.
    """
    known = {value.name: value for value in graph.output}  # onnxruntime finds out the types of the others itself
    outputs = [known.get(name) or onnx.ValueInfoProto(name=name) for name in names]
    needed = {value.name for value in outputs}
    kept = []
    for node in reversed(graph.node):
        if not needed.isdisjoint(filter(None, node.output)):
            kept.append(node)
            needed.update(node.input)
            for body in bodies((node,)):
                needed |= free_names(body)
    constants = [tensor for tensor in graph.initializer if tensor.name in needed]
    dropped = {tensor.name for tensor in graph.initializer} - needed
    inputs = [value for value in graph.input if value.name not in dropped]
    kept.reverse()
    del graph.node[:], graph.initializer[:], graph.output[:], graph.input[:]
    graph.input.extend(inputs)
    graph.node.extend(kept)
    graph.initializer.extend(constants)
    graph.output.extend(outputs)
