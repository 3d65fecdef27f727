"""Where attributions end: the inputs that are numbers, and the embeddings of those that are not.

Token numbers have no gradient. A model that takes them is cut behind the Gather that looks them up: what it finds
becomes an input of its own, and the attribution of a token is that of its vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.explain.layers import View
from onnxprune.extract import extract
from onnxprune.graph import Node, dynamic_dims
from onnxprune.model import Model
from onnxprune.ops.emitter import FLOATS
from onnxprune.runtime import session

__all__ = ["Source", "cut", "find_sources", "values_of"]

Array = NDArray[Any]
MOVES = frozenset("Cast Identity Unsqueeze Squeeze Reshape Flatten Transpose Expand Slice".split())
LOOKS_UP = {("Gather", 1), ("EmbedLayerNormalization", 0)}


@dataclass(frozen=True)
class Source:
    """``name``: the model's input. ``tensor``: the floating-point tensor that is differentiated by.

    ``kind``: "input" where they are the same, "tokens" behind a table, "cast" behind a change of type.
    """

    name: str
    tensor: str
    kind: str = "input"


def find_sources(view: View) -> tuple[Source, ...]:
    """The floating-point inputs and the embeddings of integer ones; where there are neither, inputs that are cast."""
    found: list[Source] = []
    casts: list[Source] = []
    for name in view.graph.inputs:
        if view.graph.dtypes.get(name) in FLOATS:
            found.append(Source(name, name))
            continue
        for node, k in _readers(view, name):
            if (node.op, k) in LOOKS_UP:
                found.append(Source(name, node.output(0), "tokens"))
            elif node.op == "Cast":
                casts.append(Source(name, node.output(0), "cast"))
    return tuple(found or casts)


def _readers(view: View, name: str) -> Iterator[tuple[Node, int]]:
    """Whoever makes floating-point numbers of an input, by way of what only moves its values."""
    stack, seen = [name], {name}
    while stack:
        for node, k in view.graph.consumers.get(stack.pop(), ()):
            if len(node.where) > 1 or not node.output(0):
                continue
            if view.graph.dtypes.get(node.output(0)) in FLOATS:
                yield node, k
            elif node.op in MOVES and k == 0 and node.output(0) not in seen:
                seen.add(node.output(0))
                stack.append(node.output(0))


def cut(view: View, sources: Sequence[Source], output: str) -> Model:
    """The part of the model that ends at ``output``, and begins at the sources where these are not inputs."""
    inner = [source.tensor for source in sources if source.kind != "input"]
    graph = view.graph
    types = {name: graph.dtypes[name] for name in (*inner, output)}
    part = extract(view.model, inner, [output], types, {name: _declared(view, name) for name in inner})
    made = {name for node in part.proto.graph.node for name in node.output} - {output}
    editor = part.edit()
    editor.proto.graph.value_info.extend(v for v in view.model.proto.graph.value_info if v.name in made)
    return editor.build()


def _declared(view: View, tensor: str) -> list[int | str | None]:
    """The shape with the names of the model's dynamic dimensions, so that they stay the same ones."""
    one, graph = view.graph.shapes[tensor], view.graph
    if view.other is None:
        return list(one)
    names: dict[tuple[int, int], str] = {}
    for value in graph.model.proto.graph.input:
        sizes = zip(graph.shapes.get(value.name, ()), view.other.shapes.get(value.name, ()), strict=False)
        for axis, (pair, dim) in enumerate(zip(sizes, value.type.tensor_type.shape.dim, strict=False)):
            if pair[0] != pair[1]:
                names.setdefault(pair, dim.dim_param or f"{value.name}[{axis}]")
    known = set(dynamic_dims(graph.model))
    pairs = zip(one, view.other.shapes[tensor], strict=True)
    return [a if a == b else next((n for n in (names.get((a, b)),) if n in known), None) for a, b in pairs]


def values_of(
    view: View, sources: Sequence[Source], feeds: Mapping[str, Array], provider: str, threads: int | None
) -> dict[str, Array]:
    """Tensor -> its values for these feeds."""
    inner = [source.tensor for source in sources if source.kind != "input"]
    found = {source.tensor: np.asarray(feeds[source.name]) for source in sources if source.kind == "input"}
    if inner:
        run = session(view.model, outputs=inner, provider=provider, threads=threads)
        found |= run.run({info.name: feeds[info.name] for info in run.inputs})
    return found
