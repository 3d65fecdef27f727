"""If, Loop and Scan without their bodies: the nodes inside, once per round, under names of their own.

A Loop or Scan is unrolled where the number of rounds is known from constants and fixed sizes; an If becomes the branch
that a constant condition picks, or both branches and a Where. What cannot be taken apart stays as it is, and is named
when a gradient has to pass through it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto

from onnxprune._graphs import bodies, find_node
from onnxprune.graph import Graph, Node, fold_node
from onnxprune.nodes import Body
from onnxprune.ops.emitter import Value
from onnxprune.ops.tape import Tape

__all__ = ["expand_if", "expand_loop", "expand_scan"]

LIMIT = 20_000  # nodes that one loop may become
FIRST_SCAN = 9  # the version from which on Scan is what is unrolled here
Outputs = Sequence[Value | None]


def _stays(node: Node, t: Tape) -> Outputs:
    return (Value(t, node.output(0), None, int(TensorProto.FLOAT)),)


# -- writing a body -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Inside:
    """One body of a node: its graph, and the prefix that its names have in the analysis view."""

    t: Tape
    graph: onnx.GraphProto
    prefix: str

    def write(self, given: Mapping[str, str]) -> list[str]:
        """All its nodes, with these tensors for its formal inputs (in order); names of its outputs."""
        scope = dict(given)
        for tensor in self.graph.initializer:
            scope[tensor.name] = self._constant(tensor.name)
        for proto in self.graph.node:
            if proto.op_type == "Constant" and self.prefix + proto.output[0] in self.t.graph.weights:
                scope[proto.output[0]] = self._constant(proto.output[0])
                continue
            made = onnx.NodeProto()
            made.CopyFrom(proto)
            made.name = self.t.fresh(proto.name or f"{proto.op_type}_node")
            _rename(made, scope)
            for k, name in enumerate(proto.output):
                if name:
                    scope[name] = made.output[k] = self.t.fresh(name)
            self.t.nodes.append(made)
        return [scope.get(value.name, value.name) for value in self.graph.output]

    def _constant(self, name: str) -> str:
        """A constant of the body under the name that it has in the analysis view, so that it can be found again."""
        full = self.prefix + name
        self.t.constants[full] = self.t.graph.weights[full].array()
        return full


def _rename(proto: onnx.NodeProto, scope: Mapping[str, str]) -> None:
    """What a node reads from outside, inside its bodies as well, under new names."""
    proto.input[:] = [scope.get(name, name) for name in proto.input]
    for graph in bodies((proto,)):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        own |= {name for inner in graph.node for name in inner.output}
        visible = {raw: new for raw, new in scope.items() if raw not in own}
        for inner in graph.node:
            _rename(inner, visible)
        for value in graph.output:
            if value.name in visible:  # a body puts out what it makes
                name = f"{value.name}_out"
                graph.node.append(onnx.helper.make_node("Identity", [visible[value.name]], [name]))
                value.name = name


def _inside(node: Node, t: Tape, attribute: str) -> Inside:
    proto = find_node(t.graph.model.proto.graph, node.where)
    graph = next(a.g for a in proto.attribute if a.name == attribute)
    return Inside(t, graph, f"{node.name}.{attribute}/")


def _value(t: Tape, name: str, like: str) -> Value:
    return Value(t, name, None, t.tensor(like).dtype)


# -- If -------------------------------------------------------------------------------------------------------------


def expand_if(node: Node, t: Tape) -> Outputs:
    """The branch that is taken; of two that depend on data both are run, where their results have the same shapes."""
    condition = t.constant(node, 0)
    if condition is not None:
        branch = "then_branch" if condition.any() else "else_branch"
        return [_value(t, name, y) for name, y in zip(_inside(node, t, branch).write({}), node.outputs, strict=False)]
    sides = [node.bodies[branch].outputs for branch in ("then_branch", "else_branch")]
    sizes = [[t.tensor(name).sizes for name in names] for names in sides]
    if sizes[0] != sizes[1] or None in sizes[0]:
        return _stays(node, t)
    then, other = (_inside(node, t, branch).write({}) for branch in ("then_branch", "else_branch"))
    flag = t.input(node, 0)
    return [
        t.where(flag, _value(t, a, y), _value(t, b, y)) for a, b, y in zip(then, other, node.outputs, strict=False) if y
    ]


# -- Loop -----------------------------------------------------------------------------------------------------------


def expand_loop(node: Node, t: Tape) -> Outputs:
    """The body once per round. Carried tensors go from round to round, the others are collected along a new axis."""
    body, states = node.bodies["body"], len(node.inputs) - 2
    rounds = _rounds(node, t, body)
    collected = range(states, len(node.outputs))
    if rounds is None or (rounds == 0 and any(node.outputs[k] for k in collected)):
        return _stays(node, t)
    inside = _inside(node, t, "body")
    formal = [value.name for value in inside.graph.input]
    carried = [t.tensor(name).name for name in node.inputs[2:]]
    going = t.const(np.array(True)).name
    parts: list[list[str]] = [[] for _ in collected]
    for number in range(rounds):
        current = [t.const(np.array(number, np.int64)).name, going, *carried]
        going, *after = inside.write(dict(zip(formal, current, strict=False)))
        carried = after[:states]
        for part, name in zip(parts, after[states:], strict=False):
            part.append(name)
    outputs: list[Value | None] = [_value(t, a, y) for a, y in zip(carried, node.outputs, strict=False) if y or a]
    return [*outputs, *(_stack(t, part, node.outputs[k], 0) for k, part in zip(collected, parts, strict=True))]


def _rounds(node: Node, t: Tape, body: Body) -> int | None:
    """How often the body runs, if constants and fixed sizes tell; both assignments of dynamic sizes must agree."""
    most = t.constant(node, 0)
    if node.input(0) and most is None:
        return None
    start = t.constant(node, 1)
    if node.input(1) and start is None:
        return None
    inner = _inner(node, t.graph)
    limit = LIMIT // max(len(inner), 1)
    if most is not None and int(most.reshape(-1)[0]) > limit:
        return None
    last = limit if most is None else int(most.reshape(-1)[0])
    known = [t.constant(node, k) for k in range(2, len(node.inputs))]
    counts = {_count(node, body, graph, known, start is None or bool(start.any()), last) for graph in t.views}
    found = counts.pop()
    return None if counts or found is None or (most is None and found >= limit) else found


def _inner(node: Node, graph: Graph) -> list[Node]:
    depth = len(node.where)
    return [n for n in graph.nodes if n.where[:depth] == node.where and len(n.where) == depth + 2]


def _count(
    node: Node, body: Body, graph: Graph, known: Sequence[np.ndarray | None], going: bool, last: int
) -> int | None:
    """Rounds until the body says stop; None where what it says depends on data."""
    inner = _inner(node, graph)
    number = 0
    while going and number < last:
        values = dict(graph.values)
        given = dict(zip(body.inputs, [np.array(number, np.int64), np.array(True), *known], strict=False))
        values |= {name: value for name, value in given.items() if value is not None}
        for n in inner:
            for output in n.outputs:
                values.pop(output, None)
            fold_node(n, graph.shapes, values, set())
        if body.outputs[0] not in values:
            return None
        going = bool(values[body.outputs[0]].any())
        known = [values.get(name) for name in body.outputs[1 : 1 + len(known)]]
        number += 1
    return number


# -- Scan -----------------------------------------------------------------------------------------------------------


def expand_scan(node: Node, t: Tape) -> Outputs:
    """The body once per slice of the scanned inputs, forwards or backwards."""
    if node.version < FIRST_SCAN:
        return _stays(node, t)
    scanned = int(node.attrs["num_scan_inputs"])
    states = len(node.inputs) - scanned
    axes = list(_settings(node, "scan_input_axes", scanned))
    sources = [t.input(node, states + k) for k in range(scanned)]
    lengths = {None if x.sizes is None else x.sizes[axis] for x, axis in zip(sources, axes, strict=True)}
    length = lengths.pop()
    inside = _inside(node, t, "body")
    if lengths or not length or length < 0 or length * len(inside.graph.node) > LIMIT:
        return _stays(node, t)
    turned = _settings(node, "scan_input_directions", scanned)
    slices = [_slices(t, x, axis, back) for x, axis, back in zip(sources, axes, turned, strict=True)]
    formal = [value.name for value in inside.graph.input]
    carried = [t.tensor(name).name for name in node.inputs[:states]]
    parts: list[list[str]] = [[] for _ in node.outputs[states:]]
    for number in range(length):
        current = [*carried, *(part[number].name for part in slices)]
        after = inside.write(dict(zip(formal, current, strict=True)))
        carried = after[:states]
        for part, name in zip(parts, after[states:], strict=False):
            part.append(name)
    out_axes = _settings(node, "scan_output_axes", len(parts))
    out_turned = _settings(node, "scan_output_directions", len(parts))
    collected = [
        _stack(t, part[::-1] if back else part, y, axis)
        for part, y, axis, back in zip(parts, node.outputs[states:], out_axes, out_turned, strict=True)
    ]
    return [*(_value(t, a, y) if y else None for a, y in zip(carried, node.outputs, strict=False)), *collected]


def _settings(node: Node, name: str, count: int) -> Iterator[int]:
    return iter(node.attrs.get(name) or (0,) * count)


def _slices(t: Tape, x: Value, axis: int, backwards: int) -> list[Value]:
    """All slices along an axis, in one Split, whose gradient is one Concat."""
    axis %= x.rank
    sizes = (*x.known[:axis], 1, *x.known[axis + 1 :])
    count = x.known[axis]
    parts = t.ops("Split", x, t.ints(*[1] * count), sizes=[sizes] * count, axis=axis) if count > 1 else (x,)
    slices = [t.squeeze(part, [axis]) for part in parts]
    return slices[::-1] if backwards else slices


def _stack(t: Tape, names: Sequence[str], output: str, axis: int) -> Value | None:
    """One after the other along a new axis."""
    if not output:
        return None
    rows = [t.op("Unsqueeze", _value(t, name, output), t.ints(axis)) for name in names]
    return t.op("Concat", *rows, axis=axis) if len(rows) > 1 else rows[0]
