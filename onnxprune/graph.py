"""A model seen as one flat list of nodes, with concrete shapes and the values that shapes are computed from.

Bodies of If, Loop and Scan are unfolded into the same list (their tensors carry the path of the body as a prefix),
small constants that exporters share between layers are given one name per place of use, and every dynamic dimension
is replaced by a prime of its own, so that equal sizes never coincide by accident. Nothing here edits the model.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from onnxprune._graphs import find_node
from onnxprune.control import body_inputs, body_outputs, body_shapes, carried, output_shapes
from onnxprune.flatten import Flattener
from onnxprune.folding import FOLDS, Array
from onnxprune.model import Model, Weight
from onnxprune.nodes import Body, Node
from onnxprune.shapes import concrete_shapes, infer_node

__all__ = ["PRIMES", "Body", "Graph", "Node", "build_graph", "dynamic_dims"]

# First assignment and second assignment of dynamic dimensions: the batch first, then whatever else is symbolic.
PRIMES = ((2, 7, 11, 13, 17, 19, 23, 29, 31, 37), (3, 5, 41, 43, 47, 53, 59, 61, 67, 71))
Shapes = Mapping[str, tuple[int, ...]]
SMALL = 4096  # constants up to this many elements take part in shape arithmetic


@dataclass(frozen=True, eq=False)
class Graph:
    """The analysis view of one model under one assignment of its dynamic dimensions."""

    model: Model
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: Mapping[str, Weight]  # constants by unambiguous name, copies of shared vectors included
    origin: Mapping[str, str]  # copy of a shared vector -> the constant it stands for
    raw: Mapping[str, str]  # unambiguous name -> the name in its own graph, where they differ
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, int]
    values: dict[str, Array]  # tensors whose value follows from constants and shapes
    from_shape: frozenset[str]  # of those, the ones that depend on a Shape or Size node
    producer: Mapping[str, Node]
    consumers: Mapping[str, tuple[tuple[Node, int], ...]]

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        """Concrete shape, or None where nothing could tell it."""
        return self.shapes.get(tensor)

    @cached_property
    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        """What a tensor is called where it enters the body of control flow, goes round it, or leaves it."""
        found: dict[str, tuple[str, ...]] = {}
        for node in self.nodes:
            if node.bodies:
                ways = [(p.outer, p.inner) for p in body_inputs(node)]
                ways += [(p.inner, p.outer) for p in body_outputs(node)]
                ways += [(after, before) for before, after in carried(node)]
                for source, target in ways:
                    found[source] = (*found.get(source, ()), target)
        return found

    def refold(self) -> Graph:
        """The same graph with the values that follow from its present shapes."""
        values, tainted = fold(self, small_constants(self), self.shapes)
        return replace(self, values=values, from_shape=frozenset(tainted))

    def value(self, tensor: str) -> Array | None:
        """The value of a small constant or of shape arithmetic, or None."""
        return self.values.get(tensor)


def dynamic_dims(model: Model) -> tuple[str, ...]:
    """Names of the symbolic dimensions of the graph inputs; unnamed ones are called ``input[axis]``."""
    names: dict[str, None] = {}
    weights = {t.name for t in model.proto.graph.initializer}
    for value in model.proto.graph.input:
        if value.name in weights or not value.type.HasField("tensor_type"):
            continue
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value") or dim.dim_value <= 0:
                names[dim.dim_param or f"{value.name}[{axis}]"] = None
    return tuple(names)


def build_graph(
    model: Model, sizes: Mapping[str, int] | None = None, *, fixed: Mapping[str, tuple[int, ...]] | None = None
) -> Graph:
    """Unfold ``model`` and find concrete shapes.

    ``sizes``: value per symbolic dimension (default: the first primes); ``fixed``: whole shapes per graph input.
    """
    sizes = dict(zip(dynamic_dims(model), _cycle(PRIMES[0]), strict=False)) | dict(sizes or {})
    flat = Flattener(model)
    flat.graph(model.proto.graph, "", (), {})
    shapes, dtypes = concrete_shapes(model, sizes, dict(fixed or {}), flat.prefixes)
    copies = flat.split_shared()
    for name, weight in flat.weights.items():
        shapes[name] = tuple(weight.shape)
        dtypes[name] = weight.onnx_type
    nodes = tuple(flat.nodes)
    consumers: dict[str, list[tuple[Node, int]]] = defaultdict(list)
    for node in nodes:
        for k, tensor in enumerate(node.inputs):
            if tensor:
                consumers[tensor].append((node, k))
    graph = Graph(
        model=model,
        nodes=nodes,
        inputs=tuple(i.name for i in model.proto.graph.input if i.name not in flat.weights),
        outputs=tuple(o.name for o in model.proto.graph.output),
        weights=flat.weights,
        origin=copies,
        raw=flat.raw,
        shapes=shapes,
        dtypes=dtypes,
        values={},
        from_shape=frozenset(),
        producer={o: n for n in nodes for o in n.outputs if o},
        consumers={k: tuple(v) for k, v in consumers.items()},
    )
    graph = graph.refold()
    if all(o in graph.shapes for n in graph.nodes for o in n.outputs if o):
        return graph
    return _complete(graph)


def _complete(graph: Graph) -> Graph:
    """Node by node, with the values that shape arithmetic gives: onnx loses track of some of them."""
    shapes, dtypes = dict(graph.shapes), dict(graph.dtypes)
    values, tainted = small_constants(graph), set[str]()
    owners = {formal: n for n in graph.nodes for body in n.bodies.values() for formal in body.inputs}
    for node in graph.nodes:
        for tensor in node.inputs:
            if tensor in owners and tensor not in shapes:
                _enter(owners[tensor], shapes, dtypes)
        fold_node(node, shapes, values, tainted)
        if node.bodies:
            for name, found in output_shapes(node, shapes).items():
                shapes.setdefault(name, found)
        if any(o and o not in shapes for o in node.outputs):
            for name, (shape, dtype) in node_shapes(graph, node, shapes, dtypes, values).items():
                dtypes.setdefault(name, dtype)
                if shape is not None:
                    shapes.setdefault(name, shape)
                    fold_node(node, shapes, values, tainted)
    return replace(graph, shapes=shapes, dtypes=dtypes).refold()


def _enter(node: Node, shapes: dict[str, tuple[int, ...]], dtypes: dict[str, int]) -> None:
    """Tell the body of a Loop or Scan the shapes of what is handed in."""
    for passage in body_inputs(node):
        if passage.outer in dtypes:
            dtypes.setdefault(passage.inner, dtypes[passage.outer])
    for name, shape in body_shapes(node, shapes).items():
        shapes.setdefault(name, shape)


def node_shapes(
    graph: Graph, node: Node, shapes: Shapes, dtypes: Mapping[str, int], values: Mapping[str, Array]
) -> dict[str, tuple[tuple[int, ...] | None, int]]:
    """Shape and type of the outputs of one node, from those of its inputs and the values that are known."""
    if node.bodies or any(i and (i not in shapes or i not in dtypes) for i in node.inputs):
        return {}
    proto = find_node(graph.model.proto.graph, node.where)
    names = dict(zip(proto.input, node.inputs, strict=True))
    found = infer_node(
        proto,
        {raw: (shapes[n], dtypes[n]) for raw, n in names.items() if raw},
        {raw: values[n] for raw, n in names.items() if n in values},
        graph.model.proto,
    )
    outputs = dict(zip(proto.output, node.outputs, strict=True))
    return {outputs[raw]: result for raw, result in found.items() if raw in outputs}


def small_constants(graph: Graph) -> dict[str, Array]:
    """The constants that may take part in shape arithmetic."""
    return {k: w.array() for k, w in graph.weights.items() if np.prod(w.shape) <= SMALL}


def fold(
    graph: Graph, constants: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Array], set[str]]:
    """Evaluate everything that follows from ``constants`` and ``shapes``; also which of it depends on a shape."""
    values = dict(constants)
    tainted: set[str] = set()
    for node in graph.nodes:
        fold_node(node, shapes, values, tainted)
    return values, tainted


def fold_node(node: Node, shapes: Shapes, values: dict[str, Array], tainted: set[str]) -> None:
    """Evaluate one node if everything that it reads is known."""
    if node.domain:
        return
    if node.op in ("Shape", "Size"):
        shape = shapes.get(node.inputs[0])
        if shape is None:
            return
        tainted.update(node.outputs)
        if node.op == "Size":
            values[node.outputs[0]] = np.array(np.prod(shape, dtype=np.int64))
        else:
            values[node.outputs[0]] = np.array(shape[node.attrs.get("start", 0) : node.attrs.get("end")], np.int64)
        return
    rule = FOLDS.get(node.op)
    if rule is None or not all(i in values for i in node.inputs if i):
        return
    if sum(values[i].size for i in node.inputs if i) > 2 * SMALL:
        return
    with np.errstate(all="ignore"):
        try:
            results = rule(node, [values[i] if i else None for i in node.inputs])
        except (ValueError, IndexError, TypeError, OverflowError, ZeroDivisionError):
            return
    for name, result in zip(node.outputs, results, strict=False):
        if name and result.size <= SMALL:
            values[name] = result
            if any(i in tainted for i in node.inputs):
                tainted.add(name)


def _cycle(primes: tuple[int, ...]) -> Iterator[int]:
    yield from primes
    candidate = 73
    while True:
        if all(candidate % d for d in range(2, int(candidate**0.5) + 1)):
            yield candidate
        candidate += 2
