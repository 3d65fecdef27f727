"""What a model costs: parameters, bytes, multiply-accumulates and activation memory, before and after a cut.

A *parameter* is an element of a constant that some node reads, if the constant

* has the linear role (weights, biases, scales, embedding tables) and is floating point or quantised, or
* is floating point and anything but an index, a condition, a size, or the scale of a quantised tensor: running
  statistics, initial states, divisors;

constants without axes (the 0.5 inside a GELU) and factors of sizes are settings, not parameters. A matrix that several
nodes share counts once; a vector (at most one axis longer than 1) counts for every node that reads it, since exporters
store equal vectors of several layers once. Of weights packed into bytes (MatMulNBits) every number counts.
*Bytes* are those of the parameters, as an ONNX file stores them (4-bit types packed); the size of a file is measured
on the file. *MACs* come from the operators' rules (0 for an operator whose rule has none). *Activation bytes* are the
peak over the execution order: every tensor that depends on a graph input is a buffer from the node that makes it to
its last reader, views (Reshape and the like) share their input's buffer, and nothing else is done in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from onnxprune.graph import Graph, build_graph
from onnxprune.model import Model
from onnxprune.nodes import Node
from onnxprune.ops import rule_for
from onnxprune.ops.rule import Role, Shape
from onnxprune.samples import complete_shapes
from onnxprune.shapes import dim_name
from onnxprune.stored import is_float, is_quantised, nonzero, numbers_per_entry
from onnxprune.values import Coupling, Ints
from onnxprune.weights import nbytes_of
from onnxprune.zeros import weight_role

__all__ = ["Cost", "CostModel", "GroupCost", "cost", "cost_after", "example_graph", "is_parameter", "one_example"]

Bools = NDArray[np.bool_]

VIEWS = frozenset("Identity Reshape Flatten Squeeze Unsqueeze".split())
NEVER = (Role.INDEX, Role.CONDITION, Role.SHAPE, Role.SCALE, Role.ZERO_POINT)


@dataclass(frozen=True)
class Cost:
    """Cost of one model. ``nonzero``: parameters that are not zero, None where only shapes were looked at.

    ``macs`` and ``activation_bytes`` hold for the shapes of the graph that they were counted on.
    """

    parameters: int
    nonzero: int | None
    bytes: int
    macs: int
    activation_bytes: int


@dataclass(frozen=True)
class GroupCost:
    """What goes if all units of a group go: parameters, bytes and MACs. A weight between two groups is in both."""

    name: str
    parameters: int
    bytes: int
    macs: int


def cost(
    model: Model,
    graph: Graph | None = None,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    count_nonzero: bool = True,
) -> Cost:
    """Cost of a model.

    ``graph``: count on this analysis view (its constants are looked up in ``model``). Without it the batch is 1, and
    ``shapes`` gives whole shapes of graph inputs. ``count_nonzero=False`` reads no weight.
    """
    graph = graph or example_graph(model, shapes)
    table = _Table(graph)
    return table.cost(table.dims, _nonzero(graph, model) if count_nonzero else None)


def cost_after(coupling: Coupling, units: Mapping[str, Ints]) -> Cost:
    """Cost of the model without these units (group name -> unit numbers), from shapes alone: no model is built.

    It equals ``cost`` of the removed model under the same sizes, but for ``nonzero``, which is None, and for the
    activation memory where surgery puts a Gather in the place of a channel shuffle. To ask often, keep a `CostModel`.
    """
    return CostModel(coupling).after(units)


def example_graph(
    model: Model,
    shapes: Mapping[str, Sequence[int]] | None = None,
    *,
    provider: str = "auto",
    threads: int | None = None,
) -> Graph:
    """The analysis view with a batch of 1; ``shapes`` gives whole shapes of graph inputs.

    ``provider`` and ``threads``: where shapes that cannot be inferred are seen by running the model.
    """
    fixed = {name: tuple(shape) for name, shape in (shapes or {}).items()}
    return complete_shapes(build_graph(model, one_example(model), fixed=fixed), provider=provider, threads=threads)


def one_example(model: Model) -> dict[str, int]:
    """Size 1 for the batch: the symbolic dimensions called batch, else those on axis 0 of an input."""
    weights = {t.name for t in model.proto.graph.initializer}
    symbols: dict[str, bool] = {}
    for value in model.proto.graph.input:
        if value.name not in weights and value.type.HasField("tensor_type"):
            for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                if dim.dim_value <= 0:
                    name = dim_name(value, axis)
                    symbols[name] = symbols.get(name, False) or axis == 0
    named = [name for name in symbols if "batch" in name.lower()]
    return dict.fromkeys(named or [name for name, first in symbols.items() if first], 1)


class CostModel:
    """Answers what is left after a removal, for one coupling; made for being asked many times."""

    def __init__(self, coupling: Coupling, graph: Graph | None = None) -> None:
        """``graph``: count in the sizes of this view of the same model (default: those of the coupling)."""
        self.coupling = coupling
        self.table = _Table(graph or coupling.graph)
        self.starts = np.cumsum([0, *(g.units for g in coupling.groups)])
        self.matrix = self._positions()

    def _positions(self) -> csr_array:
        """Positions that unit ``u`` (numbered over all groups) takes on axis ``a``: a sparse matrix [a, u].

        On a ragged axis all blocks lose equally many, so the first one speaks for all.
        """
        rows: list[Ints] = [np.zeros(0, np.int64)]
        columns: list[Ints] = [np.zeros(0, np.int64)]
        for start, group in zip(self.starts, self.coupling.groups, strict=False):
            for member in group.members:
                at = self.table.position(member.tensor, member.axis)
                if at is not None:
                    unit = member.unit if member.block is None else member.unit[member.block == 0]
                    rows.append(np.full(unit.size, at))
                    columns.append(unit + start)
        row, column = np.concatenate(rows), np.concatenate(columns)
        return csr_array((np.ones(row.size, np.int64), (row, column)), (self.table.dims.size, int(self.starts[-1])))

    @cached_property
    def before(self) -> Cost:
        """Cost of the whole model."""
        return self.table.cost(self.table.dims)

    def after(self, units: Mapping[str, Ints]) -> Cost:
        """Cost without these units (group name -> unit numbers)."""
        gone = np.zeros(int(self.starts[-1]), np.bool_)
        for name, removed in units.items():
            gone[self.starts[self.coupling.by_name[name]] + np.asarray(removed, np.int64)] = True
        return self.after_mask(gone)

    def after_mask(self, gone: Bools) -> Cost:
        """Cost without the units where ``gone``, numbered over all groups in their order."""
        return self.table.cost(self.table.dims - self.matrix @ gone.astype(np.int64))

    @cached_property
    def groups(self) -> tuple[GroupCost, ...]:
        """What belongs to each group, in the order of the coupling."""
        result = []
        for number, group in enumerate(self.coupling.groups):
            gone = np.zeros(int(self.starts[-1]), np.bool_)
            gone[self.starts[number] : self.starts[number + 1]] = True
            left = self.after_mask(gone)
            result.append(
                GroupCost(
                    group.name,
                    self.before.parameters - left.parameters,
                    self.before.bytes - left.bytes,
                    self.before.macs - left.macs,
                )
            )
        return tuple(result)


class _Table:
    """Sizes of all tensors that cost something, as one flat array ``dims``, and what follows from it."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        parameters = [t for t in graph.weights if is_parameter(graph, t)]
        computed = [t for t in _computed(graph) if t in graph.shapes and t in graph.dtypes]
        self.counted = [n for n in graph.nodes if _has_macs(graph, n)]
        touched = (t for n in self.counted for t in (*n.inputs, *n.outputs) if t in graph.shapes)
        self.names = list(dict.fromkeys([*parameters, *computed, *touched]))
        self.number = {name: i for i, name in enumerate(self.names)}
        shapes = [graph.shapes[name] or (1,) for name in self.names]
        self.starts = np.cumsum([0, *(len(s) for s in shapes)])[:-1]
        self.dims = np.array([d for s in shapes for d in s], np.int64)
        self.types = np.array([graph.dtypes[name] for name in self.names], np.int64)
        self.parameters = np.array([self.number[t] for t in parameters], np.int64)
        self.uses = np.array([len(_uses(graph, t)) for t in parameters], np.int64)
        self.packed = np.array([numbers_per_entry(graph, t) for t in parameters], np.int64)
        self.macs = [self._macs(node, self.dims) for node in self.counted]
        self._buffers(computed)

    def _buffers(self, computed: Sequence[str]) -> None:
        """Buffers of the activations: the tensor that decides their size, first and last step of their life."""
        life: dict[str, list[int]] = {}
        owner: dict[str, str] = {}
        for tensor in computed:
            node = self.graph.producer.get(tensor)
            source = node.input(0) if node and node.op in VIEWS and not node.domain else ""
            owner[tensor] = owner.get(source, tensor)
            born = node.number if node else 0
            first, last = life.setdefault(owner[tensor], [born, born])
            readers = (reader.number for reader, _ in self.graph.consumers.get(tensor, ()))
            last = max(last, born, *readers)
            life[owner[tensor]] = [first, len(self.graph.nodes) if tensor in self.graph.outputs else last]
        for node in self.graph.nodes:
            for tensor in (t for body in node.bodies.values() for t in body.outputs if t in owner):
                life[owner[tensor]][1] = max(life[owner[tensor]][1], node.number)
        self.buffers = np.array([self.number[t] for t in life], np.int64)
        self.born = np.array([first for first, _ in life.values()], np.int64)
        self.dies = np.array([last + 1 for _, last in life.values()], np.int64)

    def position(self, tensor: str, axis: int) -> int | None:
        """Where an axis is in ``dims``; None for a tensor that costs nothing."""
        number = self.number.get(tensor)
        return None if number is None else int(self.starts[number]) + axis

    def shape(self, tensor: str, dims: Ints) -> Shape:
        start = int(self.starts[self.number[tensor]])
        return tuple(dims[start : start + len(self.graph.shapes[tensor])].tolist())

    def cost(self, dims: Ints, nonzero: int | None = None) -> Cost:
        """Cost under these sizes."""
        sizes = np.multiply.reduceat(dims, self.starts) if dims.size else dims
        mine = sizes[self.parameters]
        times = np.where(self._long_axes(dims) <= 1, self.uses, 1)
        return Cost(
            parameters=int((mine * self.packed * times).sum()),
            nonzero=nonzero,
            bytes=int((_nbytes(mine, self.types[self.parameters]) * times).sum()),
            macs=self._all_macs(dims),
            activation_bytes=self._peak(sizes),
        )

    def _long_axes(self, dims: Ints) -> Ints:
        """Number of axes longer than 1 of every parameter."""
        counts: Ints = np.add.reduceat((dims > 1).astype(np.int64), self.starts) if dims.size else dims
        return counts[self.parameters]

    def _peak(self, sizes: Ints) -> int:
        held = _nbytes(sizes[self.buffers], self.types[self.buffers])
        change = np.zeros(len(self.graph.nodes) + 2, np.int64)
        np.add.at(change, self.born, held)
        np.subtract.at(change, self.dies, held)
        return int(np.cumsum(change).max())

    def _all_macs(self, dims: Ints) -> int:
        changed = np.logical_or.reduceat(dims != self.dims, self.starts) if dims.size else dims.astype(bool)
        total = 0
        for node, macs in zip(self.counted, self.macs, strict=True):
            touched = any(changed[self.number[t]] for t in (*node.inputs, *node.outputs) if t in self.number)
            total += self._macs(node, dims) if touched else macs
        return total

    def _macs(self, node: Node, dims: Ints) -> int:
        shapes = {t: self.shape(t, dims) for t in (*node.inputs, *node.outputs) if t in self.number}
        rule = rule_for(node.domain, node.op)
        if rule is None or rule.macs is None or any(0 in shape for shape in shapes.values()):
            return 0
        return rule.macs(node, shapes)


def _nbytes(sizes: Ints, types: Ints) -> Ints:
    """Bytes per tensor in an ONNX file, given numbers of elements and ONNX types."""
    bits = {int(t): nbytes_of(int(t), (8,)) for t in np.unique(types)}
    return (sizes * np.array([bits[int(t)] for t in types], np.int64) + 7) // 8


def _has_macs(graph: Graph, node: Node) -> bool:
    rule = rule_for(node.domain, node.op)
    known = all(t in graph.shapes and t in graph.dtypes for t in (*node.inputs, *node.outputs[:1]) if t)
    return rule is not None and rule.macs is not None and known


def _uses(graph: Graph, tensor: str) -> list[Node]:
    """The nodes that read a constant; an Identity is not a use of its own."""
    result = []
    for node, _ in graph.consumers.get(tensor, ()):
        result += _uses(graph, node.outputs[0]) if node.op == "Identity" and not node.domain else [node]
    return result


def is_parameter(graph: Graph, tensor: str) -> bool:
    """Whether the elements of this constant are parameters, as the head of this file defines them."""
    weight = graph.weights[tensor]
    if not weight.shape or not graph.consumers.get(tensor) or _only_shape(graph, tensor):
        return False
    role = weight_role(graph, tensor)
    if role.linear:
        return is_float(weight) or is_quantised(graph, tensor)
    return is_float(weight) and role not in NEVER


def _only_shape(graph: Graph, tensor: str) -> bool:
    """Whether all readers compute with sizes: they take it for sizes (Resize), or for a factor of them."""
    for node, k in graph.consumers[tensor]:
        rule = rule_for(node.domain, node.op)
        sizes = rule is not None and rule.role(k) is Role.SHAPE
        if not sizes and not graph.from_shape.issuperset(node.outputs):
            return False
    return True


def _computed(graph: Graph) -> Iterator[str]:
    """Graph inputs and everything that depends on them, shape arithmetic left out."""
    alive = set(graph.inputs)
    yield from graph.inputs
    inner = {t for node in graph.nodes for body in node.bodies.values() for t in body.inputs}
    for node in graph.nodes:
        if node.bodies or any(i in alive or i in inner for i in node.inputs):
            for output in node.outputs:
                if output and output not in graph.values:
                    alive.add(output)
                    yield output


def _nonzero(graph: Graph, model: Model) -> int:
    """Parameters that are not zero; in quantised storage, that are not the zero point."""
    total = 0
    for tensor in graph.weights:
        if is_parameter(graph, tensor):
            weight = model.weights.get(graph.origin.get(tensor, tensor), graph.weights[tensor])
            times = len(_uses(graph, tensor)) if sum(d > 1 for d in weight.shape) <= 1 else 1
            total += times * nonzero(graph, tensor, weight.array())
    return total
