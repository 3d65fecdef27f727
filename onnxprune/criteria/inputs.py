"""Mean second moments of what the layers of a model read, by weight: for criteria that score weights by their inputs.

A weight that several layers multiply by (siamese branches) is one: their samples count together, as long as they see
it the same way round. Layers of too many columns for a matrix have the diagonal only.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.activations import MOVES
from onnxprune.criteria.base import Settings
from onnxprune.criteria.measuring import listed, running
from onnxprune.criteria.readers import Layer, measurable
from onnxprune.errors import OptionError
from onnxprune.gram import Gram, fits, gram_bytes, grams, in_passes
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.nodes import Node
from onnxprune.ops import rule_for

__all__ = ["Inputs", "inputs_of", "measure", "unmeasured"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a layer reads, on average over its samples: x x' as ``h``, (groups, columns, columns), and its diagonal.

    ``second`` is that diagonal, (groups, columns), all that there is where ``h`` would be too large and is None.
    """

    layer: Layer
    second: Floats
    h: Floats | None = None


def inputs_of(
    model: Model, graph: Graph, names: Sequence[str], settings: Settings, *, diagonal: bool = False
) -> Iterator[tuple[str, Inputs]]:
    """The inputs of those of these weights whose layers can be measured, as few at a time as memory asks for.

    ``diagonal``: no ``h`` for any of them. Raises OptionError without a dataset.
    """
    known = measurable(graph)
    layers = {name: _alike(known[name]) for name in names if name in known}
    small = [] if diagonal else [name for name in layers if fits(layers[name][0], graph.weights[name].shape)]
    sizes = {name: gram_bytes(layers[name][0], graph.weights[name].shape) * len(layers[name]) for name in small}
    for part in in_passes(small, sizes.__getitem__):
        yield from _measured(model, {name: layers[name] for name in part}, settings, diagonal=False)
    large = {name: layers[name] for name in layers if name not in sizes}
    if large:
        yield from _measured(model, large, settings, diagonal=True)


def measure(model: Model, layers: Sequence[Layer], settings: Settings, *, diagonal: bool = False) -> list[Gram]:
    """`gram.grams` as the settings say. Raises OptionError without a dataset."""
    if settings.data is None:
        raise OptionError("no dataset is given", "Give one with --data.")
    how: dict[str, Any] = running(settings)
    return grams(model, settings.data, layers, diagonal=diagonal, limit=settings.samples, seed=settings.seed, **how)


def unmeasured(graph: Graph, names: Iterable[str], found: Container[str]) -> str:
    """The first names, and how many more, of the weights that an operator multiplies by and whose inputs are unknown.

    Empty where there are none; vectors have no inputs.
    """
    matrices = (n for n in names if n not in found and sum(d > 1 for d in graph.weights[n].shape) > 1)
    return listed([n for n in matrices if any(_multiplies(graph, node, n) for node in _readers(graph, n))])


def _multiplies(graph: Graph, node: Node, weight: str) -> bool:
    """Whether the constant is what the node multiplies by, not something that it adds."""
    rule = rule_for(node.domain, node.op)
    ranks = [len(graph.weights[i].shape) for i in node.inputs if i in graph.weights]
    return rule is not None and rule.macs is not None and len(graph.weights[weight].shape) >= max(ranks, default=0)


def _readers(graph: Graph, tensor: str) -> Iterator[Node]:
    """The nodes that work with a constant, seen through those that only move it."""
    for node, _ in graph.consumers.get(tensor, ()):
        if node.op in MOVES:
            for output in node.outputs:
                yield from _readers(graph, output)
        else:
            yield node


def _measured(
    model: Model, layers: dict[str, tuple[Layer, ...]], settings: Settings, *, diagonal: bool
) -> Iterator[tuple[str, Inputs]]:
    found = iter(measure(model, [layer for mine in layers.values() for layer in mine], settings, diagonal=diagonal))
    for name, mine in layers.items():
        parts = [next(found) for _ in mine]
        if not all(part.finite for part in parts):
            continue
        count = sum(part.count for part in parts)
        h = sum((part.h for part in parts[1:]), parts[0].h) / max(count, 1)
        second = h if diagonal else np.diagonal(h, axis1=1, axis2=2)
        yield name, Inputs(mine[0], second, None if diagonal else h)


def _alike(layers: Sequence[Layer]) -> tuple[Layer, ...]:
    """Those that see the weight as the first one does."""
    first = (layers[0].out_axis, layers[0].in_axis, layers[0].groups, layers[0].convolves)
    return tuple(x for x in layers if (x.out_axis, x.in_axis, x.groups, x.convolves) == first)
