"""Layers whose inputs can be measured, and which of their columns are which unit of a group.

Beside the layers of `linear` these are the two products inside a recurrent layer: its input times ``W`` and its hidden
state times ``R``, both before the gates, with a group for each direction. What ``R`` reads is taken from the layer's
own output: the state after each step stands for the state before it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.errors import UnsupportedModel
from onnxprune.graph import Graph
from onnxprune.linear import LinearLayer, linear_layers
from onnxprune.nodes import Node
from onnxprune.stored import is_float
from onnxprune.values import Coupling, Group, Ints, Member

__all__ = ["Layer", "Reader", "RecurrentLayer", "measurable", "readers", "spread"]

Array = NDArray[Any]

RECURRENT = frozenset(("LSTM", "GRU", "RNN"))


@dataclass(frozen=True, eq=False)
class RecurrentLayer:
    """``W`` or ``R`` of a recurrent node, (directions, gates x cells, columns), as the matrices of a layer.

    ``hidden``: it is ``R``, and ``input`` is the tensor of hidden states: of all steps, or of the last one only.
    """

    node: Node
    weight: str
    input: str
    groups: int
    hidden: bool
    out_axis: int = 1
    in_axis: int = 2
    convolves: bool = False

    @property
    def reads(self) -> Hashable:
        return self.input, self.hidden, self.groups, self.node.attrs.get("layout", 0)

    def width(self, weight: Sequence[int]) -> int:
        return weight[2]

    def matrix(self, weight: Array) -> Array:
        return weight

    def stored(self, matrix: Array, shape: Sequence[int]) -> Array:
        return matrix.reshape(shape)

    def positions(self, shape: Sequence[int]) -> int:
        """All steps and examples are taken: they do not lie on axes of their own in all layouts."""
        return 1

    def columns(self, x: Array, take: Ints | None = None) -> Array:
        """(directions, steps x examples, columns)."""
        if self.hidden:
            batchwise = self.node.attrs.get("layout", 0)
            along = x.ndim - 2 if batchwise else x.ndim - 3
            x = np.moveaxis(x, along, 0)
            return x.reshape(self.groups, -1, x.shape[-1])
        flat = x.reshape(-1, x.shape[-1])
        return np.broadcast_to(flat, (self.groups, *flat.shape))

    def outputs(self, y: Array, take: Ints | None = None) -> Array:
        """Raises UnsupportedModel: the sums in front of the gates are no tensor of the model."""
        raise UnsupportedModel(f"{self.node}: what its gates add up cannot be seen", "Leave the layer out.")


Layer = LinearLayer | RecurrentLayer


@dataclass(frozen=True, eq=False)
class Reader:
    """A layer that reads units of a group. ``unit``: (groups, columns), the unit behind each column, -1 for none."""

    layer: Layer
    unit: Ints


def measurable(graph: Graph) -> dict[str, tuple[Layer, ...]]:
    """Weight -> the layers of the main graph that multiply by it."""
    found: dict[str, list[Layer]] = defaultdict(list)
    for layer in linear_layers(graph):
        if layer.in_main_graph:
            found[layer.weight].append(layer)
    for node in graph.nodes:
        if node.op in RECURRENT and not node.domain and len(node.where) == 1:
            for recurrent in _recurrent(graph, node):
                found[recurrent.weight].append(recurrent)
    return {weight: tuple(layers) for weight, layers in found.items()}


def _recurrent(graph: Graph, node: Node) -> Iterator[RecurrentLayer]:
    states = node.output(0) or node.output(1)
    for k, tensor in ((1, node.input(0)), (2, states)):
        weight = graph.weights.get(node.input(k))
        if weight is not None and is_float(weight) and tensor:
            yield RecurrentLayer(node, node.input(k), tensor, weight.shape[0], hidden=k == 2)


def readers(coupling: Coupling) -> dict[str, tuple[Reader, ...]]:
    """Group name -> the measurable layers that read its units; a group that none reads has none."""
    layers = measurable(coupling.graph)
    return {group.name: tuple(_readers(coupling, group, layers)) for group in coupling.groups}


def _readers(coupling: Coupling, group: Group, layers: dict[str, tuple[Layer, ...]]) -> Iterator[Reader]:
    consuming: dict[str, list[Member]] = defaultdict(list)
    for member in group.weights:
        if member.consumes and member.linear:
            consuming[member.tensor].append(member)
    for tensor, members in consuming.items():
        for layer in layers.get(tensor, ()):
            unit = _unit_of_columns(layer, coupling.shapes[tensor], members)
            if (unit >= 0).any():
                yield Reader(layer, unit)


def spread(layer: Layer, columns: Array, shape: Sequence[int]) -> Array:
    """One number per column, (groups, columns), laid out so that it broadcasts to the stored weight of this shape."""
    found = layer.stored(columns[:, np.newaxis], _one_row(layer, shape))
    if _ragged(layer) and layer.groups > 1:
        found = np.repeat(found, shape[layer.out_axis] // layer.groups, layer.out_axis)
    return found


def _unit_of_columns(layer: Layer, shape: Sequence[int], members: Sequence[Member]) -> Ints:
    """The members' unit numbers laid out like the layer's columns."""
    small = _one_row(layer, shape)
    table = np.full(small, -1, np.int64)
    along = 0  # groups of convolutions and directions of recurrences alike
    for m in members:
        if m.axis != layer.in_axis:
            continue
        rest = (np.newaxis,) * (table.ndim - 1)
        if m.block is None:
            np.moveaxis(table, m.axis, 0)[m.index] = m.unit[(slice(None), *rest)]
        elif m.along == along and small[along] % m.blocks == 0:
            for block in np.arange(small[along]).reshape(m.blocks, -1).T:
                np.moveaxis(table, (along, m.axis), (0, 1))[block[m.block], m.index] = m.unit[(slice(None), *rest[1:])]
    return np.ascontiguousarray(layer.matrix(table)[:, 0])


def _one_row(layer: Layer, shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of a weight with a single output for each group."""
    small = list(shape)
    small[layer.out_axis] = layer.groups if _ragged(layer) else 1
    return tuple(small)


def _ragged(layer: Layer) -> bool:
    """Whether every group of outputs has columns of its own on the same axis: an ordinary grouped convolution."""
    return isinstance(layer, LinearLayer) and layer.convolves and not layer.transposed
