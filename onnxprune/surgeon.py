"""The hands of surgery: sizes before and after the cut, and edits on a copy of the protobuf."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from math import gcd
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onnxprune._graphs import Where, all_bodies, find_node, refill, weave
from onnxprune.cuts import AxisCut, cut_array
from onnxprune.errors import SurgeryError
from onnxprune.graph import Graph, Node, fold, small_constants
from onnxprune.model import ModelEditor
from onnxprune.ops import rule_for
from onnxprune.ops.rule import Role
from onnxprune.store import Store
from onnxprune.values import Coupling, Ints

__all__ = ["Surgeon", "new_shapes"]

Array = NDArray[Any]
CutMap = Mapping[str, Mapping[int, AxisCut]]
ORIGINAL_SIZE = (Role.LINEAR, Role.DIVISOR, Role.EXPONENT, Role.BOUND, Role.DATA)


def new_shapes(graph: Graph, cuts: Mapping[str, Mapping[int, AxisCut]]) -> dict[str, tuple[int, ...]]:
    """Concrete shape of every tensor after the cuts."""
    result = dict(graph.shapes)
    for tensor, axes in cuts.items():
        shape = list(result[tensor])
        for axis, cut in axes.items():
            shape[axis] -= cut.lost
        result[tensor] = tuple(shape)
    return result


class Surgeon:
    """Implements `ops.cutting.Cutter` on a copy of the protobuf."""

    def __init__(self, graph: Graph, coupling: Coupling, editor: ModelEditor, cuts: CutMap) -> None:
        self.graph = graph
        self.options = coupling.options
        self.editor = editor
        self.cuts = cuts
        self.store = Store(graph, editor)
        self.shapes = new_shapes(graph, cuts)
        constants = small_constants(graph)
        for tensor in constants.keys() & cuts.keys():
            constants[tensor] = cut_array(constants[tensor], cuts[tensor])
        self.values, _ = fold(graph, constants, self.shapes)
        self._protos = {n.number: find_node(editor.proto.graph, n.where) for n in graph.nodes}
        self._before: dict[Where, list[onnx.NodeProto]] = defaultdict(list)
        self._forgotten: set[str] = set()
        self._instead: dict[Where, list[onnx.NodeProto]] = {}

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
            refill(proto.attribute, kept)

    def set_input(self, node: Node, k: int, tensor: str) -> None:
        proto = self._protos[node.number]
        while len(proto.input) <= k:
            proto.input.append("")
        proto.input[k] = tensor

    def local(self, node: Node, tensor: str) -> str:
        proto = self._protos[node.number]
        for mine, names in ((node.inputs, proto.input), (node.outputs, proto.output)):
            if tensor in mine:
                return str(names[mine.index(tensor)])
        return str(self.graph.raw.get(tensor, tensor))

    def fresh(self, base: str) -> str:
        return self.editor.fresh(base)

    def add_constant(self, base: str, array: Array) -> str:
        return self.editor.add_weight(base, array)

    def forget(self, tensor: str) -> None:
        self._forgotten.add(tensor)

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
        factors, divisors, terms = np.ones_like(now), np.ones_like(now), np.zeros_like(now)
        for i, (a, b) in enumerate(zip(now.reshape(-1).tolist(), wanted.reshape(-1).tolist(), strict=True)):
            if a == b:
                continue
            if a > 0:
                common = gcd(a, b)
                factors.reshape(-1)[i], divisors.reshape(-1)[i] = b // common, a // common
            else:  # a size that was divided down to nothing: no factor leads back
                factors.reshape(-1)[i], terms.reshape(-1)[i] = 0, b
        self._compute(node, k, ("Mul", factors), ("Div", divisors), ("Add", terms))

    def _compute(self, node: Node, k: int, *steps: tuple[str, Array]) -> None:
        """Put arithmetic with constants between the node and what it reads; steps that change nothing are left out."""
        tensor = self.local(node, node.inputs[k])
        base = f"{tensor}.cut"
        nodes = []
        for op, constant in steps:
            if (constant == (0 if op == "Add" else 1)).all():
                continue
            result = self.fresh(base)
            operand = self.add_constant(f"{base}.{op.lower()}", constant)
            nodes.append(onnx.helper.make_node(op, [tensor, operand], [result], name=self.fresh(f"{base}/{op}")))
            tensor = result
        self.insert_before(node, nodes)
        self.set_input(node, k, tensor)

    # -- what is left to do -------------------------------------------------------------------------------------------

    def keep_numbers(self) -> None:
        """Sizes that are used as numbers (the square root in attention) keep their old value."""
        for tensor in self.graph.from_shape:
            old, new = self.graph.values[tensor], self.values.get(tensor)
            cut = tensor in self.cuts  # rows picked from a small table by position, not a size
            if new is None or cut or (old.shape == new.shape and np.array_equal(old, new)):
                continue
            for node, k in self.graph.consumers.get(tensor, ()):
                rule = rule_for(node.domain, node.op)
                computes = any(o in self.graph.values for o in node.outputs)
                if rule is None or computes or rule.role(k) not in ORIGINAL_SIZE or self._is_mean(node, k):
                    continue
                if not np.issubdtype(old.dtype, np.floating) or old.shape != new.shape:
                    raise SurgeryError(f"{node} uses the size of a cut axis as a number", "Skip this group.")
                self._restore(node, k, old, new)

    def _restore(self, node: Node, k: int, old: Array, new: Array) -> None:
        """Scale a computed number back, so that it may still follow dynamic dimensions; 0 and Inf become constants."""
        with np.errstate(all="ignore"):
            ratio = np.asarray(old / new, old.dtype)
        if np.isfinite(ratio).all() and np.isfinite(new).all() and ratio.all():
            self._compute(node, k, ("Mul", ratio))
        else:
            self.set_input(node, k, self.add_constant(f"{node.inputs[k]}.cut", old))

    def _is_mean(self, node: Node, k: int) -> bool:
        source = self.graph.producer.get(node.inputs[0])
        return node.op == "Div" and k == 1 and source is not None and source.op == "ReduceSum"

    def finish(self) -> None:
        """Put inserted and replaced nodes in their places, and bring declared shapes up to date."""
        for prefix, body in {"": self.editor.proto.graph, **self.store.bodies()}.items():
            self._declare(body, prefix)
        main = self.editor.proto.graph
        weave(main, self._before, self._instead)
        for graph in (main, *all_bodies(main)):
            self._forget_replaced(graph)

    def _declare(self, graph: onnx.GraphProto, prefix: str) -> None:
        for value in (*graph.input, *graph.output, *graph.value_info):
            name = prefix + value.name
            if name not in self.cuts or not value.type.HasField("tensor_type"):
                continue
            for axis, dim in enumerate(value.type.tensor_type.shape.dim):
                if axis in self.cuts[name] and dim.HasField("dim_value"):
                    dim.dim_value = self.shapes[name][axis]
                elif axis in self.cuts[name]:  # "4*batch" is not that any more; onnxruntime plans memory by such names
                    dim.ClearField("dim_param")

    def _forget_replaced(self, graph: onnx.GraphProto) -> None:
        """Drop declarations of tensors that no node makes any more."""
        produced = {o for n in graph.node for o in n.output} | {i.name for i in graph.input}
        forgotten = {self.graph.raw.get(tensor, tensor) for tensor in self._forgotten}
        keep = [value for value in graph.value_info if value.name in produced - forgotten]
        if len(keep) < len(graph.value_info):
            refill(graph.value_info, keep)
