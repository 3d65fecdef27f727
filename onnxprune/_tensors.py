"""Where constants live in a proto: initializers and Constant nodes of the main graph, and everything inside bodies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto

from onnxprune._graphs import bodies
from onnxprune._wire import INLINE_LIMIT, MARKER
from onnxprune.weights import ArrayWeight, TensorWeight, Weight, packed, texts

__all__ = ["Home", "constants", "inner_tensors", "is_constant", "resize"]

DATA_FIELDS = (
    "segment",
    "float_data",
    "int32_data",
    "string_data",
    "int64_data",
    "raw_data",
    "external_data",
    "data_location",
    "double_data",
    "uint64_data",
)
NUMBERS = {"value_int": np.int64, "value_ints": np.int64, "value_float": np.float32, "value_floats": np.float32}


@dataclass(frozen=True, eq=False)
class Home:
    """The place of one constant: a TensorProto, or a Constant node that holds plain numbers."""

    name: str
    tensor: onnx.TensorProto | None
    node: onnx.NodeProto | None = None

    def weight(self) -> Weight:
        """The values that are in the proto."""
        if self.tensor is not None:
            return TensorWeight(self.tensor)
        (attribute,) = self._node().attribute
        numbers = onnx.helper.get_attribute_value(attribute)
        return ArrayWeight(np.array(numbers, dtype=NUMBERS[attribute.name]))

    def store(self, weight: Weight, limit: float = INLINE_LIMIT) -> None:
        """Write type, shape and values; a marker in place of the values where they take more than ``limit`` bytes."""
        tensor = self.tensor
        if tensor is None:
            node = self._node()
            del node.attribute[:]
            tensor = node.attribute.add(name="value", type=AttributeProto.TENSOR).t
        for name in DATA_FIELDS:
            tensor.ClearField(name)
        tensor.data_type = weight.onnx_type
        tensor.dims[:] = weight.shape
        if weight.onnx_type == TensorProto.STRING:
            tensor.string_data.extend(texts(weight))
        elif weight.nbytes <= limit:
            tensor.raw_data = packed(weight).tobytes()
        else:
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value=MARKER)

    def adopt(self) -> Weight:
        """The values that are in the proto, taken out of it where they are many."""
        found = self.weight()
        if self.tensor is None or found.onnx_type == TensorProto.STRING or found.nbytes <= INLINE_LIMIT:
            return found
        kept = ArrayWeight(found.array(), found.onnx_type)
        self.store(kept)
        return kept

    def _node(self) -> onnx.NodeProto:
        if self.node is None:
            raise ValueError("a constant has a tensor or a node")
        return self.node


def is_constant(node: onnx.NodeProto) -> bool:
    """A Constant node that gives one tensor of numbers."""
    return node.op_type == "Constant" and node.domain in ("", "ai.onnx") and len(node.output) == 1


def constants(graph: onnx.GraphProto) -> dict[str, Home]:
    """Tensor name -> home, for all initializers and the Constant nodes with a dense value."""
    homes = {tensor.name: Home(tensor.name, tensor) for tensor in graph.initializer}
    for node in graph.node:
        home = home_of(node)
        if home is not None:
            homes[home.name] = home
    return homes


def home_of(node: onnx.NodeProto) -> Home | None:
    """The home in a Constant node with a dense value of numbers; None for every other node."""
    if not is_constant(node) or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value" and attribute.HasField("t"):
        return Home(node.output[0], attribute.t, node)
    return Home(node.output[0], None, node) if attribute.name in NUMBERS else None


def inner_tensors(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """(where, tensor) for every dense tensor that is not a constant of the main graph."""
    yield from _attribute_tensors(node for node in model.graph.node if home_of(node) is None)
    for function in model.functions:
        yield from _attribute_tensors(function.node)


def _attribute_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[tuple[str, onnx.TensorProto]]:
    for node in nodes:
        for attribute in node.attribute:
            where = f"attribute `{attribute.name}` of node `{node.name or node.op_type}`"
            if attribute.HasField("t"):
                yield where, attribute.t
            for tensor in attribute.tensors:
                yield where, tensor
        for body in bodies((node,)):
            for tensor in body.initializer:
                yield f"`{tensor.name}` inside node `{node.name or node.op_type}`", tensor
            yield from _attribute_tensors(body.node)


def resize(graph: onnx.GraphProto, weights: Mapping[str, Weight]) -> None:
    """Give inputs (initializers may be inputs as well), outputs and value_info of these names the weights' types."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.name in weights:
            tensor = value.type.tensor_type
            tensor.elem_type = weights[value.name].onnx_type
            del tensor.shape.dim[:]
            for size in weights[value.name].shape:
                tensor.shape.dim.add(dim_value=size)
