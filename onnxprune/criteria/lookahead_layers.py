"""Layers as lookahead sees them: which entries of a weight produce a channel, and which read one.

Layers are convolutions and matrix products with a constant (`onnxprune.linear`), look-up tables (a layer whose input
is one-hot: Gather along axis 0 by computed indices), and the two matrices of an LSTM, GRU or RNN. Each axis of a
weight is a product of *factors* (output channels of a grouped convolution: groups x rows of a group; rows of a
recurrent matrix: gates x cells); ``rows`` and ``cols`` name the factors that count outputs and inputs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.lookahead_fields import Field
from onnxprune.criteria.slices import Place
from onnxprune.graph import Graph
from onnxprune.linear import LinearLayer, linear_layers
from onnxprune.nodes import Node
from onnxprune.ops.recurrent import GATES
from onnxprune.stored import is_float

__all__ = ["Block", "Layer", "cut", "find_layers", "sums"]

Array = NDArray[Any]
Floats = NDArray[np.float64]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Block:
    """One constant of a layer: ``sizes`` are the factors of each stored axis, all of them counted in one row.

    ``rows`` and ``cols`` are the numbers of those that count outputs and inputs.
    """

    weight: str
    sizes: tuple[Shape, ...]
    rows: tuple[int, ...]
    cols: tuple[int, ...]

    @property
    def factors(self) -> Shape:
        return tuple(n for axis in self.sizes for n in axis)

    @property
    def kernel(self) -> int:
        """Entries behind the last factor that counts channels."""
        return prod(self.factors[max((*self.rows, *self.cols)) + 1 :])

    @property
    def view(self) -> Shape:
        """The factors, the kernel joined to the last one that counts channels."""
        last = max((*self.rows, *self.cols))
        return (*self.factors[:last], prod(self.factors[last:]))

    def row_sizes(self) -> Shape:
        return tuple(self.factors[d] for d in self.rows)

    def col_sizes(self) -> Shape:
        return tuple(self.factors[d] for d in self.cols)

    def spread(self, table: Floats, dims: Shape) -> Floats:
        """A table over the rows (or columns) as an array that broadcasts to the stored shape."""
        shape = [n if d in dims else 1 for d, n in enumerate(self.factors)]
        return Field(self.sizes, table.reshape(shape)).plain().values


@dataclass(frozen=True, eq=False)
class Layer:
    """A node with weights, ``source`` and ``targets`` with the axes of the channels that it reads and makes.

    A recurrent layer has a second block, which reads the layer's own output.
    """

    node: Node
    blocks: tuple[Block, ...]
    source: str
    source_axes: tuple[int, ...]
    targets: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def recurrent(self) -> bool:
        return len(self.blocks) > 1


def sums(block: Block, squares: Iterable[tuple[Place, Array]], scale: Floats | None = None) -> tuple[Floats, Floats]:
    """The sum of the squares over each row and over each column; ``scale``: a factor per row, of the squares.

    ``squares``: stretches of the weight's squares in the shape ``block.view``.
    """
    view, last = block.view, len(block.view) - 1
    keep = {dims: np.zeros([view[d] for d in dims]) for dims in (block.rows, block.cols)}
    factor = None
    if scale is not None:
        spread = np.repeat(scale, block.kernel, axis=-1) if last in block.rows else scale
        factor = spread.reshape([n if d in block.rows else 1 for d, n in enumerate(view)])
    for place, square in squares:
        piece = square if factor is None else square * cut(factor, place)
        for dims, table in keep.items():
            others = tuple(d for d in range(len(view)) if d not in dims)
            table[tuple(place[d] for d in dims)] += np.add.reduce(piece, axis=others, dtype=np.float64)
    rows, cols = (
        table.reshape(*table.shape[:-1], -1, block.kernel).sum(axis=-1) if last in dims else table
        for dims, table in keep.items()
    )
    return rows, cols


def cut(factor: Floats, place: Place) -> Floats:
    """The part of an array that broadcasts to a weight which belongs to one stretch of the weight."""
    return factor[tuple(s if n > 1 else slice(None) for s, n in zip(place, factor.shape, strict=True))]


def find_layers(graph: Graph) -> tuple[Layer, ...]:
    """The layers of a model in execution order."""
    linear = {layer.node.number: layer for layer in linear_layers(graph)}
    return tuple(layer for node in graph.nodes for layer in _layer(graph, node, linear.get(node.number)))


def _layer(graph: Graph, node: Node, linear: LinearLayer | None) -> Iterator[Layer]:
    if linear is not None:
        yield _linear(graph, linear)
    elif node.op in GATES and all(_is_matrix(graph, node.input(k), 3) for k in (1, 2)):
        yield _recurrent(graph, node)
    elif node.op == "Gather" and _is_matrix(graph, node.input(0), 2) and node.attrs.get("axis", 0) in (0, -2):
        y = node.output(0)
        if node.input(1) not in graph.values and y in graph.shapes:
            sizes = tuple((n,) for n in graph.weights[node.input(0)].shape)
            yield Layer(node, (Block(node.input(0), sizes, (1,), (0,)),), "", (), ((y, (len(graph.shapes[y]) - 1,)),))


def _is_matrix(graph: Graph, tensor: str, rank: int) -> bool:
    weight = graph.weights.get(tensor)
    return weight is not None and len(weight.shape) == rank and is_float(weight)


def _linear(graph: Graph, layer: LinearLayer) -> Layer:
    node, shape = layer.node, tuple(graph.weights[layer.weight].shape)
    x, y = layer.input, layer.output
    if layer.convolves:
        kernel = tuple((n,) for n in shape[2:])
        sizes = ((layer.groups, shape[0] // layer.groups), (shape[1],), *kernel)
        rows, cols = ((0, 2), (0, 1)) if layer.transposed else ((0, 1), (0, 2))
        return Layer(node, (Block(layer.weight, sizes, rows, cols),), x, (1,), ((y, (1,)),))
    block = Block(layer.weight, tuple((n,) for n in shape), (layer.out_axis,), (layer.in_axis,))
    wide, out = (len(graph.shapes.get(t, ())) for t in (x, y))
    second = layer.left or bool(node.attrs.get("transA", 0))  # the inputs lie on the last axis but one
    return Layer(
        node,
        (block,),
        x,
        (max(wide - 1 - second, 0),),
        ((y, (max(out - 1 - (layer.left and wide > 1), 0),)),),
    )


def _recurrent(graph: Graph, node: Node) -> Layer:
    w, r = node.input(1), node.input(2)
    directions, _, inputs = graph.weights[w].shape
    gates, cells = GATES[node.op], graph.weights[r].shape[2]
    axes = ((directions,), (gates, cells))
    blocks = (Block(w, (*axes, (inputs,)), (0, 2), (3,)), Block(r, (*axes, (cells,)), (0, 2), (0, 3)))
    batchwise = bool(node.attrs.get("layout", 0))
    places = ((2, 3), (1, 2), (1, 2)) if batchwise else ((1, 3), (0, 2), (0, 2))
    targets = tuple((y, axes) for y, axes in zip(node.outputs, places, strict=False) if y)
    return Layer(node, blocks, node.input(0), (2,), targets)
