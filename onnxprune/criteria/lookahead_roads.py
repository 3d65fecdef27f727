"""How channels get from one layer to the next: what every node between them does to a number per channel.

Which position of an input is which position of an output is what the operators' own rules say (`coupling.relate`);
Reshape and Transpose move factors. Of the operands of an element-wise node

- one that is itself made of another without passing a layer is a *repeat* and counts no further (Mul(x, Sigmoid(x)),
  or the mean in a normalisation written out);
- a summand is a *skip* where, without passing a layer, it comes from a tensor that another summand is computed from
  (the fork of a residual block);
- the others *carry*.

A normalisation multiplies by the square of its scale, divided by variance + epsilon where the variance is stored; so
does a constant with a number per channel that is multiplied or divided by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from onnxprune.coupling import relate
from onnxprune.criteria.lookahead_fields import AxisMap, Field
from onnxprune.criteria.slices import real_array
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.nodes import Node
from onnxprune.ops import rule_for
from onnxprune.ops.elementwise import couple_elementwise
from onnxprune.ops.rule import Role
from onnxprune.values import Ints, Options

__all__ = ["Roads"]

Floats = NDArray[np.float64]

REGROUPS = frozenset(("Reshape", "Flatten", "Squeeze", "Unsqueeze"))
SUMS = frozenset(("Add", "Sub", "Sum"))
SKIP_NORMS = frozenset(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"))  # of input 0 + input 1
# Operator -> (input of the scale, input of the variance, axis of the scale or None: the last ones)
NORMS: Mapping[str, tuple[int, int | None, int | None]] = {
    "BatchNormalization": (1, 4, 1),
    "InstanceNormalization": (1, None, 1),
    "GroupNormalization": (1, None, 1),
    "GroupNorm": (1, None, -1),
    "LayerNormalization": (1, None, None),
    "RMSNormalization": (1, None, None),
    "SimplifiedLayerNormalization": (1, None, None),
    **dict.fromkeys(SKIP_NORMS, (2, None, None)),
}
BESIDE = (Role.SHAPE, Role.CONDITION, Role.INDEX)  # inputs that say where or how, not what
EPSILON = 1e-5


class Roads:
    """The ways between layers of one model; ``stops``: numbers of the nodes that are layers."""

    def __init__(self, model: Model, graph: Graph, options: Options, stops: frozenset[int]) -> None:
        self.model, self.graph, self.stops = model, graph, stops
        self._ties = relate(graph, options)
        self._starts = np.array(self._ties.starts or [0], np.int64)
        self._owners = np.array(self._ties.owners or [-1], np.int64)
        self._maps: dict[int, dict[tuple[str, str], tuple[AxisMap, ...]]] = {}
        self._repeats: set[tuple[int, int]] = set()
        self.forks: dict[tuple[int, int], str] = {}  # (node, input) of a skip -> the tensor where the ways part
        for node in graph.nodes:
            self._classify(node)

    # -- which operands count ----------------------------------------------------------------------------------------

    @cached_property
    def data(self) -> frozenset[str]:
        """Tensors that depend on an input of the model by value."""
        found = set(self.graph.inputs)
        found |= {name for node in self.graph.nodes for body in node.bodies.values() for name in body.inputs}
        for node in self.graph.nodes:
            if any(t in found and self.role(node, k) is not Role.SHAPE for k, t in enumerate(node.inputs)):
                found.update(o for o in node.outputs if o)
        return frozenset(found)

    def role(self, node: Node, k: int) -> Role:
        rule = rule_for(node.domain, node.op)
        return Role.DATA if rule is None else rule.role(k)

    def operands(self, node: Node) -> tuple[int, ...]:
        """Inputs with data whose values become those of the output."""
        return tuple(k for k, t in enumerate(node.inputs) if t in self.data and self.role(node, k) not in BESIDE)

    def carriers(self, node: Node) -> tuple[int, ...]:
        """The operands that are no repeats."""
        return tuple(k for k in self.operands(node) if (node.number, k) not in self._repeats)

    def repeats(self, node: Node, k: int) -> bool:
        return (node.number, k) in self._repeats

    def mixes(self, node: Node) -> bool:
        """Whether the node multiplies computed tensors with each other (or with weights of an unknown layout)."""
        rule = rule_for(node.domain, node.op)
        return node.number not in self.stops and rule is not None and rule.macs is not None

    def _classify(self, node: Node) -> None:
        if node.op == "FusedConv":  # a residual sum inside: input 3 is added to the convolution of input 0
            fork = self._fork(node.input(3), [node.input(0)]) if node.input(3) in self.data else ""
            if fork:
                self.forks[node.number, 3] = fork
            return
        rule = rule_for(node.domain, node.op)
        if rule is None or not (rule.couple is couple_elementwise or node.op in SKIP_NORMS):
            return
        operands = self.operands(node)
        for j in operands:
            others = [i for i in operands if i != j and not self.repeats(node, i)]
            same = [i for i in others if node.input(i) == node.input(j) and i < j]
            if same or any(node.input(i) != node.input(j) and self._made_of(node, j, i) for i in others):
                self._repeats.add((node.number, j))
        left = self.carriers(node)
        if node.op in SUMS or node.op in SKIP_NORMS:
            for j in left:
                fork = self._fork(node.input(j), [node.input(i) for i in left if i != j])
                if fork:
                    self.forks[node.number, j] = fork

    def _number(self, tensor: str) -> int:
        node = self.graph.producer.get(tensor)
        return -1 if node is None else node.number

    def _passes(self, node: Node) -> bool:
        return node.number not in self.stops and not self.mixes(node)

    def _made_of(self, node: Node, j: int, i: int) -> bool:
        """Whether operand ``j`` comes from operand ``i`` without passing a layer."""
        goal = node.input(i)
        return goal in self._before(node.input(j), self._number(goal), through_layers=False)

    def _before(self, tensor: str, floor: int, *, through_layers: bool) -> set[str]:
        """What a tensor is computed from, as far back as nodes later than number ``floor`` go."""
        seen, stack = {tensor}, [tensor]
        while stack:
            node = self.graph.producer.get(stack.pop())
            if node is None or node.number <= floor or not (through_layers or self._passes(node)):
                continue
            for k, name in enumerate(node.inputs):
                if name in self.data and name not in seen and self.role(node, k) is not Role.SHAPE:
                    seen.add(name)
                    stack.append(name)
        return seen

    def _fork(self, tensor: str, others: Sequence[str]) -> str:
        """The nearest tensor on the way to this one, without layers, that one of the others is computed from."""
        chain = [name for name, _ in self.chain(tensor)]
        floor = min(self._number(name) for name in chain)
        behind = {name for other in others for name in self._before(other, floor, through_layers=True)}
        return next((name for name in chain if name in behind), "")

    def chain(self, tensor: str) -> Iterator[tuple[str, Node | None]]:
        """The tensor and what it was made of by nodes with one operand and no weights; each with its reader."""
        reader: Node | None = None
        while True:
            yield tensor, reader
            node = self.graph.producer.get(tensor)
            if node is None or not self._passes(node):
                return
            carriers = self.carriers(node)
            if len(carriers) != 1 or not self.leads(node, carriers[0]):
                return
            reader, tensor = node, node.input(carriers[0])

    # -- what a node does --------------------------------------------------------------------------------------------

    def uniform(self, tensor: str) -> Field:
        return Field.uniform(self.graph.shapes.get(tensor, ()))

    def leads(self, node: Node, k: int) -> bool:
        """Whether it is known where the elements of an operand end up."""
        outputs = [y for y in node.outputs if y in self.graph.shapes]
        return any(self._moves(node, k, y) or self.maps(node, k, y) for y in outputs) or bool(self._picked(node, k))

    def forward(self, node: Node, k: int, field: Field, y: str, spread: Sequence[int] = ()) -> Field | None:
        """A number per channel of operand ``k`` as it arrives at an output, norms left out; None: nothing does."""
        shape = self.graph.shapes[y]
        if self._moves(node, k, y):
            if node.op in REGROUPS:
                return field.reshaped(shape)
            return field.transposed(node.attrs.get("perm") or range(len(shape))[::-1])
        row = self._picked(node, k)
        if row is not None:
            return field.forward(_with_one(field.shape, row[0].source_axis), row).reshaped(shape)
        maps = self.maps(node, k, y)
        return field.forward(shape, maps, spread) if maps else None

    def backward(self, node: Node, k: int, field: Field, y: str, like: Field) -> Field | None:
        """A number per channel of an output as it belongs to operand ``k``, whose channels are those of ``like``."""
        if self._moves(node, k, y):
            if node.op in REGROUPS:
                return field.reshaped(like.shape).like(like)
            perm = node.attrs.get("perm") or range(len(like.shape))[::-1]
            return field.transposed(np.argsort(perm).tolist()).like(like)
        row = self._picked(node, k)
        if row is not None:
            return field.reshaped(_with_one(like.shape, row[0].source_axis)).backward(like, row)
        maps = self.maps(node, k, y)
        return field.backward(like, maps) if maps else None

    def _picked(self, node: Node, k: int) -> tuple[AxisMap, ...] | None:
        """For a Gather that takes one row out of a tensor: its maps while the axis is still there, that axis first."""
        if node.op != "Gather" or node.domain or k:
            return None
        index, shape = self.graph.value(node.input(1)), self.graph.shapes.get(node.input(0), ())
        if index is None or index.ndim or not shape or node.input(1) in self.graph.from_shape:
            return None
        axis = node.attrs.get("axis", 0) % len(shape)
        row = AxisMap(axis, axis, np.array([int(index) % shape[axis]]), np.zeros(1, np.int64), whole=False)
        others = [AxisMap(a, a, np.arange(n), np.arange(n), whole=True) for a, n in enumerate(shape) if a != axis]
        return (row, *others)

    def _moves(self, node: Node, k: int, y: str) -> bool:
        if node.domain or k or (node.op not in REGROUPS and node.op != "Transpose"):
            return False
        before, after = (self.graph.shapes.get(t) for t in (node.input(0), y))
        return before is not None and after is not None and np.prod(before) == np.prod(after) and 0 not in before

    def maps(self, node: Node, k: int, y: str) -> tuple[AxisMap, ...]:
        """Which positions of input ``k`` are which positions of output ``y``, axis by axis."""
        if node.number not in self._maps:
            self._maps[node.number] = self._read_maps(node)
        return self._maps[node.number].get((node.input(k), y), ())

    def _read_maps(self, node: Node) -> dict[tuple[str, str], tuple[AxisMap, ...]]:
        pairs: dict[tuple[tuple[str, int], tuple[str, int]], list[tuple[Ints, Ints]]] = {}
        for _, source, target in self._ties.records[node.number]:
            for one, two, places in self._located(source.reshape(-1), target.reshape(-1)):
                if one[0] in node.inputs and two[0] in node.outputs:
                    pairs.setdefault((one, two), []).append(places)
        found: dict[tuple[str, str], dict[int, AxisMap]] = {}
        for ((x, a), (y, b)), parts in pairs.items():
            maps = found.setdefault((x, y), {})
            if b not in maps and all(m.source_axis != a for m in maps.values()):
                source, target = np.unique(np.concatenate([np.stack(p, axis=1) for p in parts]), axis=0).T
                size = self.graph.shapes[x][a]
                everywhere = np.arange(size)
                whole = size == self.graph.shapes[y][b] and all(np.array_equal(p, everywhere) for p in (source, target))
                maps[b] = AxisMap(a, b, source, target, whole)
        return {key: tuple(maps.values()) for key, maps in found.items()}

    def _located(
        self, source: Ints, target: Ints
    ) -> Iterator[tuple[tuple[str, int], tuple[str, int], tuple[Ints, Ints]]]:
        """The real axes that elements lie on, and where on them."""
        entries = [np.searchsorted(self._starts, ids, side="right") - 1 for ids in (source, target)]
        owners = [self._owners[e] for e in entries]
        offsets = [ids - self._starts[e] for ids, e in zip((source, target), entries, strict=True)]
        for one, two in np.unique(np.stack(owners, axis=1), axis=0).tolist():
            if one >= 0 and two >= 0:
                here = (owners[0] == one) & (owners[1] == two)
                yield self._ties.axes[one], self._ties.axes[two], (offsets[0][here], offsets[1][here])

    # -- norms and constant factors ----------------------------------------------------------------------------------

    def gained(self, node: Node, field: Field, like: Field) -> Field:
        """Times what the node multiplies each channel by, squared; ``like``: its output, whose channels matter."""
        gain = self._gain(node, len(field.sizes))
        if gain is None:
            return field
        axes = [a for a, n in enumerate(gain.shape) if n > 1]
        kept = [a for a in axes if like.varies(a)] or (axes if node.op in NORMS and len(axes) == 1 else [])
        rest = tuple(a for a in axes if a not in kept)
        return field.scaled(gain.mean(axis=rest, keepdims=True)) if kept else field

    def _gain(self, node: Node, rank: int) -> Floats | None:
        """Squared factor per channel, of as many axes as the output has; None where there is none."""
        if node.op in NORMS:
            scale_input, variance_input, axis = NORMS[node.op]
            scale = self._constant(node.input(scale_input))
            variance = None if variance_input is None else self._constant(node.input(variance_input))
            if scale is None or (variance is None and variance_input is not None):
                return None
            gain = np.square(scale)
            if variance is not None:
                gain = gain / (variance + node.attrs.get("epsilon", EPSILON))
            if axis is not None:
                return self._on_channels(node, gain, axis, rank)
        elif node.op in ("Mul", "Div") and len(self.operands(node)) == 1:
            k = self.operands(node)[0]
            factor = self._constant(node.input(1 - k))
            if factor is None or factor.size == 1 or (node.op == "Div" and k == 1):
                return None
            gain = np.square(factor) if node.op == "Mul" else 1 / np.square(factor)
        else:
            return None
        return gain.reshape((1,) * (rank - gain.ndim) + gain.shape) if gain.ndim <= rank else None

    def _on_channels(self, node: Node, gain: Floats, axis: int, rank: int) -> Floats | None:
        if axis < 0 and not node.attrs.get("channels_last", 1):
            axis = 1
        axis = axis % rank if rank > 1 else 0
        size = self.graph.shapes[node.output(0)][axis]
        if gain.ndim != 1 or size % gain.size:
            return None
        shape = [1] * rank
        shape[axis] = size
        return np.repeat(gain, size // gain.size).reshape(shape)

    def _constant(self, tensor: str) -> Floats | None:
        """The value of a constant, as the model has it now."""
        if tensor in self.graph.weights:
            return np.nan_to_num(real_array(self.model, self.graph, tensor).astype(np.float64))
        value = self.graph.values.get(tensor) if tensor not in self.data else None
        return None if value is None or value.dtype.kind != "f" else value.astype(np.float64)


def _with_one(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    return tuple(1 if a == axis else n for a, n in enumerate(shape))
