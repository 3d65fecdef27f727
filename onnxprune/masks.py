"""Weights in their natural matrix: rows are what a layer puts out, columns what it reads, kernels are small rectangles.

``Matrix`` says for one constant of a model how its axes become rows and columns, so that masks of it can be shown and
brushed. A convolution (O, I, h, w) has O x h rows and I x w columns, so that each kernel is a rectangle of h x w cells;
with one input per filter the kernel lies in one row. A recurrence has a row for each (direction, gate, cell), a matrix
product a row for each output, however it is stored, an embedding a row for each token. A vector is one column.

The place of a cell among the stored numbers is a sum, ``row_place[r] + column_place[c]``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnxprune.graph import Graph
from onnxprune.linear import LinearLayer, linear_layers
from onnxprune.nodes import Node
from onnxprune.stored import is_float
from onnxprune.values import Coupling, Ints, Member

__all__ = ["Matrix", "Part", "Side", "matrices"]

Array = NDArray[Any]
GATES: Mapping[str, tuple[str, ...]] = {"LSTM": ("i", "o", "f", "c"), "GRU": ("z", "r", "h"), "RNN": ("h",)}
PEEPHOLES = ("i", "o", "f")
WHICH = {1: "W", 2: "R", 3: "B", 7: "P"}  # inputs of a recurrence that are weights
DIRECTIONS = ("forward", "reverse")


@dataclass(frozen=True)
class Part:
    """What a stored axis, or a part of one, counts.

    ``axis``: the stored one; ``size``; ``labels`` where its numbers have names; ``kernel``: a position in a kernel.
    """

    word: str
    axis: int
    size: int
    labels: tuple[str, ...] = ()
    kernel: bool = False


@dataclass(frozen=True, eq=False)
class Side:
    """The rows, or the columns. ``parts``: what their number is made of, the slowest first.

    ``group``, ``unit``: (blocks, size) number of the group and of the unit there, -1 for none; ``block``: which of
    these rows holds at each place of the other side (blocks of a grouped convolution read other inputs).
    """

    parts: tuple[Part, ...]
    group: Ints
    unit: Ints
    block: Ints

    @property
    def size(self) -> int:
        return prod(part.size for part in self.parts)

    @property
    def kernel(self) -> int:
        """Cells that a kernel takes on this side."""
        return prod(part.size for part in self.parts if part.kernel)

    def digits(self, place: int) -> list[int]:
        """The number of a row or column, part by part."""
        return [int(digit) for digit in np.unravel_index(place, [part.size for part in self.parts])]

    def words(self, place: int) -> str:
        """``gate f, cell 12``: parts of size 1 are left out."""
        found = [
            f"{part.word} {part.labels[digit] if part.labels else digit}"
            for part, digit in zip(self.parts, self.digits(place), strict=True)
            if part.size > 1
        ]
        return ", ".join(found)

    def tick(self, place: int) -> str:
        """Short: the numbers alone, kernels left out."""
        pairs = zip(self.parts, self.digits(place), strict=True)
        found = [part.labels[d] if part.labels else str(d) for part, d in pairs if part.size > 1 and not part.kernel]
        return " ".join(found) or "0"

    @cached_property
    def bounds(self) -> Ints:
        """Where gates, directions and units of several rows begin, 0 left out."""
        places, found = np.arange(self.size), np.zeros(self.size, np.bool_)
        plain = [number for number, part in enumerate(self.parts) if not part.kernel]
        if len(plain) > 1 and all(self.parts[number].labels for number in plain[:-1]):
            width = prod(part.size for part in self.parts[plain[-1] :])
            found |= places % width == 0
        for unit in self.unit:
            changes = np.append(False, unit[1:] != unit[:-1])
            if unit.max(initial=-1) >= 0 and changes.sum() < self.size / (2 * self.kernel):
                found |= changes
        found[:1] = False
        return np.flatnonzero(found)


@dataclass(frozen=True, eq=False)
class Matrix:
    """One constant as rows and columns. ``tensor``: its name in the graph; ``name``: in the model; ``op``: its reader.

    ``split``: the stored shape with axes cut into parts; ``order``: those axes, rows first. ``node``: name of
    the reader.
    """

    tensor: str
    name: str
    op: str
    shape: tuple[int, ...]
    split: tuple[int, ...]
    order: tuple[int, ...]
    rows: Side
    columns: Side
    node: str = ""

    @property
    def label(self) -> str:
        """The name for a person: that of the reader, where an exporter numbered its constants."""
        return self.node if self.node and "::" in self.name else self.name

    @property
    def cells(self) -> int:
        """How many there are."""
        return self.rows.size * self.columns.size

    def view(self, values: Array) -> Array:
        """Stored values as (rows, columns), a view where possible."""
        moved = values.reshape(self.split).transpose(self.order)
        return moved.reshape(self.rows.size, self.columns.size)

    @cached_property
    def row_place(self) -> Ints:
        """Of the first cell of each row among the stored numbers."""
        return self._places(self.order[: len(self.rows.parts)])

    @cached_property
    def column_place(self) -> Ints:
        """What the column adds to it."""
        return self._places(self.order[len(self.rows.parts) :])

    def _places(self, axes: Sequence[int]) -> Ints:
        strides = [prod(self.split[axis + 1 :]) for axis in axes]
        grid = _grid([self.split[axis] for axis in axes])
        return np.asarray(np.array(strides, np.int64) @ grid, np.int64)

    def cells_of(self, group: int, units: Iterable[int] | None = None) -> NDArray[np.bool_]:
        """Cells that belong to units of a group, all of them where none are given."""
        wanted = None if units is None else np.array(list(units), np.int64)
        found = np.zeros((self.rows.size, self.columns.size), np.bool_)
        for side, across in ((self.rows, False), (self.columns, True)):
            here = side.group == group
            if wanted is not None:
                here &= np.isin(side.unit, wanted)
            found |= here[side.block] if across else here[side.block].T
        return found


def matrices(coupling: Coupling) -> dict[str, Matrix]:
    """The matrices of all floating-point constants that some operator reads as a weight, by name in the graph."""
    graph: Graph = coupling.graph
    layers = {layer.weight: layer for layer in linear_layers(graph)}
    members: dict[str, list[tuple[int, Member]]] = {}
    for number, group in enumerate(coupling.groups):
        for member in group.weights:
            members.setdefault(member.tensor, []).append((number, member))
    found = {}
    for tensor, weight in graph.weights.items():
        reader = next(iter(graph.consumers.get(tensor, ())), None)
        if (
            reader is None
            or not is_float(weight)
            or not (tensor in members or tensor in layers or prod(weight.shape) > 1)
        ):
            continue
        parts, rows = _parts(tuple(weight.shape), reader, layers.get(tensor), members.get(tensor, ()))
        found[tensor] = _matrix(graph, tensor, reader, parts, rows, members.get(tensor, ()))
    return found


def _parts(
    shape: tuple[int, ...], reader: tuple[Node, int], layer: LinearLayer | None, members: Sequence[tuple[int, Member]]
) -> tuple[list[Part], list[int]]:
    """The parts in stored order, and the numbers of those that make rows, the slowest first."""
    node, place = reader
    if layer is not None and layer.convolves:
        return _convolution(shape, layer)
    if layer is not None:
        words = {layer.out_axis: "output", layer.in_axis: "input"}
        return [Part(words.get(axis, "part"), axis, size) for axis, size in enumerate(shape)], [layer.out_axis]
    if node.op in GATES and place in (1, 2, 3, 7):
        return _recurrence(shape, node.op, place)
    if node.op == "Gather" and place == 0 and len(shape) == 2:
        return [Part("token", 0, shape[0]), Part("dimension", 1, shape[1])], [0]
    if node.op == "Attention" and place == 1 and len(shape) == 2 and shape[1] % 3 == 0:
        which = Part("part", 1, 3, ("q", "k", "v"))
        return [Part("input", 0, shape[0]), which, Part("output", 1, shape[1] // 3)], [1, 2]
    made = [member.axis for _, member in members if not member.consumes]
    rows = made[:1] or list(range(max(len(shape) - 1, 1)))[: len(shape)]
    word = "output" if made else "row"
    return [Part(word if axis in rows else "column", axis, size) for axis, size in enumerate(shape)], rows


def _convolution(shape: tuple[int, ...], layer: LinearLayer) -> tuple[list[Part], list[int]]:
    words = {layer.out_axis: "output", layer.in_axis: "input"}
    kernel = ("kz", "ky", "kx")[3 - len(shape[2:]) :] if len(shape) <= 5 else ()
    parts = [Part(words[axis], axis, shape[axis]) for axis in (0, 1)]
    inner = [kernel[axis - 2] if kernel else f"k{axis - 2}" for axis in range(2, len(shape))]
    parts += [Part(word, axis, shape[axis], kernel=True) for axis, word in enumerate(inner, 2)]
    down = list(range(2, len(shape) - 1)) if shape[layer.in_axis] > 1 else []
    return parts, [layer.out_axis, *down]


def _recurrence(shape: tuple[int, ...], op: str, place: int) -> tuple[list[Part], list[int]]:
    gates = PEEPHOLES if place == 7 else GATES[op]
    direction = Part("direction", 0, shape[0], DIRECTIONS[: shape[0]])
    gate = Part("gate", 1, len(gates), gates)
    if place in (1, 2):
        cell = Part("cell", 1, shape[1] // len(gates))
        return [direction, gate, cell, Part("input" if place == 1 else "state", 2, shape[2])], [0, 1, 2]
    if place == 7:
        return [direction, gate, Part("cell", 1, shape[1] // len(gates))], [0, 1, 2]
    of = Part("bias of", 1, 2, ("input", "state"))
    return [direction, of, gate, Part("cell", 1, shape[1] // (2 * len(gates)))], [0, 2, 3]


def _matrix(
    graph: Graph,
    tensor: str,
    reader: tuple[Node, int],
    parts: list[Part],
    rows: list[int],
    members: Sequence[tuple[int, Member]],
) -> Matrix:
    columns = [number for number in range(len(parts)) if number not in rows]
    sizes = [prod(parts[number].size for number in side) for side in (rows, columns)]
    numbers = [_axes(parts, side) for side in (rows, columns)]
    shape = tuple(graph.weights[tensor].shape)
    sides = []
    for own in (0, 1):
        held = _Held(sizes[own], sizes[1 - own])
        for number, member in members:
            if member.axis in numbers[own]:
                held.take(number, member, numbers[own], numbers[1 - own], shape)
        named = tuple(parts[number] for number in (rows, columns)[own])
        sides.append(Side(named, held.group, held.unit, held.block))
    name = graph.origin.get(tensor, tensor)
    split = tuple(part.size for part in parts)
    node, place = reader
    called = f"{node.name} {WHICH.get(place, '')}".strip() if node.op in GATES else node.name
    return Matrix(
        tensor, graph.raw.get(name, name), node.op, shape, split, (*rows, *columns), sides[0], sides[1], called
    )


def _axes(parts: Sequence[Part], side: Sequence[int]) -> dict[int, Ints]:
    """Stored axis -> its index at every place of a side."""
    grid = _grid([parts[number].size for number in side])
    found: dict[int, Ints] = {}
    for number, digit in sorted(zip(side, grid, strict=True), key=lambda pair: pair[0]):
        axis = parts[number].axis
        if parts[number].axis in found:
            found[axis] = found[axis] * parts[number].size + digit
        else:
            found[axis] = digit.astype(np.int64)
    return found


def _grid(sizes: Sequence[int]) -> Ints:
    """(axes, places): the digits of every place; one place without axes."""
    return np.indices(sizes, np.int64).reshape(len(sizes), prod(sizes))


class _Held:
    """Which unit is where on one side."""

    def __init__(self, size: int, other: int) -> None:
        self.group = np.full((1, size), -1, np.int64)
        self.unit = np.full((1, size), -1, np.int64)
        self.block = np.zeros(other, np.int64)

    def take(
        self, number: int, member: Member, own: Mapping[int, Ints], other: Mapping[int, Ints], shape: tuple[int, ...]
    ) -> None:
        """One member more."""
        unit = np.full((member.blocks, shape[member.axis]), -1, np.int64)
        unit[0 if member.block is None else member.block, member.index] = member.unit
        if member.blocks > 1 and member.along is not None:
            each = shape[member.along] // member.blocks
            if member.along in own:
                found = unit[own[member.along] // each, own[member.axis]][None]
            else:
                found = unit[:, own[member.axis]]
                self._cut(member.blocks, other[member.along] // each)
        else:
            found = unit[:1, own[member.axis]]
        found = np.broadcast_to(found, self.unit.shape)
        free = (self.unit < 0) & (found >= 0)
        self.unit[free], self.group[free] = found[free], number

    def _cut(self, blocks: int, block: Ints) -> None:
        if len(self.unit) == 1:
            self.group, self.unit = (np.repeat(held, blocks, axis=0) for held in (self.group, self.unit))
            self.block = block
