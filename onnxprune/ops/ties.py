"""The recorder that operator rules speak to: three relations over elements, and what follows from them.

Elements are numbered; an axis of a tensor is an array of numbers, so a rule ties whole arrays at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from onnxprune.graph import Graph, Node
from onnxprune.values import Ints, Options

__all__ = ["Merge", "Ragged", "Ties"]


KERNEL_STAYS = "kernel positions stay"  # nobody asks for them: not listed among what is frozen
MOVES_CONSTANTS = frozenset(
    "Identity Cast CastLike Transpose Reshape Squeeze Unsqueeze QuantizeLinear DequantizeLinear".split()
)


@dataclass(frozen=True, eq=False)
class Merge:
    """``merged`` is the row-major product of ``factors``; ``last``: it is the last axis of its tensor.

    ``into``: the merged axis is on the output side of the node (else on the input side).
    """

    node: int
    merged: Ints
    factors: tuple[Ints, ...]
    into: bool
    last: bool


@dataclass(frozen=True, eq=False)
class Ragged:
    """An axis that keeps one independent axis per block of another axis of the tensor: ``ids[block, position]``."""

    along: int
    ids: Ints


class Ties:
    """Collects what the rules state about one graph."""

    def __init__(self, graph: Graph, options: Options) -> None:
        self.graph = graph
        self.options = options
        self.total = 0
        self.axes: list[tuple[str, int]] = []  # real axes by number
        self.starts: list[int] = []  # first element per entry of `owners`
        self.owners: list[int] = []  # axis number, -1 for a virtual axis
        self.blocks: list[int] = []  # block number on a ragged axis, else -1
        self._ids: dict[tuple[str, int], Ints] = {}
        self.ragged: dict[tuple[str, int], Ragged] = {}
        self._numbers: dict[tuple[str, int], int] = {}
        self.sources: list[Ints] = []
        self.targets: list[Ints] = []
        self.records: list[list[tuple[int, Ints, Ints]]] = [[] for _ in graph.nodes]
        self.merges: list[Merge] = []
        self.frozen: list[tuple[Ints, str]] = []
        self.renormalised: list[tuple[Ints, str]] = []
        self.contractions: list[tuple[tuple[Ints, ...], str]] = []
        self.equal: list[tuple[tuple[Ints, ...], str]] = []
        self.consuming: set[tuple[str, int]] = set()
        self.kinds: dict[str, str] = {}  # output tensor -> word for the units born there
        self.attends: set[tuple[str, int]] = set()  # axes that are heads x dims in a fused attention
        self.permuted: dict[int, int] = {}  # first node of a channel shuffle -> last node
        self.unknown: dict[str, int] = {}
        self.node: Node | None = None

    # -- elements ---------------------------------------------------------------------------------------------------

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        return self.graph.shapes.get(tensor)

    def sizes(self, tensor: str) -> tuple[int, ...]:
        """Shape of a tensor that is known to have one: rules only run on nodes whose shapes are known."""
        return self.graph.shapes[tensor]

    def rank(self, tensor: str) -> int:
        return len(self.graph.shapes[tensor])

    def is_parameter(self, tensor: str) -> bool:
        """Whether the tensor comes from constants alone (directly, or moved, re-typed or dequantised)."""
        while tensor not in self.graph.weights:
            node = self.graph.producer.get(tensor)
            if node is None or node.op not in MOVES_CONSTANTS:
                return False
            tensor = node.input(0)
        return True

    def axis_number(self, tensor: str, axis: int) -> int:
        key = (tensor, axis)
        if key not in self._numbers:
            self._numbers[key] = len(self.axes)
            self.axes.append(key)
        return self._numbers[key]

    def _new(self, size: int, owner: int, block: int = -1) -> Ints:
        ids = np.arange(self.total, self.total + size, dtype=np.int64)
        self.starts.append(self.total)
        self.owners.append(owner)
        self.blocks.append(block)
        self.total += size
        return ids

    def el(self, tensor: str, axis: int) -> Ints:
        """The elements of an axis. On a ragged axis all blocks are tied together first."""
        axis = axis % max(self.rank(tensor), 1)
        key = (tensor, axis)
        if key in self.ragged:
            blocks = self.ragged[key].ids
            first: Ints = blocks[0]
            for block in blocks[1:]:
                self.tie_ids(first, block)
            return first
        if key not in self._ids:
            size = self.graph.shapes[tensor][axis]
            self._ids[key] = self._new(size, self.axis_number(tensor, axis))
            if size == 1:
                self.frozen.append((self._ids[key], "an axis of size 1 cannot lose its only element"))
        return self._ids[key]

    def blocks_of(self, tensor: str, axis: int, along: int, blocks: int) -> Ints:
        """Declare the axis ragged: elements of shape (blocks, size), one independent row per block of ``along``."""
        key = (tensor, axis)
        if key in self.ragged:
            return self.ragged[key].ids
        size = self.graph.shapes[tensor][axis]
        if key in self._ids:
            ids = np.tile(self._ids[key], (blocks, 1))
        else:
            number = self.axis_number(tensor, axis)
            ids = np.stack([self._new(size, number, b) for b in range(blocks)])
            if size == 1:
                self.frozen.append((ids.reshape(-1), "an axis of size 1 cannot lose its only element"))
        self.ragged[key] = Ragged(along, ids)
        return ids

    def virtual(self, size: int) -> Ints:
        """Elements that belong to no tensor: a factor of a reshaped axis."""
        ids = self._new(size, -1)
        if size == 1:
            self.frozen.append((ids, "an axis of size 1 cannot lose its only element"))
        return ids

    # -- relations --------------------------------------------------------------------------------------------------

    def tie_ids(self, source: Ints, target: Ints, k: int | None = -1) -> None:
        """These elements are the same thing; data flows from ``source`` to ``target`` (input ``k`` of the node).

        ``k`` = None: nothing flows (two operands that are summed against each other).
        """
        if source.shape != target.shape:
            self.freeze_ids(source, f"sizes do not match at {self.node}")
            self.freeze_ids(target, f"sizes do not match at {self.node}")
            return
        self.sources.append(source)
        self.targets.append(target)
        if self.node is not None and k is not None:
            self.records[self.node.number].append((k, source, target))

    def tie(self, source: str, a: int, target: str, b: int, k: int | None = -1) -> None:
        """Two whole axes are the same thing; blocks of a ragged axis are tied together first."""
        a, b = a % self.rank(source), b % self.rank(target)
        self.tie_ids(self.el(source, a), self.el(target, b), k)

    def tie_like(self, source: str, target: str, axis_map: Sequence[tuple[int, int]], k: int = -1) -> None:
        """Tie axes pairwise (source axis, target axis) and hand on raggedness where both axes of it are mapped."""
        where = dict(axis_map)
        for a, b in axis_map:
            ragged = self.ragged.get((source, a))
            if ragged is None and (target, b) not in self.ragged:
                self.tie_ids(self.el(source, a), self.el(target, b), k)
                continue
            if ragged is not None and ragged.along in where:
                ids = self.blocks_of(target, b, where[ragged.along], len(ragged.ids))
                if ids.shape == ragged.ids.shape:
                    self.tie_ids(ragged.ids.reshape(-1), ids.reshape(-1), k)
                    continue
            self.tie_ids(self.el(source, a), self.el(target, b), k)

    def freeze_ids(self, ids: Ints, reason: str) -> None:
        self.frozen.append((ids.reshape(-1), reason))

    def freeze(self, tensor: str, axis: int, reason: str) -> None:
        """The axis may not lose anything, for a reason that a person can read."""
        axis = axis % max(self.rank(tensor), 1)
        if (tensor, axis) in self.ragged:
            self.freeze_ids(self.ragged[tensor, axis].ids, reason)
        else:
            self.freeze_ids(self.el(tensor, axis), reason)

    def freeze_all(self, tensor: str, reason: str) -> None:
        shape = self.shape(tensor)
        if shape is not None:
            for axis in range(len(shape)):
                self.freeze(tensor, axis, reason)

    def freeze_node(self, node: Node, reason: str) -> None:
        """Freeze every axis that the node touches, in the graphs that it carries as well."""
        inner = [name for body in node.bodies.values() for name in (*body.inputs, *body.outputs)]
        for tensor in (*node.inputs, *node.outputs, *inner):
            if tensor:
                self.freeze_all(tensor, reason)

    def merge(self, merged: Ints, factors: Sequence[Ints], *, into: bool, last: bool) -> None:
        """``merged`` is the row-major product of the factors; it can lose whole slices of one of them only."""
        if merged.size != prod(f.size for f in factors):
            for ids in (merged, *factors):
                self.freeze_ids(ids, f"sizes do not match at {self.node}")
            return
        number = self.node.number if self.node is not None else 0
        self.merges.append(Merge(number, merged, tuple(factors), into, last))

    def renormalises(self, tensor: str, axis: int, what: str) -> None:
        """A reduction that cannot ignore zeros runs over the axis: removal changes what the survivors see."""
        axis = axis % self.rank(tensor)
        ids = self.ragged[tensor, axis].ids.reshape(-1) if (tensor, axis) in self.ragged else self.el(tensor, axis)
        self.renormalised.append((ids, f"{what} at {self.node} runs over it"))

    def contracts(self, *operands: Ints, what: str = "") -> None:
        """A sum over products of these operands: exact where one of them is 0.

        Where their sizes do not match, the tie between them has frozen both.
        """
        if len({ids.size for ids in operands}) > 1:
            return
        self.contractions.append(
            (operands, what or f"{self.node} sums over it, and removed elements are not zero there")
        )

    def equal_count(self, blocks: Sequence[Ints], reason: str) -> None:
        """Every block must lose the same number of elements."""
        if len(blocks) > 1:
            self.equal.append((tuple(b.reshape(-1) for b in blocks), reason))

    def consumes(self, tensor: str, axis: int) -> None:
        """The axis of this parameter reads the unit instead of producing it; so does that of the constant behind it."""
        place: int | None = axis % self.rank(tensor)
        while place is not None:
            self.consuming.add((tensor, place))
            node = self.graph.producer.get(tensor)
            if node is None or node.op not in MOVES_CONSTANTS:
                return
            place = self._axis_before(node, place)
            tensor = node.input(0)

    def _axis_before(self, node: Node, axis: int) -> int | None:
        """The axis of a moved constant that became this one; None where there is no single one."""
        if node.op == "Transpose":
            return int(node.attrs.get("perm", range(self.rank(node.input(0)))[::-1])[axis])
        before, after = self.sizes(node.input(0)), self.sizes(node.output(0))
        inner = prod(after[axis + 1 :])
        places = (a for a, size in enumerate(before) if size == after[axis] and prod(before[a + 1 :]) == inner)
        return next(places, None)

    # -- for the solver ---------------------------------------------------------------------------------------------

    def output_ids(self, node: Node) -> Ints:
        """All elements of the outputs of a node."""
        parts: list[Ints] = []
        for tensor in node.outputs:
            shape = self.shape(tensor) if tensor else None
            for axis in range(len(shape or ())):
                key = (tensor, axis)
                if key in self.ragged:
                    parts.append(self.ragged[key].ids.reshape(-1))
                elif key in self._ids:
                    parts.append(self._ids[key])
        return np.concatenate(parts) if parts else np.empty(0, np.int64)

    def axis_ids(self, tensor: str, axis: int) -> NDArray[np.int64] | None:
        """Elements of an axis as they stand, (size,) or (blocks, size); None if no rule ever touched it."""
        if (tensor, axis) in self.ragged:
            return self.ragged[tensor, axis].ids
        return self._ids.get((tensor, axis))
