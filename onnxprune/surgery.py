"""Surgery: ``mask`` zeroes what a plan names, ``remove`` makes the shapes smaller. Neither edits its input.

``remove`` slices constants, then walks the nodes in execution order and lets every rule update what depends on sizes.
Values computed from shapes are re-evaluated with the new shapes first, so a Reshape target that follows the cut by
itself is left alone, and one that does not is patched: a constant gets a copy, a computed one is scaled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import gcd
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from onnxprune.cuts import AxisCut, cut_array, cuts_of, zero_slices
from onnxprune.errors import PlanError, SurgeryError
from onnxprune.graph import Graph, Node, fold, small_constants
from onnxprune.model import DerivedWeight, Model, ModelEditor, Weight
from onnxprune.ops import rule_for
from onnxprune.ops.quantized import stored_zero
from onnxprune.ops.rule import Role
from onnxprune.plan import Plan
from onnxprune.values import Coupling, Ints, Member

__all__ = ["mask", "new_shapes", "remove"]

Array = NDArray[Any]
CutMap = dict[str, dict[int, AxisCut]]
ORIGINAL_SIZE = (Role.LINEAR, Role.DIVISOR, Role.EXPONENT, Role.BOUND, Role.DATA)


def mask(model: Model, coupling: Coupling, plan: Plan) -> Model:
    """Same shapes; the linear parameters of removed units and the removed single weights are zero."""
    graph: Graph = coupling.graph
    editor = model.edit()
    store = _Store(graph, editor)
    hazards = {g.name for g in coupling.groups if g.hazard}
    cuts: CutMap = {}
    for name, units in plan.units.items():
        wanted = _consuming if name in hazards else _linear
        for tensor, axes in cuts_of(coupling, {name: units}, wanted).items():
            mine = cuts.setdefault(tensor, {})
            for axis, cut in axes.items():
                old = mine.get(axis)
                mine[axis] = cut if old is None else AxisCut(old.removed | cut.removed, cut.along)
    new: dict[str, Weight] = {}
    for tensor, axes in cuts.items():
        if tensor in graph.weights:
            new[tensor] = _zeroed(graph, tensor, axes)
    for tensor, gone in plan.weights.items():
        base = new.get(tensor, graph.weights.get(tensor))
        if base is None or tuple(base.shape) != gone.shape:
            raise PlanError(
                f"The plan masks `{tensor}` {gone.shape}, which the model does not have", "Make a new plan."
            )
        new[tensor] = _holes(base, gone, stored_zero(graph, tensor))
    store.put(new)
    return editor.build()


def _linear(member: Member) -> bool:
    return member.weight and member.linear


def _consuming(member: Member) -> bool:
    return member.weight and member.linear and member.consumes


def _zeroed(graph: Graph, tensor: str, axes: Mapping[int, AxisCut]) -> Weight:
    zero = stored_zero(graph, tensor)
    base = graph.weights[tensor]
    return DerivedWeight(base, tuple(base.shape), lambda a: zero_slices(a, axes, zero))


def _holes(base: Weight, gone: NDArray[np.bool_], zero: Array | int) -> Weight:
    def punch(array: Array) -> Array:
        result = np.array(array)
        result[gone] = np.broadcast_to(np.asarray(zero).astype(array.dtype), array.shape)[gone]
        return result

    return DerivedWeight(base, tuple(base.shape), punch)


def remove(model: Model, coupling: Coupling, plan: Plan) -> Model:
    """Smaller shapes. Raises SurgeryError where an operator cannot follow."""
    if plan.weights:
        model = mask(model, coupling, replace(plan, units={}))
    graph: Graph = coupling.graph
    cuts = cuts_of(coupling, plan.units)
    for tensor, axes in cuts.items():
        for axis, cut in axes.items():
            _check_cut(tensor, axis, cut)
    editor = model.edit()
    surgeon = Surgeon(graph, coupling, editor, cuts)
    weights = _weights_of(graph, model) if plan.weights else graph.weights
    surgeon.store.put({t: _cut(weights[t], axes) for t, axes in cuts.items() if t in graph.weights})
    for node in graph.nodes:
        rule = rule_for(node.domain, node.op)
        if rule is not None and rule.cut is not None:
            rule.cut(node, surgeon)
    surgeon.keep_numbers()
    surgeon.finish()
    return editor.build()


def _weights_of(graph: Graph, model: Model) -> Mapping[str, Weight]:
    """The graph's constants with the values that ``model`` has for them now."""
    return {t: model.weights.get(graph.origin.get(t, t), w) for t, w in graph.weights.items()}


def _check_cut(tensor: str, axis: int, cut: AxisCut) -> None:
    lost = cut.removed.reshape(-1, cut.removed.shape[-1]).sum(axis=1)
    if len(set(lost.tolist())) > 1:
        raise SurgeryError(
            f"The blocks of `{tensor}` axis {axis} would lose different numbers of elements: {lost.tolist()}",
            "Remove equally many from each block.",
        )
    if int(lost[0]) == cut.removed.shape[-1]:
        raise SurgeryError(f"Nothing would be left of `{tensor}` axis {axis}", "Keep at least one unit.")


def _cut(base: Weight, axes: Mapping[int, AxisCut]) -> Weight:
    shape = list(base.shape)
    for axis, cut in axes.items():
        shape[axis] -= cut.lost
    return DerivedWeight(base, tuple(shape), lambda a: cut_array(a, axes))


def new_shapes(graph: Graph, cuts: Mapping[str, Mapping[int, AxisCut]]) -> dict[str, tuple[int, ...]]:
    """Concrete shape of every tensor after the cuts."""
    result = dict(graph.shapes)
    for tensor, axes in cuts.items():
        shape = list(result[tensor])
        for axis, cut in axes.items():
            shape[axis] -= cut.lost
        result[tensor] = tuple(shape)
    return result


class _Store:
    """Writes constants back: shared ones stay shared where they still agree, bodies are edited in place."""

    def __init__(self, graph: Graph, editor: ModelEditor) -> None:
        self.graph = graph
        self.editor = editor

    def put(self, new: Mapping[str, Weight]) -> None:
        """Replace constants; copies of one shared constant that turned out alike share it again."""
        families: dict[str, list[str]] = defaultdict(list)
        for copy, original in self.graph.origin.items():
            families[original].append(copy)
        touched = {self.graph.origin.get(t, t) for t in new}
        for original in touched:
            members = [original, *families.get(original, ())]
            if len(members) == 1:
                self._write(original, new[original])
                continue
            written: list[tuple[bytes, str]] = []
            for name in members:
                weight = new.get(name, self.graph.weights[name])
                content = np.ascontiguousarray(weight.array()).tobytes() + repr(tuple(weight.shape)).encode()
                target = next((t for c, t in written if c == content), None)
                if target is None:
                    target = original if not written else self.editor.add_weight(original, weight.array())
                    if not written:
                        self._write(original, weight)
                    written.append((content, target))
                if target != original or name != original:
                    self._rewire(name, target)

    def _rewire(self, name: str, target: str) -> None:
        for node, k in self.graph.consumers.get(name, ()):
            proto = find_node(self.editor.proto.graph, node.where)
            if len(node.where) == 1 or target not in self.graph.raw:
                proto.input[k] = self.graph.raw.get(target, target)

    def _write(self, name: str, weight: Weight) -> None:
        if name in self.editor.weights:
            self.editor.set_weight(name, weight)
            return
        raw = self.graph.raw[name]
        for body in bodies(self.editor.proto.graph):
            for tensor in body.initializer:
                if tensor.name == raw and tuple(tensor.dims) == tuple(self.graph.weights[name].shape):
                    tensor.CopyFrom(numpy_helper.from_array(weight.array(), raw))
            for node in body.node:
                if node.op_type == "Constant" and raw in node.output:
                    del node.attribute[:]
                    node.attribute.append(
                        onnx.helper.make_attribute("value", numpy_helper.from_array(weight.array(), raw))
                    )


def bodies(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """All graphs inside control flow, at any depth."""
    found = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found += [attribute.g, *bodies(attribute.g)]
    return found


def find_graph(graph: onnx.GraphProto, where: Sequence[int | str]) -> onnx.GraphProto:
    """The graph that holds the node at ``where``."""
    for index, name in zip(where[:-1:2], where[1::2], strict=True):
        graph = next(a.g for a in graph.node[int(index)].attribute if a.name == name)
    return graph


def find_node(graph: onnx.GraphProto, where: Sequence[int | str]) -> onnx.NodeProto:
    """The NodeProto at ``where`` (see `graph.Node`)."""
    proto: onnx.NodeProto = find_graph(graph, where).node[int(where[-1])]
    return proto


class Surgeon:
    """Implements `ops.cutting.Cutter` on a copy of the protobuf."""

    def __init__(self, graph: Graph, coupling: Coupling, editor: ModelEditor, cuts: CutMap) -> None:
        self.graph = graph
        self.options = coupling.options
        self.editor = editor
        self.cuts = cuts
        self.store = _Store(graph, editor)
        self.shapes = new_shapes(graph, cuts)
        constants = small_constants(graph)
        for tensor in constants.keys() & cuts.keys():
            constants[tensor] = cut_array(constants[tensor], cuts[tensor])
        self.values, _ = fold(graph, constants, self.shapes)
        self._protos = {n.number: find_node(editor.proto.graph, n.where) for n in graph.nodes}
        self._before: dict[tuple[int | str, ...], list[onnx.NodeProto]] = defaultdict(list)
        self._instead: dict[tuple[int | str, ...], list[onnx.NodeProto]] = {}

    # -- what rules ask -----------------------------------------------------------------------------------------------

    def old_shape(self, tensor: str) -> tuple[int, ...]:
        return self.graph.shapes[tensor]

    def new_shape(self, tensor: str) -> tuple[int, ...]:
        return self.shapes[tensor]

    def size(self, tensor: str, axis: int) -> int:
        return self.shapes[tensor][axis]

    def keep(self, tensor: str, axis: int) -> Ints:
        cut = self.cuts.get(tensor, {}).get(axis)
        return np.arange(self.graph.shapes[tensor][axis]) if cut is None else cut.keep

    def changed(self, tensor: str, axis: int | None = None) -> bool:
        axes = self.cuts.get(tensor, {})
        wanted = axes.values() if axis is None else [axes[axis]] if axis in axes else []
        return any(cut.lost for cut in wanted)

    def value(self, tensor: str) -> Array | None:
        return self.values.get(tensor)

    # -- what rules do ------------------------------------------------------------------------------------------------

    def set_attr(self, node: Node, name: str, value: Any) -> None:
        proto = self._protos[node.number]
        for attribute in proto.attribute:
            if attribute.name == name:
                if onnx.helper.get_attribute_value(attribute) != value:
                    attribute.CopyFrom(onnx.helper.make_attribute(name, value))
                return
        proto.attribute.append(onnx.helper.make_attribute(name, value))

    def drop_attr(self, node: Node, name: str) -> None:
        proto = self._protos[node.number]
        kept = [a for a in proto.attribute if a.name != name]
        if len(kept) < len(proto.attribute):
            copies = [onnx.AttributeProto.FromString(a.SerializeToString()) for a in kept]
            del proto.attribute[:]
            proto.attribute.extend(copies)

    def set_input(self, node: Node, k: int, tensor: str) -> None:
        proto = self._protos[node.number]
        while len(proto.input) <= k:
            proto.input.append("")
        proto.input[k] = tensor

    def local(self, node: Node, tensor: str) -> str:
        proto = self._protos[node.number]
        for mine, names in ((node.inputs, proto.input), (node.outputs, proto.output)):
            if tensor in mine:
                return names[mine.index(tensor)]
        return self.graph.raw.get(tensor, tensor)

    def fresh(self, base: str) -> str:
        return self.editor.fresh(base)

    def add_constant(self, base: str, array: Array) -> str:
        return self.editor.add_weight(base, array)

    def insert_before(self, node: Node, nodes: Sequence[onnx.NodeProto]) -> None:
        self._before[node.where].extend(nodes)

    def replace(self, node: Node, nodes: Sequence[onnx.NodeProto]) -> None:
        self._instead[node.where] = list(nodes)

    def want(self, node: Node, k: int, value: Array | Sequence[int]) -> None:
        tensor = node.inputs[k]
        now = self.values.get(tensor)
        if now is None:
            raise SurgeryError(f"Input {k} of {node} depends on data and cannot follow the cut", "Skip this group.")
        wanted = np.asarray(value).astype(now.dtype)
        if now.shape == wanted.shape and np.array_equal(now, wanted):
            return
        if tensor in self.graph.weights or tensor not in self.graph.from_shape:
            self.set_input(node, k, self.add_constant(f"{tensor}.cut", wanted))
            return
        if now.shape != wanted.shape:
            raise SurgeryError(f"Input {k} of {node} has another length after the cut", "Skip this group.")
        factors = np.ones_like(now)
        divisors = np.ones_like(now)
        for i, (a, b) in enumerate(zip(now.reshape(-1).tolist(), wanted.reshape(-1).tolist(), strict=True)):
            if a != b and a > 0:
                common = gcd(a, b)
                factors.reshape(-1)[i], divisors.reshape(-1)[i] = b // common, a // common
        self._scale(node, k, factors, divisors)

    def _scale(self, node: Node, k: int, factors: Array, divisors: Array | None) -> None:
        source = self.local(node, node.inputs[k])
        base = f"{source}.cut"
        product = self.fresh(base)
        steps = [
            onnx.helper.make_node(
                "Mul", [source, self.add_constant(f"{base}.times", factors)], [product], name=self.fresh(f"{base}/Mul")
            )
        ]
        if divisors is not None:
            quotient = self.fresh(base)
            steps.append(
                onnx.helper.make_node(
                    "Div",
                    [product, self.add_constant(f"{base}.over", divisors)],
                    [quotient],
                    name=self.fresh(f"{base}/Div"),
                )
            )
            product = quotient
        self.insert_before(node, steps)
        self.set_input(node, k, product)

    # -- what is left to do -------------------------------------------------------------------------------------------

    def keep_numbers(self) -> None:
        """Sizes that are used as numbers (the square root in attention) keep their old value."""
        for tensor in self.graph.from_shape:
            old, new = self.graph.values[tensor], self.values.get(tensor)
            if new is None or (old.shape == new.shape and np.array_equal(old, new)):
                continue
            for node, k in self.graph.consumers.get(tensor, ()):
                rule = rule_for(node.domain, node.op)
                computes = any(o in self.graph.values for o in node.outputs)
                if rule is None or computes or rule.role(k) not in ORIGINAL_SIZE or self._is_mean(node, k):
                    continue
                if not np.issubdtype(old.dtype, np.floating) or old.shape != new.shape:
                    raise SurgeryError(f"{node} uses the size of a cut axis as a number", "Skip this group.")
                self._scale(node, k, np.asarray(old / new, old.dtype), None)

    def _is_mean(self, node: Node, k: int) -> bool:
        source = self.graph.producer.get(node.inputs[0])
        return node.op == "Div" and k == 1 and source is not None and source.op == "ReduceSum"

    def finish(self) -> None:
        """Put inserted and replaced nodes in their places, and bring declared shapes up to date."""
        places = {w[:-1] for w in (*self._before, *self._instead)}
        for place in sorted(places, key=len, reverse=True):
            graph = find_graph(self.editor.proto.graph, (*place, 0))
            rebuilt: list[onnx.NodeProto] = []
            for index, node in enumerate(graph.node):
                where = (*place, index)
                rebuilt += self._before.get(where, [])
                rebuilt += self._instead.get(where, [node])
            copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in rebuilt]
            del graph.node[:]
            graph.node.extend(copies)
        self._declare(self.editor.proto.graph)

    def _declare(self, graph: onnx.GraphProto) -> None:
        produced = {o for n in graph.node for o in n.output} | {i.name for i in graph.input}
        qualified: dict[str, list[str]] = defaultdict(list)
        for name, raw in self.graph.raw.items():
            qualified[raw].append(name)
        top = graph is self.editor.proto.graph
        keep = [value for value in graph.value_info if value.name in produced]
        if len(keep) < len(graph.value_info):
            copies = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in keep]
            del graph.value_info[:]
            graph.value_info.extend(copies)
        for value in (*graph.input, *graph.output, *graph.value_info):
            names = [value.name] if top else qualified.get(value.name, [])
            for name in names:
                self._declare_one(value, name)
        for body in bodies(graph) if top else ():
            self._declare(body)

    def _declare_one(self, value: onnx.ValueInfoProto, name: str) -> None:
        if name not in self.cuts or not value.type.HasField("tensor_type"):
            return
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if axis in self.cuts[name] and dim.HasField("dim_value"):
                dim.dim_value = self.shapes[name][axis]
