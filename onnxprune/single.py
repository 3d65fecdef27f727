"""One node of a model as a model of its own, at sizes that differ from the model's: what is timed for a latency table.

Constants become arrays of small numbers in the new sizes; values do not matter to the time, as long as none of them is
denormal. Attributes that depend on sizes (``group`` of a depthwise convolution) are what the operator's own rule makes
of them in surgery.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from onnxprune._graphs import find_node
from onnxprune.graph import Graph
from onnxprune.model import Model
from onnxprune.nodes import Node
from onnxprune.ops import rule_for
from onnxprune.values import Ints, Options
from onnxprune.weights import ArrayWeight, dtype_of

__all__ = ["SingleNode", "one_node"]

Array = NDArray[Any]
Shapes = Mapping[str, tuple[int, ...]]

VALUE = 0.01


@dataclass(frozen=True, eq=False)
class SingleNode:
    """A node with the sizes and types of its inputs. ``constants``: values that have to be what they are, by input."""

    proto: onnx.NodeProto
    inputs: Mapping[str, tuple[tuple[int, ...], int]]  # name -> shape and ONNX type
    fixed: frozenset[str]  # inputs that are constants of the model
    constants: Mapping[str, Array]
    opsets: Sequence[onnx.OperatorSetIdProto]
    ir_version: int

    @property
    def key(self) -> str:
        """What its time depends on, as a short text."""
        bare = onnx.NodeProto()
        bare.CopyFrom(self.proto)
        bare.ClearField("name")
        bare.ClearField("doc_string")
        bare.ClearField("metadata_props")
        names = {name: f"i{k}" for k, name in enumerate(self.inputs)}
        bare.input[:] = [names.get(name, "") for name in self.proto.input]
        bare.output[:] = [f"o{k}" if name else "" for k, name in enumerate(self.proto.output)]
        about = [bare.SerializeToString(deterministic=True)]
        for name, (shape, kind) in self.inputs.items():
            about.append(f"{shape} {kind} {name in self.fixed}".encode())
            about.append(self.constants[name].tobytes() if name in self.constants else b"")
        about += [f"{o.domain} {o.version}".encode() for o in self.opsets]
        return hashlib.sha256(b"\n".join(about)).hexdigest()[:24]

    def model(self) -> Model:
        """The model."""
        given = [n for n in self.inputs if n not in self.fixed]
        graph = helper.make_graph(
            [self.proto],
            "single",
            [helper.make_tensor_value_info(n, self.inputs[n][1], self.inputs[n][0]) for n in given],
            [onnx.ValueInfoProto(name=name) for name in self.proto.output if name],
        )
        whole = helper.make_model(graph, opset_imports=self.opsets, ir_version=self.ir_version)
        editor = Model(whole, {}).edit()
        for name in self.fixed:
            editor.set_weight(name, ArrayWeight(self._array(name)))
        return editor.build()

    def feeds(self) -> dict[str, Array]:
        """Inputs to run it on."""
        return {name: self._array(name) for name in self.inputs if name not in self.fixed}

    def _array(self, name: str) -> Array:
        shape, kind = self.inputs[name]
        if name in self.constants:
            return self.constants[name]
        dtype = dtype_of(kind)
        return np.full(shape, VALUE if dtype.kind == "f" else 0, dtype)


def one_node(graph: Graph, node: Node, shapes: Shapes, options: Options) -> SingleNode | None:
    """The node at these sizes; None where it has bodies, lies in one, or its rule needs more than sizes for a cut.

    ``shapes``: of its tensors, as a removal leaves them. ``graph``: the analysis view with the sizes before.
    """
    names = [name for name in dict.fromkeys(node.inputs) if name]
    if node.bodies or len(node.where) > 1 or any(n not in graph.dtypes or n not in graph.shapes for n in names):
        return None
    rule = rule_for(node.domain, node.op)
    proto = onnx.NodeProto()
    proto.CopyFrom(find_node(graph.model.proto.graph, node.where))
    proto.input[:], proto.output[:] = node.inputs, node.outputs
    new = {n: shapes.get(n, graph.shapes[n]) for n in (*names, *(o for o in node.outputs if o in graph.shapes))}
    sizes = _Sizes(graph, new, options)
    if rule is not None and rule.cut is not None and any(new[n] != graph.shapes[n] for n in new):
        try:
            rule.cut(node, sizes)  # type: ignore[arg-type]
        except (AttributeError, KeyError, IndexError):
            return None
    _set_attributes(proto, sizes.attributes)
    proto.input[:] = ["" if k in sizes.dropped else name for k, name in enumerate(proto.input)]
    names = [name for name in names if name in proto.input]
    constants = {n: v for n in names if (v := _needed(graph, n, new[n])) is not None}
    constants |= {node.inputs[k]: value for k, value in sizes.wanted.items()}
    return SingleNode(
        proto,
        {n: (new[n], graph.dtypes[n]) for n in names},
        frozenset(n for n in names if _is_constant(graph, n)),
        constants,
        graph.model.proto.opset_import,
        graph.model.proto.ir_version,
    )


class _Sizes:
    """What a rule's ``cut`` may ask about sizes and attributes; anything else is not known here (AttributeError)."""

    def __init__(self, graph: Graph, shapes: Shapes, options: Options) -> None:
        self.graph, self.shapes, self.options = graph, shapes, options
        self.attributes: dict[str, Any] = {}
        self.wanted: dict[int, Array] = {}
        self.dropped: set[int] = set()

    def old_shape(self, tensor: str) -> tuple[int, ...]:
        return self.graph.shapes[tensor]

    def new_shape(self, tensor: str) -> tuple[int, ...]:
        return self.shapes[tensor]

    def size(self, tensor: str, axis: int) -> int:
        return self.shapes[tensor][axis]

    def changed(self, tensor: str, axis: int | None = None) -> bool:
        old, new = self.graph.shapes[tensor], self.shapes[tensor]
        return old != new if axis is None else old[axis] != new[axis]

    def keep(self, tensor: str, axis: int) -> Ints:
        """The first positions stand for those that are kept."""
        return np.arange(self.size(tensor, axis))

    def value(self, tensor: str) -> Array | None:
        return self.graph.values.get(tensor)

    def set_input(self, _: Node, k: int, tensor: str) -> None:
        if tensor:
            raise AttributeError("another tensor as input")
        self.dropped.add(k)

    def set_attr(self, _: Node, name: str, value: Any) -> None:
        self.attributes[name] = value

    def drop_attr(self, _: Node, name: str) -> None:
        self.attributes[name] = None

    def want(self, _: Node, k: int, value: Array | Sequence[int]) -> None:
        self.wanted[k] = np.asarray(value, np.int64)


def _set_attributes(proto: onnx.NodeProto, values: Mapping[str, Any]) -> None:
    kept = [a for a in proto.attribute if a.name not in values]
    made = [helper.make_attribute(name, value) for name, value in values.items() if value is not None]
    copies = [onnx.AttributeProto.FromString(a.SerializeToString()) for a in (*kept, *made)]
    del proto.attribute[:]
    proto.attribute.extend(copies)


def _needed(graph: Graph, tensor: str, shape: tuple[int, ...]) -> Array | None:
    """The value of a small integer constant (sizes, axes, pads), which an operator may not do without."""
    value = graph.values.get(tensor)
    if value is None or value.dtype.kind not in "iub" or value.shape != shape or tensor in graph.inputs:
        return None
    return value


def _is_constant(graph: Graph, tensor: str) -> bool:
    """Whether a tensor follows from constants alone, so that onnxruntime computes it once."""
    stack, seen = [tensor], {tensor}
    while stack:
        name = stack.pop()
        if name in graph.weights:
            continue
        maker = graph.producer.get(name)
        if maker is None or maker.bodies:
            return False
        fresh = {i for i in maker.inputs if i} - seen
        seen |= fresh
        stack.extend(fresh)
    return True
