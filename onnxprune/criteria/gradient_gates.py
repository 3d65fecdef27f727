"""What each unit contributes to a loss: a gate on every unit, and the gradient of the loss with respect to it.

Put a factor z = 1 on a unit wherever it is read by weights (`activations.read_points`). With a the activation there and
dL/da its gradient through the nodes that read it with those weights, and no others::

    dL_n/dz = sum over read points and positions of a_n * dL_n/da_n          for every example n

Setting z to 0 removes the unit, and to first order changes the loss by -dL/dz. Where an activation is read by others as
well (a residual stream) only what goes through the gate counts: a copy of the activation is put in front of each node
that reads the unit, so that nothing is counted twice.

All of it is one graph: gradients of activations, products and sums are computed where the activations are, and what
leaves the graph is one number for each example and unit, or less.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnxprune._graphs import all_names, find_node, weave
from onnxprune.activations import ReadPoint, weight_readers
from onnxprune.criteria.measuring import measured_points
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.nodes import Node
from onnxprune.ops.emitter import Dim, Value
from onnxprune.ops.tape import Tape
from onnxprune.values import Coupling, Group

__all__ = ["Gate", "Gated", "contributions", "gated"]

FLOAT = int(TensorProto.FLOAT)


@dataclass(frozen=True, eq=False)
class Gate:
    """A read point, and the tensors whose gradients add up to that through the nodes which read the unit."""

    point: ReadPoint
    tensors: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Gated:
    """A model with copies of activations in front of what reads units, and group name -> its gates."""

    model: Model
    gates: Mapping[str, tuple[Gate, ...]]

    @property
    def tensors(self) -> tuple[str, ...]:
        """All tensors whose gradients are needed."""
        return tuple(dict.fromkeys(name for gates in self.gates.values() for gate in gates for name in gate.tensors))


@dataclass
class Copies:
    """Copies of activations that are still to be written, one for each node that reads one."""

    taken: set[str]
    made: dict[tuple[str, int], str] = field(default_factory=dict)  # tensor, number of the reader -> the copy

    def of(self, tensor: str, reader: Node) -> str:
        key = (tensor, reader.number)
        if key not in self.made:
            name = f"{tensor}_read_by_{reader.name or reader.number}"
            while name in self.taken:
                name += "_"
            self.taken.add(name)
            self.made[key] = name
        return self.made[key]


def gated(model: Model, coupling: Coupling) -> Gated:
    """Gates on all units whose activations can be measured; a group without any is not in it."""
    graph: Graph = coupling.graph
    copies = Copies(set(all_names(model.proto)) | set(model.weights) | set(graph.weights))
    points = measured_points(coupling)
    gates = {}
    for group in coupling.groups:
        mine = points[group.name]
        if mine and _covered(group, mine):
            gates[group.name] = tuple(Gate(p, _tensors(graph, group, p.tensor, copies)) for p in mine)
    return Gated(_with_copies(model, graph, copies), gates)


def _covered(group: Group, points: Iterable[ReadPoint]) -> bool:
    """Whether every unit is read somewhere."""
    return bool(np.isin(np.arange(group.units), np.concatenate([p.unit for p in points])).all())


def _tensors(graph: Graph, group: Group, tensor: str, copies: Copies) -> tuple[str, ...]:
    """The activation itself where all that read it read the unit, or where none does with weights; else copies."""
    readers = [node for node in weight_readers(graph, group, tensor) if len(node.where) == 1]
    everybody = {node.number for node, _ in graph.consumers.get(tensor, ())}
    if not readers or (everybody == {node.number for node in readers} and tensor not in graph.outputs):
        return (tensor,)
    return tuple(copies.of(tensor, node) for node in readers)


def _with_copies(model: Model, graph: Graph, copies: Copies) -> Model:
    if not copies.made:
        return model
    editor = model.edit()
    before: dict[tuple[int | str, ...], list[onnx.NodeProto]] = {}
    for (tensor, number), name in copies.made.items():
        node = graph.nodes[number]
        proto = find_node(editor.proto.graph, node.where)
        proto.input[:] = [name if read == tensor else read for read in proto.input]
        before.setdefault(node.where, []).append(helper.make_node("Identity", [tensor], [name], name=f"{name}_node"))
    weave(editor.proto.graph, before, {})
    return editor.build()


def contributions(
    tape: Tape, units: Mapping[str, int], found: Gated, gradients: Mapping[str, Value]
) -> dict[str, Value]:
    """Group name -> dL_n/dz of every unit, float32 of shape (examples, units).

    ``units``: how many a group has; ``gradients``: of `Gated.tensors`, as ``backward`` gives them. A group is left out
    where the loss does not depend on it, or where examples cannot be told apart in an activation.
    """
    batch = tape.tensor(tape.graph.inputs[0])
    known: dict[tuple[str, tuple[str, ...], int], Value | None] = {}
    result = {}
    for name, gates in found.gates.items():
        parts: list[Value] = []
        for gate in gates:
            key = (gate.point.tensor, gate.tensors, gate.point.axis)
            if key not in known:
                known[key] = _by_position(tape, gate, gradients, batch)
            at_axis = known[key]
            if at_axis is not None:
                parts.append(_by_unit(tape, at_axis, gate.point, units[name]))
            elif any(tensor in gradients for tensor in gate.tensors):
                parts = []  # part of it would be wrong
                break
        if parts:
            result[name] = _total(parts)
    return result


def _by_position(tape: Tape, gate: Gate, gradients: Mapping[str, Value], batch: Value) -> Value | None:
    """(examples, positions of the axis): a * dL/da, summed over everything else."""
    mine = [gradients[name] for name in gate.tensors if name in gradients]
    if not mine:
        return None
    a, g = (tape.cast(value, FLOAT) for value in (tape.tensor(gate.point.tensor), _total(mine)))
    if a.sizes is None:
        return None
    product, axis, size = a * g, gate.point.axis, batch.known[0]
    for k, length in enumerate(a.sizes):
        if k != axis and length == size:
            summed = tape.sum(product, [j for j in range(a.rank) if j not in (k, axis)])
            return summed if k < axis else tape.transpose(summed, (1, 0))
    if not axis or a.sizes[0] % size:
        return None
    rest: list[int | Dim] = [tape.dim(a, k) for k in range(1, a.rank)]
    apart = tape.op(  # windows or heads that are merged into the first axis become an axis
        "Reshape", product, tape.shape_vector([tape.dim(batch, 0), -1, *rest]),
        sizes=(size, -abs(a.sizes[0] // size), *a.sizes[1:]),
    )  # fmt: skip
    return tape.sum(apart, [j for j in range(1, a.rank + 1) if j != axis + 1])


def _by_unit(tape: Tape, values: Value, point: ReadPoint, units: int) -> Value:
    """(examples, positions) -> (examples, units)."""
    order = np.argsort(point.unit, kind="stable")
    index, counts = point.index[order], np.bincount(point.unit, minlength=units)
    size = values.known[1]
    if not np.array_equal(index, np.arange(size)):
        taken = tape.const(index.astype(np.int64))
        values = tape.op("Gather", values, taken, sizes=(values.known[0], index.size), axis=1)
    if (counts == 1).all():
        return values
    if (counts == counts[0]).all():
        return tape.sum(tape.reshape(values, [tape.dim(values, 0), units, int(counts[0])]), [2])
    table = np.zeros((index.size, units), np.float32)
    table[np.arange(index.size), point.unit[order]] = 1
    return tape.matmul(values, tape.const(table))


def _total(parts: Sequence[Value]) -> Value:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
