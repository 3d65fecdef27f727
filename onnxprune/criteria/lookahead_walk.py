"""P and N of every layer: one walk forwards and one backwards over the nodes.

Forwards every tensor gets a number per channel: the sum of the squares of all weights that produce it (P of the layers
that read it). Backwards: the sum of the squares of all weights that read it (N of the layers that produce it). In
between, the roads (`lookahead_roads`) carry the numbers on. Where the road ends, the number is 1: at inputs and
outputs of the model, at operators that cannot be followed, and at a skip.

A product of two computed tensors (the scores of attention, q k') ends both roads, but the weights that read channel d
of q are, by the same reasoning, those that produce channel d of k: N of q is P of k and the other way round. In
``scores x v`` the road goes on through v, whose channels the product keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from onnxprune.criteria.lookahead_fields import AxisMap, Field
from onnxprune.criteria.lookahead_layers import Block, Layer
from onnxprune.criteria.lookahead_roads import Roads
from onnxprune.nodes import Node
from onnxprune.ops.rule import Role

__all__ = ["BlockSums", "Neighbours", "backward", "forward"]

Floats = NDArray[np.float64]
# (layer, number of the block, its neighbour: P forwards, N backwards) -> sums over rows (forwards) or columns
BlockSums = Callable[[Layer, int, Floats], Floats]

ATTENTION = frozenset(("MultiHeadAttention", "Attention"))  # q, k, v from outside, one head of k for each of q
PRODUCTS = frozenset(("MatMul", "FusedMatMul"))


@dataclass(frozen=True, eq=False)
class Neighbours:
    """What is known on the way: ``fields`` per tensor, ``values`` per layer (node number) and block.

    Forwards, ``values`` are P, shaped like the block's columns; backwards N, like its rows.
    """

    fields: Mapping[str, Field]
    values: Mapping[int, tuple[Floats, ...]]


def forward(roads: Roads, layers: Sequence[Layer], row_sums: BlockSums) -> Neighbours:
    """P everywhere."""
    fields: dict[str, Field] = {}
    values: dict[int, tuple[Floats, ...]] = {}
    by_number = {layer.node.number: layer for layer in layers}
    for node in roads.graph.nodes:
        layer = by_number.get(node.number)
        if layer is None:
            for y in node.outputs:
                if y in roads.data and y in roads.graph.shapes:
                    fields[y] = _arriving(roads, node, y, fields)
            continue
        first = _table(layer.blocks[0], fields.get(layer.source), layer.source_axes)
        rows = row_sums(layer, 0, first)
        if layer.recurrent:  # the second block makes the same channels, and reads them
            rows = rows + row_sums(layer, 1, rows)
        values[node.number] = (first, rows)[: len(layer.blocks)]
        for y, axes in layer.targets:
            if y in roads.graph.shapes:
                fields[y] = _plus_residual(roads, node, Field.along(roads.graph.shapes[y], axes, rows), y, fields)
    return Neighbours(fields, values)


def _table(block: Block, field: Field | None, axes: tuple[int, ...]) -> Floats:
    """P as the block's columns want it; 1 where nothing is known."""
    return np.ones(block.col_sizes()) if field is None else field.table(axes).reshape(block.col_sizes())


def _plus_residual(roads: Roads, node: Node, field: Field, y: str, fields: Mapping[str, Field]) -> Field:
    """A FusedConv adds its input 3."""
    if node.op != "FusedConv" or node.input(3) not in roads.data:
        return field
    added = _operand(roads, node, 3, fields)
    return field.plus(added) if added.shape == field.shape else field


def _arriving(roads: Roads, node: Node, y: str, fields: Mapping[str, Field]) -> Field:
    """What the operands of a node bring to an output."""
    carriers = [k for k in roads.carriers(node) if node.input(k) in roads.graph.shapes]
    found = {k: _operand(roads, node, k, fields) for k in carriers}
    if roads.mixes(node):
        found = {k: f for k, f in found.items() if _survives(roads, node, k, f, y)}
    maps = {k: roads.maps(node, k, y) for k in found}
    spread = {m.target_axis for k, f in found.items() for m in maps[k] if f.varies(m.source_axis)}
    spread |= _stacked([m for k in found for m in maps[k]], roads.graph.shapes[y])
    brought = [roads.forward(node, k, f, y, tuple(spread)) for k, f in found.items()]
    if node.op in ATTENTION and roads.mixes(node):
        brought = [_operand(roads, node, 2, fields)] if _keeps_shape(roads, node, 2, y) else []
    total = _total(brought)
    if total is None:
        return roads.uniform(y)
    for axis in spread:
        places = [m.target for k in found for m in maps[k] if m.target_axis == axis]
        total = total.covered(axis, np.concatenate(places))
    return roads.gained(node, total, total)


def _stacked(maps: Sequence[AxisMap], shape: Sequence[int]) -> set[int]:
    """Axes along which tensors of one row each are joined: the rows are told apart from then on."""
    sizes: dict[int, list[int]] = {}
    for m in maps:
        sizes.setdefault(m.target_axis, []).append(m.source.size)
    return {axis for axis, rows in sizes.items() if shape[axis] > 1 and rows == [1] * shape[axis]}


def _total(parts: Iterable[Field | None]) -> Field | None:
    """The sum of those that are there."""
    found = [part for part in parts if part is not None]
    return reduce(Field.plus, found) if found else None


def _operand(roads: Roads, node: Node, k: int, fields: Mapping[str, Field]) -> Field:
    """The numbers of an operand; of a skip, 1 at the fork and what norms make of it from there."""
    fork = roads.forks.get((node.number, k))
    tensor = node.input(k)
    if fork is None:
        return fields.get(tensor) or roads.uniform(tensor)
    steps = []
    for name, reader in roads.chain(tensor):
        steps.append((name, reader))
        if name == fork:
            break
    field = roads.uniform(fork)
    for (before, reader), (after, _) in zip(steps[:0:-1], steps[-2::-1], strict=True):
        operand = reader.inputs.index(before) if reader is not None else 0
        moved = roads.forward(reader, operand, field, after) if reader is not None else None
        field = roads.uniform(after) if reader is None or moved is None else roads.gained(reader, moved, moved)
    return field


def _survives(roads: Roads, node: Node, k: int, field: Field, y: str) -> bool:
    """Whether all channels of an operand of a product are still told apart in its output."""
    mapped = {m.source_axis for m in roads.maps(node, k, y)}
    return bool(field.varying) and mapped.issuperset(field.varying)


def _keeps_shape(roads: Roads, node: Node, k: int, y: str) -> bool:
    return roads.graph.shapes.get(node.input(k)) == roads.graph.shapes.get(y)


def backward(
    roads: Roads, layers: Sequence[Layer], produced: Mapping[str, Field], column_sums: BlockSums
) -> Neighbours:
    """N everywhere. ``produced``: the fields of `forward`."""
    return _Backward(roads, layers, produced, column_sums).run()


class _Backward:
    def __init__(
        self, roads: Roads, layers: Sequence[Layer], produced: Mapping[str, Field], column_sums: BlockSums
    ) -> None:
        self.roads, self.produced, self.column_sums = roads, produced, column_sums
        self.layers = {layer.node.number: layer for layer in layers}
        self.fields: dict[str, Field] = {}
        self.values: dict[int, tuple[Floats, ...]] = {}

    def run(self) -> Neighbours:
        graph = self.roads.graph
        for tensor in graph.outputs:
            if tensor in graph.shapes:
                self._add(tensor, self.roads.uniform(tensor))
        for node in reversed(graph.nodes):
            if node.number in self.layers:
                self._layer(self.layers[node.number])
            else:
                self._node(node)
            self._constants(node)
        return Neighbours(self.fields, self.values)

    def like(self, tensor: str) -> Field:
        """The channels of a tensor: what depends on them in `forward`; of a constant, all its entries."""
        if tensor in self.roads.graph.weights:
            shape = self.roads.graph.shapes[tensor]
            return Field.along(shape, range(len(shape)), np.ones(shape))
        return self.produced.get(tensor) or self.roads.uniform(tensor)

    def _add(self, tensor: str, field: Field) -> None:
        found = field.like(self.like(tensor))
        self.fields[tensor] = self.fields[tensor].plus(found) if tensor in self.fields else found

    def _layer(self, layer: Layer) -> None:
        node = layer.node
        sizes = layer.blocks[0].row_sizes()
        rows = [self.fields[y].table(axes).reshape(sizes) for y, axes in layer.targets if y in self.fields]
        total = np.sum(rows, axis=0) if rows else np.ones(sizes)
        if layer.recurrent:  # the layer reads its own output
            total = total + self.column_sums(layer, 1, total)
        cols = self.column_sums(layer, 0, total)
        self.values[node.number] = (total,) * len(layer.blocks)
        if layer.source in self.roads.graph.shapes and layer.source in self.roads.data:
            shape = self.roads.graph.shapes[layer.source]
            self._add(layer.source, Field.along(shape, layer.source_axes, cols))
        if node.op == "FusedConv" and node.input(3) in self.roads.data:
            skips = (node.number, 3) in self.roads.forks
            y = self.fields.get(node.output(0))
            same = y is not None and y.shape == self.roads.graph.shapes.get(node.input(3))
            self._add(node.input(3), y if y is not None and same and not skips else self.roads.uniform(node.input(3)))

    def _node(self, node: Node) -> None:
        """Hand the numbers of the outputs to the operands."""
        roads = self.roads
        outputs = [y for y in node.outputs if y in self.fields]
        for k, tensor in enumerate(node.inputs):
            if tensor not in roads.data or tensor not in roads.graph.shapes or roads.role(node, k) is Role.SHAPE:
                continue
            if not roads.repeats(node, k) and (outputs or node.bodies):
                self._add(tensor, self._handed(node, k, outputs))

    def _handed(self, node: Node, k: int, outputs: Sequence[str]) -> Field:
        roads, tensor = self.roads, node.input(k)
        like, end = self.like(tensor), roads.uniform(tensor)
        if (node.number, k) in roads.forks or k not in roads.operands(node):
            return end
        if roads.mixes(node):
            if node.op in ATTENTION and k < 3:
                return self._in_attention(node, k)
            if not all(_survives(roads, node, k, like, y) for y in outputs):
                return self._partner(node, k) or end
        gained = ((y, roads.gained(node, self.fields[y], self.like(y))) for y in outputs)
        return _total(roads.backward(node, k, field, y, like) for y, field in gained) or end

    def _partner(self, node: Node, k: int) -> Field | None:
        """For a product of two computed tensors: P of the other one, along the axis that is summed over."""
        other = self.produced.get(node.input(1 - k)) if node.op in PRODUCTS and k < 2 else None
        like = self.like(node.input(k))
        rank = len(like.shape)
        if other is None or len(other.shape) != rank or rank < 2:
            return None
        turned = [bool(node.attrs.get(name, 0)) for name in ("transA", "transB")]
        contracted = [rank - 1 - turned[0], rank - 2 + turned[1]]
        mine, its = contracted[k], contracted[1 - k]
        if not (other.varies(its) and like.varies(mine)):
            return None
        free = 2 * rank - 3 - its
        swapped = other.summed([free])
        if mine != its:
            swapped = swapped.transposed([*range(rank - 2), rank - 1, rank - 2])
        return swapped if swapped.shape[mine] == like.shape[mine] else None

    def _in_attention(self, node: Node, k: int) -> Field:
        """q and k of an attention operator read each other; v is read by whatever reads the output."""
        roads, end = self.roads, self.roads.uniform(node.input(k))
        partner = node.output(0) if k == 2 else node.input(1 - k)
        field = self.fields.get(partner) if k == 2 else self.produced.get(partner)
        same_width = roads.graph.shapes.get(partner, ())[-1:] == end.shape[-1:]
        return field if field is not None and same_width and len(field.sizes) == len(end.sizes) else end

    def _constants(self, node: Node) -> None:
        """What reads a bias or the scale of a norm is whatever reads the channel behind it."""
        graph = self.roads.graph
        for k, tensor in enumerate(node.inputs):
            if tensor not in graph.weights or sum(n > 1 for n in graph.shapes[tensor]) > 1:
                continue
            like = self.like(tensor)
            handed = _total(
                self.roads.backward(node, k, self.fields[y], y, like) for y in node.outputs if y in self.fields
            )
            if handed is not None:
                self._add(tensor, handed)
