"""Inside a protobuf: who reads what across the borders of bodies, where a node is, how to put others in its place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import onnx

__all__ = [
    "Where",
    "all_bodies",
    "all_names",
    "bodies",
    "find_graph",
    "find_node",
    "free_names",
    "keep_outputs",
    "refill",
    "used_names",
    "weave",
]

Where = tuple[int | str, ...]  # of a node: (index, attribute, index, attribute, ..., index)


def bodies(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    """The graphs inside these nodes' attributes, one level deep."""
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def all_bodies(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graphs inside a graph, at any depth."""
    for body in bodies(graph.node):
        yield body
        yield from all_bodies(body)


def find_graph(graph: onnx.GraphProto, where: Sequence[int | str]) -> onnx.GraphProto:
    """The graph that holds the node at ``where``."""
    for index, name in zip(where[:-1:2], where[1::2], strict=True):
        graph = next(a.g for a in graph.node[int(index)].attribute if a.name == name)
    return graph


def find_node(graph: onnx.GraphProto, where: Sequence[int | str]) -> onnx.NodeProto:
    """The NodeProto at ``where``."""
    proto: onnx.NodeProto = find_graph(graph, where).node[int(where[-1])]
    return proto


def refill(field: Any, items: Iterable[Any]) -> None:
    """Make a repeated field hold these messages and no others; they may come from the field itself."""
    copies = [type(item).FromString(item.SerializeToString()) for item in items]
    del field[:]
    field.extend(copies)


def weave(
    graph: onnx.GraphProto,
    before: Mapping[Where, Sequence[onnx.NodeProto]],
    instead: Mapping[Where, Sequence[onnx.NodeProto]],
) -> None:
    """Put nodes in front of others, and others in the place of some, at any depth."""
    places = {where[:-1] for where in (*before, *instead)}
    for place in sorted(places, key=len, reverse=True):  # a body is copied with the node that it belongs to
        inner = find_graph(graph, (*place, 0))
        woven: list[onnx.NodeProto] = []
        for index, node in enumerate(inner.node):
            where = (*place, index)
            woven += before.get(where, ())
            woven += instead.get(where, (node,))
        refill(inner.node, woven)


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
